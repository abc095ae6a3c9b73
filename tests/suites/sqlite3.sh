#!/bin/bash
# SQLite's "veryquick" tests: all of its scripts in Tcl but for the longest ones
. "$(dirname "$0")/lib.sh"

at_least=100000
program='testfixture*'

build() {
    need tclsh:tcl
    need_file '/usr/include/tcl*/tcl.h' tcl-dev
    need_file /usr/include/zlib.h zlib1g-dev
    source_of sqlite3 "$work/source"
    cd source || return
    ./configure --enable-all
    make -j "$processors" testfixture
    cp testfixture "$work/"
}

# As test/testrunner.tcl does it: the list is in the program's own permutations.test.
list_units() {
    cat >list.tcl <<'TCL'
set argv0 source/test/all.test
set argv ""
set testdir source/test
source source/test/permutations.test
foreach file [dict get $testspec(veryquick) -files] { puts [file tail $file] }
TCL
    ./testfixture list.tcl
}

unit() {
    mkdir -p "on/$1" && cd "on/$1" || return
    timeout -k 5 600 "$work/testfixture" "$work/source/test/$1"
    rm -rf "$work/on/$1"
}

# The names in avtrans.test end with random numbers. A test that lets the N-th malloc fail goes on
# as long as there is one: how many are called depends on how much room the blocks have.
verdicts() {
    awk 'function name(text) {
            if (unit == "avtrans.test") sub(/-[0-9]+$/, "", text)
            if (text ~ /\.(transient|persistent)\.[0-9]+$/) sub(/\.[0-9]+$/, "", text)
            return text
        }
        /^=== unit / { unit = $3 }
        / Ok$/ && sub(/\.\.\.$/, "", $1) { print "passed " unit ": " name($1) }
        /^! .* (expected|got):/ { print "failed " unit ": " name($2) }'
}

build_once
mapfile -t units < <(cd "$work" && list_units)
compare_suite
