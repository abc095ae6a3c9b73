"""Reads the data of `ebb map`'s page; as a program, compares it with `ebb stat --json`.

Usage: map.py MAP.html STAT.json, of a known heap (known-heap.c) at rest.
"""
import base64
import json
import struct
import sys


class Frame:
    """One look at the heap: areas, each with its cells of 4 KiB; spans by chunk."""

    def __init__(self, stats, areas, cells, spans):
        self.stats, self.areas, self.cells, self.spans = stats, areas, cells, spans

    def all_cells(self):
        for cells in self.cells:
            yield from cells


class Map:
    def __init__(self, classes, frames, arenas):
        self.classes, self.frames, self.arenas = classes, frames, arenas


class Reader:
    def __init__(self, text):
        self.data, self.at = base64.b64decode(text, validate=True), 0

    def number(self):
        number, shift = 0, 0
        while True:
            byte = self.data[self.at]
            self.at += 1
            number |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return number

    def word(self):
        self.at += 4
        return struct.unpack_from("<I", self.data, self.at - 4)[0]

    def done(self):
        return self.at == len(self.data)


def read_cells(text, areas, before):
    reader, run, value, words, cells = Reader(text), 0, 0, {}, []
    for kind, base, count, more in areas:
        old, now = before.get((base, count)), []
        for i in range((count + 7) // 8):
            if run == 0:
                run, value = reader.number(), reader.word()
            run -= 1
            now.append(value ^ (old[i] if old else 0))
        words[base, count] = now
        cells.append([now[i // 8] >> i % 8 * 4 & 15 for i in range(count)])
    assert reader.done() and run == 0
    return words, cells


def read_spans(text, areas, before):
    reader, chunks = Reader(text), {}
    for kind, base, *_ in areas:
        if kind != 0:
            continue
        spans, page, count = [], 0, reader.number() - 1
        for _ in range(count):
            page += reader.number()
            spans.append((page, *(reader.number() for _ in range(5))))
        chunks[base] = spans if count >= 0 else before[base]
    assert reader.done()
    return chunks


def read(path):
    text = open(path).read()
    data = text[text.index("const data = ") + len("const data = "):text.index(";\nbegin();")]
    data = json.loads(data)
    frames, words, spans = [], {}, {}
    for frame in data["frames"]:
        words, cells = read_cells(frame["cells"], frame["areas"], words)
        spans = read_spans(frame["spans"], frame["areas"], spans)
        frames.append(Frame(frame["stats"], frame["areas"], cells, spans))
    return Map(data["classes"], frames, data["arenas"])


def main():
    page, told = read(sys.argv[1]), json.load(open(sys.argv[2]))
    [frame] = page.frames
    # The spans are those of the statistics.
    live, cached, spans = {}, {}, {}
    for chunk in frame.spans.values():
        for _, number, arena, blocks, in_cache, age in chunk:
            size = page.classes[number][0]
            live[size] = live.get(size, 0) + blocks
            cached[size] = cached.get(size, 0) + in_cache
            spans[size] = spans.get(size, 0) + 1
            assert 1 <= arena <= len(page.arenas) and 0 <= age < 4
    for each in told["classes"]:
        size = each["bytes"]
        assert live.get(size, 0) == each["live"], (size, live.get(size), each)
        assert cached.get(size, 0) == each["cached"], (size, cached.get(size), each)
        assert spans[size] == each["spans"], (size, spans, each)
    assert any("known thread" in name for name in page.arenas), page.arenas
    # The cells: huge blocks whole, and as much as there is live in chunks.
    huge = [cells for (kind, *_), cells in zip(frame.areas, frame.cells) if kind == 1]
    assert len(huge) == 3 and all(len(cells) == 1280 and set(cells) == {10} for cells in huge)
    chunks = [cells for (kind, *_), cells in zip(frame.areas, frame.cells) if kind == 0]
    assert all(len(cells) == 8192 for cells in chunks)
    shown = sum(cell * 410 for cells in chunks for cell in cells if cell <= 10)
    held = told["live_small_bytes"] + told["live_large_bytes"]
    untouched = sum(1 for cells in chunks for cell in cells if cell == 15) * 4096
    assert abs(shown + untouched - held) < held * 0.06, (shown, untouched, held)
    in_caches = sum(cell == 12 for cells in chunks for cell in cells) * 4096
    assert told["cached_bytes"] / 4 < in_caches < told["cached_bytes"] * 2, (in_caches, told)
    resident = sum(1 <= cell <= 14 for cell in frame.all_cells()) * 4096
    assert abs(resident - told["kernel_resident_bytes"]) < 64 << 10, (resident, told)


if __name__ == "__main__":
    main()
