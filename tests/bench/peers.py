"""What make bench measures pgrelay beside, where it is installed: nginx with Nchan, node's ws, socket.io.

Each is started on a free port, does the same work for the same load generator, and has the interface of measure.Server.
"""
import contextlib
import http.client
import json
import os
import shutil
import subprocess

import harness
from harness import eventually, site
from measure import EVENT_OCTETS, PROGRAMS, Server, pin, program, write
from table import Failure

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "peers")
MODULES = os.path.join(PROGRAMS, "peers", "node_modules")
NCHAN_MODULES = ("/usr/lib/nginx/modules/ngx_nchan_module.so", "/usr/lib64/nginx/modules/ngx_nchan_module.so")

# socket.io's adapter: what another process broadcasts to all (type 3), an event "e".
SOCKET_IO_CHANNEL = "socket.io#/"
SOCKET_IO_BEFORE = (
    '{"uid":"emitter","type":3,"nsp":"/","data":{"opts":{"rooms":[],"except":[],"flags":{}},"packet":{"type":2,"data":["e",'
)
SOCKET_IO_AFTER = '],"nsp":"/"}}}'


class Peer(Server):
    """A server of somebody else's; `options` are the load generator's."""


@contextlib.contextmanager
def started(argv, env=None, cpu=None, ready=None):
    """A process, pinned, once it has said a line, or ready() is true."""

    def prepare():
        harness.die_with_parent()
        pin(0, cpu)  # before there are threads

    with open(os.path.join(site.folder, "peer.log"), "ab") as log:
        process = subprocess.Popen(
            argv, env={**harness.clean_environment(), **(env or {})}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log,
            preexec_fn=prepare,
        )
    try:
        if ready is not None:
            eventually(lambda: process.poll() is not None or ready(), 20, f"{argv[0]} is ready")
        elif not process.stdout.readline():
            process.wait()
        if process.poll() is not None:
            raise Failure(f"{' '.join(argv)} ended:\n{harness.tail(harness.read_text(log.name))}")
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


# ---- nginx with Nchan ----


class Nchan(Peer):
    """Has no database: events are posted. In a burst on four connections, which keeps no order."""

    any_order = True
    knows_commits = False

    def subscribers(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", "/pub", headers={"Accept": "text/json"})
            answer = connection.getresponse()
            body = answer.read()
            return json.loads(body)["subscribers"] if answer.status == 200 else 0
        finally:
            connection.close()

    def burst(self, sessions, events, cpu):
        eventually(lambda: self.subscribers() == sessions, 20, "Nchan knows all subscribers")
        return self.post(events, "--connections", 4, cpu=cpu)

    def tick(self, events, rate):
        return self.post(events, "--rate", rate)

    def post(self, events, *options, cpu=None):
        with program("bench_post", "--port", self.port, "--path", "/pub", "--requests", events, "--octets", EVENT_OCTETS, *options,
                     cpu=cpu) as poster:
            return poster.json()


@contextlib.contextmanager
def nchan(cpu=None):
    port = harness.free_port()
    folder = os.path.join(site.folder, f"nginx-{port}")
    os.mkdir(folder)
    with open(os.path.join(HERE, "nginx.conf")) as f:
        text = f.read()
    for name, value in {"MODULE": nchan_module(), "FOLDER": folder, "PORT": port, "DESCRIPTORS": 20000, "BUFFER": 100_000}.items():
        text = text.replace(f"@{name}@", str(value))
    with open(os.path.join(folder, "nginx.conf"), "w") as f:
        f.write(text)
    with started([nginx_program(), "-p", folder, "-c", os.path.join(folder, "nginx.conf")], cpu=cpu, ready=lambda: answers(port)) as it:
        yield Nchan(it.pid, port, ["--peer", "plain", "--path", "/sub"])


def answers(port):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", "/pub")
        return connection.getresponse().status in (200, 404)
    finally:
        connection.close()


def nginx_program():
    return shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin")


def nchan_module():
    return next((path for path in NCHAN_MODULES if os.path.exists(path)), None)


# ---- node ----


class Ws(Peer):
    pass


class SocketIo(Peer):
    FORM = ("--raw", "--channel", SOCKET_IO_CHANNEL, "--before", SOCKET_IO_BEFORE, "--after", SOCKET_IO_AFTER)

    def burst(self, sessions, events, cpu):
        return write("--events", events, "--batch", events, *self.FORM, cpu=cpu)

    def tick(self, events, rate, *commits):
        return write("--events", events, "--rate", rate, *commits, *self.FORM)


def node_server(script, kind, *options):
    @contextlib.contextmanager
    def start(cpu=None):
        port = harness.free_port()
        database = {"PGHOST": site.pg.sockets, "PGPORT": str(site.pg.port), "PGUSER": "node", "PGDATABASE": "relay"}
        env = {"NODE_PATH": MODULES, **database}
        with started(["node", os.path.join(HERE, script), str(port)], env, cpu) as it:
            yield kind(it.pid, port, list(options))

    return start


# ---- which are there ----


def has_module(name):
    return shutil.which("node") is not None and all(os.path.isdir(os.path.join(MODULES, part)) for part in (name, "pg"))


def installed():
    """Their names, and how each is started; a line for each that is missing."""
    found = {}
    if nginx_program() and nchan_module():
        found["Nchan"] = nchan
    else:
        print("# Nchan is left out: on Debian, apt install nginx-light libnginx-mod-nchan")
    for name, module, start in (
        ("ws", "ws", node_server("ws_server.cjs", Ws, "--peer", "plain", "--path", "/")),
        ("socket.io", "socket.io", node_server(
            "socket_io_server.cjs", SocketIo, "--peer", "socket.io", "--path", "/socket.io/?EIO=4&transport=websocket",
            "--seq-key", "seq")),
    ):
        if has_module(module):
            found[name] = start
        else:
            print(f"# {name} is left out: make bench-peers installs it, by npm")
    return found
