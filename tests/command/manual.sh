#!/bin/bash
# The manual pages are well-formed and name every exported call and every option, and no other.
# shellcheck source=tests/command/lib.sh
. "$EBB_SRCDIR/tests/command/lib.sh"

pages=("$EBB_SRCDIR/src/ebbmalloc.3" "$EBB_SRCDIR/src/ebb/ebb.1"
    "$EBB_SRCDIR/src/ebb/ebb-trace.5")

# Options: those of the library's own table, through `ebb help options`.
"$EBB_CMD" help options | grep -oE '\bEBBMALLOC_[A-Z_]+' | sort -u >"$scratch/options"
[ -s "$scratch/options" ] || fail "ebb help options names none"
grep -oE '\bEBBMALLOC_[A-Z]+[A-Z_]*' "${pages[0]}" | sort -u >"$scratch/in-manual"
diff "$scratch/options" "$scratch/in-manual" ||
    fail "options differ (< not in the manual, > not in the library)"

# What `ebb help options` says of values, range and default (its third line for each) must be found
# in the option's paragraph of the manual.
"$EBB_CMD" help options | grep -A 2 '^  EBBMALLOC_' | while read -r option; do
    [ "$option" != -- ] || continue
    read -r _
    read -r values
    sed -n "/^\.It Ev $option\$/,/^\.\(It\|El\)\$/p" "${pages[0]}" |
        sed '1n; /^\.It Ev/,$d' >"$scratch/paragraph"
    # shellcheck disable=SC2013 # words are what is wanted
    for value in $(sed 's/([^)]*)//; s/;//g; s/\b\(ms\|to\|or\|default\)\b//g' <<<"$values"); do
        grep -qwF -- "$value" "$scratch/paragraph" ||
            fail "the manual of $option does not say $value ($values)"
    done
done

# The C calls, by their names in the library.
if command -v readelf >/dev/null; then
    readelf -W --dyn-syms "$EBB_LIB" |
        awk '$5 ~ /^(GLOBAL|WEAK)$/ && $7 != "UND" && $8 !~ /^_Z/ { print $8 }' | sort >"$scratch/calls"
    sed -n 's/^\.Fo \(.*\)/\1/p' "${pages[0]}" | sort >"$scratch/in-manual"
    diff "$scratch/calls" "$scratch/in-manual" ||
        fail "calls differ (< not in the synopsis, > not in the library)"
fi

# Subcommands.
"$EBB_CMD" --help | sed -n 's/^  ebb \([a-z]*\) .*/\1/p' | while read -r subcommand; do
    grep -q "^\.It Cm $subcommand\b" "${pages[1]}" || fail "ebb.1 says nothing of $subcommand"
done

command -v mandoc >/dev/null || skip "calls, options and subcommands are all there; no mandoc for the rest"
# Whether other manuals are installed is not our pages' fault.
mandoc -T lint "${pages[@]}" | grep -v 'referenced manual not found' >"$scratch/lint" || true
[ ! -s "$scratch/lint" ] || fail "$(<"$scratch/lint")"
# A line each in the synopsis.
mandoc -T ascii "${pages[1]}" | sed 's/.\x08//g' >"$scratch/page"
"$EBB_CMD" --help | sed -n 's/^  ebb \([a-z]*\) .*/\1/p' | while read -r subcommand; do
    grep -q "^ *ebb $subcommand " "$scratch/page" || fail "the synopsis has no line for $subcommand"
done
for page in "${pages[@]}"; do
    mandoc -T ascii -O width=78 "$page" |
        sed 's/.\x08//g' | awk 'length($0) > 80 { bad = 1; print } END { exit bad }' ||
        fail "$page is wider than 80 columns"
done
