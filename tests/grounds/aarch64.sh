#!/bin/bash
# On aarch64: cross-compiled, and run by qemu, which takes the system calls to the machine's own
# kernel. It does not reorder what the program reads and writes, as such a processor may.
. "$(dirname "$0")/lib.sh"

compiler=aarch64-linux-gnu-gcc
root=/usr/aarch64-linux-gnu
command -v $compiler >/dev/null || skip "no cross compiler (Debian: gcc-aarch64-linux-gnu)"
[ -e $root/include/stdlib.h ] || skip "no libc for aarch64 (Debian: libc6-dev-arm64-cross)"
command -v qemu-aarch64 >/dev/null || skip "qemu-aarch64 is not there (Debian: qemu-user)"

build --host=aarch64-linux-gnu CC=$compiler -- \
    src/libebbmalloc.la src/ebb/ebb src/record/libebbrecord.la tests/libebbcore.la

# What qemu cannot: it adds a line to a program's last words, has no threads in a child of a process
# with threads (so no test that allocates in one), shows no harm where a barrier is missing, and maps
# memory of its own, which counts as the program's.
export EBB_TESTS_LEFT_OUT=" a_mistake_is_one_line_and_an_abort \
without_the_barrier_the_same_load_does_harm \
a_move_whose_target_may_not_be_cut_changes_nothing "

for test in bits buddy chunk huge large mailbox meta options pagemap sizeclass span takeover \
    text; do
    compile unit $test -I "$EBB_SRCDIR/src" -DEBB_PREFIXED '-DEBB_VERSION="test"' \
        "$EBB_SRCDIR/src/fork.c" "$work/tests/.libs/libebbcore.a"
    run unit/$test qemu-aarch64 -L $root "$work/$test"
done
for test in aligned errno errno_contention sized_free usable_size; do
    compile api $test -ldl
    run api/$test qemu-aarch64 -L $root -E "LD_PRELOAD=$library" \
        -E EBBMALLOC_BACKGROUND_THREAD=off "$work/$test"
done
# The others count what takes qemu too long, or memory, of which qemu has its own for each thread.
for test in double-use remote trim-storm; do
    compile stress $test load.c -ldl -lrt
    run stress/$test qemu-aarch64 -L $root -E "LD_PRELOAD=$library" "$work/$test" 0.05
done
[ -z "$failed" ]
