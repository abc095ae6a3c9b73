"""A client with many connections: http-client.py PORT CONNECTIONS REQUESTS. Each connection asks
again as soon as it has its answer; all are closed at the end. (ab cannot send headers of this
size.)"""

import selectors
import socket
import sys

HEADER_BYTES, HEADERS = 9000, 3
BODY = bytes(range(256)) * 1024
REQUEST = b"".join(
    [b"POST /answer HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n" % len(BODY)]
    + [b"X-Large-%d: %b\r\n" % (number, b"h" * HEADER_BYTES) for number in range(HEADERS)]
    + [b"\r\n", BODY]
)


class Connection:
    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setblocking(False)
        self.begin()

    def begin(self):
        self.to_send = memoryview(REQUEST)
        self.head = b""
        self.expected = None  # bytes of the answer's body that are still to come

    def send(self):
        """True when the request is out."""
        self.to_send = self.to_send[self.socket.send(self.to_send) :]
        return not self.to_send

    def receive(self):
        """True when the answer is there."""
        data = self.socket.recv(1 << 18)
        if not data:
            sys.exit("the server closed a connection")
        if self.expected is None:
            self.head += data
            head, end, data = self.head.partition(b"\r\n\r\n")
            if not end:
                return False
            if not head.startswith(b"HTTP/1.1 200 "):
                sys.exit(f"the server answered {head[:60]!r}")
            length = head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]
            self.expected = int(length)
        self.expected -= len(data)
        return self.expected <= 0


def main():
    port, connections, left = map(int, sys.argv[1:])
    selector = selectors.DefaultSelector()
    for _ in range(connections):
        one = Connection(port)
        selector.register(one.socket, selectors.EVENT_WRITE, one)
    left -= connections
    busy = connections
    while busy:
        for key, events in selector.select(60) or sys.exit("the server does not answer"):
            one = key.data
            if events & selectors.EVENT_WRITE and one.send():
                selector.modify(one.socket, selectors.EVENT_READ, one)
            elif events & selectors.EVENT_READ and one.receive():
                if left > 0:
                    left -= 1
                    one.begin()
                    selector.modify(one.socket, selectors.EVENT_WRITE, one)
                else:
                    busy -= 1
                    selector.unregister(one.socket)


main()
