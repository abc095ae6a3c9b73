#!/bin/bash
# On musl: configure with musl-gcc, build the library and the command, and run the tests of the API
# and the stress tests under musl's loader, the latter at a small scale.
. "$(dirname "$0")/lib.sh"

compiler=musl-gcc
command -v $compiler >/dev/null || skip "musl-gcc is not there (Debian: musl-tools)"
echo 'int main(void) { return 0; }' >"$work/empty.c"
$compiler -o "$work/empty" "$work/empty.c" && "$work/empty" ||
    skip "what musl-gcc makes does not run here"

build CC=musl-gcc -- src/libebbmalloc.la src/ebb/ebb
flags=(-include "$EBB_SRCDIR/tests/grounds/calls.h" -idirafter "$work/kernel-headers"
    "$library" "-Wl,-rpath,${library%/*}")

# Left out: control, no_thread_cache and trim-storm (mallinfo), dlopen (namespaces), operators and
# late-calls (C++), oom-limits (long), and what is not safe on musl: fork-in-handler, which needs a
# word from libc on whether there are other threads, and fork-stdio, since musl takes the lock of
# its list of streams after our handler has run, and lets nobody take it before.
for test in absurd_sizes aligned calloc errno errno_contention errors jemalloc limits malloc \
    options page_blocks realloc sized_free trim usable_size; do
    compile api $test "${flags[@]}"
    run api/$test env "LD_PRELOAD=$library" "$work/$test"
done
for test in double-use fork fork-sweep pattern remote signals silent-threads surroundings \
    thread-churn; do
    compile stress $test load.c exhaust.c "${flags[@]}"
    run stress/$test env "LD_PRELOAD=$library" "$work/$test" 0.2
done
run "ebb run" "$work/src/ebb/ebb" run "$work/empty"
[ -z "$failed" ]
