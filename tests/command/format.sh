#!/bin/bash
# Every source file is formatted by .clang-format.
# shellcheck source=tests/command/lib.sh
. "$EBB_SRCDIR/tests/command/lib.sh"

command -v clang-format >/dev/null || skip "no clang-format"
# Versions differ in their taste; this is the one of Debian 12.
version=$(clang-format --version | grep -oE '[0-9]+' | head -n 1)
[ "$version" = 14 ] || skip "clang-format is version $version and not 14"

cd "$EBB_SRCDIR"
find src bench tests \( -name '*.[ch]' -o -name '*.cc' \) -print | sort >"$scratch/files"
[ "$(wc -l <"$scratch/files")" -gt 20 ] || fail "found next to no sources: $(<"$scratch/files")"
while read -r file; do
    clang-format --dry-run -Werror "$file" 2>/dev/null || printf '%s\n' "$file"
done <"$scratch/files" >"$scratch/unformatted"
[ ! -s "$scratch/unformatted" ] ||
    fail "not as clang-format -i would have them:"$'\n'"$(<"$scratch/unformatted")"
