#!/bin/bash
# node's parallel tests of buffers, streams, workers, processes, zlib, crypto, files, the heap
. "$(dirname "$0")/lib.sh"

at_least=500
program='source/node'

build() {
    need node:nodejs
    source_of nodejs "$work/source"
    copy_installed node source
}

# Debian's sources have the runner take ./node. That is the one which is installed: should it be of
# another version, some tests fail on both sides.
tests() {
    [ $# -gt 0 ] || set -- "${units[@]}"
    cd source || return
    run python3 tools/test.py -p tap -j "$processors" -t 120 "${@/#/parallel/}"
}

verdicts() {
    sed -nE '/# (skip|TODO)/d; s,^ok [0-9]+ parallel/(.*),passed \1: runs,p;
        s,^not ok [0-9]+ parallel/(.*),failed \1: runs,p'
}

build_once
mapfile -t units < <(cd "$work/source/test/parallel" && printf '%s\n' \
    test-{buffer,child-process,cluster,crypto,fs,heap,process,stream,string,vm,worker,zlib}*.*js |
    sed 's/\.m\?js$//')
compare_suite
