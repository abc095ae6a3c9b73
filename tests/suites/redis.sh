#!/bin/bash
# redis' tests of every command, of persistence, replication and clusters (all its units)
. "$(dirname "$0")/lib.sh"

at_least=1000
program='*/src/redis-server*'

# Each of those that run at the same time needs a tree and ports of its own. Much of what they do is
# to wait.
workers=4

build() {
    need tclsh:tcl pkg-config
    source_of redis "$work/source"
    make -C source -j "$processors" MALLOC=libc
    local worker
    for ((worker = 0; worker < workers; worker++)); do
        mkdir "$worker"
        cp -r source/{redis.conf,runtest,src,tests,utils} "$worker"
    done
}

unit() {
    cd "$worker" && TERM=dumb timeout -k 5 600 ./runtest --single "$1" --clients 1 \
        --baseport $((20000 + worker * 3000)) --portcount 2900
}

# The names in integration/psync2 tell the layout of servers, which is random.
verdicts() {
    awk '/^=== unit / { unit = $3 }
        /^\[(ok|err)\]: / {
            verdict = $1 == "[ok]:" ? "passed" : "failed"
            sub(/^[^ ]+ /, "")
            sub(/ \([0-9]+ ms\)$/, "")
            sub(/ in tests\/[^ ]*\.tcl$/, "")
            if (unit == "integration/psync2") gsub(/[0-9]+/, "N")
            print verdict, unit ": " $0
        }'
}

build_once
mapfile -t units < <(sed -n '/^set ::all_tests {/,/^}/s/^ \+//p' \
    "$work/source/tests/test_helper.tcl")
compare_suite
