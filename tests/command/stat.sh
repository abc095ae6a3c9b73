#!/bin/bash
# `ebb stat`: the figures of a live process from outside, against what the process holds, what it
# says of itself, and the kernel's books; every way in which it can fail is one line and a status.
# shellcheck source=tests/command/lib.sh
. "$EBB_SRCDIR/tests/command/lib.sh"

command -v python3 >/dev/null || skip "no python3 (Debian: python3)"
unset "${!EBBMALLOC_@}" LD_PRELOAD
ebb=$EBB_CMD
heap=$EBB_BUILDDIR/tests/command/known-heap
started=()
trap 'kill -9 "${started[@]}" 2>/dev/null || true; rm -rf "$scratch"' EXIT
mkfifo "$scratch/fifo"

# start NAME=VALUE…: the known heap, waiting; $pid is it.
start() {
    env LD_PRELOAD="$EBB_LIB" "$@" "$heap" waits >"$scratch/fifo" 2>"$scratch/said" &
    pid=$!
    started+=("$pid")
    read -r _ <"$scratch/fifo"
}

figures_are_those_of_the_program_and_of_the_kernel() {
    start EBBMALLOC_PURGE_SCHEDULE=manual
    expect_run 0 "$ebb" stat --json "$pid"
    python3 - "$scratch/out" "$pid" <<'END'
import json, re, sys
told = json.load(open(sys.argv[1]))
by_size = {c["bytes"]: c for c in told["classes"]}
for size, live in {3072: 1000, 704: 2000, 1408: 2000, 131072: 30, 65536: 1}.items():
    assert by_size[size]["live"] == live, (size, by_size[size])
assert told["live_huge_bytes"] == 15 << 20 and told["huge_blocks"] == 3
assert told["live_large_bytes"] == (30 * 128 + 224 + 64) << 10
small = sum(c["live"] * c["bytes"] for c in told["classes"] if c["bytes"] <= 32768)
assert small == told["live_small_bytes"]
waste = sum(c["waste_bytes"] for c in told["classes"])
assert waste == told["free_span_bytes"], (waste, told["free_span_bytes"])
assert sum(c["free"] for c in told["classes"]) == told["free_blocks"]
assert sum(a["spans"] for a in told["arena_list"]) == told["spans"]
out = sum(a["out_bytes"] for a in told["arena_list"])
aligned = 224 << 10
live_by_arena = sum(a["live_bytes"] for a in told["arena_list"])
assert live_by_arena == small + told["live_large_bytes"] - aligned, live_by_arena
assert out == small + told["live_large_bytes"] - aligned + told["cached_bytes"]
threads = {a["name"]: a for a in told["arena_list"]}
assert threads["known thread"]["thread"] != int(sys.argv[2])
assert threads["known-heap"]["thread"] == int(sys.argv[2])
# 2,000 blocks of 1,408 bytes and the table of 16 KiB; libc has got little for it.
assert 0 <= threads["known thread"]["live_bytes"] - (2000 * 1408 + (16 << 10)) < 4096
assert told["threads"] == 2 and told["damaged_records"] == 0
live = told["live_small_bytes"] + told["live_large_bytes"] + told["live_huge_bytes"]
resident = live + sum(told[f"{what}_bytes"] for what in
    ("cached", "free_span", "dirty", "lazy", "kept_huge"))
assert told["peak_out_bytes"] == live + told["cached_bytes"] # it has only grown
assert told["mapped_bytes"] == resident + told["hole_bytes"] + told["clean_bytes"] \
    + told["metadata_bytes"] + told["metadata_spare_bytes"]
# The program has touched all that it holds; what it never took out of a span need not be touched.
kernel = told["kernel_resident_bytes"] - told["kernel_metadata_bytes"]
assert live - (64 << 10) <= kernel <= resident, (live, kernel, resident)
smaps = open(f"/proc/{sys.argv[2]}/status").read()
assert told["resident_bytes"] == int(re.search(r"VmRSS:\s*(\d+)", smaps)[1]) * 1024
assert told["options"]["EBBMALLOC_PURGE_SCHEDULE"] == "manual"
END
}

# It writes the same page as the process itself, but for the figures that looking changes.
says_what_the_process_says() {
    local waited=0
    start EBBMALLOC_PURGE_SCHEDULE=manual EBBMALLOC_STATS_SIGNAL=USR1 \
        EBBMALLOC_STATS_FILE="$scratch/own"
    kill -USR1 "$pid"
    until grep -q EBBMALLOC_STATS_FILE "$scratch/own" 2>/dev/null; do
        sleep 0.02
        [ $((waited += 1)) -lt 500 ] || fail "no page in 10 s"
    done
    expect_run 0 "$ebb" stat "$pid"
    [ "$(wc -L <"$scratch/out")" -le 80 ] || fail "wider than 80 columns"
    for page in own out; do
        grep -vE 'resident, whole process|takeovers' "$scratch/$page" |
            sed "/^the kernel's books/,\$d" >"$scratch/$page.cut"
    done
    diff "$scratch/own.cut" "$scratch/out.cut" || fail "the pages differ (< its own, > from outside)"
    # Nothing about a terminal in it.
    ! grep -q $'\x1b' "$scratch/out" || fail "escapes in output that is no terminal's"
}

# Prometheus's own rules: https://prometheus.io/docs/instrumenting/exposition_formats
prometheus_text_can_be_collected() {
    start EBBMALLOC_PURGE_SCHEDULE=manual
    local one=$pid
    start EBBMALLOC_PURGE_SCHEDULE=manual
    # How much their caches hold depends on how fast they ran: each is compared with itself.
    for process in "$one" "$pid"; do "$ebb" stat --json "$process" >"$scratch/json.$process"; done
    expect_run 0 "$ebb" stat --prometheus "$one" "$pid"
    python3 - "$scratch/out" "$scratch/json" "$one" "$pid" <<'END'
import json, re, sys
seen, types, last = {}, {}, None
for line in open(sys.argv[1]):
    if line.startswith("#"):
        word, kind, name, rest = line.split(" ", 3)
        assert word == "#" and kind in ("HELP", "TYPE")
        if kind == "TYPE":
            assert name not in types and rest.strip() in ("gauge", "counter")
            types[name] = rest.strip()
            assert (types[name] == "counter") == name.endswith("_total"), name
        continue
    name, pid, size, value = re.fullmatch(
        r'([a-z_]+)\{pid="(\d+)",name="known-heap"(?:,bytes="(\d+)")?\} ([0-9.]+)\n', line).groups()
    assert name in types and (name, pid, size) not in seen
    assert last in (None, name) or name not in {n for n, _, _ in seen}, "a figure's samples together"
    assert (size is not None) == name.startswith("ebbmalloc_class_"), line
    seen[name, pid, size], last = float(value), name
for pid in sys.argv[3:]:
    told = json.load(open(f"{sys.argv[2]}.{pid}"))
    assert seen["ebbmalloc_live_huge_bytes", pid, None] == 15 << 20
    spans = [size for name, of, size in seen if (name, of) == ("ebbmalloc_class_spans", pid)]
    assert len(spans) == len(told["classes"]) > 5
    for of in told["classes"]:
        for figure in ("live", "cached", "free", "spans", "hole_bytes"):
            name = figure + ("_blocks" if figure in ("live", "cached", "free") else "")
            sample = seen[f"ebbmalloc_class_{name}", pid, str(of["bytes"])]
            assert sample == of[figure], (of, figure, sample)
END
    # All that are on the library; those that are not are passed over in silence.
    expect_run 0 "$ebb" stat --prometheus
    grep -q "^ebbmalloc_arenas{pid=\"$pid\",name=\"known-heap\"} 2\$" "$scratch/out" ||
        fail "not all processes are told, or not their arenas"
    expect "stderr" "$err" ''
}

waste_is_explained() {
    start EBBMALLOC_PURGE_SCHEDULE=manual
    expect_run 0 "$ebb" stat --why "$pid"
    [ "$(wc -L <"$scratch/out")" -le 80 ] || fail "wider than 80 columns"
    expect "places" "$(grep -c '^ *[0-9]* KiB' "$scratch/out")" 3
    grep -q "/proc/$pid/smaps" "$scratch/out" || fail "where the rest is to be seen is not told: $out"
    # 4.5 MiB of blocks, freed by a sleeping thread; 40 MiB of pages; and what a policy holds.
    cat >"$scratch/waste.py" <<'END'
import time
small = [bytes(1000) for _ in range(200000)]
kept = small[::40]
del small
print("ready", flush=True)
time.sleep(1000)
END
    PYTHONMALLOC=malloc LD_PRELOAD=$EBB_LIB EBBMALLOC_PURGE_SCHEDULE=manual \
        python3 "$scratch/waste.py" >"$scratch/fifo" &
    pid=$!
    started+=("$pid")
    read -r _ <"$scratch/fifo"
    expect_run 0 "$ebb" stat --why "$pid"
    expect "the largest place" "$(sed -n 2p "$scratch/out")" "*between blocks*"
    grep -q 'schedule is manual' "$scratch/out" || fail "the policy is not named: $out"
    kill "$pid"
}

# The purger makes what is told true: holes and free pages are gone, and why says what is left.
what_was_given_back_is_not_told_as_resident() {
    PYTHONMALLOC=malloc LD_PRELOAD=$EBB_LIB python3 "$scratch/waste.py" >"$scratch/fifo" &
    pid=$!
    started+=("$pid")
    read -r _ <"$scratch/fifo"
    sleep 2.5
    expect_run 0 "$ebb" stat --json "$pid"
    python3 - "$scratch/out" <<'END'
import json, sys
told = json.load(open(sys.argv[1]))
parts = sum(told[f"{what}_bytes"] for what in
    ("live_small", "live_large", "live_huge", "cached", "free_span", "dirty", "lazy", "kept_huge"))
kernel = told["kernel_resident_bytes"] - told["kernel_metadata_bytes"]
assert told["hole_bytes"] > 50 << 20, told["hole_bytes"]
assert told["hole_bytes"] == sum(c["hole_bytes"] for c in told["classes"])
assert told["hole_bytes"] == sum(a["hole_bytes"] for a in told["arena_list"])
# Fresh spans' blocks that nobody took yet are the difference.
assert kernel <= parts + (256 << 10) and parts - kernel < parts / 20 + (2 << 20), (kernel, parts)
END
    kill "$pid"
}

failures_are_one_line_and_a_status() {
    start EBBMALLOC_PURGE_SCHEDULE=manual
    expect_run 2 "$ebb" stat
    expect_complaint 'ebb: stat: one process id*'
    expect_run 2 "$ebb" stat 1x
    expect_complaint 'ebb: stat: 1x: not a process id'
    expect_run 2 "$ebb" stat 0
    expect_run 2 "$ebb" stat 99999999999999999999
    expect_run 2 "$ebb" stat "$pid" "$pid"
    expect_complaint 'ebb: stat: one process id*'
    expect_run 0 "$ebb" stat "$pid" --json
    expect "an option behind the process" "$out" "{*"
    expect_run 2 "$ebb" stat --xml "$pid"
    expect_complaint 'ebb: stat: --xml: no such option*'
    expect_run 3 "$ebb" stat 2147483647
    expect_complaint 'ebb: 2147483647: no such process'
    expect_run 5 "$ebb" stat $$
    expect_complaint "ebb: $$ (*): not on ebbmalloc*"
    # A zombie.
    expect_run 3 python3 -c 'import os, subprocess, sys
child = os.fork()
if child == 0: os._exit(0)
os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
sys.exit(subprocess.call([sys.argv[1], "stat", str(child)]))' "$ebb"
    expect_complaint 'ebb: *: the process has ended'
    # Another one of the same library, whose records are laid out in another way.
    python3 - "$EBB_LIB" "$scratch/other.so" <<'END'
import sys
data = bytearray(open(sys.argv[1], "rb").read())
place = data.index(b"ebbmalloc root\n\0") + 32
data[place] ^= 1
open(sys.argv[2], "wb").write(data)
END
    LD_PRELOAD=$scratch/other.so "$heap" waits >"$scratch/fifo" &
    started+=($!)
    read -r _ <"$scratch/fifo"
    expect_run 6 "$ebb" stat $!
    expect_complaint "ebb: $! (known-heap): runs on another build of ebbmalloc (*); use the ebb that*"
    if [ "$(id -u)" != 0 ] || ! command -v setpriv >/dev/null; then
        echo "not root, or no setpriv: another user's process not tested"
        return
    fi
    cp "$ebb" "$scratch/ebb"
    chmod 755 "$scratch" "$scratch/ebb"
    expect_run 4 setpriv --reuid=65534 --regid=65534 --clear-groups "$scratch/ebb" stat "$pid"
    expect_complaint "ebb: $pid (known-heap): not allowed to read its memory*"
}

# What the process says of itself is not trusted: it is shown without what a terminal would obey.
a_hostile_version_is_shown_tame() {
    python3 - "$EBB_LIB" "$scratch/other.so" <<'END'
import sys
data = bytearray(open(sys.argv[1], "rb").read())
place = data.index(b"ebbmalloc root\n\0") + 16
data[place:place + 16] = b'1"\\\x1b]0;x\a\n'.ljust(16, b"\0")
open(sys.argv[2], "wb").write(data)
END
    LD_PRELOAD=$scratch/other.so "$heap" waits >"$scratch/fifo" &
    started+=($!)
    read -r _ <"$scratch/fifo"
    expect_run 0 "$ebb" stat $!
    [ "$(head -n 1 "$scratch/out")" = "ebbmalloc 1\"\\?]0;x??, process $! (known-heap)" ] ||
        fail "shown: $(head -n 1 "$scratch/out" | cat -v)"
    expect_run 0 "$ebb" stat --json $!
    python3 -c 'import json, sys
assert json.load(open(sys.argv[1]))["version"] == "1\"\\?]0;x??"' "$scratch/out"
}

# The kernel lists a user's groups in /proc/PID/status before all else that is looked for there.
a_user_in_many_groups_is_read_to_the_end() {
    if [ "$(id -u)" != 0 ]; then
        echo "not root: a user in many groups not tested"
        return
    fi
    python3 -c 'import os, sys
os.setgroups(range(100000, 102000))
os.execve(sys.argv[2], sys.argv[2:], dict(os.environ, LD_PRELOAD=sys.argv[1]))' \
        "$EBB_LIB" "$heap" waits >"$scratch/fifo" &
    started+=($!)
    read -r _ <"$scratch/fifo"
    expect_run 0 "$ebb" stat --json $!
    python3 -c 'import json, sys
told = json.load(open(sys.argv[1]))
assert told["resident_bytes"] > 15 << 20 and told["threads"] >= 2, told
assert told["damaged_records"] == 0' "$scratch/out"
}

# Its threads know themselves by other ids than we see.
threads_of_a_container_have_names() {
    if ! unshare -pf --mount-proc true 2>/dev/null; then
        echo "no process ids of its own to be had: a container not tested"
        return
    fi
    EBBMALLOC_PURGE_SCHEDULE=manual unshare -pf --mount-proc --kill-child \
        env LD_PRELOAD="$EBB_LIB" "$heap" waits >"$scratch/fifo" &
    started+=($!)
    read -r _ <"$scratch/fifo"
    pid=$(tr -d ' ' <"/proc/$!/task/$!/children")
    expect_run 0 "$ebb" stat --json "$pid"
    python3 - "$scratch/out" <<'END'
import json, sys
told = json.load(open(sys.argv[1]))
assert {a["name"]: a["thread"] for a in told["arena_list"] if a["thread"]} == \
    {"known-heap": 1, "known thread": 2}, told["arena_list"]
END
    expect_run 0 "$ebb" stat "$pid"
    grep -q '^ *2 known thread ' "$scratch/out" || fail "no name: $out"
}

# A fork closes all caches and holds all locks; none of that shows. Children are told as well, or end
# meanwhile.
forks_do_not_show() {
    env LD_PRELOAD="$EBB_LIB" EBBMALLOC_PURGE_SCHEDULE=manual "$heap" "forks on" >"$scratch/fifo" &
    pid=$!
    started+=("$pid")
    read -r _ <"$scratch/fifo"
    python3 - "$ebb" "$pid" <<'END'
import json, subprocess, sys
def look(pid):
    return subprocess.run([sys.argv[1], "stat", "--json", str(pid)], capture_output=True, text=True)
first, children = json.loads(look(sys.argv[2]).stdout), 0
blocks = {c["bytes"]: c["live"] for c in first["classes"]}
assert blocks[3072] == 1000 and blocks[704] == 2000, blocks
keys = [key for key in first if key.startswith(("live_", "cached_", "free_", "arenas", "spans"))]
for i in range(1000):
    done = look(sys.argv[2])
    assert done.returncode == 0 and done.stderr == "", (done.returncode, done.stderr)
    told = json.loads(done.stdout)
    assert told["damaged_records"] == 0, told["damaged_records"]
    assert told["classes"] == first["classes"], (i, told["classes"], first["classes"])
    assert all(told[key] == first[key] for key in keys), [(k, told[k], first[k]) for k in keys]
    if i % 4 == 0:
        child = open(f"/proc/{sys.argv[2]}/task/{sys.argv[2]}/children").read().strip()
        done = look(child) if child else None
        if done is None or done.returncode != 0:
            assert done is None or done.returncode == 3 and done.stderr.count("\n") == 1, done
            continue
        children += 1
        live = {c["bytes"]: c["live"] for c in json.loads(done.stdout)["classes"]}
        assert live[3072] == 1000 and 2000 <= live[704] <= 2020, live
print(children, "children told")
END
    kill -9 "$pid"
}

# What is live by arena is made of the same records as what is live in all, and of the blocks in
# caches, whichever arena's they are.
arenas_add_up_while_threads_trade() {
    env LD_PRELOAD="$EBB_LIB" EBBMALLOC_PURGE_SCHEDULE=manual "$heap" trades >"$scratch/fifo" &
    pid=$!
    started+=("$pid")
    read -r _ <"$scratch/fifo"
    python3 - "$ebb" "$pid" <<'END'
import json, subprocess, sys
clear = 0
for _ in range(30):
    told = json.loads(subprocess.check_output([sys.argv[1], "stat", "--json", sys.argv[2]]))
    # One that has taken over spans of others since its own record was read has too few blocks out.
    if any(a["live_bytes"] == 0 and a["out_bytes"] != 0 for a in told["arena_list"]):
        continue
    clear += 1
    by_arena = sum(a["live_bytes"] for a in told["arena_list"])
    apart = abs(by_arena - told["live_small_bytes"] - told["live_large_bytes"])
    # A block, none larger than that, may lie in a span that is being made, and is not told.
    assert apart <= told["damaged_records"] * 4096, (apart, told["damaged_records"])
assert clear > 10, clear
END
    kill -9 "$pid"
}

# A process that dies midway, again and again: a page or one line, never a fault.
a_process_that_ends_midway_does_no_harm() {
    local i status
    for i in $(seq 40); do
        env LD_PRELOAD="$EBB_LIB" "$heap" waits >"$scratch/fifo" &
        pid=$!
        read -r _ <"$scratch/fifo"
        (sleep "0.00$((i % 10))"; kill -9 "$pid") &
        status=0
        "$ebb" stat --json "$pid" >"$scratch/out" 2>"$scratch/err" || status=$?
        case $status in 0 | 3) ;; *) fail "exit status $status: $(<"$scratch/err")" ;; esac
        [ "$(wc -l <"$scratch/err")" -le 1 ] || fail "more than a line: $(<"$scratch/err")"
        wait "$pid" 2>/dev/null || true
    done
}

# Somebody else's hands in the process's records: every pointer and count replaced in turn by what
# leads nowhere, in a circle, or far. The time and memory that ebb may take are bounded.
hostile_records_do_no_harm() {
    start EBBMALLOC_PURGE_SCHEDULE=manual
    python3 "$EBB_SRCDIR/tests/command/hostile.py" "$pid" "$EBB_LIB" "$ebb" "$scratch/map.html" ||
        fail "ebb stumbled over what it read"
}

# 4 GiB and 500 threads within 200 ms. The best of some: the machine has other things to do. Without
# sweeps, since records that change while they are read are not counted.
a_large_process_is_told_soon() {
    local best=1000000 begin took
    env LD_PRELOAD="$EBB_LIB" EBBMALLOC_PURGE_SCHEDULE=manual "$heap" large >"$scratch/fifo" &
    pid=$!
    started+=("$pid")
    read -r _ <"$scratch/fifo"
    for option in '' '' '' --json --why; do
        begin=$(date +%s%N)
        # shellcheck disable=SC2086 # no option is no argument
        expect_run 0 "$ebb" stat $option "$pid"
        took=$((($(date +%s%N) - begin) / 1000000))
        echo "ebb stat $option: $took ms"
        [ "$took" -ge "$best" ] || best=$took
    done
    [ "$best" -lt 200 ] || fail "ebb stat took $best ms at best"
    expect_run 0 "$ebb" stat "$pid"
    [ "$(wc -L <"$scratch/out")" -le 80 ] || fail "wider than 80 columns"
    expect_run 0 "$ebb" stat --json "$pid"
    python3 - "$scratch/out" <<'END' || fail "not what it holds"
import json, sys
told = json.load(open(sys.argv[1]))
assert told["threads"] >= 501 and told["arenas"] == 501, (told["threads"], told["arenas"])
assert told["damaged_records"] == 0, told["damaged_records"]
assert 4000 << 20 < told["live_small_bytes"] < 4500 << 20, told["live_small_bytes"]
END
    kill "$pid"
}

# Before Linux 6.7 there is another way to ask which pages are resident. It says the same.
older_kernels_are_asked_in_another_way() {
    echo 'int ioctl(int file, unsigned long request, ...) { return -1; }' >"$scratch/older.c"
    ${CC:-cc} -shared -fPIC -o "$scratch/older.so" "$scratch/older.c"
    start EBBMALLOC_PURGE_SCHEDULE=manual
    expect_run 0 "$ebb" stat --json "$pid"
    grep resident_bytes <<<"$out" >"$scratch/told"
    grep -q '"kernel_resident_bytes": [0-9][0-9]' "$scratch/told" || fail "not told: $(<"$scratch/told")"
    expect_run 0 env LD_PRELOAD="$scratch/older.so" "$ebb" stat --json "$pid"
    diff "$scratch/told" - <<<"$(grep resident_bytes <<<"$out")" || fail "not the same"
    kill "$pid"
}

# A thread that maps memory waits while the kernel reads the process's memory for ebb, and must get
# in between.
no_thread_is_held_for_long() {
    python3 "$EBB_SRCDIR/tests/command/held.py" "$EBB_LIB" "$heap" "$ebb" ||
        fail "threads are held while ebb reads"
}

for test in $(compgen -A function | grep _); do
    case $test in expect_*) continue ;; esac
    printf '%s\n' "$test"
    "$test"
done
