"""Writes a trace in which each thread but the last waits for a block of the next one.

Usage: chain.py THREADS FILE. Each frees that block first, and then gets one of its own.
"""
import struct
import sys


def check_sum(thread, data):
    factor, most = 0x9e3779b97f4a7c15, (1 << 64) - 1

    def add(total, word):
        total = (total ^ word) * factor & most
        return total ^ total >> 29

    total = (thread + len(data) + 1) * factor & most
    chains = 4 * [total]
    whole = len(data) // 32 * 32
    for words in struct.iter_unpack("<4Q", data[:whole]):
        chains = list(map(add, chains, words))
    for word in (*chains, *data[whole:]):
        total = add(total, word)
    return (total ^ total >> 32) & 0xffffffff

def number(value):
    """LEB128."""
    return bytes([value]) if value < 128 else bytes([value & 127 | 128]) + number(value >> 7)

threads, path = int(sys.argv[1]), sys.argv[2]
MALLOC, FREE_OTHER, MORE = 0, 5 << 2, 7 << 5
with open(path, "wb") as file:
    file.write(struct.pack("<8sIIQII", b"EBBTRACE", 2, 32, 0, 1, 4096))
    for thread in range(1, threads + 1):
        data = bytes([MALLOC | MORE]) + number(200)
        if thread < threads:
            data = bytes([FREE_OTHER | MORE]) + number(thread + 1) + number(0) + data
        file.write(struct.pack("<4I", 0x43626245, thread, len(data), check_sum(thread, data)) + data)
    file.write(struct.pack("<4I", 0x43626245, 0xffffffff, 0, check_sum(0xffffffff, b"")))
