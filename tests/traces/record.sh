#!/bin/bash
# `ebb record` writes down every operation of every process, whatever the process does with its
# descriptors and however it ends; `ebb trace` reads it, whole, cut or damaged.
# shellcheck source=tests/command/lib.sh
. "$EBB_SRCDIR/tests/command/lib.sh"

ebb=$EBB_CMD
calls=$EBB_BUILDDIR/tests/traces/calls
operators=$EBB_BUILDDIR/tests/traces/operators
places=$EBB_BUILDDIR/tests/traces/places
unset EBB_LIBRARY LD_PRELOAD

# counts FILE: "malloc N, calloc N, realloc N, aligned N, free N" as numbers alone.
counts() { "$ebb" trace "$1" | sed -n '/^malloc [0-9]/{s/[^0-9 ]//g; s/  */ /g; s/^ //; p}'; }

# grows_by FILE FILE EXPECTED: how many operations more the second has, of each kind.
grows_by() {
    local a b i difference=
    read -ra a <<<"$(counts "$1")"
    read -ra b <<<"$(counts "$2")"
    for i in 0 1 2 3 4; do difference+="$((b[i] - a[i])) "; done
    [ "${#b[@]}" = 5 ] || fail "ebb trace $2 shows no counts"
    expect "operations more in $2" "$difference" "$3 "
}

# What N calls of each kind are: malloc (one for realloc, one as reallocarray of nothing), calloc,
# realloc, aligned, free.
times_calls() { echo "$((3 * $1)) $1 $1 $((5 * $1)) $((9 * $1))"; }

records_every_call_on() {
    "$ebb" record -o "$scratch/none" --malloc "$1" "$calls" 0
    "$ebb" record -o "$scratch/some" --malloc "$1" "$calls" 700
    grows_by "$scratch/none" "$scratch/some" "$(times_calls 700)"
    "$ebb" record -o "$scratch/none" --malloc "$1" "$calls" 0 t
    "$ebb" record -o "$scratch/some" --malloc "$1" "$calls" 2000 t
    grows_by "$scratch/none" "$scratch/some" "$(times_calls 16000)"
    expect "what another thread frees" "$("$ebb" trace "$scratch/some" | grep 'another thread')" \
        '*: 90.0 % of 160*'
    "$ebb" record -o "$scratch/none" --malloc "$1" "$operators" 0
    "$ebb" record -o "$scratch/some" --malloc "$1" "$operators" 900
    local read
    read=$(counts "$scratch/some")
    # Of what the C++ runtime does when it throws, only that it does something is known.
    read -ra more <<<"$read"
    read -ra base <<<"$(counts "$scratch/none")"
    [ $((more[3] - base[3])) = 4500 ] || fail "aligned operators: $read"
    [ $((more[0] - base[0] - (more[4] - base[4]) + more[3] - base[3])) = 0 ] ||
        fail "operators new and delete: $read"
    [ $((more[4] - base[4])) -ge 9000 ] || fail "operators delete: $read"
}

records_every_call() {
    records_every_call_on ebbmalloc
    records_every_call_on system
    local maps malloc
    for malloc in ebbmalloc system; do
        "$ebb" record -o "$scratch/none" --malloc $malloc "$ebb" run "$calls" 0
        "$ebb" record -o "$scratch/some" --malloc $malloc "$ebb" run "$calls" 700
        grows_by "$scratch/none" "$scratch/some" "$(times_calls 700)"
        maps=$("$ebb" record -o "$scratch/t" --malloc $malloc "$ebb" run cat /proc/self/maps)
        expect "maps of ebb record --malloc $malloc ebb run" "$maps" '*/libebbmalloc.so*'
        expect "maps of ebb record --malloc $malloc ebb run" "$maps" '*/libebbrecord.so*'
    done
    "$ebb" record -o "$scratch/t" --malloc system grep libebbmalloc /proc/self/maps &&
        fail "--malloc system runs on ebbmalloc"
    return 0
}

# follows_fork_on HOW CALLS: of a child that makes so many calls of each kind.
follows_fork_on() {
    rm -f "$scratch"/t*
    "$ebb" record -o "$scratch/t" "$calls" 0 "$1"
    mv "$scratch"/t.[0-9]* "$scratch/none"
    "$ebb" record -o "$scratch/t" "$calls" 500 "$1"
    grows_by "$scratch/none" "$(ls "$scratch"/t.[0-9]*)" "$(times_calls "$2")"
}

follows_forks() {
    follows_fork_on fxt 4000
    follows_fork_on f 500
    expect_run 0 "$ebb" trace "$(ls "$scratch"/t.[0-9]*)"
    case $out in *'no end mark'*) fail "_exit left no end mark" ;; esac
    rm -f "$scratch"/t*
    expect_run 7 "$ebb" record -o "$scratch/t" sh -c "'$calls' 10; exec sh -c '(exit 3); exit 7'"
    # The shell, the program, and the last shell's own child; the second shell took over the first.
    expect "files" "$(find "$scratch" -mindepth 1 -name 't*' | grep -c .)" '[23]'
    for file in "$scratch"/t*; do "$ebb" trace "$file" >/dev/null || fail "$file"; done
}

follows_forks_in_handlers() {
    local file operations
    rm -f "$scratch"/t*
    "$ebb" record -o "$scratch/t" --malloc system "$calls" 500 h
    expect "files" "$(find "$scratch" -mindepth 1 -name 't.*' | grep -c .)" 16
    for file in "$scratch"/t.*; do
        read -ra operations <<<"$(counts "$file")"
        [ "${operations[1]:-0}" = 500 ] || fail "a child has ${operations[1]:-no} calls of calloc"
    done
}

follows_vforks() {
    "$ebb" record -o "$scratch/none" "$calls" 0 v
    "$ebb" record -o "$scratch/some" "$calls" 20000 v
    grows_by "$scratch/none" "$scratch/some" "$(times_calls 40000)"
}

keeps_to_its_own_file() {
    cd "$scratch"
    : >bystander
    "$ebb" record -o "$scratch/none" "$calls" 0 c
    "$ebb" record -o "$scratch/some" "$calls" 50000 c
    cd - >/dev/null
    [ ! -s "$scratch/bystander" ] || fail "wrote into a file of the program's"
    grows_by "$scratch/none" "$scratch/some" "$(times_calls 100000)"
}

survives_a_kill() {
    expect_run 137 sh -c '"$0" record -o "$1" "$2" 90000 k; exit $?' "$ebb" "$scratch/t" "$calls"
    expect_run 0 "$ebb" trace "$scratch/t"
    expect "trace" "$out" '*no end mark*'
    local operations
    operations=$(sed -n 's/^\([0-9,]*\) operations of .*/\1/p' "$scratch/out" | tr -d ,)
    [ "$operations" -gt 1000000 ] || fail "only $operations of 1,7 million operations are there"
}

ends_by_quick_exit() {
    expect_run 0 "$ebb" record -o "$scratch/t" "$calls" 100 q
    expect_run 0 "$ebb" trace "$scratch/t"
    case $out in *'no end mark'*) fail "quick_exit left no end mark" ;; esac
}

ends_while_threads_run() {
    local how
    for how in e e e e e e e e e e g g g g g g g g g g; do
        expect_run 0 "$ebb" record -o "$scratch/t" "$calls" 1 $how
        expect_run 0 "$ebb" trace "$scratch/t"
        case $out in *'no end mark'*) fail "a return from main left no end mark" ;; esac
    done
}

holds_up_nobody() {
    "$ebb" record -o "$scratch/none" "$calls" 0 x
    expect_run 0 timeout 60 "$ebb" record -o "$scratch/some" "$calls" 20000 x
    grows_by "$scratch/none" "$scratch/some" "$(times_calls 20000)"
    for _ in $(seq 20); do
        expect_run 0 timeout 60 "$ebb" record -o "$scratch/t" "$calls" 1 s
        expect_run 0 "$ebb" trace "$scratch/t"
        case $out in *'no end mark'*) fail "_exit in a handler left no end mark" ;; esac
    done
}

waits_for_nobody_who_holds_a_lock() {
    expect_run 0 timeout -s KILL 20 "$ebb" record -o "$scratch/t" --malloc system "$places" locale 500
    expect_run 0 "$ebb" trace "$scratch/t"
    rm -f "$scratch"/t* "$scratch"/none*
    "$ebb" record -o "$scratch/none" --malloc system "$places" fork 0
    # Descriptors as high as the recorder would like them are not there.
    (ulimit -n 300 && expect_run 0 timeout -s KILL 20 \
        "$ebb" record -o "$scratch/t" --malloc system "$places" fork 200000) || fail "places fork"
    grows_by "$scratch/none" "$scratch/t" "600000 0 0 0 600000"
    grows_by "$(ls "$scratch"/none.*)" "$(ls "$scratch"/t.*)" "200000 0 0 0 200000"
    rm -f "$scratch"/t*
    expect_run 0 timeout -s KILL 30 "$ebb" record -o "$scratch/t" --malloc system "$places" lock 1000
    expect_run 0 "$ebb" trace "$scratch/t"
    rm -f "$scratch"/t*
}

leaves_out_what_it_asks_for_itself() {
    local status=0
    "$ebb" record -o "$scratch/none" --malloc system "$places" plugin 0 || status=$?
    [ $status != 77 ] || { echo "no C++ runtime: no plugin" && return; }
    expect_run 0 "$ebb" record -o "$scratch/t" --malloc system "$places" plugin 3
    grows_by "$scratch/none" "$scratch/t" "3 0 0 0 3"
}

keeps_its_file_in_another_root() {
    [ "$(id -u)" = 0 ] || { echo "not root: no other root" && return; }
    mkdir -p "$scratch/empty"
    rm -f "$scratch"/t*
    expect_run 137 "$ebb" record -o "$scratch/t" --malloc system "$places" root 300000 "$scratch/empty"
    expect_run 0 "$ebb" trace "$scratch/t"
    local operations
    operations=$(sed -n 's/^\([0-9,]*\) operations of .*/\1/p' "$scratch/out" | tr -d ,)
    [ "$operations" -gt 400000 ] || fail "only $operations of 600,000 operations are there"
}

has_a_file_from_the_start() {
    EBB_RECORD_FILE=$scratch/no/t LD_PRELOAD=$EBB_BUILDDIR/src/record/.libs/libebbrecord.so \
        expect_run 0 "$calls" 10
    expect_complaint "*record: $scratch/no/t.[0-9]*: cannot be written; this process leaves no trace"
    expect_run 137 "$ebb" record -o "$scratch/t" --malloc system "$calls" 10 k
    expect_run 0 "$ebb" trace "$scratch/t"
    expect "trace" "$out" '*no end mark*'
    expect_run 0 "$ebb" replay --verify "$scratch/t"
}

ends_at_a_limit() {
    expect_run 0 "$ebb" record -o "$scratch/t" "$calls" 20000 l
    expect "the recorder's line" "$err" "*: $scratch/t: cannot be written any more; the trace ends here"
    expect_run 0 "$ebb" trace "$scratch/t"
    expect "trace" "$out" '*no end mark*'
}

tells_of_too_little_address_space() {
    # Enough for the program and its malloc, but not for 128 MiB more. (KiB)
    expect_run 0 bash -c 'ulimit -v 130000 && exec "$0" record -o "$1" --malloc system "$2" 100' \
        "$ebb" "$scratch/t" "$calls"
    expect "the recorder's line" "$err" '*: record: no address space to note blocks in; *'
    expect_run 0 "$ebb" trace "$scratch/t"
}

reads_up_to_a_cut() {
    "$ebb" record -o "$scratch/t" "$calls" 20000 t
    local whole size operations last=0
    whole=$(wc -c <"$scratch/t")
    for size in 0 1 7 8 30 44 1000 5000 70000 70001 100000 200000 $((whole - 17)) $((whole - 1)); do
        head -c "$size" "$scratch/t" >"$scratch/cut"
        if [ "$size" -lt 60 ]; then
            expect_run 1 "$ebb" trace "$scratch/cut"
            expect_complaint "ebb: trace: $scratch/cut: *"
            continue
        fi
        expect_run 0 "$ebb" trace "$scratch/cut"
        expect "trace of $size bytes" "$out" '*no end mark*'
        operations=$(sed -n 's/^\([0-9,]*\) operations of .*/\1/p' "$scratch/out" | tr -d ,)
        [ "$operations" -ge "$last" ] || fail "$size bytes hold $operations operations, fewer hold $last"
        last=$operations
    done
    [ "$last" -gt 1000000 ] || fail "all but the last byte hold only $last operations"
}

tells_where_it_is_damaged() {
    "$ebb" record -o "$scratch/t" "$calls" 20000 t
    cp "$scratch/t" "$scratch/damaged"
    printf '\377' | dd of="$scratch/damaged" bs=1 seek=100000 conv=notrunc status=none
    cmp -s "$scratch/t" "$scratch/damaged" && printf '\376' |
        dd of="$scratch/damaged" bs=1 seek=100000 conv=notrunc status=none
    expect_run 1 "$ebb" trace "$scratch/damaged"
    expect_complaint "ebb: trace: $scratch/damaged: damaged at byte [0-9]*: *"
    local at=${err##*at byte }
    at=${at%%:*}
    [ "$at" -le 100000 ] && [ "$at" -gt 20000 ] || fail "the damage at 100000 is told at $at"
    echo more >>"$scratch/t"
    expect_run 1 "$ebb" trace "$scratch/t"
    expect_complaint "ebb: trace: $scratch/t: damaged at byte [0-9]*: something behind the end mark"
}

records_sizes() {
    "$ebb" record -o "$scratch/t" dd if=/dev/zero of=/dev/null bs=12345678 count=1 2>/dev/null
    expect_run 0 "$ebb" trace "$scratch/t"
    expect "dd with a buffer of 12345678 bytes" "$out" $'*\nlive at most: 11.8 MiB, *'
    # 5,000 of each call, for 1 to 5,000 bytes, are 162.7 million bytes; and the arrays 2.9 million.
    "$ebb" record -o "$scratch/some" "$calls" 5000
    expect_run 0 "$ebb" trace "$scratch/some"
    expect "calls 5000" "$out" $'*\nlive at most: 158 MiB, *'
    expect_run 0 "$ebb" trace "$scratch/t"
    expect "its size" "$out" '*16.0 MiB *1 *11.8 MiB*'
}

is_compact() {
    "$ebb" record -o "$scratch/t" "$calls" 20000 t
    local bytes
    bytes=$("$ebb" trace "$scratch/t" | sed -n 's/.*; \([0-9]*\)\.[0-9]* bytes each here.*/\1/p')
    [ "$bytes" -lt 6 ] || fail "$bytes bytes an operation"
}

tells_what_to_do_about_another_version() {
    local version
    "$ebb" record -o "$scratch/t" "$calls" 10
    for version in 1 3; do
        printf '%b' "\\x$version" | dd of="$scratch/t" bs=1 seek=8 conv=notrunc status=none
        expect_run 1 "$ebb" trace "$scratch/t"
        expect_complaint "ebb: trace: $scratch/t: a trace of version $version, and this ebb reads version 2: $(
            [ $version = 1 ] && echo record the program again || echo it takes a newer ebb)"
        expect_run 1 "$ebb" replay "$scratch/t"
        expect_complaint "ebb: replay: $scratch/t: a trace of version $version*"
    done
}

shows_what_it_holds() {
    "$ebb" record -o "$scratch/t" "$calls" 20000 t
    expect_run 0 "$ebb" trace "$scratch/t"
    [ "$(wc -L <"$scratch/out")" -le 80 ] || fail "wider than 80 columns: $(<"$scratch/out")"
    expect "trace" "$out" '*Live bytes*Sizes*Lifetimes*Size classes*'
    expect_run 0 "$ebb" trace -o "$scratch/page.html" "$scratch/t"
    expect "stdout" "$out" ''
    grep -q '<polyline' "$scratch/page.html" || fail "no curve in the page"
    grep -q '</html>' "$scratch/page.html" || fail "the page does not end"
    expect_run 0 "$ebb" trace - <"$scratch/t"
    expect_run 1 "$ebb" trace -o "$scratch/no/page.html" "$scratch/t"
    expect_complaint "ebb: trace: $scratch/no/page.html: *"
}

refuses_what_it_does_not_know() {
    expect_run 2 "$ebb" record
    expect_complaint 'ebb: record: no file given*'
    expect_run 2 "$ebb" record -o "$scratch/t"
    expect_complaint 'ebb: record: no command given*'
    expect_run 2 "$ebb" record -o
    expect_complaint 'ebb: record: -o: its value is missing'
    expect_run 2 "$ebb" record -x true
    expect_complaint 'ebb: record: -x: no such option*'
    expect_run 125 "$ebb" record -o "$scratch/no/t" true
    expect_complaint "ebb: record: $scratch/no/t: No such file or directory"
    expect_run 125 "$ebb" record -o "$scratch/t" --malloc "$scratch/none.so" true
    expect_complaint "ebb: $scratch/none.so: No such file or directory; a malloc is*"
    mkfifo "$scratch/pipe"
    expect_run 125 timeout -s KILL 20 "$ebb" record -o "$scratch/pipe" true
    expect_complaint "ebb: record: $scratch/pipe: a pipe; the trace takes a file"
    expect_run 127 "$ebb" record -o "$scratch/t" no-such-command-here
    expect_run 3 "$ebb" record -o "$scratch/t" -- sh -c 'exit 3'
    expect_run 2 "$ebb" trace
    expect_complaint 'ebb: trace: no file given*'
    expect_run 2 "$ebb" trace -x
    expect_run 2 "$ebb" trace a b
    expect_run 1 "$ebb" trace "$scratch/absent"
    expect_complaint "ebb: trace: $scratch/absent: No such file or directory"
    expect_run 1 "$ebb" trace "$EBB_CMD"
    expect_complaint "ebb: trace: $EBB_CMD: not a trace of ebb record"
}

for test in $(compgen -A function | grep _); do
    case $test in expect_* | *_on | times_calls | grows_by) continue ;; esac
    printf '%s\n' "$test"
    "$test"
done
