#!/usr/bin/env python3
"""From the database to a client: what is emitted arrives as it was, in order, and nothing else does."""
import hashlib
import json
import re

from harness import Node, eventually, main, quote, site

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


def client(**groups):
    return site.node.connect(site.all_seeing).join(**groups)


def until_end(c, key):
    """Everything that comes before an event emitted now to a group that c is in."""
    site.emit("end", "end", key, {"end": key})
    messages = c.take_until(lambda m: m == {"end": key})
    return messages[:-1]


# ---- payloads ----


def test_a_payload_arrives_octet_by_octet_as_the_database_writes_it():
    c = client(demo=[1])
    for payload in ({}, {"a": None}, {"b": [1, 2.50, -3e5, True]}, {"text": "a\n\t\"\\/\r\b\f"}, {"text": "äöü€😀\u2028\u00a0"},
                    {"percent": "100% %20 %s", "dots": "a.b.c", "comma": "a,b"}, {"nested": {"deep": [{"er": {}}]}}, {"": ""},
                    {"big": 12345678901234567890123456789}, {"html": "<script>&amp;</script>"}):
        text = json.dumps(payload, ensure_ascii=False)
        site.sql(f"SELECT pgrelay.emit('demo', 'x', '1', {quote(text)})", "writer")
        assert c.text() == site.sql(f"SELECT {quote(text)}::jsonb::text"), payload


def test_keys_of_every_kind_find_their_way():
    keys = ["1", "00000000-0000-4000-8000-00000000abcd"]
    c = client(demo=keys)
    for key in ["", "a.b.c", "a b", "100%", "a,b", "*", "ä€😀", "x" * 255, "'\"\\", *keys]:
        site.emit("demo", "x", key, {"key": key})
    assert c.take(2) == [{"key": k} for k in keys]
    every = client(demo=["every"])
    for key in ["", "a.b.c", "a b", "100% %20", "a,b", "*", "ä€😀", "x" * 255, "'\"\\", "2"]:
        site.emit("demo", "every", key, {"key": key})
        assert every.json() == {"key": key}


def test_payloads_around_the_size_of_a_notification():
    """Some fit into one NOTIFY, others travel as a ticket; nobody can tell which."""
    c = client(demo=[2])
    sizes = list(range(7000, 9001, 25)) + list(range(7850, 7999))
    site.sql("SELECT count(pgrelay.emit('demo', 'x', '2', jsonb_build_object('n', n, 'pad', repeat('x', n)))) "
             f"FROM unnest(ARRAY{sizes}) n", "writer")
    for size in sizes:
        message = c.json()
        assert message == {"n": size, "pad": "x" * size}, size


def test_payloads_of_wide_characters_around_the_size_of_a_notification():
    c = client(demo=[2])
    sizes = list(range(1900, 2100, 3))
    site.sql("SELECT count(pgrelay.emit('demo', 'x', '2', jsonb_build_object('n', n, 'pad', repeat('😀', n)))) "
             f"FROM unnest(ARRAY{sizes}) n", "writer")
    for size in sizes:
        assert c.json() == {"n": size, "pad": "😀" * size}, size


def test_big_and_small_payloads_keep_their_order():
    c, d = client(demo=[3]), client(demo=[3])
    sizes = [10, 100_000, 10, 10, 5_000_000, 10, 8000, 20, 100_000, 30]
    for n, size in enumerate(sizes):
        site.sql(f"SELECT pgrelay.emit('demo', 'x', '3', jsonb_build_object('n', {n}, 'pad', repeat('ä', {size})))", "writer")
    for receiver in (c, d):
        for n, size in enumerate(sizes):
            text = receiver.text()
            assert json.loads(text) == {"n": n, "pad": "ä" * size}, (n, size)
    assert site.node.metric("pgrelay_tickets_total") > 0


def test_events_larger_than_queue_limit_reach_a_client_that_reads():
    with Node(queue_limit="1MB") as node:
        c = node.connect(site.all_seeing).join(demo=[3])
        for n in range(3):
            site.sql(f"SELECT pgrelay.emit('demo', 'x', '3', jsonb_build_object('n', {n}, 'pad', repeat('x', 20000000)))", "writer")
        site.emit("demo", "x", "3", {"n": 3})
        for n in range(3):
            assert c.json() == {"n": n, "pad": "x" * 20000000}
        assert c.json() == {"n": 3}


def test_big_and_small_payloads_of_one_statement_keep_their_order():
    c = client(demo=[4])
    site.sql("""SELECT pgrelay.emit_many(array_agg(('demo', 'x', '4', jsonb_build_object('n', n,
        'pad', repeat('y', CASE WHEN n % 10 = 0 THEN 50000 ELSE 10 END)))::pgrelay.new_event ORDER BY n))
        FROM generate_series(1, 500) n""", "writer")
    assert [m["n"] for m in c.take(500)] == list(range(1, 501))


def test_random_octets_in_a_big_payload_are_exact():
    c = client(demo=[5])
    site.sql("SELECT pgrelay.emit('demo', 'x', '5', jsonb_build_object('pad', (SELECT string_agg(chr((33 + (i * 7919) % 50000)::integer), '')"
             " FROM generate_series(1::bigint, 400000) i)))", "writer")
    text = c.text()
    want = site.sql("SELECT encode(sha256(convert_to(payload, 'UTF8')), 'hex') FROM pgrelay.event ORDER BY id DESC LIMIT 1")
    assert hashlib.sha256(text.encode()).hexdigest() == want


def test_10000_rows_in_one_statement_are_few_notifications_and_arrive_in_order():
    c = client(demo=[6])
    before = site.node.metric("pgrelay_notifications_total")
    site.sql("SELECT pgrelay.emit_many(array_agg(('demo', 'x', '6', jsonb_build_object('n', n))::pgrelay.new_event ORDER BY n)) "
             "FROM generate_series(1, 10000) n", "writer")
    assert [m["n"] for m in c.take(10000)] == list(range(1, 10001))
    assert site.node.metric("pgrelay_notifications_total") - before < 500


def test_a_big_payload_nobody_waits_for_is_never_read():
    c = client(end=["1"])
    before = site.node.metric("pgrelay_tickets_read_total")
    site.sql("SELECT pgrelay.emit('nobody', 'x', '1', jsonb_build_object('pad', repeat('x', 100000)))", "writer")
    until_end(c, "1")
    assert site.node.metric("pgrelay_tickets_read_total") == before


def test_a_big_payload_is_read_once_for_all_who_want_it():
    crowd = [client(demo=[9]) for _ in range(100)]
    before = site.node.metric("pgrelay_tickets_read_total")
    site.sql("SELECT pgrelay.emit('demo', 'x', '9', jsonb_build_object('pad', repeat('x', 1000000)))", "writer")
    for c in crowd:
        assert c.json() == {"pad": "x" * 1000000}
    assert site.node.metric("pgrelay_tickets_read_total") == before + 1


# ---- transactions ----


def test_what_is_rolled_back_is_never_sent():
    c = client(demo=[7], end=["1"])
    writer = site.session("writer")
    writer("BEGIN")
    writer("SELECT pgrelay.emit('demo', 'x', '7', '{\"n\": 1}')")
    writer("SELECT pgrelay.emit('demo', 'x', '7', jsonb_build_object('pad', repeat('x', 20000)))")
    writer("INSERT INTO pgrelay.job (name) VALUES ('never')")
    writer("ROLLBACK")
    assert until_end(c, "1") == []


def test_what_is_rolled_back_to_a_savepoint_is_not_sent():
    c = client(demo=[8], end=["1"])
    writer = site.session("writer")
    for statement in ("BEGIN", "SELECT pgrelay.emit('demo', 'x', '8', '{\"n\": 1}')", "SAVEPOINT s",
                      "SELECT pgrelay.emit('demo', 'x', '8', '{\"n\": 2}')", "ROLLBACK TO s",
                      "SELECT pgrelay.emit('demo', 'x', '8', '{\"n\": 3}')", "COMMIT"):
        writer(statement)
    assert until_end(c, "1") == [{"n": 1}, {"n": 3}]


def test_events_are_sent_at_commit_and_in_commit_order():
    c = client(demo=[9], end=["1"])
    first, second = site.session("writer"), site.session("writer")
    first("BEGIN")
    first("SELECT pgrelay.emit('demo', 'x', '9', '{\"n\": \"begun first\"}')")
    second("SELECT pgrelay.emit('demo', 'x', '9', '{\"n\": \"committed first\"}')")
    assert until_end(c, "1") == [{"n": "committed first"}]
    first("COMMIT")
    assert c.json() == {"n": "begun first"}


def test_writers_at_once_lose_nothing():
    c = client(demo=[10])
    writers = [site.session("writer") for _ in range(8)]
    for number, writer in enumerate(writers):
        writer.send("DO $$ BEGIN FOR n IN 1..200 LOOP PERFORM pgrelay.emit('demo', 'x', '10', "
                    f"jsonb_build_object('w', {number}, 'n', n)); COMMIT; END LOOP; END $$")
    for writer in writers:
        writer.result()
    got = {number: [] for number in range(8)}
    for message in c.take(1600):
        got[message["w"]].append(message["n"])
    assert all(v == list(range(1, 201)) for v in got.values())


# ---- AWX's function ----


def test_emit_channel_notification_reaches_awx_groups():
    c, with_uuid = client(), "550e8400-e29b-41d4-a716-446655440000"
    c.join(**{"job_events": [42], "jobs": ["status_changed"], "schedules": ["changed"], "control": ["limit_reached_1"],
              "my-type": [42, with_uuid], "other": ["a-b"]})
    messages = [
        ("job_events-42", {"event": "runner_on_ok", "n": 1}),
        ("job_events-42", {"event": "no word", "n": 2}),
        ("jobs-status_changed", {"unified_job_id": 42, "n": 3}),
        ("schedules-changed", {"id": 1, "n": 4}),
        ("control-limit_reached_1", {"reason": "limit_reached", "n": 5}),
        ("my-type-42", {"n": 6}),
        (f"my-type-{with_uuid}", {"n": 7}),
        ("other-a-b", {"n": 8}),
    ]
    for group, payload in messages:
        site.sql(f"SELECT pgrelay.emit_channel_notification({quote(group)}, {quote(json.dumps(payload))})", "writer")
        assert c.json() == payload, group


# ---- the job schema ----


def test_a_job_s_life_as_its_followers_see_it():
    jobs = client(jobs=["status_changed", "summary"])
    job = site.job(name="life", unified_job_template_id=10, project_id=5, inventory_id=3)
    assert (created := jobs.json())["status"] == "new" and created["unified_job_id"] == job
    events = client(job_events=[job])
    for status in ("pending", "waiting", "running"):
        site.sql(f"UPDATE pgrelay.job SET status = '{status}'"
                 f"{', instance_group_name = $$default$$' if status == 'running' else ''} WHERE id = {job}", "writer")
    site.sql("INSERT INTO pgrelay.job_event (job_id, counter, event, stdout, start_line, end_line, host_name, task, play, role) SELECT "
             f"{job}, n, 'runner_on_ok', 'line ' || n, n - 1, n, 'web01', 'Deploy', 'All', 'web' FROM generate_series(1, 3) n", "writer")
    site.sql(f"UPDATE pgrelay.job SET status = 'successful' WHERE id = {job}", "writer")

    messages = [m for m in jobs.take(5) if m["unified_job_id"] == job]
    assert [m.get("status", "summary") for m in messages] == ["pending", "waiting", "running", "summary", "successful"], messages
    summary = messages.pop(3)
    assert summary == {"group_name": "jobs", "unified_job_id": job, "final_counter": 3}, summary
    for m in messages:
        assert m["group_name"] == "jobs" and m["type"] == "job" and m["id"] == job and m["name"] == "life", m
        assert (m["unified_job_template_id"], m["project_id"], m["inventory_id"]) == (10, 5, 3), m
        assert m["job_template_id"] == 10, m
        assert TIME.fullmatch(m["created"]), m
        assert ("instance_group_name" in m) == (m["status"] == "running"), m
        assert (m["started"] is not None) == (m["status"] in ("running", "successful")), m
    last = messages[-1]
    assert TIME.fullmatch(last["finished"]) and TIME.fullmatch(last["started"]) and last["elapsed"] >= 0, last

    for n, m in enumerate(events.take(3), 1):
        want = {"type": "job_event", "job": job, "group_name": "job_events", "event": "runner_on_ok", "counter": n,
                "stdout": f"line {n}", "start_line": n - 1, "end_line": n, "host_name": "web01", "task": "Deploy", "play": "All",
                "role": "web", "failed": False, "changed": False}
        assert {k: m.get(k) for k in want} == want, m
        for name in ("id", "uuid", "parent_uuid", "created", "modified", "url", "event_data", "event_level", "host"):
            assert name in m, (name, m)


def test_other_kinds_have_groups_of_their_own():
    for kind in ("project_update", "inventory_update", "ad_hoc_command", "system_job"):
        job = site.job(kind=kind, status="running")
        c = client(**{f"{kind}_events": [job]}, job_events=[job])
        site.sql(f"INSERT INTO pgrelay.job_event (job_id, counter, event, stdout) VALUES ({job}, 1, 'verbose', 'x')", "writer")
        m = c.json()
        assert m["group_name"] == f"{kind}_events" and m[kind] == job and m["stdout"] == "x", m


def test_a_workflow_tells_of_its_jobs():
    workflow = site.job(kind="workflow_job", status="running", name="wf")
    c = client(workflow_events=[workflow])
    job = int(site.sql(f"INSERT INTO pgrelay.job (name, status, workflow_job_id) VALUES ('step', 'pending', {workflow}) RETURNING id",
                       "writer"))
    site.sql(f"INSERT INTO pgrelay.workflow_node (workflow_job_id, identifier, job_id) VALUES ({workflow}, 'deploy_db', {job})", "writer")
    site.sql(f"UPDATE pgrelay.job SET status = 'running' WHERE id = {job}", "writer")

    def is_last(m):
        return m["type"] == "workflow_job" and any(n["status"] == "running" for n in m["workflow_nodes"])

    messages = c.take_until(is_last)
    assert all(m["group_name"] == "workflow_events" for m in messages), messages
    assert messages[-1]["id"] == workflow and messages[-1]["status"] == "running", messages[-1]
    (node,) = messages[-1]["workflow_nodes"]
    assert (node["identifier"], node["job"], node["status"]) == ("deploy_db", job, "running"), node
    of_job = [m for m in messages if m["type"] == "job"]
    assert [m["status"] for m in of_job][-1] == "running" and all(m["unified_job_id"] == job for m in of_job), of_job


def test_schedules_and_inventories():
    c = client(schedules=["changed"], inventories=["status_changed"])
    schedule = int(site.sql("INSERT INTO pgrelay.schedule (name) VALUES ('nightly') RETURNING id", "writer"))
    assert c.json() == {"id": schedule, "group_name": "schedules"}
    site.sql(f"UPDATE pgrelay.schedule SET name = 'weekly' WHERE id = {schedule}", "writer")
    assert c.json() == {"id": schedule, "group_name": "schedules"}
    site.sql(f"DELETE FROM pgrelay.schedule WHERE id = {schedule}", "writer")
    assert c.json() == {"id": schedule, "group_name": "schedules"}
    inventory = int(site.sql("INSERT INTO pgrelay.inventory (name) VALUES ('dc1') RETURNING id", "writer"))
    site.sql(f"UPDATE pgrelay.inventory SET status = 'updating' WHERE id = {inventory}", "writer")
    messages = c.take_until(lambda m: m.get("status") == "updating")
    assert messages[-1] == {"group_name": "inventories", "inventory_id": inventory, "status": "updating"}, messages


def test_a_table_of_one_s_own():
    site.sql("CREATE TABLE public.ticket (id integer PRIMARY KEY, title text, secret text)", "postgres")
    site.sql("SELECT pgrelay.watch('public.ticket', columns => '{id,title}', original => true)")
    c = client(ticket=[1, 2])
    site.sql("INSERT INTO public.ticket VALUES (1, 'a', 's'), (2, 'b', 's'), (3, 'c', 's')")
    site.sql("UPDATE public.ticket SET title = 'A' WHERE id = 1")
    site.sql("DELETE FROM public.ticket WHERE id = 2")
    created = sorted(c.take(2), key=lambda m: m["key"])
    assert [(m["action"], m["key"], m["object"]) for m in created] == [
        ("create", "1", {"id": 1, "title": "a"}), ("create", "2", {"id": 2, "title": "b"})], created
    updated, deleted = c.take(2)
    assert (updated["action"], updated["object"]["title"], updated["original"]["title"]) == ("update", "A", "a"), updated
    assert (deleted["group_name"], deleted["action"], deleted["key"]) == ("ticket", "delete", "2"), deleted
    site.sql("SELECT pgrelay.unwatch('public.ticket')")
    site.sql("UPDATE public.ticket SET title = 'B' WHERE id = 1")
    site.emit("ticket", "end", "1", {"end": 1})
    assert c.json() == {"end": 1}


# ---- the channel ----


def notify(text):
    site.sql(f"SELECT pg_notify('pgrelay', {quote(text)})", "writer")


def test_malformed_records_are_counted_and_harm_no_neighbour():
    c = client(demo=[20])
    before = site.node.metric("pgrelay_records_malformed_total")
    digest = "0" * 64
    bad = ["e", "e ", "e 1", "e x 1 demo.x.20 {}", "e 1 x demo.x.20 {}", "e 1 1 demo.x {}", "e 1 1 demo {}", "e 1 1 demo.x.20",
           "e 1 1 de mo.x.20 {}", "e 99999999999999999999999 1 demo.x.20 {}", "e -1 1 demo.x.20 {}", "e 1 1 demo.x.%2 {}",
           "e 1 1 demo.x.%zz {}", f"t 1 1 demo.x.20 x {digest} -", f"t 1 1 demo.x.20 10 {digest[:-1]} -", f"t 1 1 demo.x.20 10 {digest}",
           "t 1 1 demo.x.20", "a", "a x", "a ", f"e 1 1 {'d' * 64}.x.20 {{}}"]
    for n, record in enumerate(bad):
        notify(f'e 1 1 demo.x.20 {{"n": {n}}}\n{record}\ne 1 1 demo.x.20 {{"m": {n}}}')
        assert c.json() == {"n": n}, record
        assert c.json() == {"m": n}, record
    counted = site.node.metric("pgrelay_records_malformed_total") - before
    assert counted == len(bad), f"{counted} of {len(bad)} counted"
    assert site.node.log.count("malformed") <= 2, "logged more than once a minute"


def test_records_of_unknown_kinds_are_skipped_in_silence():
    c = client(demo=[21])
    before = site.node.metric("pgrelay_records_malformed_total")
    notify('z something new\ne 1 1 demo.x.21 {"n": 1}\nq\nzz 1 2 3\ne 1 1 demo.x.21 {"n": 2}')
    assert c.take(2) == [{"n": 1}, {"n": 2}]
    assert site.node.metric("pgrelay_records_malformed_total") == before


def test_a_forged_ticket_shows_no_other_topics_payload():
    secret = site.emit("secret", "x", "1", {"text": "s" * 9000})
    digest, octets = site.rows(f"SELECT encode(sha256(convert_to(payload, 'UTF8')), 'hex'), octet_length(payload) FROM pgrelay.event WHERE id = {secret}")[0]
    c = site.node.connect(site.user("mine.*.*"))
    c.join(mine=[1])
    failed = site.node.metric("pgrelay_tickets_failed_total")
    notify(f"t {secret} 1 mine.x.1 {octets} {digest} -")
    eventually(lambda: site.node.metric("pgrelay_tickets_failed_total") == failed + 1, what="the forged ticket finds nothing")
    site.emit("mine", "x", "1", {"n": 1})
    assert c.json() == {"gap": {"groups": ["mine-1"], "reason": "payload"}}
    assert c.json() == {"n": 1}


def test_a_locked_log_delays_a_ticket_but_does_not_lose_it():
    c = client(demo=[23])
    before = site.pg.log().count("lock timeout")
    writer, locker = site.session("writer"), site.session()
    writer("BEGIN")
    writer("SELECT pgrelay.emit('demo', 'x', '23', jsonb_build_object('text', repeat('y', 9000)))")
    locker.send("BEGIN; LOCK TABLE pgrelay.event IN ACCESS EXCLUSIVE MODE")
    eventually(lambda: site.sql("SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND NOT granted") != "0",
               what="the lock is queued before the node's read")
    writer("COMMIT")
    locker.result()
    eventually(lambda: site.pg.log().count("lock timeout") >= before + 2, what="reading the ticket timed out twice")
    locker("ROLLBACK")
    assert len(c.json()["text"]) == 9000
    assert site.node.metric("pgrelay_tickets_pending") == 0


def test_a_watched_table_may_have_any_column_names():
    site.sql('CREATE TABLE odd (id int PRIMARY KEY, r int, k text, source int, new_row text, "old row" int)')
    site.sql("SELECT pgrelay.watch('odd', original => true)")
    c = client(odd=["create", "update", "delete"])
    site.sql("INSERT INTO odd VALUES (1, 2, 'x', 3, 'y', 4)")
    site.sql("UPDATE odd SET r = 5")
    site.sql("DELETE FROM odd")
    assert [m["action"] for m in c.take(3)] == ["create", "update", "delete"]


def test_an_empty_notification_does_no_harm():
    c = client(demo=[22])
    notify("")
    notify("\n\n\n")
    notify('e 1 1 demo.x.22 {"n": 1}')
    assert c.json() == {"n": 1}


def test_a_forged_ticket_whose_payload_is_missing_or_another_holds_up_nobody():
    c = client(demo=[23])
    digest = "0" * 64
    real = site.emit("demo", "x", "other", {"real": 1})
    notify(f"t 999999999 1 demo.x.23 10 {digest} -")
    notify(f"t {real} 1 demo.x.23 10 {digest} -")
    notify('e 1 1 demo.x.23 {"n": 1}')
    messages = c.take_until(lambda m: m == {"n": 1})
    assert {"real": 1} not in messages, "a payload that is not the ticket's was sent"


def test_two_nodes_both_tell_their_clients():
    with Node() as second:
        a, b = client(demo=[24]), second.connect(site.all_seeing).join(demo=[24])
        for n in range(20):
            site.sql(f"SELECT pgrelay.emit('demo', 'x', '24', jsonb_build_object('n', {n}, 'pad', repeat('x', {n * 1000})))", "writer")
        for c in (a, b):
            assert [m["n"] for m in c.take(20)] == list(range(20))


def test_another_channel_is_another_world():
    with Node(channel="elsewhere") as other:
        c = other.connect(site.all_seeing).join(demo=[25])
        site.emit("demo", "x", "25", {"n": "no"})
        site.sql("SELECT pg_notify('elsewhere', 'e 1 1 demo.x.25 {\"n\": 1}')", "writer")
        assert c.json() == {"n": 1}


def test_heartbeats_tell_of_the_node_and_of_its_end():
    listener = site.session("writer")
    listener("LISTEN web_ws_heartbeat")
    with Node(node="testnode", cluster="testcluster", probe_interval="100ms") as node:
        def beats():
            return [b for b in heard(listener) if b["node"] == "testnode"]

        first = eventually(beats, what="a heartbeat comes")[0]
        want = {"action": "online", "node": "testnode", "cluster": "testcluster", "port": node.port}
        assert {k: first.get(k) for k in want} == want, first
        assert {"hostname", "ip", "version", "counter"} <= set(first), first
        counters = [b["counter"] for b in eventually(beats, what="more heartbeats")]
        assert counters == sorted(set(counters)), counters
        node.stop()
    eventually(lambda: [b for b in beats() if b["action"] == "offline"], what="the offline heartbeat")


def heard(listener):
    """The heartbeats since the last look: psql prints notifications among its answers."""
    listener.send("SELECT 1")
    text = listener.answer()
    return [json.loads(m) for m in re.findall(r'"web_ws_heartbeat" with payload "(\{.*?\})" received', text)]


if __name__ == "__main__":
    main()
