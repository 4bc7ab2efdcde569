"""Scenario of make bench in which more comes in than the clients take: the node must stay within its memory."""
import contextlib
import threading
import time

from harness import eventually, site
from intake import peak_bytes
from many_sessions import lines_file
from measure import EVENT_OCTETS, pin_database, relay, rss_bytes, settle, sized, write
from table import Failure

CLIENTS, SLOW = 200, 100  # of the clients, those that read, slowly; the others do not at all
GROUPS = 10
BURSTS, BURST_EVENTS = 12, 100_000
FRAME_OCTETS = EVENT_OCTETS + 4
SLOW_OCTETS, ROUND_SECONDS = 2048, 0.02  # each reads so much, so often
MEMORY_MIB, HISTORY_MIB = 64, 32
MEMORY_RATIO = 1.25


class Readers:
    """A thread that reads for all: slowly for some, and what there is for one."""

    def __init__(self, slow, quick):
        self.slow, self.quick, self.octets, self.ended = slow, quick, 0, False
        for client in (*slow, quick):
            client.socket.setblocking(False)

    @contextlib.contextmanager
    def reading(self):
        thread = threading.Thread(target=self.read)
        thread.start()
        try:
            yield self
        finally:
            self.ended = True
            thread.join()

    def read(self):
        while not self.ended:
            for client in self.slow:
                receive(client, SLOW_OCTETS)
            due = time.monotonic() + ROUND_SECONDS
            while time.monotonic() < due and not self.ended:
                got = receive(self.quick, 1 << 20)
                self.octets += got
                if got == 0:
                    time.sleep(0.001)


def receive(client, most):
    """Octets; a connection that has ended has none."""
    try:
        return len(client.socket.recv(most))
    except OSError:
        return 0


def overload(table, args):
    """An event waits for each tenth of the clients, and for one that keeps up."""
    samples = [overloaded(*sized(args, (CLIENTS, SLOW, BURSTS, BURST_EVENTS), (20, 10, 2, 10_000))) for _ in range(args.repeats)]

    def column(key):
        return [s[key] for s in samples]

    table.add("overload", f"more than {CLIENTS} clients take: node's peak", "MiB RSS", column("grown"), bound=MEMORY_RATIO * (MEMORY_MIB + HISTORY_MIB))
    table.add("overload", "  queue_memory and history_limit together", "MiB", [MEMORY_MIB + HISTORY_MIB])
    table.add("overload", "  written meanwhile", "MiB", column("written"))
    table.add("overload", "  closed because queue_memory was used up", "sessions", column("closed"))
    table.add("overload", "  to one that keeps up", "deliveries/s", column("rate"))


def overloaded(count, slow, bursts, events):
    topics = lines_file("topics", [f"bench.tick.{n % GROUPS}" for n in range(events)])
    settings = {"queue_memory": f"{MEMORY_MIB}MB", "history_limit": f"{HISTORY_MIB}MB", "queue_limit": "1GB", "queue_age": "0s", "write_timeout": "10min"}
    with pin_database() as (cpu, database_cpu), relay(cpu, **settings) as it:
        clients = [it.node.connect(site.all_seeing, receive_buffer=4096).join(bench=[n % GROUPS]) for n in range(count)]
        quick = it.node.connect(site.all_seeing).join(bench=list(range(GROUPS)))
        settle(it)
        before, start = rss_bytes(it.pid), time.monotonic()
        with Readers(clients[:slow], quick).reading() as readers:
            for burst in range(1, bursts + 1):
                write("--raw", "--events", events, "--batch", events, "--topics", topics, cpu=database_cpu)
                eventually(lambda: readers.octets >= burst * events * FRAME_OCTETS, 60, "the client that keeps up has all that was written")
        if readers.octets != bursts * events * FRAME_OCTETS:
            raise Failure(f"{readers.octets} octets came instead of {bursts * events * FRAME_OCTETS}")
        return {
            "grown": (peak_bytes(it.pid) - before) / 2**20, "written": readers.octets / 2**20,
            "closed": it.node.metric(r'pgrelay_sessions_closed_slow_total\{bound="queue_memory"\}'), "rate": bursts * events / (time.monotonic() - start),
        }
