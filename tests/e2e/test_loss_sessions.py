#!/usr/bin/env python3
"""The node's sessions with PostgreSQL are killed under thousands of events a second; every client has every event once, in commit order.

track_commit_timestamp is on here: what is read from the log then comes in commit order too, and is compared with what a bare
LISTEN session heard."""
import contextlib
import itertools
import json
import threading

import libpq
from harness import Node, eventually, main, quote, seconds, site
from faults import Throttle, kept_out, kill_backend, memory_comes_back, with_settings
from loss import Crowd, EventStreamClient, Load, Reference, mixed

FAST = {"backoff_max": "200ms", "probe_interval": "200ms", "log_level": "info", "history_limit": "8MB"}


def audience(crowd, load, node, stay=10):
    """Clients of all kinds, also of some writers only."""
    crowd.join(load, node, stay)
    crowd.join(load, node, 3, writers=load.writers[:2])
    crowd.join(load, node, 5, cursor=True)
    crowd.join(load, node, 1, kind=EventStreamClient)


def in_commit_order():
    with_settings(track_commit_timestamp="on")


def test_nothing_is_killed():
    """What the others are to be compared with."""
    in_commit_order()
    with Node(**FAST) as node, Load(4, 5000, types=("loss", "other")) as load, Crowd() as crowd, Reference() as reference:
        audience(crowd, load, node)
        with memory_comes_back(node):
            load.start().wait_for(10000)
            load.stop()
            crowd.check(load, reference=reference)


def test_the_listen_session_is_killed_again_and_again():
    in_commit_order()
    with Node(**FAST) as node, Load(4, 4000, types=("loss", "other")) as load, Crowd() as crowd, Reference() as reference:
        audience(crowd, load, node)
        with memory_comes_back(node):
            load.start()
            for n in range(8):
                load.wait_for(1500)
                eventually(lambda: kill_backend("listen"), what="there is a LISTEN session")
            load.wait_for(1500)
            node.wait_ready()
            load.stop()
            crowd.check(load, reference=reference)
        assert node.metric("pgrelay_listen_lost_total") >= 4


def test_the_node_is_kept_out_while_20000_events_are_committed():
    """That is more than queue_limit: clients that read are not closed for it."""
    in_commit_order()
    with Node(queue_limit="1MB", **FAST) as node, Load(4, 8000) as load, Crowd() as crowd, Reference() as reference:
        audience(crowd, load, node)
        with memory_comes_back(node):
            load.start().wait_for(500)
            for kind in ("listen", "%"):
                with kept_out(kind):
                    load.wait_for(10000)
                node.wait_ready()
                load.wait_for(1000)
            load.stop()
            crowd.check(load, reference=reference)


def test_the_session_that_reads_the_log_is_killed_while_it_does():
    in_commit_order()

    def is_killed():
        return site.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'pgrelay log%' "
                        "AND state = 'active' LIMIT 1") == "t"

    with Throttle() as way, Node(database=way.conninfo(), **FAST) as node, Crowd() as crowd, Reference() as reference, \
            Load(4, 4000, size=lambda dice: dice.choice((10, 1000, 3000))) as load:
        audience(crowd, load, node)
        load.start().wait_for(500)
        for kind in ("listen", "%", "listen"):
            with kept_out(kind):
                load.wait_for(5000)
                way.rate = 4 << 20  # that takes a second or two
            for _ in range(2):
                eventually(is_killed, what="the log is read", pause=0.001)
            way.rate = None
            node.wait_ready()
            load.wait_for(500)
        load.stop()
        crowd.check(load, reference=reference)


def test_both_sessions_are_killed_while_big_payloads_are_read():
    in_commit_order()
    with Node(**FAST) as node, Crowd() as crowd, Reference() as reference:
        with Load(3, 300, size=lambda dice: dice.choice((10, 100, 5000, 20000, 100000))) as load:
            audience(crowd, load, node, stay=3)
            load.start()
            for kind in ("query", "listen", "%", "query", "query", "%"):
                load.wait_for(100)
                kill_backend(kind)
            load.wait_for(100)
            node.wait_ready()
            load.stop()
            crowd.check(load, reference=reference)
            assert node.metric("pgrelay_tickets_read_total") > 0


def test_payloads_of_7900_to_8100_octets_in_steps_of_one_with_cuts():
    """Padding of 7,800 octets on, and twice: what stands around it grows with the numbers."""
    in_commit_order()
    steps = itertools.cycle(range(7800, 8101))
    with Node(**FAST) as node, Crowd() as crowd, Reference() as reference, Load(0) as load:
        load.add(1, 1000, size=lambda dice: next(steps), batch=lambda dice: dice.choice((1, 2, 7)), limit=602)
        audience(crowd, load, node, stay=3)
        load.start()
        for kind in ("listen", "query", "%"):
            load.wait_for(150)
            kill_backend(kind)
        load.finish()
        crowd.check(load, reference=reference)


def test_payloads_of_1_kB_to_5_MB_in_one_job_with_cuts():
    """Besides its history the node may keep 32 MB of big payloads, and libpq a buffer for the largest."""
    in_commit_order()
    with Node(queue_limit="64MB", **FAST) as node, Crowd() as crowd, Reference() as reference, Load(0) as load:
        load.add(1, 100, size=mixed, batch=lambda dice: dice.choice((1, 1, 5)), limit=80, seed=2)
        crowd.join(load, node, 3)
        crowd.join(load, node, 2, cursor=True)
        with memory_comes_back(node, margin=64 << 20):
            load.start()
            for kind in ("listen", "query", "%"):
                load.wait_for(15)
                kill_backend(kind)
            load.finish()
            crowd.check(load, reference=reference)


def test_a_transaction_held_open_across_catching_up():
    """It commits while the node is away, just after its return, or later; others commit all the time."""
    in_commit_order()
    with Node(**FAST) as node, Load(3, 3000) as load, Crowd() as crowd, Reference() as reference:
        early, middle, late, never_heard = held = load.add(4)
        writers = load.writers[:3]
        audience(crowd, load, node, stay=5)
        load.start(writers)
        for writer in held[:3]:
            writer.begin(50)
        load.wait_for(1000)
        with kept_out("listen"):
            never_heard.begin(50)
            load.wait_for(1000)
            early.commit()
            never_heard.commit()
            load.wait_for(1000)
        middle.commit()
        node.wait_ready()
        load.wait_for(3000)
        with kept_out():
            load.wait_for(1000)
        node.wait_ready()
        load.wait_for(1000)
        late.commit()
        load.wait_for(500)
        load.stop()
        crowd.check(load, reference=reference)


def test_writers_who_hold_their_transactions_open_at_random():
    in_commit_order()
    with Node(**FAST) as node, Load(2, 2000) as load, Crowd() as crowd, Reference() as reference:
        load.add(8, 100, hold=lambda dice: dice.choice((0, 0.01, 0.3, 1)))
        audience(crowd, load, node, stay=5)
        load.start()
        for kind in ("listen", "%", "listen", "listen", "%"):
            load.wait_for(1000)
            kill_backend(kind)
        load.wait_for(1000)
        load.stop()
        crowd.check(load, reference=reference)


def test_deferred_events_and_others_with_cuts():
    """Each writer's order holds; the two kinds are announced by different sessions."""
    site.sql("SELECT pgrelay.announce_set('late', 'deferred')")
    with Node(**FAST) as node, Load(2, 2000) as load, Crowd() as crowd:
        load.add(2, 1000, types=("late",))
        load.add(1, 100, types=("late",), hold=lambda dice: dice.choice((0, 0.1, 0.5)))
        audience(crowd, load, node, stay=5)
        load.start()
        for kind in ("listen", "%", "query", "listen", "query"):
            load.wait_for(1000)
            kill_backend(kind)
        load.wait_for(1000)
        node.wait_ready()
        load.stop()
        crowd.check(load)


def test_announcers_change_while_a_node_catches_up_slowly():
    """What it holds back meanwhile is long, and in the middle of it are batches that do not follow one another."""
    site.sql("SELECT pgrelay.announce_set('late', 'deferred')")
    settings = {**FAST, "probe_interval": "50ms"}
    with Node(**settings), Load(4, 2000, size=lambda dice: 500, batch=lambda dice: dice.choice((1, 1, 2))) as load, Crowd() as crowd:
        with Node(queue_limit="512kB", **settings) as node:
            load.add(1, 300, types=("late",))
            crowd.join(load, node, 5)
            slow = crowd.join(load, node, 1, cursor=True, receive_buffer=65536)
            load.start().wait_for(300)
            for _ in range(3):
                with kept_out("listen"):
                    load.wait_for(4000)
                crowd.do(lambda: [client.suspend() for client in slow])  # the node waits for it, for a while
                for _ in range(8):
                    kill_backend("announce")
                    load.wait_for(150)
                crowd.do(lambda: [client.wake_up() for client in slow])
                node.wait_ready()
                load.wait_for(300)
            load.stop()
            crowd.check(load)


@contextlib.contextmanager
def heartbeats_are_played_again():
    """Somebody sends each heartbeat, as it was, when the next one has come by; all the time."""
    ending, played = threading.Event(), []
    listener, sender = (libpq.Session(site.pg.conninfo("writer")) for _ in range(2))
    listener("LISTEN web_ws_heartbeat")

    def play():
        last = {}
        while not ending.is_set():
            for beat in listener.notifications(0.05):
                key = json.loads(beat)["counter"]
                last[key] = beat
            for key in sorted(last)[-5:-1]:
                sender(f"SELECT pg_notify('web_ws_heartbeat', {quote(last[key].decode())})")
                played.append(key)

    player = threading.Thread(target=play)
    player.start()
    try:
        yield played
    finally:
        ending.set()
        player.join()
        listener.close()
        sender.close()


def test_own_heartbeats_that_somebody_plays_again():
    """Their snapshots are old: taken for this node's present ones, they would hide what was not heard."""
    with Node(**FAST) as node, Load(3, 2000) as load, Crowd() as crowd:
        audience(crowd, load, node, stay=5)
        with heartbeats_are_played_again() as played:
            load.start()
            for kind in ("listen", "%", "listen"):
                load.wait_for(500)
                with kept_out(kind):
                    load.wait_for(500)
                node.wait_ready()
            before = len(played)
            eventually(lambda: len(played) > before + 20, what="heartbeats are played again")
            load.wait_for(500)
            load.stop()
        crowd.check(load)


def test_a_long_transaction_that_comes_slowly_is_no_deafness():
    """The node's heartbeat comes behind it, long after probe_timeout; the session is alive all the time."""
    timeout = seconds(3)
    with Throttle() as way, Node(database=way.conninfo(), **{**FAST, "probe_timeout": f"{timeout}s"}) as node, Load(0) as load, Crowd() as crowd:
        writer, = load.add(1, 1000, size=lambda dice: 1000)
        crowd.join(load, node, 3)
        writer.begin(6000)
        way.rate = 6000 * 1000 / (3 * timeout)
        writer.commit()
        eventually(lambda: all(client.last.get(writer.number) == 6000 for client in crowd.clients), 60, "all of it has come", pause=0.1)
        way.rate = None
        load.stop()
        crowd.check(load)
        assert node.metric("pgrelay_listen_deaf_total") == node.metric("pgrelay_listen_lost_total") == 0


def test_another_session_holds_the_notification_queue():
    """It listens and sits in a transaction. (Before PostgreSQL 17 the queue is 8 GB, too much to fill here.)"""
    with Node(**FAST) as node, Load(3, 3000, size=lambda dice: 3000) as load, Crowd() as crowd:
        audience(crowd, load, node, stay=5)
        holder = libpq.Session(site.pg.conninfo())
        for statement in ("LISTEN pgrelay", "BEGIN", "SELECT 1"):
            holder(statement)
        usage = float(site.sql("SELECT queue_usage FROM pgrelay.health()"))
        load.start()
        for kind in ("listen", "query", "listen"):
            load.wait_for(1500)
            kill_backend(kind)
        load.wait_for(1500)
        assert float(site.sql("SELECT queue_usage FROM pgrelay.health()")) > usage, "the usage does not rise"
        holder.close()
        load.wait_for(500)
        eventually(lambda: float(site.sql("SELECT queue_usage FROM pgrelay.health()")) <= usage, what="the queue is empty again")
        node.wait_ready()
        load.stop()
        crowd.check(load)


if __name__ == "__main__":
    main(limit=60)
