#!/bin/bash
# git's tests, all of them but those of what it is built without: HTTP, Subversion, CVS, gitk
. "$(dirname "$0")/lib.sh"

at_least=5000
program='source/git*'

build() {
    need perl
    need_file /usr/include/zlib.h zlib1g-dev
    source_of git "$work/source"
    cd source || return
    make -j "$processors" NO_CURL=1 NO_EXPAT=1 NO_GETTEXT=1 NO_OPENSSL=1 NO_PYTHON=1 NO_TCLTK=1
}

# The tests would preload a malloc of libc that checks, and clear LD_PRELOAD after that. They make
# very many files.
unit() {
    # shellcheck disable=SC2016
    note ./source/git -c alias.maps='!echo /proc/$PPID; cat /proc/$PPID/maps' maps
    export TEST_NO_MALLOC_CHECK=1
    cd source/t && timeout -k 5 900 bash "./$1" --root="$tmp/trash"
}

build_once
mapfile -t units < <(cd "$work/source/t" && printf '%s\n' t[0-9]*.sh)
compare_suite
