#!/bin/bash
# In the hardened mode, too, memory follows the load down, and the purger ends when all is done.
set -u

failed=0
for name in falls idle; do
    EBBMALLOC_HARDEN=1 LD_PRELOAD=$EBB_LIB "$EBB_BUILDDIR/tests/purger/$name" ||
        { echo "FAILED: $name, hardened" && failed=1; }
done
exit "$failed"
