#!/usr/bin/env python3
"""The API of the Digital Rebar dialect, but for its list of connections: docs/drp.md, sections 1, 5 and 6."""
import base64
import contextlib
import http.client
import json
import os
import re
import socket
import subprocess
import urllib.parse

import drp
from certificates import TlsNode, trusting_anybody
from drp import basic, bearer
from harness import clean_environment, eventually, free_port, main, need, quote, seconds, site

INFO = "/api/v3/info"
EVENTS = "/api/v3/events"
JSON = {"Content-Type": "application/json"}
PASSWORD = "r0cket sk8ts: \u00e4!"
DATES = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")


def ask(path, headers=(), method="GET", body=None, node=None):
    """The Go client's headers; what HTTP says of the answer is checked on the way."""
    return drp.request(node or site.node, method, path, dict(headers), body)


def error(reply, status, model, key, type, message):
    """Asserts an error of section 6: five members in their order."""
    assert reply.status == status, reply
    assert reply.headers["content-type"] == "application/json", reply
    assert list(reply.json) == ["Model", "Key", "Type", "Messages", "Code"], reply
    assert (reply.json["Model"], reply.json["Key"], reply.json["Type"], reply.json["Code"]) == (model, key, type, status), reply
    assert len(reply.json["Messages"]) == 1 and re.search(message, reply.json["Messages"][0]), reply
    assert ("retry-after" in reply.headers) == (status == 503), reply
    return reply


def unauthorized(reply):
    assert (reply.status, reply.body) == (401, ""), reply
    assert reply.headers["www-authenticate"] == "dr-provision", reply
    assert reply.headers["content-length"] == "0" and "html" not in reply.headers.get("content-type", ""), reply


user_with_password = None


def bob():
    """A user with a password and a token, who may see and publish all."""
    global user_with_password
    if user_with_password is None:
        user_with_password = drp.make_user("*.*.*", publish=["*.*.*"], password=PASSWORD)
    return user_with_password


def token_path(name, query=""):
    return f"/api/v3/users/{urllib.parse.quote(name, safe='')}/token{query}"


def event(**fields):
    return {"Type": "machines", "Action": "update", "Key": "1-2", "Object": {"Name": "web1"}, **fields}


def post(body, headers=None, path=EVENTS, node=None, **more):
    if not isinstance(body, (str, bytes)):
        body = json.dumps(body)
    if isinstance(body, str):
        body = body.encode()
    return ask(path, {**JSON, **(bearer(bob()) if headers is None else headers), **more}, "POST", body, node)


def posted(reply):
    """What the last event in the log is, of a request that must have been taken; sessions that end tell of themselves."""
    assert reply.status == 204, reply
    assert reply.headers["content-type"] == "application/json" and reply.body == "", reply
    assert "content-length" not in reply.headers and "transfer-encoding" not in reply.headers, reply
    (type, action, key, payload), = site.rows(
        "SELECT type, action, key, payload::text FROM pgrelay.event WHERE type <> 'connections' ORDER BY id DESC LIMIT 1")
    return type, action, key, payload


# ---- paths ----


def test_a_path_that_is_not_there_is_no_route():
    for path in ("/api/v3/", "/api/v3/machines", "/api/v3/info/", "/api/v3/infos", "/api/v3/users/bob", "/api/v3/users//token",
                 "/api/v3/users/a/b/token", "/api/v3/users/bob/token/", "/api/v3//info", "/api/v3/ws/x", "/api/v3/%69nfo"):
        for method in ("GET", "POST", "DELETE"):
            error(ask(path, method=method), 404, "", path, method, "^No route$")
    error(ask("/api/v3/nothing?token=secretsecret"), 404, "", "/api/v3/nothing", "GET", "^No route$")
    assert ask("/api/v3/nothing", method="HEAD").body == ""


def test_another_method_is_405():
    for path, allow in ((INFO, "GET, HEAD"), (EVENTS, "POST"), (token_path("bob"), "GET")):
        for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
            if method in allow.split(", "):
                continue
            reply = ask(path, method=method)
            assert reply.status == 405 and reply.headers["allow"] == allow, (method, reply)
            if method != "HEAD":
                error(reply, 405, "", path, method, "Method not allowed")


def test_a_part_that_is_no_text_is_400():
    for part in ("%00", "a%00b", "%ff", "%c3", "%ed%a0%80"):
        path = f"/api/v3/users/{part}/token"
        error(ask(path, bearer(bob())), 400, "", path, "GET", "NUL, or is not UTF-8")


def test_errors_under_api_v1_are_json():
    for path, method, status in (("/api/v1/nothing", "GET", 404), ("/api/v1/events", "GET", 405), ("/api/v1/cluster", "POST", 405),
                                 ("/api/v1/", "GET", 404)):
        reply = ask(path, method=method)
        assert reply.status == status and reply.headers["content-type"] == "application/json", reply
        assert list(reply.json) == ["error"], reply
    assert ask("/api/v1/events", method="PUT").headers["allow"] == "POST"
    reply = ask("/nothing")
    assert reply.status == 404 and reply.headers["content-type"].startswith("text/plain"), reply


# ---- credentials ----


def test_credentials_are_taken_from_header_url_and_cookie():
    user = bob()
    pair = urllib.parse.quote(f"{user.name}:{PASSWORD}", safe="")
    for path, headers in (
        (INFO, bearer(user)),
        (INFO, {"Authorization": f"bEARER {user.token}"}),
        (INFO, basic(user.name, PASSWORD)),
        (INFO, {"Authorization": basic(user.name, PASSWORD)["Authorization"].replace("Basic", "basic")}),
        (f"{INFO}?token={user.token}", {}),
        (f"{INFO}?Token={user.token}", {}),
        (f"{INFO}?token={pair}", {}),
        (f"{INFO}?Token={pair}", {}),
        (INFO, {"Cookie": f"token={user.token}"}),
        (f"{INFO}?token=wrong", bearer(user)),
        (f"{INFO}?Token=wrong&token={user.token}", {"Cookie": "token=wrong"}),
    ):
        reply = ask(path, headers)
        assert reply.status == 200, (path, headers, reply)


def test_no_credential_or_a_malformed_one_is_401_without_a_body():
    for headers in ({}, {"Authorization": "Bearer"}, {"Authorization": "Basic"}, {"Authorization": "Basic !!!"},
                    {"Authorization": "Basic " + base64.b64encode(b"nocolon").decode()}, {"Cookie": "other=1"}):
        for path in (INFO, token_path("bob")):
            unauthorized(ask(path, headers))
        unauthorized(post(event(), headers))


def test_a_wrong_password_is_403_of_users():
    for name, password in ((bob().name, "wrong"), (bob().name, ""), ("nobody", PASSWORD)):
        for path in (INFO, token_path(name)):
            error(ask(path, basic(name, password)), 403, "users", "", "AUTH", "password")
        error(post(event(), basic(name, password)), 403, "users", "", "AUTH", "password")


def test_a_wrong_token_is_403_of_system_and_not_told():
    for headers, path in ((bearer("wrong-wrong-wrong"), INFO), ({}, f"{INFO}?token=wrong-wrong-wrong"), ({"Cookie": "token=wrong-wrong-wrong"}, INFO)):
        reply = error(ask(path, headers), 403, "system", "", "AUTH", "token")
        assert "wrong-wrong" not in reply.body, reply
    error(post(event(), bearer("wrong-wrong-wrong")), 403, "system", "", "AUTH", "token")


def test_cookies_from_a_foreign_page_are_403():
    cookie = {"Cookie": f"token={bob().token}"}
    for reply in (ask(INFO, {**cookie, "Origin": "https://evil.example"}), post(event(), {**cookie, "Origin": "https://evil.example"})):
        error(reply, 403, "system", "", "AUTH", "allowed_origins")
    error(ask(f"/api/v3/users/{bob().name}/token", cookie), 403, "users", bob().name, "AUTH", "cookies are not taken")
    own = {**cookie, "Origin": f"http://127.0.0.1:{site.node.port}"}
    assert ask(INFO, own).status == 200
    posted(post(event(), own))


# ---- GET /info ----


def test_info_is_as_go_reads_it():
    reply = ask(INFO, bearer(bob()))
    assert reply.status == 200 and reply.headers["content-type"] == "application/json", reply
    info = reply.json
    assert set(info) == {"version", "id", "local_id", "arch", "os", "api_port", "address", "features", "stats", "scopes", "errors"}, info
    for name in ("version", "id", "local_id", "arch", "os", "address"):
        assert isinstance(info[name], str) and info[name], info
    arch = {"x86_64": "amd64", "aarch64": "arm64", "i686": "386"}.get(os.uname().machine, os.uname().machine)
    assert (info["os"], info["arch"]) == ("linux", arch), info
    assert info["version"] in site.pgrelay("--version").stdout, info
    assert (info["address"], info["api_port"]) == ("127.0.0.1", site.node.port), info
    assert info["errors"] == [] and "api-v3" in info["features"], info
    assert all(set(stat) == {"name", "count"} and isinstance(stat["count"], int) for stat in info["stats"]) and info["stats"], info
    assert all(value == {} for actions in info["scopes"].values() for value in actions.values()), info
    assert "post" in info["scopes"]["events"], info


def test_info_tells_the_node_the_cluster_and_an_ipv6_address():
    port = free_port()
    with site.serve(node="web7", cluster="blue", listen=f"127.0.0.1:{port},[::1]:{port}", port=port) as node:
        connection = http.client.HTTPConnection("::1", port, timeout=seconds(20))
        connection.request("GET", INFO, headers=bearer(bob()))
        info = json.loads(connection.getresponse().read())
        connection.close()
        assert (info["id"], info["local_id"], info["address"], info["api_port"]) == ("blue", "web7", "::1", node.port), info


def test_head_of_info_is_its_length():
    head, get = (ask(INFO, bearer(bob()), method) for method in ("HEAD", "GET"))
    assert head.status == 200 and head.body == "", head
    assert head.headers["content-length"] == get.headers["content-length"], (head, get)


# ---- GET /users/NAME/token ----


def expiry_s(token):
    """In how many seconds it expires."""
    found = site.sql("SELECT round(extract(epoch FROM expires - clock_timestamp())) FROM pgrelay.token"
                     f" WHERE hash = pgrelay._token_hash({quote(token)})")
    assert found is not None, "the token is not in the database"
    return int(found)


def issue(name, headers, query=""):
    reply = ask(token_path(name, query), headers)
    assert reply.status == 200, reply
    assert reply.headers["content-type"] == "application/json" and reply.headers["cache-control"] == "no-store", reply
    assert set(reply.json) == {"Token", "Info"}, reply
    assert reply.json["Info"]["local_id"] == ask(INFO, headers).json["local_id"], reply
    site.tokens.append(reply.json["Token"])
    return reply.json["Token"]


def test_a_token_is_issued_to_password_and_token():
    user = bob()
    first = issue(user.name, basic(user.name, PASSWORD))
    second = issue(user.name, bearer(first))
    assert len({first, second, user.token}) == 3
    for token in (first, second):
        assert ask(INFO, bearer(token)).status == 200
        assert abs(expiry_s(token) - 3600) < 60


def test_ttl_is_from_a_second_to_30_days_and_roles_are_passed_over():
    user = bob()
    for query, ttl in (("?ttl=600", 600), ("?ttl=2592000", 2592000), ("?roles=a,b&ttl=7200", 7200), ("?roles=superuser", 3600), ("?ttl=1", 1)):
        assert abs(expiry_s(issue(user.name, bearer(user), query)) - ttl) < 60, query
    for ttl in ("0", "-1", "2592001", "99999999999999999999", "", "1.5", "1h", "%201", "%00"):
        error(ask(token_path(user.name, f"?ttl={ttl}"), bearer(user)), 400, "users", user.name, "GET", "ttl must be")


def test_a_token_that_has_expired_is_refused():
    token = issue(bob().name, bearer(bob()), "?ttl=1")
    eventually(lambda: ask(INFO, bearer(token)).status == 403)


def test_nobody_gets_a_token_of_somebody_else():
    other = site.user("*.*.*")
    for name in (other.name, "nobody", bob().name.upper(), bob().name + " "):
        before = site.sql("SELECT count(*) FROM pgrelay.token")
        error(ask(token_path(name), bearer(bob())), 403, "users", name, "AUTH", "for himself alone")
        error(ask(token_path(name), basic(bob().name, PASSWORD)), 403, "users", name, "AUTH", "for himself alone")
        assert site.sql("SELECT count(*) FROM pgrelay.token") == before


def test_names_are_decoded():
    name = "a/b c+\u00e4%41?:#"
    token = site.token(name)
    issue(name, bearer(token))


def test_a_token_goes_with_the_one_that_asked_for_it():
    user = drp.make_user("*.*.*", password=PASSWORD)
    child = issue(user.name, bearer(user))
    grandchild = issue(user.name, bearer(child), "?ttl=7200")
    stranger = issue(user.name, basic(user.name, PASSWORD))
    site.sql(f"SELECT pgrelay.token_revoke(id) FROM pgrelay.token WHERE hash = pgrelay._token_hash({quote(user.token)})")
    for token in (user.token, child, grandchild):
        eventually(lambda: ask(INFO, bearer(token)).status == 403, what="the node has heard of it")
        error(ask(INFO, bearer(token)), 403, "system", "", "AUTH", "token")
    assert ask(INFO, bearer(stranger)).status == 200


def test_there_is_an_end_to_tokens():
    user = site.user("*.*.*")
    site.sql("INSERT INTO pgrelay.token (user_id, hash, description, expires)"
             f" SELECT {user.id}, pgrelay._token_hash('many' || n || {quote(user.name)}), '', now() + interval '1 h' FROM generate_series(1, 9999) n")
    error(ask(token_path(user.name), bearer(user)), 403, "users", user.name, "AUTH", "10000 tokens")
    assert ask(INFO, bearer(user)).status == 200


# ---- POST /events ----


def test_an_event_is_in_the_log_and_at_the_clients():
    user = bob()
    watching = drp.watcher(user, "machines.*.*")
    awx = site.node.connect(user).join(machines=["update"])
    (type, action, key, payload) = posted(post(event(Original={"Name": "web0"})))
    assert (type, action, key) == ("machines", "update", "1-2")
    want = {"group_name": "machines", "action": "update", "key": "1-2", "object": {"Name": "web1"}, "original": {"Name": "web0"},
            "principal": f"user:{user.name}"}
    assert json.loads(payload) == want, payload
    assert awx.json() == want
    got = watching.next()
    assert (got.topic, got.object, got.original, got.principal) == ("machines.update.1-2", want["object"], want["original"], want["principal"])
    assert DATES.fullmatch(got.time), got.time


def test_numbers_keep_all_their_digits():
    watching = drp.watcher(bob(), "machines.*.*")
    number = "[12345678901234567890123456789.10, 0.1000000000000000055511151231257827, -0.0]"
    posted(post('{"Type": "machines", "Action": "update", "Key": "n", "Object": %s, "Original": %s}' % (number, number)))
    text = watching.next().text
    assert text.count("12345678901234567890123456789.10") == 2 and text.count("0.1000000000000000055511151231257827") == 2, text


def test_the_principal_is_the_caller_s():
    runner = site.token("runner:0a1b2c3d-0000-4000-8000-000000000001")
    site.sql("SELECT pgrelay.grant_add('runner:0a1b2c3d-0000-4000-8000-000000000001', 'jobs.*.*', true)")
    for headers, principal in ((bearer(bob()), f"user:{bob().name}"), (bearer(runner), "runner:0a1b2c3d-0000-4000-8000-000000000001")):
        for claimed in ({}, {"Principal": "user:eve"}, {"Principal": None}, {"principal": 7}):
            *_, payload = posted(post({"Type": "jobs", "Action": "create", "Key": "j", "Object": None, **claimed}, headers))
            assert json.loads(payload)["principal"] == principal, payload


def test_time_stays_as_it_is_sent():
    watching = drp.watcher(bob(), "machines.*.*")
    for time in ("0001-01-01T00:00:00Z", "2026-11-22T10:00:00.123456789+01:00", "1999-12-31T23:59:59.5Z"):
        *_, payload = posted(post(event(Time=time)))
        assert json.loads(payload)["time"] == time
        assert watching.next().time == time
    for time in (None, ...):
        *_, payload = posted(post(event(**({} if time is ... else {"Time": time}))))
        assert "time" not in json.loads(payload)
        assert watching.next().time > "2026"
    for time in ("", "now", "2026-11-22", "2026-02-30T00:00:00Z", 7):
        error(post(event(Time=time)), 400, "events", "", "POST", "^Time must be")


def test_all_that_go_sends_and_more_is_taken():
    for body, topic in (
        ({"Time": "0001-01-01T00:00:00Z", "Type": "a", "Action": "b", "Key": "c.d", "Principal": "", "Object": None, "Original": None}, ("a", "b", "c.d")),
        ({"Type": "a", "Action": "b"}, ("a", "b", "")),
        ({"Type": "a", "Action": "b", "Key": None}, ("a", "b", "")),
        ({"Type": "a", "Action": "b", "Foo": [{"Type": "x"}], "group_name": "y"}, ("a", "b", "")),
        ({"type": "a", "ACTION": "b", "key": "k"}, ("a", "b", "k")),
        ({"Type": "x_Y-9", "Action": "b", "Key": " *,%\u00e4\U0001f418\"\\ "}, ("x_Y-9", "b", " *,%\u00e4\U0001f418\"\\ ")),
    ):
        assert posted(post(body))[:3] == topic, body


def test_what_is_no_event_is_400():
    logged = "SELECT count(*) FROM pgrelay.event WHERE type <> 'connections'"
    before = site.sql(logged)
    for body, message in (
        ("", "must be a JSON object"), ("{", "not JSON"), ("nonsense", "must be a JSON object"), ("null", "must be a JSON object"),
        ([event()], "must be a JSON object"), (b'{"Type": "\xff"}', "not UTF-8"), ({}, "without Type"), ({"Type": "a"}, "without Action"),
        (event(Type="a.b"), "type must be"), (event(Type=""), "type must be"), (event(Action="b c"), "action must be"),
        (event(Type=["a"]), "Type must be a string"), (event(Key=7), "Key must be a string"), (event(Key="k" * 256), "at most 255 octets"),
        (event(Key="a\nb"), "no control characters"), (json.dumps(event()) + "{}", "behind the end"), (event(Object="\0"), "PostgreSQL cannot hold"),
        ('{"Type": "a", "Action": "b", "Object": ' + "[" * 600 + "]" * 600 + "}", "nested"),
        ('{"Type": "a", "Action": "b", "Object": 1e200000}', "more digits"),
    ):
        error(post(body), 400, "events", "", "POST", message)
    assert site.sql(logged) == before


def test_the_content_type_must_be_json():
    for type in ("application/json", "application/json; charset=utf-8", "APPLICATION/JSON;x=y"):
        posted(post(event(), **{"Content-Type": type}))
    for type in ("text/plain", "application/x-www-form-urlencoded", "application/jsonx", "multipart/form-data; boundary=application/json", ""):
        error(post(event(), **{"Content-Type": type}), 400, "events", "", "POST", "^Invalid content type: application/json is wanted$")
    error(ask(EVENTS, bearer(bob()), "POST", json.dumps(event())), 400, "events", "", "POST", "^Invalid content type")


def test_who_may_publish_is_said_by_grants():
    user = site.user("*.*.*")
    error(post(event(), bearer(user)), 403, "events", "", "AUTH", r"machines\.update\.1-2.*grant add --publish")
    site.sql(f"SELECT pgrelay.grant_add({quote(user.name)}, 'machines.*.1-2', true)")
    posted(post(event(), bearer(user)))
    error(post(event(Key="1-3"), bearer(user)), 403, "events", "", "AUTH", r"machines\.update\.1-3")


def test_big_events_are_taken_whatever_the_credential():
    body = event(Object={"text": "x" * 3_000_000})
    pair = urllib.parse.quote(f"{bob().name}:{PASSWORD}", safe="")
    for headers, query in ((bearer(bob()), ""), (basic(bob().name, PASSWORD), ""), ({}, f"?token={bob().token}"), ({}, f"?Token={bob().token}"), ({}, f"?token={pair}")):
        assert len(posted(post(body, headers, EVENTS + query))[3]) > 3_000_000, (headers, query)


def test_big_events_of_nobody_are_refused_before_they_are_sent():
    body = json.dumps(event(Object="x" * 3_000_000)).encode()
    for headers in ({}, {"Authorization": "Basic !!!"}):
        unauthorized(post(body, headers))
    error(post(body, bearer("wrong-wrong-wrong")), 403, "system", "", "AUTH", "token")
    error(post(body, basic(bob().name, "wrong")), 403, "users", "", "AUTH", "password")
    error(post(body, {"Cookie": f"token={bob().token}"}), 413, "events", "", "POST", "with cookies")


def test_what_is_too_large_is_413():
    with site.serve(max_publish_bytes="100kB") as node:
        posted(post(event(Object="x" * 90_000), node=node))
        for size in (103_000, 1_000_000):
            error(post(event(Object="x" * size), node=node), 413, "events", "", "POST", "max_publish_bytes")


def test_a_body_where_none_is_wanted_is_413_in_the_path_s_own_form():
    big = b" " * 200_000
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        for path in (INFO, "/api/v3/nothing"):
            error(ask(path, bearer(bob()), method, big), 413, "", "", method, "65536 octets")
        reply = ask("/api/v1/cluster", bearer(bob()), method, big)
        assert reply.status == 413 and list(reply.json) == ["error"], reply
        reply = ask("/healthz", {}, method, big)
        assert reply.status == 413 and reply.headers["content-type"].startswith("text/plain"), reply


def chunked(path, size, headers=()):
    connection = http.client.HTTPConnection("127.0.0.1", site.node.port, timeout=seconds(20))
    pieces = [b'{"Type": "machines", "Action": "update", "Object": "', *[b"x" * 1000] * (size // 1000), b'"}']
    try:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.request("POST", path, iter(pieces), {**JSON, **dict(headers)}, encode_chunked=True)
        return drp.Reply(connection.getresponse())
    finally:
        connection.close()


def test_a_chunk_that_is_to_be_huge_is_refused_when_64_kb_of_it_have_come():
    head = f"POST {EVENTS} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {bob().token}\r\nTransfer-Encoding: chunked\r\n\r\n"
    for size in ("40000000", "7fffffffffffffff"):
        with socket.create_connection(("127.0.0.1", site.node.port), seconds(20)) as connection:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.sendall(f"{head}{size}\r\n".encode() + b"x" * 200_000)
            with connection.makefile("rb") as file:
                status, headers = read_head(file)
                assert status == 413 and headers["content-type"] == "application/json", headers


def test_chunks_and_lengths_on_one_connection():
    small, large, huge = (json.dumps(event(Object="x" * size)).encode() for size in (10, 60_000, 3_000_000))
    connection = http.client.HTTPConnection("127.0.0.1", site.node.port, timeout=seconds(20))
    ports = set()
    for body in (iter([large[:7], large[7:]]), huge, iter([small]), small, huge, iter([large])):
        chunks = not isinstance(body, bytes)
        connection.request("POST", EVENTS, body, {**JSON, **bearer(bob())}, encode_chunked=chunks)
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (204, b"")
        ports.add(connection.sock.getsockname())
    connection.close()
    assert len(ports) == 1, ports


def test_chunks_are_taken_up_to_64_kb():
    posted(chunked(EVENTS, 50_000, bearer(bob())))
    error(chunked(EVENTS, 500_000, bearer(bob())), 413, "events", "", "POST", "must tell its Content-Length")
    reply = chunked("/api/v1/events", 500_000, bearer(bob()))
    assert reply.status == 413 and "Content-Length" in reply.json["error"], reply


def read_head(file):
    status = int(file.readline().split()[1])
    headers = {}
    while (line := file.readline().strip()):
        name, _, value = line.decode().partition(":")
        headers[name.lower()] = value.strip()
    return status, headers


def test_a_connection_goes_on_after_a_204():
    """By its octets: nothing stands between one answer and the next."""
    body = json.dumps(event()).encode()
    head = f"POST {EVENTS} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {bob().token}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    last = f"GET {INFO} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {bob().token}\r\nConnection: close\r\n\r\n"
    with socket.create_connection(("127.0.0.1", site.node.port), seconds(20)) as connection:
        connection.sendall((head.encode() + body) * 3 + last.encode())
        with connection.makefile("rb") as file:
            for _ in range(3):
                status, headers = read_head(file)
                assert status == 204 and headers["content-type"] == "application/json" and "content-length" not in headers, headers
            status, headers = read_head(file)
            assert status == 200
            assert json.loads(file.read())["os"] == "linux"


def test_requests_are_counted():
    with site.serve() as node:
        def counts():
            return [node.metric(f"pgrelay_publish{name}_total") for name in ("_requests", "ed_events", "_refused", "_failed")]
        before = counts()
        posted(post(event(), node=node))
        error(post("{", node=node), 400, "events", "", "POST", "not JSON")
        unauthorized(post(event(), {}, node=node))
        error(post(event(Object="x" * 9_000_000), node=node), 413, "events", "", "POST", "max_publish_bytes")
        assert [a - b for a, b in zip(counts(), before)] == [3, 1, 3, 0], "big ones are refused before they are requests"


# ---- with TLS ----


def test_all_this_is_there_with_tls_too():
    """On one connection; and what is refused while it is sent gets its answer."""
    small, big = (json.dumps(event(Object="x" * size)) for size in (10, 3_000_000))
    headers = {**bearer(bob()), **JSON}
    with TlsNode() as node:
        connection = http.client.HTTPSConnection("127.0.0.1", node.tls_port, timeout=seconds(20), context=trusting_anybody())
        connection.request("GET", INFO, headers=bearer(bob()))
        assert json.loads(connection.getresponse().read())["api_port"] == node.tls_port
        port = connection.sock.getsockname()
        for body in (small, big, small, big):
            connection.request("POST", EVENTS, body, headers)
            answer = connection.getresponse()
            assert (answer.status, answer.getheader("Content-Type"), answer.read()) == (204, "application/json", b"")
        connection.request("GET", token_path(bob().name), headers=bearer(bob()))
        site.tokens.append(json.loads(connection.getresponse().read())["Token"])
        assert connection.sock.getsockname() == port
        connection.close()
        for wrong, status in (({}, 401), (bearer("wrong-wrong-wrong"), 403)):
            assert drp.request(node, "POST", EVENTS, {**JSON, **wrong}, big, tls=trusting_anybody()).status == status


# ---- without the database ----


def test_while_the_database_cannot_be_asked_it_is_503():
    user = bob()
    with site.serve(query_timeout=f"{seconds(1)}s") as node:
        assert ask(INFO, bearer(user), node=node).status == 200
        site.drop_sessions()
        site.pg.stop()
        try:
            error(ask(INFO, basic(user.name, PASSWORD), node=node), 503, "system", "", "GET", "try again")
            error(ask(token_path(user.name), bearer(user), node=node), 503, "system", "", "GET", "try again")
            error(post(event(), bearer(user), node=node), 503, "system", "", "POST", "try again")
            error(post(event(Object="x" * 100_000), bearer(user), node=node), 503, "events", "", "POST", "try again")
            error(ask("/api/v3/nothing", node=node), 404, "", "/api/v3/nothing", "GET", "No route")
        finally:
            site.pg.start()
        eventually(lambda: ask(INFO, bearer(user), node=node).status == 200)


# ---- as clients do it ----


def test_the_go_client_s_requests_in_their_order():
    """api.UserSession, Events().Register, PostEvent, the refresh of the token, Close."""
    user = bob()
    token = drp.token_by_basic(site.node, user.name, PASSWORD)
    watching = drp.dial(site.node, bearer(token))
    assert watching.status == 101, watching.body
    watching.register("machines.*.*")
    assert drp.post(site.node, bearer(token), {"Time": "0001-01-01T00:00:00Z", "Type": "machines", "Action": "save", "Key": "u-1", "Principal": "",
                                               "Object": {"Uuid": "u-1"}, "Original": None}).status == 204
    assert watching.next().object == {"Uuid": "u-1"}
    refreshed = ask(token_path(user.name, "?ttl=600"), {**bearer(token), "Cache-Control": "no-store", "Accept-Encoding": "gzip"})
    assert refreshed.status == 200 and "content-encoding" not in refreshed.headers, refreshed
    site.tokens.append(refreshed.json["Token"])
    watching.register("machines.update.u-1", "machines.save.u-1")
    error(ask("/api/v3/machines/u-1", bearer(refreshed.json["Token"])), 404, "", "/api/v3/machines/u-1", "GET", "No route")
    watching.deregister("machines.update.u-1", "machines.save.u-1", "machines.*.*")
    watching.close()


def test_drpcli_s_cached_token():
    """GET /info tests it; when that fails, one by password, then a long one by token."""
    user = bob()
    assert ask(INFO, bearer("an-old-one-from-the-cache")).status == 403
    first = drp.token_by_basic(site.node, user.name, PASSWORD)
    cached = ask(token_path(user.name, "?ttl=7200"), bearer(first)).json["Token"]
    site.tokens.append(cached)
    assert ask(INFO, bearer(cached)).status == 200


def test_curl():
    curl = [need("curl", "curl"), "-sS", "--max-time", "60", "-u", f"{bob().name}:{PASSWORD}"]
    url = site.node.url("", "http")

    def run(*arguments, input=b""):
        done = subprocess.run([*curl, *arguments], input=input, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=clean_environment())
        assert done.returncode == 0, done
        return done.stdout.decode()

    token = json.loads(run(url + token_path(bob().name)))["Token"]
    site.tokens.append(token)
    assert run("-w", "%{http_code} %{content_type}", "-H", "Content-Type: application/json", "-d", json.dumps(event()), url + EVENTS) == "204 application/json"
    big = json.dumps(event(Object="x" * 2_000_000)).encode()
    assert run("-w", "%{http_code}", "-H", "Content-Type: application/json", "-d", "@-", url + EVENTS, input=big) == "204"
    refused = json.loads(run("-d", json.dumps(event()), url + EVENTS))
    assert refused["Messages"] == ["Invalid content type: application/json is wanted"], refused


if __name__ == "__main__":
    main()
