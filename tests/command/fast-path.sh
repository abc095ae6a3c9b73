#!/bin/bash
# malloc and free of 64 bytes take 40 instructions together and no more, as callgrind counts them,
# and no instruction of either is an atomic read-modify-write, those of the ways out included.
# shellcheck source=tests/command/lib.sh
. "$EBB_SRCDIR/tests/command/lib.sh"

most=40
# clang 14 needs one more, in the look into the page map.
! grep -qa 'clang version' "$EBB_LIB" || most=41

# On x86-64 xchg with memory locks the bus without saying so. On aarch64: exclusive loads and stores,
# what came with 8.1, and the helpers that choose between the two.
atomics_x86_64='[[:space:]](lock|xchg[bwlq]?)[[:space:]]'
atomics_aarch64='[[:space:]](ld(a|)xp?r?[bh]?|stl?xp?r?[bh]?|casp?[al]*[bh]?|swp[al]*[bh]?|(ld|st)(add|clr|eor|set|[su]max|[su]min)[al]*[bh]?)[[:space:]]|__aarch64_(cas|swp|ld)'

instructions_of() {
    objdump -d --no-show-raw-insn --disassemble="$1" "$EBB_LIB" | grep -E '^ +[0-9a-f]+:'
}

has_no_atomics() {
    local name atomics=$1
    for name in malloc free; do
        instructions_of "$name" >"$scratch/$name" || fail "objdump shows no $name"
        # xchg of two registers, as in a nop of two bytes, is no access to memory.
        if grep -E "$atomics" "$scratch/$name" | grep -vE 'xchg +%[a-z0-9]+,%[a-z0-9]+$'; then
            fail "$name holds an atomic read-modify-write"
        fi
    done
}

# Instructions that so many more pairs take, to the nearest one for each: of these calls, with this
# library, in $taken.
count_round() {
    local calls=$1 preload=$2 pairs totals=()
    for pairs in 1000 11000; do
        expect_run 0 env ${preload:+"LD_PRELOAD=$preload"} valgrind --quiet --tool=callgrind \
            --callgrind-out-file="$scratch/profile" "$EBB_BUILDDIR/bench/pairs" "$calls" 64 $pairs
        totals+=("$(sed -n 's/^totals: //p' "$scratch/profile")")
    done
    taken=$(((totals[1] - totals[0] + 5000) / 10000))
}

takes_few_instructions() {
    local loop
    count_round no-malloc ''
    loop=$taken
    count_round malloc "$EBB_LIB"
    taken=$((taken - loop + 2)) # the two calls of the loop have one instruction each
    [ "$taken" -gt 10 ] || fail "$taken instructions are too few to be true"
    [ "$taken" -le "$most" ] || fail "malloc and free of 64 bytes take $taken instructions, not $most"
}

unset LD_PRELOAD
machine=$(uname -m)
absent=

# The code is that of the compiler's usual options, or it says nothing.
grep -qE '^CFLAGS = .*-O[23]' "$EBB_BUILDDIR/Makefile" || skip "not built with -O2"
! grep -qE '^(CFLAGS|CC) = .*(-fsanitize|--coverage)' "$EBB_BUILDDIR/Makefile" || skip "instrumented"

if ! command -v objdump >/dev/null; then
    absent+=" no objdump (Debian: binutils)"
elif [ "$machine" = x86_64 ]; then
    has_no_atomics "$atomics_x86_64"
elif [ "$machine" = aarch64 ]; then
    has_no_atomics "$atomics_aarch64"
fi

if [ "$machine" != x86_64 ]; then
    absent+=" the limit of $most instructions is that of x86-64"
elif ! command -v valgrind >/dev/null; then
    absent+=" no valgrind"
else
    takes_few_instructions
    echo "malloc and free of 64 bytes: $taken instructions"
fi
[ -z "$absent" ] || skip "in part:$absent"
