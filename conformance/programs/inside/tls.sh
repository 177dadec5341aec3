# A TLS session over the loopback, with the fixed certificate, for each of several cipher suites.
K=/programs/keys
for suite in TLS_AES_256_GCM_SHA384 TLS_CHACHA20_POLY1305_SHA256 TLS_AES_128_GCM_SHA256; do
    openssl s_server -accept 127.0.0.1:8443 -cert $K/cert.pem -key $K/rsa.pem -tls1_3 -ciphersuites $suite -www -quiet >/dev/null 2>&1 &
    server=$!
    for i in 1 2 3 4 5 6 7 8 9 10; do curl -s -o /dev/null -k https://127.0.0.1:8443/ && break; sleep 0.5; done
    curl -sS --cacert $K/ca.pem --resolve programs.test:8443:127.0.0.1 -o page -w '%{http_code} %{ssl_verify_result}\n' https://programs.test:8443/
    grep -a -m1 "^New, " page
    kill $server
    wait $server 2>/dev/null
done
true
