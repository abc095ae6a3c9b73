# shellcheck shell=bash disable=SC2154
# Shared by redis.sh and redis-million.sh; comes after lib.sh.

# Debian keeps the server in redis-tools too, where it is known by the name that it is called by.
# So no service has to be installed.
need redis-check-rdb:redis-tools redis-cli:redis-tools redis-benchmark:redis-tools
ln -s "$(type -P redis-check-rdb)" "$tmp/redis-server"

start_redis() {
    free_port
    local options=(--bind 127.0.0.1 --port "$port" --save '' --appendonly no --dir "$PWD")
    # Redis 7 and later have to be told that DEBUG and MODULE may be used.
    case $("$tmp/redis-server" --version) in
    *v=[0-6].*) ;;
    *) options+=(--enable-debug-command local --enable-module-command local) ;;
    esac
    server redis "$tmp/redis-server" "${options[@]}"
    wait_for_port
    wait_until 10 "redis to answer" cli PING
}

cli() { run redis-cli -h 127.0.0.1 -p "$port" "$@" 2>>"$logs/cli-errors"; }

digest() { cli DEBUG DIGEST; }

# info FIELD  One value of INFO.
info() { cli INFO | tr -d '\r' | awk -F: -v field="$1" '$1 == field { print $2 }'; }

# known_data COUNT WAY  The commands that write COUNT keys of mixed types and sizes (WAY=write), or
# that read all of them in an order that does not hang on a hash seed (WAY=read). A fixed sequence
# of pseudo-random numbers (Park and Miller's) chooses types and sizes.
known_data() {
    awk -v count="$1" -v way="$2" '
        function number(below) { seed = (seed * 16807) % 2147483647; return seed % below }
        function text(size) { return substr(filler, 1 + number(4096), size) }
        function size() { return 1 + number(number(50) ? (number(5) ? 40 : 400) : 8000) }
        function elements() { return 1 + number(number(300) ? 6 : 600) }
        function say(command) { printf "%s\r\n", command }
        function string(key, n) { w("SET " key " " text(n)); r("GET " key) }
        function integer(key, n) { w("SET " key " " number(100000)); r("GET " key) }
        function list(key, n,  i) {
            for (i = 0; i < n; i++) w("RPUSH " key " " text(size()))
            r("LRANGE " key " 0 -1")
        }
        function set(key, n,  i) {
            for (i = 0; i < n; i++) w("SADD " key " " text(1 + number(60)) " " number(999))
            r("SORT " key " ALPHA")
        }
        function hash(key, n,  i, fields) {
            for (i = 0; i < n; i++) {
                w("HSET " key " field" i " " text(size()))
                fields = fields " field" i
            }
            r("HMGET " key fields)
        }
        function sorted(key, n,  i) {
            for (i = 0; i < n; i++) w("ZADD " key " " number(1000) " " text(20 + number(40)))
            r("ZRANGE " key " 0 -1 WITHSCORES")
        }
        function stream(key, n,  i) {
            for (i = 1; i <= n; i++) w("XADD " key " " i "-1 field " text(size()))
            r("XRANGE " key " - +")
        }
        function w(command) { if (way == "write") say(command) }
        function r(command) { if (way == "read") say(command) }
        BEGIN {
            seed = 20210607
            while (length(filler) < 16384) filler = filler sprintf("%c%d", 97 + number(26), number(99))
            for (i = 0; i < count; i++) {
                kind = number(20)
                if (kind < 9) string("s:" i, size())
                else if (kind < 11) integer("i:" i)
                else if (kind < 13) list("l:" i, elements())
                else if (kind < 15) set("t:" i, elements())
                else if (kind < 17) hash("h:" i, elements())
                else if (kind < 19) sorted("z:" i, elements())
                else stream("x:" i, elements())
            }
        }'
}

load_known_data() {
    known_data "$1" write >load
    cli --pipe <load >"$logs/load" || fail "the load failed: $(tail -n 1 "$logs/load")"
    rm load
}

# Through one connection, as one stream of answers: its hash and its length.
read_all_back() {
    known_data "$1" read >ask
    printf 'QUIT\r\n' >>ask
    exec {connection}<>"/dev/tcp/127.0.0.1/$port"
    cat ask >&"$connection" &
    tee >(wc -c >answer-bytes) <&"$connection" | sha256sum
    wait $!
    exec {connection}>&-
    cat answer-bytes
    rm ask
}
