#!/bin/bash
# A million keys in redis-server, and what it takes of memory: before, full, after FLUSHALL, and
# after malloc_trim, on the library, on glibc's malloc and on the malloc it was built with. No test
# of `make check`: it takes a few minutes, and its figures are for reading. But the data has to be
# the same on all three.
#
#     EBB_LIB=.../libebbmalloc.so bash tests/apps/redis-million.sh [KEYS]
EBB_APPS_TIME_LIMIT_S=${EBB_APPS_TIME_LIMIT_S:-1800}
export EBB_APPS_TIME_LIMIT_S
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/redis-lib.sh"
need gcc

keys=${1:-1000000}
tested_library=$library
libc=$(ldd "$tmp/redis-server" | awk '$1 == "libc.so.6" { print $3 }')
own=$(ldd "$tmp/redis-server" | awk '$1 ~ /^lib(jemalloc|tcmalloc|mimalloc)/ { print $3; exit }')

# In whole MiB, from the kernel's own sums.
memory_mib() { awk '$1 == "Rss:" { printf "%d", $2 / 1024 + 0.5 }' "/proc/$server_pid/smaps_rollup"; }
peak_mib() { awk '$1 == "VmHWM:" { printf "%d", $2 / 1024 + 0.5 }' "/proc/$server_pid/status"; }

# A module for redis that calls malloc_trim(0) in its server when it is loaded, writes whose it was
# and what it returned into the server's directory, and then declines to be loaded. (gdb could call
# it as well, but does not get to on every machine.)
build_trimmer() {
    cat >"$tmp/trimmer.c" <<'SOURCE'
#define _GNU_SOURCE
#include <dlfcn.h>
#include <malloc.h>
#include <stdio.h>

int RedisModule_OnLoad(void *context, void **arguments, int count) {
    (void)context, (void)arguments, (void)count;
    Dl_info from = {0};
    int (*trim)(size_t) = (int (*)(size_t))dlsym(RTLD_DEFAULT, "malloc_trim");
    FILE *answer = fopen("trimmed", "w");
    if (answer && trim && dladdr((void *)trim, &from))
        fprintf(answer, "%s returned %d\n", from.dli_fname, trim(0));
    if (answer)
        fclose(answer);
    return 1;
}
SOURCE
    gcc -Wall -Wextra -shared -fPIC "$tmp/trimmer.c" -o "$tmp/trimmer.so" -ldl
}

# trim WHOSE  WHOSE=any where the malloc brings no malloc_trim: then libc's is called, for nothing.
trim() {
    rm -f trimmed
    cli MODULE LOAD "$tmp/trimmer.so" >>"$logs/trim" 2>&1 || true
    [ -s trimmed ] || fail "malloc_trim was not called: $(tail -n 1 "$logs/trim")"
    [ "$1" = any ] || grep -q "/$library_name returned" trimmed || fail "another one's: $(cat trimmed)"
    trim_returned=$(awk '{ print $NF }' trimmed)
}

# measure NAME LIBRARY  One line of the table; the data's digest and its read-back go to results.
measure() {
    local name=$1 before full flushed later trimmed whose=its-own
    library=$2 library_name=$(basename "$2") mode=with
    results=$tmp/with/results/$name logs=$tmp/with/logs maps=$tmp/with/maps/$name
    mkdir -p "$results" "$logs" "$maps" "$tmp/work"
    cd "$tmp/work"
    calls_go_to_library "$tmp/redis-server" --version >/dev/null
    [ "$library" != "$own" ] || whose=any
    start_redis
    before=$(memory_mib)
    load_known_data "$keys"
    [ "$(cli DBSIZE)" = "$keys" ] || fail "not all keys are there"
    full=$(memory_mib)
    record_maps "$server_pid"
    digest >"$results/digest"
    read_all_back "$keys" >"$results/everything-read"
    cli FLUSHALL SYNC >/dev/null
    flushed=$(memory_mib)
    sleep 2
    later=$(memory_mib)
    trim "$whose"
    trimmed=$(memory_mib)
    row "$name" "$before" "$full" "$(peak_mib)" "$flushed" "$later" "$trimmed" "$trim_returned"
    # It has to be as good as new after that.
    load_known_data 20000
    [ "$(cli DBSIZE)" = 20000 ] || fail "it cannot be filled again"
    stop_server "$server_pid" TERM
    check_logs
    check_maps
    rm -rf "$tmp/work"
}

row() { printf '%-22s %8s %8s %8s %10s %10s %8s %8s\n' "$@" >&7; }

build_trimmer
say "resident memory of redis-server with $keys keys of mixed types, in MiB"
row malloc before full peak FLUSHALL "2 s later" trimmed returned
measure "$(basename "$tested_library" .so)" "$tested_library"
measure glibc "$libc"
[ -z "$own" ] || measure "$(basename "$own")" "$own"
for other in "$tmp"/with/results/*; do
    diff -r "$tmp/with/results/glibc" "$other" >/dev/null || fail "the data differs: ${other##*/}"
done
say "the data is the same on all of them"
