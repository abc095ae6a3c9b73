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
# What the tests said stays in $EBB_BUILDDIR/suites: of a whole suite in NAME.results, which the
# next run adds to (see "portions" below), of anything else in NAME.some; NAME.summary counts them.

export EBB_APPS_TIME_LIMIT_S=${EBB_APPS_TIME_LIMIT_S:-10800}
# shellcheck source=tests/apps/lib.sh
. "$(dirname "$0")/../apps/lib.sh"

suites=${EBB_BUILDDIR:?}/suites
work=$suites/$this_test
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
    # "|| true", or a list that cannot be read is a failure, not a reason to skip.
    for version in $(source_apt apt-cache showsrc --only-source "$1" |
        sed -n 's/^Version: //p' | sort -rVu || true); do
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
    export -f unit note
    # shellcheck disable=SC2016
    run xargs -P "$workers" --process-slot-var=worker -d '\n' -n 1 bash -c '
        said=$tmp/said-$worker
        rm -f "$said"
        (unit "$1") >"$said" 2>&1
        (flock 9 && printf "=== unit %s\n" "$1" && cat "$said" && echo) 9>"$tmp/said.lock"
        ' unit < <(printf '%s\n' "$@")
}

# note COMMAND...  For units whose processes are over before watch() sees them: COMMAND is one of the
# program, which tells "/proc/PID" and its maps. It is written down as watch() would do it.
note() {
    local maps=$tmp/maps-${worker:?}
    "$@" >"$maps"
    if grep -q "/$library_name\$" "$maps"; then
        head -n 1 "$maps" >>"$tmp/on"
    else
        head -q -n 1 "$maps" "$maps" >>"$tmp/off"
    fi
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
            \( -lname "$work" -o -lname "$work/*" -o -lname "$tmp/*" \) -printf '%h\n' \
            2>/dev/null || true); do
            [ "$process" = "/proc/$$" ] || kill -KILL "${process#/proc/}" 2>/dev/null || true
        done
    done
    return "$status"
}

# Its status is that of the script: one that is not 0 must not end this as well.
trap 'end_all || leave; leave' EXIT

build_once() {
    [ ! -e "$work.built" ] || return 0
    rm -rf "$work" "$work".{versions,results}
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

# run_tests MODE NAME UNIT...  Leaves $part/NAME-MODE.log; .passed, .failed and .seconds beside it.
run_tests() {
    local name=$2-$1 pid started=$SECONDS
    mode=$1 logs=$tmp/$1/logs
    mkdir -p "$logs"
    shift 2
    rm -f "$tmp/on" "$tmp/off"
    touch "$tmp/on" "$tmp/off"
    (cd "$work" && trap - ERR && set +e && tests "$@") >"$part/$name.log" 2>&1 7>&- &
    pid=$!
    server_pids+=("$pid")
    watch "$pid"
    wait "$pid" || true
    end_all
    echo $((SECONDS - started)) >"$part/$name.seconds"
    verdicts <"$part/$name.log" | sort -u >"$tmp/verdicts"
    sed -n 's/^failed //p' "$tmp/verdicts" >"$part/$name.failed"
    # A name that comes more than once has to pass each time.
    sed -n 's/^passed //p' "$tmp/verdicts" | comm -23 - "$part/$name.failed" >"$part/$name.passed"
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
        unsteady "pass with the library when run again" "$part/again-$round-with.passed"
        comm -23 "$tmp/lost" "$part/again-$round-without.passed" >"$tmp/lost-without"
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

# --- portions -------------------------------------------------------------------------------------

# A suite may take hours, so it is run in portions of so many units, each without and then with the
# library. What they said is in $portions/1, $portions/2 and so on. A whole suite that was stopped
# goes on behind its last finished portion, if the library and the tests are the same. No portion is
# much smaller than the others: of a few units watch() may see no process.
portion_units=50

compare_suite() {
    local left portions_left size
    begin_or_continue
    mapfile -t left < <(printf '%s\n' "${units[@]}" | grep -vxF -f "$tmp/done" || true)
    while [ "${#left[@]}" -gt 0 ]; do
        portions_left=$(((${#left[@]} + portion_units - 1) / portion_units))
        size=$(((${#left[@]} + portions_left - 1) / portions_left))
        compare_portion "${left[@]:0:size}"
        left=("${left[@]:size}")
        summarize
        [ "${#left[@]}" -eq 0 ] || say "${#left[@]} of ${#units[@]} units are left"
    done
    judge
}

begin_or_continue() {
    portions=$work.some
    if [ "${#only[@]}" -gt 0 ]; then
        units=("${only[@]}") at_least=1
    elif [ "$whole" = yes ]; then
        portions=$work.results
    fi
    sha256sum <"$library" >"$tmp/library"
    if [ "$portions" = "$work.some" ] || [ "${EBB_SUITES_AGAIN:-no}" = yes ] ||
        ! cmp -s "$tmp/library" "$portions/library"; then
        rm -rf "$portions"
    fi
    mkdir -p "$portions"
    cp "$tmp/library" "$portions/"
    for part in "$portions"/*/; do [ -e "$part/lost" ] || rm -rf "$part"; done
    cat /dev/null "$portions"/*/units >"$tmp/done"
    if [ -s "$tmp/done" ]; then
        say "$(wc -l <"$tmp/done") of ${#units[@]} units were run with this library before"
        summarize
    fi
}

compare_portion() {
    local earlier=("$portions"/*/)
    part=$portions/$((${#earlier[@]} + 1))
    mkdir "$part"
    printf '%s\n' "$@" >"$part/units"
    first_run without "$@"
    [ "$on" -eq 0 ] || fail "$on processes had the library"
    first_run with "$@"
    # Tests may clear the environment for some of their processes.
    [ "$on" -gt 0 ] || fail "no process had the library"
    [ "$off" -le $((on / 10)) ] || fail "$off processes did not have the library"
    comm -23 "$part/all-without.passed" "$part/all-with.passed" >"$tmp/lost"
    run_again
    cp "$tmp/lost" "$part/lost"
}

# first_run MODE UNIT...
first_run() {
    run_tests "$1" all "${@:2}"
    say "$1 the library: $(wc -l <"$part/all-$1.passed") passed," \
        "$(wc -l <"$part/all-$1.failed") failed, $(<"$part/all-$1.seconds") s;" \
        "of $((on + off)) processes seen $on were on it"
    [ $((on + off)) -gt 0 ] || fail "no process was seen whose program is $work/$program"
}

# count FILE  Its lines in all portions.
count() { cat "$portions"/*/"$1" | wc -l; }

seconds() { awk '{ sum += $1 } END { print sum }' "$portions"/*/"all-$1.seconds"; }

# The line that tests/suites/run shows: units with a test that was not skipped, of all; tests passed
# without and with the library, at the first go; lost for good; seconds without and with.
summarize() {
    local tested
    tested=$(sed 's/:.*//' "$portions"/*/all-without.{passed,failed} | sort -u | wc -l)
    printf '%s\t%s\t%s\t%s\t%s\t%s\t%s\n' "$tested of ${#units[@]}" "$(count all-without.passed)" \
        "$(count all-with.passed)" "$(count lost)" "$(seconds without)" "$(seconds with)" \
        "$(paste -sd , "$work.versions")" >"$work.summary"
}

judge() {
    [ "$(count all-without.passed)" -ge "$at_least" ] ||
        fail "only $(count all-without.passed) tests passed, and it should be $at_least at least"
    mode=
    if [ "$(count lost)" -gt 0 ]; then
        head -q -n 20 "$portions"/*/lost >&7
        fail "$(count lost) tests pass without the library and fail with it, see $portions/*/lost"
    fi
    ! grep -h '^ebbmalloc: ' "$portions"/*/*-with.log >&7 || fail "the library complained"
    say "every test that passes without the library passes with it"
}
