#!/usr/bin/env python3
"""make soak [SECONDS=60] [SEED=n] [ACT=n]: faults at random under load, for as long as told.

A run is made of acts. In each, two nodes serve clients of all kinds while writers commit, and some twenty faults happen, some of
them at the same time; then every client's events are counted (tests/e2e/loss.py). What an act does follows from the seed and its
number alone, so ACT=n repeats one of them, as far as time allows.

The first line is the seed, the last line the sum; the status is 0 when no act has failed.
"""
import collections
import contextlib
import os
import random
import secrets
import shutil
import signal
import subprocess
import sys
import time
import traceback

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))

import libpq  # noqa: E402
from harness import Node, eventually, quote, site, tail  # noqa: E402
from faults import backend, kill_backend, pass_time, resident_bytes, with_clock  # noqa: E402
from loss import Crowd, EventStreamClient, Load, mixed, prepare, small  # noqa: E402
from wall import wall  # noqa: E402

MEMORY_MARGIN = 32 << 20
PAYLOADS_KEPT = 64 << 20  # big ones that the history's tickets stand for


def long_ago(dice):
    """Mostly none, sometimes some, seldom long."""
    return dice.choice((0, 0, 0, 0.01, 0.1, 1, 5))


def medium(dice):
    return dice.choice((10, 100, 1000, 7900, 8100, 20000))


class Act:
    """One server, two nodes, writers, clients, and what happens to them."""

    def __init__(self, seed, number, stack):
        self.dice = random.Random(f"{seed}/{number}")
        self.seed = f"{seed}/{number}"
        self.stack = stack  # faults that last
        self.faults = collections.Counter()
        self.reasons = set()  # of gaps that may be
        self.paths = ["socket"]
        self.clock = stack.enter_context(with_clock()) if self.dice.random() < 0.3 else None
        self.barrier = stack.enter_context(wall()) if self.dice.random() < 0.3 else None
        self.settings = self.choose_settings()
        self.set_schema()
        self.nodes = [self.serve(n) for n in range(2)]
        self.load = stack.enter_context(Load(0))
        self.crowd = stack.enter_context(Crowd())
        self.add_writers()
        self.add_clients()
        self.lasting = []  # (rounds left, name, stack)

    # -- what there is --

    def choose_settings(self):
        dice = self.dice
        settings = {
            "backoff_max": dice.choice(("100ms", "500ms")), "probe_interval": dice.choice(("100ms", "500ms")), "log_level": "info",
            "probe_timeout": "2s", "connect_timeout": "1s", "query_timeout": "2s", "ping_interval": dice.choice(("500ms", "30s")),
            "history_limit": dice.choice(("1MB", "8MB", "64MB")), "queue_limit": dice.choice(("2MB", "16MB", "64MB")),
            "overflow": dice.choice(("close", "gap")),
        }
        if settings["overflow"] == "gap":
            self.reasons.add("overflow")
        self.reasons.add("history")
        return settings

    def set_schema(self):
        dice = self.dice
        retention = dice.choice(("10 s", "1 min")) if self.clock else "10 min"
        site.sql(f"SELECT pgrelay.setting_set('retention', {quote(retention)})")
        self.rotation = {"10 s": 6, "1 min": 31, "10 min": 301}[retention]
        if self.clock:
            self.reasons.add("retention")
        site.sql("SELECT pgrelay.announce_set('late', 'deferred'), pgrelay.logged_set('quick', false)")

    def serve(self, n):
        database = self.barrier.conninfo() if self.barrier and n == 0 else None
        return Node(wait=False, database=database, **self.settings)

    def add_writers(self):
        dice = self.dice
        rate = dice.choice((300, 1000, 3000))
        self.load.add(dice.randint(1, 4), rate, types=("loss", "other"), size=small, seed=self.seed)
        self.load.add(dice.randint(0, 4), rate / 10, types=("loss",), hold=long_ago, seed=self.seed)
        self.load.add(dice.randint(0, 2), 30, types=("loss",), size=medium, seed=self.seed)
        if dice.random() < 0.2:
            self.load.add(1, 3, types=("loss",), size=mixed, batch=lambda dice: dice.choice((1, 2)), seed=self.seed)
        self.load.add(dice.randint(0, 2), rate / 2, types=("late",), seed=self.seed)
        if dice.random() < 0.3:
            self.load.add(1, rate / 5, types=("quick",), seed=self.seed)
            self.reasons.add("exempt")
        if dice.random() < 0.2:
            self.load.add(1, rate / 2, setup="SET synchronous_commit = off", seed=self.seed)
            self.reasons.add("restored")

    def add_clients(self):
        dice, load, crowd = self.dice, self.load, self.crowd
        for node in self.nodes:
            node.wait_ready()
        some = dice.sample(load.writers, dice.randint(1, len(load.writers)))
        both, other_way = self.nodes, self.nodes[::-1]
        crowd.join(load, both, dice.randint(1, 20), cursor=True)
        crowd.join(load, other_way, dice.randint(1, 20), cursor=True)
        crowd.join(load, both, dice.randint(1, 10), writers=some, cursor=True, receive_buffer=65536)
        crowd.join(load, other_way, dice.randint(0, 2), kind=EventStreamClient)

    # -- what happens --

    def rounds(self, count=20):
        self.load.start()
        self.wait_for(300)  # until each client has a cursor
        for _ in range(count):
            name, fault, lasting = self.choose_fault()
            pause = self.dice.choice((50, 200, 500, 2000))
            log(f"  {name}" + (f", for {lasting} more" if lasting else ""))
            self.faults[name] += 1
            inner = contextlib.ExitStack()
            self.lasting.append((lasting, inner))
            if fault is not None:
                inner.enter_context(fault)
            self.wait_for(pause)
            self.end_faults()
        self.end_faults(everything=True)

    def wait_for(self, events):
        """At any rate for a while: the writers may be waiting for what holds them."""
        self.load.wait_for(min(events, sum(writer.rate for writer in self.load.writers)))

    def end_faults(self, everything=False):
        for left, stack in self.lasting:
            if everything or left == 0:
                stack.close()
        self.lasting = [] if everything else [(left - 1, stack) for left, stack in self.lasting if left > 0]

    def choose_fault(self):
        """Its name, a context that it lives in, and for how many rounds it lives."""
        dice = self.dice
        faults = ["kill_backend"] * 6 + ["kill_node", "suspend", "leave"] * 2 + ["stop_node", "hold_queue", "crash", "stop", "keep_out", "newcomer"]
        if self.clock:
            faults += ["rotate", "set_clock"] * 2
        if self.barrier:
            faults += ["cut"] * 3
        if dice.random() < 0.02:
            faults = ["restore"]
        name = dice.choice(faults)
        return name, getattr(self, name)(random.Random(dice.random())), dice.choice((0, 0, 1, 2))

    @contextlib.contextmanager
    def kill_backend(self, dice):
        kill_backend(dice.choice(("listen", "listen", "query", "log", "%")))
        yield

    @contextlib.contextmanager
    def kill_node(self, dice):
        n = dice.randrange(2)
        self.nodes[n].process.kill()
        yield
        self.revive(n)

    @contextlib.contextmanager
    def stop_node(self, dice):
        n = dice.randrange(2)
        if self.nodes[n].is_running():
            eventually(lambda: self.nodes[n].get("/healthz").status == 200)  # it may just have been started
            self.nodes[n].stop()
        yield
        self.revive(n)

    def revive(self, n):
        node = self.nodes[n]
        if not node.is_running():
            database = self.barrier.conninfo() if self.barrier and n == 0 else None
            self.nodes[n] = Node(wait=False, database=database, port=node.port, **self.settings)

    @contextlib.contextmanager
    def suspend(self, dice):
        part, of = dice.randrange(3), 3
        self.crowd.do(lambda: [client.suspend() for client in self.crowd.clients[part::of]])
        yield
        self.crowd.do(lambda: [client.wake_up() for client in self.crowd.clients[part::of]])

    @contextlib.contextmanager
    def leave(self, dice):
        part, of = dice.randrange(3), 3

        def leave():
            gone = [client for client in self.crowd.clients[part::of] if client.socket is not None]
            for client in gone:
                client.drop()
            return gone

        gone = self.crowd.do(leave)
        yield
        self.crowd.do(lambda: [client.come_back() for client in gone])

    @contextlib.contextmanager
    def newcomer(self, dice):
        self.crowd.join(self.load, self.nodes, dice.randint(1, 3), cursor=True, late=True, wait=False)
        yield

    @contextlib.contextmanager
    def hold_queue(self, dice):
        """It ends with the server, too."""
        holder = libpq.Session(site.pg.conninfo())
        for statement in ("LISTEN pgrelay", "BEGIN", "SELECT 1"):
            holder(statement)
        yield
        holder.close()

    @contextlib.contextmanager
    def keep_out(self, dice):
        site.sql("ALTER ROLE node NOLOGIN")
        kind = dice.choice(("listen", "%"))
        eventually(lambda: not kill_backend(kind) and backend(kind) is None, what="the session is gone")
        yield
        site.sql("ALTER ROLE node LOGIN")

    @contextlib.contextmanager
    def crash(self, dice):
        site.drop_sessions()
        site.pg.restart(signal.SIGQUIT)
        yield

    @contextlib.contextmanager
    def stop(self, dice):
        site.drop_sessions()
        site.pg.stop(dice.choice((signal.SIGINT, signal.SIGQUIT)))
        pass_time(dice.choice((0, 1, 5, 30)))
        site.pg.start()
        yield

    @contextlib.contextmanager
    def cut(self, dice):
        self.barrier.forward(False)
        pass_time(dice.choice((0.1, 1, 4)))
        yield
        self.barrier.forward(True)

    @contextlib.contextmanager
    def rotate(self, dice):
        self.clock.forward(self.rotation)
        site.sql("SELECT pgrelay.log_rotate()")
        yield

    @contextlib.contextmanager
    def set_clock(self, dice):
        self.clock.forward(dice.choice((-3600, -60, -1, 1, 60, 3600)))
        yield

    @contextlib.contextmanager
    def restore(self, dice):
        """The backup is as old as the pause between the two stops."""
        self.reasons |= {"restored", "retention", "payload"}
        backup = site.pg.data + ".backup"
        site.drop_sessions()
        site.pg.stop()
        subprocess.run(["cp", "-a", site.pg.data, backup], check=True)
        site.pg.start()
        self.wait_for(dice.choice((10, 1000)))
        site.drop_sessions()
        site.pg.stop()
        shutil.rmtree(site.pg.data)
        os.rename(backup, site.pg.data)
        site.pg.start()
        yield

    # -- the end --

    def check(self):
        for n in range(2):
            self.revive(n)
            self.nodes[n].wait_ready()
        self.crowd.do(lambda: [client.wake_up() for client in self.crowd.clients])
        self.crowd.wait_joined()
        # nothing is missing behind the last of these, so that the end of each can be told
        more = [writer.n + 3 for writer in self.load.writers]
        eventually(lambda: all(w.error or w.n >= n for w, n in zip(self.load.writers, more)), 60, "each writer goes on")
        self.load.stop()
        events = self.crowd.check(self.load, gaps=True, timeout=120)
        gaps = collections.Counter(reason for reason, _ in self.crowd.gaps())
        assert set(gaps) <= self.reasons, f"gaps {dict(gaps)}, of which only {sorted(self.reasons)} may be"
        deliveries = sum(len(client.stream()) for client in self.crowd.clients)
        self.check_memory()
        return events, deliveries, gaps

    def check_memory(self):
        """Without clients and events a node holds its history, and little more."""
        self.crowd.do(lambda: [client.drop() for client in self.crowd.clients])
        limit = (int(self.settings["history_limit"][:-2]) << 20) + MEMORY_MARGIN
        if any(writer.size is mixed for writer in self.load.writers):
            limit += PAYLOADS_KEPT
        for node in self.nodes:
            eventually(lambda: node.metric("pgrelay_sessions") == 0 and node.metric("pgrelay_queued_bytes") == 0)
            eventually(lambda: resident_bytes(node.pid) < limit, 20, f"a node has less than {limit >> 20} MB")
            node.stop()


def log(text):
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def run_act(seed, number):
    with contextlib.ExitStack() as stack:
        act = Act(seed, number, stack)
        with_what = [name for name, there in (("clock", act.clock), ("wall", act.barrier)) if there]
        log(f"act {number}: {len(act.load.writers)} writers, {len(act.crowd.clients)} clients, " +
            ", ".join([f"{k}={v}" for k, v in act.settings.items() if k.endswith(("limit", "overflow"))] + with_what))
        try:
            act.rounds()
            events, deliveries, gaps = act.check()
        except BaseException:
            log("writers: " + ", ".join(f"w{w.number} {'+'.join(w.types)}{' held open' if w.hold else ''}{' asynchronous' if w.setup else ''}"
                                        for w in act.load.writers))
            for n in act.nodes:
                print(f"--- node {n.port}, {'running' if n.is_running() else 'not running'}\n{tail(n.log)}")
            raise
        log(f"act {number}: ok, {events} events, {deliveries} deliveries, gaps: {dict(gaps) or 'none'}")
    return events, deliveries, gaps, act.faults


def main(duration, seed, only):
    print(f"SEED={seed}", flush=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    total_events = total_deliveries = acts = failed = 0
    gaps, faults = collections.Counter(), collections.Counter()
    start = time.monotonic()
    try:
        prepare()
        number = only or 1
        while acts == 0 or only is None and time.monotonic() < start + duration:
            try:
                events, deliveries, act_gaps, act_faults = run_act(seed, number)
                total_events, total_deliveries = total_events + events, total_deliveries + deliveries
                gaps.update(act_gaps)
                faults.update(act_faults)
            except Exception:
                failed += 1
                traceback.print_exc(file=sys.stdout)
                log(f"act {number}: FAILED; again: make soak SEED={seed} ACT={number}")
            site.after_test()
            acts, number = acts + 1, number + 1
    finally:
        site.destroy()
    print(f"{acts} acts, {failed} failed; {time.monotonic() - start:.0f} s, {total_events} events, {total_deliveries} deliveries, "
          f"{sum(faults.values())} faults ({', '.join(f'{n} {k}' for k, n in sorted(faults.items()))}), "
          f"gaps: {', '.join(f'{n} {k}' for k, n in sorted(gaps.items())) or 'none'}; SEED={seed}")
    sys.exit(failed > 0)


if __name__ == "__main__":
    def argument(n, otherwise):
        return int(sys.argv[n]) if len(sys.argv) > n and sys.argv[n] else otherwise

    main(argument(1, 60), argument(2, secrets.randbelow(1 << 30)), argument(3, None))
