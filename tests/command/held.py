"""How often a thread of a process is held for longer than a millisecond while ebb looks.

held.py LIBRARY HEAP EBB [LOOKS]: the process (known-heap.c, "maps") has 500 threads, 4 GiB in
small blocks, and one thread that needs the kernel's lock of its memory all the time. Beside it run
another one of the same kind, stopped, at which ebb looks in turn, and where ebb may go before
others (CAP_SYS_NICE), one that only takes a processor. Fails when threads are held more often than
in a quarter of the looks, in each try of some; where ebb may not, more often than once a look: that
depends on what else the machine does."""

import os
import signal
import subprocess
import sys

TRIES = 3

library, heap, ebb = sys.argv[1:4]
looks = int(sys.argv[4]) if len(sys.argv) > 4 else 20
environment = dict(os.environ, LD_PRELOAD=library, EBBMALLOC_PURGE_SCHEDULE="manual")
pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)


def may_go_first():
    usual = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    except OSError:
        return False
    os.sched_setscheduler(0, *usual)
    return True


def held(process):
    process.stdin.write("\n")
    process.stdin.flush()
    return int(process.stdout.readline())


def held_while_looking_at(process, mapping):
    before = held(mapping)
    subprocess.run([ebb, "stat", str(process.pid)], stdout=subprocess.DEVNULL, check=True)
    return held(mapping) - before


def is_held(mapping, other, bound):
    here = elsewhere = 0
    for _ in range(looks):
        elsewhere += held_while_looking_at(other, mapping)
        here += held_while_looking_at(mapping, mapping)
    print(f"{looks} looks: over 1 ms {here} times, {elsewhere} times when they went elsewhere")
    return here > elsewhere + bound


def main():
    goes_first = may_go_first()
    started = [subprocess.Popen([heap, "maps"], **pipes) for _ in range(2)]
    try:
        for process in started:
            assert process.stdout.readline() == "ready\n"
        mapping, other = started
        other.send_signal(signal.SIGSTOP)  # it is not to compete for a processor
        if goes_first:
            started.append(subprocess.Popen([sys.executable, "-c", "while True: pass"]))
        bound = looks / 4 if goes_first else looks
        return all(is_held(mapping, other, bound) for _ in range(TRIES))
    finally:
        for process in started:
            process.kill()


sys.exit(main())
