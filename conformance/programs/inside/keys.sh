# Key work with OpenSSL from fixed keys, made by the host beforehand into /programs/keys.
K=/programs/keys
head -c 5000 /bin/bash >data
for key in rsa ed25519; do openssl pkey -in $K/$key.pem -text -noout; openssl pkey -in $K/$key.pem -pubout; done
openssl dgst -sha256 -sign $K/rsa.pem -out s data && sha256sum s && openssl dgst -sha256 -verify $K/rsa.pub -signature s data
openssl dgst -sha512 -sign $K/rsa.pem data | openssl base64
openssl pkeyutl -sign -inkey $K/ed25519.pem -rawin -in data -out e && openssl base64 -in e
openssl pkeyutl -verify -pubin -inkey $K/ed25519.pub -rawin -in data -sigfile e
for curve in p256 p384 p521; do
    openssl pkey -in $K/$curve.pem -text -noout
    openssl dgst -sha256 -verify $K/$curve.pub -signature $K/$curve.sig $K/message
    openssl dgst -sha256 -sign $K/$curve.pem -out own $K/message && openssl dgst -sha256 -verify $K/$curve.pub -signature own $K/message
done
openssl pkeyutl -derive -inkey $K/x25519.pem -peerkey $K/peer.pub | openssl base64
openssl pkeyutl -decrypt -inkey $K/rsa.pem -in $K/secret -pkeyopt rsa_padding_mode:oaep
openssl x509 -in $K/cert.pem -text -noout
openssl verify -no_check_time -CAfile $K/ca.pem $K/cert.pem
openssl x509 -in $K/cert.pem -fingerprint -sha256 -noout
openssl req -in $K/request.pem -verify -noout
openssl prime 1000000007 170141183460469231731687303715884105727
openssl asn1parse -in $K/cert.pem
