#!/usr/bin/env python3
"""POST /api/v1/events: publishing through a node, with Python's http.client, curl and pgrelay emit --via-node."""
import contextlib
import http.client
import json
import re
import select
import socket
import ssl
import subprocess
import threading
import time

from faults import pass_time
from harness import clean_environment, eventually, is_sanitized, main, need, quote, seconds, site

PATH = "/api/v1/events"


# ---- asking ----


class Answer:
    def __init__(self, status, headers, text):
        self.status, self.text = status, text
        self.headers = {k.lower(): v for k, v in headers}

    def __repr__(self):
        return f"{self.status} {self.headers} {self.text!r}"

    @property
    def json(self):
        return json.loads(self.text)

    @property
    def ids(self):
        assert self.status == 200, self
        assert list(self.json) == ["ids"], self
        return self.json["ids"]

    def refused(self, status, text, index=None):
        """Asserts a refusal in the contract's form."""
        assert self.status == status, self
        assert self.headers["content-type"] == "application/json", self
        assert set(self.json) == ({"error"} if index is None else {"error", "index"}), self
        assert self.json.get("index") == index, self
        assert re.search(text, self.json["error"]), self
        return self


class Poster:
    """One kept connection, on which one request follows the other."""

    def __init__(self, token, node=None):
        self.node = node or site.node
        self.headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.connection = http.client.HTTPConnection("127.0.0.1", self.node.port, timeout=seconds(60))
        site.clients.append(self)

    def send(self, body, path=PATH, **headers):
        if not isinstance(body, (bytes, str)):
            body = json.dumps(body)
        if isinstance(body, str):
            body = body.encode()
        self.octets = len(body)
        self.connection.request("POST", path, body, {**self.headers, **headers})

    def take(self):
        answer = self.connection.getresponse()
        return Answer(answer.status, answer.getheaders(), answer.read().decode())

    def __call__(self, body, path=PATH, **headers):
        self.send(body, path, **headers)
        return self.take()

    def close(self):
        self.connection.close()


def publisher(*patterns):
    """A new user who may publish this, and see all."""
    user = site.user("*.*.*")
    for pattern in patterns or ("*.*.*",):
        assert site.sql(f"SELECT pgrelay.grant_add({quote(user.name)}, {quote(pattern)}, true)") == "t"
    return user


def event(type="deploy", action="step", key="web1", **payload):
    return {"type": type, "action": action, "key": key, "payload": payload}


def row(id):
    """type, action, key, payload and xid of an event in the log."""
    rows = site.rows(f"SELECT type, action, key, payload, xid FROM pgrelay.event WHERE id = {id}")
    assert len(rows) == 1, rows
    return rows[0]


def logged():
    return int(site.sql("SELECT count(*) FROM pgrelay.event"))


def xids(ids):
    return {row(id)[4] for id in ids}


class Held:
    """Transactions that publish stand still while this is open: somebody holds the log."""

    def __enter__(self):
        self.session = site.session()
        self.session("BEGIN")
        self.session("LOCK TABLE pgrelay.event IN ACCESS EXCLUSIVE MODE")
        return self

    def __exit__(self, *_):
        with contextlib.suppress(ConnectionError):
            self.session("COMMIT")
        self.session.close()

    def wait(self):
        """Until the node's transaction stands."""
        eventually(lambda: site.sql("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pgrelay publish' AND wait_event_type = 'Lock'") == "1",
                   what="the transaction stands")


    @staticmethod
    def wait_until_given_up():
        eventually(lambda: site.sql("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pgrelay publish' AND state <> 'idle'") == "0")


def queued(*posters):
    """Until these requests, and no others, are in the publisher's hands."""
    node = posters[0].node
    octets = sum(poster.octets for poster in posters)
    eventually(lambda: node.metric("pgrelay_publish_queued_bytes") == octets, what=f"{octets} octets wait")


# ---- one and many ----


def test_an_event_is_published():
    user = publisher()
    watcher = site.node.connect(user).join(deploy=["step"])
    answer = Poster(user.token)(event(done=3))
    assert answer.headers["content-type"] == "application/json", answer
    (id,) = answer.ids
    assert row(id)[:4] == ["deploy", "step", "web1", '{"done": 3}']
    assert watcher.json() == {"done": 3}


def test_a_list_is_one_transaction_in_its_order():
    user = publisher()
    watcher = site.node.connect(user).join(deploy=["step"])
    ids = Poster(user.token)([event(key=f"web{n}", n=n) for n in range(1000)]).ids
    assert len(ids) == 1000 and ids == sorted(ids), ids
    assert [watcher.json()["n"] for _ in range(1000)] == list(range(1000))
    assert site.rows(f"SELECT count(*), count(DISTINCT xid) FROM pgrelay.event WHERE id BETWEEN {ids[0]} AND {ids[-1]}") == [["1000", "1"]]



def test_subscribers_of_two_nodes_get_it_in_order():
    user = publisher()
    with site.serve() as other:
        watchers = [node.connect(user).join(deploy=["step"]) for node in (site.node, other)]
        posters = [Poster(user.token, node) for node in (site.node, other)]
        ids = []
        for n in range(0, 100, 2):
            ids += posters[n // 2 % 2]([event(n=n), event(n=n + 1)]).ids
        assert ids == sorted(ids), ids
        for watcher in watchers:
            assert [watcher.json()["n"] for _ in range(100)] == list(range(100))


def test_numbers_and_text_are_kept_as_they_are():
    user = publisher()
    payload = '{"n": 123456789012345678901234567890, "x": 1.10, "e": 1e2, "s": "\\u00e4\\ud83d\\udc18 \u00e4"}'
    (id,) = Poster(user.token)('{"type": "deploy", "action": "step", "key": "\\u00e4 .", "payload": ' + payload + "}").ids
    assert row(id)[2] == "\u00e4 .", row(id)
    assert json.loads(site.sql(f"SELECT payload FROM pgrelay.event WHERE id = {id}"), parse_float=str) == {
        "n": 123456789012345678901234567890, "x": "1.10", "e": 100, "s": "\u00e4\U0001f418 \u00e4"}


def test_the_greatest_numbers_pass():
    """What the node lets pass PostgreSQL takes."""
    numbers = ["1e131071", "9.9e131071", "0.1e-16382", "1e-16383", "0." + "1" * 16383, "1" * 131072]
    for number in numbers:
        assert Poster(publisher().token)('{"type": "deploy", "action": "step", "payload": {"n": %s}}' % number).ids, number[:20]


def test_a_key_may_be_left_out():
    (id,) = Poster(publisher().token)({"type": "deploy", "action": "step", "payload": {}}).ids
    assert row(id)[2] == ""


def test_a_big_payload_goes_as_a_ticket_of_this_node():
    user = publisher()
    with site.serve(node="web-origin") as node:
        watchers = [n.connect(user).join(deploy=["big"]) for n in (node, site.node)]
        listener = site.session()
        listener("LISTEN pgrelay")
        (id,) = Poster(user.token, node)(event(action="big", text="x" * 100000)).ids
        for watcher in watchers:
            assert watcher.json() == {"text": "x" * 100000}
        assert node.metric("pgrelay_published_tickets_total") == 1
        listener.send("SELECT 1")
        notified = listener.answer()
        assert re.search(rf"t {id} \d+ deploy\.big\.web1 \d+ [0-9a-f]{{64}} web-origin", notified), notified[:500]


def test_a_deferred_and_an_exempt_type_are_published():
    user = publisher()
    site.sql("SELECT pgrelay.announce_set('later', 'deferred')")
    site.sql("SELECT pgrelay.logged_set('exempt', false)")
    poster = Poster(user.token)
    watcher = site.node.connect(user).join(later=["step"])
    poster(event(type="later", n=1)).ids
    assert watcher.json() == {"n": 1}
    watcher.join(exempt=["step"])
    poster(event(type="exempt", n=2)).ids
    assert watcher.json() == {"n": 2}


# ---- refusals ----

BAD = [
    ("", "the body is empty", None),
    ("null", "must be a JSON object", 0),
    ("not JSON", "must be a JSON object", 0),
    ("[]", "a list without an event", None),
    ('{"type": "a"', "not JSON: an early end at octet 12", 0),
    (json.dumps(event()) + "x", "not JSON: something behind the end", None),
    (b'{"type": "\xff"}', "not JSON: something that is not UTF-8", 0),
    ([event(), 7], "an event must be a JSON object", 1),
    ([event(), {**event(), "type": "no word"}], "type must be 1 to 63 letters", 1),
    ([event(), event(), {**event(), "action": 3}], "action must be a string", 2),
    ({**event(), "key": "x" * 256}, "a key has at most 255 octets", 0),
    ({**event(), "key": "a\nb"}, "no control characters", 0),
    ({**event(), "key": None}, "key must be a string", 0),
    ({**event(), "payload": [1]}, "payload must be a JSON object", 0),
    ({"type": "a", "action": "b", "key": "c"}, "an event without payload", 0),
    ({**event(), "id": 1}, 'an event has no field "id"', 0),
    ({**event(), "payload": {"a": "\0"}}, "PostgreSQL cannot hold", 0),
    ([event()] * 10001, "more than 10000 events", None),
    ({**event(), "payload": "DEEP"}, "nested more than 512 deep", 0),
    ('{"type": "a", "action": "b", "payload": {"n": 1e200000}}', "more digits than PostgreSQL can hold", 0),
]


def test_what_is_wrong_with_a_body_is_said():
    poster = Poster(publisher().token)
    before = logged()
    for body, error, index in BAD:
        if not isinstance(body, (str, bytes)):
            body = json.dumps(body).replace('"DEEP"', '{"a": ' + "[" * 600 + "]" * 600 + "}")
        poster(body).refused(400, error, index)
    assert logged() == before
    assert poster(event()).ids, "the connection goes on"


def test_without_a_credential_it_is_401():
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic d3Jvbmc6d3Jvbmc="},
                    {"Cookie": f"token={publisher().token}"}, {"Cookie": "awx_sessionid=a; csrftoken=b"}):
        poster = Poster(None)
        for _ in range(2):  # the connection goes on
            answer = poster(event(), **headers)
            answer.refused(401, "a token is needed|the token is unknown")
            assert answer.headers["www-authenticate"].startswith("Bearer"), answer
    assert "cookies are not taken" in poster(event()).json["error"]


def test_a_token_in_the_url_is_taken():
    user = publisher()
    assert Poster(None)(event(), path=f"{PATH}?token={user.token}").ids
    assert Poster(None)(event(), path=f"{PATH}?token={user.token}x").status == 401


def test_publishing_wants_a_grant_of_its_own():
    user = site.user("*.*.*")
    poster = Poster(user.token)
    poster(event()).refused(403, "deploy.step.web1.*grant add --publish", 0)
    site.sql(f"SELECT pgrelay.grant_add('{user.name}', 'deploy.*.web1', true)")
    assert poster(event()).ids
    before = logged()
    poster([event(), event(key="web2"), event(key="web3")]).refused(403, "deploy.step.web2", 1)
    assert logged() == before, "nothing of a request that is refused is published"
    site.sql(f"SELECT pgrelay.grant_remove('{user.name}', 'deploy.*.web1', true)")
    eventually(lambda: poster(event()).status == 403, what="the node has heard of it")
    poster(event()).refused(403, "may not publish", 0)


def test_other_methods_are_405():
    for method in ("GET", "HEAD", "PUT", "DELETE"):
        answer = site.node.get(PATH, method)
        assert answer.status == 405 and answer.headers["allow"] == "POST", (method, answer)


def test_a_body_that_is_too_large_is_413():
    token = publisher().token
    body = json.dumps([event(text="x" * 8000)] * 1060)
    assert 8 << 20 < len(body) < 9 << 20
    for headers in ({}, {"Expect": "100-continue"}):
        answer = Poster(token)(body, **headers)
        answer.refused(413, "max_publish_bytes")
    assert Poster(token)(body[:8 << 20]).status == 400, "as many octets as max_publish_bytes are looked at"


def test_a_body_just_below_the_limit_is_taken():
    body = json.dumps([event(text="x" * 8000, n=n) for n in range(1000)])
    assert 8_000_000 < len(body) < 8 << 20
    poster = Poster(publisher().token)
    assert len(poster(body).ids) == 1000
    assert len(poster(body).ids) == 1000, "and another one on the same connection"


def test_max_publish_bytes_can_be_set():
    token = publisher().token
    with site.serve(max_publish_bytes="64kB") as node:
        assert Poster(token, node)(event(text="x" * 60000)).ids
        Poster(token, node)(event(text="x" * 70000)).refused(413, "max_publish_bytes")


def test_a_refused_upload_gets_its_answer():
    """All of it is sent before the answer is read, as most clients do."""
    body = b" " * 8_000_000
    for token in (None, "wrong"):
        for _ in range(5):
            Poster(token)(body).refused(401, "token")


# ---- connections ----


def test_many_requests_on_one_connection():
    user = publisher()
    poster = Poster(user.token)
    poster(event()).ids
    port = poster.connection.sock.getsockname()
    for n in range(100):
        poster(event(n=n)).ids
        poster("{").refused(400, "not JSON", 0)
    assert poster.connection.sock.getsockname() == port


def request(token, body, path=PATH):
    return f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def post_raw(*pieces):
    """A connection on which these octets have been sent."""
    connection = socket.create_connection(("127.0.0.1", site.node.port), seconds(60))
    site.clients.append(connection)
    for piece in pieces:
        connection.sendall(piece)
    return connection


def read_answer(file):
    status = int(file.readline().split()[1])
    headers = []
    while (line := file.readline().strip()):
        name, _, value = line.decode().partition(":")
        headers.append((name, value.strip()))
    answer = Answer(status, headers, "")
    answer.text = file.read(int(answer.headers["content-length"])).decode()
    return answer


def test_requests_that_come_without_waiting_are_answered_in_order():
    token = publisher().token
    bodies = [json.dumps(event(n=n, text="x" * size)).encode() for n, size in enumerate((1, 70000, 1, 200000, 65000, 1, 100000, 1))]
    bodies.insert(4, b"{")
    with post_raw(b"".join(request(token, body) for body in bodies)).makefile("rb") as file:
        answers = [read_answer(file) for _ in bodies]
    answers.pop(4).refused(400, "not JSON", 0)
    ids = [answer.ids[0] for answer in answers]
    assert ids == sorted(ids)
    assert [json.loads(row(id)[3])["n"] for id in ids] == list(range(8))


def test_a_head_in_pieces_and_a_chunked_body_are_taken():
    token = publisher().token
    body = json.dumps(event(text="x" * 100000)).encode()
    octets = request(token, body)
    with post_raw(*(octets[i:i + 1] for i in range(150)), octets[150:]).makefile("rb") as file:
        assert read_answer(file).ids
    connection = Poster(token).connection
    body = json.dumps(event(text="x" * 30000)).encode()
    connection.request("POST", PATH, iter([body[:10], body[10:]]), {"Authorization": f"Bearer {token}"}, encode_chunked=True)
    assert json.loads(connection.getresponse().read())["ids"]


def test_curl_publishes():
    token = publisher().token
    url = site.node.url(PATH, "http")
    curl = [need("curl", "curl"), "-sS", "--max-time", "60", "-H", f"Authorization: Bearer {token}"]
    small, big = json.dumps(event()), json.dumps([event(text="x" * 2000)] * 1000)
    done = subprocess.run([*curl, "-d", small, url, "--next", *curl[1:], "-d", "@-", url, "--next", *curl[1:], "-d", small, url],
                          input=big.encode(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=clean_environment())
    assert done.returncode == 0, done.stderr
    assert [len(json.loads(line)["ids"]) for line in done.stdout.splitlines()] == [1, 1000, 1], done.stdout[:500]
    done = subprocess.run([*curl[:-2], "-v", "-d", "@-", url], input=big.encode() * 3, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=clean_environment())
    assert b"a token is needed" in done.stdout, done
    assert b"401 Unauthorized" in done.stderr, done.stderr


# ---- batches ----


def test_what_comes_meanwhile_is_one_transaction():
    user = publisher()
    with site.serve(query_timeout="60s") as node:
        posters = [Poster(user.token, node) for _ in range(50)]
        first = Poster(user.token, node)
        transactions = node.metric("pgrelay_publish_transactions_total")
        with Held() as held:
            first.send(event(n=0))
            held.wait()
            for n, poster in enumerate(posters):
                poster.send([event(n=n), event(n=n)])
            queued(first, *posters)
        (id,) = first.take().ids
        pairs = [poster.take().ids for poster in posters]
        assert all(len(pair) == 2 and pair[1] == pair[0] + 1 for pair in pairs), pairs
        assert len(xids(id for pair in pairs for id in pair)) == 1
        assert xids([id]) != xids(pairs[0])
        assert node.metric("pgrelay_publish_transactions_total") == transactions + 2
        assert node.metric("pgrelay_publish_queued_bytes") == 0


@contextlib.contextmanager
def exploding_key():
    """Events with the key "boom" are refused by the database, and that at the commit."""
    site.sql("""CREATE FUNCTION public.boom() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN RAISE EXCEPTION 'the key % is forbidden here', NEW.key USING ERRCODE = 'check_violation'; END $$""")
    tables = [r[0] for r in site.rows("SELECT inhrelid::regclass FROM pg_inherits WHERE inhparent = 'pgrelay.event'::regclass")]
    for table in tables:
        site.sql(f"CREATE CONSTRAINT TRIGGER boom AFTER INSERT ON {table} DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (NEW.key = 'boom') EXECUTE FUNCTION public.boom()")
    try:
        yield
    finally:
        site.sql("DROP FUNCTION public.boom() CASCADE")


def test_a_bad_request_harms_no_other():
    user, stranger = publisher(), site.user("*.*.*")
    with exploding_key(), site.serve(query_timeout="60s") as node:
        good = [Poster(user.token, node) for _ in range(6)]
        bad, denied, first = Poster(user.token, node), Poster(stranger.token, node), Poster(user.token, node)
        with Held() as held:
            first.send(event())
            held.wait()
            for poster in good[:3]:
                poster.send(event())
            bad.send([event(), event(key="boom")])
            denied.send(event())
            for poster in good[3:]:
                poster.send([event(), event()])
            queued(first, bad, denied, *good)
        first.take().ids
        answers = [poster.take().ids for poster in good]
        bad.take().refused(400, "the key boom is forbidden here")
        denied.take().refused(403, "may not publish", 0)
        assert len(xids(ids[0] for ids in answers)) == 6, "each was tried alone"
        bad(event(key="boom")).refused(400, "forbidden")
        assert good[0](event()).ids


def test_who_is_refused_by_publish_does_not_part_the_others():
    user, stranger = publisher(), site.user("*.*.*")
    with site.serve(query_timeout="60s") as node:
        first, a, denied, b = (Poster(u.token, node) for u in (user, user, stranger, user))
        with Held() as held:
            first.send(event())
            held.wait()
            for poster in (a, denied, b):
                poster.send(event())
            queued(first, a, denied, b)
        first.take().ids
        denied.take().refused(403, "may not publish", 0)
        assert len(xids(a.take().ids + b.take().ids)) == 1


def test_too_much_waiting_is_refused_at_once():
    user = publisher()
    with site.serve(query_timeout="60s", max_publish_bytes="64kB") as node:
        posters = [Poster(user.token, node) for _ in range(9)]
        with Held() as held:
            posters[0].send(event(text="x" * 30000))
            held.wait()
            for poster in posters[1:8]:
                poster.send(event(text="x" * 30000))
            queued(*posters[:8])
            answer = posters[8](event(text="x" * 30000))
            answer.refused(503, "too much is waiting")
            assert int(answer.headers["retry-after"]) > 0
        for poster in posters[:8]:
            poster.take().ids


# ---- the database goes away ----


def test_requests_wait_for_the_database():
    user = publisher()
    with site.serve(query_timeout="60s", handshake_timeout=f"{seconds(1)}s") as node:
        Poster(user.token, node)(event()).ids
        site.drop_sessions()
        site.pg.stop()
        eventually(lambda: node.metric("pgrelay_publish_up") == 0)
        poster = Poster(user.token, node)
        poster.send(event(n=2))
        eventually(lambda: node.metric("pgrelay_publish_requests_total") == 2)
        pass_time(1.5 * seconds(1))  # longer than handshake_timeout
        site.pg.start()
        (id,) = poster.take().ids
        assert json.loads(row(id)[3]) == {"n": 2}


def test_without_a_database_it_is_503():
    user = publisher()
    with site.serve(query_timeout=f"{seconds(1)}s") as node:
        poster = Poster(user.token, node)
        poster(event()).ids
        site.drop_sessions()
        site.pg.stop()
        eventually(lambda: node.metric("pgrelay_publish_up") == 0)
        answer = poster(event())
        answer.refused(503, "the database")
        assert int(answer.headers["retry-after"]) > 0, answer
        site.pg.start()
        eventually(lambda: poster(event()).status == 200)


def test_a_session_lost_under_way_is_told():
    user = publisher()
    with site.serve(query_timeout="60s") as node:
        first, second = Poster(user.token, node), Poster(user.token, node)
        with Held() as held:
            first.send(event(n=1))
            held.wait()
            second.send(event(n=2))
            queued(first, second)
            site.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pgrelay publish'")
            answer = first.take()
            answer.refused(503, "may have been published")
            assert "retry-after" in answer.headers, answer
        (id,) = second.take().ids
        assert json.loads(row(id)[3]) == {"n": 2}, "what had not been sent goes over the next session"


def test_a_transaction_that_takes_too_long_is_given_up():
    user = publisher()
    with site.serve(query_timeout=f"{seconds(3)}s") as node:
        before = logged()
        poster = Poster(user.token, node)
        with Held() as held:
            poster.send(event())
            held.wait()
            poster.take().refused(503, "may have been published|nothing has been published")
            held.wait_until_given_up()
        assert poster(event()).ids
        assert logged() == before + 1, "what was given up is not committed later"


def test_hanging_up():
    """What has been sent to the database is published, what has not is dropped."""
    user = publisher()
    with site.serve(query_timeout="60s") as node:
        sent, unsent, last = (Poster(user.token, node) for _ in range(3))
        with Held() as held:
            sent.send(event(n=1))
            held.wait()
            unsent.send(event(n=2))
            queued(sent, unsent)
            unsent.close()
            queued(sent)
            sent.close()
            eventually(lambda: node.metric("pgrelay_publish_queued_bytes") == 0)
            last.send(event(n=3))
            queued(last)
        (id,) = last.take().ids
        rows = site.rows(f"SELECT payload FROM pgrelay.event WHERE id <= {id} ORDER BY id DESC LIMIT 2")
        assert [json.loads(r[0])["n"] for r in rows] == [3, 1], rows


def test_a_node_that_ends_answers_first():
    user = publisher()
    node = site.serve(query_timeout="60s", shutdown_timeout="60s")
    posters = [Poster(user.token, node) for _ in range(2)]
    with Held() as held:
        posters[0].send(event())
        held.wait()
        posters[1].send(event())
        queued(*posters)
        node.process.signal(15)
        eventually(lambda: "ending on" in node.log)
    for poster in posters:
        poster.take().ids
    node.stop()


def test_a_node_that_ends_with_requests_in_hand():
    """They outlast shutdown_timeout."""
    user = publisher()
    node = site.serve(query_timeout="60s", shutdown_timeout="0s")
    posters = [Poster(user.token, node) for _ in range(2)]
    with Held() as held:
        posters[0].send(event())
        held.wait()
        posters[1].send(event())
        queued(*posters)
        node.stop()
        posters[0].take().refused(503, "shutting down: it may have been published")
        posters[1].take().refused(503, "shutting down: nothing has been published")


# ---- big bodies ----


def resident(node):
    with open(f"/proc/{node.pid}/status") as f:
        return int(re.search(r"VmRSS:\s+(\d+)", f.read())[1]) * 1024


def flood(node, count, headers, body, length):
    """So many connections that send a body as fast as it is taken."""
    connections = []
    head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: {length}\r\n\r\n".encode()
    for _ in range(count):
        connection = socket.create_connection(("127.0.0.1", node.port), seconds(60))
        connection.sendall(head)
        connection.setblocking(False)
        site.clients.append(connection)
        connections.append(memoryview_of(connection, body))
    return connections


class memoryview_of:
    """A connection and what is left to be sent over it."""

    def __init__(self, connection, body):
        self.connection, self.left = connection, memoryview(body)

    def fileno(self):
        return self.connection.fileno()

    def push(self):
        """False: it can take no more, or has all."""
        try:
            self.left = self.left[self.connection.send(self.left[:262144]):]
        except BlockingIOError:
            return False
        except OSError:
            self.left = self.left[:0]
        return len(self.left) > 0


def push_all(connections, until):
    deadline = time.monotonic() + seconds(60)
    while not until():
        assert time.monotonic() < deadline, "the flood does not end"
        for connection in select.select([], [c for c in connections if len(c.left) > 0], [], 0.05)[1]:
            connection.push()


def test_bodies_without_a_valid_token_take_no_memory():
    user = publisher()
    with site.serve() as node:
        poster = Poster(user.token, node)
        poster(event()).ids
        before, peak, slowest = resident(node), 0, 0
        for headers in ("", "Authorization: Bearer wrong\r\n"):
            connections = flood(node, 200, headers, b" " * (8 << 20), 8 << 20)

            def done():
                nonlocal peak, slowest
                start = time.monotonic()
                poster(event()).ids
                slowest = max(slowest, time.monotonic() - start)
                peak = max(peak, resident(node) - before)
                return not any(len(c.left) for c in connections)

            push_all(connections, done)
            for connection in connections:
                connection.connection.setblocking(True)
                with connection.connection.makefile("rb") as file:
                    read_answer(file).refused(401, "token")
                connection.connection.close()
        print(f"# 400 uploads of 8 MB without a valid token: RSS grew by {peak >> 10} kB, others waited {slowest * 1000:.0f} ms at most")
        assert is_sanitized() or peak < 100 << 20, peak
        assert slowest < seconds(5), slowest


def test_big_bodies_wait_for_room():
    user, *slow_ones = publisher(), publisher(), publisher()
    body = json.dumps(event(text="x" * 1_000_000)).encode()
    with site.serve(max_publish_bytes="1100kB", query_timeout="60s", handshake_timeout="60s") as node:
        headers = f"Authorization: Bearer {user.token}\r\n"
        slow = [c for one in slow_ones for c in flood(node, 2, f"Authorization: Bearer {one.token}\r\n", b"", len(body))]
        eventually(lambda: node.metric("pgrelay_bodies_bytes") == 4 * len(body))
        others = flood(node, 4, headers, body, len(body))
        push_all(others, lambda: all(not c.push() for c in others))
        assert node.metric("pgrelay_bodies_bytes") == 4 * len(body)
        assert Poster(user.token, node)(event()).ids, "small ones need not wait"
        slow.pop().connection.close()
        slow[0].connection.setblocking(True)
        slow[0].connection.sendall(body)
        with slow[0].connection.makefile("rb") as file:
            assert read_answer(file).ids
        push_all(others, lambda: not any(len(c.left) for c in others))
        for connection in others:
            connection.connection.setblocking(True)
            with connection.connection.makefile("rb") as file:
                assert read_answer(file).ids
        for connection in slow + others:
            connection.connection.close()
        eventually(lambda: node.metric("pgrelay_bodies_bytes") == 0)


def test_who_finds_no_room_is_told():
    user = publisher()
    with site.serve(max_publish_bytes="100kB", query_timeout=f"{seconds(1)}s") as node:
        for one in (publisher(), publisher()):
            flood(node, 2, f"Authorization: Bearer {one.token}\r\n", b"", 100000)
        eventually(lambda: node.metric("pgrelay_bodies_bytes") == 400000)
        answer = Poster(user.token, node)(b" " * 100000)
        answer.refused(503, "too many big requests")
        assert "retry-after" in answer.headers


def test_a_body_that_does_not_come_is_not_waited_for():
    user = publisher()
    with site.serve(max_publish_bytes="100kB", handshake_timeout=f"{seconds(1)}s") as node:
        flood(node, 2, f"Authorization: Bearer {user.token}\r\n", b"", 100000)
        eventually(lambda: node.metric("pgrelay_bodies_bytes") == 200000)
        eventually(lambda: node.metric("pgrelay_bodies_bytes") == 0)


def test_nor_one_that_comes_by_drops():
    user = publisher()
    with site.serve(max_publish_bytes="100kB", handshake_timeout=f"{seconds(1)}s") as node:
        slow, = flood(node, 1, f"Authorization: Bearer {user.token}\r\n", b"", 100000)
        eventually(lambda: node.metric("pgrelay_bodies_bytes") == 100000)

        def has_gone():
            with contextlib.suppress(OSError):
                slow.connection.send(b" ")
            return node.metric("pgrelay_bodies_bytes") == 0

        eventually(has_gone, pause=0.1)


def test_one_user_leaves_the_others_room():
    greedy, other = publisher(), publisher()
    with site.serve(max_publish_bytes="100kB", query_timeout="60s") as node:
        flood(node, 4, f"Authorization: Bearer {greedy.token}\r\n", b"", 100000)
        eventually(lambda: node.metric("pgrelay_bodies_bytes") == 200000)
        assert Poster(other.token, node)(json.dumps(event(text="x" * 90_000)).encode()).ids
        assert node.metric("pgrelay_bodies_bytes") >= 200000


def test_a_big_body_elsewhere_is_refused():
    token = publisher().token
    for path in ("/healthz", "/websocket/", "/nothing"):
        with contextlib.suppress(OSError):
            assert Poster(token)(b" " * 100000, path=path).status in (404, 405, 413), path


# ---- pgrelay emit --via-node ----


def emit(*arguments, token=None, status=0, node=None, **options):
    env = {"PGRELAY_URL": (node or site.node).url("", "http"), "PGRELAY_DATABASE": "host=/nonexistent", **options.pop("env", {})}
    if token is not None:
        env["PGRELAY_TOKEN"] = token
    return site.pgrelay("emit", "--via-node", *arguments, status=status, env=env, **options)


def test_emit_via_node_prints_the_id():
    token = publisher().token
    for arguments, input in ((("deploy", "step", "web1", '{"a": 1.50}'), None), (("deploy", "step", "web1"), b'{"a": 1.50}\n'),
                             (("deploy", "step", "web1", "-"), b'{"a": 1.50}')):
        id = emit(*arguments, token=token, input=input).stdout
        assert re.fullmatch(r"\d+\n", id), id
        assert row(int(id))[:4] == ["deploy", "step", "web1", '{"a": 1.50}']
    id = emit("deploy", "step", '\u00e4 "\\', "{}", token=token).stdout
    assert row(int(id))[2] == '\u00e4 "\\'


def test_emit_via_node_to_a_group_is_what_sql_makes_of_it():
    token = publisher().token
    for group, payload in (("job_events-42", '{"event": "runner_on_ok"}'), ("job_events-42", '{"event": "no word"}'),
                           ("jobs-status_changed", '{"unified_job_id": 7, "id": 8}'), ("jobs-status_changed", '{"id": "x y"}'),
                           ("schedules-changed", "{}"), ("my-type-123e4567-e89b-12d3-a456-426614174000", "{}")):
        via, sql = (int(f(*("--group", group, payload), **o).stdout) for f, o in
                    ((emit, {"token": token}), (lambda *a: site.pgrelay("emit", *a), {})))
        assert row(via)[:4] == row(sql)[:4], (row(via), row(sql))
    assert "invalid group name" in emit("--group", "nothing", "{}", token=token, status=1).stderr


def test_emit_via_node_tells_what_is_wrong():
    user, stranger = publisher(), site.user("*.*.*")
    failed = emit("deploy", "step", "web1", "{}", status=1)
    assert "a token is needed" in failed.stderr and "--token" in failed.stderr, failed.stderr
    failed = emit("deploy", "step", "web1", "{}", token="wrong", status=1)
    assert "the token is unknown" in failed.stderr, failed.stderr
    failed = emit("deploy", "step", "web1", "{}", token=stranger.token, status=1)
    assert "may not publish" in failed.stderr and "grant add --publish" in failed.stderr, failed.stderr
    failed = emit("deploy", "step", "web1", "[]", token=user.token, status=1)
    assert "payload must be a JSON object" in failed.stderr, failed.stderr
    failed = emit("no word", "step", "web1", "{}", token=user.token, status=1)
    assert "type must be" in failed.stderr, failed.stderr
    assert "wanted" in emit("deploy", token=user.token, status=2).stderr
    assert "no token has" in emit("deploy", "step", "web1", "{}", token="a b", status=2).stderr
    assert "--via-node" in site.pgrelay("emit", "--token", "x", "deploy", "step", "web1", "{}", status=2).stderr
    failed = emit("deploy", "step", "web1", "{}", "--url", site.node.url("/nothing/", "http"), token=user.token, status=1)
    assert "--url" in failed.stderr, failed.stderr
    for url in ("ftp://x", "x", "http://", "http://user@x"):
        assert "URL" in emit("deploy", "step", "web1", "{}", "--url", url, token=user.token, status=2).stderr


def test_emit_via_node_takes_the_next_node():
    token = publisher().token
    done = emit("deploy", "step", "web1", "{}", token=token, env={"PGRELAY_URL": f"ws://127.0.0.1:1, {site.node.url()}"})
    assert row(int(done.stdout))[0] == "deploy"
    assert "could not connect to http://127.0.0.1:1" in done.stderr, done.stderr
    failed = emit("deploy", "step", "web1", "{}", "--url", "http://127.0.0.1:1", "--url", "ws://127.0.0.1:1/websocket/", token=token, status=1)
    assert "Connection refused" in failed.stderr and "hint" in failed.stderr, failed.stderr


class TlsProxy:
    """Speaks TLS, and hands on to a node one request at a time, and the answer back."""

    def __init__(self, node):
        self.key, self.certificate = f"{site.folder}/tls.key", f"{site.folder}/tls.crt"
        subprocess.run([need("openssl", "openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1",
                        "-subj", "/CN=node", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", self.key, "-out", self.certificate],
                       check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(self.certificate, self.key)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.node = node
        threading.Thread(target=self.run, daemon=True).start()
        site.clients.append(self)

    def run(self):
        with contextlib.suppress(OSError):
            while True:
                with contextlib.suppress(ssl.SSLError, ConnectionError):
                    self.serve(self.listener.accept()[0])

    def serve(self, connection):
        with connection, self.context.wrap_socket(connection, server_side=True) as client:
            request = b""
            while not self.is_whole(request):
                data = client.recv(65536)
                if not data:
                    return
                request += data
            with socket.create_connection(("127.0.0.1", self.node.port)) as server:
                server.sendall(request)
                while data := server.recv(65536):
                    client.sendall(data)
            client.shutdown(socket.SHUT_WR)

    @staticmethod
    def is_whole(request):
        head, _, body = request.partition(b"\r\n\r\n")
        length = re.search(rb"Content-Length: (\d+)", head)
        return length is not None and len(body) >= int(length[1])

    def close(self):
        self.listener.close()


def test_emit_via_node_over_tls():
    token = publisher().token
    proxy = TlsProxy(site.node)
    for scheme in ("https", "wss"):
        url = f"{scheme}://127.0.0.1:{proxy.port}"
        done = emit("deploy", "step", "web1", json.dumps({"text": "x" * 100000}), "--url", url, "--tls-ca-file", proxy.certificate, token=token)
        assert row(int(done.stdout))[0] == "deploy"
        failed = emit("deploy", "step", "web1", "{}", "--url", url, token=token, status=1)
        assert "certificate is not accepted" in failed.stderr, failed.stderr
        assert emit("deploy", "step", "web1", "{}", "--url", url, "--tls-verify", "off", token=token).stdout
    failed = emit("deploy", "step", "web1", "{}", "--url", site.node.url("", "https"), token=token, status=1)
    assert "could not connect" in failed.stderr, failed.stderr
    failed = emit("deploy", "step", "web1", "{}", "--url", f"https://localhost:{proxy.port}", "--tls-ca-file", proxy.certificate, token=token, status=1)
    assert "certificate is not accepted" in failed.stderr, failed.stderr
    failed = emit("deploy", "step", "web1", "{}", "--url", f"https://localhost:{proxy.port}", "--tls-ca-file", "/nonexistent", token=token, status=1)
    assert "tls_ca_file" in failed.stderr, failed.stderr


def test_emit_via_node_reads_a_token_from_a_file():
    path = f"{site.folder}/token"
    with open(path, "w") as f:
        f.write(publisher().token + "\n")
    assert emit("deploy", "step", "web1", "{}", "--token-file", path).stdout


# ---- the rate ----


def test_metrics_count():
    user = publisher()
    with site.serve() as node:
        poster = Poster(user.token, node)
        poster([event(), event()]).ids
        poster("x").refused(400, "must be", 0)
        Poster(None, node)(event()).refused(401, "token")
        for name, value in (("publish_up", 1), ("publish_requests_total", 3), ("publish_refused_total", 2), ("publish_failed_total", 0),
                            ("publish_transactions_total", 1), ("published_events_total", 2), ("publish_queued_bytes", 0),
                            ("sessions_refused_total", 0)):
            assert node.metric(f"pgrelay_{name}") == value, (name, node.metric(f"pgrelay_{name}"))


if __name__ == "__main__":
    main()
