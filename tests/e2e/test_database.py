#!/usr/bin/env python3
"""The database goes away under a running node and comes back: clients stay, the node returns by itself, /readyz tells the truth."""
import os
import re
import signal

from harness import Node, SqlError, eventually, main, patience, seconds, site
from wire import CLOSE, WebSocket, close_payload

FAST = {"backoff_max": "500ms", "probe_interval": "200ms"}


def is_unready(node):
    answer = node.get("/readyz")
    assert answer.status == 503, answer
    assert answer.body.endswith("\n") and len(answer.body) > 10 and answer.headers["content-type"].startswith("text/plain"), answer
    return answer


def backend(kind):
    """The server process of the node's session of that kind."""
    rows = site.rows(f"SELECT pid FROM pg_stat_activity WHERE usename = 'node' AND application_name LIKE 'pgrelay {kind}%'")
    assert len(rows) == 1, rows
    return int(rows[0][0])


def follow(node, job=1):
    return node.connect(site.all_seeing).join(job_events=[job])


def assert_flows(client, n, job=1):
    site.emit("job_events", "x", str(job), {"n": n})
    assert client.json() == {"n": n}


def stop_database(how=signal.SIGINT):
    site.drop_sessions()
    site.pg.stop(how)


def test_a_stop_and_a_start():
    for how in (signal.SIGINT, signal.SIGQUIT):
        with Node(**FAST) as node:
            client = follow(node)
            assert_flows(client, 1)
            stop_database(how)
            answer = eventually(lambda: is_unready(node), what="/readyz says 503")
            assert len(answer.body.splitlines()) == 2, f"one reason for each of the two sessions is wanted: {answer.body}"
            assert node.get("/healthz").status == 200
            client.assert_alive()
            site.pg.start()
            node.wait_ready()
            assert_flows(client, 2)
            site.sql("SELECT pgrelay.emit('job_events', 'x', '1', jsonb_build_object('pad', repeat('x', 50000)))", "writer")
            assert len(client.json()["pad"]) == 50000


def test_a_long_outage_and_many_attempts():
    with Node(backoff_max="200ms", probe_interval="100ms") as node:
        client = follow(node)
        stop_database()
        eventually(lambda: is_unready(node))
        attempts = node.log.count("\n")
        eventually(lambda: node.log.count("onnect") > 10 or node.log.count("\n") > attempts + 8, what="several attempts are logged")
        assert node.metric("pgrelay_listen_up") == 0 and node.metric("pgrelay_query_up") == 0
        site.pg.start()
        node.wait_ready()
        assert node.metric("pgrelay_listen_up") == 1 and node.metric("pgrelay_query_up") == 1
        assert_flows(client, 1)


def test_three_restarts_in_a_row():
    with Node(**FAST) as node:
        clients = [follow(node) for _ in range(3)]
        for n in range(3):
            site.drop_sessions()
            site.pg.restart()
            eventually(lambda: node.metric("pgrelay_listen_lost_total") > n, what="the loss is noticed")
            node.wait_ready()
            site.emit("job_events", "x", "1", {"n": n})
            for client in clients:
                assert client.json() == {"n": n}
        assert node.metric("pgrelay_sessions") == 3


def test_a_new_client_during_the_outage_is_503_and_told_when_to_come_back():
    with Node(query_timeout="1s", **FAST) as node:
        token = site.all_seeing.token
        stop_database()
        eventually(lambda: is_unready(node))
        client = node.dial(f"/websocket/?token={token}")
        assert client.status == 503, client.status
        assert int(client.headers["retry-after"]) > 0, client.headers
        assert node.dial("/websocket/").status == 401
        site.pg.start()
        node.wait_ready()
        assert_flows(follow(node), 1)


def test_a_client_that_comes_as_the_database_returns_is_served():
    with Node(query_timeout="60s", **FAST) as node:
        token = site.all_seeing.token
        stop_database()
        eventually(lambda: is_unready(node))
        client = WebSocket(node.port, timeout=60 * patience())
        site.clients.append(client)
        client.send(client.request(f"/websocket/?token={token}"))
        site.pg.start()
        client.read_response()
        assert client.status == 101, client.status
        assert client.json()["accept"] is True


def test_a_question_during_the_outage_is_answered_when_it_is_over():
    with Node(query_timeout="60s", **FAST) as node:
        client = follow(node, 1)
        stop_database()
        eventually(lambda: is_unready(node))
        client.send_json({"groups": {"job_events": [2]}})
        site.pg.start()
        assert client.json()["groups_current"] == ["job_events-2"]
        node.wait_ready()
        assert_flows(client, 1, 2)


def test_a_question_that_cannot_be_asked_in_time_changes_nothing_in_silence():
    with Node(query_timeout=f"{seconds(1)}s", **FAST) as node:
        client = follow(node, 1)
        stop_database()
        eventually(lambda: is_unready(node))
        client.send_json({"groups": {"job_events": [2]}})
        assert "error" in client.json()
        site.pg.start()
        node.wait_ready()
        assert_flows(client, 1, 1)


def test_clients_that_leave_during_the_outage_are_gone_after_it():
    with Node(**FAST) as node:
        first, second = follow(node), follow(node)
        stop_database()
        eventually(lambda: is_unready(node))
        first.send_json({"groups": {"job_events": [5]}})
        first.close()
        eventually(lambda: node.metric("pgrelay_sessions") == 1)
        site.pg.start()
        node.wait_ready()
        assert_flows(second, 1)


def test_the_log_keeps_its_form_when_the_server_goes():
    with Node(**FAST) as node:
        for how in (signal.SIGINT, signal.SIGQUIT):
            site.drop_sessions()
            site.pg.restart(how)
            node.wait_ready()
        for line in node.log.splitlines():
            assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z \[\d+\] (debug|info|warning|error): ", line), line


def test_only_the_listen_session_is_killed():
    with Node(**FAST) as node:
        client = follow(node)
        lost = node.metric("pgrelay_listen_lost_total")
        site.sql(f"SELECT pg_terminate_backend({backend('listen')})")
        eventually(lambda: node.metric("pgrelay_listen_lost_total") > lost, what="the loss is noticed")
        node.wait_ready()
        assert_flows(client, 1)


def test_the_listen_session_is_killed_in_a_burst():
    """What the node has not read waits in the socket; none of this is to keep it from a new session."""
    with Node(probe_interval="50ms", backoff_max="200ms") as node:
        client = follow(node)
        for n in range(6):
            lost = node.metric("pgrelay_listen_lost_total")
            site.sql(f"""SELECT count(pg_notify('pgrelay', 'u ' || {10**12 + n * 10**6} + i || ' 1700000000000000 burst.x.' || i % 5000 || ' {{}}'))
                         FROM generate_series(1, 60000) i""")
            site.sql(f"SELECT pg_terminate_backend({backend('listen')})")
            eventually(lambda: node.metric("pgrelay_listen_lost_total") > lost)
            node.wait_ready()
            assert_flows(client, n + 1)


def test_only_the_query_session_is_killed():
    with Node(**FAST) as node:
        client = follow(node)
        for n in range(3):
            pid = backend("query")
            site.sql(f"SELECT pg_terminate_backend({pid})")
            client.join(job_events=[1, n + 2])
            assert_flows(client, n, n + 2)
            eventually(lambda: backend("query") != pid, what="a new query session")


def test_a_deaf_listen_session_is_made_anew():
    """The backend is stopped: the connection stands, but nothing comes, as with a half-open connection."""
    with Node(probe_interval="200ms", probe_timeout="1500ms", backoff_max="500ms") as node:
        client = follow(node)
        pid = backend("listen")
        os.kill(pid, signal.SIGSTOP)
        try:
            answer = eventually(lambda: is_unready(node), what="/readyz says 503")
            assert "no events" in answer.body or "heartbeat" in answer.body.lower() or "listen" in answer.body.lower(), answer.body
            eventually(lambda: node.metric("pgrelay_listen_deaf_total") == 1, what="the deafness is noticed")
            node.wait_ready()
            assert_flows(client, 1)
        finally:
            site.sql(f"SELECT pg_terminate_backend({pid})")
            os.kill(pid, signal.SIGCONT)


def test_a_stopped_query_backend_does_not_hold_clients_for_ever():
    with Node(query_timeout="1s", **FAST) as node:
        client = follow(node)
        pid = backend("query")
        os.kill(pid, signal.SIGSTOP)
        try:
            client.send_json({"groups": {"job_events": [2]}})
            answer = client.json()
            assert "error" in answer or answer["groups_current"] == ["job_events-2"], answer
            assert_flows(client, 1, 1 if "error" in answer else 2)
            eventually(lambda: node.get("/readyz").status == 200, 60, what="ready again over another session")
        finally:
            os.kill(pid, signal.SIGCONT)


class Locked:
    """A table that nobody can read for a while."""

    def __init__(self, table):
        self.table = table

    def __enter__(self):
        self.session = site.session("postgres")
        self.session("BEGIN")
        self.session(f"LOCK TABLE {self.table} IN ACCESS EXCLUSIVE MODE")

    def __exit__(self, *_):
        self.session("COMMIT")
        self.session.close()


def test_a_lock_on_the_tokens_refuses_newcomers_in_time_and_disturbs_nobody():
    with Node(query_timeout="1s", authenticate_cache="0s", **FAST) as node:
        client = follow(node)
        token = site.all_seeing.token
        with Locked("pgrelay.token"):
            assert node.dial(f"/websocket/?token={token}").status == 503
            assert_flows(client, 1)
        eventually(lambda: node.dial(f"/websocket/?token={token}").status == 101, what="newcomers are let in again")


def test_clients_that_go_while_the_database_thinks_about_them():
    with Node(query_timeout="60s", **FAST) as node:
        token = site.all_seeing.token
        clients = [follow(node) for _ in range(6)]
        newcomers = [WebSocket(node.port) for _ in range(6)]
        with Locked("pgrelay.token, pgrelay.grants"):
            for n, newcomer in enumerate(newcomers):
                newcomer.send(newcomer.request(f"/websocket/?token={token}"))
                if n % 2:
                    newcomer.close()
            for n, client in enumerate(clients):
                client.send_json({"groups": {"job_events": [1, 2]}, "status": True})
                if n % 3 == 0:
                    client.close()
                elif n % 3 == 1:
                    client.send_frame(CLOSE, close_payload(1000))
            node.get("/healthz")
        for client in clients[2::3]:
            assert sorted(client.json()["groups_current"]) == ["job_events-1", "job_events-2"]
        for newcomer in newcomers[0::2]:
            assert newcomer.read_response().status == 101
            newcomer.close()
        for client in clients:
            client.close()
        eventually(lambda: node.metric("pgrelay_sessions") == 0, what="all sessions are gone")


def test_sigterm_while_the_database_thinks():
    node = Node(query_timeout="60s", shutdown_timeout="500ms", **FAST)
    client, newcomer = follow(node), WebSocket(node.port)
    with Locked("pgrelay.token, pgrelay.grants"):
        newcomer.send(newcomer.request(f"/websocket/?token={site.all_seeing.token}"))
        client.send_json({"groups": {"job_events": [1, 2]}})
        node.get("/healthz")
        node.stop()
    newcomer.close()


def test_a_node_started_before_the_database():
    assert site.pg
    stop_database()
    with Node(wait=False, **FAST) as node:
        eventually(lambda: is_unready(node))
        site.pg.start()
        node.wait_ready()
        assert_flows(follow(node), 1)


def test_a_node_without_the_schema_says_so():
    site.sql("CREATE DATABASE empty")
    with Node(database=site.pg.conninfo("node", "empty"), wait=False, **FAST) as node:
        eventually(lambda: is_unready(node))

        def says_so():
            client = node.dial("/websocket/?token=x")
            assert client.status == 503, client.status
            return "schema" in is_unready(node).body + node.log

        eventually(says_so)


def test_a_node_whose_role_lacks_rights_says_so():
    site.sql("CREATE ROLE outsider LOGIN")
    with Node(database=site.pg.conninfo("outsider"), wait=False, **FAST) as node:
        eventually(lambda: is_unready(node))

        def says_so():
            client = node.dial("/websocket/?token=x")
            assert client.status == 503, client.status
            return "permission denied" in node.log

        eventually(says_so)


def test_a_wrong_password_or_port_is_told_by_readyz():
    with Node(database="host=127.0.0.1 port=1 dbname=relay user=node password=hush", wait=False, **FAST) as node:
        answer = eventually(lambda: is_unready(node))
        assert "refused" in answer.body, answer.body
        assert "hush" not in node.log and "hush" not in answer.body


def test_several_hosts():
    hosts = f"host=127.0.0.1,127.0.0.1 port=1,{site.pg.port} dbname=relay user=node"
    with Node(database=hosts, **FAST) as node:
        assert_flows(follow(node), 1)


def test_events_of_a_transaction_that_the_crash_ended_never_come():
    with Node(**FAST) as node:
        client = follow(node)
        writer = site.session("writer")
        writer("BEGIN")
        writer("SELECT pgrelay.emit('job_events', 'x', '1', '{\"n\": \"lost\"}')")
        stop_database(signal.SIGQUIT)
        site.pg.start()
        try:
            writer("COMMIT")
            raise AssertionError("the writer's session has survived the crash")
        except (SqlError, ConnectionError, BrokenPipeError):
            pass
        eventually(lambda: node.metric("pgrelay_listen_lost_total") > 0)
        node.wait_ready()
        assert_flows(client, 1)


def test_a_full_second_of_events_around_a_restart_of_the_listen_session_stays_in_order():
    with Node(**FAST) as node:
        client = follow(node)
        pid = backend("listen")
        for n in range(200):
            site.emit("job_events", "x", "1", {"n": n})
            if n == 100:
                site.sql(f"SELECT pg_terminate_backend({pid})")
        node.wait_ready()
        eventually(lambda: backend("listen") != pid)
        node.wait_ready()
        site.emit("job_events", "x", "1", {"n": 200})
        got = [m["n"] for m in client.take_until(lambda m: m["n"] == 200)]
        assert got == sorted(set(got)) and got[0] == 0, got


if __name__ == "__main__":
    main()
