# Keys, a certificate and signatures made once on the host; both sides then use the same: `make-keys.sh FOLDER`.
set -e
cd "$1"
openssl genrsa -out rsa.pem 2048 2>/dev/null
openssl genpkey -algorithm ed25519 -out ed25519.pem
openssl genpkey -algorithm x25519 -out x25519.pem
openssl genpkey -algorithm x25519 | openssl pkey -pubout -out peer.pub
for curve in 256 384 521; do openssl genpkey -algorithm ec -pkeyopt ec_paramgen_curve:P-$curve -out p$curve.pem; done
for key in rsa ed25519 p256 p384 p521; do openssl pkey -in $key.pem -pubout -out $key.pub; done
echo 'a message to sign' >message
for curve in p256 p384 p521; do openssl dgst -sha256 -sign $curve.pem -out $curve.sig message; done
echo 'a secret' | openssl pkeyutl -encrypt -pubin -inkey rsa.pub -out secret -pkeyopt rsa_padding_mode:oaep
openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -subj '/CN=programs authority' -days 36500 2>/dev/null
openssl req -new -key rsa.pem -subj '/CN=programs.test' -addext 'subjectAltName=DNS:programs.test' -out request.pem
openssl x509 -req -in request.pem -CA ca.pem -CAkey ca.key -set_serial 4711 -days 36500 -copy_extensions copy -out cert.pem 2>/dev/null
