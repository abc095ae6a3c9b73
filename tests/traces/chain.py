"""Writes a trace in which each thread but the last waits for a block of the next one.

Usage: chain.py THREADS FILE. Each frees that block first, and then gets one of its own.
"""
import struct
import sys


def field(kind, value):
    if value < 28:
        return bytes([kind << 5 | value])
    for row, length in enumerate((1, 2, 3, 8)):
        if value < 1 << 8 * length:
            return bytes([kind << 5 | 28 + row]) + value.to_bytes(length, "little")

def check_sum(thread, data):
    factor, most = 0x9e3779b97f4a7c15, (1 << 64) - 1
    total = (thread + len(data) + 1) * factor & most
    whole = len(data) // 8 * 8
    for (word,) in struct.iter_unpack("<Q", data[:whole]):
        total = (total ^ word) * factor & most
        total ^= total >> 29
    for byte in data[whole:]:
        total = (total ^ byte) * factor & most
    return (total ^ total >> 32) & 0xffffffff

threads, path = int(sys.argv[1]), sys.argv[2]
MALLOC, FREE_OTHER = 0, 5
with open(path, "wb") as file:
    file.write(struct.pack("<8sIIQII", b"EBBTRACE", 1, 32, 0, 1, 4096))
    for thread in range(1, threads + 1):
        data = field(MALLOC, 200)
        if thread < threads:
            data = field(FREE_OTHER, thread + 1) + b"\0" + data
        file.write(struct.pack("<4I", 0x43626245, thread, len(data), check_sum(thread, data)) + data)
    file.write(struct.pack("<4I", 0x43626245, 0xffffffff, 0, check_sum(0xffffffff, b"")))
