#!/bin/bash
# Load from many threads, processes and signals in the hardened mode, in which each call takes locks
# that it does not take by default: the tests of this folder again that are short.
set -u

failed=0
for name in double-use fork signals size-in-handler; do
    status=0
    EBBMALLOC_HARDEN=1 LD_PRELOAD=$EBB_LIB timeout 120 "$EBB_BUILDDIR/tests/stress/$name" ||
        status=$?
    if [ "$status" -ne 0 ]; then
        echo "FAILED: $name, hardened (exit status $status)"
        failed=1
    fi
done
exit "$failed"
