#!/usr/bin/env python3
"""The primary dies or ends, its standby is promoted; node and writers find the new one by themselves. Every client that has
stayed has every event once, and where the standby lacked events it is told."""
import contextlib
import os
import signal

from harness import Node, eventually, main, site
from loss import Crowd, EventStreamClient, Load
from replication import Standby, hosts

FAST = {"backoff_max": "200ms", "probe_interval": "200ms", "connect_timeout": "2s", "log_level": "info"}


def wants_synchronous(standby):
    site.sql(f"ALTER SYSTEM SET synchronous_standby_names = '{standby.name}'")
    site.sql("SELECT pg_reload_conf()")
    text = f"SELECT count(*) FROM pg_stat_replication WHERE application_name = '{standby.name}' AND sync_state = 'sync'"
    eventually(lambda: site.sql(text) == "1", 30, "the standby is synchronous")


def stop_receiving(standby):
    """The standby stays where it is."""
    standby.query("ALTER SYSTEM SET primary_conninfo = ''")
    standby.query("SELECT pg_reload_conf()")
    eventually(lambda: standby.query("SELECT count(*) FROM pg_stat_wal_receiver") == "0", what="the standby receives nothing")


@contextlib.contextmanager
def pair():
    """The test's cluster with a standby. In the end the cluster is as it was, without the standby."""
    primary = site.pg
    assert site.all_seeing  # on both
    standby = Standby(primary)
    standby.wait_streaming()
    try:
        yield primary, standby
    finally:
        site.drop_sessions()
        site.cluster = primary
        standby.stop(signal.SIGQUIT)
        primary.stop(signal.SIGQUIT)
        with open(os.path.join(primary.data, "postgresql.auto.conf"), "w"):
            pass
        primary.start()


def fail_over(primary, standby, how):
    """From now on the standby is the test's cluster."""
    site.drop_sessions()
    primary.stop(how)
    standby.promote()
    site.cluster = standby


def audience(crowd, load, node):
    crowd.join(load, node, 10)
    crowd.join(load, node, 5, cursor=True)
    crowd.join(load, node, 1, kind=EventStreamClient)


def both(primary, standby, user):
    return hosts(primary, standby, user=user, target_session_attrs="read-write", connect_timeout=2)


def check_nothing_is_lost(how, synchronous):
    with pair() as (primary, standby), Node(database=both(primary, standby, "node"), **FAST) as node:
        if synchronous:
            wants_synchronous(standby)
        with Load(4, 2000, conninfo=both(primary, standby, "writer")) as load, Crowd() as crowd:
            audience(crowd, load, node)
            load.start().wait_for(2000)
            fail_over(primary, standby, how)
            load.wait_for(2000)
            node.wait_ready()
            load.stop()
            crowd.check(load)
            assert sum(writer.interrupted for writer in load.writers) > 0, "no writer has noticed"


def test_the_primary_crashes_and_its_synchronous_standby_is_promoted():
    check_nothing_is_lost(signal.SIGQUIT, synchronous=True)


def test_the_primary_is_killed_and_its_synchronous_standby_is_promoted():
    check_nothing_is_lost(signal.SIGKILL, synchronous=True)


def test_a_planned_switchover():
    """A server that is told to stop sends its standby everything first, synchronous or not."""
    check_nothing_is_lost(signal.SIGINT, synchronous=False)


def check_what_was_lost_is_told(stand_still_for=0):
    """Clients have seen what is not there any more. stand_still_for: what writers commit at the new primary before the node is there."""
    with pair() as (primary, standby), Node(database=both(primary, standby, "node"), **FAST) as node:
        with Load(4, 2000, conninfo=both(primary, standby, "writer")) as load, Crowd() as crowd:
            audience(crowd, load, node)
            load.start().wait_for(1000)
            stop_receiving(standby)
            load.wait_for(1000)
            seen = load.written
            eventually(lambda: all(sum(client.last.values()) >= seen for client in crowd.clients), what="the clients have seen them")
            numbers = ", ".join(str(writer.number) for writer in load.writers)
            there = int(standby.query(f"SELECT sum(upto) FROM loss_written WHERE writer IN ({numbers})"))
            assert there < seen, "the standby lacks nothing"
            if stand_still_for:
                node.process.signal(signal.SIGSTOP)
            fail_over(primary, standby, signal.SIGQUIT)
            load.wait_for(stand_still_for)
            node.process.signal(signal.SIGCONT)
            node.wait_ready()
            load.wait_for(2000)
            load.stop()
            crowd.check(load, gaps=True)
            for client in crowd.clients:
                assert [reason for reason, _ in client.gaps_told()] == ["restored"], (client.name, client.gaps_told())


def test_an_asynchronous_standby_that_lacks_events():
    check_what_was_lost_is_told()


def test_an_asynchronous_standby_that_lacks_events_and_has_others():
    """The transactions that the node has heard have the same numbers as others, which it has not."""
    check_what_was_lost_is_told(stand_still_for=4000)


if __name__ == "__main__":
    main(limit=90)
