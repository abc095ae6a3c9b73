#!/bin/bash
# The calls in the hardened mode: the tests of the API again, but for those that measure what it
# changes (caches, addresses, memory that nobody touched).
set -u

failed=0
for name in absurd_sizes aligned calloc control dlopen errno errno_contention errors limits malloc \
    operators options realloc sized_free usable_size; do
    status=0
    EBBMALLOC_HARDEN=1 LD_PRELOAD=$EBB_LIB timeout 120 "$EBB_BUILDDIR/tests/api/$name" \
        >"$EBB_BUILDDIR/tests/api/hardened-$name.out" 2>&1 || status=$?
    if [ "$status" -ne 0 ] && [ "$status" -ne 77 ]; then
        grep -vE '^\[ +(RUN|OK)' "$EBB_BUILDDIR/tests/api/hardened-$name.out"
        echo "FAILED: $name, hardened (exit status $status)"
        failed=1
    fi
    rm -f "$EBB_BUILDDIR/tests/api/hardened-$name.out"
done
exit "$failed"
