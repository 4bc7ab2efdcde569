#!/usr/bin/env python3
"""Who is let in: every way of bringing a credential, their order, cookies and origins, refusals."""
import concurrent.futures

import drp
from harness import Node, eventually, main, quote, seconds, site

PATHS = ("/websocket/", "/websocket", "/api/websocket/", "/api/websocket")


class Cast:
    """Users by name, with everything granted; made when first asked for."""

    def __init__(self):
        self.users = {}

    def __getattr__(self, name):
        if name not in self.users:
            self.users[name] = site.user("*.*.*")
        return self.users[name]


cast = Cast()


def bearer(user):
    return {"Authorization": f"Bearer {user.token}"}


def cookie(text):
    return {"Cookie": text}


def enter(path="/websocket/", headers=(), node=None):
    """Dials; the accepted user's id, or the status of the refusal."""
    client = (node or site.node).dial(path, headers)
    if client.status != 101:
        assert client.headers.get("content-type", "").startswith("text/plain"), client.headers
        assert len(client.body) > 10 and client.body.count("\n") == 1, client.body
        return client.status
    accept = client.json()
    assert set(accept) == {"accept", "user"} and accept["accept"] is True, accept
    return accept["user"]


# ---- the four ways ----


def test_a_bearer_token_on_every_path():
    for path in PATHS:
        assert enter(path, bearer(cast.alice)) == cast.alice.id


def test_a_token_in_the_url_on_every_path():
    for path in PATHS:
        assert enter(f"{path}?token={cast.alice.token}") == cast.alice.id


def test_a_token_in_the_url_among_other_parameters():
    t = cast.alice.token
    assert enter(f"/websocket/?a=1&token={t}&b=token%3Dx") == cast.alice.id
    assert enter(f"/websocket/?mytoken=wrong&token={t}") == cast.alice.id


def test_a_percent_encoded_token_in_the_url():
    encoded = "".join(f"%{ord(c):02x}" for c in cast.alice.token)
    assert enter(f"/websocket/?token={encoded}") == cast.alice.id


def test_a_token_cookie_plain_and_quoted():
    t = cast.alice.token
    for value in (f"token={t}", f'token="{t}"', f'token="{t}";', f"a=b; token={t}; c=d", f'a="x; y"; token="{t}"', f"a=b;token={t}"):
        assert enter(headers=cookie(value)) == cast.alice.id, value


def test_a_cookie_whose_name_only_ends_in_token_is_none():
    assert enter(headers=cookie(f"csrftoken={cast.alice.token}")) == 401
    assert enter(headers=cookie(f"my_token={cast.alice.token}; xtoken={cast.alice.token}")) == 401


def test_a_session_cookie():
    assert enter(headers=cookie(f"awx_sessionid={cast.alice.token}; csrftoken=c1")) == cast.alice.id


def test_the_bearer_scheme_in_any_case():
    for scheme in ("bearer", "BEARER", "Bearer"):
        assert enter(headers={"Authorization": f"{scheme} {cast.alice.token}"}) == cast.alice.id


def test_another_authorization_scheme_is_no_credential():
    assert enter(headers={"Authorization": "Basic YTpi"}) == 401
    assert enter(f"/websocket/?token={cast.alice.token}", {"Authorization": "Basic YTpi"}) == cast.alice.id


# ---- their order ----


def test_the_authorization_header_comes_before_the_url():
    assert enter(f"/websocket/?token={cast.bob.token}", bearer(cast.alice)) == cast.alice.id


def test_the_url_comes_before_the_cookies():
    cookies = cookie(f"token={cast.bob.token}; awx_sessionid={cast.bob.token}; csrftoken=c")
    assert enter(f"/websocket/?token={cast.alice.token}", cookies) == cast.alice.id


def test_the_token_cookie_comes_before_the_session_cookie():
    cookies = cookie(f"awx_sessionid={cast.bob.token}; csrftoken=c; token={cast.alice.token}")
    assert enter(headers=cookies) == cast.alice.id


def test_a_wrong_first_credential_is_not_made_good_by_the_next():
    assert enter(f"/websocket/?token={cast.alice.token}", {"Authorization": "Bearer wrong"}) == 401
    assert enter("/websocket/?token=wrong", cookie(f"token={cast.alice.token}")) == 401
    assert enter(headers=cookie(f"token=wrong; awx_sessionid={cast.alice.token}; csrftoken=c")) == 401


# ---- refusals ----


def test_no_credential_is_401_before_the_upgrade():
    for path in PATHS:
        assert enter(path) == 401


def test_a_wrong_token_is_401():
    for token in ("wrong", "x" * 4000, cast.alice.token[:-1], cast.alice.token + "x", "%27%3B--", "%00", "%ff%fe", "%zz"):
        assert enter(f"/websocket/?token={token}") in (400, 401), token


def test_an_expired_token_is_401():
    user = site.user("*.*.*")
    assert enter(headers=bearer(user)) == user.id
    site.sql(f"UPDATE pgrelay.token SET expires = now() - interval '1 second' WHERE user_id = {user.id}")
    eventually(lambda: enter(headers=bearer(user)) == 401, what="the expired token is refused")


def test_a_token_with_a_time_to_live_is_good_until_then():
    token = site.token("shortlived", "--ttl", "1s")
    eventually(lambda: enter(f"/websocket/?token={token}") == 401, what="the token expires by itself")
    assert isinstance(enter(f"/websocket/?token={site.token('shortlived', '--ttl', '1h')}"), int)


def test_a_revoked_token_is_401_and_its_session_ends():
    user = site.user("*.*.*")
    client = site.node.connect(user)
    token_id = site.sql(f"SELECT id FROM pgrelay.token WHERE user_id = {user.id}")
    site.pgrelay("token", "revoke", token_id)
    eventually(lambda: enter(headers=bearer(user)) == 401, what="the revoked token is refused")
    assert client.wait_closed() == 1008


def test_a_session_ends_when_its_token_expires():
    name = site.user("*.*.*").name
    client = site.node.connect(site.token(name, "--ttl", "2s"))
    assert client.wait_closed() == 1008


def test_rights_revoked_while_nobody_listened_are_taken_away():
    gone, narrowed = site.user("*.*.*"), site.user("job_events.*.*")
    ends, leaves = site.node.connect(gone), site.node.connect(narrowed)
    leaves.join(job_events=[1])
    site.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pgrelay listen';"
             f"DELETE FROM pgrelay.token WHERE user_id = {gone.id}; DELETE FROM pgrelay.grants WHERE user_id = {narrowed.id}")
    assert ends.wait_closed() == 1008
    assert leaves.json()["groups_left"] == ["job_events-1"]


def test_another_token_of_the_user_outlives_a_revoked_one():
    user = site.user("*.*.*")
    second = site.token(user.name)
    keeps, goes = site.node.connect(second), site.node.connect(user)
    first_id = site.sql(f"SELECT min(id) FROM pgrelay.token WHERE user_id = {user.id}")
    site.pgrelay("token", "revoke", first_id)
    goes.wait_closed()
    keeps.assert_alive()
    assert isinstance(enter(f"/websocket/?token={second}"), int)


def test_a_user_without_grants_is_let_in_but_sees_nothing():
    client = site.node.connect(site.user())
    errors, reply = client.ask({"groups": {"job_events": [1]}})
    assert errors == ["access denied to channel job_events for resource id 1"], errors
    assert reply["groups_current"] == [], reply


def test_refusing_as_awx_does():
    with Node(refuse="awx") as node:
        for path, headers in (("/websocket/", {}), ("/websocket/?token=wrong", {}), ("/api/websocket", cookie('token="wrong"'))):
            client = node.dial(path, headers)
            assert client.status == 101, client.status
            assert client.json() == {"close": True}
            code = client.wait_closed()
            assert code is not None, "the connection ended without a close frame"
        assert enter(headers=bearer(cast.alice), node=node) == cast.alice.id


def test_refusing_as_awx_does_covers_foreign_origins():
    with Node(refuse="awx") as node:
        client = node.dial("/websocket/", {**cookie(f"token={cast.alice.token}"), "Origin": "http://evil.example"})
        assert client.status == 101, client.status
        assert client.json() == {"close": True}
        client.wait_closed()


def test_too_many_sessions_are_503():
    with Node(max_sessions=2) as node:
        first, second = node.connect(cast.alice), node.connect(cast.alice)
        assert enter(headers=bearer(cast.alice), node=node) == 503
        first.close()
        eventually(lambda: enter(headers=bearer(cast.alice), node=node) == cast.alice.id, what="a place is free again")
        second.assert_alive()


# ---- xrftoken ----


def session_client(node=None):
    client = (node or site.node).dial("/websocket/", cookie(f"awx_sessionid={cast.alice.token}; csrftoken=c1"))
    assert client.status == 101, client.status
    assert client.json()["accept"] is True
    return client


def test_a_cookie_session_with_its_xrftoken_is_served():
    errors, reply = session_client().ask({"groups": {"jobs": ["summary"]}, "xrftoken": "c1"})
    assert not errors and reply["groups_current"] == ["jobs-summary"], (errors, reply)


def test_a_cookie_session_without_or_with_a_wrong_xrftoken_is_denied():
    client = session_client()
    client.ask({"groups": {"jobs": ["summary"]}, "xrftoken": "c1"})
    for wrong in ({}, {"xrftoken": "c2"}, {"xrftoken": ""}, {"xrftoken": None}, {"xrftoken": 1}, {"xrftoken": "c1x"}, {"xrftoken": ["c1"]}):
        client.send_json({"groups": {"jobs": ["status_changed"]}, **wrong})
        assert client.json() == {"error": "access denied to channel"}, wrong
    errors, reply = client.ask({"groups": {"jobs": ["summary"]}, "xrftoken": "c1"})
    assert not errors and reply == {"groups_current": ["jobs-summary"], "groups_left": [], "groups_joined": []}, reply


def test_a_cookie_session_without_a_csrftoken_can_join_nothing():
    client = site.node.dial("/websocket/", cookie(f"awx_sessionid={cast.alice.token}"))
    if client.status == 101:
        client.json()
        for message in ({}, {"xrftoken": ""}, {"xrftoken": None}):
            client.send_json({"groups": {"jobs": ["summary"]}, **message})
            assert client.json() == {"error": "access denied to channel"}
    else:
        assert client.status == 401, client.status


def test_other_sessions_need_no_xrftoken():
    t = cast.alice.token
    for path, headers in ((f"/websocket/?token={t}", {}), ("/websocket/", bearer(cast.alice)), ("/websocket/", cookie(f'token="{t}"'))):
        client = site.node.dial(path, headers)
        client.json()
        errors, reply = client.ask({"groups": {"jobs": ["summary"]}})
        assert not errors and reply["groups_current"] == ["jobs-summary"], (errors, reply)


# ---- origins ----


def test_cookies_from_a_foreign_origin_are_403():
    for cookies in (f"token={cast.alice.token}", f"awx_sessionid={cast.alice.token}; csrftoken=c"):
        for origin in ("http://evil.example", "http://127.0.0.1:1", "http://127.0.0.1", "null", f"http://evil.example:{site.node.port}"):
            assert enter(headers={**cookie(cookies), "Origin": origin}) == 403, origin


def test_cookies_from_the_own_origin_are_taken():
    for origin in (f"http://127.0.0.1:{site.node.port}", f"https://127.0.0.1:{site.node.port}"):
        assert enter(headers={**cookie(f"token={cast.alice.token}"), "Origin": origin}) == cast.alice.id


def test_the_own_origin_with_the_scheme_s_own_port():
    for host, origin in (("relay.example", "http://relay.example"), ("relay.example:80", "http://relay.example"),
                         ("Relay.Example", "http://relay.example"), ("relay.example:443", "https://relay.example")):
        headers = {**cookie(f"token={cast.alice.token}"), "Origin": origin, "Host": host}
        assert enter(headers=headers) == cast.alice.id, (host, origin)


def test_a_foreign_origin_without_cookies_is_no_matter():
    for headers in (bearer(cast.alice), {}):
        path = "/websocket/" if headers else f"/websocket/?token={cast.alice.token}"
        assert enter(path, {**headers, "Origin": "http://evil.example"}) == cast.alice.id


def test_an_origin_that_cannot_be_compared_is_foreign():
    """Nothing tells that the page is ours."""
    own, token = f"http://127.0.0.1:{site.node.port}", cookie(f"token={cast.alice.token}")
    assert enter(headers={**token, "Origin": own, "Host": None}) in (400, 403)
    assert enter(headers={**token, "Origin": "", "Host": None}) in (400, 403)
    assert enter(headers={**token, "Origin": ""}) in (400, 403)


def test_listed_origins_are_taken():
    with Node(allowed_origins="https://ui.example, http://other.example:8080") as node:
        t = cookie(f"token={cast.alice.token}")
        for origin in ("https://ui.example", "http://other.example:8080", f"http://127.0.0.1:{node.port}"):
            assert enter(headers={**t, "Origin": origin}, node=node) == cast.alice.id, origin
        for origin in ("https://ui.example.evil.example", "http://other.example", "https://xui.example", "https://ui.example:444"):
            assert enter(headers={**t, "Origin": origin}, node=node) == 403, origin


def test_a_star_takes_any_origin():
    with Node(allowed_origins="*") as node:
        assert enter(headers={**cookie(f"token={cast.alice.token}"), "Origin": "http://evil.example"}, node=node) == cast.alice.id


# ---- replaced functions ----


def test_own_functions_may_authenticate_and_authorize():
    site.sql("""CREATE FUNCTION public.my_authenticate(token text)
        RETURNS TABLE (user_id bigint, user_name text, token_id bigint, expires timestamptz) LANGUAGE sql AS
        $$SELECT 4711, 'zoe'::text, 1::bigint, NULL::timestamptz WHERE token = 'open sesame'$$""")
    site.sql("""CREATE FUNCTION public.my_authorize(user_id bigint, patterns text[])
        RETURNS TABLE (requested text, allowed text) LANGUAGE sql AS
        $$SELECT p, p FROM unnest(patterns) p WHERE user_id = 4711 AND p LIKE 'own.%'$$""")
    with Node(authenticate_function="public.my_authenticate", authorize_function="public.my_authorize") as node:
        assert enter(headers=bearer(cast.alice), node=node) == 401
        client = node.dial("/websocket/?token=open%20sesame")
        assert client.status == 101 and client.json() == {"accept": True, "user": 4711}
        errors, reply = client.ask({"groups": {"own": [1], "job_events": [1]}})
        assert errors == ["access denied to channel job_events for resource id 1"], errors
        assert reply["groups_current"] == ["own-1"], reply
        site.emit("own", "x", "1", {"n": 1})
        assert client.json() == {"n": 1}


def test_a_function_that_fails_refuses_and_is_logged():
    site.sql("""CREATE FUNCTION public.broken(token text)
        RETURNS TABLE (user_id bigint, user_name text, token_id bigint, expires timestamptz) LANGUAGE plpgsql AS
        $$BEGIN RAISE EXCEPTION 'broken on purpose'; END$$""")
    with Node(authenticate_function="public.broken") as node:
        assert enter(headers=bearer(cast.alice), node=node) in (500, 503)
        assert "broken on purpose" in node.log, node.log


# ---- names with passwords, where they are taken (docs/drp.md, section 1) ----


def with_password(password="secret-of-his-own", *patterns):
    user = site.user(*(patterns or ("*.*.*",)))
    set_password(user, password)
    return user


def set_password(user, password):
    site.sql(f"SELECT pgrelay.password_set({quote(user.name)}, {quote(password)})")
    site.tokens.append(password)


def counted(name, body, arguments):
    """A function of one's own in front of pgrelay's; returns what counts its calls."""
    site.sql(f"CREATE SEQUENCE public.{name}_calls; GRANT ALL ON SEQUENCE public.{name}_calls TO PUBLIC;"
             f"CREATE FUNCTION public.{name}({arguments}) {body}")
    return lambda: int(site.sql(f"SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM public.{name}_calls"))


USER_ROW = "RETURNS TABLE (user_id bigint, user_name text, token_id bigint, expires timestamptz) LANGUAGE plpgsql"
RIGHT_ROW = "RETURNS TABLE (requested text, allowed text) LANGUAGE plpgsql"


def test_a_changed_password_ends_the_sessions_that_were_opened_with_the_former_one():
    user, other = with_password("first of several"), with_password("of somebody else")
    former = drp.dial(site.node, drp.basic(user.name, "first of several"))
    stays = drp.dial(site.node, drp.basic(other.name, "of somebody else"))
    by_token = drp.connect(site.node, user)
    set_password(user, "second of several")
    assert former.wait_closed() == 1008
    latter = drp.dial(site.node, drp.basic(user.name, "second of several"))
    assert latter.status == 101 and drp.dial(site.node, drp.basic(user.name, "first of several")).status == 403
    site.sql(f"SELECT pgrelay.password_remove({quote(user.name)})")
    assert latter.wait_closed() == 1008
    for client in (stays, by_token):
        client.assert_alive()


def test_the_rights_of_a_session_with_a_password_follow_the_user():
    user = with_password("follows the user", "jobs.*.*")
    client = drp.dial(site.node, drp.basic(user.name, "follows the user")).register("jobs.*.*")
    site.sql(f"DELETE FROM pgrelay.grants WHERE user_id = {user.id}")
    assert client.notice().object == {"Denied": ["jobs.*.*"], "Changed": []}


def test_a_password_that_takes_its_time_holds_up_no_token():
    counted("slow_password", f"""{USER_ROW} AS $$BEGIN PERFORM pg_sleep(60); END$$""", "name text, password text")
    user = site.user("*.*.*")
    with Node(authenticate_password_function="public.slow_password", query_timeout=f"{seconds(3)}s") as node:
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            slow = pool.submit(lambda: drp.dial(node, drp.basic("anybody", "long-winded")).status)
            eventually(lambda: site.sql("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pgrelay password' AND state = 'active'") == "1",
                       what="the password is being checked")
            for _ in range(5):
                node.connect(user).join(jobs=["summary"])
            assert not slow.done()
            assert slow.result() == 503


def show(node, name, password, address):
    """A name with a password, behind a proxy, from the address of that number; the answer's status."""
    return drp.dial(node, {**drp.basic(name, password), "X-Forwarded-For": f"192.0.2.{address}"}).status


def test_so_many_passwords_may_wait():
    counted("waiting_password", f"""{USER_ROW} AS $$BEGIN PERFORM pg_advisory_xact_lock(4711); END$$""", "name text, password text")
    lock = site.session()
    lock("SELECT pg_advisory_lock(4711)")
    with Node(authenticate_password_function="public.waiting_password", query_timeout="20s", trusted_proxies="127.0.0.1") as node:
        with concurrent.futures.ThreadPoolExecutor(200) as pool:
            dialled = [pool.submit(lambda n=n: show(node, f"anybody{n}", "waits", n)) for n in range(160)]
            eventually(lambda: sum(f.done() for f in dialled) == 160 - 128, what="those who are too many are told so")
            assert {f.result() for f in dialled if f.done()} == {503}
            lock("SELECT pg_advisory_unlock(4711)")
            assert {f.result() for f in dialled} == {403, 503}


class Lock:
    """In the way of passwords of names that begin with "anybody"; others are checked as ever."""

    def __init__(self, name, number):
        counted(name, f"""{USER_ROW} AS $$BEGIN
            IF name LIKE 'anybody%' THEN PERFORM pg_advisory_xact_lock({number}); END IF;
            RETURN QUERY SELECT * FROM pgrelay.authenticate_password(name, password); END$$""", "name text, password text")
        self.function, self.number, self.session = f"public.{name}", number, site.session()

    def shut(self):
        self.session(f"SELECT pg_advisory_lock({self.number})")

    def open(self):
        self.session(f"SELECT pg_advisory_unlock({self.number})")

    def __enter__(self):
        self.shut()

    def __exit__(self, *_):
        self.open()


def flood(pool, dial, count):
    """So many at once; those whose answer is there, when no more are to come."""
    dialled = [pool.submit(dial, n) for n in range(count)]
    eventually(lambda: sum(f.done() for f in dialled) == count - 16, what="all but 16 of the address have been turned away")
    assert {f.result() for f in dialled if f.done()} == {429}
    return dialled


def test_of_one_address_16_passwords_may_wait_and_others_come_in():
    """Its clients hang up as well, which makes no room."""
    user, crowded = with_password("from somewhere else"), Lock("flooded_password", 4713)
    with Node(authenticate_password_function=crowded.function, query_timeout="60s", trusted_proxies="127.0.0.1") as node:
        with concurrent.futures.ThreadPoolExecutor(100) as pool, crowded:
            dialled = flood(pool, lambda n: show(node, f"anybody{n}", "tries", 1), 60)
            assert node.metric("pgrelay_passwords_crowded_total") == 60 - 16
            assert node.metric("pgrelay_passwords_checked_total") == 16
            headers = {**drp.basic("anybody", "x"), "X-Forwarded-For": "192.0.2.1"}
            for method, path, body in (("GET", "/api/v3/users/anybody/token", None), ("POST", "/api/v3/events", "{" + " " * 100_000 + "}")):
                refused = drp.request(node, method, path, headers, body)
                assert refused.status == 429 and int(refused.headers["retry-after"]) > 0, refused
                error = refused.json
                assert (error["Model"], error["Code"]) == ("users", 429) and "address" in error["Messages"][0], error
            other = pool.submit(show, node, "anybody else", "waits", 2)
            eventually(lambda: node.metric("pgrelay_passwords_checked_total") == 17, what="another address's is asked about")
            assert not other.done()
            by_token = drp.dial(node, {**drp.bearer(user), "X-Forwarded-For": "192.0.2.1"})
            assert by_token.status == 101, by_token.status
        assert {f.result() for f in dialled} == {403, 429} and other.result() == 403
        assert show(node, user.name, "from somewhere else", 1) == 101


def test_who_hangs_up_makes_no_room_for_more_passwords():
    crowded = Lock("deserted_password", 4714)
    with Node(authenticate_password_function=crowded.function, query_timeout="60s") as node:
        with crowded:
            clients = [drp.Client(node.port) for _ in range(16)]
            for n, client in enumerate(clients):
                client.send(f"GET {drp.PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: {drp.basic('anybody', str(n))['Authorization']}\r\n"
                            "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                            "Sec-WebSocket-Version: 13\r\n\r\n".encode())
            eventually(lambda: node.metric("pgrelay_passwords_checked_total") == 16, what="all are asked about")
            for client in clients:
                client.close()
            assert drp.dial(node, drp.basic("anybody", "tries")).status == 429
        eventually(lambda: drp.dial(node, drp.basic("anybody", "tries")).status == 403, what="they have been checked")


def test_a_node_that_ends_while_passwords_are_checked():
    crowded = Lock("ending_password", 4715)
    node = site.serve(authenticate_password_function=crowded.function, query_timeout="60s")
    with concurrent.futures.ThreadPoolExecutor(4) as pool, crowded:
        dialled = [pool.submit(lambda n=n: drp.dial(node, drp.basic(f"anybody{n}", "waits")).status) for n in range(4)]
        eventually(lambda: node.metric("pgrelay_passwords_checked_total") == 4, what="all are asked about")
        node.stop()
        assert {f.result() for f in dialled} == {503}


def test_who_logs_in_takes_no_room_from_open_sessions():
    """Else whoever tries many passwords would keep a session open whose password is not valid any more."""
    user, crowded = with_password("of a crowded node"), Lock("crowded_password", 4712)
    with Node(authenticate_password_function=crowded.function, query_timeout="20s", trusted_proxies="127.0.0.1") as node:
        client = drp.dial(node, drp.basic(user.name, "of a crowded node"))
        crowded.shut()
        with concurrent.futures.ThreadPoolExecutor(200) as pool:
            dialled = [pool.submit(lambda n=n: show(node, f"anybody{n}", "waits", n)) for n in range(160)]
            eventually(lambda: sum(f.done() for f in dialled) >= 160 - 128, what="no more may log in")
            before = node.metric("pgrelay_passwords_checked_total")
            notify_access(user)
            eventually(lambda: node.metric("pgrelay_passwords_checked_total") == before + 1, what="the session's password is asked about")
            crowded.open()
            assert {f.result() for f in dialled} == {403, 503}
        client.assert_alive()


def test_equal_passwords_in_a_turn_are_one_question():
    calls = counted("counted_password", f"""{USER_ROW} AS $$BEGIN PERFORM nextval('public.counted_password_calls');
        RETURN QUERY SELECT * FROM pgrelay.authenticate_password(name, password); END$$""", "name text, password text")
    user = with_password("asked once for all")
    with Node(authenticate_password_function="public.counted_password") as node:
        clients = [drp.dial(node, drp.basic(user.name, "asked once for all")) for _ in range(20)]
        before = calls()
        notify_access(user)
        eventually(lambda: calls() > before, what="they are asked about again")
        notify_access(user)
        eventually(lambda: calls() > before + 1, what="and again")
        assert calls() == before + 2, calls()
        set_password(user, "another one for all")
        assert {client.wait_closed() for client in clients} == {1008}
        assert calls() == before + 3, calls()


# ---- many sessions of one user ----


def notify_access(user):
    site.sql(f"NOTIFY pgrelay, 'a {user.id}'")


def test_a_token_s_sessions_are_asked_about_with_one_question():
    calls = counted("counted_token", f"""{USER_ROW} AS $$BEGIN PERFORM nextval('public.counted_token_calls');
        RETURN QUERY SELECT * FROM pgrelay.authenticate(token); END$$""", "token text")
    questions = counted("counted_authorize", f"""{RIGHT_ROW} AS $$BEGIN PERFORM nextval('public.counted_authorize_calls');
        RETURN QUERY SELECT * FROM pgrelay.authorize(user_id, patterns); END$$""", "user_id bigint, patterns text[]")
    user, other = site.user("jobs.*.*", "job_events.*.1"), site.user("jobs.*.*")
    with Node(authenticate_function="public.counted_token", authorize_function="public.counted_authorize") as node:
        clients = [node.connect(user).join(jobs=["summary"], job_events=[1]) for _ in range(30)]
        unconcerned = node.connect(other).join(jobs=["summary"])
        before, asked = calls(), questions()
        site.sql(f"DELETE FROM pgrelay.grants WHERE user_id = {user.id} AND pattern = 'job_events.*.1'")
        for client in clients:
            assert client.json() == {"groups_current": ["jobs-summary"], "groups_left": ["job_events-1"], "groups_joined": []}
        assert (calls() - before, questions() - asked) == (1, 1), (calls() - before, questions() - asked)
        site.sql(f"DELETE FROM pgrelay.token WHERE user_id = {user.id}")
        assert {client.wait_closed() for client in clients} == {1008}
        assert (calls() - before, questions() - asked) == (2, 1), (calls() - before, questions() - asked)
        unconcerned.assert_alive()


def test_each_session_gets_its_own_part_of_the_answer():
    user = site.user("job_events.*.*")
    clients = [site.node.connect(user).join(job_events=[n, n + 1, 1000]) for n in range(0, 400, 2)]
    site.sql(f"BEGIN; DELETE FROM pgrelay.grants WHERE user_id = {user.id};"
             f"INSERT INTO pgrelay.grants (user_id, pattern) SELECT {user.id}, 'job_events.*.' || n FROM generate_series(0, 400, 2) n; COMMIT")
    for n, client in zip(range(0, 400, 2), clients):
        reply = client.json()
        assert reply["groups_current"] == [f"job_events-{n}"] and sorted(reply["groups_left"]) == sorted([f"job_events-{n + 1}", "job_events-1000"]), (n, reply)


def test_a_question_that_the_server_refuses_to_answer_harms_its_own_session_only():
    site.sql(f"""CREATE FUNCTION public.picky_authorize(user_id bigint, patterns text[]) {RIGHT_ROW} AS $$BEGIN
        IF 'bad.*.1' = ANY (patterns) AND EXISTS (SELECT FROM pgrelay.setting_of_test) THEN RAISE EXCEPTION 'a bad pattern'; END IF;
        RETURN QUERY SELECT p, p FROM unnest(patterns) p; END$$;
        CREATE TABLE pgrelay.setting_of_test (); GRANT SELECT ON pgrelay.setting_of_test TO PUBLIC""")
    user = site.user("*.*.*")
    with Node(authorize_function="public.picky_authorize") as node:
        bad, good = node.connect(user).join(bad=[1]), node.connect(user).join(jobs=["summary"])
        site.sql("INSERT INTO pgrelay.setting_of_test DEFAULT VALUES")
        notify_access(user)
        assert bad.json()["groups_left"] == ["bad-1"]
        good.assert_alive()
        site.emit("jobs", "summary", "1", {"n": 1})
        assert good.json() == {"n": 1}
    site.sql("DROP TABLE pgrelay.setting_of_test")


if __name__ == "__main__":
    main()
