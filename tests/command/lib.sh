# shellcheck shell=bash
# What the tests of this folder share. Each names what it expects; the first surprise ends the test.
# shellcheck disable=SC2034 # out and err are for the tests
set -euo pipefail

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

fail() {
    printf 'FAILED: %s\n' "$*"
    exit 1
}

skip() {
    printf '%s\n' "$*"
    exit 77
}

# want COMMAND PACKAGE: true when it is there, or root could install it.
want() {
    local install=(apt-get -y -o DPkg::Lock::Timeout=300 --no-install-recommends install "$2")
    command -v "$1" >/dev/null && return
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || return 1
    { DEBIAN_FRONTEND=noninteractive "${install[@]}" ||
        { apt-get update && DEBIAN_FRONTEND=noninteractive "${install[@]}"; }; } >"$scratch/apt" 2>&1 &&
        command -v "$1" >/dev/null
}

# expect_run STATUS COMMAND…: runs it; its output is then in $out and $err.
expect_run() {
    local expected=$1 status=0
    shift
    "$@" >"$scratch/out" 2>"$scratch/err" || status=$?
    out=$(<"$scratch/out") err=$(<"$scratch/err")
    [ "$status" = "$expected" ] ||
        fail "$*: exit status $status and not $expected; stderr: $err"
}

# expect WHAT TEXT PATTERN: TEXT must match the whole shell pattern.
expect() {
    # shellcheck disable=SC2053 # the pattern is one
    [[ $2 == $3 ]] || fail "$1: expected '$3', got '$2'"
}

# One line on stderr, no more, that matches.
expect_complaint() {
    expect "stderr" "$err" "$1"
    [ "$(wc -l <"$scratch/err")" = 1 ] || fail "more than one line on stderr: $err"
}

# await WHAT COMMAND…: until that is true, looking for 10 s at most.
await() {
    local what=$1 waited=0
    shift
    until "$@" >/dev/null 2>&1; do
        [ $((waited += 1)) -lt 500 ] || fail "not after 10 s: $what"
        sleep 0.02
    done
}
