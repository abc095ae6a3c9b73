"""What the scripts under bench/ share: finding allocators and built programs, the terminal, and the
frame of a self-contained HTML page. Python's standard library only."""

import glob
import html
import os
import platform
import statistics
import sys

OURS = "ebbmalloc"

# Where a distribution puts the peers: the names of their libraries, best first. Not every one is
# looked up through the linker's cache, since some of these have no name that it knows.
PEERS = {
    "jemalloc": ["libjemalloc.so.2"],
    "tcmalloc": ["libtcmalloc_minimal.so.4", "libtcmalloc.so.4"],
    "mimalloc": ["libmimalloc.so.2", "libmimalloc.so.2.0", "libmimalloc.so.3"],
}
LIBRARY_FOLDERS = ["/usr/lib/*-linux-gnu", "/usr/lib64", "/usr/lib", "/usr/local/lib"]

TUNED_JEMALLOC = "background_thread:true,dirty_decay_ms:500,muzzy_decay_ms:0"


class Allocator:
    """An allocator that can be put under a program: a library to preload (None: the C library's
    own malloc) and variables to set."""

    def __init__(self, name, path=None, variables=None):
        self.name = name
        self.path = path
        self.variables = variables or {}

    def environment(self):
        result = dict(os.environ)
        result.pop("LD_PRELOAD", None)
        if self.path:
            result["LD_PRELOAD"] = self.path
        result.update(self.variables)
        return result

    def described(self):
        words = [self.path or "the C library's own malloc"]
        words += [f"{name}={value}" for name, value in self.variables.items()]
        return ", ".join(words)


def fail(text):
    print(f"{os.path.basename(sys.argv[0])}: {text}", file=sys.stderr)
    sys.exit(2)


def build_folders(given=None):
    """Where built things may lie: what the user said, the folder that the harness names, the one we
    are in, the one that quickstart builds in, and the one above this script (a build in the source
    tree)."""
    if given:
        return [os.path.abspath(given)]
    above = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    folders = (os.environ.get("EBB_BUILDDIR"), ".", os.path.join(above, "build"), above)
    return [os.path.abspath(folder) for folder in folders if folder]


def find_built(relative, given=None):
    """The absolute path of a built file such as bench/tide-load, or None."""
    for folder in build_folders(given):
        path = os.path.join(folder, relative)
        if os.path.isfile(path):
            return path
    return None


def find_our_library(given=None):
    from_harness = os.environ.get("EBB_LIB")
    if not given and from_harness and os.path.isfile(from_harness):
        return from_harness
    return find_built("src/.libs/libebbmalloc.so", given)


def find_peer(name):
    for file in PEERS[name]:
        for folder in LIBRARY_FOLDERS:
            found = sorted(glob.glob(os.path.join(folder, file)))
            if found:
                return found[0]
    return None


def readable_library(path):
    path = os.path.abspath(path)
    if not os.path.isfile(path):
        fail(f"no library at {path}")
    if ":" in path or " " in path:
        fail(f"the loader splits LD_PRELOAD at spaces and colons, so it cannot load '{path}'")
    return path


def chosen_allocators(our_library, only=None):
    """glibc, ours and the peers that are here; of those, the named ones (A,B) in that order."""
    allocators = [Allocator("glibc")]
    if our_library:
        allocators.append(Allocator(OURS, our_library))
    for name in PEERS:
        path = find_peer(name)
        if path:
            allocators.append(Allocator(name, path))
        if path and name == "jemalloc":
            allocators.append(Allocator("jemalloc tuned", path, {"MALLOC_CONF": TUNED_JEMALLOC}))
    if not only:
        return allocators
    by_name = {a.name: a for a in allocators}
    for name in only.split(","):
        if name not in by_name:
            fail(f"--only: no allocator '{name}' here (there are {', '.join(by_name)})")
    return [by_name[name] for name in only.split(",")]


def absent_note(allocators):
    """What could have been compared and is not here, in words, or nothing."""
    found = [a.name for a in allocators]
    absent = [name for name in PEERS if name not in found]
    if OURS not in found:
        absent.append(f"{OURS} (not built, and no --lib)")
    return "Not here: " + ", ".join(absent) + "." if absent else ""


class Progress:
    """One line on a terminal that says how far a long run is; nothing at all when piped."""

    def __init__(self):
        self.shown = sys.stderr.isatty()

    def say(self, text):
        if self.shown:
            sys.stderr.write("\r\033[K" + text[:79])
            sys.stderr.flush()

    def done(self):
        self.say("")


def wants_colour(stream):
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def spread(values):
    """(median, least, most)"""
    return statistics.median(values), min(values), max(values)


def machine():
    """The machine in a few words, for the reader of a result."""
    model = platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
            for line in file:
                if line.startswith("model name"):
                    model = line.split(":", 1)[1].strip()
                    break
    except OSError:
        pass
    libc = " ".join(platform.libc_ver()).strip()
    return f"{model}, {os.cpu_count()} CPUs, Linux {platform.release()}, {libc}"


# Eight colours that can be told apart with the common kinds of colour blindness; ours is first.
COLOURS = ["#d1495b", "#444444", "#2e6f95", "#66a182", "#edae49", "#8d6a9f", "#00798c", "#9a6b4f"]


def colour_of(names):
    """A colour per allocator: ours always has the first one, glibc the second."""
    order = [OURS, "glibc"] + [name for name in names if name not in (OURS, "glibc")]
    return {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(order)}


PAGE = """<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem;
       color: #222; background: #fff; }}
h1 {{ font-size: 1.5rem; }} h2 {{ font-size: 1.15rem; margin-top: 2.2rem; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; margin: .6rem 0; }}
th, td {{ padding: .15rem .55rem; text-align: right; white-space: nowrap;
          border-bottom: 1px solid #ddd; }}
th:first-child, td:first-child {{ text-align: left; }}
tr.ours td {{ font-weight: 600; }}
.note {{ color: #666; font-size: .9rem; }}
svg text {{ font: 12px system-ui, sans-serif; fill: #333; }}
svg {{ max-width: 100%; height: auto; }}
</style>
{body}
</html>
"""


def write_page(path, title, body):
    with open(path, "w", encoding="utf-8") as file:
        file.write(PAGE.format(title=html.escape(title), body=body))
