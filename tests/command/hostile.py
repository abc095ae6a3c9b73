"""Spoils the records of a process on the library, one word at a time, and has ebb look at it.

Usage: hostile.py PID LIBRARY EBB MAP.html. Every word of the root and of the records that it leads to (the
first arenas and chunks, the lists of huge blocks, some spans) is replaced in turn, and then put
back. ebb must end by itself, within seconds and a bounded address space, with a documented status
and at most one line on stderr.
"""
import os
import random
import re
import struct
import subprocess
import sys

pid, library, ebb, picture = int(sys.argv[1]), *sys.argv[2:]
looks = 0
memory = os.open(f"/proc/{pid}/mem", os.O_RDWR)
WORD = struct.Struct("<Q")


def read(at, size):
    return os.pread(memory, size, at)


def word(at):
    return WORD.unpack(read(at, 8))[0]


def find_root():
    data = open(library, "rb").read()
    magic = b"ebbmalloc root\n\0"
    for line in open(f"/proc/{pid}/maps"):
        start, end, rights, path = re.match(r"(\w+)-(\w+) (\S+) \S+ \S+ \S+ *(.*)", line).groups()
        if path.endswith(os.path.basename(library)) and "w" in rights:
            start, end = int(start, 16), int(end, 16)
            place = read(start, end - start).find(magic)
            if place >= 0:
                return start + place
    raise SystemExit("no root in the process")


def limit():
    import resource
    resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
    resource.setrlimit(resource.RLIMIT_CPU, (10, 10))


WAYS = (("stat", "--why"), ("map", "-o", picture), ("stat", "--json"))


def look(what):
    """Now with one subcommand, now with another."""
    global looks
    looks += 1
    return look_by(WAYS[looks % len(WAYS)], what)


def look_by(way, what):
    done = subprocess.run([ebb, *way, str(pid)], capture_output=True, timeout=60,
                          preexec_fn=limit)
    if done.returncode not in (0, 3, 6) or done.stderr.count(b"\n") > 1:
        print(f"{way}: {what}: exit status {done.returncode}: {done.stderr.decode()}")
        sys.exit(1)
    return done.returncode


def spoil(name, at, values):
    kept = read(at, 8)
    for value in values:
        os.pwrite(memory, WORD.pack(value & (1 << 64) - 1), at)
        look(f"{name} at {at:#x} = {value:#x}")
        os.pwrite(memory, kept, at)


def make_endless(name, head, offset):
    """A list whose records lie 8 bytes apart, each inside the one before: as many as there are words
    in 4 MiB, and then from the start again."""
    size, kept, block = 4 << 20, read(head, 8), word(first_huge)
    text = b"".join(WORD.pack(block + (at + 8) % size) for at in range(0, size, 8))
    kept_block = read(block + offset, size)
    os.pwrite(memory, text, block + offset)
    os.pwrite(memory, WORD.pack(block), head)
    for way in (*WAYS, ("stat", "--prometheus"), ("stat",)):
        look_by(way, f"an endless list of {name}")
    os.pwrite(memory, kept, head)
    os.pwrite(memory, kept_block, block + offset)


def next_of_arenas():
    """Where in an arena the next one is: what leads to the last one, with none behind it. There are
    as many as threads, and one more."""
    for offset in range(0, 65536, 8):
        at, steps = arena, 0
        try:
            while at != 0 and steps < 3:
                at, steps = word(at + offset), steps + 1
        except (OSError, OverflowError, struct.error):
            continue
        if at == 0 and steps == 3:
            return offset
    raise SystemExit("no list of arenas")


random.seed(7)
root = find_root()
own = look("unspoilt")
assert own == 0
words = {"magic": root, "version": root + 16, "layout": root + 32}
pointers = range(root + 40, root + 128, 8)
arena, chunk = word(word(root + 40)), word(word(root + 48))
huge = word(root + 56)
first_huge = word(huge + 8)
places = [("root", at) for at in pointers]
places += [("root", at) for at in words.values()]
places += [("arena", arena + at) for at in sorted(random.sample(range(0, 7000, 8), 60))]
places += [("arena's list", word(root + 40)), ("chunk's list", word(root + 48))]
places += [("chunk", chunk + at) for at in range(0, 1024, 24)]
places += [("chunk's spans", chunk + at) for at in range(3300, 11000, 400)]
places += [("huge lists", huge + at) for at in range(8, 96, 8)]
places += [("huge block", first_huge + at) for at in range(0, 64, 8)]
for name, at in places:
    spoil(name, at & ~7, (0, 1, at, root, arena, chunk, first_huge, 1 << 47, (1 << 64) - 8,
                          random.getrandbits(64)))
make_endless("arenas", word(root + 40), next_of_arenas())
make_endless("chunks", word(root + 48), 16)
make_endless("huge blocks", huge + 8, 48)
# At last a few thousand words at once, as if somebody had written over them.
for _ in range(20):
    block = random.choice((arena, chunk))
    kept = read(block, 8192)
    os.pwrite(memory, random.randbytes(8192), block)
    look("a random record")
    os.pwrite(memory, kept, block)
assert look("unspoilt again") == 0
