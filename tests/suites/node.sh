#!/bin/bash
# node's parallel tests of buffers, streams, workers, child processes, zlib, crypto, files and the heap
. "$(dirname "$0")/lib.sh"

at_least=500
program=node

build() {
    need node:nodejs
    cp -L "$(type -P node)" "$work/"
    source_of nodejs "$work/source"
}

# The runner of the sources, on the node that is installed: should it be of another version, some
# tests fail on both sides.
tests() {
    [ $# -gt 0 ] || set -- test-{buffer,child-process,cluster,crypto,fs,heap,process,stream,string}'*' \
        test-{vm,worker,zlib}'*'
    run python3 source/tools/test.py --shell "$work/node" -p tap -j "$processors" -t 120 \
        "${@/#/parallel/}"
}

verdicts() {
    sed -nE '/# (skip|TODO)/d; s,^ok [0-9]+ parallel/(.*),passed \1: runs,p;
        s,^not ok [0-9]+ parallel/(.*),failed \1: runs,p'
}

build_once
compare_suite
