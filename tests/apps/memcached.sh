#!/bin/bash
# memcached on the library gives back every value that it was given, to hundreds of connections
# served by four threads, after values have grown, shrunk, been deleted and replaced.
. "$(dirname "$0")/lib.sh"
need memcached python3

write_client() {
    cat >client.py <<'CLIENT'
"""Fills, changes and reads a known data set from several threads; prints what was read."""
import hashlib
import socket
import sys
import threading

PORT = int(sys.argv[1])
THREADS = 8
KEYS_PER_THREAD = 5000


def value_of(key, generation):
    """A fixed value of 1 byte to 100 KiB; most are small."""
    seed = hashlib.sha256(b"%s:%d" % (key, generation)).digest()
    size = 1 + int.from_bytes(seed[:2], "big") % 500
    if seed[2] < 8:
        size = 1 + int.from_bytes(seed[3:6], "big") % 102400
    return (seed * (size // len(seed) + 1))[:size]


class Connection:
    def __init__(self):
        self.socket = socket.create_connection(("127.0.0.1", PORT), timeout=60)
        self.file = self.socket.makefile("rb", 1 << 16)

    def send(self, data):
        self.socket.sendall(data)

    def ask(self, command, *data):
        self.send(b"\r\n".join((command,) + data) + b"\r\n")
        return self.file.readline().rstrip()

    def store(self, verb, key, value):
        answer = self.ask(b"%s %s 0 0 %d" % (verb, key, len(value)), value)
        assert answer == b"STORED", (verb, key, answer)

    def get(self, keys):
        self.send(b"get " + b" ".join(keys) + b"\r\n")
        found = {}
        while (line := self.file.readline()) != b"END\r\n":
            word, key, _, size = line.split()
            assert word == b"VALUE", line
            found[key] = self.file.read(int(size) + 2)[:-2]
        return found

    def close(self):
        self.file.close()
        self.socket.close()


def keys_of(thread):
    return [b"key:%d:%d" % (thread, i) for i in range(KEYS_PER_THREAD)]


def fill(connection, keys):
    """Leaves the key's last value: stored, replaced, appended to, deleted or a counter."""
    for i, key in enumerate(keys):
        connection.store(b"set", key, value_of(key, 0))
        if i % 3 == 0:
            connection.store(b"replace", key, value_of(key, 1))
        if i % 5 == 0:
            connection.store(b"append", key, value_of(key, 2))
        if i % 7 == 0:
            assert connection.ask(b"delete " + key) == b"DELETED"
        if i % 7 == 0 and i % 2 == 0:
            connection.store(b"add", key, b"41")
            assert connection.ask(b"incr " + key + b" 1") == b"42"


def read(connection, keys):
    """A hash over all that is there, in the order of the keys."""
    total, found_count = hashlib.sha256(), 0
    for start in range(0, len(keys), 100):
        batch = keys[start : start + 100]
        found = connection.get(batch)
        found_count += len(found)
        for key in batch:
            total.update(b"%s=%s;" % (key, found.get(key, b"none")))
    return "%d %s" % (found_count, total.hexdigest())


def in_threads(function):
    results = [None] * THREADS

    def work(thread):
        connection = Connection()
        results[thread] = function(connection, keys_of(thread))
        connection.close()

    threads = [threading.Thread(target=work, args=(i,)) for i in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def many_connections(count):
    """Each asks for something large while all the others are open, then all close at once."""
    connections = [Connection() for _ in range(count)]
    keys = keys_of(0)[:100]
    for connection in connections:
        connection.send(b"get " + b" ".join(keys) + b"\r\n")
    wanted = None
    for connection in connections:
        answer = b"".join(iter(connection.file.readline, b"END\r\n"))
        wanted = wanted or answer
        assert answer == wanted, "two connections read different values"
    for connection in connections:
        connection.close()


in_threads(fill)
many_connections(600)
for line in in_threads(read):
    assert line is not None, "a thread failed"
    print(line)
many_connections(300)
connection = Connection()
assert connection.ask(b"flush_all") == b"OK"
print("after flush_all:", read(connection, keys_of(1)))
connection.store(b"set", b"again", value_of(b"again", 0))
assert connection.get([b"again"])[b"again"] == value_of(b"again", 0)
stats = {}
connection.send(b"stats\r\n")
while (line := connection.file.readline()) != b"END\r\n":
    _, name, value = line.split(maxsplit=2)
    stats[name.decode()] = value.decode().strip()
for name in "evictions", "cmd_set", "get_hits", "get_misses", "total_items", "threads":
    print(name, stats[name])
CLIENT
}

work() {
    free_port
    server memcached memcached -l 127.0.0.1 -p "$port" -U 0 -u "$(id -un)" -t 4 -m 256 -c 900
    wait_for_port
    write_client
    python3 client.py "$port" >"$results/read" 2>"$logs/client" || fail "the client failed"
    record_maps "$server_pid"
    stop_server "$server_pid" TERM
}

calls_go_to_library memcached --version
compare_runs work
