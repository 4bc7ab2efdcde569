#!/usr/bin/env python3
"""pgrelay watch: a job's output in a terminal, its status as exit status, back again after every loss."""
import contextlib
import json
import os
import re
import signal
import sys

from harness import Node, Process, eventually, free_port, main, need_module, site
from faults import with_clock


def start(*argv, user=None, node=None, token=None, env=None):
    """watch, connected to the default node."""
    node = node or site.node
    before, joined = (node.metric(name) if node.is_running() else 0 for name in ("pgrelay_sessions", "pgrelay_subscriptions"))
    env = {"PGRELAY_URL": node.url(), "PGRELAY_TOKEN": token or (user or site.all_seeing).token, **(env or {})}
    process = site.start("watch", *argv, env=env)
    process.ready = lambda: eventually(
        lambda: node.metric("pgrelay_sessions") > before and node.metric("pgrelay_subscriptions") > joined, what="watch has joined")
    return process


def watch_to_the_end(*argv, status, **options):
    process = start(*argv, **options)
    assert process.wait() == status, process.describe()
    return process


def run(job, *command, status=0):
    site.pgrelay("run", "--quiet", "--job", job, "--", *command, user="writer", status=status)


def finished_job(status, lines=0):
    job = site.job(status="running")
    if lines:
        site.sql(f"INSERT INTO pgrelay.job_event (job_id, counter, stdout) SELECT {job}, n, 'l' || n FROM generate_series(1, {lines}) n", "writer")
    site.sql(f"UPDATE pgrelay.job SET status = '{status}' WHERE id = {job}", "writer")
    return job


# ---- output ----


def test_job_events_print_their_stdout():
    job = site.job()
    process = start(f"job_events-{job}", "--until-finished")
    process.ready()
    run(job, "printf", "a\\n\\n  b\\nü€😀\\n")
    assert process.wait() == 0, process.describe()
    assert process.out == "a\n\n  b\nü€😀\n", process.describe()


def test_json_prints_messages_as_they_came():
    process = start("demo-1", "--json")
    process.ready()
    texts = []
    for payload in ('{"n": 1, "text": "ü\\n"}', '{"big": 1.50, "z": null, "a": "x"}'):
        site.sql(f"SELECT pgrelay.emit('demo', 'x', '1', '{payload}')", "writer")
        texts.append(site.sql(f"SELECT '{payload}'::jsonb::text"))
    eventually(lambda: [line for line in process.out.splitlines() if json.loads(line).keys() & {"n", "big"}] == texts,
               what="both messages, one a line\n" + process.describe())


def test_other_messages_print_one_line_each():
    process = start("jobs-status_changed", "schedules-changed")
    process.ready()
    job = site.job(name="shown", status="pending")
    site.sql("INSERT INTO pgrelay.schedule (name) VALUES ('s')", "writer")
    eventually(lambda: len(process.out.splitlines()) == 2, what="two lines")
    first, second = process.out.splitlines()
    assert str(job) in first and "pending" in first, first
    assert "schedule" in second, second


def test_several_groups_and_uuids():
    uuid = "550e8400-e29b-41d4-a716-446655440000"
    process = start("demo-1", f"my-type-{uuid}", "my-type-7", "other-a-b", "--json")
    process.ready()
    for type, action, key in (("demo", "x", "1"), ("my-type", "x", uuid), ("my-type", "x", "7"), ("other", "a-b", "q"), ("demo", "x", "2")):
        site.emit(type, action, key, {"is": f"{type} {action} {key}"})
    site.emit("demo", "x", "1", {"is": "end"})
    eventually(lambda: '"end"' in process.out, what="the last message")
    got = [json.loads(line)["is"] for line in process.out.splitlines() if '"is"' in line]
    assert got == ["demo x 1", f"my-type x {uuid}", "my-type x 7", "other a-b q", "end"], got


def test_control_characters_of_other_messages_do_not_reach_the_terminal():
    process = start("jobs-status_changed")
    process.ready()
    site.job(name="evil \x1b[2J name", status="pending")
    eventually(lambda: "pending" in process.out, what="the status")
    assert "\x1b" not in process.out, repr(process.out)


def test_a_big_line_comes_whole():
    job = site.job()
    process = start(f"job_events-{job}", "--until-finished")
    process.ready()
    run(job, "sh", "-c", "head -c 60000 /dev/zero | tr '\\0' x; echo; echo end")
    assert process.wait() == 0, process.describe()
    assert process.out == "x" * 60000 + "\nend\n", len(process.out)


# ---- exit status ----


def test_until_finished_ends_with_the_job_s_status():
    for status, exit_status in (("successful", 0), ("failed", 1), ("error", 3), ("canceled", 4)):
        job = site.job(status="running")
        process = start(f"job_events-{job}", "--until-finished")
        process.ready()
        insert_lines(job, 1, 2)
        finish(job, status)
        assert process.wait() == exit_status, process.describe()
        assert process.out == "line 1\nline 2\n", process.describe()


def test_a_job_that_is_over_already_ends_it_at_once():
    for status, exit_status in (("successful", 0), ("failed", 1), ("error", 3), ("canceled", 4)):
        watch_to_the_end(f"job_events-{finished_job(status)}", "--until-finished", status=exit_status)


def test_of_several_jobs_the_highest_status_counts_when_all_are_over():
    first, second = site.job(status="running"), site.job(status="running")
    process = start(f"job_events-{first}", f"job_events-{second}", "--until-finished")
    process.ready()
    site.sql(f"UPDATE pgrelay.job SET status = 'error' WHERE id = {first}", "writer")
    site.sql(f"INSERT INTO pgrelay.job_event (job_id, counter, stdout) VALUES ({second}, 1, 'still here')", "writer")
    process.wait_for("still here")
    assert process.is_running()
    site.sql(f"UPDATE pgrelay.job SET status = 'failed' WHERE id = {second}", "writer")
    assert process.wait() == 3, process.describe()


def test_other_kinds_of_jobs_end_it_too():
    job = site.job(kind="project_update", status="running")
    process = start(f"project_update_events-{job}", "--until-finished")
    process.ready()
    site.sql(f"INSERT INTO pgrelay.job_event (job_id, counter, stdout) VALUES ({job}, 1, 'updating')", "writer")
    site.sql(f"UPDATE pgrelay.job SET status = 'successful' WHERE id = {job}", "writer")
    assert process.wait() == 0 and process.out == "updating\n", process.describe()


def insert_lines(job, *counters):
    values = ", ".join(f"({job}, {n}, 'line {n}')" for n in counters)
    site.sql(f"INSERT INTO pgrelay.job_event (job_id, counter, stdout) VALUES {values}", "writer")


def finish(job, status="successful"):
    site.sql(f"UPDATE pgrelay.job SET status = '{status}' WHERE id = {job}", "writer")


def test_one_who_comes_late_is_told_so_and_ends_with_the_job_s_status():
    job = site.job(status="running")
    insert_lines(job, 1, 2, 3)
    process = start(f"job_events-{job}", "--until-finished")
    process.ready()
    insert_lines(job, 4)
    finish(job)
    assert process.wait() == 0, process.describe()
    assert process.out == "line 4\n" and "line 4" in process.err, process.describe()


def test_missing_lines_are_5_and_said():
    for counters in ((1, 2, 4), (1, 2, 3, 10)):
        job = site.job(status="running")
        process = start(f"job_events-{job}", "--until-finished")
        process.ready()
        insert_lines(job, *counters)
        finish(job)
        assert process.wait() == 5, process.describe()
        assert re.search("missing|lost", process.err), process.describe()


def test_a_last_line_that_never_comes_is_5():
    job = site.job(status="running")
    process = start(f"job_events-{job}", "--until-finished")
    process.ready()
    insert_lines(job, 1)
    process.wait_for("line 1")
    site.sql("ALTER TABLE pgrelay.job_event DISABLE TRIGGER USER")
    insert_lines(job, 2)
    site.sql("ALTER TABLE pgrelay.job_event ENABLE TRIGGER USER")
    finish(job)
    assert process.wait() == 5, process.describe()


def test_lines_that_come_out_of_order_are_none_missing():
    """Two writers: counters need not come in order, only all of them."""
    job = site.job(status="running")
    process = start(f"job_events-{job}", "--until-finished")
    process.ready()
    insert_lines(job, 1)
    insert_lines(job, 3)
    insert_lines(job, 2)
    finish(job)
    assert process.wait() == 0, process.describe()


def test_wrong_usage_is_2():
    for argv in ((), ("--no-such-option",), ("job_events",), ("job_events-1", "--follow", "--until-finished"), ("jobs-summary", "--until-finished")):
        watch_to_the_end(*argv, status=2)


def test_no_token_is_said():
    done = site.pgrelay("watch", "job_events-1", "--url", site.node.url(), status=None)
    assert done.returncode in (2, 6) and "token" in done.stderr, (done.returncode, done.stderr)


def test_a_wrong_token_is_6_and_not_tried_again():
    process = watch_to_the_end("job_events-1", token="wrong", status=6)
    assert "401" in process.err or "refused" in process.err, process.describe()


def test_a_group_not_granted_is_6():
    job = site.job()
    process = watch_to_the_end(f"job_events-{job}", "--until-finished", user=site.user("job_events.*.0"), status=6)
    assert str(job) in process.err, process.describe()


def test_interrupted_it_ends():
    for number in (signal.SIGINT, signal.SIGTERM):
        process = start("demo-1", "--follow")
        process.ready()
        process.signal(number)
        assert process.wait() in (0, 128 + number, -number), process.describe()
        eventually(lambda: site.node.metric("pgrelay_sessions") == 0, what="the session has ended")


# ---- ways to say where and who ----


def test_url_and_token_as_flags():
    job = finished_job("successful")
    for path in ("/websocket/", "/websocket", "/api/websocket/", ""):
        done = site.pgrelay("watch", f"job_events-{job}", "--until-finished", "--url", site.node.url(path), "--token", site.all_seeing.token,
                            status=None)
        assert done.returncode == 0 or path == "", (path, done.stderr)


def test_a_url_of_http_s_kind_means_the_node():
    """One PGRELAY_URL does for watch, status and emit; a path is a proxy's."""
    job = finished_job("successful")
    for path in ("", "/", "/websocket", "/websocket/", "/api/websocket/"):
        site.pgrelay("watch", f"job_events-{job}", "--until-finished", "--url", site.node.url(path, "http"), "--token", site.all_seeing.token)
    for path, asked in (("/relay", "/relay/websocket/"), ("/relay/", "/relay/websocket/"), ("/relay/websocket", "/relay/websocket")):
        done = site.pgrelay("watch", f"job_events-{job}", "--url", site.node.url(path, "http"), "--token", site.all_seeing.token, status=6)
        assert f"ws://127.0.0.1:{site.node.port}{asked} refused the connection: HTTP 404" in done.stderr, done.stderr


def test_the_token_from_a_file():
    path = os.path.join(site.folder, "token")
    with open(path, "w") as f:
        f.write(site.all_seeing.token + "\n")
    job = finished_job("successful")
    site.pgrelay("watch", f"job_events-{job}", "--until-finished", "--url", site.node.url(), "--token-file", path)


def test_the_url_from_the_listen_setting():
    job = finished_job("successful")
    site.pgrelay("watch", f"job_events-{job}", "--until-finished", env={
        "PGRELAY_LISTEN": f"127.0.0.1:{site.node.port}", "PGRELAY_TOKEN": site.all_seeing.token})


def test_a_broken_url_is_said():
    for url in ("", "nonsense", "ftp://x/", "ws://", "ws://127.0.0.1:99999/"):
        done = site.pgrelay("watch", "job_events-1", "--url", url, "--token", "x", status=None)
        assert done.returncode in (1, 2) and done.stderr, (url, done.returncode)


# ---- losses: what passed meanwhile comes, nothing comes twice ----


def is_back(node):
    eventually(lambda: node.metric("pgrelay_subscriptions") > 0, what="watch is back")


def lines(*counters):
    return "".join(f"line {n}\n" for n in counters)


def test_lines_that_pass_while_the_node_restarts():
    first = Node()
    job = site.job(status="running")
    process = start(f"job_events-{job}", "--until-finished", node=first)
    process.ready()
    insert_lines(job, 1)
    process.wait_for("line 1")
    first.stop()
    insert_lines(job, 2, 3)
    with Node(port=first.port) as second:
        is_back(second)
        insert_lines(job, 4)
        finish(job)
        assert process.wait() == 0, process.describe()
    assert process.out == lines(1, 2, 3, 4) and "missing" not in process.err, process.describe()


def test_a_job_that_ends_while_the_node_is_away():
    for before, meanwhile in (((1, 2), (3,)), ((), (1, 2)), ((1, 2), ())):
        first = Node()
        job = site.job(status="running")
        process = start(f"job_events-{job}", "--until-finished", node=first)
        process.ready()
        for n in before:
            insert_lines(job, n)
        eventually(lambda: process.out == lines(*before), what=process.describe())
        first.process.kill()
        for n in meanwhile:
            insert_lines(job, n)
        finish(job, "failed")
        with Node(port=first.port):
            assert process.wait() == 1, process.describe()
        assert process.out == lines(*before, *meanwhile) and "missing" not in process.err, process.describe()


def test_a_job_writes_on_while_the_node_is_killed_again_and_again():
    node, count = Node(), 60_000
    job = site.job()
    process = start(f"job_events-{job}", "--until-finished", node=node)
    process.ready()
    job_process = site.start("run", "--quiet", "--job", job, "--", "seq", "1", count, user="writer")
    for _ in range(3):
        so_far = len(process.out)
        eventually(lambda: len(process.out) > so_far or not process.is_running(), 60, "more lines\n" + process.describe())
        node.process.kill()
        node = Node(port=node.port, wait=False)
    assert job_process.wait(120) == 0, job_process.describe()
    assert process.wait(120) == 0, process.describe()
    assert process.out.splitlines() == [str(n) for n in range(1, count + 1)], (len(process.out), process.describe())
    assert "missing" not in process.err, process.describe()
    node.wait_ready()
    node.stop()


def test_it_goes_on_at_another_node():
    """Several URLs, as options or in the environment; a job's lines, and other messages that are equal."""
    for several in (lambda a, b: (("--url", a, "--url", b), {}), lambda a, b: ((), {"PGRELAY_URL": f"{a}, {b}"})):
        nodes = [Node(), Node()]
        argv, env = several(*(n.url() for n in nodes))
        job = site.job(status="running")
        follower = start(f"job_events-{job}", "--until-finished", *argv, node=nodes[0], env=env)
        follower.ready()
        others = start("demo-1", "--json", *argv, node=nodes[0], env=env)
        others.ready()
        sent = 0
        for round in range(4):
            for _ in range(3):
                site.emit("demo", "x", "1", {"n": 7})
                insert_lines(job, sent := sent + 1)
            eventually(lambda: follower.out == lines(*range(1, sent + 1)), what="the lines\n" + follower.describe())
            eventually(lambda: len(others.out.splitlines()) == sent, what="the messages\n" + others.describe())
            if round == 3:
                break
            gone = nodes[round % 2]
            gone.process.kill()
            site.emit("demo", "x", "1", {"n": 7})
            insert_lines(job, sent := sent + 1)
            is_back(nodes[(round + 1) % 2])
            nodes[round % 2] = Node(port=gone.port)
        site.emit("demo", "x", "1", {"n": "end"})
        others.wait_for("end")
        assert others.out == '{"n": 7}\n' * sent + '{"n": "end"}\n', others.describe()
        finish(job)
        assert follower.wait() == 0, follower.describe()
        others.kill()
        for node in nodes:
            node.stop()


def test_urls_are_tried_in_turn():
    with Node() as gone:
        dead = gone.url()
    job = finished_job("successful")
    done = site.pgrelay("watch", f"job_events-{job}", "--until-finished", "--url", dead, "--url", site.node.url(), "--token", site.all_seeing.token)
    assert dead in done.stderr and f"connected to {site.node.url()}" in done.stderr, done.stderr
    done = site.pgrelay("watch", f"job_events-{job}", "--until-finished", env={
        "PGRELAY_URL": f"{dead},{site.node.url()}", "PGRELAY_TOKEN": site.all_seeing.token})
    for urls in ("ws://127.0.0.1:1,nonsense", ","):
        site.pgrelay("watch", f"job_events-{job}", env={"PGRELAY_URL": urls}, status=2)


def test_a_status_is_not_shown_twice():
    first = Node()
    job = site.job(status="running")
    process = start(f"job_events-{job}", f"jobs-{job}", "--until-finished", node=first)
    process.wait_for("running")
    insert_lines(job, 1)
    process.wait_for("line 1")
    first.process.kill()
    insert_lines(job, 2)
    with Node(port=first.port) as second:
        is_back(second)
        insert_lines(job, 3)
        process.wait_for("line 3")
        finish(job)
        assert process.wait() == 0, process.describe()
    shown = process.out.splitlines()
    assert [line.split(":")[-1].strip() for line in shown] == ["running", "line 1", "line 2", "line 3", "3 events", "successful"], process.describe()


# ---- gaps ----


@contextlib.contextmanager
def not_logged(type):
    site.sql(f"SELECT pgrelay.logged_set('{type}', false)", "owner")
    yield
    site.sql(f"SELECT pgrelay.logged_set('{type}', true)", "owner")


def test_lines_that_are_lost_are_5_and_said():
    with not_logged("job_events"):
        first = Node()
        job = site.job(status="running")
        process = start(f"job_events-{job}", "--until-finished", node=first)
        process.ready()
        insert_lines(job, 1)
        process.wait_for("line 1")
        first.process.kill()
        insert_lines(job, 2, 3)
        with Node(port=first.port) as second:
            is_back(second)
            process.wait_for(f"messages of job_events-{job} are missing: exempt (", stream="err")
            insert_lines(job, 4)
            process.wait_for("line 4")
            process.wait_for("2 of the lines before its line 4 are missing", stream="err")
            finish(job)
            assert process.wait(90) == 5, process.describe()
    assert process.out == lines(1, 4) and "2 of its lines are missing" in process.err, process.describe()


def test_a_gap_in_which_no_lines_were_is_none_missing():
    with not_logged("job_events"):
        first = Node()
        job = site.job(status="running")
        process = start(f"job_events-{job}", "--until-finished", "--json", node=first)
        process.ready()
        insert_lines(job, 1)
        process.wait_for("line 1")
        first.process.kill()
        with Node(port=first.port) as second:
            is_back(second)
            process.wait_for("are missing: exempt (", stream="err")
            insert_lines(job, 2)
            finish(job)
            assert process.wait() == 0, process.describe()
    shown = [json.loads(line) for line in process.out.splitlines()]
    assert [m.get("counter") or m["gap"]["reason"] for m in shown] == [1, "exempt", 2], process.describe()


def test_an_end_that_is_gone_from_the_log():
    """The status is asked for; how many lines there were nobody knows."""
    with with_clock() as clock:
        first = Node()
        job = site.job(status="running")
        process = start(f"job_events-{job}", "--until-finished", node=first)
        process.ready()
        insert_lines(job, 1)
        process.wait_for("line 1")
        first.process.kill()
        insert_lines(job, 2)
        finish(job, "failed")
        for _ in range(6):
            clock.forward(700)
            site.emit("demo", "x", "1", {})
            site.sql("SELECT pgrelay.log_rotate()", "owner")
        with Node(port=first.port):
            assert process.wait(90) == 5, process.describe()
    assert re.search(rf"messages of .*job_events-{job}.* are missing: retention \(", process.err), process.describe()
    assert "ended: failed" in process.err and "may be missing" in process.err, process.describe()


# ---- a node that knows no cursors, or takes none ----

# Passes messages on to the node at URL, but for cursors in requests: it takes them out, or gives another for them.
OTHER_NODE = """
import asyncio, json, sys, websockets

async def client(ws):
    headers = {"Authorization": ws.request_headers["Authorization"]}
    async with websockets.connect(sys.argv[2], extra_headers=headers, max_size=None) as node:
        async def requests():
            async for text in ws:
                message = json.loads(text)
                if sys.argv[3] == "without":
                    message.pop("cursor", None)
                elif isinstance(message.get("cursor"), str):
                    message["cursor"] = sys.argv[3]
                await node.send(json.dumps(message))
        async def messages():
            async for text in node:
                await ws.send(text)
        await asyncio.wait([asyncio.create_task(requests()), asyncio.create_task(messages())], return_when=asyncio.FIRST_COMPLETED)

async def main():
    async with websockets.serve(client, "127.0.0.1", int(sys.argv[1]), max_size=None):
        print("serving", flush=True)
        await asyncio.Future()

asyncio.run(main())
"""


class OtherNode:
    def __init__(self, cursor="without"):
        need_module("websockets", "python3-websockets")
        self.port = free_port()
        self.cursor = cursor
        self.start()

    def start(self):
        self.process = Process([sys.executable, "-c", OTHER_NODE, str(self.port), site.node.url(), self.cursor], name="other-node")
        self.process.wait_for("serving")

    def url(self):
        return f"ws://127.0.0.1:{self.port}/"


def nobody_is_there():
    eventually(lambda: site.node.metric("pgrelay_sessions") == 0, what="nobody is there")


def start_at_other_node(*argv, cursor="without"):
    nobody_is_there()
    other = OtherNode(cursor)
    process = start(*argv, env={"PGRELAY_URL": other.url()})
    process.ready()
    return other, process


def test_without_cursors_lines_missed_while_it_was_away_are_5():
    job = site.job(status="running")
    old, process = start_at_other_node(f"job_events-{job}", "--until-finished")
    insert_lines(job, 1)
    process.wait_for("line 1")
    old.process.kill()
    insert_lines(job, 2)
    nobody_is_there()
    old.start()
    is_back(site.node)
    insert_lines(job, 3)
    process.wait_for("1 of the lines before its line 3 are missing", stream="err")
    finish(job)
    assert process.wait() == 5, process.describe()
    assert process.out == lines(1, 3), process.describe()


def test_without_cursors_a_job_that_ended_while_it_was_away_may_have_had_lines():
    job = site.job(status="running")
    old, process = start_at_other_node(f"job_events-{job}", "--until-finished")
    old.process.kill()
    finish(job, "failed")
    old.start()
    assert process.wait() == 5, process.describe()
    assert "failed" in process.err and "may be missing" in process.err, process.describe()


def test_without_cursors_equal_messages_are_all_shown():
    old, process = start_at_other_node("demo-1")
    site.emit("demo", "x", "1", {"n": 1})
    process.wait_for('{"n": 1}')
    old.process.kill()
    nobody_is_there()
    old.start()
    is_back(site.node)
    site.emit("demo", "x", "1", {"n": 1})
    site.emit("demo", "x", "1", {"n": 2})
    process.wait_for('{"n": 2}')
    assert process.out.splitlines() == ['{"n": 1}', '{"n": 1}', '{"n": 2}'], process.describe()


def test_a_cursor_that_is_not_taken_is_given_up_and_said():
    job = site.job(status="running")
    other, process = start_at_other_node(f"job_events-{job}", "--until-finished", cursor="!")
    insert_lines(job, 1)
    process.wait_for("line 1")
    other.process.kill()
    insert_lines(job, 2)
    nobody_is_there()
    other.start()
    process.wait_for("does not take the cursor: this is no cursor", stream="err")
    is_back(site.node)
    insert_lines(job, 3)
    process.wait_for("1 of the lines before its line 3 are missing", stream="err")
    finish(job)
    assert process.wait() == 5, process.describe()
    assert process.out == lines(1, 3), process.describe()


# ---- the start ----


def test_it_waits_for_a_node_that_is_not_up_yet():
    with Node() as early:
        port = early.port
    job = finished_job("successful")
    process = site.start("watch", f"job_events-{job}", "--until-finished", env={
        "PGRELAY_URL": f"ws://127.0.0.1:{port}/websocket/", "PGRELAY_TOKEN": site.all_seeing.token})
    process.wait_for("connect", stream="err")
    with Node(port=port):
        assert process.wait() == 0, process.describe()


if __name__ == "__main__":
    main()
