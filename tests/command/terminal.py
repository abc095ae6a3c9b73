"""Runs `ebb top` on a terminal, as the job of a shell, and does to it what users do.

Usage: terminal.py EBB. It is stopped by Ctrl-Z and by SIGSTOP and continued, the terminal changes
its size, and Ctrl-C ends it: each time the terminal has to be whoever's turn it is.
"""
import fcntl
import os
import pty
import select
import signal
import struct
import sys
import termios
import time

TAKEN, GIVEN_BACK = b"\x1b[?1049h\x1b[?25l", b"\x1b[?25h\x1b[?1049l"
LIST = b"(q)uit"


def is_whole(terminal):
    """Lines are edited and echoed, as a shell wants it."""
    return termios.tcgetattr(terminal)[3] & (termios.ICANON | termios.ECHO) == \
        termios.ICANON | termios.ECHO


def mend(terminal):
    settings = termios.tcgetattr(terminal)
    settings[3] |= termios.ICANON | termios.ECHO
    termios.tcsetattr(terminal, termios.TCSANOW, settings)


def shell(command):
    """One job in the foreground; continued by a line of input whenever it has stopped."""
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    ready, go = os.pipe()
    job = os.fork()
    if job == 0:
        os.setpgid(0, 0)
        signal.signal(signal.SIGTTOU, signal.SIG_DFL)
        os.read(ready, 1)
        os.execv(command[0], command)
    os.setpgid(job, job)
    os.tcsetpgrp(0, job)
    print("JOB", job, flush=True)
    os.write(go, b"!")
    while True:
        status = os.waitpid(job, os.WUNTRACED)[1]
        os.tcsetpgrp(0, os.getpgrp())
        if not os.WIFSTOPPED(status):
            print("ENDED", os.waitstatus_to_exitcode(status), is_whole(0), flush=True)
            os._exit(0)
        print("STOPPED", is_whole(0), flush=True)
        mend(0)
        sys.stdin.readline()
        os.tcsetpgrp(0, job)
        os.killpg(job, signal.SIGCONT)


class Screen:
    def __init__(self, terminal):
        self.terminal, self.text = terminal, b""

    def wait_for(self, *pieces):
        """Until they have come, in that order; returns what came before the last of them."""
        for piece in pieces:
            end = time.time() + 20
            while piece not in self.text:
                if not select.select([self.terminal], [], [], max(end - time.time(), 0))[0]:
                    sys.exit(f"{piece} does not come, but {self.text[-300:]}")
                self.text += os.read(self.terminal, 65536)
            before, _, self.text = self.text.partition(piece)
        return before

    def type(self, keys):
        os.write(self.terminal, keys)


def expect_raw(terminal):
    end = time.time() + 20
    while is_whole(terminal):
        if time.time() > end:
            sys.exit("the terminal was not taken again")
        time.sleep(0.01)


pid, terminal = pty.fork()
if pid == 0:
    shell([sys.argv[1], "top", "-d", "600"])
screen = Screen(terminal)
job = int(screen.wait_for(b"JOB ", b"\r"))
screen.wait_for(TAKEN, LIST)
screen.type(b"\x1a")
screen.wait_for(GIVEN_BACK, b"STOPPED True")
screen.type(b"\n")
screen.wait_for(TAKEN, LIST)
expect_raw(terminal)
os.kill(job, signal.SIGSTOP)
screen.wait_for(b"STOPPED False")
screen.type(b"\n")
screen.wait_for(TAKEN, LIST)
expect_raw(terminal)
fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("4H", 12, 90, 0, 0))
screen.wait_for(LIST)
screen.type(b"i")
screen.wait_for(LIST)
screen.type(b"\x03")
screen.wait_for(GIVEN_BACK, b"ENDED 0 True")
