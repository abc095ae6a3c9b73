#!/bin/bash
# A live redis-server under load: each command of `ebb` while it answers its clients, its figures
# against what redis says of itself, and nobody notices.
# shellcheck source=tests/command/lib.sh
. "$EBB_SRCDIR/tests/command/lib.sh"

for program in redis-server redis-cli redis-benchmark; do
    command -v "$program" >/dev/null || skip "no $program (Debian: redis-server, redis-tools)"
done
command -v python3 >/dev/null || skip "no python3 (Debian: python3)"
unset "${!EBBMALLOC_@}" LD_PRELOAD
ebb=$EBB_CMD
socket=$scratch/socket
trap 'kill "$pid" 2>/dev/null || true; wait 2>/dev/null; rm -rf "$scratch"' EXIT

cli() { redis-cli -s "$socket" "$@"; }

# number FIELD: of INFO.
number() { cli info "$1" | tr -d '\r' | sed -n "s/^$2:\([0-9]*\).*/\1/p"; }

EBBMALLOC_STATS_SIGNAL=USR2 EBBMALLOC_STATS_FILE=$scratch/page "$ebb" run redis-server --port 0 \
    --unixsocket "$socket" --save '' --appendonly no --enable-debug-command yes --dir "$scratch" >"$scratch/log" 2>&1 &
pid=$!
for _ in $(seq 200); do
    [ "$(cli ping 2>/dev/null)" != PONG ] || break
    sleep 0.05
done
[ "$(cli ping)" = PONG ] || fail "redis-server does not start: $(tail -n 3 "$scratch/log")"
[ "$(cli debug populate 200000 key 300)" = OK ] || fail "redis-server has no DEBUG POPULATE"

redis-benchmark -s "$socket" -t set,get -n 400000 -r 100000 -d 200 -q \
    >"$scratch/benchmark" 2>&1 &
load=$!

# While it is under load.
for turn in 1 2 3; do
    expect_run 0 "$ebb" stat "$pid"
    expect "title, turn $turn" "${out%%$'\n'*}" "ebbmalloc *, process $pid (redis-server)"
    expect_run 0 "$ebb" stat --why "$pid"
    expect_run 0 "$ebb" stat --prometheus "$pid"
    expect_run 0 "$ebb" map "$pid" -o "$scratch/map.html"
    python3 - "$scratch/map.html" "$EBB_SRCDIR/tests/command" <<'END' || fail "the map is broken"
import sys
sys.path.insert(0, sys.argv[2])
import map as maps
assert sum(1 for cell in maps.read(sys.argv[1]).frames[0].all_cells() if 1 <= cell <= 10) > 10000
END
    expect_run 0 "$ebb" top
    grep -q "^ *$pid redis-server" "$scratch/out" || fail "not in top: $out"
    kill -USR2 "$pid"
    expect_run 0 "$ebb" trim "$pid"
done
wait "$load" || fail "the load failed: $(<"$scratch/benchmark")"
[ "$(grep -c '^ebbmalloc' "$scratch/page")" -ge 1 ] || fail "no page by a signal"

# At rest: what is live is what redis counts by malloc_usable_size, and what libc and its other
# threads hold; resident is what both read from the kernel.
agrees() {
    expect_run 0 "$ebb" stat --json "$pid"
    used=$(number memory used_memory)
    resident=$(number memory used_memory_rss)
    python3 - "$scratch/out" "$used" "$resident" <<'END'
import json, sys
told, used, resident = json.load(open(sys.argv[1])), int(sys.argv[2]), int(sys.argv[3])
live = sum(told[f"live_{kind}_bytes"] for kind in ("small", "large", "huge"))
assert used <= live + (64 << 10) and live < used * 1.02 + (2 << 20), (live, used)
assert abs(told["resident_bytes"] - resident) < 2 << 20, (told["resident_bytes"], resident)
assert told["damaged_records"] == 0, told["damaged_records"]
END
}
# On a machine that is full the purger may still be at work after a second: it changes records.
for turn in 1 2 3 4 5; do
    sleep 1
    ! agrees 2>"$scratch/disagreement" || break
    [ "$turn" != 5 ] || fail "not what redis says: $(<"$scratch/disagreement")"
done
[ "$(cli ping)" = PONG ] || fail "redis-server does not answer any more"
grep -iE 'crash|assert|ebbmalloc:' "$scratch/log" && fail "redis-server complains"
echo "live by ebb $(python3 -c 'import json,sys; d=json.load(open(sys.argv[1])); print((d["live_small_bytes"]+d["live_large_bytes"]+d["live_huge_bytes"])>>10)' "$scratch/out") KiB, by redis $((used >> 10)) KiB"
