#!/bin/bash
# redis-server on the library holds the same data as without: after loading 200,000 keys of all
# types under a mixed load, through two forks that save, a reload of the whole data set, expiry.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/redis-lib.sh"

load_keys=200000
benchmark_tests=set,get,incr,lpush,rpush,lpop,rpop,sadd,hset,spop,zadd,zpopmin,lrange_100,mset

# Mixed commands in a database of their own, so that the known data set stays known.
benchmark() {
    run redis-benchmark -h 127.0.0.1 -p "$port" --dbnum 1 --csv "$@" \
        >>"$logs/benchmark" 2>&1 || fail "redis-benchmark $* failed"
}

mixed_load() {
    benchmark -t "$benchmark_tests" -n 20000 -r 10000 -c 50 -P 16 -d 64
    benchmark -t set,get,lpush,lpop,mset -n 5000 -r 1000 -c 20 -P 4 -d 3000
    benchmark -t set,get -n 600 -r 100 -c 10 -d 300000
}

saved() { [ "$(info rdb_bgsave_in_progress)" = 0 ]; }

# A child forked in the middle of the load writes everything it can see.
save_during_load() {
    mixed_load &
    local load=$!
    sleep 0.3
    cli BGSAVE >>"$logs/cli"
    record_maps "$server_pid"
    wait "$load" || fail "the load failed during BGSAVE"
    wait_until 60 "the background save" saved
    [ "$(info rdb_last_bgsave_status)" = ok ] || fail "the background save failed"
    cli BGREWRITEAOF >>"$logs/cli"
}

# 20,000 keys that nobody asks for again have to go by themselves.
expire_untouched() {
    local before
    before=$(cli DBSIZE)
    awk 'BEGIN { for (i = 0; i < 20000; i++)
        printf "SET volatile:%d %0*d PX 300\r\n", i, 1 + i % 700, i }' >volatile
    cli --pipe <volatile >>"$logs/cli"
    [ "$(cli DBSIZE)" -gt "$before" ] || fail "the expiring keys are not there"
    wait_until 20 "20,000 keys to expire" has_size "$before"
}

has_size() { [ "$(cli DBSIZE)" = "$1" ]; }

work() {
    start_redis
    load_known_data "$load_keys"
    cli DBSIZE >"$results/keys"
    digest >"$results/digest"
    save_during_load
    expire_untouched
    cli -n 1 FLUSHDB >>"$logs/cli"
    digest >"$results/digest-after-load"
    cli DEBUG RELOAD >>"$logs/cli"
    digest >"$results/digest-after-reload"
    read_all_back "$load_keys" >"$results/everything-read"
    { cli MEMORY DOCTOR && cli MEMORY PURGE && cli MEMORY STATS && cli INFO all; } >>"$logs/cli"
    [ "$(cli EVAL "local t = {} for i = 1, 50000 do t[i] = tostring(i) end \
        return #table.concat(t)" 0 | tee "$results/lua")" -gt 0 ] || fail "no Lua"
    cli FLUSHALL >>"$logs/cli"
    cli DBSIZE >"$results/keys-after-flushall"
    stop_server "$server_pid" TERM
}

calls_go_to_library "$tmp/redis-server" --version
compare_runs work
