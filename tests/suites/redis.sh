#!/bin/bash
# redis' tests of every command, of persistence, replication and clusters (all its units)
. "$(dirname "$0")/lib.sh"

at_least=1000
program='redis-server*'

# Four at a time, each in a tree of its own with ports of its own: much of what they do is to wait.
slots=4

build() {
    need tclsh:tcl pkg-config
    source_of redis "$work/source"
    make -C source -j "$processors" MALLOC=libc
    local slot
    for ((slot = 1; slot <= slots; slot++)); do
        mkdir "$work/$slot"
        cp -r source/tests source/runtest source/redis.conf source/src source/utils "$work/$slot"
    done
}

# One of several programs is called one of several ways; its own name is all that they share.
tests() {
    [ $# -gt 0 ] || set -- $(all_units)
    export -f one_unit
    TERM=dumb run xargs -P "$slots" --process-slot-var=slot -d '\n' -n 1 \
        bash -c 'one_unit "$1"' one_unit < <(printf '%s\n' "$@")
}

all_units() {
    sed -n '/^set ::all_tests {/,/^}/s/^ \+//p' source/tests/test_helper.tcl
}

# In one write, because others write too.
one_unit() {
    cd "$((slot + 1))" || return
    local said
    said=$(timeout -k 5 600 ./runtest --single "$1" --clients 1 --baseport $((20000 + slot * 3000)) \
        --portcount 2900 2>&1)
    printf '%s\n' "unit $1" "$said"
}

verdicts() {
    awk '/^unit / { unit = $2 }
        /^\[(ok|err)\]: / {
            verdict = $1 == "[ok]:" ? "passed" : "failed"
            sub(/^[^ ]+ /, "")
            sub(/ \([0-9]+ ms\)$/, "")
            sub(/ in tests\/[^ ]*\.tcl$/, "")
            print verdict, unit ": " $0
        }'
}

compare_suite
