#!/usr/bin/env python3
"""The server crashes, stops, and is restored, under writers that go on; every client has every event once, or a gap says why not.

PGRELAY_OUTAGE: how long it stays away, in seconds."""
import contextlib
import os
import shutil
import signal
import subprocess

from harness import Node, eventually, main, site
from faults import kept_out, memory_comes_back, pass_time, with_clock, with_settings
from loss import Crowd, EventStreamClient, Load

OUTAGE = float(os.environ.get("PGRELAY_OUTAGE", "8"))
FAST = {"backoff_max": "200ms", "probe_interval": "200ms", "log_level": "info", "history_limit": "8MB"}


def audience(crowd, load, node, stay=10):
    crowd.join(load, node, stay)
    crowd.join(load, node, 5, cursor=True)
    crowd.join(load, node, 1, kind=EventStreamClient)


def crash():
    site.drop_sessions()
    site.pg.restart(signal.SIGQUIT)


def test_a_crash_gives_transaction_ids_again_that_the_nodes_have_seen():
    """Heartbeats take ids, and nobody flushes them: after a crash the first writers get the same. wal_writer_delay makes it many."""
    with_settings(wal_writer_delay="10s")
    with Node(**FAST) as one, Node(**FAST) as two, Load(3, 1000, batch=lambda dice: 1) as load, Crowd() as crowd:
        audience(crowd, load, one, stay=3)
        audience(crowd, load, two, stay=3)
        site.sql("ALTER ROLE node NOLOGIN")  # who is in stays in
        first = int(site.sql("SELECT pg_snapshot_xmax(pg_current_snapshot())"))
        eventually(lambda: int(site.sql("SELECT pg_snapshot_xmax(pg_current_snapshot())")) > first + 15, what="many heartbeats")
        crash()
        load.start().wait_for(200)
        site.sql("ALTER ROLE node LOGIN")
        one.wait_ready()
        two.wait_ready()
        load.wait_for(200)
        load.stop()
        crowd.check(load)


def test_the_server_crashes_twice():
    with Node(**FAST) as node, Load(4, 4000) as load, Crowd() as crowd:
        load.add(2, 200, hold=lambda dice: dice.choice((0, 0.1, 1)))
        audience(crowd, load, node)
        load.start()
        for _ in range(2):
            load.wait_for(2000)
            crash()
        load.wait_for(2000)
        node.wait_ready()
        load.stop()
        crowd.check(load)
        assert sum(writer.interrupted for writer in load.writers) > 0, "no writer has noticed"


def test_the_server_is_stopped_for_seconds_while_writers_queue():
    with Node(**FAST) as node, Load(4, 4000) as load, Crowd() as crowd:
        audience(crowd, load, node)
        with memory_comes_back(node):
            load.start().wait_for(2000)
            site.drop_sessions()
            site.pg.stop()
            pass_time(OUTAGE)
            assert node.get("/readyz").status == 503
            site.pg.start()
            load.wait_for(5000)
            node.wait_ready()
            load.stop()
            crowd.check(load)


def test_the_server_crashes_while_the_node_is_kept_out():
    """What it must read from the log was written before and after the crash."""
    with Node(**FAST) as node, Load(4, 4000) as load, Crowd() as crowd:
        audience(crowd, load, node)
        load.start().wait_for(1000)
        with kept_out():
            load.wait_for(2000)
            crash()
            load.wait_for(2000)
        node.wait_ready()
        load.wait_for(500)
        load.stop()
        crowd.check(load)


def test_a_crash_takes_commits_that_did_not_wait_for_the_disk():
    """With synchronous_commit = off clients may have seen what the crash took back: they are told. Nothing that stays is lost."""
    with Node(**FAST) as node, Load(3, 4000, setup="SET synchronous_commit = off") as load, Crowd() as crowd:
        audience(crowd, load, node, stay=3)
        load.start()
        for _ in range(3):
            load.wait_for(2000)
            crash()
        load.wait_for(2000)
        node.wait_ready()
        load.stop()
        crowd.check(load, gaps=True)
        assert {reason for reason, _ in crowd.gaps()} <= {"restored"}, crowd.gaps()


@contextlib.contextmanager
def restored_from_backup():
    """What is committed in the block is lost behind it."""
    backup = os.path.join(site.pg.folder, "backup")
    site.drop_sessions()
    site.pg.stop()
    subprocess.run(["cp", "-a", site.pg.data, backup], check=True)
    site.pg.start()
    yield
    site.drop_sessions()
    site.pg.stop()
    shutil.rmtree(site.pg.data)
    os.rename(backup, site.pg.data)
    site.pg.start()


def test_the_database_is_restored_from_a_backup():
    with Node(**FAST) as node, Load(3, 3000) as load, Crowd() as crowd:
        audience(crowd, load, node, stay=3)
        load.start().wait_for(2000)
        with restored_from_backup():
            load.wait_for(4000)
            node.wait_ready()
            eventually(lambda: all(client.last.get(w.number, 0) > 800 for client in crowd.clients for w in load.writers))
        load.wait_for(2000)
        node.wait_ready()
        load.wait_for(2000)
        load.stop()
        crowd.check(load, gaps=True)
        for client in crowd.clients:
            assert [reason for reason, _ in client.gaps_told()] == ["restored"], (client.name, client.gaps_told())


def test_who_comes_back_with_a_cursor_of_what_was_restored_away():
    """As many transactions and events have come since: by their numbers alone the cursor could be one of this past."""
    with Node(**FAST) as node, Load(3, 3000) as load, Crowd() as crowd:
        audience(crowd, load, node, stay=3)
        away = [client for client in crowd.clients if client.wants_cursor]
        load.start().wait_for(2000)
        with restored_from_backup():
            load.wait_for(2000)
            node.wait_ready()
            load.wait_for(500)
            totals = load.totals()
            eventually(lambda: all(client.kept_last.get(writer, 0) >= n for client in away for writer, n in totals.items()), what="they have cursors of it")
            crowd.do(lambda: [client.drop() for client in away])
        load.wait_for(6000)
        node.wait_ready()
        crowd.do(lambda: [client.come_back() for client in away])
        crowd.wait_joined()
        load.wait_for(500)
        load.stop()
        crowd.check(load, gaps=True)
        for client in crowd.clients:
            assert [reason for reason, _ in client.gaps_told()] == ["restored"], (client.name, client.gaps_told())


def test_an_unlogged_log_is_emptied_by_a_crash():
    with with_clock() as clock, Node(**FAST) as node, Load(3, 3000) as load, Crowd() as crowd:
        site.sql("SELECT pgrelay.setting_set('retention', '10 s')")
        site.sql("SELECT pgrelay.setting_set('log', 'unlogged')")
        audience(crowd, load, node, stay=3)
        load.start()
        for _ in range(4):
            load.wait_for(200)
            clock.forward(6)
            eventually(lambda: site.sql("SELECT pgrelay.log_rotate()") == "none", what="the log has rotated")
        assert site.sql("SELECT count(*) FROM pg_class WHERE relname ~ '^event_[0-9]$' AND relnamespace = 'pgrelay'::regnamespace "
                        "AND relpersistence = 'u'") == "4", "the log is not unlogged"
        load.wait_for(1000)
        crowd.assert_no_gaps()
        with kept_out():
            load.wait_for(1000)
        node.wait_ready()
        load.wait_for(1000)
        with kept_out():
            load.wait_for(1000)
            crash()
            load.wait_for(1000)
        node.wait_ready()
        load.wait_for(1000)
        load.stop()
        crowd.check(load, gaps=True)
        for client in crowd.clients:
            assert [reason for reason, _ in client.gaps_told()] == ["unlogged"], (client.name, client.gaps_told())
        site.sql("SELECT pgrelay.setting_set('log', 'logged')")


if __name__ == "__main__":
    main(limit=60)
