#!/usr/bin/env python3
"""The Digital Rebar dialect: docs/drp.md, sections 3 and 4, row by row: events, gaps, tables, machines' jobs."""
import contextlib
import json
import signal

import drp
from drp import Event, connect, envelope, machine, make_user, serve, settle, tell, topics, watcher
from faults import kept_out
from harness import main, quote, seconds, site
from stream import Stream
from wire import Closed

site.node_settings = {"connection_events": "off", "backoff_max": "200ms"}  # who registers *.*.* would see them

UUID = "550e8400-e29b-41d4-a716-446655440000"
OTHER = "00000000-0000-4000-8000-00000000abcd"


# ---- 3. events ----


NOW = 1763800000000000


def test_the_frame_of_an_event_is_this_text():
    client = watcher(None, "machines.*.*")
    for payload, rest in (
        ('{"a": 1}', '"Principal":"unknown","Object":{"a": 1},"Original":null}'),
        ('{}', '"Principal":"unknown","Object":{},"Original":null}'),
        ('{"key": "u1", "action": "update", "object": {"a":  1.50,"b":[ ]}}', '"Principal":"unknown","Object":{"a":  1.50,"b":[ ]},"Original":null}'),
        ('{"action": "update", "group_name": "machines", "key": "u1", "object": [1, 2], "original": {"a": "\\u00e9é\\/"}, "principal": "user:bob"}',
         '"Principal":"user:bob","Object":[1, 2],"Original":{"a": "\\u00e9é\\/"}}'),
        ('{"object": null, "key": "", "action": "update", "principal": ""}', '"Principal":"","Object":null,"Original":null}'),
        ('{"object": "text", "key": "u1", "action": "update", "principal": 7, "original": false}', '"Principal":"unknown","Object":"text","Original":false}'),
        ('{"object": {"object": 1, "key": "x"}, "key": "u1", "action": "update"}', '"Principal":"unknown","Object":{"object": 1, "key": "x"},"Original":null}'),
    ):
        tell("machines.update.u1", payload, NOW)
        text = client.text()
        assert text == '{"Time":"2025-11-22T08:26:40Z","Type":"machines","Action":"update","Key":"u1",' + rest, (payload, text)


def test_a_payload_that_is_no_envelope_is_the_object():
    client = watcher(None, "machines.*.*")
    for payload in ('{"object": 1, "key": "u1"}', '{"object": 1, "action": "update"}', '{"key": "u1", "action": "update"}', '{"object": 1, "key": 1, "action": "update"}',
                    '{"object": 1, "key": "u1", "action": "create"}', '{"object": 1, "key": null, "action": "update"}', '{"object": 1, "key": "u1", "action": ["update"]}',
                    '{"x": {"object": 1, "key": "u1", "action": "update"}}', '{"Object": 1, "Key": "u1", "Action": "update"}',
                    '{"x": "\\"object\\": 1, \\"key\\": \\"u1\\", \\"action\\": \\"update\\""}'):
        tell("machines.update.u1", payload, NOW)
        event = Event(client.text())
        assert f'"Object":{payload},"Original":null}}' in event.text and event.principal == "unknown", (payload, event)


def test_the_time_is_written_as_go_does():
    client = watcher(None, "machines.*.*")
    for micros, text in ((NOW, "2025-11-22T08:26:40Z"), (NOW + 100000, "2025-11-22T08:26:40.1Z"), (NOW + 1, "2025-11-22T08:26:40.000001Z"),
                         (NOW + 123456, "2025-11-22T08:26:40.123456Z"), (NOW + 120, "2025-11-22T08:26:40.00012Z"), (NOW + 999999, "2025-11-22T08:26:40.999999Z"),
                         (0, "1970-01-01T00:00:00Z"), (951782400500000, "2000-02-29T00:00:00.5Z"), (4102444800000000, "2100-01-01T00:00:00Z")):
        tell("machines.update.u1", "{}", micros)
        assert f'{{"Time":"{text}",' in client.text(), text


def test_the_time_is_the_event_s():
    client = watcher(None, "machines.*.*")
    for n in range(30):
        site.emit("machines", "update", "u1", {"n": n})
        event = client.next()
        whole = site.sql("SELECT to_char(time AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US') FROM pgrelay.event WHERE type = 'machines' ORDER BY id DESC LIMIT 1")
        assert event.time == whole.rstrip("0").rstrip(".") + "Z", (event, whole)


def test_the_envelope_s_time_counts():
    client = watcher(None, "machines.*.*")
    for told in ("2017-12-21T23:26:43.412554192Z", "0001-01-01T00:00:00Z", "2017-12-21T23:26:43+01:00"):
        envelope(1, time=told)
        assert client.next().time == told
    for told in (5, None, "", "now", "2017-12-21", "2017-12-21T23:26:43", "2017-13-21T23:26:43Z", "2017-12-21 23:26:43Z"):  # Go reads no such times
        envelope(1, time=told)
        assert drp.TIME.fullmatch(client.next().time), told


def test_keys_are_json_in_the_frame():
    client = watcher(None, "files.*.*")
    for key in ['"', "\\", 'a"b\\c', "/", "ä€😀", "\u2028", "a.b c%d*,", ""]:
        envelope({"k": key}, key=key, action="write", type="files")
        event = client.next()
        assert (event.key, event.object) == (key, {"k": key}), event


def test_objects_arrive_octet_by_octet():
    client = watcher(None, "machines.*.*")
    for value in (None, True, False, 0, -3e5, 2.50, "", "a\n\t\"\\/\r\b\f", "äöü€😀\u2028", [], {}, [[[]]], {"": {"": []}},
                  12345678901234567890123456789, {"percent": "100% %20 %s"}):
        text = json.dumps({"object": value, "key": "u1", "action": "update", "original": value}, ensure_ascii=False)
        site.sql(f"SELECT pgrelay.emit('machines', 'update', 'u1', {quote(text)})", "writer")
        octets = site.sql(f"SELECT ({quote(text)}::jsonb -> 'object')::text")
        event = client.next()
        assert event.text.endswith(f'"Object":{octets},"Original":{octets}}}'), (octets, event)


def test_big_and_small_objects_keep_their_order():
    """Those that fit into no NOTIFY travel as tickets; nobody can tell which."""
    client, late = watcher(None, "machines.*.*"), watcher(None, "machines.update.*", "machines.*.u1")
    sizes = [10, 7000, 7900, 8000, 9000, 10, 100_000, 10, 10, 5_000_000, 10, 8000, 20, 100_000, 30, 2_000_000]
    for n, size in enumerate(sizes):
        payload = f"jsonb_build_object('n', {n}, 'pad', repeat('ä', {size}))"
        if n % 2:
            payload = f"jsonb_build_object('object', {payload}, 'key', 'u1', 'action', 'update', 'original', {payload}, 'principal', 'user:big')"
        site.sql(f"SELECT pgrelay.emit('machines', 'update', 'u1', {payload})", "writer")
    for receiver in (client, late):
        for n, size in enumerate(sizes):
            event = receiver.next()
            expected = {"n": n, "pad": "ä" * size}
            assert event.object == expected and event.principal == ("user:big" if n % 2 else "unknown"), (n, size, event)
            assert event.original == (expected if n % 2 else None), (n, event)
    assert site.node.metric("pgrelay_tickets_total") > 0


def test_payloads_around_the_size_of_a_notification():
    client = watcher(None, "machines.*.*")
    sizes = list(range(7000, 8200, 40)) + list(range(7850, 7999, 3))
    for wrap in ("{}", "jsonb_build_object('object', {}, 'key', 'u1', 'action', 'update')"):
        payload = wrap.format("jsonb_build_object('n', n, 'pad', repeat('x', n))")
        site.sql(f"SELECT count(pgrelay.emit('machines', 'update', 'u1', {payload})) FROM unnest(ARRAY{sizes}) n", "writer")
        for size in sizes:
            assert client.next().object == {"n": size, "pad": "x" * size}, size


def test_nothing_of_a_transaction_that_rolled_back():
    client = watcher(None, "machines.*.*")
    writer = site.session("writer")
    writer("BEGIN")
    writer("SELECT pgrelay.emit('machines', 'create', 'rolled-back', '{}')")
    writer("ROLLBACK")
    machine()
    assert topics(settle(client)) == ["machines.update.u1"]


def test_a_thousand_events_in_order():
    client = watcher(None, "machines.*.*", "*.update.*")
    site.sql("""SELECT count(pgrelay.emit('machines', 'update', n::text, jsonb_build_object('object', n, 'key', n::text, 'action', 'update')))
        FROM generate_series(1, 1000) n""", "writer")
    assert client.objects(1000) == list(range(1, 1001))


# ---- gaps, and the slow ----


def flood():
    """100 events of some 6 kB."""
    site.sql("""SELECT count(pgrelay.emit('machines', 'update', 'u1', jsonb_build_object('n', n, 'pad', repeat('x', 6000))))
        FROM generate_series(1, 100) n""", "writer")


def test_a_payload_that_cannot_be_had_is_a_gap_in_its_place():
    client, other = watcher(None, "machines.*.*", "leases.*.*", "machines.update.u1"), watcher(None, "leases.*.*")
    machine(n=1)
    site.sql("""BEGIN; SELECT pgrelay.emit('machines', 'update', 'u1', jsonb_build_object('pad', repeat('x', 20000)));
        DELETE FROM pgrelay.event WHERE id = (SELECT max(id) FROM pgrelay.event WHERE type = 'machines'); COMMIT""")
    machine(n=2)
    assert client.next().object == {"n": 1}
    gap = client.event()
    assert (gap.type, gap.action, gap.key, gap.principal, gap.original) == ("pgrelay", "gap", "payload", "", None), gap
    assert list(gap.object) == ["Patterns"] and sorted(gap.object["Patterns"]) == ["machines.*.*", "machines.update.u1"], gap
    assert client.next().object == {"n": 2}
    site.emit("leases", "create", "x", {})
    assert other.take(1) == ["leases.create.x"]


def test_what_passed_while_the_node_heard_nothing():
    """Logged events are caught up; exempt ones are a gap of the patterns that could have matched them."""
    site.sql("SELECT pgrelay.logged_set('quick', false)")
    with serve(probe_interval="200ms") as node:
        client = watcher(None, "machines.*.*", "quick.*.x", "*.*.y", node=node)
        unconcerned = watcher(None, "machines.*.*", node=node)
        with kept_out("listen"):
            machine(n=1)
            site.emit("quick", "a", "x", {"n": "lost"})
        machine(n=2)
        gap = client.notice()
        assert (gap.action, gap.key) == ("gap", "exempt") and sorted(gap.object["Patterns"]) == ["*.*.y", "quick.*.x"], gap
        assert unconcerned.objects(2) == [{"n": 1}, {"n": 2}]
        node.wait_ready()
        machine(n=3)
        assert not [e for e in client.until(lambda e: e.object == {"n": 3}) if e.type == "pgrelay"]


def test_a_slow_client_may_be_told_of_what_it_lost():
    with serve(overflow="gap", queue_limit="100kB") as node:
        slow = watcher(None, "machines.*.*", node=node, receive_buffer=4096)
        good = watcher(None, "machines.*.*", node=node)
        sent = 0
        while node.metric("pgrelay_sessions_overflowed_total") == 0:
            assert sent < 20000, "nothing overflows"
            flood()
            good.take(100)
            sent += 100
        machine(last=True)
        events = slow.until(lambda e: e.object == {"last": True})
        gaps = [e for e in events if e.type == "pgrelay"]
        assert gaps and all((e.action, e.key, e.object) == ("gap", "overflow", {"Patterns": ["machines.*.*"]}) for e in gaps), gaps


def test_a_client_that_is_too_slow_is_closed_with_1013():
    with serve(queue_limit="100kB") as node:
        slow = watcher(None, "machines.*.*", node=node, receive_buffer=4096)
        sent = 0
        while node.metric("pgrelay_sessions_closed_slow_total") == 0:
            assert sent < 5000, "the client that never reads is still there"
            flood()
            sent += 100
        numbers = []
        with contextlib.suppress(Closed):
            while True:
                numbers.append(slow.next().object["n"])
        assert numbers == [n % 100 + 1 for n in range(len(numbers))] and len(numbers) < sent, "a gap before the close"


def test_a_node_that_ends_says_1001():
    with serve() as node:
        client = watcher(None, "machines.*.*", node=node)
        node.process.signal(signal.SIGTERM)
        assert client.wait_closed() == 1001


# ---- pgrelay's own events disturb nobody ----


def test_a_session_s_notices_are_its_own():
    """Nobody else gets its acknowledgements and notices, who asks for everything included."""
    everything = watcher(None, "*.*.*", "websocket.*.*", "pgrelay.*.*")
    noisy = connect(site.node, site.all_seeing)
    noisy.ask("register", "machines")
    noisy.send_text("hello")
    assert noisy.notice().action == "error"
    noisy.register("leases.*.*").deregister("leases.*.*")
    machine(n=1)
    others = everything.until(lambda e: e.object == {"n": 1})
    assert not others, others


# ---- 4. tables ----


def make_table(name, *options, key="uuid text PRIMARY KEY"):
    site.sql(f"""DROP TABLE IF EXISTS public.{name}; CREATE TABLE public.{name} ({key}, "Name" text, "Stage" text);
        ALTER TABLE public.{name} OWNER TO owner; GRANT ALL ON public.{name} TO writer""")
    site.sql(f"SELECT pgrelay.watch('public.{name}'{''.join(', ' + o for o in options)})", "owner")


def test_a_watched_table_is_told_as_drp_does():
    make_table("machines", "key_column => 'uuid'", "original => true")
    client = watcher(None, "machines.*.*")
    site.sql(f"INSERT INTO machines VALUES ('{UUID}', 'bob', 'discover')", "writer")
    site.sql(f"UPDATE machines SET \"Stage\" = 'complete' WHERE uuid = '{UUID}'", "writer")
    site.sql(f"BEGIN; SET LOCAL pgrelay.save = on; UPDATE machines SET \"Stage\" = 'saved' WHERE uuid = '{UUID}'; COMMIT", "writer")
    site.sql("UPDATE machines SET \"Stage\" = 'local'", "writer")
    site.sql("DELETE FROM machines", "writer")
    rows = [{"uuid": UUID, "Name": "bob", "Stage": stage} for stage in ("discover", "complete", "saved", "local")]
    events = [client.next() for _ in range(5)]
    assert topics(events) == [f"machines.{action}.{UUID}" for action in ("create", "update", "save", "update", "delete")], events
    assert [e.object for e in events] == [*rows, rows[3]], events
    assert [e.original for e in events] == [None, rows[0], rows[1], rows[2], None], events


def test_all_dialects_see_the_same_of_a_watched_table():
    make_table("machines", "key_column => 'uuid'", "original => true")
    client = watcher(None, f"machines.*.{UUID}")
    awx = site.node.connect(site.all_seeing).join(machines=[UUID])
    sse = Stream(site.node.port, f"machines-{UUID}", site.all_seeing.token, timeout=seconds(20))
    assert sse.groups()[1]["groups_current"] == [f"machines-{UUID}"]
    big = "x" * 20000
    for statement in (f"INSERT INTO machines VALUES ('{UUID}', 'bob', '{big}'), ('{OTHER}', 'eve', 'x')", "UPDATE machines SET \"Stage\" = 'y'", "DELETE FROM machines"):
        site.sql(statement, "writer")
    for action in ("create", "update", "delete"):
        event, message = client.next(), awx.json()
        assert message == sse.message()
        assert (message["group_name"], message["action"], message["key"]) == (event.type, event.action, event.key) == ("machines", action, UUID)
        assert message["object"] == event.object and message.get("original") == event.original, event
    sse.close()


def test_an_event_posted_in_an_envelope_is_a_message_to_awx_s_clients():
    client = watcher(None, "machines.*.*")
    awx = site.node.connect(site.all_seeing).join(machines=["update"])
    envelope({"a": [1]}, original={"a": []}, principal="user:bob", group_name="machines")
    message, event = awx.json(), client.next()
    assert message == {"group_name": "machines", "action": "update", "key": "u1", "object": {"a": [1]}, "original": {"a": []}, "principal": "user:bob"}, message
    assert (event.object, event.original, event.principal) == ({"a": [1]}, {"a": []}, "user:bob")


def test_the_bundled_jobs_in_all_dialects():
    client = watcher(None, "jobs.*.*")
    job = site.job(name="deploy", status="running")
    assert client.take(1) == [f"jobs.status_changed.{job}"]
    client.deregister("jobs.*.*").register(f"jobs.*.{job}", f"job_events.*.{job}")
    awx = site.node.connect(site.all_seeing).join(jobs=[job], job_events=[job])
    sse = Stream(site.node.port, f"jobs-{job},job_events-{job}", site.all_seeing.token, timeout=seconds(20))
    sse.groups()
    site.sql(f"INSERT INTO pgrelay.job_event (job_id, counter, event, stdout) VALUES ({job}, 1, 'runner_on_ok', 'hello')", "writer")
    site.sql(f"UPDATE pgrelay.job SET status = 'successful' WHERE id = {job}", "writer")
    events, messages = [client.next() for _ in range(3)], awx.take(3)
    assert topics(events) == [f"job_events.runner_on_ok.{job}", f"jobs.summary.{job}", f"jobs.status_changed.{job}"], events
    assert [e.object for e in events] == messages == sse.take(3)
    sse.close()
    assert events[0].object["stdout"] == "hello" and events[2].object["status"] == "successful"


def test_secrets_of_a_table_are_left_out():
    """schema.md says of which columns."""
    site.sql("""DROP TABLE IF EXISTS public.accounts; CREATE TABLE public.accounts (name text PRIMARY KEY, password text, password_hash text, api_token text, mail text);
        ALTER TABLE public.accounts OWNER TO owner; GRANT ALL ON public.accounts TO writer""")
    site.sql("SELECT pgrelay.watch('public.accounts', original => true)", "owner")
    client = watcher(None, "accounts.*.*")
    site.sql("INSERT INTO accounts VALUES ('bob', 'hidden-1', 'hidden-2', 'hidden-3', 'bob@example.org')", "writer")
    site.sql("UPDATE accounts SET password = 'hidden-4', mail = 'b@example.org'", "writer")
    site.sql("DELETE FROM accounts", "writer")
    events = [client.next() for _ in range(3)]
    assert [e.action for e in events] == ["create", "update", "delete"]
    assert not any("hidden" in e.text for e in events), events
    assert all(set(e.object) == {"name", "mail"} for e in events), events


# ---- machines' jobs ----


def test_machine_jobs_and_work_order_jobs():
    client = watcher(None, f"machine_jobs.*.{UUID}")
    orders = watcher(None, f"work_order_jobs.create.{UUID}", f"work_order_jobs.create.{OTHER}")
    both = watcher(None, f"machine_jobs,work_order_jobs.*.{UUID}", "jobs.*.*")
    pad = "x" * 20000
    for key, action, fields in (("j1", "create", {"Machine": UUID}), ("j2", "create", {"Machine": OTHER}), ("j3", "update", {"Machine": UUID, "pad": pad}),
                                ("j4", "create", {"WorkOrder": UUID, "Machine": OTHER}), ("j5", "update", {"WorkOrder": UUID}), ("j6", "create", {"WorkOrder": OTHER, "pad": pad}),
                                ("j7", "delete", {"Machine": UUID, "WorkOrder": UUID}), ("j8", "create", {"machine": UUID}), ("j9", "create", {"Object": {"Machine": UUID}})):
        envelope({"Uuid": key, **fields}, key=key, action=action, type="jobs")
    envelope({"Machine": UUID}, key="t1", type="tasks")
    assert topics(settle(client)) == ["jobs.create.j1", "jobs.update.j3", "jobs.delete.j7"]
    assert topics(settle(orders)) == ["jobs.create.j4", "jobs.create.j6"]
    assert [e.key for e in settle(both)] == [f"j{n}" for n in range(1, 10)]


def test_machine_jobs_of_payloads_that_are_no_envelope():
    client = watcher(None, f"machine_jobs.create.{UUID}")
    site.emit("jobs", "create", "j1", {"Machine": UUID, "n": 1})
    site.emit("jobs", "create", "j2", {"Machine": OTHER})
    site.emit("jobs", "create", "j3", {"pad": "x" * 20000, "Machine": UUID})
    assert topics(settle(client)) == ["jobs.create.j1", "jobs.create.j3"]


def test_machine_jobs_keep_their_order_among_other_events():
    client = watcher(None, f"machine_jobs.*.{UUID}", "machines.*.*")
    sizes = [10, 20000, 10, 1000000, 10, 10]
    for n, size in enumerate(sizes):
        envelope({"Machine": UUID if n != 4 else OTHER, "pad": "x" * size}, key=f"j{n}", type="jobs")
        machine(f"m{n}")
    expected = [t for n in range(len(sizes)) for t in ([f"jobs.update.j{n}"] if n != 4 else []) + [f"machines.update.m{n}"]]
    assert topics(settle(client)) == expected
    client.deregister(f"machine_jobs.*.{UUID}")
    envelope({"Machine": UUID}, key="late", type="jobs")
    assert not settle(client)


def test_machine_jobs_need_a_right_of_their_own():
    """One to see jobs is none; and one to see a machine's jobs needs none to see jobs."""
    one, other = make_user("jobs.*.*", "end.*.*"), make_user(f"machine_jobs.*.{UUID}", "end.*.*")
    denied, allowed = connect(site.node, one), connect(site.node, other)
    assert [n.action for n in denied.ask("register", f"machine_jobs.*.{UUID}")] == ["denied"]
    allowed.register(f"machine_jobs.*.{UUID}", f"machine_jobs.create.{UUID}")
    assert [n.action for n in allowed.ask("register", f"machine_jobs.*.{OTHER}")] == ["denied"]
    assert [n.action for n in allowed.ask("register", "jobs.*.*")] == ["denied"]
    envelope({"Machine": OTHER}, key="j1", type="jobs")
    envelope({"Machine": UUID}, key="j2", type="jobs")
    assert topics(settle(allowed)) == ["jobs.update.j2"]
    assert not settle(denied)


if __name__ == "__main__":
    main(limit=60)
