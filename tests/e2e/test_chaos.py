#!/usr/bin/env python3
"""Clients, rights and the database change at random for a few seconds; the node stays whole and forgets nobody's memory.

PGRELAY_SEED repeats a run, as far as time allows."""
import json
import os
import random
import signal
import threading
import time

from harness import Node, eventually, main, quote, seconds, site
from wire import BINARY, CLOSE, CONTINUATION, PING, TEXT, Closed, WebSocket, close_payload, make_frame

SECONDS = float(os.environ.get("PGRELAY_CHAOS_SECONDS", "6"))
GAUGES = ("pgrelay_sessions", "pgrelay_subscriptions", "pgrelay_patterns", "pgrelay_queued_bytes", "pgrelay_tickets_pending")


class Chaos:
    def __init__(self, node, dice, kills):
        self.node, self.dice = node, dice
        self.users = [site.user("*.*.*"), site.user("job_events.*.*"), site.user("job_events.*.1", "jobs.summary.*"), site.user()]
        self.clients = []
        self.sent = 0
        self.actions = [self.connect] * 4 + [self.join] * 6 + [self.emit] * 6 + [
            self.emit_big, self.leave, self.vanish, self.misbehave, self.knock, self.change_rights, self.job, self.reload, self.read]
        if kills:
            self.actions += [self.kill_backend]

    def step(self):
        if not self.clients:
            self.connect()
        try:
            self.dice.choice(self.actions)()
        except (OSError, Closed):
            pass

    def some(self):
        return self.dice.choice(self.clients)

    def connect(self):
        if len(self.clients) > 40:
            self.vanish()
        client = WebSocket(self.node.port, timeout=seconds(20))
        site.clients.append(client)
        client.send(client.request(f"/websocket/?token={self.dice.choice(self.users).token}"))
        self.clients.append(client)

    def join(self):
        groups = {name: self.dice.sample([1, 2, 3, "summary", "x", "*"], self.dice.randint(0, 4))
                  for name in self.dice.sample(["job_events", "jobs", "demo", "*"], self.dice.randint(0, 3))}
        self.some().send_json({"groups": groups, "status": self.dice.random() < 0.3})

    def emit(self):
        self.sent += 1
        site.emit(self.dice.choice(["job_events", "demo"]), "x", str(self.dice.randint(1, 3)), {"n": self.sent})

    def emit_big(self):
        self.sent += 1
        site.sql(f"SELECT pgrelay.emit('job_events', 'x', '1', jsonb_build_object('n', {self.sent}, 'pad', "
                 f"repeat('x', {self.dice.choice([8000, 50000, 1000000])})))", "writer")

    def job(self):
        job = site.job(status="running")
        site.sql(f"INSERT INTO pgrelay.job_event (job_id, counter, stdout) VALUES ({job}, 1, 'x')", "writer")
        site.sql(f"UPDATE pgrelay.job SET status = 'successful' WHERE id = {job}", "writer")

    def leave(self):
        client = self.clients.pop(self.dice.randrange(len(self.clients)))
        client.send_frame(CLOSE, close_payload(1000))
        if self.dice.random() < 0.5:
            client.close()

    def vanish(self):
        client = self.clients.pop(self.dice.randrange(len(self.clients)))
        client.close()

    def read(self):
        self.some().socket.recv(self.dice.choice([1, 1000, 1000000]))

    def misbehave(self):
        self.some().send(self.dice.choice([
            make_frame(TEXT, b"\xff"), make_frame(BINARY, b"x"), make_frame(3), make_frame(TEXT, b"{}", mask=False), make_frame(TEXT, b"[]"),
            make_frame(TEXT, b"{", fin=False), make_frame(CONTINUATION, b"}"), make_frame(PING, b"x") * 50, make_frame(CLOSE, b"x"),
            make_frame(TEXT, b"x" * 3000)[:1500], make_frame(TEXT, json.dumps({"groups": {"demo": [*range(500)]}}).encode())]))

    def knock(self):
        """HTTP of all sorts."""
        with WebSocket(self.node.port, timeout=seconds(20)).socket as s:
            s.sendall(self.dice.choice([b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /web", b"\0" * 20, b"POST / HTTP/1.1\r\n\r\n",
                                        b"GET /websocket/?token=x HTTP/1.1\r\nUpgrade: websocket\r\n\r\n"]))

    def change_rights(self):
        user = self.dice.choice(self.users[1:])
        function = self.dice.choice(["grant_add", "grant_remove"])
        pattern = self.dice.choice(["job_events.*.*", "job_events.*.2", "demo.*.*", "*.*.3"])
        site.sql(f"SELECT pgrelay.{function}({quote(user.name)}, {quote(pattern)})", "owner")

    def reload(self):
        self.node.process.signal(signal.SIGHUP)

    def kill_backend(self):
        if self.dice.random() < 0.3:
            site.rows("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'node' ORDER BY random() LIMIT 1")


class Witness:
    """A client that behaves, reads all the time, and must see everything in order."""

    def __init__(self, node):
        self.client = node.connect(site.all_seeing).join(witness=[1])
        self.seen = []
        self.end = None
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        try:
            while True:
                self.seen.append(self.client.json(seconds(60))["w"])
        except (OSError, Closed, ValueError) as end:
            self.end = end

    def tell(self, n, size):
        site.emit("witness", "x", "1", {"w": n, "pad": "y" * size})

    def wait_for(self, n):
        def has_come():
            if self.end is not None:
                raise RuntimeError(f"the witness has lost its connection: {self.end!r}")
            return self.seen and self.seen[-1] == n

        eventually(has_come, what=f"event {n} comes", pause=0.001)


def run(kills):
    seed = int(os.environ.get("PGRELAY_SEED", random.randrange(1 << 30)))
    print(f"# PGRELAY_SEED={seed}", flush=True)
    # Nobody here reads: what waits for a client must end it, not the others.
    with Node(queue_limit="4MB", write_timeout="2s", ping_interval="500ms", ping_timeout="2s", backoff_max="100ms", probe_interval="100ms",
              log_level="info", config="max_groups = 100\n") as node:
        chaos = Chaos(node, random.Random(seed), kills)
        witness = Witness(node)
        n, end = 0, time.monotonic() + SECONDS
        while time.monotonic() < end:
            for _ in range(10):
                chaos.step()
            n += 1
            witness.tell(n, chaos.dice.choice([10, 10, 10, 7000, 9000]))
            if not kills:
                witness.wait_for(n)
        node.wait_ready()
        witness.tell(n + 1, 1)
        witness.wait_for(n + 1)
        assert witness.seen == sorted(set(witness.seen)), f"twice or out of order: {witness.seen}"
        assert kills or len(witness.seen) == n + 1, f"{len(witness.seen)} of {n + 1}"
        witness.client.close()
        for client in site.clients:
            if isinstance(client, WebSocket):
                client.close()

        def nothing_is_left_of_those_who_went():
            left = {gauge: value for gauge in GAUGES if (value := node.metric(gauge)) != 0}
            assert not left, left
            return True

        eventually(nothing_is_left_of_those_who_went)


def test_clients_and_rights_at_random():
    run(kills=False)


def test_clients_rights_and_database_sessions_at_random():
    run(kills=True)


if __name__ == "__main__":
    main()
