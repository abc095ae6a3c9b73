#!/bin/bash
# `make install` puts in place what the README promises and nothing else; a program can be built
# against it by pkg-config, `ebb` finds it, and `make uninstall` leaves nothing.
# shellcheck source=tests/command/lib.sh
. "$EBB_SRCDIR/tests/command/lib.sh"

unset MAKEFLAGS MAKELEVEL MFLAGS LD_PRELOAD EBB_LIBRARY
make=(make -s -C "$EBB_BUILDDIR" prefix=/opt/ebb DESTDIR="$scratch/root")

"${make[@]}" install >"$scratch/log" 2>&1 || { cat "$scratch/log" && fail "make install"; }
(cd "$scratch/root/opt/ebb" && find . -type f -o -type l | LC_ALL=C sort) >"$scratch/installed"
diff - "$scratch/installed" <<'END' || fail "installed files differ (< missing, > not promised)"
./bin/ebb
./include/ebbmalloc.h
./lib/ebbmalloc/libebbrecord.so
./lib/libebbmalloc.so
./lib/pkgconfig/ebbmalloc.pc
./share/bash-completion/completions/ebb
./share/man/man1/ebb.1
./share/man/man3/ebbmalloc.3
./share/man/man5/ebb-trace.5
END

root=$scratch/root/opt/ebb
EBB_LIBRARY=$root/lib/libebbmalloc.so expect_run 0 "$root/bin/ebb" run \
    grep -c "$root/lib/libebbmalloc.so" /proc/self/maps

cat >"$scratch/program.c" <<'END'
#include <ebbmalloc.h>
#include <stdio.h>
#include <stdlib.h>
int main(void)
{
    free_sized(malloc(100), 100);
    return puts(ebb_version()) < 0;
}
END
${CC:-cc} -o "$scratch/program" "$scratch/program.c" -I"$root/include" -L"$root/lib" -lebbmalloc
LD_LIBRARY_PATH=$root/lib expect_run 0 "$scratch/program"
expect "version" "ebb (ebbmalloc) $out" "$("$EBB_CMD" --version)"

# A header for C++ as well, and one that needs nothing before it.
echo '#include <ebbmalloc.h>' >"$scratch/header.c"
${CC:-cc} -Wall -Wextra -Werror -std=c99 -pedantic -I"$root/include" -fsyntax-only "$scratch/header.c"
if command -v "${CXX%% *}" >/dev/null 2>&1; then
    ${CXX} -Wall -Wextra -Werror -I"$root/include" -fsyntax-only -x c++ "$scratch/header.c"
fi

if command -v pkg-config >/dev/null; then
    export PKG_CONFIG_PATH=$root/lib/pkgconfig
    expect "pkg-config --modversion" "$(pkg-config --modversion ebbmalloc)" "$out"
    expect "pkg-config --libs" "$(pkg-config --libs ebbmalloc)" "*-lebbmalloc*"
fi

"${make[@]}" uninstall >"$scratch/log" 2>&1 || { cat "$scratch/log" && fail "make uninstall"; }
left=$(find "$scratch/root" ! -type d)
[ -z "$left" ] || fail "make uninstall left $left"
