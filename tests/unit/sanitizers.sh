#!/bin/bash
# The library and a load (core-stress.c), built as an ordinary program under other names, once for
# each sanitizer that is there, and run under valgrind. Any report fails. Nothing is suppressed.
set -u

source=${EBB_SRCDIR:-$(cd "$(dirname "$0")/../.." && pwd)}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

flags=(-std=gnu11 -D_GNU_SOURCE= -DEBB_PREFIXED '-DEBB_VERSION="test"' -O1 -g -pthread
    -fno-omit-frame-pointer -fno-builtin-malloc -fno-builtin-calloc -fno-builtin-realloc
    -fno-builtin-free "-I$source/src")
ran=0
failed=0

skip()
{
    echo "skipped: $1: $2"
}

# What the command says comes out only when it fails.
report()
{
    local name=$1
    shift
    if "$@" >"$work/output" 2>&1; then
        echo "passed: $name: $(tail -n 1 "$work/output")"
    else
        echo "FAILED ($?): $name"
        head -n 200 "$work/output"
        failed=1
    fi
}

# Builds the program with a compiler and its options; 77 when the compiler has no such run time,
# which a program of one line shows.
build()
{
    local compiler=$1
    shift
    command -v "$compiler" >/dev/null || return 77
    echo 'int main(void) { return 0; }' >"$work/probe.c"
    "$compiler" "$@" "$work/probe.c" -o "$work/probe" >/dev/null 2>&1 || return 77
    "$compiler" "${flags[@]}" "$@" "$source"/src/*.c "$source"/tests/unit/core-stress.c \
        -o "$work/stress" >"$work/output" 2>&1
}

# part NAME COMPILER OPTION... -- ARGUMENT...: one build and its run.
part()
{
    local name=$1 compiler=$2 options=() runner=() status=0
    shift 2
    while [ "$1" != -- ]; do
        options+=("$1")
        shift
    done
    shift
    build "$compiler" "${options[@]}" || status=$?
    if [ "$status" -eq 77 ]; then
        skip "$name" "$compiler is not there or cannot do it"
        return
    fi
    ran=$((ran + 1))
    if [ "$status" -ne 0 ]; then
        echo "FAILED: $name: it does not compile"
        cat "$work/output"
        failed=1
        return
    fi
    # Older run times of ThreadSanitizer cannot stand the addresses of newer kernels.
    if ! "$work/probe" >/dev/null 2>&1; then
        runner=(setarch -R)
        if ! "${runner[@]}" "$work/probe" >/dev/null 2>&1; then
            ran=$((ran - 1))
            skip "$name" "a program that does nothing fails with it here"
            return
        fi
    fi
    report "$name" "${runner[@]}" "$work/stress" "$@"
}

export TSAN_OPTIONS='halt_on_error=1 exitcode=66'
export UBSAN_OPTIONS='print_stacktrace=1 halt_on_error=1'

# ThreadSanitizer does not follow a fork of a process with threads.
part 'gcc, ThreadSanitizer' gcc -fsanitize=thread -- 8 3 no-fork
part 'clang, ThreadSanitizer' clang -fsanitize=thread -- 8 3 no-fork
part 'gcc, undefined behaviour' gcc -fsanitize=undefined -fno-sanitize-recover=all -- 4 3
part 'clang, undefined behaviour' clang -fsanitize=undefined -fno-sanitize-recover=all -- 4 3

if ! command -v valgrind >/dev/null; then
    skip 'valgrind' 'it is not there'
elif ! build "${CC:-gcc}"; then
    echo "FAILED: the plain program does not compile"
    cat "$work/output"
    failed=1
else
    ran=$((ran + 1))
    # It loses track of what mremap(2) makes of a mapping: `mmap, munmap of the end, mremap to more`
    # is told as invalid writes in any program (3.19).
    report 'valgrind' valgrind --quiet --error-exitcode=9 --fair-sched=yes "$work/stress" 8 2 no-remap
fi

[ "$failed" -eq 0 ] || exit 1
if [ "$ran" -eq 0 ]; then
    echo "no sanitizer and no valgrind here"
    exit 77
fi
