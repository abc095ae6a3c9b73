# shellcheck shell=bash
# What the fuzzers share: building with clang's libFuzzer, and running for a while.
set -u

source=${EBB_SRCDIR:-$(cd "$(dirname "$0")/../.." && pwd)}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# build NAME SOURCE...: $work/NAME, or the end of the test, as skipped where clang has no libFuzzer.
build() {
    local name=$1
    shift
    command -v clang >/dev/null || { echo "no clang (Debian: clang)" && exit 77; }
    echo 'int LLVMFuzzerTestOneInput(const char *i, unsigned long n) { return i[n - 1] == 42; }' \
        >"$work/probe.c"
    clang -fsanitize=fuzzer "$work/probe.c" -o "$work/probe" 2>/dev/null ||
        { echo "clang has no libFuzzer here (Debian: libclang-rt-dev)" && exit 77; }
    clang -std=gnu11 -D_GNU_SOURCE= -g -O2 -pthread -fno-builtin "-I$source/src" "$@" \
        -o "$work/$name" || { echo "FAILED: it does not compile" && exit 1; }
}

# fuzz NAME SECONDS OPTION...: with the corpus that is kept and what is found on top of it. What
# breaks is left where it is said.
fuzz() {
    local name=$1 seconds=$2 keep=${EBB_FUZZ_CORPUS:-$work/new}
    shift 2
    mkdir -p "$keep"
    # shellcheck disable=SC2046 # there may be none
    if ! "$work/$name" -max_total_time="$seconds" -artifact_prefix="$work/" -print_final_stats=1 "$@" \
        "$keep" $(compgen -G "$source/tests/fuzz/corpus-$name" || true) >"$work/log" 2>&1; then
        tail -n 60 "$work/log"
        for found in "$work"/crash-* "$work"/timeout-* "$work"/oom-* "$work"/leak-*; do
            [ ! -e "$found" ] || { cp "$found" . && echo "FAILED: the input is in ./${found##*/}"; }
        done
        exit 1
    fi
    sed -n 's/^stat::number_of_executed_units: */inputs tried: /p' "$work/log"
}
