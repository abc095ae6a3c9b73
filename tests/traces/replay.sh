#!/bin/bash
# `ebb replay` does again what was recorded, on any malloc, and notices when a byte is wrong.
# shellcheck source=tests/command/lib.sh
. "$EBB_SRCDIR/tests/command/lib.sh"

ebb=$EBB_CMD
unset EBB_LIBRARY LD_PRELOAD
here=$EBB_BUILDDIR/tests/traces
broken=$here/.libs/broken.so
threads=$scratch/threads.trace

"$ebb" record -o "$threads" --malloc system "$here/calls" 1000 t
"$ebb" record -o "$scratch/shape.trace" --malloc system "$here/shape"

verifies_every_byte() {
    local operations
    operations=$("$ebb" trace "$threads" | sed -n 's/^\([0-9,]*\) operations of .*/\1/p' | tr -d ,)
    [ "$operations" -gt 150000 ] || fail "a trace of only $operations operations"
    for trace in "$threads" "$scratch/shape.trace"; do
        expect_run 0 "$ebb" replay --verify "$trace"
        expect "stderr" "$err" ''
        expect_run 0 "$ebb" run "$ebb" replay --verify "$trace"
        expect_run 0 "$ebb" replay --verify --vs ebbmalloc --vs system -n 2 "$trace"
    done
    expect_run 0 "$ebb" replay --verify "$threads"
    expect "stdout" "$out" "$operations operations of 9 threads: every byte was what it should be"
    expect_run 0 "$ebb" replay --verify - <"$threads"
}

# notices FAULT COMPLAINT
notices() {
    BROKEN=$1 LD_PRELOAD=$broken expect_run 1 "$ebb" replay --verify "$scratch/shape.trace"
    expect_complaint "$2"
    expect "stdout" "$out" ''
}

notices_a_malloc_with_a_fault() {
    BROKEN=no LD_PRELOAD=$broken expect_run 0 "$ebb" replay --verify "$scratch/shape.trace"
    notices overlap 'ebb: replay: before *: byte [0-9]* of the 777 at 0x* is not what was written'
    notices misaligned 'ebb: replay: a block of 777 bytes at 0x*8 is not aligned to 16'
    notices dirty 'ebb: replay: byte 100 of * at 0x* is not zero after calloc'
    notices lossy 'ebb: replay: after realloc: byte 3 of *'
    BROKEN=overlap expect_run 1 "$ebb" replay --verify --vs system --vs "$broken" -n 1 \
        "$scratch/shape.trace"
}

measures_and_compares() {
    expect_run 0 "$ebb" replay "$threads"
    expect "result" "$out" 'malloc *time s *system *live at most*resident/live*'
    [ "$(wc -L <"$scratch/out")" -le 80 ] || fail "wider than 80 columns"
    expect_run 0 "$ebb" replay --vs ebbmalloc --vs system -n 2 -o "$scratch/page.html" "$threads"
    expect "result" "$out" $'*\nebbmalloc *\nsystem *Medians of 2 rounds*'
    [ "$(wc -L <"$scratch/out")" -le 80 ] || fail "wider than 80 columns"
    expect "stderr" "$err" ''
    # Two lines and the live bytes, then two ratios.
    expect "curves" "$(grep -c '<polyline' "$scratch/page.html")" 5
    expect "page" "$(tail -n 1 "$scratch/page.html")" '</html>'
    # What is resident at the peak is what lives and not much more, whatever malloc it is.
    read -ra row <<<"$(grep ^system "$scratch/out")"
    awk -v ratio="${row[6]}" 'BEGIN { exit !(ratio > 0.9 && ratio < 3) }' ||
        fail "system: peak/live is ${row[6]}"
}

# What waits costs nothing meanwhile: processor seconds that grow with the square of the threads would
# not do.
thousands_of_threads_may_wait_for_each_other() {
    command -v python3 >/dev/null || { echo "no python3: no trace of a chain" && return; }
    python3 "$EBB_SRCDIR/tests/traces/chain.py" 16000 "$scratch/chain"
    (ulimit -t 3 && expect_run 0 "$ebb" trace "$scratch/chain") || fail "read in more than 3 s"
    python3 "$EBB_SRCDIR/tests/traces/chain.py" 8000 "$scratch/chain"
    (
        ulimit -t 4
        expect_run 0 "$ebb" replay --verify "$scratch/chain"
        expect "stdout" "$out" '15999 operations of 8000 threads: every byte *'
    ) || fail "played in more than 4 s"
}

replays_up_to_a_cut() {
    local whole
    whole=$(wc -c <"$threads")
    for size in 500 70000 $((whole / 2)) $((whole - 1)); do
        head -c "$size" "$threads" >"$scratch/cut"
        expect_run 0 "$ebb" replay --verify "$scratch/cut"
        expect_complaint "ebb: replay: warning: $scratch/cut is cut at byte [0-9]*"
    done
}

refuses_what_is_damaged() {
    cp "$threads" "$scratch/damaged"
    printf 'damage' | dd of="$scratch/damaged" bs=1 seek=50000 conv=notrunc status=none
    expect_run 1 "$ebb" replay "$scratch/damaged"
    expect_complaint "ebb: replay: $scratch/damaged: damaged at byte [0-9]*: *"
    expect "stdout" "$out" ''
    expect_run 1 "$ebb" replay --vs system "$scratch/none"
    expect_complaint "ebb: replay: $scratch/none: No such file or directory"
    expect_run 1 "$ebb" replay --vs "$scratch/none.so" "$threads"
}

refuses_what_it_does_not_know() {
    expect_run 2 "$ebb" replay
    expect_complaint 'ebb: replay: no file given*'
    expect_run 2 "$ebb" replay -x "$threads"
    expect_complaint 'ebb: replay: -x: no such option*'
    expect_run 2 "$ebb" replay -n 0 "$threads"
    expect_complaint 'ebb: replay: -n 0: from 1 to 99 rounds'
    expect_run 2 "$ebb" replay "$threads" --vs
    expect_complaint 'ebb: replay: --vs: its value is missing'
    expect_run 2 "$ebb" replay "$threads" "$threads"
    expect_run 2 "$ebb" replay --play none
    expect_run 2 "$ebb" replay --verify -o "$scratch/no.html" "$threads"
    expect_complaint 'ebb: replay: --verify takes no time, *'
}

for test in $(compgen -A function | grep _); do
    case $test in expect_*) continue ;; esac
    printf '%s\n' "$test"
    "$test"
done
