#!/bin/bash
# The models of this folder, checked by spin in all their states. Each is right as the source is
# written, and each of the faults that can be put into it by -D is found: a model that finds no fault
# proves nothing. Takes half a minute on two processors, and 1.4 GiB.
set -u

source=${EBB_SRCDIR:-$(cd "$(dirname "$0")/../.." && pwd)}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
read -ra cc <<<"${CC:-gcc}"

if ! command -v spin >/dev/null; then
    echo "spin is not there (Debian: spin)"
    exit 77
fi
if ! command -v "${cc[0]}" >/dev/null; then
    echo "no C compiler: ${cc[0]}"
    exit 77
fi

at_once=2
names=()

# build MODEL COMPILER-OPTIONS DEFINE…: the checker of a model, in the folder where we are.
build()
{
    local model=$1 compiling defines
    read -ra compiling <<<"$2"
    shift 2
    defines=("${@/#/-D}")
    if ! spin -a -P"${cc[*]} -E -x c" "${defines[@]}" "$source/tests/model/$model.pml" >build.log 2>&1 ||
        ! "${cc[@]}" -w "${compiling[@]}" -DMEMLIM=1200 -o pan pan.c >>build.log 2>&1; then
        echo "FAILED: $model${*:+ $*}: does not compile"
        cat build.log
        return 1
    fi
}

# A search that came to a limit shows nothing.
is_whole()
{
    grep -q '^State-vector .* errors: 0$' "$1" &&
        ! grep -Eiq 'not completed|too small|out of memory|memlim|truncated' "$1"
}

# The lines of a model that were not run in any state, but for the ends of what has no end.
never_run()
{
    sed -n '/^unreached in proctype/,$p' "$1" | grep -E '^\s.*, state [0-9]+,' | grep -v -- '-end-'
}

# right MODEL DEFINE…: no state is wrong.
right()
{
    local model=$1 flags='-O2 -DSAFETY' limits='-m1000000 -w24' lines
    shift
    case " $model $* " in
    ' mailbox '*) flags+=' -DCOLLAPSE' ;;
    *' LIVE '*) flags='-O2 -DNFAIR=3' limits+=' -a -f' ;;
    esac
    build "$model" "$flags" "$@" || return
    # shellcheck disable=SC2086 # words are what is wanted
    ./pan $limits >out 2>&1
    if ! is_whole out; then
        echo "FAILED: $model${*:+ $*}: wrong, or not all states were seen"
        head -n 20 out
        [ ! -e "$model.pml.trail" ] ||
            spin -t -p -k "$model.pml.trail" -P"${cc[*]} -E -x c" "${@/#/-D}" \
                "$source/tests/model/$model.pml" 2>&1 | tail -n 60
        return 1
    fi
    if lines=$(never_run out); then
        echo "FAILED: $model${*:+ $*}: these lines were never run, so nothing is known of them"
        echo "$lines"
        return 1
    fi
    echo "right: $model${*:+ $*}: $(sed -n 's/^ *\([0-9]*\) states, stored.*/\1/p' out) states, all seen"
}

# fault MODEL WHAT DEFINE…: a wrong state is found, and WHAT is wrong there.
fault()
{
    local model=$1 what=$2 flags='-O0 -DSAFETY' limits='-m1000000 -w20'
    shift 2
    case " $* " in
    *' LIVE '*) flags='-O0 -DNFAIR=3' limits+=' -a -f' ;;
    esac
    build "$model" "$flags" "$@" || return
    # shellcheck disable=SC2086 # words are what is wanted
    ./pan $limits >out 2>&1
    if ! grep -q "^pan:1: $what" out; then
        echo "FAILED: $model $*: the fault is not found"
        head -n 20 out
        return 1
    fi
    echo "found: $model $*"
}

# check right|fault ARGUMENT…: in the background, some at once.
check()
{
    local name=${#names[@]}
    names+=("$name")
    while [ "$(jobs -rp | wc -l)" -ge "$at_once" ]; do
        wait -n
    done
    mkdir "$work/$name"
    (
        cd "$work/$name" || exit
        case $1 in
        right) right "${@:2}" ;;
        fault) fault "${@:2}" ;;
        esac >result && touch passed
        rm -f pan pan.?
    ) &
}

wrong='assertion violated'
stuck='invalid end state'
endless='acceptance cycle'

check right cache
check right mailbox

check right ending
check right ending LIVE THINGS=1
# On x86-64 the tick cannot come before the work, and that lock is not needed.
check right ending X86 KEPT_WITHOUT_LOCK
check fault ending "$wrong" KEPT_WITHOUT_LOCK
check fault ending "$wrong" FAILED_TRY_IS_RELAXED
check fault ending "$wrong" RELAXED_ENDING
check fault ending "$wrong" NO_LAST_LOOK
check fault ending "$wrong" LOOK_BEFORE_ENDING
check fault ending "$wrong" END_WITHOUT_COMPARING
check fault ending "$wrong" START_FORGETS_ENDING
check fault ending "$wrong" START_WITHOUT_WAITING
check fault ending "$endless" LIVE THINGS=1 NEVER_SWEPT

check right lock
check right lock SPURIOUS
check fault lock "$stuck" SLEEPER_TAKES_HELD
check fault lock "$stuck" SLEEP_WITHOUT_COMPARE
check fault lock "$stuck" NO_WAKE
check fault lock "$wrong" RELAXED_ACQUIRE
check fault lock "$wrong" RELAXED_RELEASE

check right lone
check fault lone "$wrong" NO_BARRIER
check fault lone "$wrong" LOOK_BEFORE_ENTERING
check fault lone "$wrong" RELAXED_LEAVE
check fault lone "$wrong" RELAXED_GO
check fault lone "$stuck" NO_WAKE

check fault cache "$wrong" NO_BARRIER
check fault cache "$wrong" BARRIER_FIRST
check fault cache "$wrong" NO_LOOK
check fault cache "$wrong" RELAXED_LOOK
check fault cache "$wrong" RELAXED_LEAVE
check fault cache "$wrong" RELAXED_OPEN
check fault cache "$wrong" RELAXED_BOUND
check fault cache "$wrong" BOUND_BEFORE_ENTER

check fault mailbox "$wrong" RESET_WITHOUT_CAS
check fault mailbox "$wrong" RELAXED_RESET
check fault mailbox "$wrong" RELAXED_SLOT
check fault mailbox "$wrong" RESERVE_WITHOUT_CAS
check fault mailbox "$wrong" PASS_EMPTY_SLOT
check fault mailbox "$wrong" NO_SECOND_LOOK
wait

failed=0
for name in "${names[@]}"; do
    cat "$work/$name/result"
    [ -e "$work/$name/passed" ] || failed=1
done
exit "$failed"
