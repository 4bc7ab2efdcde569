"""What goes wrong under load: sessions that are killed or kept out, clocks that are set, time that passes; and the node's memory."""
import contextlib
import glob
import os
import re
import socket
import threading
import time

from harness import Missing, eventually, patience, quote, site


def resident_bytes(pid):
    with open(f"/proc/{pid}/status") as status:
        return int(re.search(r"^VmRSS:\s+(\d+) kB", status.read(), re.M).group(1)) << 10


def backend(kind):
    """The server process of the node's session of that kind, listen or query; of several, one. None: there is none."""
    return site.sql(f"SELECT pid FROM pg_stat_activity WHERE usename = 'node' AND application_name LIKE 'pgrelay {kind}%' LIMIT 1")


def kill_backend(kind):
    """Returns whether there was one."""
    pid = backend(kind)
    return pid is not None and site.sql(f"SELECT pg_terminate_backend({pid})") == "t"


@contextlib.contextmanager
def kept_out(kind="%"):
    """The node has no such session, and gets none before the block has ended."""
    site.sql("ALTER ROLE node NOLOGIN")
    try:
        eventually(lambda: not kill_backend(kind) and backend(kind) is None, what="the session is gone")
        yield
    finally:
        site.sql("ALTER ROLE node LOGIN")


def with_settings(**settings):
    """Restarts the server with these, unless it has them."""
    if all(site.sql(f"SHOW {name}") == value for name, value in settings.items()):
        return
    for name, value in settings.items():
        site.sql(f"ALTER SYSTEM SET {name} = {quote(value)}")
    site.drop_sessions()
    site.pg.restart()


class Throttle:
    """A way to the server by TCP on which its answers come at so many octets a second; rate None: as fast as they can."""

    def __init__(self):
        self.rate = None
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.sockets = []
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                client = self.listener.accept()[0]
                server = socket.create_connection(("127.0.0.1", site.pg.port))
                self.sockets += [client, server]
                threading.Thread(target=self.forward, args=(client, server, False), daemon=True).start()
                threading.Thread(target=self.forward, args=(server, client, True), daemon=True).start()

    def forward(self, source, sink, is_answer):
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                sink.sendall(data)
                if is_answer and self.rate:
                    time.sleep(len(data) / self.rate)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def conninfo(self):
        return f"host=127.0.0.1 port={self.port} dbname=relay user=node"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for each in [self.listener, *self.sockets]:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


def pass_time(duration):
    """For what is about a time: an outage of so many seconds."""
    end = time.monotonic() + duration
    eventually(lambda: time.monotonic() > end, duration + 10)


class Clock:
    """The time that the server sees, moved while it runs. It begins where the one before it was furthest: else the log holds events of the
    future, and rotation has to wait for them."""

    furthest = 0
    LIBRARIES = ("/usr/lib/*/faketime/libfaketime.so.1", "/usr/lib/faketime/libfaketime.so.1", "/usr/lib64/faketime/libfaketime.so.1")

    def __init__(self):
        library = self.find_library()
        self.path = os.path.join(site.pg.folder, "clock")
        self.set(Clock.furthest)
        self.environment = {"LD_PRELOAD": library, "FAKETIME_TIMESTAMP_FILE": self.path, "FAKETIME_NO_CACHE": "1",
                            "FAKETIME_DONT_FAKE_MONOTONIC": "1", "NO_FAKE_STAT": "1"}

    @classmethod
    def find_library(cls):
        found = [path for pattern in cls.LIBRARIES for path in glob.glob(pattern)]
        if not found:
            raise Missing("libfaketime is missing; on Debian: apt install faketime")
        return found[0]

    def set(self, offset):
        """Seconds from the true time."""
        self.offset = offset
        Clock.furthest = max(Clock.furthest, offset)
        with open(self.path + ".new", "w") as f:
            f.write(f"{offset:+}\n")
        os.chmod(self.path + ".new", 0o644)
        os.rename(self.path + ".new", self.path)

    def forward(self, by):
        self.set(self.offset + by)


@contextlib.contextmanager
def with_clock():
    """The server runs with a clock that can be set."""
    cluster = site.pg
    clock = Clock()
    start_unchanged = cluster.start

    def start():
        os.environ.update(clock.environment)
        try:
            start_unchanged()
        finally:
            for name in clock.environment:
                del os.environ[name]

    cluster.start = start
    site.drop_sessions()
    cluster.restart()
    try:
        yield clock
    finally:
        cluster.start = start_unchanged
        site.drop_sessions()
        cluster.restart()
        site.sql("SELECT pgrelay.log_rotate()")  # it takes note of what writers have not logged under a clock far ahead


@contextlib.contextmanager
def memory_comes_back(node, margin=24 << 20):
    """What the node holds when the block has ended is what it held before, and a margin: 8 MB of history, which must be its limit, and
    what malloc keeps. Sanitizers and valgrind keep all that is freed."""
    before = resident_bytes(node.pid)
    yield
    if patience() == 1:
        eventually(lambda: resident_bytes(node.pid) <= before + margin,
                   what=f"the node is back at {before >> 20} MB and {margin >> 20}", pause=0.2)
