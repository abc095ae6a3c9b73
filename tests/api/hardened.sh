#!/bin/bash
# The calls in the hardened mode: the tests of the API again, but for those that measure what it
# changes (caches, addresses, memory that nobody touched).
set -u

failed=0

run() { # NAME EBBMALLOC_HARDEN
    local status=0 out=$EBB_BUILDDIR/tests/api/hardened-$1.out
    EBBMALLOC_HARDEN=$2 LD_PRELOAD=$EBB_LIB timeout 120 "$EBB_BUILDDIR/tests/api/$1" \
        >"$out" 2>&1 || status=$?
    if [ "$status" -ne 0 ] && [ "$status" -ne 77 ]; then
        grep -vE '^\[ +(RUN|OK)' "$out"
        echo "FAILED: $1, EBBMALLOC_HARDEN=$2 (exit status $status)"
        failed=1
    fi
    rm -f "$out"
}

for name in absurd_sizes aligned calloc control dlopen errno errno_contention errors limits malloc \
    operators options realloc sized_free usable_size; do
    run "$name" 1
done
# It hardens itself where it is not hardened: 0 must not be taken for that.
run seals 0
exit "$failed"
