# shellcheck shell=bash disable=SC2034
# Shared by the scripts of tests/apps: run the same work without the library and with it, compare.
#
# A script says what it needs, defines its work as a function, and hands that to compare_runs:
#
#     . "$(dirname "$0")/lib.sh"
#     need redis-server redis-cli:redis-tools
#     calls_go_to_library redis-server --version
#     work() { server redis redis-server ...; ...; run redis-cli ... >"$results/digest"; }
#     compare_runs work
#
# The work is done twice. Each time it finds these variables:
#     mode      "without" or "with"
#     results   a directory: everything that is written here must be the same in both runs
#     logs      a directory: whatever else was said; searched for complaints and signs of a crash
#     maps      a directory: copies of /proc/PID/maps, which prove which malloc each process had
# and an empty working directory, and uses `run`, `server` and friends, below, to start programs on
# the malloc of that run.
#
# From the environment: EBB_LIB (the library), EBB_BUILDDIR; to look into a failure,
# EBB_APPS_KEEP=yes leaves the files of both runs. Exit: 0 passed, 77 skipped, 1 failed.

# A hang is a failure, not a make check that never ends. All children are in timeout's group.
if [ -z "${EBB_APPS_TIME_LIMIT_SET:-}" ]; then
    EBB_APPS_TIME_LIMIT_SET=yes exec timeout -k 10 "${EBB_APPS_TIME_LIMIT_S:-240}" bash "$0" "$@" </dev/null
fi
unset EBB_APPS_TIME_LIMIT_SET

set -Eeuo pipefail
shopt -s nullglob
unset LD_PRELOAD LD_DEBUG LD_DEBUG_OUTPUT
export LC_ALL=C TZ=UTC
umask 022
# Where Debian keeps servers that an ordinary user's PATH may not show.
PATH=$PATH:/usr/sbin:/sbin
for directory in /usr/lib/postgresql/*/bin; do PATH=$PATH:$directory; done

# Neither the library nor the dynamic linker may have complained, and nobody may have crashed.
complaints='(^|[^a-z])ebbmalloc: |cannot be preloaded|Segmentation fault|SIGSEGV|SIGABRT|core dumped'
complaints+='|(on|by|with) signal (4|6|7|8|11)|stack smashing|corrupted|AddressSanitizer'

this_test=$(basename "$0" .sh)
tmp=
mode=
server_pids=()
skipping=no

# What the script itself says must not end in a file when it is said where output is redirected.
exec 7>&1
say() { echo "$this_test: $*" >&7; }

# Said in a subshell, whose end its parent may not notice, it is still a failure: see leave.
fail() {
    trap - ERR
    say "FAILED${mode:+ ($mode the library)}, line $(line_of_script): $*"
    [ -z "$tmp" ] || : >"$tmp/failed"
    exit 1
}

# Where the script itself is, whatever function of this file it is in.
line_of_script() {
    local frame
    for ((frame = 1; frame < ${#BASH_SOURCE[@]}; frame++)); do
        [ "${BASH_SOURCE[frame]}" = "$0" ] || continue
        echo "${BASH_LINENO[frame - 1]}"
        return
    done
    echo unknown
}

skip() {
    say "skipped: $*"
    skipping=yes
    exit 77
}

# Only skip() may end in 77: a command that happens to return it has failed.
leave() {
    local status=$? pid
    trap - EXIT ERR INT TERM
    exec >&7
    # The servers' children as well: nobody else would end them.
    # shellcheck disable=SC2046
    for pid in "${server_pids[@]}"; do kill -KILL $(family "$pid") 2>/dev/null || true; done
    [ "${#server_pids[@]}" -eq 0 ] || wait "${server_pids[@]}" 2>/dev/null || true
    [ -z "$tmp" ] || [ ! -e "$tmp/failed" ] || status=1
    if [ "$status" -ne 0 ] && [ "$skipping" = no ]; then
        show_logs
        status=1
    fi
    if [ "${EBB_APPS_KEEP:-no}" = yes ]; then
        say "kept: $tmp"
    else
        rm -rf ${tmp:+"$tmp"}
    fi
    exit "$status"
}

# What each log of the run that failed has to say, because the files go away.
show_logs() {
    local log
    [ -n "$tmp" ] && [ -n "$mode" ] || return 0
    grep -rhE -m 3 -e "$complaints" "$tmp/$mode/logs" | cut -c 1-300 || true
    for log in "$tmp/$mode/logs"/*; do
        [ -s "$log" ] || continue
        say "--- the end of ${log##*/} ---"
        tail -n 15 "$log" | cut -c 1-300 || true
    done
}

trap leave EXIT
trap 'fail "$BASH_COMMAND"' ERR
trap 'fail "stopped by a signal (or the time limit of ${EBB_APPS_TIME_LIMIT_S:-240} s)"' INT TERM

[ -n "${EBB_LIB:-}" ] || fail "EBB_LIB must name the library to test"
[ -r "$EBB_LIB" ] || fail "EBB_LIB=$EBB_LIB cannot be read"
library_name=$(basename "$EBB_LIB")
tmp=$(mktemp -d "${TMPDIR:-/tmp}/ebb-apps-$this_test.XXXXXX")
chmod 755 "$tmp"
# A copy that every user can read: some servers refuse to run as root, and the build may stand in
# a home directory that their users cannot enter.
library=$tmp/$library_name
cp "$EBB_LIB" "$library"
chmod 755 "$library"

# --- what has to be installed ---------------------------------------------------------------------

# need COMMAND[:PACKAGE]...  The package is named like the command when it is left out.
need() {
    local item command package missing=()
    for item in "$@"; do
        command=${item%%:*} package=${item#*:}
        type -P "$command" >/dev/null || [[ " ${missing[*]-} " == *" $package "* ]] ||
            missing+=("$package")
    done
    [ "${#missing[@]}" -gt 0 ] || return 0
    install_packages "${missing[@]}"
    for directory in /usr/lib/postgresql/*/bin; do PATH=$PATH:$directory; done
    hash -r
    for item in "$@"; do
        command=${item%%:*}
        type -P "$command" >/dev/null || skip "$command is not there after installing ${item#*:}"
    done
}

# need_file PATTERN PACKAGE  For libraries and data, which are no commands.
need_file() {
    compgen -G "$1" >/dev/null || install_packages "$2"
    compgen -G "$1" >/dev/null || skip "$1 is not there after installing $2"
}

install_packages() {
    local as_root=()
    type -P apt-get >/dev/null || skip "not installed: $*, and no apt-get here to install it with"
    if [ "$(id -u)" -ne 0 ]; then
        sudo -n true 2>/dev/null || skip "not installed: $*, and neither root nor sudo to do it"
        as_root=(sudo -n)
    fi
    say "installing with apt-get: $*"
    # One at a time: tests run in parallel, and apt-get update does not wait for another one.
    # Said through a file because a shell function does not pass through sudo.
    write_installer "$tmp/install"
    flock "${EBB_BUILDDIR:-$(dirname "$EBB_LIB")}" \
        ${as_root[@]+"${as_root[@]}"} bash "$tmp/install" "$@" >"$tmp/install.log" 2>&1 ||
        skip "apt-get could not install $*: $(grep -m 1 '^E:' "$tmp/install.log" || true)"
}

# Packages of servers start their service at once. policy-rc.d is Debian's way to say no; one that
# is there already is its owner's decision and stays.
write_installer() {
    cat >"$1" <<'INSTALLER'
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
    trap 'rm -f $policy' EXIT
    trap 'exit 1' INT TERM
    printf '#!/bin/sh\nexit 101\n' >$policy
    chmod 755 $policy
fi
export DEBIAN_FRONTEND=noninteractive
install() { apt-get -y -o DPkg::Lock::Timeout=300 --no-install-recommends install "$@"; }
install "$@" || { apt-get update && install "$@"; }
INSTALLER
}

# --- starting programs on the malloc of this run --------------------------------------------------

with_library() { env LD_PRELOAD="$library" "$@"; }

# run COMMAND...  On the library in the run "with", as it is in the run "without".
run() {
    if [ "$mode" = with ]; then with_library "$@"; else env "$@"; fi
}

# prepare_user NAME  Programs started through as_user are that user's when we are root.
user_prefix=()
prepare_user() {
    [ "$(id -u)" -ne 0 ] || user_prefix=(setpriv --reuid "$1" --regid "$(id -g "$1")" --init-groups)
}

as_user() { ${user_prefix[@]+"${user_prefix[@]}"} "$@"; }

# Like run, as the user of prepare_user; setpriv itself is no part of the test.
run_as_user() {
    if [ "$mode" = with ]; then
        as_user env LD_PRELOAD="$library" "$@"
    else
        as_user "$@"
    fi
}

# server NAME COMMAND...  Starts COMMAND in the background as the user of prepare_user, if any; sets
# server_pid. Everything it says goes to $logs/NAME.
server() {
    local name=$1 preload=(env)
    shift
    [ "$mode" != with ] || preload+=(LD_PRELOAD="$library")
    ${user_prefix[@]+"${user_prefix[@]}"} "${preload[@]}" "$@" >"$logs/$name" 2>&1 </dev/null 7>&- &
    server_pid=$!
    server_pids+=("$server_pid")
}

# background COMMAND...  Like run, but does not wait; sets background_pid to the command itself.
background() {
    local preload=(env)
    [ "$mode" != with ] || preload+=(LD_PRELOAD="$library")
    "${preload[@]}" "$@" &
    background_pid=$!
}

# stop_server PID SIGNAL  It has to leave by itself, and be content: status 0.
stop_server() {
    local pid=$1 kept=() other status=0
    kill -s "$2" "$pid"
    wait "$pid" || status=$?
    for other in "${server_pids[@]}"; do [ "$other" = "$pid" ] || kept+=("$other"); done
    server_pids=(${kept[@]+"${kept[@]}"})
    [ "$status" -eq 0 ] || fail "the server ended with status $status on SIG$2"
}

alive() { kill -0 "$1" 2>/dev/null; }

# The next port of this script that nobody listens on. Scripts that run at the same time have
# different process ids, hence different ports; all lie under the range that clients are given.
port=$((15000 + $$ % 4096 * 4))
free_port() {
    port=$((port + 1))
    while (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do
        port=$((port + 1))
    done
}

# wait_until SECONDS WHAT COMMAND...  Tries COMMAND until it succeeds.
wait_until() {
    local end=$((SECONDS + $1)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$end" ] || fail "waited in vain for $what"
        sleep 0.05
    done
}

wait_for_port() {
    wait_until 30 "port $port to open" answers_or_died "$server_pid"
    alive "$server_pid" || fail "the server died while starting"
}

# Success ends the waiting; wait_for_port then tells which of the two it was.
answers_or_died() { ! alive "$1" || (: <"/dev/tcp/127.0.0.1/$port"); }

# --- which malloc did they really have? -----------------------------------------------------------

# family PID  The process and all its descendants.
family() {
    local child
    echo "$1"
    for child in $(awk -v parent="$1" \
        '/^Pid:/ { pid = $2 } /^PPid:/ && $2 == parent { print pid }' /proc/[0-9]*/status \
        2>/dev/null || true); do
        family "$child"
    done
}

# record_maps PID  Of the process and its descendants, for compare_runs to judge. In the moment after
# an exec the dynamic linker has not mapped anything yet, so more than one look is allowed.
record_maps() {
    wait_until 10 "process $1 and its descendants to be on the malloc of this run" copy_maps "$1"
}

copy_maps() {
    local pid
    for pid in $(family "$1"); do
        cat "/proc/$pid/maps" >"$maps/$pid" 2>/dev/null || true
        if [ ! -s "$maps/$pid" ]; then
            # A descendant may be gone by now, or be a zombie: then there is nothing to say.
            rm -f "$maps/$pid"
            [ "$pid" != "$1" ] || return 1
        elif [ "$mode" = with ] && ! names_library "$maps/$pid"; then
            return 1
        fi
    done
}

names_library() { grep -q "/$library_name\$" "$1"; }

check_maps() {
    local map count=0
    for map in "$maps"/*; do
        count=$((count + 1))
        if names_library "$map"; then
            [ "$mode" = with ] || fail "${map##*/} had $library_name mapped"
        else
            [ "$mode" = without ] || fail "${map##*/} did not have $library_name mapped"
        fi
    done
    [ "$count" -gt 0 ] || fail "no process was looked at for the library"
    maps_seen=$count
}

# calls_go_to_library COMMAND...  Runs COMMAND once with the dynamic linker telling which file it
# binds each symbol to. Every process of it must have its malloc from the library, and no file in
# any of them may get one call of the family from somewhere else: a program that brings its own
# malloc could have the library mapped and never call it. The reports stay until the next call.
calls_go_to_library() {
    local report count=0 stray
    rm -rf "$tmp/bindings"
    mkdir -m 777 "$tmp/bindings"
    as_user env LD_DEBUG=files,bindings LD_DEBUG_OUTPUT="$tmp/bindings/of" LD_PRELOAD="$library" "$@" \
        >"$tmp/bindings/output" 2>&1 </dev/null || fail "$* failed: $(tail -n 3 "$tmp/bindings/output")"
    ! grep -E -e "$complaints" "$tmp/bindings/output" >&7 || fail "$* complained"
    for report in "$tmp/bindings"/of.*; do
        # Of the dynamic linker alone, as by ldd: no program was started.
        [ -n "$(program_of "$report")" ] || continue
        count=$((count + 1))
        grep -q "to [^ ]*/$library_name .*symbol .malloc'" "$report" ||
            fail "$*: $(program_of "$report") does not get malloc from $library_name"
        stray=$(stray_bindings "$report")
        [ -z "$stray" ] || fail "$*: $(program_of "$report"): $stray"
    done
    [ "$count" -gt 0 ] || fail "$*: the dynamic linker told nothing"
    say "$1: malloc of all its processes ($count) is bound to $library_name"
}

program_of() { awk '/transferring control:/ { sub(".*/", "", $4); print $4; exit }' "$1"; }

# The library itself may ask for the next definition in line, and so may nobody else. That a symbol
# is found in the program is right where the program only passes it on (a program at a fixed address
# that takes the address of free): then its own is bound to the library.
stray_bindings() {
    awk -v library="/$library_name" '
        function ends(text) { return substr(text, length(text) - length(library) + 1) == library }
        /symbol .(malloc|calloc|realloc|free|memalign|aligned_alloc|posix_memalign|malloc_usable_size)\047/ {
            symbol = $11
            if (ends($7)) passed_on[$4, symbol] = 1
            else if (!ends($4)) { line[++lines] = $0; to[lines] = $7; of[lines] = symbol }
        }
        /transferring control:/ { program = $4 }
        END {
            for (i = 1; i <= lines; i++)
                if (to[i] != program || !((program, of[i]) in passed_on)) { print line[i]; exit }
        }' "$1"
}

# --- the two runs ---------------------------------------------------------------------------------

# compare_runs WORK  WORK is a function of the script, see the top of this file.
compare_runs() {
    local started
    for mode in without with; do
        results=$tmp/$mode/results logs=$tmp/$mode/logs maps=$tmp/$mode/maps
        mkdir -p "$results" "$logs" "$maps"
        chmod 777 "$results" "$logs" "$maps"
        started=$SECONDS
        # At the same place for both, because names get into what is compared.
        mkdir -m 777 "$tmp/work"
        cd "$tmp/work"
        "$1"
        cd "$tmp"
        [ ! -e "$tmp/failed" ] || exit 1
        check_logs
        check_maps
        say "$mode the library: $((SECONDS - started)) s, $maps_seen processes checked"
        if [ "${EBB_APPS_KEEP:-no}" = yes ]; then mv "$tmp/work" "$tmp/$mode/work"; fi
        rm -rf "$tmp/work"
    done
    compare_results
    say "no difference in $(find "$tmp/with/results" -type f | wc -l) results"
}

check_logs() {
    local found
    found=$(grep -rhE -m 1 -e "$complaints" "$logs" | head -n 1 || true)
    [ -z "$found" ] || fail "$found"
}

compare_results() {
    local files
    files=$(find "$tmp/without/results" -type f -size +0 | wc -l)
    [ "$files" -gt 0 ] || fail "the work left no results to compare"
    diff -rq "$tmp/without/results" "$tmp/with/results" >"$tmp/difference" && return
    cat "$tmp/difference"
    diff -r "$tmp/without/results" "$tmp/with/results" | cut -c 1-200 | head -n 20 || true
    fail "the results differ"
}
