#!/bin/bash
# In the hardened mode, too, memory follows the load down.
EBBMALLOC_HARDEN=1 LD_PRELOAD=$EBB_LIB exec "$EBB_BUILDDIR/tests/purger/falls"
