#!/usr/bin/env python3
"""The network between the node and the server is cut: packets vanish, nobody is told. Needs root, for network namespaces."""
from harness import Node, eventually, main, seconds, site
from faults import memory_comes_back, pass_time, with_settings
from loss import Crowd, EventStreamClient, Load, Reference
from wall import wall

PROBE = seconds(2)
FAST = {"backoff_max": "200ms", "connect_timeout": "1s", "probe_interval": "200ms", "probe_timeout": f"{PROBE}s", "query_timeout": "2s",
        "log_level": "info", "history_limit": "8MB"}


def in_commit_order():
    with_settings(track_commit_timestamp="on")


def audience(crowd, load, node):
    crowd.join(load, node, 10)
    crowd.join(load, node, 5, cursor=True)
    crowd.join(load, node, 1, kind=EventStreamClient)


def test_a_cut_longer_than_the_probe():
    in_commit_order()
    with wall() as barrier, Node(database=barrier.conninfo(), **FAST) as node:
        with Load(4, 3000) as load, Crowd() as crowd, Reference() as reference:
            audience(crowd, load, node)
            with memory_comes_back(node):
                load.start().wait_for(1000)
                for n in range(2):
                    with barrier.cut():
                        eventually(lambda: node.metric("pgrelay_listen_deaf_total") > n, what="the silence is noticed")
                        load.wait_for(2000)
                        assert node.get("/readyz").status == 503
                    node.wait_ready()
                    load.wait_for(1000)
                load.stop()
                crowd.check(load, reference=reference)


def test_a_cut_shorter_than_the_probe():
    """By far: TCP sends again after 0.2, 0.6, 1.4 and 3 s."""
    in_commit_order()
    with wall() as barrier, Node(database=barrier.conninfo(), **{**FAST, "probe_timeout": f"{seconds(5)}s"}) as node:
        with Load(4, 3000) as load, Crowd() as crowd, Reference() as reference:
            audience(crowd, load, node)
            load.start().wait_for(1000)
            for _ in range(2):
                with barrier.cut():
                    pass_time(PROBE / 5)
                load.wait_for(2000)
            load.stop()
            crowd.check(load, reference=reference)
        assert node.metric("pgrelay_listen_lost_total") == 0


def test_cuts_while_it_catches_up():
    in_commit_order()
    with wall() as barrier, Node(database=barrier.conninfo(), **FAST) as node:
        with Load(4, 2000, size=lambda dice: dice.choice((100, 100, 100, 1000, 10000))) as load, Crowd() as crowd, Reference() as reference:
            audience(crowd, load, node)
            load.start().wait_for(1000)
            with barrier.cut():
                eventually(lambda: node.metric("pgrelay_listen_up") == 0, what="the silence is noticed")
                load.wait_for(3000)
            for _ in range(2):
                eventually(lambda: site.sql("SELECT count(*) FROM pg_stat_activity WHERE usename = 'node' AND state = 'active'") != "0"
                           or node.metric("pgrelay_listen_up") == 1, what="it is back", pause=0.001)
                with barrier.cut():
                    eventually(lambda: node.metric("pgrelay_listen_up") == 0, what="the silence is noticed")
            for writer in load.writers[1:]:
                writer.stop()
            node.wait_ready(60)
            load.wait_for(300)
            load.stop()
            crowd.check(load, reference=reference)


if __name__ == "__main__":
    main(limit=90)
