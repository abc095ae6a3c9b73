"""Recorded programs as benchmarks: `bench/compare --suite traces`. An entry is traces/NAME, kept in
the repository, or traces/NAME/large, recorded on the spot by tests/traces/make (two minutes for all
of them) and kept where things are built. Both are played by `ebb replay --time`."""

import glob
import lzma
import os
import shutil
import subprocess

import common

SOURCES = os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "tests", "traces")
PREFIX, LARGE = "traces/", "/large"


def kept_names():
    files = glob.glob(os.path.join(SOURCES, "kept", "*.trace.xz"))
    return sorted(os.path.basename(file).split(".")[0] for file in files)


def names(short):
    """Entries: those that are kept, and if it need not be short all that can be recorded."""
    kept = [PREFIX + name for name in kept_names()]
    return kept if short else kept + [name + LARGE for name in kept]


def folder_beside(ebb):
    folder = os.path.join(os.path.dirname(ebb), os.pardir, os.pardir, "bench", "traces")
    os.makedirs(folder, exist_ok=True)
    return os.path.abspath(folder)


def unpacked(name, folder):
    path = os.path.join(folder, f"{name}.trace")
    kept = os.path.join(SOURCES, "kept", f"{name}.trace.xz")
    if not os.path.exists(path) or os.path.getmtime(path) < os.path.getmtime(kept):
        with lzma.open(kept) as packed:
            with open(path + ".new", "wb") as file:
                shutil.copyfileobj(packed, file)
        os.rename(path + ".new", path)
    return path


def recorded(name, folder, ebb):
    """None when the program is not installed."""
    path = os.path.join(folder, "large", f"{name}.trace")
    if not os.path.exists(path):
        progress = common.Progress()
        progress.say(f"recording {name}, once")
        done = subprocess.run(
            [os.path.join(SOURCES, "make"), os.path.join(folder, "large")],
            env=dict(os.environ, EBB_TRACES=name, EBB_CMD=ebb),
            capture_output=True,
            text=True,
            check=False,
        )
        progress.done()
        if done.returncode != 0:
            common.fail(f"{name} cannot be recorded: {(done.stderr or done.stdout).strip()}")
    return path if os.path.exists(path) else None


def command(entry, build_dir):
    """The command of an entry; None where its program cannot be recorded here."""
    ebb = common.find_built("src/ebb/ebb", build_dir)
    if not ebb:
        common.fail("src/ebb/ebb is not built; run make")
    name = entry[len(PREFIX) :].removesuffix(LARGE)
    folder = folder_beside(ebb)
    path = recorded(name, folder, ebb) if entry.endswith(LARGE) else unpacked(name, folder)
    return path and [ebb, "replay", "--time", path]


def figures(out):
    """Nanoseconds per operation, and MiB that the malloc added at the most, from what `ebb replay`
    prints; None if that is something else."""
    lines = out.splitlines()
    words = lines[1].split() if len(lines) > 1 and lines[0].startswith("malloc") else []
    try:
        return float(words[-6]), float(words[-5])
    except (IndexError, ValueError):
        return None
