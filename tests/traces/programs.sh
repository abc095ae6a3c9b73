#!/bin/bash
# Traces of real programs, replayed with every byte checked: those that are kept here, on the library
# and on the C library's malloc; and new ones, of what is installed, on the library.
# shellcheck source=tests/command/lib.sh
. "$EBB_SRCDIR/tests/command/lib.sh"

ebb=$EBB_CMD
kept=$EBB_SRCDIR/tests/traces/kept
unset EBB_LIBRARY LD_PRELOAD
command -v xz >/dev/null || skip "no xz (Debian: xz-utils)"

# replays NAME FILE LEAST COMMAND...: at least so many operations
replays() {
    local name=$1 file=$2 least=$3
    shift 3
    expect_run 0 "$@" "$ebb" replay --verify "$file"
    expect "$name" "$out" '*operations of*: every byte was what it should be'
    printf '%-24s%s\n' "$name" "$out"
    [ "${out%% *}" -ge "$least" ] || fail "$name: a trace of only ${out%% *} operations"
}

count=0
for file in "$kept"/*.trace.xz; do
    name=$(basename "$file" .trace.xz)
    xz -dc "$file" >"$scratch/kept.trace"
    replays "$name" "$scratch/kept.trace" 100000 "$ebb" run
    replays "$name, system" "$scratch/kept.trace" 100000 env
    count=$((count + 1))
done
[ "$count" = 6 ] || fail "$count traces are kept and not 6"

"$EBB_SRCDIR/tests/traces/make" "$scratch/new" small >"$scratch/log" 2>&1 ||
    { cat "$scratch/log" && fail "tests/traces/make"; }
grep 'left out' "$scratch/log" || true
for file in "$scratch"/new/*.trace; do
    [ -e "$file" ] || skip "all that is kept replays; nothing to record is installed"
    replays "new $(basename "$file" .trace)" "$file" 1000 "$ebb" run
done
