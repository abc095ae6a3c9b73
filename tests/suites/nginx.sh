#!/bin/bash
# nginx under the load generator ab: each answer counted and of the right length, some compared
. "$(dirname "$0")/lib.sh"

at_least=42
program=nginx
sizes=(0 1 100 4096 32768 200000 3000000)
units=({plain,proxied,gzip}/{0,1,100,4096,32768,200000,3000000})

build() {
    need nginx ab:apache2-utils curl
    copy_installed nginx .
    mkdir files
    seq 600000 >numbers
    local size
    for size in "${sizes[@]}"; do head -c "$size" numbers >"files/$size"; done
}

# A master that is root would hand its workers to a user who may not be able to enter our directory.
write_config() {
    local user=
    [ "$(id -u)" -ne 0 ] || user="user root;"
    cat >nginx.conf <<CONFIG
$user
worker_processes 2;
daemon off;
pid $PWD/nginx.pid;
error_log stderr;
events { worker_connections 512; }
http {
    access_log off;
    client_body_temp_path $PWD/t1; proxy_temp_path $PWD/t2; fastcgi_temp_path $PWD/t3;
    uwsgi_temp_path $PWD/t4; scgi_temp_path $PWD/t5;
    server {
        listen 127.0.0.1:$port;
        location /plain/ { alias $PWD/files/; }
        location /proxied/ { proxy_pass http://127.0.0.1:$port/plain/; }
        location /gzip/ { alias $PWD/files/; gzip on; gzip_types *; gzip_min_length 1; }
    }
}
CONFIG
}

tests() {
    [ $# -gt 0 ] || set -- "${units[@]}"
    free_port
    write_config
    server nginx "$work/nginx" -c "$PWD/nginx.conf"
    wait_for_port
    local unit
    for unit in "$@"; do
        load "$unit"
        compare "$unit"
    done
    stop_server "$server_pid" QUIT
}

load() {
    local number=5000
    [ "${1#*/}" -lt 100000 ] || number=200
    ab -q -k -n "$number" -c 50 -H 'Accept-Encoding: gzip' "http://127.0.0.1:$port/$1" >load 2>&1
    cat load
    if grep -qE "^Complete requests: +$number$" load && ! grep -q '^Non-2xx' load &&
        grep -qE '^Failed requests: +0$' load; then
        echo "passed $1: answers"
    else
        echo "failed $1: answers"
    fi
}

# Fifty in a row through one connection.
compare() {
    local url="http://127.0.0.1:$port/$1?[1-50]" wanted got
    wanted=$(for _ in {1..50}; do cat "files/${1#*/}"; done | sha256sum)
    got=$(curl -sS --compressed "$url" | sha256sum)
    if [ "$got" = "$wanted" ]; then echo "passed $1: bodies"; else echo "failed $1: bodies"; fi
}

verdicts() { grep -E '^(passed|failed) '; }

build_once
compare_suite
