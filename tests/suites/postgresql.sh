#!/bin/bash
# PostgreSQL's regression and isolation tests, and those of PL/pgSQL and of most of contrib
. "$(dirname "$0")/lib.sh"

at_least=350
program='source/tmp_install/*/postgres'
units=(src/test/regress src/test/isolation src/pl/plpgsql/src)
for module in btree_gin btree_gist citext cube hstore intarray isn ltree pageinspect \
    pg_stat_statements pg_trgm postgres_fdw seg tablefunc tcn test_decoding tsm_system_rows \
    unaccent; do
    units+=("contrib/$module")
done
# It refuses to run as root.
prepare_user nobody

build() {
    local package
    need bison flex perl
    package=$(apt-cache depends postgresql | sed -n 's/^ *Depends: \(postgresql-[0-9]*\)$/\1/p')
    source_of "$package" "$work/source"
    cd source || return
    ./configure --without-readline --without-icu --without-zlib
    make -s -j "$processors"
    make -s -j "$processors" -C contrib
    make -s temp-install
    [ "$(id -u)" -ne 0 ] || chown -R nobody "$work"
}

tests() {
    [ $# -gt 0 ] || set -- "${units[@]}"
    local unit
    for unit in "$@"; do
        echo "=== unit $unit"
        run_as_user timeout -k 5 1200 make -C "source/$unit" check NO_TEMP_INSTALL=yes
    done
}

verdicts() {
    sed -nE 's/^=== unit (.*)/unit \1/p;
        s/^(test)? +([^ ]+) +\.\.\. (ok|FAILED) .*/\3 \2/p' |
        awk '/^unit / { unit = $2 }
            /^ok / { print "passed " unit ": " $2 }
            /^FAILED / { print "failed " unit ": " $2 }'
}

build_once
compare_suite
