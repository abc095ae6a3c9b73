#!/bin/bash
# The page of statistics: malloc_stats, at exit, by a signal, to a file; its figures against what a
# program is known to hold; and that they add up.
# shellcheck source=tests/command/lib.sh
. "$EBB_SRCDIR/tests/command/lib.sh"

unset "${!EBBMALLOC_@}" LD_PRELOAD
sleeper=
trap '[ -z "$sleeper" ] || kill "$sleeper" 2>/dev/null || true; rm -rf "$scratch"' EXIT

known=(env LD_PRELOAD="$EBB_LIB" EBBMALLOC_PURGE_SCHEDULE=manual)
heap=$EBB_BUILDDIR/tests/command/known-heap

# kib LABEL: a total of the page in $page.
kib() { sed -n "s/^  $1  *\([0-9][0-9]*\) KiB.*/\1/p" <<<"$page" | head -n 1; }

# class BYTES: "live cached free spans" of a size class.
class() { awk -v size="$1" 'NF == 7 && $1 == size && $2 ~ /^[0-9]+$/ { print $2, $3, $4, $5 }' <<<"$page"; }

figures_are_those_of_the_program() {
    expect_run 0 "${known[@]}" EBBMALLOC_STATS=exit "$heap"
    page=$err
    expect "title" "${page%%$'\n'*}" "ebbmalloc [0-9]*.[0-9]*.[0-9]*, process [0-9]* (known-heap)"
    [ "$(wc -L <"$scratch/err")" -le 80 ] || fail "the page is wider than 80 columns"
    # 1,000 blocks of 3,000 bytes are of the class of 3,072.
    expect "blocks of 3072 bytes" "$(class 3072)" "1000 *"
    expect "blocks of 704 bytes" "$(class 704)" "2000 *"
    read -r live cached free spans < <(class 704)
    # A span of 32 KiB holds 46 of them: nothing is lost but what is in one of the four places.
    [ $((live + cached + free)) = $((spans * 46)) ] || fail "704: $live + $cached + $free in $spans"
    expect "blocks of 128 KiB" "$(class 131072)" "30 0 0 30"
    expect "huge" "$(kib 'live, huge blocks')" 15360
    # 30 of 128 KiB, 200 KiB in whole pages of 32, and the table of 5,000 pointers.
    expect "large" "$(kib 'live, large blocks')" $((30 * 128 + 224 + 64))
}

# Blocks that a thread brings back to its own spans are not told as others'. (Without a cache every
# block is brought back.)
one_thread_frees_nothing_elsewhere() {
    expect_run 0 "${known[@]}" EBBMALLOC_THREAD_CACHE=0 EBBMALLOC_STATS=exit "$heap"
    expect "blocks freed elsewhere" "$err" *'  blocks freed elsewhere '*' 0 '*'by a thread not their owner'*
    expect "cached" "$err" *'cached by threads '*' 0 KiB '*
}

parts_make_the_whole() {
    local part sum=0 all
    for part in 'live, small blocks' 'live, large blocks' 'live, huge blocks' 'cached by threads' \
        'free in spans' 'holes in spans, given back' 'free pages, resident' \
        'free, left to the kernel' 'free pages, given back' 'huge mappings, kept' metadata \
        'metadata, spare'; do
        [ -n "$(kib "$part")" ] || fail "no line for $part"
        sum=$((sum + $(kib "$part")))
    done
    all=$(kib mapped)
    # shellcheck disable=SC2015 # both must hold
    # Each was rounded down to whole KiB.
    [ "$sum" -le "$all" ] && [ $((sum + 12)) -ge "$all" ] || fail "the parts make $sum KiB of $all"
    # By class: the small ones' live blocks are the total, and their waste is what is free in spans.
    awk -v live="$(kib 'live, small blocks')" -v free="$(kib 'free in spans')" '
        NF == 7 && $1 $2 ~ /^[0-9]+$/ && $1 <= 32768 { bytes += $1 * $2; waste += $6; classes++ }
        END { if (classes < 3 || int(bytes / 1024) != live) exit 1
              if (waste > free || waste + classes < free) exit 2 }' <<<"$page" ||
        fail "the classes do not make the totals of live and free"
}

# Looks at growth see all but a thirty-second of it; sweeps, where the purger makes them, no more
# than there is.
the_peak_of_what_was_live_is_told() {
    local most=$((64 << 10)) schedule seen
    for schedule in manual idle; do
        expect_run 0 env LD_PRELOAD="$EBB_LIB" EBBMALLOC_PURGE_SCHEDULE=$schedule \
            EBBMALLOC_STATS=exit "$heap" tide
        page=$err
        seen=$(kib 'live or cached')
        # shellcheck disable=SC2015 # both must hold
        [ "$seen" -ge $((most - most / 32 - 2048)) ] && [ "$seen" -le $((most + 512)) ] ||
            fail "$schedule: of $most KiB, $seen were seen"
        [ "$(kib 'live, small blocks')" -lt $((most / 8)) ] || fail "it was still live at the end"
    done
}

a_signal_wakes_a_sleeper_who_tells_his_threads() {
    local pid
    mkfifo "$scratch/fifo"
    "${known[@]}" EBBMALLOC_STATS_SIGNAL=USR1 EBBMALLOC_STATS_FILE="$scratch/page" \
        "$heap" sleeps >"$scratch/fifo" &
    pid=$! sleeper=$!
    read -r _ <"$scratch/fifo"
    kill -USR1 "$pid"
    await "a page" grep -q EBBMALLOC_STATS_FILE "$scratch/page"
    kill -0 "$pid" || fail "the signal ended the program"
    page=$(<"$scratch/page")
    expect "blocks of 1408 bytes" "$(class 1408)" "2000 *"
    # 2,000 blocks of 1,408 bytes and a table of 16 KiB are out of its own spans.
    awk '/ known thread / { if ($4 < 2766 || $4 > 2900) exit 1; found = 1 } END { exit !found }' \
        <<<"$page" || fail "no arena of the thread, or not with what it holds"
    grep -q '^  EBBMALLOC_STATS_SIGNAL *USR1$' <<<"$page" || fail "the option is not shown"
    expect "mode of the file" "$(stat -c %a "$scratch/page")" 600
    # Once more, to the same file; no thread is left behind.
    kill -USR1 "$pid"
    has_second_page() { [ "$(grep -c EBBMALLOC_STATS_FILE "$scratch/page")" = 2 ]; }
    has_no_writer() { ! grep -q ebb-stats /proc/"$pid"/task/*/comm; }
    await "a second page" has_second_page
    await "the end of its thread" has_no_writer
    sleeper=
    kill "$pid"
    wait "$pid" || true
}

# The handler comes upon malloc with its locks held, again and again, and upon forks.
signals_in_the_middle_of_malloc_do_no_harm() {
    local pid
    cat >"$scratch/busy.py" <<'END'
import os, sys, threading, time
open(sys.argv[1], "w").close()
end = time.time() + 3
def churn():
    while time.time() < end:
        [bytes(i * 37 % 5000) for i in range(3000)]
threads = [threading.Thread(target=churn) for _ in range(int(os.environ["THREADS"]))]
for t in threads: t.start()
while time.time() < end:
    [bytes(i * 37 % 5000) for i in range(3000)]
    child = os.fork()
    if child == 0:
        x = [bytes(i) for i in range(3000)]
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
for t in threads: t.join()
END
    for threads in 0 2; do
        rm -f "$scratch/many" "$scratch/began"
        THREADS=$threads PYTHONMALLOC=malloc LD_PRELOAD=$EBB_LIB EBBMALLOC_STATS_SIGNAL=USR2 \
            EBBMALLOC_STATS_FILE=$scratch/many python3 "$scratch/busy.py" "$scratch/began" 2>"$scratch/said" &
        pid=$!
        await "python, with the library's handler" [ -e "$scratch/began" ]
        while kill -USR2 "$pid" 2>/dev/null; do sleep 0.003; done
        wait "$pid" || fail "with $threads more threads: exit status $?"
        ! grep ebbmalloc "$scratch/said" || fail "something was said on stderr"
        [ "$(grep -c '^ebbmalloc' "$scratch/many")" -gt 5 ] || fail "hardly any page was written"
    done
}

# In a process of one thread a fork takes no locks: the writer must not hold any then.
forks_do_not_come_upon_the_writer() {
    EBBMALLOC_STATS_SIGNAL=USR2 EBBMALLOC_STATS_FILE=/dev/null LD_PRELOAD=$EBB_LIB \
        expect_run 0 "$heap" forks
}

a_place_that_is_none_is_one_line() {
    LD_PRELOAD=$EBB_LIB EBBMALLOC_STATS=exit EBBMALLOC_STATS_FILE=/no/such/place expect_run 0 /bin/true
    expect_complaint 'ebbmalloc: EBBMALLOC_STATS_FILE=/no/such/place: cannot be written'
    LD_PRELOAD=$EBB_LIB EBBMALLOC_STATS=always expect_run 0 /bin/true
    expect_complaint 'ebbmalloc: EBBMALLOC_STATS=always: expected off or exit, using default off'
}

# A program may use the number of a stderr that it has closed for its data.
a_file_in_the_place_of_stderr_is_left_alone() {
    command -v python3 >/dev/null || return 0
    "${known[@]}" EBBMALLOC_STATS=exit python3 -c 'import os, sys
os.close(2)
assert os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT) == 2' "$scratch/data" 2>/dev/null
    [ ! -s "$scratch/data" ] || fail "a page in the data of a program"
    "${known[@]}" EBBMALLOC_STATS=exit EBBMALLOC_STATS_FILE="$scratch/page-at-exit" \
        python3 -c 'import os; os.close(2)' 2>/dev/null
    grep -q '^ebbmalloc .*process' "$scratch/page-at-exit" || fail "no page in the file"
}

# Nor does the page decide how the program ends.
a_page_that_cannot_be_written_ends_nobody() {
    command -v python3 >/dev/null || return 0
    local status=0
    "${known[@]}" EBBMALLOC_STATS=exit python3 -c 'import os, signal, sys
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
from_here, into = os.pipe()
os.close(from_here)
if os.fork() == 0:
    os.dup2(into, 2)
    os.execl(sys.executable, "python3", "-c", "import signal as s; s.signal(s.SIGPIPE, s.SIG_DFL)")
assert os.wait()[1] == 0' 2>"$scratch/err" || status=$?
    [ "$status" = 0 ] || fail "nobody reads its stderr: $(head -n 3 "$scratch/err")"
    (
        ulimit -f 0
        "${known[@]}" EBBMALLOC_STATS=exit "$heap" 2>"$scratch/err"
    ) || status=$?
    [ "$status" = 0 ] || fail "no room in a file: exit status $status"
}

xml_is_well_formed_and_says_the_same() {
    command -v python3 >/dev/null || { echo "no python3: malloc_info not compared" && return; }
    expect_run 0 "${known[@]}" python3 - "$scratch/xml" <<'END'
import ctypes, sys, xml.etree.ElementTree as tree
libc = ctypes.CDLL(None)
libc.fopen.restype = ctypes.c_void_p
stream = ctypes.c_void_p(libc.fopen(sys.argv[1].encode(), b"w"))
assert libc.malloc_info(0, stream) == 0
libc.fclose(stream)
root = tree.parse(sys.argv[1]).getroot()
def number(element, name): return int(root.find(element).get(name))
free = root.find("free").attrib
whole = number("system", "mapped")
parts = sum(int(v) for v in root.find("live").attrib.values()) + sum(int(v) for v in free.values())
parts += number("system", "metadata") + number("system", "spare")
assert parts == whole, (parts, whole)
classes = root.find("classes")
small = sum(int(c.get("size")) * int(c.get("live")) for c in classes if int(c.get("size")) <= 32768)
assert small == number("live", "small"), (small, number("live", "small"))
assert sum(int(c.get("free")) for c in classes) == number("blocks", "free")
assert sum(int(a.get("spans")) for a in root.find("arenas")) == number("arenas", "spans")
out = sum(int(a.get("out")) for a in root.find("arenas"))
assert out >= small + number("free", "cached")
live = sum(int(a.get("live")) for a in root.find("arenas"))
own = sum(int(a.get("cached")) for a in root.find("arenas"))
assert live == out - own, (live, out, own)
END
}

for test in $(compgen -A function | grep _); do
    case $test in expect_*) continue ;; esac
    printf '%s\n' "$test"
    "$test"
done
