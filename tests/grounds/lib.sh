# shellcheck shell=bash
# What the tests of this folder share: a build of its own in $work, by another compiler, and tests
# compiled by hand, since no package of cmocka is built for where they run.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
library=$work/src/.libs/libebbmalloc.so
failed=

skip() {
    echo "skipped: $*"
    exit 77
}

# quiet COMMAND…: what it says is shown only when it fails, which ends the test.
quiet() {
    "$@" >"$work/log" 2>&1 && return
    tail -n 40 "$work/log"
    echo "FAILED: $*"
    exit 1
}

# build CONFIGURE-ARGUMENT… -- TARGET…
build() {
    local arguments=()
    while [ "$1" != -- ]; do
        arguments+=("$1")
        shift
    done
    shift
    cd "$work"
    quiet "$EBB_SRCDIR/configure" --quiet "${arguments[@]}"
    quiet make src/ebb/map_page.inc
    quiet make -j 2 "$@"
}

# compile FOLDER TEST SOURCE-OR-FLAG…: a program of tests/FOLDER, in its folder, by $compiler.
compile() {
    local folder=$1 test=$2
    shift 2
    cd "$EBB_SRCDIR/tests/$folder"
    quiet "$compiler" -std=gnu11 -D_GNU_SOURCE= -O1 -g -fno-builtin -pthread \
        -I "$EBB_SRCDIR/tests/grounds" -iquote "$EBB_SRCDIR/src" -o "$work/$test" "$test.c" support.c "$@"
}

# run TEST COMMAND…
run() {
    local test=$1 status=0
    shift
    timeout 300 "$@" >"$work/log" 2>&1 || status=$?
    if [ "$status" = 0 ]; then
        echo "passed: $test"
        return
    fi
    tail -n 20 "$work/log"
    echo "FAILED ($status): $test"
    failed=yes
}
