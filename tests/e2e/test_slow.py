#!/usr/bin/env python3
"""Slow clients and many clients."""
import os
import resource

from harness import Node, eventually, main, seconds, site
from wire import Closed, WebSocket


def flood(job, count, size=6000):
    """Events: those of up to 7 kB are in their notification, larger ones travel as tickets."""
    site.sql(f"""SELECT count(pgrelay.emit('job_events', 'x', '{job}', jsonb_build_object('n', n, 'pad', repeat('x', {size}))))
        FROM generate_series(1, {count}) n""", "writer")


class Crowd:
    """A node with a small queue_limit, a client that is slow and one that is not."""

    def __init__(self, node):
        self.node = node
        self.slow = node.connect(site.all_seeing, receive_buffer=4096).join(job_events=[1])
        self.good = node.connect(site.all_seeing).join(job_events=[1])
        self.sent = 0

    def flood(self, size):
        """The good client gets it all, which is less than queue_limit: it does not read meanwhile."""
        assert self.sent < 300 << 20, "the slow client is still there"
        flood(1, 100, size)
        assert [m["n"] for m in self.good.take(100)] == list(range(1, 101))
        self.sent += 100 * size

    def closed_slow(self):
        return self.node.metric("pgrelay_sessions_closed_slow_total")

    def closed_by_timeout(self):
        return self.node.metric("pgrelay_sessions_closed_timeout_total")

    def assert_only_the_good_one_is_left(self, size):
        assert self.sent > 1 << 20, "closed too early"
        self.flood(size)
        eventually(lambda: self.node.metric("pgrelay_sessions") == 1, what="the session is gone")


def test_a_client_that_never_reads_is_closed_with_1013_and_no_other_notices():
    with Node(queue_limit="1MB") as node:
        crowd = Crowd(node)
        while not crowd.closed_slow():
            crowd.flood(6000)
        assert "1013" in node.log, "the log does not tell"
        crowd.assert_only_the_good_one_is_left(6000)


def test_a_client_that_never_reads_big_events_is_closed_after_write_timeout():
    """Their payloads wait in the database: it has that long."""
    with Node(queue_limit="1MB", write_timeout=f"{seconds(1)}s") as node:
        crowd = Crowd(node)
        while not crowd.closed_slow() and not crowd.closed_by_timeout():
            crowd.flood(9000)
        crowd.assert_only_the_good_one_is_left(9000)


def test_a_client_that_reads_big_events_too_slowly_is_closed_with_1013():
    """It takes something all the time, never enough. What waits for it are tickets, some 90 octets each."""
    with Node(queue_limit="1MB", write_timeout=f"{seconds(5)}s") as node:
        crowd = Crowd(node)
        while not crowd.closed_slow():
            crowd.flood(9000)
            assert not crowd.closed_by_timeout()
            for _ in range(20):
                crowd.slow.json()
        crowd.assert_only_the_good_one_is_left(9000)


def test_a_client_that_reads_again_in_time_misses_nothing():
    with Node(queue_limit="64MB") as node:
        slow = node.connect(site.all_seeing, receive_buffer=4096)
        slow.join(job_events=[2])
        witness = node.connect(site.all_seeing)
        witness.join(job_events=[2])
        flood(2, 3000)
        witness.take(3000)
        assert [m["n"] for m in slow.take(3000)] == list(range(1, 3001))


def test_what_a_slow_client_gets_before_its_end_is_in_order_and_ends_with_1013():
    """It may come to its senses within the time that a close handshake takes."""
    with Node(queue_limit="1MB") as node:
        stuck = node.connect(site.all_seeing, receive_buffer=4096)
        stuck.join(job_events=[3])
        good = node.connect(site.all_seeing)
        good.join(job_events=[3])
        sent = 0
        while node.metric("pgrelay_sessions_closed_slow_total") == 0:
            assert sent < 5000, "the client that never reads is still there"
            flood(3, 100)
            good.take(100)
            sent += 100
        got = []
        try:
            while True:
                got.append(stuck.json()["n"])
        except Closed as closed:
            assert closed.code == 1013, closed
        assert got == [n % 100 + 1 for n in range(len(got))], "a gap before the close"
        assert len(got) < sent


def test_a_client_that_takes_nothing_is_given_up_after_the_write_timeout():
    with Node(write_timeout="1s", queue_limit="64MB") as node:
        stuck = node.connect(site.all_seeing, receive_buffer=4096)
        stuck.join(job_events=[4])
        flood(4, 2000)
        eventually(lambda: node.metric("pgrelay_sessions") == 0, what="the client that takes nothing is given up")


def test_300_connections_at_once():
    with Node() as node:
        token = site.all_seeing.token
        clients = [WebSocket(node.port, timeout=seconds(30)) for _ in range(300)]
        site.clients += clients
        for c in clients:
            c.send(c.request(f"/websocket/?token={token}"))
        for c in clients:
            c.read_response()
            assert c.status == 101, c.status
            c.send_json({"groups": {"job_events": [5]}})
        for c in clients:
            assert c.json()["accept"] is True
            assert c.json()["groups_current"] == ["job_events-5"]
        assert node.metric("pgrelay_sessions") == 300
        for n in range(10):
            site.emit("job_events", "x", "5", {"n": n})
        for c in clients:
            assert c.take(10) == [{"n": n} for n in range(10)]
        for c in clients:
            c.close()
        eventually(lambda: node.metric("pgrelay_sessions") == 0, what="all sessions are gone")


def test_connecting_and_leaving_in_a_hurry():
    with Node() as node:
        token = site.all_seeing.token
        for _ in range(500):
            c = WebSocket(node.port)
            c.send(c.request(f"/websocket/?token={token}"))
            c.close()
        last = node.connect(site.all_seeing)
        last.assert_alive()
        eventually(lambda: node.metric("pgrelay_sessions") == 1, what="only the last session is left")


def test_descriptors_of_those_who_went_are_given_back_at_once():
    with Node() as node:
        def open_ones():
            return len(os.listdir(f"/proc/{node.pid}/fd"))

        before = open_ones()
        for request in (b"", b"GET /hea", b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /websocket/ HTTP/1.1\r\nHost: x\r\n\r\n"):
            for _ in range(50):
                c = WebSocket(node.port)
                c.send(request)
                c.close()
        assert node.get("/healthz").status == 200
        eventually(lambda: open_ones() <= before + 1, 4, what="the descriptors are closed")


def test_more_connections_than_descriptors_are_survived():
    """EMFILE: accepting pauses, and goes on when descriptors are free again."""
    with Node() as node:
        resource.prlimit(node.pid, resource.RLIMIT_NOFILE, (60, 60))
        served = node.connect(site.all_seeing)
        served.join(job_events=[6])
        crowd = []
        for _ in range(100):
            c = WebSocket(node.port, timeout=seconds(20))
            site.clients.append(c)
            crowd.append(c)
        site.emit("job_events", "x", "6", {"n": 1})
        assert served.json() == {"n": 1}
        for c in crowd:
            c.close()
        eventually(lambda: node.get("/healthz").status == 200, what="the node accepts again")
        node.connect(site.all_seeing).assert_alive()


if __name__ == "__main__":
    main()
