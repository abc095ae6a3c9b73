# shellcheck shell=bash disable=SC2154
# Shared by the scripts of tests/suites: a program's own test suite, run without the library and
# with it. Each test that passes without has to pass with it.
#
# A script defines these, and ends with `compare_suite`:
#
#     at_least=700        so many tests must pass without the library, or something is wrong here
#     program='*/redis'   which processes are the program under test: a pattern for the path of the
#                         executable below $work (a packaged program is copied there for that)
#     build()             makes in the directory $work, which is empty, all that the tests need.
#                         It is done once: the directory is kept for the next time
#     tests [UNIT...]     runs all tests, or those of the units named, by `run` (tests/apps/lib.sh)
#     verdicts()          turns what tests() wrote to its output into a line for each test,
#                         "passed UNIT: NAME" or "failed UNIT: NAME". UNIT is one word: what tests()
#                         can run alone
#
# Most have units that are programs or files of their own. Such a script defines, instead of
# tests(), `units` (an array), `workers` (so many at a time) and unit(), which runs the one that it
# is given; and where they speak TAP, verdicts() is there already.
#
# In `make check` the scripts run their short subset; tests/suites/run sets EBB_SUITES_WHOLE=yes. A
# script that is given names of units runs those alone.
# In $EBB_BUILDDIR/suites/NAME.results stays what the tests said, and in its file "summary" how many
# there were.

export EBB_APPS_TIME_LIMIT_S=${EBB_APPS_TIME_LIMIT_S:-10800}
# shellcheck source=tests/apps/lib.sh
. "$(dirname "$0")/../apps/lib.sh"

suites=${EBB_BUILDDIR:?}/suites
work=$suites/$this_test
kept=$work.results
whole=${EBB_SUITES_WHOLE:-no}
only=("$@")
processors=$(nproc)

# --- sources --------------------------------------------------------------------------------------

# source_of PACKAGE DIRECTORY  Unpacks Debian's sources of a package, patched, into DIRECTORY.
source_of() {
    need apt-get:apt dpkg-source:dpkg-dev gcc make xz:xz-utils
    mkdir -p "$suites/apt"
    rm -rf "$tmp/source"
    mkdir "$tmp/source"
    (flock 9 && fetch_source_lists && download_source "$1") 9>"$suites/apt/lock" \
        >"$tmp/source.log" 2>&1 7>&- || true
    [ -e "$tmp/source/got" ] ||
        skip "no sources of $1: $(grep -m 1 '^E:' "$tmp/source.log" || true)"
    note_version "$1 $(<"$tmp/source/got")"
    dpkg-source --no-check --no-copy -x "$tmp/source"/*.dsc "$2"
}

# A mirror may lack the newest of the versions that it lists. If it has none, the list is too old.
download_source() {
    local version
    cd "$tmp/source" || return
    for version in $(source_apt apt-cache showsrc --only-source "$1" |
        sed -n 's/^Version: //p' | sort -rVu); do
        rm -f ./*
        if source_apt apt-get source --download-only "$1=$version"; then
            echo "$version" >got
            return
        fi
    done
    rm "$suites/apt/fetched"
}

# APT with a list of sources of its own: where this machine has its packages from, there the sources
# are as well. Neither the lists nor the settings of the machine are touched.
source_apt() {
    local command=$1
    shift
    "$command" -o Dir::Etc::SourceList=/dev/null -o Dir::Etc::SourceParts="$suites/apt/parts" \
        -o Dir::State::Lists="$suites/apt/lists" -o Dir::Cache="$suites/apt/cache" "$@"
}

fetch_source_lists() {
    local list
    [ ! -e "$suites/apt/fetched" ] || return 0
    mkdir -p "$suites/apt/parts" "$suites/apt/lists/partial" "$suites/apt/cache"
    for list in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
        [ ! -e "$list" ] ||
            sed -n 's/^deb /deb-src /p' "$list" >"$suites/apt/parts/${list##*/}.list"
    done
    for list in /etc/apt/sources.list.d/*.sources; do
        sed 's/^Types:.*/Types: deb-src/' "$list" >"$suites/apt/parts/${list##*/}"
    done
    # Some of them may have no sources.
    source_apt apt-get update || true
    : >"$suites/apt/fetched"
}

# copy_installed COMMAND DIRECTORY  An installed program, to where watch() knows it.
copy_installed() {
    local path package
    path=$(readlink -f "$(type -P "$1")")
    cp "$path" "$2/"
    # Known as in /bin, say, where that has become a link to /usr/bin.
    package=$( (dpkg-query -S "$path" "${path#/usr}" || true) 2>/dev/null | sed -n '1s/:.*//p')
    note_version "$(dpkg-query -W -f '${Package} ${Version}\n' "${package:?}" | head -n 1)"
}

note_version() {
    say "tested: $1"
    echo "$1" >>"$work.versions"
}

# --- what most scripts need to run tests and to read what they say --------------------------------

workers=$processors
export work tmp library_name

# Each unit's output in one piece, because others write too; by a file, because a process that a
# unit leaves behind would hold a pipe open.
tests() {
    [ $# -gt 0 ] || set -- "${units[@]}"
    export -f unit
    # shellcheck disable=SC2016
    run xargs -P "$workers" --process-slot-var=worker -d '\n' -n 1 bash -c '
        said=$tmp/said-$worker
        rm -f "$said"
        (unit "$1") >"$said" 2>&1
        (flock 9 && printf "=== unit %s\n" "$1" && cat "$said" && echo) 9>"$tmp/said.lock"
        ' unit < <(printf '%s\n' "$@")
}

# TAP: by their numbers, because the descriptions may tell times and process ids.
tap_verdicts() {
    awk '/^=== unit / { unit = $3 }
        /^(not )?ok [0-9]+/ && !/# *(SKIP|skip|TODO|todo)/ {
            print $1 == "ok" ? "passed " unit ": " $2 : "failed " unit ": " $3
        }'
}

verdicts() { tap_verdicts; }

# --- the two runs ---------------------------------------------------------------------------------

# Nothing of one run may be in the way of the next one, or stay when all is over. What detached
# itself from its parents is known by where it is.
end_all() {
    local status=$? process
    # More than once, because they may be starting others.
    for _ in 1 2 3; do
        for process in $(find /proc -maxdepth 2 -path '/proc/[0-9]*' \( -name cwd -o -name exe \) \
            \( -lname "$work" -o -lname "$work/*" \) -printf '%h\n' 2>/dev/null || true); do
            [ "$process" = "/proc/$$" ] || kill -KILL "${process#/proc/}" 2>/dev/null || true
        done
    done
    return "$status"
}

trap 'end_all; leave' EXIT

build_once() {
    [ ! -e "$work.built" ] || return 0
    rm -rf "$work" "$work.versions"
    mkdir -p "$work"
    local started=$SECONDS status=0
    # In the background, because a shell whose status is asked for does not end at an error.
    (cd "$work" && build) >"$work.log" 2>&1 &
    wait $! || status=$?
    if [ "$status" -eq 77 ]; then skipping=yes && exit 77; fi
    [ "$status" -eq 0 ] || fail "building: $(tail -n 20 "$work.log")"
    say "built in $((SECONDS - started)) s"
    : >"$work.built"
}

# run_tests MODE NAME [UNIT...]  Leaves $kept/NAME-MODE.log, and .passed and .failed beside it.
run_tests() {
    local name=$2-$1 pid started=$SECONDS
    mode=$1 logs=$tmp/$1/logs
    mkdir -p "$logs"
    shift 2
    rm -f "$tmp/on" "$tmp/off"
    touch "$tmp/on" "$tmp/off"
    (cd "$work" && trap - ERR && set +e && tests "$@") >"$kept/$name.log" 2>&1 7>&- &
    pid=$!
    server_pids+=("$pid")
    watch "$pid"
    wait "$pid" || true
    end_all
    seconds=$((SECONDS - started))
    verdicts <"$kept/$name.log" | sort -u >"$tmp/verdicts"
    sed -n 's/^failed //p' "$tmp/verdicts" >"$kept/$name.failed"
    # A name that comes more than once has to pass each time.
    sed -n 's/^passed //p' "$tmp/verdicts" | comm -23 - "$kept/$name.failed" >"$kept/$name.passed"
}

# watch PID  Until it ends: which processes of the program are on the library, which are not? One
# that is seen without it once only may have been in the middle of exec. A program that is over
# before anybody looks says it itself, in the same files.
watch() {
    local process
    while alive "$1"; do
        for process in $(find /proc -maxdepth 2 -path '/proc/[0-9]*/exe' -lname "$work/$program" \
            -printf '%h\n' 2>/dev/null || true); do
            if names_library "$process/maps" 2>/dev/null; then
                echo "$process" >>"$tmp/on"
            elif [ -e "$process/exe" ]; then
                echo "$process" >>"$tmp/off"
            fi
        done
        sleep 0.2
    done
    sort -u "$tmp/on" >"$tmp/on.all"
    sort "$tmp/off" | uniq -d | comm -23 - "$tmp/on.all" >"$tmp/off.all"
    on=$(wc -l <"$tmp/on.all") off=$(wc -l <"$tmp/off.all")
}

count() { wc -l <"$kept/$1"; }

# summarize UNITS SECONDS  The line that tests/suites/run shows: units with a test that was not
# skipped, of all; tests passed without and with the library, at the first go; lost for good.
summarize() {
    local tested
    tested=$(sed 's/:.*//' "$kept"/all-without.{passed,failed} | sort -u | wc -l)
    printf '%s\t%s\t%s\t%s\t%s\t%s\n' "$tested of $1" "$(count all-without.passed)" \
        "$(count all-with.passed)" "$(count lost)" "$2 s" "$(paste -sd , "$work.versions")"
}

# first_run MODE  All of the tests, or of the units that the script was given.
first_run() {
    run_tests "$1" all ${only[@]+"${only[@]}"}
    say "$1 the library: $(count "all-$1.passed") passed, $(count "all-$1.failed") failed," \
        "$seconds s; of $((on + off)) processes seen $on were on it"
    [ $((on + off)) -gt 0 ] || fail "no process was seen whose program is $work/$program"
}

# Those that passed without and did not with the library are run again, on both sides: what passes
# then, or fails without the library too, is known as unsteady; what stays is the library's fault.
# One at a time, so that they are not in each other's way.
run_again() {
    local round units workers=1
    for round in 1 2; do
        [ -s "$tmp/lost" ] || return 0
        mapfile -t units < <(sed 's/:.*//' "$tmp/lost" | sort -u)
        say "not passed with the library: $(wc -l <"$tmp/lost"); again, round $round: ${units[*]}"
        run_tests without "again-$round" "${units[@]}"
        run_tests with "again-$round" "${units[@]}"
        unsteady "pass with the library when run again" "$kept/again-$round-with.passed"
        comm -23 "$tmp/lost" "$kept/again-$round-without.passed" >"$tmp/lost-without"
        unsteady "fail without the library as well when run again" "$tmp/lost-without"
    done
}

# unsteady WHAT FILE  Takes from the lost what is in FILE, and says so.
unsteady() {
    comm -12 "$tmp/lost" "$2" >"$tmp/unsteady"
    [ -s "$tmp/unsteady" ] || return 0
    say "unsteady: $(wc -l <"$tmp/unsteady") that $1, such as"
    head -n 20 "$tmp/unsteady" >&7
    comm -23 "$tmp/lost" "$2" >"$tmp/left"
    mv "$tmp/left" "$tmp/lost"
}

compare_suite() {
    local of=${#units[@]} began=$SECONDS
    [ "${#only[@]}" -eq 0 ] || at_least=1
    rm -rf "$kept"
    mkdir "$kept"
    first_run without
    [ "$on" -eq 0 ] || fail "$on processes had the library"
    [ "$(count all-without.passed)" -ge "$at_least" ] ||
        fail "only $(count all-without.passed) tests passed, and it should be $at_least at least"
    first_run with
    # Tests may clear the environment for some of their processes.
    [ "$on" -gt 0 ] || fail "no process had the library"
    [ "$off" -le $((on / 10)) ] || fail "$off processes did not have the library"
    comm -23 "$kept/all-without.passed" "$kept/all-with.passed" >"$tmp/lost"
    run_again
    cp "$tmp/lost" "$kept/lost"
    summarize "$of" $((SECONDS - began)) >"$kept/summary"
    say "$((SECONDS - began)) s in all"
    if [ -s "$kept/lost" ]; then
        head -n 20 "$kept/lost" >&7
        mode=
        fail "$(count lost) tests pass without the library and fail with it, see $kept/lost"
    fi
    ! grep -h '^ebbmalloc: ' "$kept"/*-with.log >&7 || fail "the library complained"
    say "every test that passes without the library passes with it"
}
