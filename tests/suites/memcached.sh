#!/bin/bash
# memcached's tests: its own in Perl, and testapp
. "$(dirname "$0")/lib.sh"

at_least=2000
program='source/memcached-debug'
workers=4

build() {
    need perl
    need_file /usr/include/event.h libevent-dev
    source_of memcached "$work/source"
    cd source || return
    ./configure
    make -j "$processors" memcached-debug sizes testapp timedrun
}

unit() {
    cd source || return
    case $1 in
    testapp) timeout -k 5 600 ./testapp ;;
    *) timeout -k 5 600 perl "t/$1" ;;
    esac
}

build_once
mapfile -t units < <(cd "$work/source/t" && printf '%s\n' testapp *.t)
compare_suite
