"""What the scenarios of make bench share: the bench's programs, and the servers under test."""
import contextlib
import json
import os
import secrets
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))

import harness
from harness import eventually, site
from mesh import wait_linked
from table import Failure

PROGRAMS = os.path.join(harness.TOP_BUILDDIR, "tests", "bench")

EVENT_OCTETS = 300
IDLE_PERCENT = 8

harness.Cluster.SETTINGS = """
listen_addresses = '127.0.0.1'
shared_buffers = 128MB
max_wal_size = 4GB
checkpoint_timeout = 1h
log_line_prefix = '%m [%p] %u %a: '
"""


# ---- processes ----


class Program:
    """One of the bench's C programs; each line that it prints is JSON."""

    def __init__(self, name, *options, cpu=None):
        self.name = name
        self.popen = subprocess.Popen(
            [os.path.join(PROGRAMS, name), *map(str, options)], env=harness.clean_environment(), stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True, preexec_fn=harness.die_with_parent,
        )
        pin(self.popen.pid, cpu)

    def line(self):
        text = self.popen.stdout.readline()
        if not text:
            self.popen.wait()
            raise Failure(f"{self.name} ended with status {self.popen.returncode}")
        return text

    def json(self):
        return json.loads(self.line())

    def tell(self, line=""):
        """A line on its standard input; an empty one lets it go on."""
        self.popen.stdin.write(line + "\n")
        self.popen.stdin.flush()

    def ask(self, line):
        self.tell(line)
        return self.json()

    def end(self):
        """Closes its standard input and returns its last words."""
        self.popen.stdin.close()
        result = self.json()
        self.popen.wait()
        return result

    def kill(self):
        self.popen.kill()
        self.popen.wait()
        self.popen.stdin.close()
        self.popen.stdout.close()


@contextlib.contextmanager
def program(name, *options, cpu=None):
    it = Program(name, *options, cpu=cpu)
    try:
        yield it
    finally:
        it.kill()


def pin(pid, cpu):
    """Ties a process to a processor; None: leaves it to the system."""
    if cpu is not None:
        os.sched_setaffinity(pid, {cpu})


@contextlib.contextmanager
def pin_database():
    """Gives PostgreSQL a processor of its own; yields that of the others, and this one."""
    cpus = sorted(os.sched_getaffinity(0))
    database_cpu, cpu = (cpus[0], cpus[1]) if len(cpus) > 1 else (None, None)
    pin(site.pg.server.pid, database_cpu)
    try:
        yield cpu, database_cpu
    finally:
        if database_cpu is not None:
            os.sched_setaffinity(site.pg.server.pid, cpus)


def cpu_seconds(pid):
    with open(f"/proc/{pid}/schedstat") as f:
        return int(f.read().split()[0]) / 1e9


def settle(server):
    """Until it has done what is left of the opening, such as telling of it."""

    def rests():
        before, start = cpu_seconds(server.pid), time.monotonic()
        time.sleep(0.25)
        return (cpu_seconds(server.pid) - before) / (time.monotonic() - start) < 0.04

    told = lambda: server.node is None or server.node.metric("pgrelay_connection_events_waiting") == 0
    eventually(lambda: told() and rests(), 60, f"{server.name} has nothing to do")


def rss_bytes(pid):
    with open(f"/proc/{pid}/status") as f:
        return next(int(line.split()[1]) * 1024 for line in f if line.startswith("VmRSS:"))


def processor_ticks():
    """(busy, all) of all processors, since the system started."""
    with open("/proc/stat") as f:
        ticks = [int(n) for n in f.readline().split()[1:9]]
    return sum(ticks) - ticks[3] - ticks[4], sum(ticks)


def busy_percent(before):
    busy, ticks = (now - then for now, then in zip(processor_ticks(), before))
    return 100 * busy / max(ticks, 1)


def wait_until_idle(limit):
    """Until other programs let the processors rest for a second; for `limit` seconds at most."""
    deadline = time.monotonic() + limit
    while time.monotonic() < deadline:
        before = processor_ticks()
        time.sleep(1)
        if busy_percent(before) < IDLE_PERCENT:
            break


class Server:
    """What is measured: a node, the bare limit, or somebody else's program."""

    any_order = False  # several publishers at once
    knows_commits = True  # events come from transactions
    name = "the server"

    def __init__(self, pid, port, options, node=None):
        self.pid, self.port, self.options, self.node = pid, port, options, node

    def client(self, sessions, *options, cpu=None):
        return program("bench_client", "--port", self.port, "--clients", sessions, *self.options, *options, cpu=cpu)

    def burst(self, sessions, events, cpu=None):
        """Publishes them, packed, in one transaction. The sessions are those that are open."""
        return write("--raw", "--events", events, "--batch", events, cpu=cpu)

    def tick(self, events, rate, *commits):
        """Publishes them one by one, so many a second, each in a transaction; commits: its options for their times."""
        return write("--events", events, "--rate", rate, *commits)

    def kill(self):
        self.node.process.kill()
        self.pid = None


@contextlib.contextmanager
def relay(cpu=None, **settings):
    node = harness.Node(**{"log_level": "warning", **settings})
    try:
        pin(node.pid, cpu)
        server = Server(node.pid, node.port, ["--token", site.all_seeing.token], node)
        yield server
        if server.pid is not None:
            node.stop()
    finally:
        node.process.kill()
        site.nodes.remove(node)
        site.processes.remove(node.process)


def bare(block, *more):
    """more: of bench_bare's options."""

    @contextlib.contextmanager
    def start(cpu=None):
        port = harness.free_port()
        with program("bench_bare", "--database", site.pg.conninfo("node"), "--port", port, "--block", block, *more, cpu=cpu) as it:
            it.line()
            yield Server(it.popen.pid, port, ["--bare"])

    return start


@contextlib.contextmanager
def fleet(server, count):
    with contextlib.ExitStack() as stack:
        yield Fleet([stack.enter_context(server(i)) for i in range(count)])


class Fleet:
    """Several servers, with one load generator for all."""

    def __init__(self, members):
        self.members = members

    @property
    def nodes(self):
        return [it.node for it in self.members]

    def cpu_seconds(self):
        return sum(cpu_seconds(it.pid) for it in self.members)

    def client(self, sessions, *options):
        """sessions: with each server."""
        everywhere = Server(None, ",".join(str(it.port) for it in self.members), self.members[0].options)
        return everywhere.client(sessions * len(self.members), *options)


@contextlib.contextmanager
def linked(count):
    """Nodes that share a secret, each linked with all others."""
    secret = secrets.token_hex(32)
    with fleet(lambda i: relay(wait=False, node=f"n{i}", env={"PGRELAY_SECRET": secret}), count) as it:
        wait_linked(it.nodes)
        yield it


def unlinked(count):
    return fleet(lambda i: relay(node=f"n{i}"), count)


def bare_listeners(count):
    return fleet(lambda i: bare(64)(), count)


def write(*options, cpu=None, settings=""):
    """settings: of the writer's session, as in the server's command line."""
    database = f"{site.pg.conninfo('writer')} options='{settings}'"
    with program("bench_publish", "--database", database, "--octets", EVENT_OCTETS, *options, cpu=cpu) as it:
        return it.json()


def sized(args, full, small):
    """small: for a run that only shows that everything works."""
    return small if args.smoke else full


def event_sql(seq, octets):
    """An SQL expression: the payload that bench_event_write() makes."""
    stamp = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
    return (f"(SELECT jsonb_build_object('t', t, 'seq', {seq}, 'filler', repeat('x', {octets} - 30 - length(t || '' || {seq})))"
            f" FROM (SELECT {stamp}) s (t))")


def subscribers(n):
    return "1 subscriber" if n == 1 else f"{n:,} subscribers"


def plural(count, noun):
    return f"{count} {noun}" + ("s" if count != 1 else "")
