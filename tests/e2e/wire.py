"""A WebSocket client (RFC 6455) on a bare socket, that can also do everything wrong."""
import base64
import contextlib
import hashlib
import json
import os
import socket
import struct
import time

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

elsewhere = {}  # port: what makes the context in which it is reached, where a node listens in another network namespace


def new_socket(port):
    with elsewhere.get(port, contextlib.nullcontext)():
        return socket.socket()


class Closed(Exception):
    """The server closed: code is that of its close frame, None when the connection just ended."""

    def __init__(self, code, reason=""):
        super().__init__(f"closed with {code} {reason}")
        self.code, self.reason = code, reason


def receive(sock, deadline, timeout):
    """What has come by then; timeout, in seconds, is what it was."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError(f"nothing came within {timeout:g} s")
    sock.settimeout(left)
    return sock.recv(1 << 18)


class Frame:
    def __init__(self, fin, opcode, payload):
        self.fin, self.opcode, self.payload = fin, opcode, payload

    def __repr__(self):
        return f"Frame(fin={self.fin}, opcode={self.opcode}, {len(self.payload)} octets: {self.payload[:60]!r})"


def make_frame(opcode, payload=b"", fin=True, rsv=0, mask=True, length=None):
    """A frame's octets. length: what the header claims, where it is not the truth."""
    n = len(payload) if length is None else length
    head = bytes([fin << 7 | rsv << 4 | opcode])
    bit = mask << 7
    if n < 126:
        head += bytes([bit | n])
    elif n < 65536:
        head += bytes([bit | 126]) + struct.pack(">H", n)
    else:
        head += bytes([bit | 127]) + struct.pack(">Q", n)
    if not mask:
        return head + payload
    key = os.urandom(4)
    pad = key * (len(payload) // 4 + 1)
    masked = int.from_bytes(payload, "big") ^ int.from_bytes(pad[: len(payload)], "big")
    return head + key + masked.to_bytes(len(payload), "big")


def close_payload(code, reason=b""):
    return struct.pack(">H", code) + reason


class WebSocket:
    takes_binary = False  # as a text of one character an octet

    def __init__(self, port, timeout=20, receive_buffer=None, source=None):
        self.timeout = timeout
        self.socket = new_socket(port)
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        if source is not None:
            self.socket.bind((source, 0))
        self.socket.settimeout(timeout)
        self.socket.connect(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.port = port
        self.buffer = bytearray()
        self.start = 0
        self.answers_pings = True
        self.pings = 0
        self.status = None
        self.headers = {}
        self.body = ""

    # -- the handshake --

    def request(self, path, headers=(), key=None, version="13", upgrade=True):
        """The upgrade request's octets. headers: pairs; one with the value None takes that header away."""
        self.key = key if key is not None else base64.b64encode(os.urandom(16)).decode()
        lines = {"Host": f"127.0.0.1:{self.port}"}
        if upgrade:
            lines.update({"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Key": self.key,
                          "Sec-WebSocket-Version": version})
        extra = []
        for name, value in dict(headers).items() if isinstance(headers, dict) else headers:
            if value is None:
                lines.pop(name, None)
            elif name in lines:
                lines[name] = value
            else:
                extra.append((name, value))
        text = "".join(f"{n}: {v}\r\n" for n, v in [*lines.items(), *extra])
        return f"GET {path} HTTP/1.1\r\n{text}\r\n".encode("latin-1")

    def upgrade(self, path, headers=(), **options):
        self.send(self.request(path, headers, **options))
        self.read_response()
        return self

    def read_response(self):
        """The HTTP answer; with 101 its correctness is asserted."""
        head = self.read_until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        version, status = head[0].split(" ")[:2]
        assert version == "HTTP/1.1", head[0]
        self.status = int(status)
        self.headers = {n.strip().lower(): v.strip() for n, _, v in (line.partition(":") for line in head[1:] if line)}
        if self.status == 101:
            accept = base64.b64encode(hashlib.sha1((self.key + GUID).encode()).digest()).decode()
            assert self.headers.get("sec-websocket-accept") == accept, self.headers
            assert self.headers.get("upgrade", "").lower() == "websocket", self.headers
            assert "upgrade" in self.headers.get("connection", "").lower(), self.headers
        else:
            length = self.headers.get("content-length")
            self.body = bytes(self.read_exactly(int(length)) if length is not None else self.read_all()).decode()
        return self

    # -- octets --

    def send(self, data):
        self.socket.sendall(data)

    def send_quietly(self, data):
        """Where the server may have closed already."""
        try:
            self.send(data)
        except OSError:
            pass

    def fill(self, deadline):
        try:
            data = receive(self.socket, deadline, self.timeout)
        finally:
            self.socket.settimeout(self.timeout)
        if not data:
            raise Closed(None, "the connection ended")
        if self.start > 1 << 20:
            del self.buffer[: self.start]
            self.start = 0
        self.buffer += data

    def read_exactly(self, n, deadline=None):
        deadline = deadline or time.monotonic() + self.timeout
        while len(self.buffer) - self.start < n:
            self.fill(deadline)
        data = self.buffer[self.start : self.start + n]
        self.start += n
        return data

    def read_until(self, mark):
        deadline = time.monotonic() + self.timeout
        while (at := self.buffer.find(mark, self.start)) < 0:
            self.fill(deadline)
        return self.read_exactly(at + len(mark) - self.start)

    def read_all(self):
        deadline = time.monotonic() + self.timeout
        try:
            while True:
                self.fill(deadline)
        except Closed:
            return self.read_exactly(len(self.buffer) - self.start)

    def wait_end(self):
        """Until the server has closed the connection; what it sent before."""
        try:
            return self.read_all()
        except ConnectionResetError:
            return b""

    # -- frames --

    def send_frame(self, opcode, payload=b"", **options):
        self.send(make_frame(opcode, payload, **options))

    def send_text(self, text):
        self.send_frame(TEXT, text if isinstance(text, bytes) else text.encode())

    def send_json(self, value):
        self.send_text(json.dumps(value))

    def frame(self, timeout=None):
        """The next frame as it is. Whatever the server sends must itself be well-formed."""
        deadline = time.monotonic() + (timeout or self.timeout)
        first, second = self.read_exactly(2, deadline)
        assert not first & 0x70, "the server set a reserved bit"
        assert not second & 0x80, "the server masked a frame"
        n = second
        if n == 126:
            (n,) = struct.unpack(">H", self.read_exactly(2, deadline))
            assert n >= 126, "length not in its shortest form"
        elif n == 127:
            (n,) = struct.unpack(">Q", self.read_exactly(8, deadline))
            assert n >= 65536, "length not in its shortest form"
        frame = Frame(bool(first & 0x80), first & 0x0F, bytes(self.read_exactly(n, deadline)))
        assert frame.opcode in (CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG), frame
        assert frame.opcode < 8 or (frame.fin and n < 126), frame
        return frame

    def text(self, timeout=None):
        """The next message; pings before it are answered, a close raises Closed."""
        deadline = time.monotonic() + (timeout or self.timeout)
        while True:
            frame = self.frame(max(0.001, deadline - time.monotonic()))
            if frame.opcode == PING:
                self.pings += 1
                if self.answers_pings:
                    self.send_frame(PONG, frame.payload)
            elif frame.opcode == CLOSE:
                code = struct.unpack(">H", frame.payload[:2])[0] if frame.payload else 1005
                raise Closed(code, frame.payload[2:].decode())
            elif frame.opcode == TEXT:
                assert frame.fin, "the dialect is one frame a message"
                return frame.payload.decode()
            elif frame.opcode == BINARY and self.takes_binary:
                return frame.payload.decode("latin-1")
            else:
                assert frame.opcode == PONG, frame

    def json(self, timeout=None):
        return json.loads(self.text(timeout))

    def take(self, n):
        """The next n messages."""
        return [self.json() for _ in range(n)]

    def take_until(self, last):
        """Messages up to and with the first for which last(message) is true."""
        messages = [self.json()]
        while not last(messages[-1]):
            messages.append(self.json())
        return messages

    def wait_closed(self):
        """Until the server closes, whatever comes before; answers, and returns its code (None: there was no close frame)."""
        return self.take_close()[0]

    def take_close(self):
        """The same; code and reason."""
        deadline = time.monotonic() + 3 * self.timeout
        try:
            while True:
                self.text()
                if time.monotonic() > deadline:
                    raise TimeoutError(f"not closed within {3 * self.timeout:g} s")
        except Closed as closed:
            if closed.code is not None:
                self.send_quietly(make_frame(CLOSE, close_payload(closed.code)))
            return closed.code, closed.reason
        except ConnectionResetError:
            return None, ""

    def assert_alive(self):
        """The session still serves: a ping is answered."""
        mark = os.urandom(8)
        self.send_frame(PING, mark)
        deadline = time.monotonic() + self.timeout
        while time.monotonic() < deadline:
            frame = self.frame()
            if frame.opcode == PONG and frame.payload == mark:
                return
            assert frame.opcode != CLOSE, frame
        raise AssertionError("a ping is not answered")

    def close(self):
        self.socket.close()
