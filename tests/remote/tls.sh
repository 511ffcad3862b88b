#!/bin/sh
# tls.sh PROGRAM: a TLS server with a certificate made for this run; it must be refused, and accepted when it is trusted.
command -v openssl >/dev/null || { echo "skipped: no openssl program here"; exit 77; }
program=$(realpath "$1")
dir=$(mktemp -d)
server=
trap 'kill $server 2>/dev/null; rm -rf "$dir"' EXIT
cd "$dir" || exit 1
openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=test -addext subjectAltName=IP:127.0.0.1 -keyout key.pem -out ca.pem 2>/dev/null || exit 1
mkdir v1
echo '{"data":[{"id":"m"}]}' >v1/models
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
openssl s_server -accept "127.0.0.1:$port" -cert ca.pem -key key.pem -WWW -quiet >server.log 2>&1 &
server=$!
for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    openssl s_client -connect "127.0.0.1:$port" </dev/null >/dev/null 2>&1 && break
    sleep 0.2
done
"$program" "$port" "$dir/ca.pem"
