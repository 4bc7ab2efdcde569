"""Very many AWX clients that come at once: each shows its token, asks for its groups, and is told."""
import json
import resource
import select
import socket
import time

import wire
from harness import seconds, site


def make_room(descriptors):
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    assert hard == resource.RLIM_INFINITY or hard > descriptors, f"this test needs {descriptors} descriptors, and may have {hard}"


def users(name, count, pattern="own.*.%"):
    """So many users of this name with a number behind it, and their tokens; % in the pattern stands for the user's number.
    Lists of ids and of tokens."""
    rows = site.rows(f"""
        WITH made AS MATERIALIZED (
            SELECT n, pgrelay.user_create('{name}' || n) AS id, (pgrelay.token_create('{name}' || n)).token FROM generate_series(1, {count}) n),
        granted AS (INSERT INTO pgrelay.grants (user_id, pattern) SELECT id, replace('{pattern}', '%', n::text) FROM made)
        SELECT id, token FROM made ORDER BY n""", "owner")
    site.tokens += [token for _, token in rows]
    return [int(user) for user, _ in rows], [token for _, token in rows]


class Visitor:
    """One of the herd."""

    def __init__(self, number, token, groups):
        self.number, self.token, self.groups = number, token, groups
        self.socket = None
        self.asked = self.served = None  # when it sent its request, and was accepted or refused, as numbers in a row
        self.status = self.user = None
        self.errors, self.joined = [], None
        self.closed = None  # the close frame's code and reason
        self.buffer = b""

    def connect(self, port):
        self.socket = wire.new_socket(port)
        self.socket.setblocking(False)
        self.socket.connect_ex(("127.0.0.1", port))

    def send_request(self, port):
        self.socket.sendall(f"GET /websocket/?token={self.token} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\n"
                            "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode())

    def take_status(self):
        head, end, rest = self.buffer.partition(b"\r\n\r\n")
        if end:
            self.status, self.buffer = int(head.split(b" ")[1]), rest
        return bool(end)

    def take_frame(self):
        """The next whole one's opcode and payload, or None."""
        if len(self.buffer) < 2:
            return None
        len7, at = self.buffer[1] & 127, 2
        if len7 == 126:
            len7, at = int.from_bytes(self.buffer[2:4], "big"), 4
        if len(self.buffer) < at + len7:
            return None
        frame = self.buffer[0] & 15, self.buffer[at : at + len7]
        self.buffer = self.buffer[at + len7 :]
        return frame

    def take_message(self, message):
        if "accept" in message:
            self.user = message["user"]
            if self.groups is not None:
                self.ask(self.groups)
        elif "error" in message:
            self.errors.append(message["error"])
        else:
            self.joined = sorted(message["groups_current"])

    def ask(self, groups):
        self.groups = groups
        self.socket.sendall(wire.make_frame(wire.TEXT, json.dumps({"groups": groups}).encode()))

    def is_done(self):
        if self.status is None:
            return False
        return self.status != 101 or self.closed is not None or (self.joined is not None if self.groups is not None else self.user is not None)


class Herd:
    """All of them; a context, which hangs up."""

    def __init__(self, node, tokens, groups=None):
        """groups: what the visitor of a number, from 0, asks for; None: nothing."""
        make_room(len(tokens) + 100)
        self.port = node.port
        self.visitors = [Visitor(n, token, groups(n) if groups else None) for n, token in enumerate(tokens)]
        self.poll = select.epoll()
        self.by_descriptor = {}
        self.asked = self.served = 0
        for v in self.visitors:
            v.connect(self.port)
            self.by_descriptor[v.socket.fileno()] = v
            self.poll.register(v.socket, select.EPOLLOUT)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for v in self.visitors:
            v.socket.close()
        self.poll.close()

    def read(self, v):
        data = v.socket.recv(65536)
        v.buffer += data
        if v.status is None:
            if not v.take_status():
                assert data, f"visitor {v.number} was hung up on without an answer"
                return
            v.served = self.served
            self.served += 1
        while v.status == 101 and (frame := v.take_frame()) is not None:
            if frame[0] == wire.CLOSE:
                v.closed = int.from_bytes(frame[1][:2], "big"), frame[1][2:].decode()
            elif frame[0] == wire.TEXT:
                v.take_message(json.loads(frame[1]))
        if not data:
            self.poll.unregister(v.socket)

    def step(self, timeout=0.05):
        """What has come meanwhile."""
        for fd, what in self.poll.poll(timeout):
            v = self.by_descriptor[fd]
            if v.asked is None and what & select.EPOLLOUT:
                v.send_request(self.port)
                v.asked = self.asked
                self.asked += 1
                self.poll.modify(fd, select.EPOLLIN)
            else:
                self.read(v)

    def wait(self, done=Visitor.is_done, timeout=60, meanwhile=lambda: None):
        """Until this holds for all of them."""
        deadline = time.monotonic() + seconds(timeout)
        while not all(map(done, self.visitors)):
            missing = sum(not done(v) for v in self.visitors)
            assert time.monotonic() < deadline, f"{missing} of {len(self.visitors)} have waited in vain"
            self.step()
            meanwhile()
        return self
