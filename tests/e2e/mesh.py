"""Many nodes: a secret for them, networks whose every path can be cut or slowed, and players of nodes (docs/cluster.md).

    with cluster(3) as nodes:                                   linked, with the ids n0, n1, n2
    with Network(3) as network, network.cluster() as nodes:     each in a namespace of its own
        network.cut(0, 1)                                       nothing comes from n0 to n1 any more

A Player has the secret and speaks as a node does, by hand: its heartbeats go out by NOTIFY, it dials or is dialled. It tells lies
where a test tells it to."""
import base64
import calendar
import contextlib
import fcntl
import hashlib
import heapq
import hmac
import json
import os
import re
import secrets
import select
import socket
import struct
import subprocess
import sys
import threading
import time

if __name__ != "__main__":
    import wire
    from harness import Node, die_with_parent, eventually, free_port, quote, seconds, site
    from wall import Missing, inside, ip
    from wire import BINARY, CLOSE, Closed, close_payload, make_frame

PROTOCOL = "pgrelay.link.1"
SECRET = "what \"these\" nodes \\ share: \u00e4\U0001f600"
CHANNEL = "web_ws_heartbeat"
HMAC = ',"hmac":"'


def new_secret():
    """One that no log may show."""
    secret = secrets.token_hex(32)
    site.tokens.append(secret)
    return secret


# ---- nodes ----


def start(name, secret=SECRET, wait=False, **settings):
    """A node of this id; without a secret where that is None."""
    if secret is not None and secret not in site.tokens:
        site.tokens.append(secret)
    env = {**settings.pop("env", {}), **({"PGRELAY_SECRET": secret} if secret is not None else {})}
    node = Node(wait=wait, env=env, node=name, **{"log_level": "info", **settings})
    node.name = name
    return node


def wait_linked(nodes, links=None, timeout=30):
    """Each with all the others, unless told with how many."""
    for node in nodes:
        node.wait_ready()
    wanted = len(nodes) - 1 if links is None else links

    def linked():
        open_now = [node.metric("pgrelay_links") for node in nodes]
        assert open_now == [wanted] * len(nodes), open_now
        return True

    eventually(linked, timeout, "all are linked")


@contextlib.contextmanager
def ending_well(nodes):
    """Whoever stands in the list in the end must."""
    yield
    with contextlib.ExitStack() as stack:
        for node in nodes:
            stack.enter_context(node)


@contextlib.contextmanager
def cluster(count, **settings):
    nodes = [start(f"n{i}", **settings) for i in range(count)]
    with ending_well(nodes):
        wait_linked(nodes)
        yield nodes


def total(nodes, name):
    return sum(node.metric(f"pgrelay_{name}") for node in nodes)


def heard(node, kind):
    """How many heartbeats of this kind."""
    return node.metric(rf'pgrelay_heartbeats_total\{{kind="{kind}"\}}')


def refused(node, reason):
    return node.metric(rf'pgrelay_peers_refused_total\{{reason="{reason}"\}}')


def wait_log(node, text, count=1, timeout=20):
    """Until this stands in the log (not a pattern) so many times, at least; the lines."""
    def lines():
        return [line for line in node.log.splitlines() if text in line]

    eventually(lambda: len(lines()) >= count, timeout, f"{text!r} in the log of the node on port {node.port}")
    return lines()


def line_time(line):
    """Seconds since 1970 of a line of a log."""
    date, millis = re.match(r"(\S+)\.(\d{3})Z ", line).groups()
    return calendar.timegm(time.strptime(date, "%Y-%m-%dT%H:%M:%S")) + int(millis) / 1000


def owner(event, *names):
    """Who of these is to read its payload (section 4)."""
    return max(names, key=lambda name: hashlib.sha256(f"{name}\n{event}".encode()).digest()[:8])


# ---- networks ----


class Network:
    """Namespaces, each with one device, and a program between them that drops or delays what it is told to. Needs root."""

    TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 1, 0x1000
    MTU = 65000  # few packets: the program between is no router

    def __init__(self, count):
        self.names = [f"pgrelay-mesh-{os.getpid()}-{i}" for i in range(count)]
        self.addresses = [f"10.77.0.{i + 1}" for i in range(count)]
        self.ports = [free_port() for _ in range(count)]
        self.devices = []

    def __enter__(self):
        try:
            for name, address in zip(self.names, self.addresses):
                ip("netns", "add", name)
                self.devices.append(self.make_device(name))
                ip("link", "set", "lo", "up", netns=name)
                ip("address", "add", f"{address}/24", "dev", "mesh", netns=name)
                ip("link", "set", "mesh", "mtu", str(self.MTU), "up", netns=name)
            self.switch = subprocess.Popen([sys.executable, os.path.abspath(__file__), *map(str, self.devices)], stdin=subprocess.PIPE,
                                           stdout=subprocess.PIPE, pass_fds=self.devices, text=True, preexec_fn=die_with_parent)
            for name, port in zip(self.names, self.ports):
                wire.elsewhere[port] = lambda name=name: inside(name)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        if hasattr(self, "switch"):
            self.switch.stdin.close()
            self.switch.wait()
            self.switch.stdout.close()
        for device in self.devices:
            os.close(device)
        for name, port in zip(self.names, self.ports):
            wire.elsewhere.pop(port, None)
            with contextlib.suppress(Missing):
                ip("netns", "delete", name)

    def make_device(self, name):
        try:
            with inside(name):
                device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
                fcntl.ioctl(device, self.TUNSETIFF, struct.pack("16sH14x", b"mesh", self.IFF_TUN | self.IFF_NO_PI))
        except OSError as e:
            raise Missing(f"/dev/net/tun: {e.strerror}; this test needs root, and the kernel's module tun") from None
        return device

    def start(self, i, port=None, **settings):
        """A node that others reach by the network, and clients and we by its own loopback."""
        if port is not None:
            wire.elsewhere[port] = lambda: inside(self.names[i])
        port = port or self.ports[i]
        with inside(self.names[i]):
            return start(f"n{i}", port=port, listen=f"127.0.0.1:{port},{self.addresses[i]}:{port}",
                         advertise=f"{self.addresses[i]}:{port}", **settings)

    @contextlib.contextmanager
    def cluster(self, **settings):
        """The list may be changed."""
        nodes = [self.start(i, **settings) for i in range(len(self.names))]
        with ending_well(nodes):
            wait_linked(nodes)
            yield nodes

    # -- what goes wrong --

    def tell(self, *words):
        self.switch.stdin.write(" ".join(map(str, words)) + "\n")
        self.switch.stdin.flush()
        assert self.switch.stdout.readline() == "done\n"
        return time.time()

    def cut(self, *pairs):
        """From the first to the second of each pair; returns when."""
        for a, b in pairs:
            now = self.tell("cut", a, b)
        return now

    def slow(self, a, b, delay, rate=0):
        """Seconds that each packet takes from a to b, and octets a second (0: any)."""
        return self.tell("slow", a, b, delay, rate)

    def heal(self):
        return self.tell("heal")


def switch(devices):
    """What stands between the namespaces: a program of its own, by commands that come on standard input."""
    cut, slow, free_at = set(), {}, {}
    waiting = []  # (when, number, device, packet)
    count = 0
    commands = b""

    def obey(word, *arguments):
        pair = tuple(map(int, arguments[:2]))
        if word == "cut":
            cut.add(pair)
        elif word == "slow":
            slow[pair] = float(arguments[2]), float(arguments[3])
        else:
            cut.clear()
            slow.clear()
        print("done", flush=True)

    def put(device, packet):
        with contextlib.suppress(OSError):
            os.write(device, packet)

    while True:
        pause = max(0, waiting[0][0] - time.monotonic()) if waiting else None
        ready = select.select([0, *devices], [], [], pause)[0]
        now = time.monotonic()
        while waiting and waiting[0][0] <= now:
            _, _, device, packet = heapq.heappop(waiting)
            put(device, packet)
        for a, device in enumerate(devices):
            if device not in ready:
                continue
            with contextlib.suppress(BlockingIOError):
                packet = os.read(device, 1 << 17)
                b = packet[19] - 1 if packet[0] >> 4 == 4 else -1
                if not 0 <= b < len(devices) or (a, b) in cut:
                    continue
                if (a, b) not in slow:
                    put(devices[b], packet)
                    continue
                delay, rate = slow[a, b]
                free_at[a, b] = max(free_at.get((a, b), 0), now) + (len(packet) / rate if rate else 0)
                if free_at[a, b] < now + 2:  # what a queue holds
                    count += 1
                    heapq.heappush(waiting, (free_at[a, b] + delay, count, devices[b], packet))
        if 0 in ready:
            data = os.read(0, 4096)
            if not data:
                return
            *lines, commands = (commands + data).split(b"\n")
            for line in lines:
                obey(*line.decode().split())


# ---- players ----


def encode(name):
    """As keys are written in topics."""
    return re.sub("[ %*,]", lambda m: f"%{ord(m.group()):02X}", name)


def sign(secret, text):
    return hmac.new(secret.encode() if isinstance(secret, str) else secret, text.encode(), hashlib.sha256)


def make_header(secret=SECRET, nonce=None):
    """A header `secret`, as AWX makes it."""
    nonce = f"{time.time():.6f}" if nonce is None else nonce
    return f"HMAC-SHA256 {nonce}:{sign(secret, json.dumps({'secret': secret, 'nonce': nonce})).hexdigest()}"


def notify(text, channel=CHANNEL):
    site.sql(f"SELECT pg_notify({quote(channel)}, {quote(text)})")


def upgrade_headers(header=None, protocol=PROTOCOL):
    return [(name, value) for name, value in (("secret", header), ("Sec-WebSocket-Protocol", protocol)) if value is not None]


class Link(wire.WebSocket if __name__ != "__main__" else object):
    """One end of a link, by hand. Its player was dialled where there is a socket."""

    takes_binary = True

    takes_binary = True

    def __init__(self, player, node=None, accepted=None, header=None, protocol=PROTOCOL):
        self.player = player
        self.challenge = secrets.token_hex(32)
        self.dialled = accepted is None
        if self.dialled:
            super().__init__(node.port, timeout=seconds(20))
            site.clients.append(self)
            self.upgrade("/websocket/relay/", upgrade_headers(header or make_header(player.secret), protocol))
        else:
            self.socket, self.timeout, self.port = accepted, seconds(20), None
            accepted.settimeout(self.timeout)
            self.buffer, self.start, self.answers_pings, self.pings = bytearray(), 0, True, 0
            site.clients.append(self)
            self.accept()

    def accept(self):
        head = bytes(self.read_until(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        self.target = head[0]
        self.headers = {n.strip().lower(): v.strip() for n, _, v in (line.partition(":") for line in head[1:] if line)}
        key = base64.b64encode(hashlib.sha1((self.headers["sec-websocket-key"] + wire.GUID).encode()).digest()).decode()
        self.send(("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                   f"Sec-WebSocket-Accept: {key}\r\nSec-WebSocket-Protocol: {PROTOCOL}\r\n\r\n").encode())

    def send_frame(self, opcode, payload=b"", **options):
        self.send(make_frame(opcode, payload, **{"mask": self.dialled, **options}))

    def frame(self, timeout=None):
        if self.dialled:
            return super().frame(timeout)
        deadline = time.monotonic() + (timeout or self.timeout)
        first, second = self.read_exactly(2, deadline)
        assert second & 0x80, "a client's frame is not masked"
        n = second & 0x7F
        if n > 125:
            width = 2 if n == 126 else 8
            n = int.from_bytes(self.read_exactly(width, deadline), "big")
        key = self.read_exactly(4, deadline)
        body = self.read_exactly(n, deadline)
        return wire.Frame(bool(first & 0x80), first & 0x0F, bytes(octet ^ key[i % 4] for i, octet in enumerate(body)))

    def close(self):
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)  # a thread may be reading
        super().close()

    # -- the handshake --

    def transcript(self, who, **lies):
        """What is proved: lies replace parts of it."""
        me, other = (self.player.name, self.player.boot), (self.other, self.other_boot)
        dialler, acceptor = (me, other) if self.dialled else (other, me)
        own, theirs = self.challenge, self.other_challenge
        parts = {"label": PROTOCOL, "role": who, "cluster": encode(self.player.cluster), "dialler": encode(dialler[0]), "dialler_boot": dialler[1],
                 "acceptor": encode(acceptor[0]), "acceptor_boot": acceptor[1], "dialler_challenge": own if self.dialled else theirs,
                 "acceptor_challenge": theirs if self.dialled else own}
        return "".join(f"{part}\n" for part in {**parts, **lies}.values())

    def prove(self, **lies):
        return sign(self.player.secret, self.transcript("dialler" if self.dialled else "acceptor", **lies)).hexdigest()

    def hello(self, other, **lies):
        """The words of our hello, without the proof."""
        p = self.player
        return list({"word": "hello", "cluster": encode(p.cluster), "from": encode(p.name), "boot": p.boot, "to": encode(other),
                     "challenge": self.challenge, **lies}.values())

    def send_words(self, *words):
        self.send_text(" ".join(map(str, words)))

    def send_have(self, request, left, octets):
        self.send_frame(BINARY, f"have {request} {left} ".encode() + octets)

    def take_hello(self):
        words = self.text().split(" ")
        assert words[0] == "hello" and len(words) == (7 if self.dialled else 6), words
        cluster, self.other_written, self.other_boot, to, self.other_challenge = words[1:6]
        self.other = re.sub("%([0-9A-F]{2})", lambda m: chr(int(m.group(1), 16)), self.other_written)
        assert (cluster, to) == (encode(self.player.cluster), encode(self.player.name)), words
        return words

    def greet(self, other):
        """As the dialler: hello, and its answer, whose proof must be right."""
        self.send_words(*self.hello(other))
        words = self.take_hello()
        assert words[6] == sign(self.player.secret, self.transcript("acceptor")).hexdigest()

    def open(self, other=None):
        """The whole handshake."""
        if self.dialled:
            self.greet(other)
            self.send_words("proof", self.prove())
        else:
            self.take_hello()
            self.send_words(*self.hello(self.other), self.prove())
            word, proof = self.text().split(" ")
            assert (word, proof) == ("proof", sign(self.player.secret, self.transcript("dialler")).hexdigest())
        return self

    # -- afterwards --

    def message(self, timeout=None):
        """The next one that is not about pings, which are answered."""
        deadline = time.monotonic() + (timeout or self.timeout)
        while True:
            text = self.text(max(0.001, deadline - time.monotonic()))
            if text.startswith("ping "):
                self.send_text("pong " + text[5:])
            elif not text.startswith("pong "):
                return text

    def assert_open(self):
        """A ping comes back."""
        mark = str(secrets.randbelow(1 << 40))
        self.send_words("ping", mark)
        while self.text() != f"pong {mark}":
            pass

    def wait_refused(self):
        """Code and reason of its end."""
        try:
            while True:
                self.text()
        except Closed as closed:
            if closed.code is not None:
                with contextlib.suppress(OSError):
                    self.send_frame(CLOSE, close_payload(closed.code))
            return closed.code, closed.reason

    def serve(self, on_want):
        """In a thread: on_want(link, request, octets) for each `want`, until the link ends."""
        def run():
            with contextlib.suppress(Closed, OSError, TimeoutError):
                while True:
                    word, *fields = self.message().split(" ")
                    if word == "want":
                        self.player.wants.append(int(fields[1]))
                        on_want(self, fields[0], int(fields[2]))

        threading.Thread(target=run, daemon=True).start()
        return self


class Player:
    """Plays a node."""

    def __init__(self, name, secret=SECRET, cluster="default", host="127.0.0.1"):
        self.name, self.secret, self.cluster, self.host = name, secret, cluster, host
        self.boot = secrets.token_hex(8)
        self.counter = 0
        self.wants = []  # ids of events
        self.listener = socket.socket()
        self.listener.bind((host, 0))
        self.listener.listen(10)
        self.listener.settimeout(seconds(20))
        self.port = self.listener.getsockname()[1]
        site.clients.append(self)

    def close(self):
        self.listener.close()

    def make_beat(self, action="online", sign_with=None, **changes):
        """A heartbeat's text: None takes a field away."""
        self.counter += 1
        fields = {"hostname": "played", "ip": self.host, "action": action, "node": self.name, "boot": self.boot, "cluster": self.cluster,
                  "scheme": "ws", "port": self.port, "version": "0.1.0", "time": time.time_ns() // 1000, "counter": self.counter, **changes}
        text = json.dumps({k: v for k, v in fields.items() if v is not None}, separators=(",", ":"))[:-1]
        key = sign(sign_with or self.secret, f"pgrelay.heartbeat.1\n{fields['node']}\n{fields['boot']}\n{fields['counter']}\n{fields['time']}").digest()
        return text + HMAC + sign(key, text).hexdigest() + '"}'

    def beat(self, *args, **changes):
        text = self.make_beat(*args, **changes)
        notify(text)
        return text

    @contextlib.contextmanager
    def beating(self):
        """A heartbeat a second; one before the block begins."""
        import libpq  # here: the program below needs none

        session, ending = libpq.Session(site.pg.conninfo("writer")), threading.Event()

        def run():
            while not ending.wait(1):
                session(f"SELECT pg_notify('{CHANNEL}', {quote(self.make_beat())})")

        session(f"SELECT pg_notify('{CHANNEL}', {quote(self.make_beat())})")
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            ending.set()
            thread.join()
            session.close()

    def dial(self, node, **options):
        """Up to the upgrade."""
        return Link(self, node, **options)

    def take(self):
        """Up to the upgrade: somebody dials."""
        return Link(self, accepted=self.listener.accept()[0])

    def is_dialled(self, timeout=0):
        return bool(select.select([self.listener], [], [], timeout)[0])


if __name__ == "__main__":
    switch(list(map(int, sys.argv[1:])))
