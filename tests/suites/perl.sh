#!/bin/bash
# Perl's core tests (t/), and those of its threads, of Storable and of its C interface
. "$(dirname "$0")/lib.sh"

at_least=90000
program='source/perl'

build() {
    source_of perl "$work/source"
    cd source || return
    ./Configure -des -Dusethreads -Uusemymalloc -Dusedevel
    make -j "$processors"
    make -j "$processors" test_prep
}

unit() {
    cd source/t && timeout -k 5 600 ./perl harness -v "$1"
}

build_once
mapfile -t units < <(cd "$work/source/t" && printf '%s\n' \
    {base,class,cmd,comp,io,lib,mro,op,opbasic,re,uni}/*.t ../ext/XS-APItest/t/*.t \
    ../dist/{Storable,Thread-Queue,Thread-Semaphore,threads,threads-shared}/t/*.t)
compare_suite
