#!/usr/bin/env python3
"""Server-sent events: with curl, Python's http.client, a browser's EventSource, and on a bare socket."""
import http.client
import json
import re
import socket

import libpq
from chromium import chromium
from harness import Node, Process, clean_environment, eventually, free_port, main, need, quote, seconds, site
from stream import Ended, Stream
from wall import Wall, inside


def stream(node, groups, user=None, **options):
    """user is a User, a token, or None for the one that sees everything."""
    token = getattr(user or site.all_seeing, "token", user)
    client = Stream(node.port, groups, token, timeout=seconds(20), **options)
    site.clients.append(client)
    return client


def follow(node, groups, user=None, **options):
    """An accepted stream that is in all of these groups."""
    client = stream(node, groups, user, **options)
    assert client.status == 200, (client.status, client.body)
    errors, told = client.groups()
    assert not errors and told["groups_current"] == sorted(set(groups.split(","))), (errors, told)
    return client


def assert_refused(client, status, what):
    """By this status, with one line of plain text that says what was wrong."""
    assert client.status == status, (client.status, client.headers)
    assert client.headers["content-type"].startswith("text/plain"), client.headers
    assert re.search(what, client.body) and client.body.count("\n") == 1 and client.body.endswith("\n"), client.body


def flood(key, count, size):
    site.sql(f"""SELECT count(pgrelay.emit('demo', 'x', {quote(key)}, jsonb_build_object('n', n, 'pad', repeat('x', {size}))))
        FROM generate_series(1, {count}) n""", "writer")


# ---- what an answer is ----


def test_the_head_then_the_groups_then_events():
    client = stream(site.node, "demo-1")
    assert client.status == 200, client.body
    assert client.headers["content-type"] == "text/event-stream", client.headers
    assert client.headers["cache-control"] == "no-store" and client.headers["x-accel-buffering"] == "no", client.headers
    assert "content-length" not in client.headers and "transfer-encoding" not in client.headers, client.headers
    event = client.event()
    assert event.type == "groups", event
    assert event.json() == {"groups_current": ["demo-1"], "groups_left": [], "groups_joined": ["demo-1"]}, event
    site.emit("demo", "x", "1", {"group_name": "demo", "n": 1})
    event = client.event()
    assert event.type == "message" and event.json() == {"group_name": "demo", "n": 1}, event


def test_only_what_was_asked_for_comes_and_once():
    client = follow(site.node, "demo-1,demo-x,other-7")
    for type, action, key in (("demo", "y", "2"), ("demo", "x", "1"), ("demo", "y", "1"), ("third", "x", "1"), ("demo", "x", "3"),
                              ("other", "z", "7")):
        site.emit(type, action, key, {"topic": f"{type}.{action}.{key}"})
    assert [m["topic"] for m in client.take(4)] == ["demo.x.1", "demo.y.1", "demo.x.3", "other.z.7"]


def test_groups_are_decoded():
    uuid = "0123abcd-ef01-2345-6789-ABCDEF012345"
    for groups in ("demo-1%2Cother-2", "%64emo-1,other%2D2", f"demo-{uuid}", "demo-1,demo-1"):
        client = Stream(site.node.port, token=site.all_seeing.token, path=f"/events?groups={groups}", timeout=seconds(20))
        site.clients.append(client)
        assert client.status == 200, client.body
        _, told = client.groups()
        assert set(told["groups_current"]) <= {"demo-1", "other-2", f"demo-{uuid}"} and told["groups_current"], told


def test_big_payloads_keep_their_place():
    client, witness = follow(site.node, "demo-1"), site.node.connect(site.all_seeing).join(demo=[1])
    sizes = [10, 20000, 10, 1 << 20, 10, 9000, 9000, 10]
    for n, size in enumerate(sizes):
        site.emit("demo", "x", "1", {"n": n, "pad": "€" * (size // 3)})
    want = [{"n": n, "pad": "€" * (size // 3)} for n, size in enumerate(sizes)]
    assert client.take(len(sizes)) == want and witness.take(len(sizes)) == want


def test_a_line_s_end_in_a_payload_does_not_end_it():
    """Only who bypasses the SQL functions can send one."""
    client = follow(site.node, "demo-1")
    site.sql("""SELECT pg_notify('pgrelay', E'e 1 1 demo.x.1 {"a":\\r1,\\r\\r"b": 2}')""")
    site.emit("demo", "x", "1", {"n": 1})
    assert client.take(2) == [{"a": 1, "b": 2}, {"n": 1}]


def test_many_streams_and_websockets_get_the_same():
    streams = [follow(site.node, "demo-5") for _ in range(10)]
    sockets = [site.node.connect(site.all_seeing).join(demo=[5]) for _ in range(10)]
    flood("5", 500, 300)
    want = list(range(1, 501))
    for client in streams + sockets:
        assert [m["n"] for m in client.take(500)] == want


def test_streams_are_counted():
    def counted(sessions, subscriptions):
        return (site.node.metric("pgrelay_sessions"), site.node.metric("pgrelay_subscriptions")) == (sessions, subscriptions)

    eventually(lambda: counted(0, 0))
    client = follow(site.node, "demo-1,demo-2")
    eventually(lambda: counted(1, 2))
    client.close()
    eventually(lambda: counted(0, 0), what="the client that hung up is gone")


# ---- other clients ----


def test_curl_prints_events_as_they_come():
    url = site.node.url("/events?groups=demo-1", "http")
    curl = Process([need("curl", "curl"), "-sSN", "-H", f"Authorization: Bearer {site.all_seeing.token}", url], name="curl")
    for n in range(3):
        curl.wait_for('"groups_current": ["demo-1"]' if n == 0 else f'data: {{"n": {n - 1}}}\n\n')
        site.emit("demo", "x", "1", {"n": n})
    curl.wait_for('data: {"n": 2}\n\n')


def test_python_s_http_client_reads_line_by_line():
    connection = http.client.HTTPConnection("127.0.0.1", site.node.port, timeout=seconds(20))
    connection.request("GET", "/events?groups=demo-1", headers={"Cookie": f"token={site.all_seeing.token}"})
    answer = connection.getresponse()
    assert answer.status == 200 and answer.readline() == b"event: groups\n", answer.status
    assert json.loads(answer.readline().removeprefix(b"data: "))["groups_joined"] == ["demo-1"]
    assert answer.readline() == b"\n"
    site.emit("demo", "x", "1", {"n": 1})
    while not (line := answer.readline()).startswith(b"data: "):
        assert line.startswith((b"id: ", b":")) or line == b"\n", line
    assert line == b'data: {"n": 1}\n', line
    connection.close()


def test_http_1_0_as_a_proxy_speaks_it():
    client = follow(site.node, "demo-1", version="1.0", headers={"Connection": "close"})
    site.emit("demo", "x", "1", {"n": 1})
    assert client.message() == {"n": 1}


def test_a_stream_behind_another_request_of_the_connection():
    with socket.create_connection(("127.0.0.1", site.node.port), timeout=seconds(20)) as s:
        head = f"Host: x\r\nAuthorization: Bearer {site.all_seeing.token}\r\n\r\n"
        s.sendall(f"GET /healthz HTTP/1.1\r\n{head}GET /events?groups=demo-1 HTTP/1.1\r\n{head}".encode())
        got = b""
        while b"event: groups\n" not in got:
            data = s.recv(65536)
            assert data, got
            got += data
        assert got.count(b"HTTP/1.1 200 OK\r\n") == 2 and b"\r\n\r\nok\nHTTP/1.1" in got, got


# What a page's EventSource gets: window.seen holds the data of all messages. The browser comes back by itself unless it got
# an HTTP answer that is not 200, from a node that starts, say; then the page must.
LISTEN = """
window.seen = []; window.groups = []; window.ids = []; window.errors = 0;
function connect(url, cursor) {
  window.source = new EventSource(url + cursor);
  source.onmessage = (e) => { seen.push(JSON.parse(e.data)); ids.push(e.lastEventId); };
  source.addEventListener("groups", (e) => groups.push(JSON.parse(e.data)));
  source.onerror = () => {
    errors++;
    if (source.readyState == EventSource.CLOSED) setTimeout(connect, 300, url, ids.length ? "&cursor=" + ids.at(-1) : "");
  };
}
connect(%s, "");
0
"""


def listen(path):
    chromium().evaluate(LISTEN % json.dumps(path))


def seen(expression="seen"):
    return chromium().evaluate(expression)


def test_a_browser_with_its_cookie():
    chromium().open(site.node.url("/healthz", "http"))
    chromium().evaluate(f"document.cookie = 'token={site.all_seeing.token}; path=/'; 0")
    listen("/events?groups=demo-1")
    eventually(lambda: seen("groups") == [{"groups_current": ["demo-1"], "groups_left": [], "groups_joined": ["demo-1"]}])
    for n in range(3):
        site.emit("demo", "x", "1", {"n": n, "pad": "ü" * 10000 * n})
    eventually(lambda: seen("seen.map((m) => m.n)") == [0, 1, 2])
    assert seen("seen[2].pad.length") == 20000
    assert seen("errors") == 0
    chromium().evaluate("source.close(); document.cookie = 'token=; path=/; max-age=0'; 0")
    eventually(lambda: site.node.metric("pgrelay_sessions") == 0, what="the page has closed its stream")


def test_a_page_of_another_origin_with_a_token():
    chromium().open(f"{chromium().origin}/")
    listen(site.node.url(f"/events?groups=demo-1&token={site.all_seeing.token}", "http"))
    eventually(lambda: seen("groups.length") == 1)
    site.emit("demo", "x", "1", {"n": 1})
    eventually(lambda: seen() == [{"n": 1}])
    chromium().evaluate("source.close(); 0")


def test_a_page_of_a_foreign_origin_with_cookies_is_refused_unless_it_is_listed():
    chromium().open(site.node.url("/healthz", "http"))
    chromium().evaluate(f"document.cookie = 'token={site.all_seeing.token}; path=/'; 0")
    chromium().open(f"{chromium().origin}/")
    with Node(allowed_origins=chromium().origin) as listed:
        for node, taken in ((site.node, False), (listed, True)):
            url = json.dumps(node.url("/events?groups=demo-1", "http"))
            source = f"new EventSource({url}, {{withCredentials: true}})"
            state = chromium().evaluate(f"new Promise((done) => {{ const s = {source}; const end = (x) => {{ s.close(); done(x); }};"
                                        "s.addEventListener('groups', () => end('taken')); s.onerror = () => end('refused'); })")
            assert state == ("taken" if taken else "refused"), (state, taken)
    chromium().evaluate("document.cookie = 'token=; path=/; max-age=0'; 0")


# ---- who may ----


def test_credentials_as_for_websockets():
    token = site.all_seeing.token
    for headers in ({"Authorization": f"Bearer {token}"}, {"Cookie": f"token={token}"}, {"Cookie": f'token="{token}"'},
                    {"Cookie": f"awx_sessionid={token}; csrftoken=c"}):
        client = Stream(site.node.port, "demo-1", headers=headers, timeout=seconds(20))
        site.clients.append(client)
        assert client.status == 200, (headers, client.body)
        assert client.groups()[1]["groups_current"] == ["demo-1"]


def test_nobody_is_401_even_where_websockets_are_refused_as_awx_does():
    with Node(refuse="awx") as node:
        for n in (site.node, node):
            for token in (None, "", "pgr_unknown"):
                client = Stream(n.port, "demo-1", token, timeout=seconds(20))
                assert_refused(client, 401, "token")
                assert client.headers["www-authenticate"].startswith("Bearer"), client.headers


def test_cookies_of_a_foreign_page_are_403():
    cookie = {"Cookie": f"token={site.all_seeing.token}"}
    client = Stream(site.node.port, "demo-1", headers={**cookie, "Origin": "https://evil.example.org"}, timeout=seconds(20))
    assert_refused(client, 403, "allowed_origins")
    assert "access-control-allow-origin" not in client.headers, client.headers
    own = f"http://127.0.0.1:{site.node.port}"
    client = Stream(site.node.port, "demo-1", headers={**cookie, "Origin": own}, timeout=seconds(20))
    site.clients.append(client)
    assert client.status == 200 and client.headers["access-control-allow-origin"] == own, client.headers


def test_an_origin_that_is_none_is_not_repeated():
    for origin in ("a b", "x\ty", "h\u00e4h"):
        client = stream(site.node, "demo-1", headers={"Origin": origin})
        assert client.status == 200 and "access-control-allow-origin" not in client.headers, client.headers


def test_without_any_right_it_is_403():
    assert_refused(stream(site.node, "demo-1,other-2", site.user("third.*.*")), 403, "grant")
    assert_refused(stream(site.node, "demo-a b", site.user("*.*.*")), 403, "none")


def test_what_is_not_granted_is_told_and_the_rest_is_served():
    client = stream(site.node, "demo-1,demo-2,demo-a b,other-3", site.user("demo.*.1", "other.y.*"))
    errors, told = client.groups()
    assert errors == [f"access denied to channel demo for resource id {v}" for v in ("2", "a b")], errors
    assert told["groups_current"] == told["groups_joined"] == ["demo-1", "other-3"], told
    for type, action, key in (("demo", "x", "2"), ("other", "x", "3"), ("other", "y", "3"), ("demo", "x", "1")):
        site.emit(type, action, key, {"topic": f"{type}.{action}.{key}"})
    assert [m["topic"] for m in client.take(2)] == ["other.y.3", "demo.x.1"]


def test_a_grant_taken_away_ends_what_it_allowed():
    user = site.user("demo.*.1", "demo.*.2")
    client = follow(site.node, "demo-1,demo-2", user)
    site.pgrelay("grant", "remove", user.name, "demo.*.1")
    errors, told = client.groups()
    assert not errors and told == {"groups_current": ["demo-2"], "groups_left": ["demo-1"], "groups_joined": []}, told
    site.emit("demo", "x", "1", {"n": 1})
    site.emit("demo", "x", "2", {"n": 2})
    assert client.message() == {"n": 2}
    site.pgrelay("grant", "remove", user.name, "demo.*.2")
    assert client.groups()[1] == {"groups_current": [], "groups_left": ["demo-2"], "groups_joined": []}
    assert_refused(stream(site.node, "demo-1,demo-2", user), 403, "none")


def test_grants_that_change_often_are_asked_about_until_the_last():
    user = site.user("demo.*.1")
    client = follow(site.node, "demo-1", user)
    for _ in range(5):
        site.sql(f"SELECT pgrelay.grant_add({quote(user.name)}, 'demo.*.2'); SELECT pgrelay.grant_remove({quote(user.name)}, 'demo.*.2')")
    site.sql(f"SELECT pgrelay.grant_remove({quote(user.name)}, 'demo.*.1')")
    assert client.groups()[1]["groups_left"] == ["demo-1"]


def test_a_revoked_token_ends_the_stream():
    user = site.user("demo.*.*")
    client = follow(site.node, "demo-1", user)
    token_id = site.sql(f"SELECT t.id FROM pgrelay.token t JOIN pgrelay.users u ON u.id = t.user_id WHERE u.name = {quote(user.name)}")
    site.pgrelay("token", "revoke", token_id)
    assert client.wait_end() == []
    assert_refused(stream(site.node, "demo-1", user), 401, "token")


# ---- bad requests ----


def test_groups_that_are_none_are_400():
    for groups, what in ((None, "groups are wanted"), ("", "groups are wanted"), ("jobs", "group 1 "), ("demo-1,", "group 2 "),
                         ("demo-1,-2", "group 2 "), ("demo-1,demo-%FF", "group 2 "), ("a" * 64 + "-1", "group 1 ")):
        path = "/events" if groups is None else f"/events?groups={groups}"
        assert_refused(Stream(site.node.port, token=site.all_seeing.token, path=path, timeout=seconds(20)), 400, what)


def test_too_many_groups_are_400():
    with Node(max_groups=3) as node:
        assert_refused(stream(node, "demo-1,demo-2,demo-3,demo-4"), 400, "at most 3")
        follow(node, "demo-1,demo-2,demo-3")


def test_what_is_no_cursor_is_400():
    for options in ({"cursor": "42"}, {"last_event_id": "42"}, {"cursor": "x" * 5000}):
        assert_refused(stream(site.node, "demo-1", **options), 400, "cursor")


def test_only_get_is_taken():
    for method in ("POST", "PUT", "HEAD"):
        answer = site.node.get("/events?groups=demo-1", method)
        assert answer.status == 405 and answer.headers["allow"] == "GET", (method, answer.status, answer.headers)


def test_more_than_max_sessions_are_503():
    with Node(max_sessions=2) as node:
        first = follow(node, "demo-1")
        follow(node, "demo-1")
        client = stream(node, "demo-1")
        assert_refused(client, 503, "max_sessions")
        assert client.headers["retry-after"], client.headers
        first.close()
        eventually(lambda: stream(node, "demo-1").status == 200, what="a place is free again")


def test_without_the_database_it_is_503():
    with Node(query_timeout=f"{seconds(1)}s") as node:
        site.drop_sessions()
        site.pg.stop()
        try:
            client = stream(node, "demo-1")
            assert_refused(client, 503, "database")
            assert client.headers["retry-after"], client.headers
        finally:
            site.pg.start()
        eventually(lambda: node.get("/readyz").status == 200)
        follow(node, "demo-1")


def slow_authorize(pause):
    """A node whose question about rights takes a while."""
    site.sql(f"""CREATE OR REPLACE FUNCTION slow_authorize(user_id bigint, patterns text[]) RETURNS TABLE (requested text, allowed text)
        LANGUAGE sql AS 'SELECT p, p FROM (SELECT pg_sleep({pause})) s, unnest(patterns) p';
        GRANT EXECUTE ON FUNCTION slow_authorize TO node""")
    return Node(authorize_function="slow_authorize")


def test_a_client_that_hangs_up_while_the_database_is_asked():
    with slow_authorize(0.5) as node:
        query = f"/events?groups=demo-1&token={site.all_seeing.token}"
        for _ in range(3):
            with socket.create_connection(("127.0.0.1", node.port)) as s:
                s.sendall(f"GET {query} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        eventually(lambda: node.log.count("the client hung up") + node.log.count("hung up during the handshake") == 3)
        client = follow(node, "demo-1")
        client.close()
        eventually(lambda: node.metric("pgrelay_sessions") == 0)


def test_a_request_under_way_when_the_node_ends_is_503():
    node = slow_authorize(10)
    with socket.create_connection(("127.0.0.1", node.port), timeout=seconds(20)) as s:
        s.sendall(f"GET /events?groups=demo-1&token={site.all_seeing.token} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        eventually(lambda: site.sql("SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%FROM slow_authorize%' AND pid <> pg_backend_pid()")
                   != "0", what="the database is asked")
        node.process.signal(15)
        answer = b""
        while data := s.recv(65536):
            answer += data
    assert answer.startswith(b"HTTP/1.1 503 ") and b"Retry-After: " in answer and b"shutting down" in answer, answer
    node.stop()


def test_a_url_too_long_is_refused():
    client = stream(site.node, ",".join(f"demo-{n:015}" for n in range(1000)))
    assert 400 <= client.status < 500, client.status


# ---- coming back ----


def count_to(first, last, key="7", pad=0):
    """Events with n from first to last, each in a transaction of its own."""
    for n in range(first, last + 1):
        site.emit("demo", "x", key, {"n": n, "pad": "x" * pad})


def numbers(client, n):
    return [m["n"] for m in client.take(n)]


def last_id(client, n):
    """Takes n events; the id of the last one."""
    for _ in range(n):
        event = client.event()
    assert event.type == "message" and re.fullmatch(r"[A-Za-z0-9:,._-]{1,4096}", event.id), event
    return event.id


def test_an_id_follows_the_groups_and_each_event_has_its_own():
    client = follow(site.node, "demo-7")
    while not client.id:
        client.step()
    ids = [client.id]
    for n in range(3):
        count_to(n, n)
        ids.append(last_id(client, 1))
    assert len(set(ids)) == 4, ids


def test_from_any_id_the_rest_comes():
    """Small events and big ones, from the history."""
    client = follow(site.node, "demo-7")
    for n in range(1, 13):
        count_to(n, n, pad=20000 if n % 4 == 0 else 10)
    ids = [last_id(client, 1) for _ in range(12)]
    for options in ("last_event_id", "cursor"):
        for n, id in enumerate(ids, 1):
            assert numbers(again := follow(site.node, "demo-7", **{options: id}), 12 - n) == list(range(n + 1, 13))
            again.close()


def test_from_any_id_within_a_transaction_the_rest_comes():
    """Its events come in one payload, in runs of one topic; one whose id is a lower one comes behind them."""
    client = follow(site.node, "demo-7,demo-8")
    early = libpq.Session(site.pg.conninfo("writer"))
    early("""BEGIN; SELECT pgrelay.emit('demo', 'x', '7', '{"n": 41}')""")
    site.sql("""SELECT count(pgrelay.emit('demo', 'x', CASE n % 15 WHEN 0 THEN '8' ELSE '7' END, jsonb_build_object('n', n,
                'pad', repeat('x', CASE n WHEN 33 THEN 20000 ELSE 10 END)))) FROM generate_series(1, 40) n""", "writer")
    early("COMMIT")
    early.close()
    ids = [last_id(client, 1) for _ in range(41)]
    assert len(set(ids)) == 41, ids
    for n, id in enumerate(ids, 1):
        again = follow(site.node, "demo-7,demo-8", last_event_id=id)
        assert numbers(again, 41 - n) == list(range(n + 1, 42)), n
        again.close()


def test_what_was_missed_comes_before_what_comes():
    client = follow(site.node, "demo-7")
    count_to(1, 3)
    id = last_id(client, 3)
    client.close()
    count_to(4, 203)
    site.emit("demo", "x", "8", {"n": 0})
    client = follow(site.node, "demo-7", last_event_id=id)
    count_to(204, 210)
    assert numbers(client, 207) == list(range(4, 211))


def test_the_browser_s_id_counts_more_than_the_url_s():
    client = follow(site.node, "demo-7")
    count_to(1, 2)
    first, second = last_id(client, 1), last_id(client, 1)
    count_to(3, 3)
    assert numbers(follow(site.node, "demo-7", cursor=first, last_event_id=second), 1) == [3]


def test_another_node_goes_on_and_so_does_one_that_starts_anew():
    with Node() as first:
        client = follow(first, "demo-7")
        count_to(1, 5, pad=9000)
        id = last_id(client, 2)
        client.close()
        assert numbers(follow(site.node, "demo-7", last_event_id=id), 3) == [3, 4, 5]
    count_to(6, 8, pad=10)
    with Node() as later:
        assert numbers(follow(later, "demo-7", last_event_id=id), 6) == [3, 4, 5, 6, 7, 8]


def test_many_come_back_at_once_each_from_its_own_place():
    """They share one reading of the log and its events, but not their ids: what one was not sent is not in its id."""
    def key(n):
        return ("9", "7", "8")[n % 3]

    with Node() as first:
        client = follow(first, "demo-7,demo-8,demo-9")
        for n in range(1, 31):
            count_to(n, n, key=key(n), pad=9000 if n % 5 == 0 else 10)
        ids = [last_id(client, 1) for _ in range(30)]
    with Node() as node:
        clients = []
        for n, id in enumerate(ids[:20], 1):
            mine = "79" if n % 2 else "89"
            clients.append((n, mine, follow(node, ",".join(f"demo-{k}" for k in mine), last_event_id=id)))
        halfway = []
        for n, mine, client in clients:
            for m in (m for m in range(n + 1, 31) if key(m) in mine):
                event = client.event()
                assert event.json()["n"] == m, (n, m, event)
                if m == 24:
                    halfway.append((mine, event.id))
            client.close()
        assert node.metric("pgrelay_resumes_log_total") == len(halfway) == 20
        for mine, id in halfway:
            want = [m for m in range(25, 31) if key(m) in mine]
            again = follow(node, ",".join(f"demo-{k}" for k in mine), last_event_id=id)
            assert numbers(again, len(want)) == want, (mine, id)
            again.close()


def test_who_comes_back_sees_what_may_be_seen_now():
    user = site.user("demo.*.7", "demo.*.8")
    client = follow(site.node, "demo-7,demo-8", user)
    count_to(1, 1)
    id = last_id(client, 1)
    client.close()
    witness = follow(site.node, "demo-8", user)
    count_to(2, 2, key="8")
    count_to(3, 3)
    site.pgrelay("grant", "remove", user.name, "demo.*.8")
    assert numbers(witness, 1) == [2] and witness.groups()[1]["groups_current"] == []  # the node has heard of it
    client = stream(site.node, "demo-7,demo-8", user, last_event_id=id)
    errors, told = client.groups()
    assert len(errors) == 1 and told["groups_current"] == ["demo-7"], (errors, told)
    assert numbers(client, 1) == [3]


def test_a_cursor_of_another_database_is_a_gap():
    client = follow(site.node, "demo-7,other-1")
    count_to(1, 1)
    version, system, timeline, _, rest = last_id(client, 1).split(".", 4)
    foreign = f"{version}.{int(system) ^ 1}.{timeline}.{'0' * 16}.{rest}"
    client = follow(site.node, "demo-7,other-1", last_event_id=foreign)
    event = client.event()
    assert event.type == "gap", event
    gap = event.json()
    assert gap["reason"] == "epoch" and sorted(gap["groups"]) == ["demo-7", "other-1"], gap
    count_to(2, 2)
    assert numbers(client, 1) == [2]


def test_a_payload_that_cannot_be_had_is_a_gap():
    client = follow(site.node, "demo-7")
    digest = "0" * 64
    site.sql(f"SELECT pg_notify('pgrelay', 't ' || nextval('pgrelay.event_id_seq') || ' 1 demo.x.7 9000 {digest} -')")
    count_to(2, 2)
    event = client.event()
    assert event.type == "gap" and event.json() == {"groups": ["demo-7"], "reason": "payload"}, event
    assert numbers(client, 1) == [2]


def test_an_idle_stream_s_id_stays_young():
    with Node(ping_interval="200ms") as node:
        client = follow(node, "demo-7")
        ids = set()
        while len(ids) < 4:
            client.step()
            ids.add(client.id)
        assert "ping" in client.comments
        client.close()
        count_to(1, 2)
        assert numbers(follow(node, "demo-7", last_event_id=client.id), 2) == [1, 2]


def test_a_browser_comes_back_by_itself_and_misses_nothing():
    port = free_port()
    with Node(port=port) as node:
        chromium().open(f"{chromium().origin}/")
        listen(node.url(f"/events?groups=demo-7&token={site.all_seeing.token}", "http"))
        eventually(lambda: seen("groups.length") == 1)
        count_to(1, 3)
        eventually(lambda: seen("seen.map((m) => m.n)") == [1, 2, 3])
    count_to(4, 6, pad=9000)
    with Node(port=port):
        eventually(lambda: seen("groups.length") == 2, what="the browser has come back")
        count_to(7, 8)
        eventually(lambda: seen("seen.length") >= 8)
        assert seen("seen.map((m) => m.n)") == list(range(1, 9))
        assert seen("ids.length") == 8 and len(set(seen("ids"))) == 8
        chromium().evaluate("source.close(); 0")


# ---- time, and clients that misbehave ----


def test_a_silent_stream_gets_comments():
    with Node(ping_interval="100ms") as node:
        client = follow(node, "demo-1")
        while len(client.comments) < 3:
            assert client.step() is None
        assert set(client.comments) == {"ping"}, client.comments


def test_a_client_that_talks_is_closed_past_a_few_kilobytes():
    with Node() as node:
        client = follow(node, "demo-1")
        client.socket.sendall(b"x" * 4096)
        site.emit("demo", "x", "1", {"n": 1})
        assert client.message() == {"n": 1}
        client.socket.sendall(b"GET /healthz HTTP/1.1\r\n\r\n")
        assert client.wait_end() == []
        assert node.metric("pgrelay_sessions_closed_protocol_total") == 1
        client.close()
        eventually(lambda: node.metric("pgrelay_sessions") == 0)


def test_a_client_that_never_reads_is_closed_and_no_other_notices():
    with Node(queue_limit="1MB") as node:
        slow = follow(node, "demo-9", receive_buffer=4096)
        good = follow(node, "demo-9")
        sent = 0
        while not node.metric("pgrelay_sessions_closed_slow_total"):
            assert sent < 300 << 20, "the slow client is still there"
            flood("9", 100, 6000)
            assert [m["n"] for m in good.take(100)] == list(range(1, 101))
            sent += 600000
        assert sent > 1 << 20, "closed too early"
        got = []
        try:
            while True:
                got.append(slow.message()["n"])
        except Ended:
            pass
        assert got == [n % 100 + 1 for n in range(len(got))] and len(got) < sent // 6000, "a gap before the end"
        flood("9", 1, 10)
        assert good.message()["n"] == 1
        slow.close()
        eventually(lambda: node.metric("pgrelay_sessions") == 1)


def test_a_client_that_takes_nothing_is_given_up_after_the_write_timeout():
    with Node(write_timeout="1s", queue_limit="64MB") as node:
        stuck = follow(node, "demo-4", receive_buffer=4096)
        flood("4", 2000, 6000)
        eventually(lambda: node.metric("pgrelay_sessions") == 0, what="the client that takes nothing is given up")
        assert node.metric("pgrelay_sessions_closed_timeout_total") == 1
        stuck.close()


def test_a_client_that_reads_again_in_time_misses_nothing():
    with Node(queue_limit="64MB") as node:
        slow, witness = follow(node, "demo-2", receive_buffer=4096), follow(node, "demo-2")
        flood("2", 3000, 6000)
        witness.take(3000)
        assert [m["n"] for m in slow.take(3000)] == list(range(1, 3001))


def test_who_is_too_slow_may_lose_what_waits_and_is_told():
    with Node(queue_limit="1MB", overflow="gap") as node:
        slow, good = follow(node, "demo-3", receive_buffer=4096), follow(node, "demo-3")
        sent = 0
        while not node.metric("pgrelay_sessions_overflowed_total"):
            assert sent < 50000, "the slow client is still there"
            site.sql(f"SELECT count(pgrelay.emit('demo', 'x', '3', jsonb_build_object('n', n, 'pad', repeat('x', 6000)))) "
                     f"FROM generate_series({sent + 1}, {sent + 100}) n", "writer")
            sent += 100
            good.take(100)
        site.emit("demo", "x", "3", {"n": sent + 1})
        last, gaps = 0, 0
        while last <= sent:
            event = slow.event()
            if event.type == "gap":
                assert event.json() == {"groups": ["demo-3"], "reason": "overflow"}, event
                gaps += 1
                continue
            n = event.json()["n"]
            assert n == last + 1 or n > last and gaps > 0, (last, n, gaps)
            last = n
        assert gaps > 0 and good.message()["n"] == sent + 1


def test_a_client_that_has_vanished_is_noticed():
    """Nothing answers a comment, so it is TCP that finds out."""
    port, wall = free_port(), Wall()
    try:
        with Node(port=port, listen=f"0.0.0.0:{port}", ping_interval="200ms", write_timeout="1s") as node:
            with inside(wall.far):
                client = follow(node, "demo-1", host=wall.near_address)
            client.step()
            assert node.metric("pgrelay_sessions") == 1
            with wall.cut():
                eventually(lambda: node.metric("pgrelay_sessions") == 0, what="the client that has vanished is noticed")
            assert node.metric("pgrelay_sessions_closed_timeout_total") == 1
    finally:
        wall.remove()


def test_the_node_s_end_ends_the_streams_behind_what_was_sent():
    node = Node()
    client = follow(node, "demo-1")
    flood("1", 100, 3000)
    eventually(lambda: node.metric("pgrelay_deliveries_total") == 100)
    node.process.signal(15)
    assert [e.json()["n"] for e in client.wait_end()] == list(range(1, 101))
    client.close()
    node.stop()


if __name__ == "__main__":
    main()
