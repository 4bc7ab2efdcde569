"""A client of server-sent events on a bare socket: the HTML standard's parser, and what it throws away as well."""
import collections
import json
import socket
import time
import urllib.parse

from wire import receive


class Ended(Exception):
    """The stream is over. reset: by an error, and not by its end."""

    def __init__(self, reset=False):
        super().__init__("the stream was reset" if reset else "the stream ended")
        self.reset = reset


class Event:
    def __init__(self, type, data, id):
        self.type, self.data, self.id = type, data, id

    def json(self):
        return json.loads(self.data)

    def __repr__(self):
        return f"Event({self.type}, {self.data[:80]!r}, id {self.id!r})"


class Stream:
    """A GET of /events. The attributes status, headers and (of a refusal) body tell the answer."""

    def __init__(self, port, groups=None, token=None, cursor=None, last_event_id=None, headers=(), version="1.1",
                 path="/events", timeout=20, receive_buffer=None, host="127.0.0.1", source=None):
        self.port = port
        self.socket = socket.socket()
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        if source is not None:
            self.socket.bind((source, 0))
        self.socket.settimeout(timeout)
        self.timeout = timeout
        self.socket.connect((host, port))
        query = {"groups": groups, "token": token, "cursor": cursor}
        more = urllib.parse.urlencode({k: v for k, v in query.items() if v is not None}, safe=",")
        self.path = f"{path}{'&' if '?' in path else '?'}{more}"
        self.buffer, self.lines = b"", collections.deque()
        self.id = self.next_id = last_event_id or ""  # the last event id, as a browser keeps it
        self.type, self.data = "message", []
        self.comments = []
        lines = {"Host": f"{host}:{port}", **dict(headers)}
        if last_event_id is not None:
            lines["Last-Event-ID"] = last_event_id
        text = "".join(f"{n}: {v}\r\n" for n, v in lines.items() if v is not None)
        self.socket.sendall(f"GET {self.path} HTTP/{version}\r\n{text}\r\n".encode())
        self.read_head()

    def read_head(self):
        while b"\r\n\r\n" not in self.buffer:
            self.fill(time.monotonic() + self.timeout)
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        self.status = int(first.split(" ")[1])
        self.headers = {n.lower(): v.strip() for n, _, v in (line.partition(":") for line in lines)}
        if self.status != 200:
            self.body = self.read_rest().decode()

    def fill(self, deadline):
        try:
            data = receive(self.socket, deadline, self.timeout)
        except ConnectionError:
            raise Ended(reset=True) from None
        if not data:
            raise Ended()
        self.buffer += data

    def read_rest(self):
        """All that comes until the end."""
        try:
            while True:
                self.fill(time.monotonic() + self.timeout)
        except Ended as ended:
            assert not ended.reset, "a reset instead of an end"
        data, self.buffer = self.buffer, b""
        return data

    def line(self, deadline):
        while not self.lines:
            while b"\n" not in self.buffer:
                self.fill(deadline)
            *lines, self.buffer = self.buffer.split(b"\n")
            self.lines.extend(lines)
        line = self.lines.popleft()
        assert b"\r" not in line, line
        return line.decode()

    def event(self):
        """The next event. Ids alone and comments are taken note of on the way."""
        deadline = time.monotonic() + self.timeout
        while True:
            event = self.step(deadline)
            if event is not None:
                return event

    def step(self, deadline=None):
        """One line; returns the event that it ends, if it ends one."""
        line = self.line(deadline or time.monotonic() + self.timeout)
        name, _, value = line.partition(":")
        value = value[1:] if value.startswith(" ") else value
        if line == "":
            return self.dispatch()
        if name == "":
            self.comments.append(value)
        elif name == "event":
            self.type = value
        elif name == "data":
            self.data.append(value)
        elif name == "id":
            self.next_id = value
        else:
            raise AssertionError(f"an unknown field: {line!r}")
        return None

    def dispatch(self):
        self.id = self.next_id
        event = Event(self.type, "\n".join(self.data), self.id) if self.data else None
        self.type, self.data = "message", []
        return event

    def groups(self):
        """The errors before the groups event, and what that tells."""
        errors = []
        while (event := self.event()).type == "denied":
            errors.append(event.json()["error"])
        assert event.type == "groups", event
        told = event.json()
        assert set(told) == {"groups_current", "groups_left", "groups_joined"}, told
        return errors, {k: sorted(v) for k, v in told.items()}

    def message(self):
        """The next event, which must be a message, as an object."""
        event = self.event()
        assert event.type == "message", event
        return event.json()

    def take(self, n):
        return [self.message() for _ in range(n)]

    def wait_end(self):
        """Reads until the stream ends; returns the events until then."""
        events = []
        try:
            while True:
                events.append(self.event())
        except Ended as ended:
            assert not ended.reset, f"a reset instead of an end, behind {len(events)} events"
        return events

    def close(self):
        self.socket.close()
