#!/bin/bash
# Perl's tests, of the core and of all modules that come with it, but for those of its source's form
. "$(dirname "$0")/lib.sh"

at_least=800000
program='source/perl'

build() {
    source_of perl "$work/source"
    cd source || return
    ./Configure -des -Dusethreads -Uusemymalloc -Dusedevel
    make -j "$processors"
    make -j "$processors" test_prep
}

unit() {
    cd source/t || return
    # shellcheck disable=SC2016
    note ./perl -e 'print "/proc/$$\n"; open my $maps, "<", "/proc/self/maps"; print <$maps>'
    timeout -k 5 600 ./perl harness -v "$1"
}

build_once
# As t/harness has them.
mapfile -t units < <(sed -nE 's,^((cpan|dist|ext|lib)/[^[:space:]]+\.t)[[:space:]].*,../\1,p
    s,^t/((base|cmd|comp|io|lib|mro|op|opbasic|re|run|uni)/[^[:space:]]+\.t)[[:space:]].*,\1,p' \
    "$work/source/MANIFEST")
compare_suite
