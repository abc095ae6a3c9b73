"""Processes and their families: started, looked at through /proc, and ended."""

import os
import signal
import subprocess
import time

END_SECONDS = 5


def stat_fields(pid):
    """/proc/PID/stat from its third field on (the second may hold anything), or None."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            return file.read().rpartition(")")[2].split()
    except OSError:
        return None


def family(root):
    """A process and all its descendants."""
    children = {}
    for name in os.listdir("/proc"):
        fields = stat_fields(name) if name.isdigit() else None
        if fields:
            children.setdefault(int(fields[1]), []).append(int(name))
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    return found


def cpu_seconds(root):
    """User and system time of a family, with that of those who ended and were waited for."""
    ticks = 0
    for pid in family(root):
        fields = stat_fields(pid)
        if fields:
            ticks += sum(int(value) for value in fields[11:15])
    return ticks / os.sysconf("SC_CLK_TCK")


def memory_mib(pid, name):
    """(Rss or Pss, LazyFree); zeros when the process has just ended."""
    fields = {}
    try:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
            for line in file:
                key, _, rest = line.partition(":")
                if key in (name, "LazyFree"):
                    fields[key] = int(rest.split()[0]) / 1024
    except OSError:
        pass
    return fields.get(name, 0), fields.get("LazyFree", 0)


def ended(pid):
    fields = stat_fields(pid)
    return fields is None or fields[0] == "Z"


class Children:
    """What was started, each in a session of its own, to be ended at the latest with us."""

    def __init__(self):
        self._running = []

    def start(self, command, **more):
        process = subprocess.Popen(command, start_new_session=True, **more)
        self._running.append(process)
        return process

    def end(self, process):
        """With its descendants: some servers give each of theirs a session of its own."""
        kill_all(family(process.pid) if process.poll() is None else [])
        try:
            os.killpg(process.pid, signal.SIGKILL)  # those whose parent has ended before
        except ProcessLookupError:
            pass
        process.wait()
        if process in self._running:
            self._running.remove(process)

    def end_all(self):
        for process in list(self._running):
            self.end(process)
        # And one that was just being started when a signal came.
        kill_all(family(os.getpid())[1:])


def kill_all(pids):
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    end = time.monotonic() + END_SECONDS
    while not all(map(ended, pids)) and time.monotonic() < end:
        time.sleep(0.01)
