#!/usr/bin/env python3
"""Who sees what: the same grants for all dialects, on all nodes, and from the moment on in which they change."""
import contextlib
import json
import re
import time

import drp
from drp import basic, bearer, make_user
from faults import kept_out
from harness import Node, SqlError, eventually, main, quote, seconds, site
from stream import Ended, Stream

TYPES = ["machines", "leases", "log", "odd-type_1"]
ACTIONS = ["create", "update", "save", "delete", "info"]
KEYS = ["1", "2"]
TOPICS = [f"{t}.{a}.{k}" for t in TYPES for a in ACTIONS for k in KEYS]
GROUPS = {t: [*ACTIONS, *KEYS] for t in TYPES}
QUIET = {"connection_events": "off", "backoff_max": "200ms", "probe_interval": "200ms"}

site.node_settings = QUIET


def covers(pattern, topic):
    return all(p in ("*", t) for p, t in zip(pattern.split(".", 2), topic.split(".", 2)))


def visible(grants, topics=TOPICS, asked=("*.*.*",)):
    return [topic for topic in topics if any(covers(g, topic) for g in grants) and any(covers(a, topic) for a in asked)]


def emit(*topics):
    """Each with its topic as the payload; in one statement."""
    rows = ", ".join(f"ROW({', '.join(map(quote, topic.split('.', 2)))}, {quote(json.dumps({'topic': topic}))})::pgrelay.new_event" for topic in topics)
    site.sql(f"SELECT count(*) FROM pgrelay.emit_many(ARRAY[{rows}])", "writer")


def emit_all():
    emit(*TOPICS, "end.end.1")


# ---- one user's sessions, whatever the dialect ----


class DrpSession:
    name = "drp"

    def __init__(self, node, credentials, patterns=("*.*.*", "end.*.*", *TOPICS)):
        self.client = drp.dial(node, credentials)
        assert self.client.status == 101, (self.client.status, self.client.body)
        self.patterns = patterns
        for pattern in patterns:
            self.client.command("register", pattern)
        self.denied = sorted(n.key for pattern in patterns for n in self.client.take_acknowledgement("register", pattern))
        self.rights = []

    def received(self):
        """Topics of what comes up to an event of type end."""
        events = self.client.until(lambda e: e.type == "end")
        self.rights += [e for e in events if e.is_notice()]
        return [e.object["topic"] for e in events if not e.is_notice()]

    def told(self):
        """What the next notice says: the patterns of which nothing may be seen any more."""
        notice = self.client.notice()
        assert (notice.action, notice.key, notice.original, notice.principal) == ("rights", "", None, ""), notice
        assert list(notice.object) == ["Denied", "Changed"], notice
        return sorted(notice.object["Denied"]), sorted(notice.object["Changed"])

    def is_told(self):
        self.told()

    def is_closed(self):
        assert self.client.wait_closed() == 1008


class AwxSession:
    name = "awx"

    def __init__(self, node, credentials, groups=None):
        groups = groups or {**GROUPS, "end": [1]}
        self.client = node.dial("/websocket/", credentials)
        assert self.client.status == 101, (self.client.status, self.client.body)
        assert self.client.json()["accept"] is True
        errors, self.reply = self.client.ask({"groups": groups})

    def received(self):
        return [m["topic"] for m in self.client.take_until(lambda m: m.get("topic", "").startswith("end.")) if "topic" in m][:-1]

    def is_told(self):
        """Groups that are not allowed any more; where there are none, nothing is told."""
        message = self.client.json()
        assert message["groups_left"], message
        return sorted(message["groups_left"])

    def is_closed(self):
        assert self.client.wait_closed() == 1008


class SseSession:
    name = "sse"

    def __init__(self, node, credentials, groups=None):
        groups = groups or {**GROUPS, "end": [1]}
        names = ",".join(f"{n}-{v}" for n, values in groups.items() for v in values)
        self.stream = Stream(node.port, names, headers=credentials, timeout=seconds(20))
        site.clients.append(self.stream)
        assert self.stream.status == 200, (self.stream.status, self.stream.body)
        self.errors, self.reply = self.stream.groups()

    def received(self):
        topics = []
        while not (event := self.stream.event()).data.startswith('{"topic": "end.'):
            if event.type == "message":
                topics.append(event.json()["topic"])
        return topics

    def is_told(self):
        event = self.stream.event()
        assert event.type == "groups" and event.json()["groups_left"], event
        return sorted(event.json()["groups_left"])

    def is_closed(self):
        try:
            while True:
                self.stream.event()
        except Ended:
            pass


DIALECTS = (DrpSession, AwxSession, SseSession)


def sessions(nodes, credentials, kinds=DIALECTS, **options):
    if not isinstance(credentials, dict):
        credentials = bearer(credentials)
    return [kind(node, credentials, **options) for node in nodes for kind in kinds]


@contextlib.contextmanager
def two_nodes(**settings):
    with Node(wait=False, **{**QUIET, **settings}) as one, Node(wait=False, **{**QUIET, **settings}) as two:
        for node in (one, two):
            node.wait_ready()
        yield one, two


@contextlib.contextmanager
def prompt(what):
    """It happens in this block, within a second where the machine is not busy with something else."""
    start = time.monotonic()
    yield
    took = time.monotonic() - start
    print(f"# {what}: {took * 1000:.0f} ms", flush=True)
    assert took < seconds(3), f"{what}: {took:.1f} s"


def grant(user, *patterns):
    for pattern in patterns:
        assert site.sql(f"SELECT pgrelay.grant_add({quote(user.name)}, {quote(pattern)})") == "t", pattern


def revoke(user, *patterns):
    site.sql("; ".join(f"SELECT pgrelay.grant_remove({quote(user.name)}, {quote(pattern)})" for pattern in patterns))


# ---- the matrix ----


SETS = [(), ("*.*.*",), ("machines.*.*",), ("machines.update.1",), ("*.update.*",), ("*.*.2",), ("machines.create.*", "leases.*.2", "*.info.1"), ("log.*.*",),
        ("machines.save.*",), ("odd-type_1.delete.2",), ("unknown.*.*",), ("machines.update.1", "machines.*.1", "machines.*.*")]


def test_who_sees_what_in_all_dialects():
    """A grant's patterns alone tell: no action, and no type, is for everybody."""
    audience = [(grants, session) for grants in SETS for session in sessions([site.node], make_user(*grants, "end.*.*"))]
    emit_all()
    for grants, session in audience:
        assert session.received() == visible(grants), (grants, session.name)


def test_who_has_no_grant_sees_nothing():
    user = make_user()
    client = drp.connect(site.node, user)
    for pattern in ("*.*.*", "machines.*.*", "log.*.*", "machines.save.1", "websocket.*.*", "pgrelay.*.*", "connections.*.*"):
        (notice,) = client.ask("register", pattern)
        assert (notice.action, notice.key) == ("denied", pattern), notice
    emit_all()
    grant(user, "machines.update.1")
    assert client.event().action == "rights"
    emit("machines.update.2", "machines.save.1", "log.info.1", "machines.update.1")
    assert client.next().object == {"topic": "machines.update.1"}


def test_a_registration_yields_what_it_has_in_common_with_the_grants():
    grants = ("machines.*.1", "leases.update.*", "end.*.*")
    user = make_user(*grants)
    for asked in (["*.*.*"], ["machines.*.*"], ["*.update.*"], ["*.*.1"], ["*.*.2"], ["machines.create.1"], ["leases.*.2", "machines.update.1"], ["log.*.*"], ["leases.create.*"]):
        session = DrpSession(site.node, bearer(user), [*asked, "end.*.*"])
        assert session.denied == [a for a in asked if not visible(grants, asked=[a])], (asked, session.denied)
        emit_all()
        assert session.received() == visible(grants, asked=asked), asked


# ---- grants that change ----


def test_a_grant_that_is_removed_ends_what_it_allowed():
    grants = ["machines.*.*", "leases.*.1", "log.info.*", "end.*.*"]
    with two_nodes() as nodes:
        user, other = make_user(*grants), make_user(*grants)
        audience, unconcerned = sessions(nodes, user), sessions(nodes, other)
        emit_all()
        for session in audience + unconcerned:
            assert session.received() == visible(grants[:3]), session.name
        with prompt("a removed grant is told to all"):
            revoke(user, "machines.*.*")
            for session in audience:
                session.is_told()
        emit_all()
        for session in audience:
            assert session.received() == visible(grants[1:3]), session.name
        for session in unconcerned:
            assert session.received() == visible(grants[:3]), session.name
            assert not getattr(session, "rights", None), session.rights


def test_what_the_client_of_each_dialect_is_told():
    user = make_user("machines.*.*", "leases.*.1", "log.info.*", "end.*.*")
    patterns = ["machines.*.*", "leases.*.*", "machines,leases.update.*", "log.info.1", "leases.*.2", "*.*.*"]
    rebar = DrpSession(site.node, bearer(user), patterns)
    assert rebar.denied == ["leases.*.2"]
    awx = AwxSession(site.node, bearer(user), {"leases": [1, "update"], "machines": [1]})
    sse = SseSession(site.node, bearer(user), {"leases": [1, "update"], "machines": [1]})
    revoke(user, "leases.*.1")
    assert rebar.told() == (["leases.*.*"], ["*.*.*", "machines,leases.update.*"])
    assert awx.is_told() == sse.is_told() == ["leases-1", "leases-update"]
    grant(user, "leases.*.2")
    assert rebar.told() == ([], ["*.*.*", "leases.*.*", "leases.*.2", "machines,leases.update.*"])
    site.sql(f"BEGIN; SELECT pgrelay.grant_remove('{user.name}', 'machines.*.*'); SELECT pgrelay.grant_add('{user.name}', 'machines.update.*'); COMMIT")
    assert rebar.told() == ([], ["*.*.*", "machines.*.*"])
    revoke(user, "machines.update.*", "leases.*.2", "log.info.*")
    gone = set()
    while len(gone) < 5:  # three statements, of which several may be told at once
        gone |= set(rebar.told()[0])
    assert gone == set(patterns) - {"*.*.*"}, gone
    emit("machines.update.1", "leases.update.2", "log.info.1", "end.end.1")
    assert rebar.received() == []


def test_what_the_client_is_told_is_told_once():
    """And nothing is told of a change that changes nothing for it."""
    user = make_user("machines.*.*", "end.*.*")
    session = DrpSession(site.node, bearer(user), ["machines.update.*", "end.*.*"])
    grant(user, "leases.*.*", "machines.update.*")
    revoke(user, "machines.*.*", "leases.*.*")
    site.sql(f"SELECT pgrelay.grant_add('{user.name}', 'machines.*.*', true)")
    site.token(user.name)
    emit("machines.create.1", "machines.update.1", "end.end.1")
    assert session.received() == ["machines.update.1"]
    assert not session.rights, session.rights
    revoke(user, "machines.update.*")
    assert session.told() == (["machines.update.*"], [])
    emit("machines.update.1", "end.end.1")
    assert session.received() == [] and not session.rights


def test_a_grant_that_shows_nothing_more_is_not_told():
    user = make_user("machines.*.*", "end.*.*")
    session = DrpSession(site.node, bearer(user), ["machines.*.*", "*.update.*", "*.*.*"])
    grant(user, "machines.update.*", "machines.*.1", "machines.update.1")
    revoke(user, "machines.update.*")
    emit("end.end.1")
    assert session.received() == [] and not session.rights
    grant(user, "leases.create.*")
    assert session.told() == ([], ["*.*.*"])
    emit("machines.create.2", "machines.update.1", "leases.create.1", "end.end.1")
    assert session.received() == ["machines.create.2", "machines.update.1", "leases.create.1"]


def test_a_grant_that_is_added_counts_for_registrations_that_are_there():
    with two_nodes() as nodes:
        user = make_user("end.*.*")
        audience = sessions(nodes, user, (DrpSession,))
        emit_all()
        for session in audience:
            assert session.received() == []
        with prompt("an added grant is told to all"):
            grant(user, "machines.*.*")
            for session in audience:
                denied, changed = session.told()
                assert denied == [] and "*.*.*" in changed and "machines.save.2" in changed and "leases.save.2" not in changed, (denied, changed)
        emit_all()
        for session in audience:
            assert session.received() == visible(["machines.*.*"])


def test_grants_that_are_changed_by_hand():
    """However the tables are changed."""
    user = make_user("machines.*.*", "end.*.*")
    session = DrpSession(site.node, bearer(user), ["machines.*.*", "leases.*.*", "end.*.*"])
    for statement, told in ((f"UPDATE pgrelay.grants SET pattern = 'leases.*.*' WHERE user_id = {user.id} AND pattern = 'machines.*.*'", (["machines.*.*"], ["leases.*.*"])),
                            (f"DELETE FROM pgrelay.grants WHERE user_id = {user.id} AND pattern = 'leases.*.*'", (["leases.*.*"], [])),
                            (f"INSERT INTO pgrelay.grants (user_id, pattern) VALUES ({user.id}, 'machines.update.1')", ([], ["machines.*.*"])),
                            ("TRUNCATE pgrelay.grants", (["end.*.*", "machines.*.*"], []))):
        site.sql(statement)
        assert session.told() == told, statement


def test_rights_that_changed_while_the_node_heard_nothing():
    user, gone = make_user("machines.*.*", "leases.*.*", "end.*.*"), make_user("machines.*.*")
    with Node(**QUIET) as node:
        session = DrpSession(node, bearer(user), ["machines.*.*", "leases.*.*", "end.*.*"])
        awx = AwxSession(node, bearer(user), {"machines": [1], "leases": [1], "end": [1]})
        lost = sessions([node], gone)
        with kept_out():
            revoke(user, "machines.*.*")
            site.sql(f"DELETE FROM pgrelay.token WHERE user_id = {gone.id}")
        for each in lost:
            each.is_closed()
        assert session.told() == (["machines.*.*"], [])
        assert awx.is_told() == ["machines-1"]
        emit("machines.update.1", "leases.update.1", "end.end.1")
        assert session.received() == awx.received() == ["leases.update.1"]


def test_rights_that_change_while_a_client_registers():
    """Whatever the order, all is acknowledged in order, and in the end the grants count."""
    user = make_user("end.*.*")
    client = drp.connect(site.node, user)
    for n in range(25):
        (grant if n % 2 == 0 else revoke)(user, "machines.*.*")
        for pattern in (f"machines.*.{n}", "machines.*.*", "end.*.*"):
            client.command("register", pattern)
        client.command("deregister", f"machines.*.{n}")
        for word, pattern in (("register", f"machines.*.{n}"), ("register", "machines.*.*"), ("register", "end.*.*"), ("deregister", f"machines.*.{n}")):
            notices = client.take_acknowledgement(word, pattern)
            assert all(notice.action in ("denied", "rights") for notice in notices), notices

    def sees(wanted):
        emit("machines.update.1", "end.end.1")
        events = client.until(lambda e: e.type == "end")
        return [e.topic for e in events if not e.is_notice()] == wanted

    eventually(lambda: sees(["machines.update.1"]), what="what was granted last is seen")
    assert sees(["machines.update.1"])
    revoke(user, "machines.*.*")
    eventually(lambda: sees([]), what="nothing is seen any more")
    assert sees([])


def test_rights_to_see_a_machine_s_jobs():
    """They are of machine_jobs alone, and follow the user as all others do."""
    machine = "550e8400-e29b-41d4-a716-446655440000"
    user = make_user(f"machine_jobs.*.{machine}", "end.*.*")
    session = DrpSession(site.node, bearer(user), [f"machine_jobs.*.{machine}", f"machine_jobs.update.{machine}", "end.*.*"])

    def emit_jobs():
        for action in ("create", "update"):
            site.emit("jobs", action, "1", {"object": {"Machine": machine, "topic": f"jobs.{action}.1"}, "key": "1", "action": action})
        emit("end.end.1")

    emit_jobs()
    assert session.received() == ["jobs.create.1", "jobs.update.1"]
    revoke(user, f"machine_jobs.*.{machine}")
    assert session.told() == ([f"machine_jobs.*.{machine}", f"machine_jobs.update.{machine}"], [])
    grant(user, "jobs.*.*")
    emit_jobs()
    assert session.received() == []
    grant(user, "machine_jobs.create.*")
    assert session.told() == ([], [f"machine_jobs.*.{machine}"])
    emit_jobs()
    assert session.received() == ["jobs.create.1"]


# ---- tokens and passwords ----


def assert_others_stay(*others):
    emit("machines.update.1", "end.end.1")
    for session in others:
        assert session.received() == ["machines.update.1"], session.name


def test_a_token_that_is_revoked_closes_its_sessions():
    with two_nodes() as nodes:
        user = make_user("*.*.*")
        second = site.token(user.name)
        audience, others = sessions(nodes, user), sessions(nodes, second)
        token = site.sql(f"SELECT min(id) FROM pgrelay.token WHERE user_id = {user.id}")
        with prompt("all sessions of a revoked token are closed"):
            site.sql(f"SELECT pgrelay.token_revoke({token})")
            for session in audience:
                session.is_closed()
        assert_others_stay(*others)
        for node in nodes:
            assert drp.dial(node, bearer(user)).status == 403


def test_a_token_that_expires_closes_its_sessions():
    user = make_user("*.*.*")
    start = time.monotonic()
    ttl = seconds(3)
    brief = site.token(user.name, "--ttl", f"{ttl}s")
    audience, others = sessions([site.node], brief), sessions([site.node], user)
    for session in audience:
        session.is_closed()
    took = time.monotonic() - start
    assert ttl - 0.5 < took < ttl + seconds(3), took
    assert_others_stay(*others)


def test_a_token_that_came_from_another_goes_with_it():
    with two_nodes() as nodes:
        user = make_user("*.*.*")
        first = site.token(user.name)
        reply = drp.request(nodes[0], "GET", f"/api/v3/users/{user.name}/token?ttl=600", bearer(first))
        assert reply.status == 200, reply
        second = reply.json["Token"]
        site.tokens.append(second)
        audience, others = sessions(nodes, second), sessions(nodes, user)
        token = site.sql(f"SELECT id FROM pgrelay.token WHERE user_id = {user.id} AND origin IS NULL ORDER BY id DESC LIMIT 1")
        site.sql(f"SELECT pgrelay.token_revoke({token})")
        for session in audience:
            session.is_closed()
        assert_others_stay(*others)


def test_a_password_that_changes_closes_the_sessions_it_let_in():
    with two_nodes() as nodes:
        user = make_user("*.*.*", password="former: pass word 8zQ4")
        for new in ("new: pass word x7Kp", None):
            credentials = basic(user.name, user.password)
            issued = drp.bearer(drp.token_by_basic(nodes[0], user.name, user.password))
            audience = sessions(nodes, credentials, (DrpSession,)) + sessions(nodes, issued, (DrpSession,))
            others = sessions(nodes, user)
            with prompt("all sessions of a former password are closed"):
                if new is None:
                    site.sql(f"SELECT pgrelay.password_remove({quote(user.name)})")
                else:
                    drp.set_password(user, new)
                for session in audience:
                    session.is_closed()
            assert_others_stay(*others)
            for node in nodes:
                assert drp.dial(node, credentials).status == drp.dial(node, issued).status == 403
                assert new is None or drp.dial(node, basic(user.name, new)).status == 101


def test_the_same_password_once_more_closes_nobody():
    """It is asked about, and is still good."""
    user = make_user("*.*.*", password="stays as it is 3Vb6")
    session = DrpSession(site.node, basic(user.name, user.password))
    drp.set_password(user, user.password)
    assert_others_stay(session)
    session.client.assert_alive()


def test_a_user_who_is_deleted():
    user = make_user("*.*.*", password="soon gone 5Tw9")
    audience = sessions([site.node], user) + sessions([site.node], basic(user.name, user.password), (DrpSession,))
    site.sql(f"DELETE FROM pgrelay.users WHERE id = {user.id}")
    for session in audience:
        session.is_closed()


def test_rights_of_a_session_by_password_follow_the_user():
    user = make_user("machines.*.*", "end.*.*", password="by password 1Hj2")
    session = DrpSession(site.node, basic(user.name, user.password), ["machines.*.*", "leases.*.*", "end.*.*"])
    revoke(user, "machines.*.*")
    assert session.told() == (["machines.*.*"], [])
    grant(user, "leases.update.*")
    assert session.told() == ([], ["leases.*.*"])
    emit("machines.update.1", "leases.create.1", "leases.update.1", "end.end.1")
    assert session.received() == ["leases.update.1"]


# ---- publishing ----


def test_to_see_is_no_right_to_publish_and_the_principal_is_the_caller_s():
    seeing, publishing = make_user("*.*.*"), make_user(publish=["machines.update.*"])
    watcher = DrpSession(site.node, bearer(seeing), ["*.*.*"])
    event = {"Time": "2017-12-21T23:26:43Z", "Type": "machines", "Action": "update", "Key": "1", "Principal": "user:rocketskates", "Object": {"a": 1}, "Original": None}
    for user, changes, status in ((seeing, {}, 403), (publishing, {"Action": "save"}, 403), (publishing, {"Type": "log"}, 403),
                                  (publishing, {"Type": "websocket", "Action": "register"}, 400), (publishing, {"Type": "pgrelay", "Action": "rights"}, 400)):
        reply = drp.post(site.node, bearer(user), {**event, **changes})
        assert reply.status == status and reply.json["Code"] == status, reply
    assert drp.post(site.node, bearer(publishing), event).status == 204
    came = watcher.client.event()
    assert (came.topic, came.principal, came.time, came.object) == ("machines.update.1", f"user:{publishing.name}", "2017-12-21T23:26:43Z", {"a": 1}), came
    client = drp.connect(site.node, publishing)
    assert [n.action for n in client.ask("register", "machines.update.*")] == ["denied"]


# ---- what nobody may see ----


def test_the_schema_s_own_tables_cannot_be_watched():
    for table in ("users", "token", "password", "grants", "setting"):
        try:
            site.sql(f"SELECT pgrelay.watch('pgrelay.{table}')", "owner")
        except SqlError as e:
            print("#", str(e).splitlines()[0])
        else:
            raise AssertionError(f"pgrelay.{table} is watched")


def secrets_of(*names):
    """What the database keeps about them, in every form in which it might be shown."""
    users = ", ".join(map(quote, names))
    hashes = [row[0] for row in site.rows(f"SELECT encode(hash, 'hex') FROM pgrelay.token JOIN pgrelay.users u ON u.id = user_id WHERE u.name IN ({users})")]
    verifiers = [row[0] for row in site.rows(f"SELECT verifier FROM pgrelay.password JOIN pgrelay.users u ON u.id = user_id WHERE u.name IN ({users})")]
    assert hashes and verifiers
    return hashes + [part for verifier in verifiers for part in (verifier, *re.split("[$:]", verifier)) if len(part) > 20]


def test_no_event_log_or_metric_shows_a_secret():
    with Node(**{**QUIET, "connection_events": "all"}) as node:
        everything = drp.connect(node, site.all_seeing).register("*.*.*")
        awx = node.connect(site.all_seeing).join(connections=["create", "delete"])
        user = make_user("*.*.*", publish=["*.*.*"], password="s3cret: pass word")
        secret = [user.token, user.password, basic(user.name, user.password)["Authorization"][6:], *secrets_of(user.name)]
        for credentials in (bearer(user), basic(user.name, user.password)):
            drp.dial(node, credentials).close()
        drp.dial(node, (), f"{drp.PATH}?token={user.token}").close()
        quoted = "".join(f"%{octet:02X}" for octet in f"{user.name}:{user.password}".encode())
        drp.dial(node, (), f"{drp.PATH}?token={quoted}").close()
        issued = drp.token_by_basic(node, user.name, user.password)
        secret += [issued, quoted, *secrets_of(user.name)]
        texts = []
        for path in (f"/api/v3/users/{user.name}/token", "/api/v3/info", "/api/v3/connections"):
            reply = drp.request(node, "GET", path, bearer(user))
            if path.endswith("/token"):
                site.tokens.append(reply.json["Token"])
                secret.append(reply.json["Token"])
                reply.body = json.dumps(reply.json["Info"])
            texts.append(reply.body)
        for credentials in (bearer(user.token + "x"), basic(user.name, user.password + "x"), basic(user.password, user.name)):
            texts.append(drp.dial(node, credentials).body)
        assert drp.post(node, bearer(user), {"Type": "machines", "Action": "update", "Key": "1", "Object": 1}).status == 204
        drp.set_password(user, "another: one 6Rf3")
        secret += [user.password, *secrets_of(user.name)]
        site.sql(f"SELECT count(pgrelay.token_revoke(id)) FROM pgrelay.token WHERE user_id = {user.id}")
        eventually(lambda: drp.dial(node, bearer(issued)).status == 403)
        site.emit("connections", "create", "the-last-one", {"last": True})
        texts += [event.text for event in everything.until(lambda e: e.object == {"last": True})]
        assert len(texts) > 10, texts
        texts += map(json.dumps, awx.take_until(lambda m: m.get("last")))
        texts.append(node.get("/metrics").body)
        texts += [row[0] for row in site.rows("SELECT payload FROM pgrelay.event")]
        texts += [node.log, site.pg.log()]
        for text in texts:
            for hidden in secret:
                at = text.find(hidden)
                assert at < 0, f"a secret is shown: {text[max(0, at - 200):at]}<secret>"


if __name__ == "__main__":
    main(limit=60)
