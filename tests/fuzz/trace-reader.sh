#!/bin/bash
# The reader of traces under damage: a bounded loop of changes in any case, with the sanitizers that
# the compiler has; and half a minute of libFuzzer where clang has that.
# shellcheck source=tests/fuzz/lib.sh
. "$(dirname "$0")/lib.sh"

calls=$EBB_BUILDDIR/tests/traces/calls
for how in 3 '4 t'; do
    # shellcheck disable=SC2086 # words are what is wanted
    "$EBB_CMD" record -o "$work/seed-${how// /}" --malloc system "$calls" $how || exit 1
done

reader=("$source/src/ebb/trace_file.c" "$source/src/ebb/trace_order.c" "$source/src/ebb/table.c")
sources=("${reader[@]}" "$source/tests/fuzz/trace-reader.c")
flags=(-std=gnu11 -D_GNU_SOURCE= -g -O1 "-I$source/src")
sanitizers='-fsanitize=address,undefined -fno-sanitize-recover=all'
# shellcheck disable=SC2086 # words are what is wanted
if ! ${CC:-cc} "${flags[@]}" $sanitizers "${sources[@]}" "$source/tests/fuzz/mutate.c" \
    -o "$work/mutate" 2>/dev/null; then
    echo "no sanitizers here"
    ${CC:-cc} "${flags[@]}" "${sources[@]}" "$source/tests/fuzz/mutate.c" -o "$work/mutate" ||
        exit 1
fi
for seed in "$work"/seed-*; do
    timeout 120 "$work/mutate" "$seed" 3000 >"$work/log" 2>&1 ||
        { tail -n 40 "$work/log" && echo "FAILED: changes of ${seed##*/}" && exit 1; }
done
echo "changed and read: 6000 times"

build trace-reader -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all \
    "${sources[@]}"
mkdir "$work/new"
cp "$work"/seed-* "$work/new"
fuzz trace-reader "${EBB_FUZZ_SECONDS:-30}" -max_len=20000 -timeout=20 -rss_limit_mb=1024
