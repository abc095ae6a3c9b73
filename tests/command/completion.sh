#!/bin/bash
# The completion for bash offers what there is: every subcommand, topic and option that ebb knows.
# shellcheck source=tests/command/lib.sh
. "$EBB_SRCDIR/tests/command/lib.sh"
# shellcheck source=src/ebb/ebb.bash
. "$EBB_SRCDIR/src/ebb/ebb.bash"

PATH=$(dirname "$EBB_CMD"):$PATH

# complete_words WORD…: what is offered for the last one, a word a line.
complete_words() {
    COMP_WORDS=(ebb "$@") COMP_CWORD=$#
    COMPREPLY=()
    _ebb
    printf '%s\n' "${COMPREPLY[@]}"
}

"$EBB_CMD" --help | sed -n 's/^  ebb \([a-z]*\) .*/\1/p' | sort >"$scratch/commands"
complete_words '' | grep -v '^--' | sort >"$scratch/offered"
diff "$scratch/commands" "$scratch/offered" || fail "subcommands differ (< ebb's, > offered)"
{ cat "$scratch/commands"; "$EBB_CMD" --help | sed -n '/^Further topics/,/^$/s/^  \([a-z]*\) .*/\1/p'; } |
    sort >"$scratch/topics"
complete_words help '' | sort >"$scratch/offered"
diff "$scratch/topics" "$scratch/offered" || fail "topics differ (< ebb's, > offered)"

# Options: those of each subcommand's help.
while read -r subcommand; do
    [ "$subcommand" != run ] || continue
    "$EBB_CMD" help "$subcommand" | grep -oE '^  --?[a-z]+' | tr -d ' ' | sort -u >"$scratch/options" || true
    complete_words "$subcommand" - | grep '^-' | sort >"$scratch/offered" || true
    diff "$scratch/options" "$scratch/offered" ||
        fail "options of $subcommand differ (< its help's, > offered)"
done <"$scratch/commands"
expect "a part of a word" "$(complete_words stat --pro)" --prometheus
expect "a column" "$(complete_words top --sort re | tr '\n' ' ')" 'resident returnable '

# Processes: those on the library.
LD_PRELOAD=$EBB_LIB sleep 100 &
trap 'kill $! ; rm -rf "$scratch"' EXIT
await "a process on the library" "$EBB_CMD" stat $!
complete_words stat '' >"$scratch/offered"
grep -qx $! "$scratch/offered" ||
    fail "process $!, on the library, is not offered: $(ebb top 2>&1; echo "exit status $?")"
! complete_words stat '' | grep -qx $$ || fail "a process not on the library is offered"
