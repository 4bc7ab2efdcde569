#!/usr/bin/env python3
"""Deferred events: writers only write the log, one node announces what is committed. Whoever that is, and whatever becomes of it,
every client has every event once."""
import contextlib
import os
import signal
import time

import libpq
from harness import Node, eventually, main, seconds, site
from faults import pass_time
from loss import Crowd, EventStreamClient, Load, Reference
from wall import wall

FAST = {"backoff_max": "200ms", "probe_interval": "200ms", "log_level": "info"}
SESSIONS = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pgrelay announce'"


def announce(how, *types):
    for type in types or ("loss",):
        site.sql(f"SELECT pgrelay.announce_set('{type}', '{how}')")


@contextlib.contextmanager
def deferred(*types):
    # a call every 10 ms
    site.sql("ALTER ROLE node SET log_statement = none")
    announce("deferred", *types)
    try:
        yield
    finally:
        announce("commit", *types)


def is_announcer(node):
    return node.metric("pgrelay_announcer") == 1


def announcer(*nodes):
    """The node that announces, and the others."""
    def found():
        who = [node for node in nodes if is_announcer(node)]
        return who if len(who) == 1 else None

    one = eventually(found, what="one node announces")[0]
    return one, [node for node in nodes if node is not one]


def announced(*nodes):
    return sum(node.metric("pgrelay_announced_events_total") for node in nodes)


def audience(crowd, load, *nodes, late=False):
    for node in nodes:
        crowd.join(load, node, 5, late=late)
        crowd.join(load, node, 3, cursor=True, late=late)
        crowd.join(load, node, 1, kind=EventStreamClient, late=late)


def takes_over(node, since, within=2):
    eventually(lambda: is_announcer(node), within + 3, "the other node announces", pause=0.005)
    took = time.monotonic() - since
    print(f"# taken over after {took:.2f} s")
    assert took < seconds(within), f"it took {took:.2f} s"


# ---- one node ----


def test_there_is_a_session_only_while_announcing_is_wanted():
    """The first test, for deferred events in the log want announcing, too."""
    with Node(**FAST) as node:
        assert site.sql(SESSIONS) == "0" and not is_announcer(node)
        with deferred():
            eventually(lambda: is_announcer(node), 5)
            assert site.sql(SESSIONS) == "1"
            site.emit("loss", "w1", "1", {"n": 1})
            eventually(lambda: announced(node) == 1)
            site.sql("TRUNCATE pgrelay.event")  # as the rotation does, a retention later
        eventually(lambda: not is_announcer(node) and site.sql(SESSIONS) == "0", 5, "the session is gone")
        with deferred():
            eventually(lambda: is_announcer(node), 5)


def test_deferred_events_arrive_in_one_order():
    with deferred(), Node(**FAST) as node, Load(6, 5000) as load, Crowd() as crowd, Reference() as reference:
        load.add(2, 200, hold=lambda dice: dice.choice((0, 0.05, 0.3)))
        audience(crowd, load, node)
        announcer(node)
        load.start().wait_for(12000)
        load.stop()
        total = crowd.check(load, reference=reference)
        assert announced(node) == total


def test_payloads_of_any_size():
    def size(dice):
        return dice.choice((10, 3000, 7000, 9000, 100000, 1000000))

    with deferred(), Node(**FAST) as node, Load(2, 60, size=size) as load, Crowd() as crowd:
        audience(crowd, load, node)
        load.start().wait_for(150)
        load.stop()
        crowd.check(load)


def test_a_deferred_event_is_soon_there():
    """Between the commit and the client are at most 10 ms until the next call, and the way. Measured, with a margin for a slow host."""
    with deferred("soon"), Node(**FAST) as node:
        client = node.connect(site.all_seeing).join(soon=["x"])
        writer = libpq.Session(site.pg.conninfo("writer"))
        announcer(node)
        times = []
        for n in range(200):
            writer(f"SELECT pgrelay.emit('soon', 'x', 'k', '{{\"n\": {n}}}')")
            start = time.monotonic()
            assert client.json() == {"n": n}
            times.append(time.monotonic() - start)
        writer.close()
        times.sort()
        print(f"# commit to client: median {times[100] * 1000:.1f} ms, p99 {times[198] * 1000:.1f} ms")
        assert times[100] < seconds(0.03), times


def test_announcing_is_switched_on_and_off_under_load():
    with Node(**FAST) as node, Load(4, 3000) as load, Crowd() as crowd:
        audience(crowd, load, node)
        load.start()
        for how in ("deferred", "commit") * 4:
            load.wait_for(1000)
            announce(how)
        load.wait_for(1000)
        load.stop()
        crowd.check(load)
        assert 0 < announced(node) < load.written


def test_the_announcers_session_is_killed_again_and_again():
    with deferred(), Node(**FAST) as node, Load(4, 3000) as load, Crowd() as crowd:
        audience(crowd, load, node)
        load.start()
        for _ in range(5):
            load.wait_for(1000)
            announcer(node)
            site.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pgrelay announce'")
        load.wait_for(1000)
        load.stop()
        crowd.check(load)


def test_calls_that_fail_lose_nothing():
    function = "FUNCTION pgrelay.announce(pg_snapshot, boolean)"
    with deferred(), Node(**FAST) as node, Load(4, 2000) as load, Crowd() as crowd:
        audience(crowd, load, node)
        load.start().wait_for(1000)
        announcer(node)
        site.sql(f"REVOKE EXECUTE ON {function} FROM pgrelay_node")
        try:
            eventually(lambda: "could not announce deferred events" in node.log)
            load.wait_for(2000)
        finally:
            site.sql(f"GRANT EXECUTE ON {function} TO pgrelay_node")
        load.wait_for(1000)
        load.stop()
        crowd.check(load)
        assert node.log.count("this node announces") == 1, node.log


def test_the_server_crashes():
    with deferred(), Node(**FAST) as node, Load(4, 3000) as load, Crowd() as crowd:
        audience(crowd, load, node)
        load.start()
        for _ in range(2):
            load.wait_for(1500)
            site.drop_sessions()
            site.pg.restart(signal.SIGQUIT)
        load.wait_for(1500)
        load.stop()
        crowd.check(load)


def test_the_only_node_goes_and_comes_back():
    with deferred(), Load(4, 3000) as load, Crowd() as crowd:
        node = Node(**FAST)
        crowd.join(load, node, 5, cursor=True)
        load.start().wait_for(1500)
        node.process.kill()
        load.wait_for(1500)
        node = Node(port=node.port, **FAST)
        crowd.wait_joined()
        load.wait_for(1500)
        load.stop()
        crowd.check(load)
        node.stop()


# ---- several nodes ----


def test_one_of_two_nodes_announces_and_the_other_takes_over_when_it_ends():
    with deferred(), Node(**FAST) as one, Node(**FAST) as two, Load(4, 3000) as load, Crowd() as crowd:
        first, (second,) = announcer(one, two)
        audience(crowd, load, second)
        load.start().wait_for(1000)
        start = time.monotonic()
        first.stop()
        takes_over(second, start)
        load.wait_for(1000)
        load.stop()
        crowd.check(load)


def test_the_announcer_is_killed():
    with deferred(), Load(4, 3000) as load, Crowd() as crowd:
        nodes = [Node(**FAST), Node(**FAST)]
        first, (second,) = announcer(*nodes)
        audience(crowd, load, second)
        load.start().wait_for(1500)
        start = time.monotonic()
        first.process.kill()
        takes_over(second, start)
        load.wait_for(1500)
        load.stop()
        crowd.check(load)
        second.stop()


def test_the_announcer_is_stopped_and_wakes_up():
    """Its backend lives, and holds the lock: the other one has it ended. The clients of both have everything."""
    with deferred(), Node(**FAST) as one, Node(**FAST) as two, Load(4, 3000) as load, Crowd() as crowd:
        first, (second,) = announcer(one, two)
        audience(crowd, load, one, two)
        load.start().wait_for(1500)
        start = time.monotonic()
        first.process.signal(signal.SIGSTOP)
        try:
            takes_over(second, start)
            assert "stood still" in second.log, second.log
            load.wait_for(1500)
        finally:
            first.process.signal(signal.SIGCONT)
        load.wait_for(1500)
        load.stop()
        crowd.check(load)
        assert is_announcer(second) and not is_announcer(first)


def test_the_announcers_network_is_cut():
    with wall() as barrier, deferred(), Node(database=barrier.conninfo(), **FAST) as one:
        announcer(one)
        with Node(**FAST) as two, Load(4, 3000) as load, Crowd() as crowd:
            audience(crowd, load, one, two)
            load.start().wait_for(1500)
            with barrier.cut():
                takes_over(two, time.monotonic())
                load.wait_for(1500)
                pass_time(seconds(1))
            load.wait_for(1500)
            load.stop()
            crowd.check(load)
            eventually(lambda: not is_announcer(one), 60, "the first has noticed")


def test_a_waiting_node_that_hears_nothing_leaves_a_good_announcer_alone():
    """Its own LISTEN session is what is wrong."""
    with deferred(), Node(**FAST) as one:
        announcer(one)
        with Node(**FAST) as two:
            eventually(lambda: site.sql(SESSIONS) == "2")
            pid = site.sql("SELECT pid FROM pg_stat_activity WHERE application_name = 'pgrelay listen' ORDER BY backend_start DESC LIMIT 1")
            os.kill(int(pid), signal.SIGSTOP)
            try:
                asked = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pgrelay announce' AND query LIKE '%pg_terminate_backend%'"
                eventually(lambda: site.sql(asked) == "1", what="the second node doubts", pause=0.002)
                pass_time(1)
                assert is_announcer(one) and not is_announcer(two)
                assert one.log.count("this node announces") == 1
            finally:
                os.kill(int(pid), signal.SIGCONT)


def test_a_lock_that_another_role_holds_is_told():
    holder = site.session("postgres")
    holder("SELECT pg_advisory_lock(hashtextextended('pgrelay.announcer', 0))")
    with deferred(), Node(**FAST) as node:
        eventually(lambda: "let every node connect as the same role" in node.log, what="the log says what to do")
        assert not is_announcer(node)
        holder.close()
        eventually(lambda: is_announcer(node))


if __name__ == "__main__":
    main(limit=90)
