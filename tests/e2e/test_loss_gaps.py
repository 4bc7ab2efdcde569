#!/usr/bin/env python3
"""What cannot be delivered is named by a gap message, in its place; clocks that are set; cursors that are none."""
import contextlib
import os
import random
import re
import signal
import time
import urllib.parse

import libpq
from harness import Cluster, Node, Sql, eventually, main, seconds, site
from faults import kept_out, with_clock, with_settings
from loss import Crowd, EventStreamClient, Load
from wire import WebSocket

FAST = {"backoff_max": "200ms", "probe_interval": "200ms", "log_level": "info", "history_limit": "1MB"}


def audience(crowd, load, node):
    crowd.join(load, node, 5)
    crowd.join(load, node, 5, cursor=True)
    crowd.join(load, node, 1, kind=EventStreamClient)


RETENTION_S, ROTATION_S = 100, 60  # by the clock that is set: the true time that goes by is nothing beside it


@contextlib.contextmanager
def short_retention():
    site.sql(f"SELECT pgrelay.setting_set('retention', '{RETENTION_S} s')")
    try:
        yield
    finally:
        site.sql("SELECT pgrelay.setting_set('retention', '10 min')")


def rotate(load, clock, times):
    """Lets so many partitions come to their end, by the server's clock."""
    for _ in range(times):
        load.wait_for(200)
        clock.forward(ROTATION_S)
        eventually(lambda: site.sql("SELECT pgrelay.log_rotate()") == "none", what="the log has rotated")


def assert_reasons(crowd, *reasons, clients=None):
    for client in crowd.clients if clients is None else clients:
        assert tuple(reason for reason, _ in client.gaps_told()) == reasons, (client.name, client.gaps_told())


# ---- retention and clocks ----


def test_who_stayed_is_told_when_the_log_has_been_emptied_meanwhile():
    with with_clock() as clock, short_retention(), Node(**FAST) as node, Load(3, 2000) as load, Crowd() as crowd:
        audience(crowd, load, node)
        load.start().wait_for(500)
        with kept_out():
            rotate(load, clock, 5)
        node.wait_ready()
        load.wait_for(500)
        load.stop()
        crowd.check(load, gaps=True)
        assert_reasons(crowd, "retention")


def test_who_comes_back_too_late_is_told():
    """Later than what the node remembers, too."""
    with with_clock() as clock, short_retention(), Node(**{**FAST, "history_limit": "64kB"}) as node, Load(3, 2000) as load, Crowd() as crowd:
        audience(crowd, load, node)
        away = [client for client in crowd.clients if client.wants_cursor]
        load.start().wait_for(500)
        crowd.do(lambda: [client.drop() for client in away])
        rotate(load, clock, 5)
        load.wait_for(2000)
        crowd.do(lambda: [client.come_back() for client in away])
        crowd.wait_joined()
        load.wait_for(500)
        load.stop()
        crowd.check(load, gaps=True)
        assert_reasons(crowd, "retention", clients=away)
        assert_reasons(crowd, clients=[client for client in crowd.clients if client not in away])


def test_rotation_alone_loses_nothing():
    """Partitions come and go under those who stay, come back in time, and catch up."""
    with with_clock() as clock, short_retention(), Node(**FAST) as node, Load(3, 2000) as load, Crowd() as crowd:
        audience(crowd, load, node)
        away = [client for client in crowd.clients if client.wants_cursor]
        load.start().wait_for(500)
        for _ in range(3):
            crowd.do(lambda: [client.drop() for client in away])
            with kept_out():
                rotate(load, clock, 1)
            node.wait_ready()
            crowd.do(lambda: [client.come_back() for client in away])
            rotate(load, clock, 1)
            crowd.wait_joined()
            load.wait_for(500)
        load.stop()
        crowd.check(load)


def test_the_server_s_clock_is_set_back_an_hour():
    """What is caught up then has an older time than what came before; the log goes on rotating."""
    with with_clock() as clock, short_retention(), Node(**FAST) as node, Load(3, 2000) as load, Crowd() as crowd:
        audience(crowd, load, node)
        away = [client for client in crowd.clients if client.wants_cursor]
        load.start()
        rotate(load, clock, 2)
        crowd.do(lambda: [client.drop() for client in away])
        with kept_out():
            load.wait_for(1000)
            clock.forward(-3600)
            load.wait_for(1000)
        node.wait_ready()
        crowd.do(lambda: [client.come_back() for client in away])
        crowd.wait_joined()
        load.wait_for(1000)
        crowd.assert_no_gaps()

        def oldest():
            return int(site.sql("SELECT min(id) FROM pgrelay.event"))

        first = oldest()
        for _ in range(10):
            load.wait_for(200)
            clock.forward(ROTATION_S)
            site.sql("SELECT pgrelay.log_rotate()")
        assert oldest() > first, "the log has not rotated for six retentions after the clock was set back"
        load.stop()
        crowd.check(load)


def test_the_server_s_clock_jumps_while_it_serves():
    """Not so far ahead that the log seems to be a retention old."""
    with with_clock() as clock, Node(**FAST) as node, Load(3, 3000) as load, Crowd() as crowd:
        audience(crowd, load, node)
        load.start()
        for jump in (-60, 300, -86400, 500, -1):
            load.wait_for(500)
            clock.forward(jump)
            load.wait_for(200)
            with kept_out("listen"):
                load.wait_for(500)
        load.wait_for(500)
        node.wait_ready()
        load.stop()
        crowd.check(load)


# ---- what is not in the log ----


def test_exempt_events_that_passed_while_the_node_heard_nothing():
    """The others are read from the log as ever; only the exempt ones' groups are named."""
    site.sql("SELECT pgrelay.logged_set('quick', false)")
    with Node(**FAST) as node, Load(2, 2000) as load, Crowd() as crowd:
        exempt = load.add(2, 1000, types=("quick",))
        logged = load.writers[:2]
        audience(crowd, load, node)
        unconcerned = crowd.join(load, node, 2, writers=logged) + crowd.join(load, node, 2, writers=logged, cursor=True)
        load.start().wait_for(1000)
        crowd.assert_no_gaps()
        with kept_out():
            load.wait_for(2000)
        node.wait_ready()
        load.wait_for(1000)
        load.stop()
        crowd.check(load, gaps=True)
        groups = {f"quick-w{writer.number}" for writer in exempt}
        for client in crowd.clients:
            gaps = client.gaps_told()
            assert {reason for reason, _ in gaps} == (set() if client in unconcerned else {"exempt"}), (client.name, gaps)
            assert all(set(named) <= groups for _, named in gaps), (client.name, gaps)


def test_exempt_events_that_passed_while_the_node_heard_nothing_and_the_client_was_away():
    """It gets the rest from the node's memory, across the place where they are missing."""
    site.sql("SELECT pgrelay.logged_set('quick', false)")
    with Node(**{**FAST, "history_limit": "8MB"}) as node, Load(1, 500) as load, Crowd() as crowd:
        quick, = load.add(1, 500, types=("quick",))
        away = crowd.join(load, node, 3, cursor=True)
        away += crowd.join(load, node, 1, kind=EventStreamClient)
        load.start().wait_for(300)
        crowd.do(lambda: [client.drop() for client in away])
        load.wait_for(100)
        with kept_out("listen"):
            load.wait_for(300)
        node.wait_ready()
        load.wait_for(100)
        crowd.do(lambda: [client.come_back() for client in away])
        crowd.wait_joined()
        load.wait_for(300)
        load.stop()
        crowd.check(load, gaps=True)
        for client in away:
            assert set(client.gaps_told()) == {("exempt", (f"quick-w{quick.number}",))}, (client.name, client.gaps_told())


def test_a_big_payload_that_is_not_in_the_log_any_more():
    """The one event is missing, and is named; those around it are there, in order."""
    with Node(**FAST) as node, Load(0) as load, Crowd() as crowd:
        writer, = load.add(1, 1000, conninfo=site.pg.conninfo("postgres"), setup="SET log_statement = none")
        audience(crowd, load, node)
        writer.begin(10)
        writer.commit()
        writer.size = lambda dice: 20000
        writer.begin(1)
        writer.session("DELETE FROM pgrelay.event WHERE id = (SELECT max(id) FROM pgrelay.event)")
        writer.commit()
        writer.size = lambda dice: 10
        writer.begin(10)
        writer.commit()
        eventually(lambda: all(client.last.get(writer.number) == 21 for client in crowd.clients), what="those behind it come")
        load.stop()
        crowd.check(load, gaps=True)
        assert_reasons(crowd, "payload")
        for client in crowd.clients:
            assert client.gaps_told() == [("payload", (f"loss-w{writer.number}",))]
            numbers = [item & 0xFFFFFFFF if item > 0 else None for item in client.stream()]
            assert numbers == [*range(1, 11), None, *range(12, 22)], (client.name, numbers)


# ---- the log cannot be read ----


@contextlib.contextmanager
def no_more_sessions():
    """The one node keeps the two that it has."""
    eventually(lambda: site.sql("SELECT count(*) FROM pg_stat_activity WHERE usename = 'node'") == "2")
    site.sql("ALTER ROLE node CONNECTION LIMIT 2")
    try:
        yield
    finally:
        site.sql("ALTER ROLE node CONNECTION LIMIT -1")


def test_a_node_that_gets_no_session_to_read_the_log_says_so_and_misses_nothing():
    with Node(query_timeout=f"{seconds(1)}s", **FAST) as node:
        client = node.connect(site.all_seeing).join(demo=[1])
        with no_more_sessions():
            with kept_out("listen"):
                site.emit("demo", "x", "1", {"n": 1})

            def told():
                answer = node.get("/readyz")
                return answer.status == 503 and re.fullmatch('events: catching up for [0-9]+ s: .* too many connections for role "node"\n', answer.body)

            eventually(told, what="/readyz tells why nothing comes")
            site.emit("demo", "x", "1", {"n": 2})
        assert [client.json(), client.json()] == [{"n": 1}, {"n": 2}]
        node.wait_ready()


def test_what_could_not_be_read_for_half_a_minute_is_a_gap():
    """For who stayed with a node that lost its LISTEN session, and for who came to the other one with a cursor of a third."""
    with Node(**FAST) as former:
        cursor = a_cursor(former)
    site.sql("CREATE ROLE narrow LOGIN CONNECTION LIMIT 2; GRANT pgrelay_node TO narrow")
    with Node(**FAST) as one, Node(database=site.pg.conninfo("narrow"), **FAST) as two:
        stayed = one.connect(site.all_seeing).join(demo=[1])
        with no_more_sessions():
            with kept_out("listen"):
                site.emit("demo", "x", "1", {"n": 1})
            back = two.connect(site.all_seeing)
            back.send_json({"groups": {"demo": [1]}, "cursor": cursor})
            assert back.json()["groups_current"] == ["demo-1"]
            for node in (one, two):
                eventually(lambda: node.metric("pgrelay_gaps_total") == 1, 50, "the gap is told")
                node.wait_ready()
        site.emit("demo", "x", "1", {"n": 2})
        for client in (stayed, back):
            messages = [message for message in client.take_until(lambda m: "n" in m) if "cursor" not in message]
            assert messages == [{"gap": {"groups": ["demo-1"], "reason": "log"}}, {"n": 2}], messages


@contextlib.contextmanager
def many_open_transactions(count=1500, node=None):
    """More than a heartbeat's snapshot has room for. Prepared ones need no session. node: is to be ready before."""
    with_settings(max_prepared_transactions=str(count))
    if node is not None:
        node.wait_ready()
    session = libpq.Session(site.pg.conninfo())
    for n in range(count):
        session("BEGIN; SELECT pg_current_xact_id()")
        session(f"PREPARE TRANSACTION 'open {n}'")
    try:
        yield
    finally:
        for n in range(count):
            session(f"ROLLBACK PREPARED 'open {n}'")
        session.close()


def test_so_many_transactions_are_open_that_no_snapshot_fits():
    """Who stays gets what the node hears; what it did not hear is a gap, for those who come from another node as well."""
    with Node(**FAST) as former:
        cursor = a_cursor(former)
    with Node(**FAST) as node:
        stayed = node.connect(site.all_seeing).join(demo=[1])
        with many_open_transactions(node=node):
            with kept_out("listen"):
                site.emit("demo", "x", "1", {"n": 1})
            eventually(lambda: node.metric("pgrelay_gaps_total") == 1, what="the gap is told")
            back = node.connect(site.all_seeing)
            back.send_json({"groups": {"demo": [1]}, "cursor": cursor})
            eventually(lambda: node.metric("pgrelay_gaps_total") == 2, what="who came back is told, too")
            site.emit("demo", "x", "1", {"n": 2})
            assert back.json()["groups_current"] == ["demo-1"]
            for client in (stayed, back):
                messages = [message for message in client.take_until(lambda m: "n" in m) if "cursor" not in message]
                assert messages == [{"gap": {"groups": ["demo-1"], "reason": "snapshot"}}, {"n": 2}], messages
        now = int(site.sql("SELECT pg_snapshot_xmax(pg_current_snapshot())"))
        eventually(lambda: int(a_cursor(node).split(".")[5].split(":")[1]) >= now, what="the node has a snapshot again")
        with kept_out("listen"):
            site.emit("demo", "x", "1", {"n": 3})
        for client in (stayed, back):
            message = client.take_until(lambda m: "n" in m or "gap" in m)[-1]
            assert message == {"n": 3}, message


# ---- cursors ----


def last_cursor(client):
    while True:
        message = client.json()
        if "cursor" in message:
            return message["cursor"]


def refusal(client, **message):
    client.send_json(message)
    answer = client.json()
    assert set(answer) == {"error"}, answer
    return answer["error"]


def a_cursor(node):
    client = node.connect(site.all_seeing)
    client.send_json({"groups": {"demo": [1]}, "cursor": True})
    assert "groups_current" in client.json()
    return last_cursor(client)


def test_what_is_no_cursor_is_refused_and_changes_nothing():
    cursor = a_cursor(site.node)
    for wrong in ("", "x", "0", "." * 4096, "x" * 5000, "ä", "a b", cursor + " ", cursor + "," + cursor, cursor * 50, "\0", "-1:-1:", "9" * 400, "{}"):
        client = site.node.connect(site.all_seeing)
        error = refusal(client, groups={"demo": [1]}, cursor=wrong)
        assert error == "this is no cursor; give the last one received, unchanged", (wrong, error)
        client.send_json({"groups": {"demo": [2]}, "cursor": cursor})
        assert client.json()["groups_current"] == ["demo-2"], "the refusal has changed something"
    for wrong in (1, None, [], {}, False, 1.5):
        client = site.node.connect(site.all_seeing)
        assert refusal(client, groups={"demo": [1]}, cursor=wrong) == "cursor must be true, or the last cursor received", wrong
    client = site.node.connect(site.all_seeing).join(demo=[1])
    assert refusal(client, groups={"demo": [2]}, cursor=cursor) == "a cursor is taken with the first groups of a connection only"
    assert client.join(demo=[1, 2])


def test_a_cursor_that_was_changed_is_refused_or_harmless():
    """Every digit of it: an error, or a position, with events or a gap; never the node's end."""
    cursor = a_cursor(site.node)
    witness = site.node.connect(site.all_seeing).join(demo=[1])
    changed = [cursor[:at] + other + cursor[at + 1 :] for at in range(len(cursor)) for other in "09f:-"]
    changed += [cursor[:at] for at in range(len(cursor))] + [cursor[at:] for at in range(len(cursor))] + [cursor[::-1]]
    for text in set(changed) - {cursor}:
        client = site.node.connect(site.all_seeing)
        client.send_json({"groups": {"demo": [1]}, "cursor": text})
        answer = client.json()
        assert set(answer) in ({"error"}, {"groups_current", "groups_left", "groups_joined"}), (text, answer)
        client.close()
    site.emit("demo", "x", "1", {"n": 1})
    assert witness.json() == {"n": 1}


def test_server_sent_events_refuse_what_is_no_cursor():
    token = {"Authorization": f"Bearer {site.all_seeing.token}"}
    for path, headers in (("/events?groups=demo-1&cursor=nonsense", {}), ("/events?groups=demo-1", {"Last-Event-ID": "nonsense"})):
        answer = site.node.get(path, headers={**token, **headers})
        assert answer.status == 400 and len(answer.body.splitlines()) == 1, answer


def test_a_cursor_in_the_url_of_server_sent_events():
    cursor = a_cursor(site.node)
    site.emit("demo", "x", "1", {"n": 7})
    client = WebSocket(site.node.port, timeout=seconds(20))
    site.clients.append(client)
    client.send(client.request(f"/events?groups=demo-1&cursor={urllib.parse.quote(cursor)}", upgrade=False,
                               headers={"Authorization": f"Bearer {site.all_seeing.token}"}))
    assert b" 200 " in client.read_until(b"\r\n")
    assert b"event: groups" in client.read_until(b'data: {"n": 7}')


def test_the_log_gives_each_what_it_asks_for():
    """The server sorts out for a few groups, the node for many."""
    with Node(**FAST) as former:
        cursor = a_cursor(former)
    for key in (*range(1, 101), "a b%", "*"):
        site.emit("demo", "x" if key != 7 else "y", str(key), {"n": key})
    asked = (({"demo": [1, 2, 200]}, [1, 2]), ({"demo": [*range(1, 99)]}, [*range(1, 99)]), ({"demo": ["y"], "other": [1]}, [7]),
             ({"demo": ["x"]}, [n for n in range(1, 101) if n != 7] + ["a b%", "*"]), ({"demo": [100], "none": [*range(70)]}, [100]))
    with Node(**FAST) as node:
        for groups, expected in asked:
            read = node.metric("pgrelay_log_rows_read_total")
            client = node.connect(site.all_seeing)
            client.send_json({"groups": groups, "cursor": cursor})
            got = []
            while len(got) < len(expected):
                message = client.json()
                got += [message["n"]] if "n" in message else []
            assert got == expected, (groups, got)
            read = node.metric("pgrelay_log_rows_read_total") - read
            assert read == (len(got) if sum(map(len, groups.values())) < 64 else 102), f"{read} rows were read for {groups}"
        assert node.metric("pgrelay_resumes_log_total") == len(asked)


def forged(cursor, seen):
    """The same by a node that never was, and with this snapshot."""
    fields = cursor.split(".")
    fields[3:8] = [f"{random.getrandbits(64):016x}", "1", seen, "s", ""]
    return ".".join(fields)


def time_resume(user, cursor):
    client = site.node.connect(user)
    start = time.monotonic()
    client.send_json({"groups": {"demo": [1]}, "cursor": cursor})
    assert client.take_until(lambda m: "n" in m)[-1] == {"n": 1}
    client.close()
    return time.monotonic() - start


def test_who_makes_cursors_of_his_own_does_not_keep_others_from_theirs():
    """He asks for all of a long log, claims that transactions all over it were open, and takes nothing of what he gets."""
    site.sql("""DO $$ BEGIN
        FOR i IN 1 .. 8000 LOOP
            PERFORM pgrelay.emit_many(ARRAY(SELECT ROW('noise', 'x', '1', '{"pad": "%s"}')::pgrelay.new_event FROM generate_series(1, 4)));
            COMMIT;
        END LOOP; END $$""" % ("x" * 200))
    with Node(**FAST) as former:
        cursor = a_cursor(former)
    site.emit("demo", "x", "1", {"n": 1})
    alone = sorted(time_resume(site.all_seeing, cursor) for _ in range(5))[2]
    now, attacker = int(site.sql("SELECT pg_snapshot_xmax(pg_current_snapshot())")), site.user("*.*.*")
    holes = (sorted(random.sample(range(now - 8000, now), 400)) for _ in range(100))
    cursors = [forged(cursor, f"{xips[0]}:{now}:{','.join(map(str, xips))}") for xips in holes] + [forged(cursor, f"3:{n}:") for n in range(3, 33)]
    among = []
    for _ in range(3):
        clients = [site.node.connect(attacker) for _ in cursors]
        for client, wrong in zip(clients, cursors):
            client.send_json({"groups": {"noise": ["x"]}, "cursor": wrong})
        among.append(time_resume(site.all_seeing, cursor))
        for client in clients:
            client.close()
    assert min(among) < 1 + 50 * alone, f"alone {alone:.3f} s, among those {', '.join(f'{t:.3f}' for t in among)} s"


@contextlib.contextmanager
def another_server():
    folder = os.path.join(site.folder, "other")
    os.mkdir(folder)
    cluster = Cluster(folder)
    cluster.start()
    try:
        sql = Sql(cluster.conninfo(dbname="postgres"))
        for statement in ("CREATE DATABASE relay", "CREATE ROLE node LOGIN"):
            sql(statement)
        sql.close()
        site.pgrelay("schema", "install", env={"PGRELAY_DATABASE": cluster.conninfo()})
        sql = Sql(cluster.conninfo())
        sql("GRANT pgrelay_node TO node")
        yield cluster, sql
        sql.close()
    finally:
        cluster.stop(signal.SIGQUIT)


def test_a_cursor_of_another_server_is_a_gap():
    with another_server() as (cluster, sql):
        token = sql.rows("SELECT token FROM pgrelay.token_create('u')")[0][0]
        site.tokens.append(token)
        sql("SELECT pgrelay.grant_add('u', '*.*.*')")
        cursor = a_cursor(site.node)
        with Node(database=cluster.conninfo("node"), **FAST) as node:
            client = node.connect(token)
            client.send_json({"groups": {"demo": [1, 2]}, "cursor": cursor})
            assert client.json()["groups_current"] == ["demo-1", "demo-2"]
            *before, gap = client.take_until(lambda m: "gap" in m)
            assert all("cursor" in message for message in before), before
            assert gap["gap"]["reason"] == "epoch" and sorted(gap["gap"]["groups"]) == ["demo-1", "demo-2"], gap
            sql("SELECT pgrelay.emit('demo', 'x', '1', '{\"n\": 1}')")
            assert client.take_until(lambda m: "n" in m)[-1] == {"n": 1}


if __name__ == "__main__":
    main(limit=60)
