# nginx serves files on the loopback to clients here: whole, by ranges, packed, in parallel, and errors.
mkdir -p www/sub conf
for size in 0 1 1000 65536 300001; do head -c $size /bin/bash >"www/$size"; done
cp /usr/share/common-licenses/GPL-3 www/text.txt
head -c 2000000 /usr/lib/x86_64-linux-gnu/libc.so.6 >www/sub/large
find www -exec touch -d '2020-01-02 03:04:05' {} +
cat >conf/nginx.conf <<CONF
worker_processes 1;
error_log stderr crit;
pid $PWD/pid;
events { worker_connections 64; }
http {
    types { text/plain txt; }
    default_type application/octet-stream;
    access_log off;
    sendfile on;
    gzip on;
    gzip_types text/plain;
    server {
        listen 127.0.0.1:8080;
        root $PWD/www;
        location /text/ { return 200 "\$request_method \$uri \$arg_a\n"; }
        location /old { return 301 /new; }
        location /copy/ { proxy_pass http://127.0.0.1:8080/; }
    }
}
CONF
chmod 755 . www www/sub
nginx -p . -c conf/nginx.conf -e stderr
for size in 0 1 1000 65536 300001 sub/large text.txt copy/300001; do
    curl -sS -o body -w '%{http_code} %{size_download} %{content_type}\n' "http://127.0.0.1:8080/$size"
    sha256sum <body
done
curl -sS -r 1000-1999,5000-5009 http://127.0.0.1:8080/65536 | tr -d '\r' | grep -a -v '^--' | sha256sum
curl -sS -i --compressed http://127.0.0.1:8080/text.txt | grep -a -v '^Date:' | sha256sum
curl -sS -i "http://127.0.0.1:8080/text/x?a=1" http://127.0.0.1:8080/none http://127.0.0.1:8080/old | grep -v '^Date:'
curl -sS -i -X POST --data-binary @www/1000 http://127.0.0.1:8080/text/post | grep -v '^Date:'
curl -sS -Z --parallel-max 8 $(for i in 1 2 3 4 5 6 7 8 9 10 11 12; do echo "-o got$i http://127.0.0.1:8080/300001"; done) 2>/dev/null
sha256sum got*
busybox wget -q -O - http://127.0.0.1:8080/sub/large | sha256sum
kill -QUIT "$(cat pid)"
while [ -e pid ]; do sleep 0.1; done
echo stopped
