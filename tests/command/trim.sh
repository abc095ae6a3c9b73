#!/bin/bash
# `ebb trim`: what is free in a running process goes back when it is asked for from outside: by the
# purger of a process that sleeps, by the next slow path of one that does not, by the thread of a
# signal; and where nobody can, that is what it says.
# shellcheck source=tests/command/lib.sh
. "$EBB_SRCDIR/tests/command/lib.sh"

command -v python3 >/dev/null || skip "no python3 (Debian: python3)"
unset "${!EBBMALLOC_@}" LD_PRELOAD
ebb=$EBB_CMD
pid=
trap '[ -z "$pid" ] || kill "$pid" 2>/dev/null || true; rm -rf "$scratch"' EXIT
mkfifo "$scratch/fifo"

# Frees some 40 MiB and sleeps, or, with an argument, goes on with a block now and then.
cat >"$scratch/holds.py" <<'END'
import os, signal, sys, time
if "NO_HANDLER" in os.environ:
    signal.signal(signal.SIGUSR1, signal.SIG_DFL)
held = [bytes(3000) for _ in range(13000)]
large = [bytes(300000) for _ in range(20)]
del held, large
print("ready", flush=True)
while True:
    if len(sys.argv) > 1:
        some = [bytes(5000) for _ in range(400)]
    time.sleep(0.05 if len(sys.argv) > 1 else 1000)
END

# Waited for: its id may soon be another one's.
end() {
    [ -z "$pid" ] || kill "$pid" 2>/dev/null || true
    [ -z "$pid" ] || wait "$pid" 2>/dev/null || true
    pid=
}

# start NAME=VALUE… [-- ARGUMENT]
start() {
    local variables=()
    while [ $# -gt 0 ] && [ "$1" != -- ]; do variables+=("$1") && shift; done
    shift || true
    end
    env PYTHONMALLOC=malloc LD_PRELOAD="$EBB_LIB" "${variables[@]}" \
        python3 "$scratch/holds.py" "$@" >"$scratch/fifo" 2>"$scratch/said" &
    pid=$!
    read -r _ <"$scratch/fifo"
}

resident() { awk '/^VmRSS/ { print $2 }' "/proc/$pid/status"; }

expect_trimmed() {
    local before after
    before=$(resident)
    expect_run 0 "$ebb" trim "$pid"
    after=$(resident)
    expect "what it says" "$out" "$pid (python3): [0-9]* KiB given back after [0-9]* ms; resident *"
    [ $((before - after)) -gt 30000 ] || fail "$1: resident $before KiB, then $after KiB; $out"
    local told=${out#*: }
    told=${told%% *}
    # shellcheck disable=SC2015 # both must hold
    # As the kernel counts them; more went with the caches' own memory, and a busy one takes some back.
    [ "$told" -le $((before - after + 6144)) ] && [ "$told" -ge $((before - after - 4096)) ] ||
        fail "$1: $told KiB are told, $((before - after)) KiB are gone"
}

a_sleeper_is_trimmed_by_the_purger() {
    start EBBMALLOC_PURGE_DELAY=600000
    expect_trimmed "a sleeper with a purger"
}

one_that_is_awake_is_trimmed_by_a_slow_path() {
    start EBBMALLOC_PURGE_SCHEDULE=manual -- busy
    expect_trimmed "a busy one without a purger"
}

a_sleeper_with_a_signal_is_trimmed_by_its_thread() {
    start EBBMALLOC_PURGE_SCHEDULE=manual EBBMALLOC_STATS_SIGNAL=USR2
    expect_trimmed "a sleeper with a signal"
    expect "what the process said" "$(<"$scratch/said")" '' # no page: that was not asked for
}

a_sleeper_whom_nobody_wakes_is_named() {
    start EBBMALLOC_PURGE_SCHEDULE=manual
    local before
    before=$(resident)
    expect_run 7 "$ebb" trim --wait 1 "$pid"
    expect_complaint "ebb: $pid (python3): it sleeps and has no thread that could; [0-9]* KiB could go*"
    [ $((before - $(resident))) -lt 1000 ] || fail "it was trimmed all the same"
    # A signal that would end the process, which took the handler away, is not sent.
    start EBBMALLOC_PURGE_SCHEDULE=manual EBBMALLOC_STATS_SIGNAL=USR1 NO_HANDLER=1
    expect_run 7 "$ebb" trim --wait 1 "$pid"
    kill -0 "$pid" || fail "it was ended by the signal"
}

# After a request that was taken back, nothing is done when the process wakes.
a_request_that_nobody_answered_is_taken_back() {
    cat >"$scratch/later.py" <<'END'
import time
held = [bytes(3000) for _ in range(13000)]
del held
print("ready", flush=True)
time.sleep(2.5)
for _ in range(20):
    some = [bytes(5000) for _ in range(400)]
print("ready", flush=True)
time.sleep(1000)
END
    end
    env PYTHONMALLOC=malloc LD_PRELOAD="$EBB_LIB" EBBMALLOC_PURGE_SCHEDULE=manual \
        python3 "$scratch/later.py" >"$scratch/fifo" &
    pid=$!
    exec 3<"$scratch/fifo"
    read -r _ <&3
    expect_run 7 "$ebb" trim --wait 1 "$pid"
    read -r _ <&3
    exec 3<&-
    expect_run 0 "$ebb" stat --prometheus "$pid"
    grep -q '^ebbmalloc_sweeps_total.* 0$' "$scratch/out" || fail "it was trimmed when it woke"
}

# It was the parent who was asked: the child, which has the request in its memory, does not answer.
a_child_does_not_answer_for_its_parent() {
    local child asked status=0
    end
    env LD_PRELOAD="$EBB_LIB" EBBMALLOC_PURGE_SCHEDULE=manual \
        "$EBB_BUILDDIR/tests/command/known-heap" family >"$scratch/fifo" &
    pid=$!
    exec 3<"$scratch/fifo"
    read -r _ <&3
    "$ebb" trim --wait 3 "$pid" >"$scratch/asked" 2>&1 &
    asked=$!
    sleep 1
    kill -USR1 "$pid"
    read -r -t 20 _ child <&3 || fail "the child hangs"
    exec 3<&-
    "$ebb" stat --prometheus "$child" >"$scratch/child"
    kill "$child"
    grep -q '^ebbmalloc_sweeps_total.* 0$' "$scratch/child" || fail "the child swept"
    wait "$asked" || status=$?
    expect "status of ebb trim" "$status" 7
    expect_run 0 "$ebb" stat --prometheus "$pid"
    grep -q '^ebbmalloc_sweeps_total.* 0$' "$scratch/out" || fail "the parent swept in its sleep"
}

top_lists_them() {
    start EBBMALLOC_PURGE_SCHEDULE=manual
    expect_run 0 "$ebb" top
    [ "$(wc -L <"$scratch/out")" -le 80 ] || fail "wider than 80 columns"
    ! grep -q $'\x1b' "$scratch/out" || fail "escapes in output that is no terminal's"
    local name megabytes
    read -r _ name megabytes _ < <(grep "^ *$pid " "$scratch/out") || fail "it is not listed: $out"
    expect "name" "$name" python3
    # To a tenth of a MiB.
    awk -v told="${megabytes%M}" -v kib="$(resident)" \
        'BEGIN { d = told * 1024 - kib; exit !(d < 512 && d > -512) }' ||
        fail "resident $megabytes, by the kernel $(resident) KiB"
    grep "^ *$pid " "$scratch/out" | grep -qE ' [34][0-9]\.[0-9]M ' || fail "nothing is returnable: $out"
    # A second look tells what went in between.
    ("$ebb" top -d 1 -n 2 >"$scratch/looks") &
    sleep 0.5
    start EBBMALLOC_PURGE_DELAY=600000
    wait %1 2>/dev/null || true
    ("$ebb" top -d 2 -n 2 >"$scratch/looks") &
    local looks=$!
    sleep 0.7
    "$ebb" trim "$pid" >"$scratch/out"
    wait "$looks"
    grep "^ *$pid " "$scratch/looks" | tail -n 1 | grep -qE '[KM][v↓] .*[0-9]+(\.[0-9])?M +[0-9.]+M +[0-9]+$' ||
        fail "no arrow or no rate: $(grep "^ *$pid " "$scratch/looks")"
    expect_run 2 "$ebb" top --sort beauty
    expect_complaint 'ebb: top: --sort beauty: not understood*'
    expect_run 2 "$ebb" top -n 0
    expect_run 2 "$ebb" top -d
}

# On a terminal: in place, with keys; coloured unless NO_COLOR says no; left as it was found.
top_behaves_on_a_terminal() {
    python3 - "$ebb" "$pid" <<'END' || fail "top misbehaves on a terminal"
import os, pty, re, select, sys, termios, time
def run(environment, keys):
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(sys.argv[1], [sys.argv[1], "top"], {**os.environ, **environment})
    text, keys = b"", list(keys)
    end = time.time() + 20
    while time.time() < end:
        if select.select([terminal], [], [], 0.3)[0]:
            try: text += os.read(terminal, 65536)
            except OSError: break
        elif keys: os.write(terminal, keys.pop(0))
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), text.decode()
status, text = run({"TERM": "xterm"}, [b"i", b"q"])
assert status == 0 and sys.argv[2] in text
assert text.count("\x1b[?1049h") == text.count("\x1b[?1049l") == 1, "the screen is not given back"
assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 1, "the cursor is not given back"
assert "\x1b[1m" in text and "(q)uit" in text
for line in re.split(r"\n|\x1b\[H", text.replace("\r", "")):
    wide = len(re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", line))
    # Clearing to the end of the line takes the 80th column on some terminals.
    assert wide < 80 or wide == 80 and not line.endswith("\x1b[K"), line
status, text = run({"TERM": "xterm", "NO_COLOR": "1"}, [b"\x03"])
assert status == 0 and "\x1b[1m" not in text and "\x1b[31m" not in text and "\x1b[32m" not in text
assert text.count("\x1b[?1049l") == 1
END
}

top_is_stopped_and_continued() {
    python3 "$EBB_SRCDIR/tests/command/terminal.py" "$ebb" || fail "top misbehaves as a job"
}

trim_refuses_what_it_does_not_understand() {
    expect_run 2 "$ebb" trim
    expect_run 2 "$ebb" trim --wait soon 1
    expect_complaint 'ebb: trim: --wait soon: seconds from 0 to 3600 are expected'
    expect_run 2 "$ebb" trim --fast 1
    expect_run 3 "$ebb" trim 2147483647
    expect_run 5 "$ebb" trim $$
}

for test in $(compgen -A function | grep _); do
    case $test in expect_*) continue ;; esac
    printf '%s\n' "$test"
    "$test"
done
