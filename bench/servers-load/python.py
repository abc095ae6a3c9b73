"""Builds and drops large structures of dicts, lists and strings, as a service does that reads and
answers documents, in four threads; the main thread drops what they made. Commands come by standard
input: a number of documents for each thread; `done` is the answer when they are dropped."""

import concurrent.futures
import gc
import json
import random
import sys

THREADS = 4
FILLER = "abcdefghijklmnopqrstuvwxyz0123456789" * 256


def text(source):
    return FILLER[: source.choice((20, 60, 200, 700, 2000)) + source.randrange(40)]


def document(source, records):
    return {
        f"record {number}": {
            "name": text(source),
            "words": [text(source) for _ in range(source.randrange(8))],
            "index": {str(k): k * number for k in range(source.randrange(30))},
            "bytes": bytearray(source.randrange(6000)),
        }
        for number in range(records)
    }


def serve(seed, documents):
    source = random.Random(seed)
    kept = []
    for _ in range(documents):
        made = document(source, 300)
        for record in made.values():
            record["bytes"] = len(record["bytes"])
        kept.append((made, json.loads(json.dumps(made))))
    return kept


def main():
    with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
        for line in sys.stdin:
            documents = int(line)
            for _ in range(2):
                kept = list(pool.map(serve, range(THREADS), [documents] * THREADS))
                del kept
            gc.collect()
            print("done", flush=True)


main()
