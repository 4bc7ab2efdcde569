#!/usr/bin/env python3
"""Back-pressure: what waits for clients is bounded by age (queue_age), and for all of them together (queue_memory). By octets
a client: test_slow.py."""
import contextlib
import hashlib
import itertools
import os
import re
import signal
import socket
from concurrent.futures import ThreadPoolExecutor

from faults import backend, resident_bytes
from harness import WRAPPER, Node, eventually, is_sanitized, main, seconds, site
from mesh import Player, start
from wire import Closed

MIB = 1 << 20
SIZE = 6000


def flood(key, count, first=1):
    """Events of SIZE octets, numbered."""
    site.sql(f"""SELECT count(pgrelay.emit('job_events', 'x', '{key}', jsonb_build_object('n', n, 'pad', repeat('x', {SIZE}))))
        FROM generate_series({first}, {first + count - 1}) n""", "writer")


def join(node, *keys, slow=False):
    return node.connect(site.all_seeing, **({"receive_buffer": 4096} if slow else {})).join(job_events=list(keys))


def numbers(messages):
    return [m["n"] for m in messages]


def gone(node, what, bound):
    """How many sessions have gone by this bound; what: closed_slow or overflowed."""
    return node.metric(rf'pgrelay_sessions_{what}_total\{{bound="{bound}"\}}')


def trickle(client, until):
    """Reads a little, again and again, until the condition holds."""

    def read():
        client.socket.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            client.buffer += client.socket.recv(2048)
        client.socket.settimeout(client.timeout)
        return until()

    eventually(read, 60, what="the client that reads too slowly is found")


def read_to_the_end(client):
    """What comes until the server closes, and the code."""
    got = []
    try:
        while True:
            got.append(client.json()["n"])
    except Closed as closed:
        return got, closed.code
    except ConnectionResetError:
        return got, None


# ---- age ----


def test_a_client_that_always_takes_a_little_is_closed_when_a_message_has_waited_too_long():
    with Node(queue_age=f"{seconds(1)}s", queue_limit="64MB") as node:
        slow, good = join(node, 1, slow=True), join(node, 1)
        flood(1, 3000)
        assert numbers(good.take(3000)) == list(range(1, 3001))
        trickle(slow, lambda: gone(node, "closed_slow", "queue_age") == 1)
        assert "too slow: a message has waited for longer than queue_age" in node.log, "the log does not tell"
        got, code = read_to_the_end(slow)
        assert code == 1013 and got == list(range(1, len(got) + 1)) and len(got) < 3000, (code, len(got))
        flood(1, 10, 3001)
        assert numbers(good.take(10)) == list(range(3001, 3011))
        assert node.metric("pgrelay_sessions_closed_slow_total") == 1 and node.metric("pgrelay_sessions_closed_timeout_total") == 0


def test_or_it_is_told_of_a_gap_and_stays():
    with Node(queue_age=f"{seconds(1)}s", queue_limit="64MB", overflow="gap") as node:
        slow, good = join(node, 2, slow=True), join(node, 2)
        flood(2, 3000)
        assert numbers(good.take(3000)) == list(range(1, 3001))
        trickle(slow, lambda: gone(node, "overflowed", "queue_age") >= 1)
        flood(2, 1, 3001)
        messages = slow.take_until(lambda m: m.get("n") == 3001)
        gaps = [i for i, m in enumerate(messages) if "gap" in m]
        assert gaps and messages[gaps[0]]["gap"] == {"groups": ["job_events-2"], "reason": "overflow"}, messages[-1]
        assert numbers(messages[: gaps[0]]) == list(range(1, gaps[0] + 1)) and gaps[0] < 3000, "before the gap something is missing"
        assert node.metric("pgrelay_sessions_closed_slow_total") == 0
        assert numbers(good.take(1)) == [3001]


def test_without_queue_age_it_may_take_its_time():
    """Another node finds the same client too slow meanwhile."""
    with Node(queue_age="0s", queue_limit="64MB") as patient, Node(queue_age="500ms", queue_limit="64MB") as node:
        calm, slow = join(patient, 3, slow=True), join(node, 3, slow=True)
        flood(3, 3000)
        trickle(slow, lambda: gone(node, "closed_slow", "queue_age") == 1)
        assert numbers(calm.take(3000)) == list(range(1, 3001))
        assert patient.metric("pgrelay_sessions_closed_slow_total") == 0


def test_waiting_for_a_payload_is_not_the_clients_fault():
    """The backend that would read it is stopped, until another client has been found too slow."""
    with Node(queue_age="500ms", queue_limit="64MB", query_timeout="120s") as node:
        waiting, slow = join(node, 4), join(node, 5, slow=True)
        pid = int(backend("query"))
        os.kill(pid, signal.SIGSTOP)
        try:
            site.emit("job_events", "x", "4", {"n": 1, "pad": "x" * 20000})
            site.emit("job_events", "x", "4", {"n": 2})
            eventually(lambda: node.metric("pgrelay_tickets_pending") == 1, what="the payload is waited for")
            flood(5, 3000)
            trickle(slow, lambda: gone(node, "closed_slow", "queue_age") == 1)
        finally:
            os.kill(pid, signal.SIGCONT)
        assert numbers(waiting.take(2)) == [1, 2]
        assert node.metric("pgrelay_sessions_closed_slow_total") == 1


# ---- memory ----


PART = 1500  # events for each, of which sockets take the first ones


class Stalled:
    """Clients that never read, each in a group of its own, and a good one in all of them."""

    def __init__(self, node, count, part=PART):
        self.node, self.part = node, part
        self.keys = range(100, 100 + count)
        self.good = join(node, *self.keys)
        self.flood(self.keys[0])  # so that libpq has its buffers
        self.before = resident_bytes(node.pid)
        self.clients = []
        for key in self.keys:
            self.clients.append(join(node, key, slow=True))
            self.flood(key)
        limit = node.metric("pgrelay_queue_memory_limit_bytes")
        eventually(lambda: node.metric("pgrelay_queue_memory_bytes") <= limit, what="all who were to go have gone")

    def flood(self, key):
        with ThreadPoolExecutor(1) as reader:
            taken = reader.submit(self.good.take, self.part)
            flood(key, self.part)
            assert numbers(taken.result()) == list(range(1, self.part + 1)), "the good client misses something"

    def grown(self):
        """By how much the node has been larger than before."""
        with open(f"/proc/{self.node.pid}/status") as status:
            return (int(re.search(r"^VmHWM:\s+(\d+) kB", status.read(), re.M).group(1)) << 10) - self.before


MEMORY = {"queue_memory": "16MB", "history_limit": "4MB", "queue_limit": "64MB", "write_timeout": "10min", "queue_age": "0s"}
MEMORY_BYTES, ALL_BYTES = 16 * MIB, 20 * MIB


def assert_within_its_memory(stalled):
    held = stalled.node.metric("pgrelay_queue_memory_bytes")
    assert stalled.node.metric("pgrelay_queue_memory_limit_bytes") == MEMORY_BYTES
    assert 4 * MIB < held <= MEMORY_BYTES, held
    assert stalled.grown() <= 1.25 * ALL_BYTES, f"{stalled.grown() / MIB:.1f} MiB"


def test_past_the_nodes_memory_those_furthest_behind_are_closed_and_no_other():
    with Node(**MEMORY) as node:
        stalled = Stalled(node, 10)
        closed = int(gone(node, "closed_slow", "queue_memory"))
        assert 1 <= closed < 10 and node.metric("pgrelay_sessions_closed_slow_total") == closed, closed
        if not is_sanitized() and not WRAPPER:
            assert_within_its_memory(stalled)
        assert "queue_memory was used up" in node.log
        for i, client in enumerate(stalled.clients[:closed]):
            got, code = read_to_the_end(client)
            assert code in (1013, None) and got == list(range(1, len(got) + 1)) and len(got) < PART, (i, code, len(got))
        for client in stalled.clients[closed:]:
            assert numbers(client.take(PART)) == list(range(1, PART + 1)), "a client that was not to go misses something"
        eventually(lambda: node.metric("pgrelay_queue_memory_bytes") < MIB, what="nothing is left in the queues")
        assert node.metric("pgrelay_sessions_closed_slow_total") == closed


def test_or_they_are_told_of_a_gap():
    with Node(overflow="gap", **MEMORY) as node:
        stalled = Stalled(node, 10)
        told = int(gone(node, "overflowed", "queue_memory"))
        assert 1 <= told < 10 and node.metric("pgrelay_sessions_closed_slow_total") == 0, told
        for client, key in zip(stalled.clients[:told], stalled.keys):
            flood(key, 1, 9999)
            messages = client.take_until(lambda m: m.get("n") == 9999)
            assert [m["gap"] for m in messages if "gap" in m] == [{"groups": [f"job_events-{key}"], "reason": "overflow"}]
            assert "gap" in messages[-2] and numbers(messages[:-2]) == list(range(1, len(messages) - 1))
        for client in stalled.clients[told:]:
            assert numbers(client.take(PART)) == list(range(1, PART + 1))


def test_when_even_what_is_being_sent_is_too_much_connections_are_cut():
    """With overflow = gap, too: each client holds at least the block that it has taken a part of."""
    with Node(overflow="gap", **{**MEMORY, "queue_memory": "1MB"}) as node:
        stalled = Stalled(node, 45, 700)
        told, cut = int(gone(node, "overflowed", "queue_memory")), int(gone(node, "closed_slow", "queue_memory"))
        assert 1 <= cut and told > 30, (told, cut)
        assert node.metric("pgrelay_sessions") == 46 - cut
        for client in stalled.clients[:cut]:
            assert read_to_the_end(client)[1] is None
        for client, key in zip(stalled.clients[cut:], stalled.keys[cut:]):
            flood(key, 1, 9999)
            assert client.take_until(lambda m: m.get("n") == 9999)


def test_a_block_that_many_wait_for_counts_once():
    """Together they hold several times queue_memory, but it is the same octets."""
    with Node(**MEMORY) as node:
        good = join(node, 6)
        clients = [join(node, 6, slow=True) for _ in range(20)]
        flood(6, 1500)
        assert numbers(good.take(1500)) == list(range(1, 1501))
        assert node.metric("pgrelay_queued_bytes") > 2 * MEMORY_BYTES
        assert node.metric("pgrelay_queue_memory_bytes") < MEMORY_BYTES
        for client in clients:
            assert numbers(client.take(1500)) == list(range(1, 1501))
        assert node.metric("pgrelay_sessions_closed_slow_total") == 0


def test_a_smaller_bound_holds_after_a_reload():
    with Node(config="queue_memory = 16MB\n", **{**MEMORY, "queue_memory": None}) as node:
        client = join(node, 7, slow=True)
        good = join(node, 7)
        flood(7, 2000)
        assert numbers(good.take(2000)) == list(range(1, 2001))
        assert node.metric("pgrelay_queue_memory_bytes") > 2 * MIB and node.metric("pgrelay_sessions_closed_slow_total") == 0
        node.configure("queue_memory = 1MB\n")
        node.process.signal(signal.SIGHUP)
        eventually(lambda: gone(node, "closed_slow", "queue_memory") == 1, what="what waits is too much now")
        assert node.metric("pgrelay_queue_memory_limit_bytes") == MIB
        got, code = read_to_the_end(client)
        assert code in (1013, None) and got == list(range(1, len(got) + 1))
        good.assert_alive()


def settled(node):
    held = node.metric("pgrelay_queue_memory_bytes")
    assert held >= 0, held
    return held < 128 << 10


def test_what_waits_for_another_node_counts_until_the_link_is_gone():
    with start("a", wait=True) as node, contextlib.closing(Player("z")) as player:
        player.listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        with player.beating():
            link = player.take().open()  # the node has dialled
            eventually(lambda: node.metric("pgrelay_links") == 1, what="they are linked")
            event = site.emit("demo", "x", "1", {"pad": "x" * 8000000})
            payload = site.sql(f"SELECT payload FROM pgrelay.event WHERE id = {event}").encode()
            requests, digest = itertools.count(1), hashlib.sha256(payload).hexdigest()

            def is_given():
                link.send_words("want", next(requests), event, len(payload), digest, "demo.x.1")
                return not settled(node)

            eventually(is_given, what="it is given, but nothing takes it")
            link.close()
            eventually(lambda: node.metric("pgrelay_links") == 0 and settled(node), what="nothing waits for a node that is gone")


if __name__ == "__main__":
    main()
