#!/bin/bash
# What `make dist` packs is whole, and gcc and clang compile all of it, tests and benchmarks too,
# without a warning.
# shellcheck source=tests/command/lib.sh
. "$EBB_SRCDIR/tests/command/lib.sh"

unset MAKEFLAGS MAKELEVEL MFLAGS CFLAGS CXXFLAGS CPPFLAGS LDFLAGS CC CXX
tree=$scratch/tree
make -s -C "$EBB_BUILDDIR" distdir distdir="$tree" top_distdir="$tree" >"$scratch/log" 2>&1 ||
    { cat "$scratch/log" && fail "make distdir"; }

compile_with() {
    local log=$scratch/$1.log
    mkdir "$scratch/$1"
    if (cd "$scratch/$1" && "$tree/configure" --enable-werror CC="$1" CXX="$2" CFLAGS=-O2 CXXFLAGS=-O2 &&
        make -k -j 2 all bench-build && make -k -j 2 check TESTS=) >"$log" 2>&1; then
        return
    fi
    grep -E 'warning:|error:|\*\*\*' "$log" || tail -n 20 "$log"
    fail "$1 and $2"
}

absent=
compiled=
while read -r c cxx package; do
    if command -v "$c" >/dev/null && command -v "$cxx" >/dev/null; then
        compile_with "$c" "$cxx"
        compiled+=" $c"
    else
        absent+=" $c (Debian: $package)"
    fi
done <<'END'
gcc g++ g++
clang clang++ clang
END
[ -z "$absent" ] || skip "without a warning:${compiled:- none}; not there:$absent"
