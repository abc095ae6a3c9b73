#!/bin/bash
# The library beside other preloaded ones, in either order; and where the loader's reserve of
# thread-local storage is used up.
# shellcheck source=tests/command/lib.sh
. "$EBB_SRCDIR/tests/command/lib.sh"

here=$EBB_BUILDDIR/tests/stress
wrapper=$here/.libs/preload-wrapper.so
unset LD_PRELOAD
program=(bash -c 'x=(); for ((i = 0; i < 3000; i++)); do x+=("$i$i"); done; echo ${#x[@]}; exit')

for order in "$wrapper:$EBB_LIB" "$EBB_LIB:$wrapper"; do
    LD_PRELOAD=$order expect_run 0 "${program[@]}"
    expect "stdout" "$out" 3000
    expect "stderr" "$err" 'wrapper: [0-9]* mallocs, [0-9]* frees'
    calls=${err#wrapper: }
    calls=${calls%% *}
    # The first one in line has the program's calls, and passes them on; the second one none.
    if [ "$order" = "$wrapper:$EBB_LIB" ]; then
        [ "$calls" -gt 3000 ] || fail "the wrapper before the library saw $calls calls"
    else
        [ "$calls" -lt 100 ] || fail "the wrapper behind the library saw $calls calls"
    fi
done

mkdir "$scratch/hogs"
for ((i = 0; i < 40; i++)); do
    cp "$here/.libs/preload-hog.so" "$scratch/hogs/hog$i.so"
done
expect_run 0 "$here/preload-tls" "$scratch/hogs"
without=$out
expect "without the library" "$without" 'opened [1-9]*, refused [1-9]*'
# Ours is there from the start, and takes nothing of the reserve.
LD_PRELOAD=$EBB_LIB expect_run 0 "$here/preload-tls" "$scratch/hogs"
expect "with the library" "$out" "$without"
# Opened where nothing is left, it is refused like any other, or finds the room that is left.
cp "$EBB_LIB" "$scratch/hogs/zz-libebbmalloc.so"
expect_run 0 "$here/preload-tls" "$scratch/hogs"
expect "as one of them" "$out" 'opened [1-9]*, refused [1-9]*'
