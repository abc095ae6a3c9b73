#!/bin/bash
# python3 on the library computes the same as without, with its own small-object allocator and
# with every object from malloc (PYTHONMALLOC=malloc): threads, forks, C extensions, large data.
. "$(dirname "$0")/lib.sh"
# The distribution's own: what is first in PATH may be a wrapper.
python=/usr/bin/python3
need_file "$python" python3

write_program() {
    cat >program.py <<'PROGRAM'
import ctypes
import gc
import hashlib
import itertools
import json
import multiprocessing
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import threading
import zlib

MAPS = sys.argv[1]


def keep_maps(name):
    shutil.copyfile("/proc/self/maps", os.path.join(MAPS, name))


def digest(*parts):
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def numbers(seed, count, below):
    """A fixed sequence of pseudo-random numbers."""
    for _ in range(count):
        seed = seed * 6364136223846793005 + 1442695040888963407 & (1 << 64) - 1
        yield (seed >> 33) % below


def objects(seed, count):
    """Dictionaries of mixed things, most small, some large."""
    made = {}
    for i, n in enumerate(numbers(seed, count, 5000)):
        made["key%d" % n] = [i, "x" * (n % 97), {"n": n, "half": n / 2}, None, n % 2 == 0]
        if n < 5:
            made["large%d" % n] = "y" * (n * 100000)
        if n % 3 == 0:
            made.pop("key%d" % (n // 3), None)
    return made


def test_json():
    text = json.dumps(objects(1, 30000), indent=1)
    return digest(text, json.loads(text), len(text))


def test_containers():
    rows = [list(numbers(i, 50, 1000)) for i in range(2000)]
    flat = sorted(itertools.chain.from_iterable(rows))
    groups = {k: len(list(g)) for k, g in itertools.groupby(flat)}
    return digest(groups, "".join(map(str, flat)), bytes(n & 255 for n in flat), hex(3**20000))


def test_cycles():
    """Garbage that only the collector can find, again and again."""

    class Node:
        pass

    freed = 0
    for round in range(20):
        nodes = [Node() for _ in range(3000)]
        for i, node in enumerate(nodes):
            node.next, node.load = nodes[(i * 7 + 1) % len(nodes)], bytearray(i % 300)
        del nodes, node
        freed += gc.collect() > 0
    return freed


def test_sqlite():
    base = sqlite3.connect(":memory:")
    base.execute("create table t (id integer primary key, name text, body blob)")
    base.executemany(
        "insert into t values (?, ?, ?)",
        ((i, "name%d" % (n % 500), b"b" * (n % 3000)) for i, n in enumerate(numbers(3, 15000, 10**6))),
    )
    base.execute("create index i on t (name, length(body))")
    base.execute("delete from t where id % 4 = 0")
    rows = base.execute("select name, count(*), sum(length(body)) from t group by name order by name")
    return digest(rows.fetchall(), base.execute("select * from t order by name, id limit 99").fetchall())


def test_text():
    text = " ".join("word%d,%d;" % (n, n % 13) for n in numbers(4, 60000, 10**6))
    swapped = re.sub(r"word(\d+),(\d+);", r"\2-\1", text)
    words = re.split(r"[ -]", swapped)
    return digest(swapped, words, text.upper().encode("utf-16"), text.translate({48: None}))


def test_zlib():
    data = b"".join(b"%d," % n for n in numbers(5, 300000, 1000))
    packed = zlib.compress(data, 6)
    stream = zlib.decompressobj()
    pieces = [stream.decompress(packed[i : i + 4096]) for i in range(0, len(packed), 4096)]
    assert b"".join(pieces) == data
    return digest(packed)


def test_ctypes():
    """The C family called by hand: what C wrote, realloc must keep."""
    libc = ctypes.CDLL(None)
    libc.malloc.restype = libc.realloc.restype = libc.calloc.restype = ctypes.c_void_p
    libc.realloc.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    total = hashlib.sha256()
    for size in list(range(1, 300, 7)) + [4096, 40000, 300000, 5000000]:
        zeros = libc.calloc(ctypes.c_size_t(size), ctypes.c_size_t(3))
        total.update(ctypes.string_at(zeros, size * 3))
        libc.free(zeros)
        block = libc.malloc(ctypes.c_size_t(size))
        ctypes.memset(block, size & 255, size)
        for grown in (size * 2, size * 3 + 5, size // 2 + 1):
            block = libc.realloc(block, grown)
            total.update(ctypes.string_at(block, min(size, grown)))
        libc.free(block)
    return total.hexdigest()


def test_threads():
    """What one thread makes another drops."""
    results, shelf, lock = [None] * 16, [], threading.Lock()

    def work(i):
        keep_maps("thread-%d" % i)
        parts = []
        for round in range(6):
            made = objects(i * 100 + round, 1500)
            parts.append(digest(sorted(made.items(), key=str)))
            with lock:
                shelf.append(made)
                if len(shelf) > 8:
                    shelf.pop(0)
        results[i] = digest(parts)

    for _ in range(2):
        threads = [threading.Thread(target=work, args=(i,)) for i in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return digest(results)


def in_child(seed):
    keep_maps("child-%d" % os.getpid())
    return digest(sorted(objects(seed, 3000).items(), key=str))


def test_fork():
    """Forks while other threads are busy with malloc; the children work on."""
    stop = threading.Event()

    def noise():
        while not stop.is_set():
            objects(7, 200)

    threads = [threading.Thread(target=noise) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        context = multiprocessing.get_context("fork")
        results = []
        for round in range(4):
            with context.Pool(4) as pool:
                results += pool.map(in_child, range(round * 8, round * 8 + 8), chunksize=1)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    return digest(results)


def test_subprocess():
    command = [sys.executable, "-c", "import sys; print(sum(map(len, sys.stdin)))"]
    text = "line\n" * 100000
    done = [subprocess.run(command, input=text, capture_output=True, text=True) for _ in range(4)]
    return [(d.returncode, d.stdout, d.stderr) for d in done]


def test_large():
    """Blocks that have mappings of their own, grown and cut."""
    data = bytearray()
    for n in numbers(6, 60, 900000):
        data.extend(b"%d" % n * 50000)
        del data[: len(data) // 3]
    return len(data), hashlib.sha256(data).hexdigest(), digest([bytes(5 << 20) for _ in range(8)] == [])


if __name__ == "__main__":
    keep_maps("main")
    for name, test in sorted(globals().copy().items()):
        if name.startswith("test_"):
            print(name, test(), flush=True)
PROGRAM
}

work() {
    write_program
    PYTHONHASHSEED=0 run "$python" program.py "$maps" >"$results/own-allocator" 2>"$logs/stderr"
    PYTHONHASHSEED=0 PYTHONMALLOC=malloc run "$python" program.py "$maps" \
        >"$results/all-by-malloc" 2>>"$logs/stderr"
    cp "$logs/stderr" "$results/stderr"
}

calls_go_to_library "$python" -c 'import subprocess; subprocess.run(["cat", "/dev/null"])'
compare_runs work
