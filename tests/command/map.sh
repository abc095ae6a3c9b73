#!/bin/bash
# `ebb map`: the picture holds what the process holds, cell by cell; a film's frames are made of each
# other; and a browser shows it.
# shellcheck source=tests/command/lib.sh
. "$EBB_SRCDIR/tests/command/lib.sh"

command -v python3 >/dev/null || skip "no python3 (Debian: python3)"
unset "${!EBBMALLOC_@}" LD_PRELOAD
ebb=$EBB_CMD
pid=
trap '[ -z "$pid" ] || kill "$pid" 2>/dev/null || true; rm -rf "$scratch"' EXIT
mkfifo "$scratch/fifo"

# Waited for: its id may soon be another one's.
end() {
    [ -z "$pid" ] || kill "$pid" 2>/dev/null || true
    [ -z "$pid" ] || wait "$pid" 2>/dev/null || true
    pid=
}

start() {
    end
    "$@" >"$scratch/fifo" &
    pid=$!
    read -r _ <"$scratch/fifo"
}

start_known() { start env LD_PRELOAD="$EBB_LIB" EBBMALLOC_PURGE_SCHEDULE=manual \
    "$EBB_BUILDDIR/tests/command/known-heap" waits; }

cells_are_those_of_the_known_heap() {
    start_known
    expect_run 0 "$ebb" map "$pid" -o "$scratch/map.html"
    expect_run 0 "$ebb" stat --json "$pid"
    python3 "$EBB_SRCDIR/tests/command/map.py" "$scratch/map.html" "$scratch/out" ||
        fail "the picture is not that of the heap"
    # Nothing is fetched from anywhere.
    ! grep -nE 'src=|href=|url\(|import |fetch\(|https?:' "$scratch/map.html" || fail "not self-contained"
}

a_film_is_made_of_changes() {
    cat >"$scratch/tide.py" <<'END'
import time
print("ready", flush=True)
while True:
    held = [bytes(3000 + i % 3000) for i in range(8000)]
    time.sleep(0.5)
    del held
    time.sleep(0.5)
END
    start env PYTHONMALLOC=malloc LD_PRELOAD="$EBB_LIB" EBBMALLOC_PURGE_DELAY=100 python3 "$scratch/tide.py"
    expect_run 0 "$ebb" map "$pid" -o "$scratch/film.html" --every 100ms --for 2s
    python3 - "$scratch/film.html" "$EBB_SRCDIR/tests/command" <<'END' || fail "the film shows no tide"
import sys
sys.path.insert(0, sys.argv[2])
import map as maps
page = maps.read(sys.argv[1])
frames = page.frames
assert 18 <= len(frames) <= 22, len(frames)
live = [sum(1 for cell in frame.all_cells() if 1 <= cell <= 10) * 4096 for frame in frames]
assert max(live) > 28 << 20 and min(live) < 20 << 20, live
for frame, cells in zip(frames, live):  # 4 KiB that hold some live block are no less than the blocks
    assert cells > frame.stats["live"] * 0.9, (frame.stats, cells)
    in_spans = sum(span[3] * page.classes[span[1]][0] for spans in frame.spans.values() for span in spans)
    assert abs(in_spans - frame.stats["live"]) < 4 << 20, (frame.stats, in_spans)
END
}

# A process at rest takes no room but in the first frame.
what_is_as_before_is_not_told_again() {
    start_known
    expect_run 0 "$ebb" map "$pid" -o "$scratch/film.html" --every 50ms --for 150ms
    python3 - "$scratch/film.html" "$EBB_SRCDIR/tests/command" <<'END' || fail "the film is too long, or wrong"
import json, sys
sys.path.insert(0, sys.argv[2])
import map as maps
text = open(sys.argv[1]).read()
raw = json.loads(text[text.index("const data = ") + 13:text.index(";\nbegin();")])["frames"]
first, *others = maps.read(sys.argv[1]).frames
assert len(others) == 3 and len(raw[0]["spans"]) > 1000, (len(others), len(raw[0]["spans"]))
for frame, told in zip(others, raw[1:]):
    assert len(told["spans"]) < 16 and len(told["cells"]) < 16, told
    assert frame.spans == first.spans and frame.cells == first.cells
END
}

svg_is_well_formed() {
    start_known
    expect_run 0 "$ebb" map "$pid" -o "$scratch/map.svg"
    python3 - "$scratch/map.svg" <<'END' || fail "the SVG is not what it should be"
import re, sys, xml.etree.ElementTree as tree
root = tree.parse(sys.argv[1]).getroot()
paths = {p.get("fill"): p.get("d") for p in root.iter("{http://www.w3.org/2000/svg}path")}
# 15 MiB of huge blocks, 30 of 100 of 128 KiB and the rest, in dots of 32 KiB, are full.
full = sum(int(n) for n in re.findall(r"h(\d+)v1h-", paths["#930a0a"]))
assert 15 * 32 + 30 * 3 <= full < 15 * 32 + 30 * 4 + 250, full
END
}

wrong_usage_is_told() {
    local arguments
    while read -r arguments; do
        # shellcheck disable=SC2086 # words are what is wanted
        expect_run 2 "$ebb" map $arguments
        expect_complaint 'ebb: map: *'
    done <<END

$$
$$ -o $scratch/x.png
$$ -o
-o $scratch/x.html
$$ $$ -o $scratch/x.html
$$ -o $scratch/x.html --every 1s
$$ -o $scratch/x.html --every soon --for 1s
$$ -o $scratch/x.html --every 0 --for 1s
$$ -o $scratch/x.svg --every 1s --for 2s
x -o $scratch/x.html
END
    expect_run 5 "$ebb" map $$ -o "$scratch/x.html"
    [ ! -e "$scratch/x.html" ] || fail "a file was left of a map that was not made"
    start_known
    expect_run 1 "$ebb" map "$pid" -o /no/such/place.html
    expect_complaint 'ebb: /no/such/place.html: No such file or directory'
    ln -s /dev/full "$scratch/full.html"
    expect_run 1 "$ebb" map "$pid" -o "$scratch/full.html"
    expect_complaint "ebb: $scratch/full.html: *"
}

a_browser_shows_it() {
    local browser
    want chromium chromium || { echo "no chromium (Debian: chromium): not rendered" && return; }
    browser=$(command -v chromium)
    # shellcheck disable=SC2054 # the comma is chromium's
    browser=(timeout 120 "$browser" --headless --no-sandbox --disable-gpu --disable-quic
        --no-first-run --disable-background-networking --disable-component-update --disable-sync
        --user-data-dir="$scratch/browser" --window-size=1000,700 --virtual-time-budget=5000)
    # What is told of the first block of 3,072 bytes, and of a huge one: as the pointer would find it.
    { cat "$scratch/map.html" && cat <<'END'
<script>
const told = areas.map((area, i) => {
  const first = area.kind !== 0 ? 0 : 8 * [...area.spans].find(([page, span]) => data.classes[span.cls][0] === 3072)[0];
  const line = area.row + (first / ROW | 0), x = (line / high | 0) * (ROW + GAP) + first % ROW + 0.5;
  return area.kind > 1 ? '' : describe(left + x * scale, top_ + (line % high + 0.5) * scale);
});
document.body.dataset.told = told.join('|').replace(/\n/g, '; ');
</script>
END
    } >"$scratch/told.html"
    expect_run 0 "${browser[@]}" --dump-dom "file://$scratch/told.html"
    local told
    told=$(grep -o 'data-told="[^"]*"' "$scratch/out")
    expect "hover over a span" "$told" '*live, about 100 %; span of 128 KiB, blocks of 3072 bytes; live 42, in caches 0, free 0 of 42; arena of thread * known-heap; *'
    expect "hover over a huge block" "$told" '*live, about 100 %; huge block, 5.0 MiB*'
    expect_run 0 "${browser[@]}" --screenshot="$scratch/shot.png" "file://$scratch/map.html"
    python3 - "$scratch/shot.png" <<'END' || fail "the browser shows something else"
import collections, struct, sys, zlib
data, at, packed = open(sys.argv[1], "rb").read(), 8, b""
while at < len(data):
    size, kind = struct.unpack(">I4s", data[at:at + 8])
    body = data[at + 8:at + 8 + size]
    if kind == b"IHDR": wide, high, depth, colour = struct.unpack(">IIBB", body[:10])
    if kind == b"IDAT": packed += body
    at += size + 12
channels = {2: 3, 6: 4}[colour]
assert depth == 8
raw, stride, before, seen = zlib.decompress(packed), wide * channels, None, collections.Counter()
before = bytearray(stride)
for y in range(high):
    kind, line = raw[y * (stride + 1)], bytearray(raw[y * (stride + 1) + 1:(y + 1) * (stride + 1)])
    for x in range(stride):
        a = line[x - channels] if x >= channels else 0
        b, c = before[x], before[x - channels] if x >= channels else 0
        p = a + b - c
        paeth = min((a, b, c), key=lambda v: abs(p - v))
        line[x] = (line[x] + (0, a, b, (a + b) // 2, paeth)[kind]) & 255
    before = line
    seen.update(bytes(line[x:x + 3]) for x in range(0, stride, channels))
red, white, blue = seen[bytes((147, 10, 10))], seen[b"\xff\xff\xff"], seen[bytes((66, 133, 214))]
# Live blocks fill most of 30 MiB of 64; the rest of the second chunk is white; caches are there.
assert red > 50000 and white > 50000 and blue > 100, (red, white, blue)
END
}

# In this order: the last one looks at the first one's picture.
for test in cells_are_those_of_the_known_heap a_film_is_made_of_changes \
    what_is_as_before_is_not_told_again svg_is_well_formed wrong_usage_is_told a_browser_shows_it; do
    printf '%s\n' "$test"
    "$test"
done
