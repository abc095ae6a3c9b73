#!/bin/bash
# A few of the tests on OS pages of 16 and of 64 KiB, which kernel.c makes of the machine's own: the
# rooms that give the kernel addresses, and programs. `make check-pages` runs all that are programs.
set -eu

tests="unit/chunk unit/chunk-sweeps unit/huge unit/span unit/refusals
    api/aligned api/malloc api/realloc api/trim stress/pattern"

output=$(mktemp)
trap 'rm -f "$output"' EXIT
failed=
for size in 16 64; do
    for test in $tests; do
        preload=$EBB_BUILDDIR/tests/pages/.libs/pages-$size.so
        case $test in unit/*) ;; *) preload=$preload:$EBB_LIB ;; esac
        if LD_PRELOAD=$preload "$EBB_BUILDDIR/tests/$test" >"$output" 2>&1; then
            echo "$test on pages of $size KiB: passed"
        else
            tail -n 20 "$output"
            echo "$test on pages of $size KiB: FAILED"
            failed=yes
        fi
    done
done
[ -z "$failed" ]
