#!/bin/bash
# nginx on the library, two workers, serves the same bodies and headers as without: files of many
# sizes, gzip, TLS, a proxy with buffers and a cache, large headers, under load and across a reload.
. "$(dirname "$0")/lib.sh"
need nginx ab:apache2-utils curl openssl
nginx -h 2>&1 | grep -q -- ' -e ' || skip "nginx has no -e (since 1.19.5)"

write_config() {
    # A master that is root would hand its workers to a user who cannot enter our directory.
    local user=
    [ "$(id -u)" -ne 0 ] || user="user root;"
    cat >nginx.conf <<CONFIG
$user
worker_processes 2;
daemon off;
pid $PWD/nginx.pid;
error_log $logs/error.log info;
events { worker_connections 512; }
http {
    access_log off;
    default_type text/plain;
    types { text/html html; text/plain txt; application/octet-stream bin; }
    keepalive_requests 500;
    large_client_header_buffers 8 64k;
    client_body_temp_path $PWD/t1; proxy_temp_path $PWD/t2; fastcgi_temp_path $PWD/t3;
    uwsgi_temp_path $PWD/t4; scgi_temp_path $PWD/t5;
    proxy_cache_path $PWD/cache levels=1 keys_zone=pages:1m max_size=100m;
    gzip on; gzip_types *; gzip_min_length 1; gzip_comp_level 6; gzip_proxied any;
    server {
        listen 127.0.0.1:$plain_port;
        listen 127.0.0.1:$tls_port ssl;
        ssl_certificate $PWD/certificate.pem; ssl_certificate_key $PWD/key.pem;
        root $PWD/files;
        location / { add_header X-Asked "\$http_x_large"; }
        location /proxied/ { proxy_pass http://127.0.0.1:$plain_port/; proxy_buffers 16 4k; }
        location /cached/ {
            proxy_pass http://127.0.0.1:$plain_port/; proxy_cache pages; proxy_cache_valid 1m;
        }
        location /changed/ {
            alias $PWD/files/; sub_filter_once off; sub_filter_types *; sub_filter "line" "LINE";
        }
        location /list/ { alias $PWD/files/; autoindex on; autoindex_exact_size on; }
    }
}
CONFIG
}

# Sizes around those that matter to buffers and pages, and a directory full of small files.
make_files() {
    local size i
    mkdir -p files/many
    for size in 1 100 1023 4096 4097 30000 65536 200000 1000003 5000000; do
        awk -v size="$size" 'BEGIN {
            while (written < size) {
                line = substr("line " n++ " of a file, " n * 7919 % 10007 "\n", 1, size - written)
                printf "%s", line; written += length(line)
            } }' >"files/$size.txt"
    done
    for i in {1..300}; do echo "small file $i" >"files/many/$i.html"; done
    # The directory listing shows the times.
    find files -exec touch -d '2021-06-07 08:09:10 UTC' {} +
    openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost \
        -keyout key.pem -out certificate.pem 2>/dev/null
}

fetch() { curl -skS --max-time 60 "$@"; }

# fetch_all  Every file in every way: hash and length, by name.
fetch_all() {
    local file way
    for file in files/*.txt; do
        file=${file#files/}
        for way in "" proxied/ cached/ cached/ changed/; do
            echo "$way$file $(fetch "$base/$way$file" | sha256sum)"
            echo "$way$file gzip $(fetch --compressed "$base/$way$file" | sha256sum)"
        done
        echo "$file tls $(fetch "$tls_base/$file" | sha256sum)"
        echo "$file range $(fetch -r 500-70000 "$base/$file" | sha256sum)"
    done
    echo "packed $(fetch -H 'Accept-Encoding: gzip' "$base/1000003.txt" | sha256sum)"
    echo "list $(fetch "$base/list/many/" | sha256sum)"
    echo "missing $(fetch -o /dev/null -w '%{http_code}' "$base/missing")"
}

# Header lines up to what the configuration allows come back whole; larger ones are refused.
large_headers() {
    local size value
    for size in 10 1000 8000 30000 60000; do
        value=$(printf 'h%.0s' $(seq "$size"))
        echo "$size $(fetch -D - -o /dev/null -H "X-Large: $value" "$base/100.txt" |
            grep -i '^x-asked' | sha256sum)"
    done
    value=$(printf 'h%.0s' $(seq 70000))
    echo "too large: $(fetch -o /dev/null -w '%{http_code}' -H "X-Large: $value" "$base/100.txt")"
}

# load NAME ARGUMENT...  Each request has to succeed with the same length.
load() {
    local name=$1
    shift
    ab -q "$@" >"$logs/$name" 2>&1 || fail "ab $* failed: $(tail -n 1 "$logs/$name")"
    grep -q '^Failed requests: *0$' "$logs/$name" || fail "ab $*: requests failed"
    ! grep -q '^Non-2xx responses' "$logs/$name" || fail "ab $*: not all answers were 200"
    grep '^Complete requests' "$logs/$name"
}

workers() { family "$server_pid" | tail -n +2 | sort | tr '\n' ' '; }

two_workers() { [ "$(workers | wc -w)" -ge 2 ]; }

# New workers take over from the old ones, which finish their connections first. Without keepalive:
# a connection that is kept may be closed by an old worker just when the next request is on its way.
reload() {
    local before
    before=$(workers)
    load during-reload -n 8000 -c 32 "$base/4096.txt" &
    local load=$!
    sleep 0.3
    kill -HUP "$server_pid"
    wait "$load" || fail "the load failed across the reload"
    wait_until 10 "new workers" workers_are_not "$before"
}

workers_are_not() {
    local pid
    for pid in $1; do ! alive "$pid" || return 1; done
    two_workers
}

all_loads() {
    load small -n 5000 -c 32 "$base/100.txt"
    load keepalive -k -n 20000 -c 64 "$base/many/7.html"
    load gzip -k -n 2000 -c 16 -H 'Accept-Encoding: gzip' "$base/65536.txt"
    load large -k -n 300 -c 16 "$base/proxied/1000003.txt"
    load tls -n 600 -c 16 "$tls_base/30000.txt"
    reload
}

work() {
    free_port
    plain_port=$port base=http://127.0.0.1:$port
    free_port
    tls_port=$port tls_base=https://127.0.0.1:$port
    make_files
    write_config
    server nginx nginx -e "$logs/error.log" -p "$PWD" -c "$PWD/nginx.conf"
    wait_for_port
    wait_until 10 "two workers" two_workers
    record_maps "$server_pid"
    fetch_all >"$results/bodies"
    large_headers >"$results/headers"
    all_loads >"$results/loads"
    record_maps "$server_pid"
    fetch_all >"$results/bodies-after-load"
    stop_server "$server_pid" QUIT
    # What a crashed worker leaves: the master starts another, and only the log knows.
    ! grep -E '\[(alert|emerg|crit)\]' "$logs/error.log" || fail "nginx complained in its log"
}

calls_go_to_library nginx -v
compare_runs work
