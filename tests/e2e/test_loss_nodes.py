#!/usr/bin/env python3
"""Nodes die, clients move, stop reading and come back, all under load; every client has every event once."""
import contextlib
import re

import libpq
from harness import Node, eventually, main, patience, seconds, site
from faults import kept_out, kill_backend, memory_comes_back, pass_time
from loss import Crowd, EventStreamClient, Load

FAST = {"backoff_max": "200ms", "probe_interval": "200ms", "log_level": "info", "history_limit": "8MB"}


def log_reads():
    """How often a node has asked the log for events, by the server's log."""
    return len(re.findall(r" node pgrelay log: LOG: [^\n]*pgrelay\.log_(?:read|covers)", site.pg.log()))


# Less in one transaction than queue_limit, where one that keeps up must not be taken for slow.
SMALL = {"batch": lambda dice: dice.choice((1, 1, 2, 5, 20)), "size": lambda dice: dice.choice((10, 1000, 3000))}


def kill(node):
    node.process.kill()


def revive(node, **settings):
    return Node(port=node.port, **{**FAST, **settings})


def test_nodes_are_killed_while_their_clients_go_to_another_and_back():
    one, two = Node(**FAST), Node(**FAST)
    with Load(4, 3000) as load, Crowd() as crowd:
        load.add(2, 100, hold=lambda dice: dice.choice((0, 0.1, 1)))
        crowd.join(load, [one, two], 15, cursor=True)
        crowd.join(load, [two, one], 5, cursor=True)
        crowd.join(load, [one, two], 2, kind=EventStreamClient)
        load.start()
        for _ in range(2):
            load.wait_for(1500)
            kill(one)
            load.wait_for(1500)
            one = revive(one)
            load.wait_for(1500)
            kill(two)
            load.wait_for(1500)
            two = revive(two)
        crowd.wait_joined()
        load.wait_for(500)
        load.stop()
        crowd.check(load)
        assert all(client.connections >= 3 for client in crowd.clients)
    one.stop()
    two.stop()


def test_no_node_is_there_for_a_while():
    node = Node(**FAST)
    with Load(4, 4000) as load, Crowd() as crowd:
        crowd.join(load, node, 15, cursor=True)
        crowd.join(load, node, 2, kind=EventStreamClient)
        load.start().wait_for(1000)
        kill(node)
        load.wait_for(8000)
        node = revive(node)
        crowd.wait_joined()
        load.wait_for(1000)
        load.stop()
        crowd.check(load)
    node.stop()


def test_a_node_is_restarted_as_for_an_upgrade():
    node = Node(**FAST)
    with Load(4, 4000) as load, Crowd() as crowd:
        crowd.join(load, node, 15, cursor=True)
        crowd.join(load, node, 2, kind=EventStreamClient)
        load.start()
        for _ in range(2):
            load.wait_for(1000)
            node.stop()
            load.wait_for(500)
            node = revive(node)
        crowd.wait_joined()
        load.wait_for(1000)
        load.stop()
        crowd.check(load)
        assert any("1001" in end for client in crowd.clients for end in client.ends)
    node.stop()


def test_clients_wander_between_nodes_that_lose_their_sessions():
    with Node(**FAST) as one, Node(**FAST) as two, Load(4, 3000) as load, Crowd() as crowd:
        crowd.join(load, [one, two], 30, cursor=True)
        crowd.join(load, [two, one], 2, kind=EventStreamClient)

        def wander(part):
            for client in crowd.clients[part::4]:
                client.drop()
                client.come_back()

        with memory_comes_back(one):
            load.start()
            for turn in range(12):
                load.wait_for(700)
                crowd.do(wander, turn % 4)
                if turn % 3 == 0:
                    kill_backend("listen")
            load.wait_for(500)
            load.stop()
            crowd.check(load)


@contextlib.contextmanager
def nothing_is_announced():
    """The announcer's lock is taken from the nodes."""
    holder = libpq.Session(site.pg.conninfo())

    def is_taken():
        kill_backend("announce")
        return holder("SELECT pg_try_advisory_lock(hashtextextended('pgrelay.announcer', 0))") == [["t"]]

    eventually(is_taken, what="the announcer's lock is free for a moment")
    yield
    holder.close()


def test_clients_move_to_a_node_that_has_not_heard_of_the_deferred_events_yet():
    """The node that they leave has read them from the log, before anybody announced them."""
    site.sql("SELECT pgrelay.announce_set('late', 'deferred')")
    with Node(**FAST) as one, Node(**FAST) as two, Load(2, 500) as load, Crowd() as crowd:
        late = load.add(2, 500, types=("late",))
        moving = crowd.join(load, [one, two], 5, cursor=True) + crowd.join(load, [one, two], 1, kind=EventStreamClient)
        crowd.join(load, two, 3)
        load.start().wait_for(500)
        with nothing_is_announced():
            load.wait_for(500)
            unheard = {writer.number: writer.n for writer in late}
            eventually(lambda: all(client.last.get(n, 0) < unheard[n] for client in crowd.clients for n in unheard))
            site.sql(f"SELECT pg_terminate_backend({re.findall(r'listen: connected .* backend ([0-9]+)', one.log)[-1]})")
            eventually(lambda: all(client.last.get(n, 0) >= unheard[n] for client in moving for n in unheard), what="they are read from the log")
            crowd.do(lambda: [client.drop() for client in moving])
            crowd.do(lambda: [client.come_back() for client in moving])
            crowd.wait_joined()
            load.wait_for(300)
        load.wait_for(500)
        load.stop()
        crowd.check(load)


def test_a_client_suspended_within_its_time_outs_misses_nothing_and_stays():
    with Node(queue_limit="64MB", **FAST) as node, Load(4, 3000) as load, Crowd() as crowd:
        stopped = crowd.join(load, node, 3, receive_buffer=65536) + crowd.join(load, node, 3, cursor=True, receive_buffer=4096)
        crowd.join(load, node, 5)
        with memory_comes_back(node):
            load.start().wait_for(500)
            crowd.do(lambda: [client.suspend() for client in stopped])
            load.wait_for(6000)
            kill_backend("listen")
            load.wait_for(2000)
            crowd.do(lambda: [client.wake_up() for client in stopped])
            load.wait_for(500)
            load.stop()
            crowd.check(load)
        assert all(client.connections == 1 for client in crowd.clients)


def test_a_client_suspended_past_its_time_outs_is_closed_and_resumes():
    with Node(ping_interval="300ms", ping_timeout=f"{seconds(3)}s", **FAST) as node, Load(4, 3000) as load, Crowd() as crowd:
        stopped = crowd.join(load, node, 5, cursor=True)
        crowd.join(load, node, 5)
        load.start().wait_for(500)
        crowd.do(lambda: [client.suspend() for client in stopped])
        load.wait_for(500)
        eventually(lambda: node.metric("pgrelay_sessions") == 5, what="the suspended ones are closed")
        load.wait_for(1000)
        crowd.do(lambda: [client.wake_up() for client in stopped])
        crowd.wait_joined()
        load.wait_for(500)
        load.stop()
        crowd.check(load)
        assert all(client.connections > 1 for client in stopped)


def test_1000_clients_resume_at_once_without_a_query_to_the_log():
    """They come from memory; some writers go on meanwhile."""
    with Node(**FAST) as node, Load(2, 100) as load, Crowd() as crowd:
        missed = load.add(2, 1000, limit=300)
        crowd.join(load, node, 10)
        everyone = crowd.join(load, node, 1000, cursor=True)
        load.start(load.writers[:2]).wait_for(20)
        crowd.do(lambda: [client.drop() for client in everyone])
        eventually(lambda: node.metric("pgrelay_sessions") == 10, what="they have gone")
        load.start(missed)
        eventually(lambda: all(writer.n == 300 for writer in missed), what="much happens without them")
        reads = log_reads()
        crowd.do(lambda: [client.come_back() for client in everyone])
        crowd.wait_joined()
        load.wait_for(50)
        load.stop()
        crowd.check(load)
        assert log_reads() == reads, f"{log_reads() - reads} queries to the log"
        crowd.do(lambda: [client.drop() for client in everyone])
        eventually(lambda: node.metric("pgrelay_sessions") == 10, what="they have gone")


def test_the_log_is_read_once_for_all_that_stayed():
    """Some hundred clients, one catching-up."""
    with Node(**FAST) as node, Load(4, 600) as load, Crowd() as crowd:
        crowd.join(load, node, 300)
        load.start().wait_for(100)
        reads = log_reads()
        with kept_out("listen"):
            load.wait_for(500)
        load.wait_for(100)
        load.stop()
        crowd.check(load)
        assert 0 < log_reads() - reads < 10, f"{log_reads() - reads} queries to the log"


def test_a_slow_client_loses_its_oldest_messages_and_is_told():
    with Node(overflow="gap", queue_limit="256kB", write_timeout="10min", **FAST) as node, Crowd() as crowd:
        with Load(3, 3000, **SMALL) as load:
            slow = crowd.join(load, node, 3, receive_buffer=65536)
            slow += crowd.join(load, node, 2, cursor=True, receive_buffer=65536)
            load.follow(crowd.join(load, node, 5) + crowd.join(load, node, 1, kind=EventStreamClient))
            with memory_comes_back(node):
                load.start()
                for _ in range(3):
                    load.wait_for(300)
                    crowd.do(lambda: [client.suspend() for client in slow])
                    load.wait_for(5000)
                    crowd.do(lambda: [client.wake_up() for client in slow])
                eventually(lambda: node.metric("pgrelay_queued_bytes") < 100000, what="they have read what was left for them", pause=0.1)
                load.wait_for(300)
                load.stop()
                crowd.check(load, gaps=True)
            for client in crowd.clients:
                reasons = {reason for reason, _ in client.gaps_told()}
                assert reasons == ({"overflow"} if client in slow else set()), (client.name, reasons)
                assert client.connections == 1, client.ends


def test_a_slow_client_is_closed_and_resumes():
    """overflow = close, the default. Who stops while it gets what it missed is given write_timeout."""
    with Node(queue_limit="256kB", write_timeout=f"{seconds(8)}s", **FAST) as node, Crowd() as crowd:
        with Load(3, 3000, **SMALL) as load:
            slow = crowd.join(load, node, 3, cursor=True, receive_buffer=65536)
            load.follow(crowd.join(load, node, 5))
            load.start()

            def slow_ones_are_gone():
                crowd.do(lambda: [client.suspend() for client in slow if client.is_joined()])
                return node.metric("pgrelay_sessions") == 5

            for turn in (1, 2):
                load.wait_for(300)
                eventually(slow_ones_are_gone, 30, "they are closed", pause=0.1)
                load.wait_for(300)
                crowd.do(lambda: [client.wake_up() for client in slow])
                eventually(lambda: all(client.connections > turn for client in slow), what="they come back")
                crowd.wait_joined()
            load.wait_for(300)
            load.stop()
            crowd.check(load)
            assert node.metric("pgrelay_sessions_closed_slow_total") >= 3


def test_clients_that_resume_and_then_read_slowly():
    """What they have missed is more than the node keeps for them; they stop reading in the middle of it."""
    with Node(**{**FAST, "history_limit": "256kB", "queue_limit": "256kB"}) as node, Load(4, 4000) as load, Crowd() as crowd:
        slow = crowd.join(load, node, 5, cursor=True, receive_buffer=65536)
        load.follow(crowd.join(load, node, 5))
        load.start()
        for _ in range(2):
            load.wait_for(300)
            crowd.do(lambda: [client.drop() for client in slow])
            load.wait_for(6000)
            crowd.do(lambda: [client.come_back() for client in slow])
            crowd.wait_joined(slow)
            crowd.do(lambda: [client.suspend() for client in slow])
            load.wait_for(2000)
            crowd.do(lambda: [client.wake_up() for client in slow])
            pass_time(0.1)
        load.wait_for(300)
        load.stop()
        crowd.check(load, gaps=True)
        assert {reason for reason, _ in crowd.gaps()} <= {"history"}, crowd.gaps()
        for client in crowd.clients:
            assert client in slow or not client.gaps_told()


def test_slow_ones_do_not_keep_others_who_come_back_from_the_log():
    """They take what they get, but a little at a time: they are put back, and miss nothing either."""
    former = Node(**FAST)
    with Load(3, 4000, size=lambda dice: 1000) as load, Crowd() as crowd:
        slow = crowd.join(load, former, 2, cursor=True, receive_buffer=65536)
        quick = crowd.join(load, former, 5, cursor=True)
        load.start().wait_for(300)
        crowd.do(lambda: [client.drop() for client in slow + quick])
        load.wait_for(12000)
        former.stop()
        load.stop()
        with Node(queue_limit="512kB", write_timeout="10min", **FAST) as node:
            for client in slow + quick:
                client.ports = [node.port]
            crowd.do(lambda: [client.come_back() for client in slow + quick])

            def suspended():
                """Each as soon as it has joined, lest it has all by then."""
                crowd.do(lambda: [client.suspend() for client in slow if client.is_joined()])
                return not any(client.reading for client in slow)

            eventually(suspended, pause=0.002)
            totals = load.totals()

            def quick_ones_have_all():
                crowd.do(lambda: [client.sip() for client in slow])
                return not any(client.lacks(totals) for client in quick)

            eventually(quick_ones_have_all, 60, pause=0.03)
            crowd.do(lambda: [client.wake_up() for client in slow])
            crowd.check(load)
            if patience() == 1:  # else nobody is slower than the node
                assert node.metric("pgrelay_resumes_log_total") > len(slow + quick), "nobody was put back"


if __name__ == "__main__":
    main(limit=60)
