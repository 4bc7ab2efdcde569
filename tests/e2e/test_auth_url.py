#!/usr/bin/env python3
"""A web application says whose a browser's cookies are (setting auth_url): an HTTP server of the test's own, that the node asks."""
import base64
import concurrent.futures
import contextlib
import http.server
import os
import signal
import socket
import socketserver
import ssl
import threading
import time

from certificates import Authority
from harness import Node, eventually, free_port, main, seconds, site
from stream import Stream

REQUEST = "/whoami?by=pgrelay"


class Application(socketserver.ThreadingTCPServer):
    """Knows sessions: the cookie sid's value to a name. `asked` is what it was asked, as (path, headers)."""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 256

    def __init__(self, port=None, tls=None, host="127.0.0.1"):
        self.port = port or free_port()
        self.sessions, self.asked, self.open_sockets, self.tls = {}, [], set(), tls
        self.answer = self.tell
        self.let_go = threading.Event()
        super().__init__((host, self.port), Handler)
        self.thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.thread.start()

    def url(self, scheme="http", host="127.0.0.1"):
        return f"{scheme}://{host}:{self.port}{REQUEST}"

    def log_in(self, name, sid=None):
        """The Cookie header of a new session."""
        sid = sid or f"s{len(self.sessions)}-{base64.b16encode(os.urandom(8)).decode()}"
        self.sessions[sid] = name
        site.tokens.append(sid)
        return f"sid={sid}"

    def log_out(self, cookies):
        del self.sessions[cookies.split("=")[1].split(";")[0]]

    def tell(self, handler):
        sid = next((c.split("=", 1)[1] for c in handler.headers.get("Cookie", "").split("; ") if c.startswith("sid=")), None)
        name = self.sessions.get(sid)
        handler.reply(200 if name else 401, {"X-User": name} if name else {}, b"what the page is, nobody reads" * 100)

    def hang(self, handler):
        self.let_go.wait(60)
        handler.close_connection = True

    def finish_request(self, request, client_address):
        if self.tls is not None:
            request = self.tls.wrap_socket(request, server_side=True)
        self.open_sockets.add(request)
        try:
            super().finish_request(request, client_address)
        finally:
            request.close()

    def handle_error(self, request, client_address):
        pass  # a client that trusts nobody, or has gone

    def stop(self):
        self.shutdown()
        self.server_close()
        self.let_go.set()
        for connection in list(self.open_sockets):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.server.asked.append((self.path, dict(self.headers)))
        self.server.answer(self)

    def reply(self, status, headers=(), body=b""):
        """headers: a dictionary, or pairs."""
        self.send_response(status)
        for name, value in headers.items() if isinstance(headers, dict) else headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def at_an_application(scheme="http", host="127.0.0.1", tls=None, **settings):
    """An application, and a node that asks it."""
    with Application(tls=tls) as application, Node(auth_url=application.url(scheme, host), **settings) as node:
        yield application, node


def enter(node, cookies, path="/websocket/", **headers):
    """The accepted user's id, or the status of the refusal."""
    client = node.dial(path, {"Cookie": cookies, **headers})
    return client.json()["user"] if client.status == 101 else client.status


def open_session(node, cookies, **headers):
    client = node.dial("/websocket/", {"Cookie": cookies, **headers})
    assert client.status == 101, (client.status, client.body)
    assert client.json()["accept"] is True
    return client


# ---- who it is ----


def test_the_application_names_the_user():
    user = site.user("*.*.*")
    with at_an_application() as (application, node):
        cookies = application.log_in(user.name)
        assert enter(node, cookies) == user.id
        path, headers = application.asked[-1]
        assert path == REQUEST and headers["Cookie"] == cookies and headers["Host"] == f"127.0.0.1:{application.port}", application.asked
        assert headers["X-Original-URI"] == "/websocket/" and headers["X-Forwarded-For"] == "127.0.0.1", headers


def test_what_else_the_application_is_told():
    user = site.user("*.*.*")
    with at_an_application() as (application, node):
        cookies = application.log_in(user.name)
        headers = {"User-Agent": "Browser/1 (x; y: z)", "Accept-Language": "de, en;q=0.5", "Origin": f"http://127.0.0.1:{node.port}"}
        assert enter(node, cookies, "/api/websocket/?a=1&b=%20c", **headers) == user.id
        told = application.asked[-1][1]
        assert told["User-Agent"] == "Browser/1 (x; y: z)" and told["Accept-Language"] == "de, en;q=0.5", told
        assert told["X-Original-URI"] == "/api/websocket/?a=1&b=%20c", told
        assert "Origin" not in told and "Sec-WebSocket-Key" not in told, told


def test_the_session_sees_what_the_user_may_see():
    user = site.user("jobs.*.*")
    with at_an_application() as (application, node):
        client = open_session(node, application.log_in(user.name))
        errors, reply = client.ask({"groups": {"jobs": ["summary"], "job_events": [1]}})
        assert errors == ["access denied to channel job_events for resource id 1"] and reply["groups_current"] == ["jobs-summary"], (errors, reply)


def test_cookies_of_any_name_and_token_cookies_too():
    user = site.user("*.*.*")
    with at_an_application() as (application, node):
        cookies = application.log_in(user.name)
        assert enter(node, f"a=b; {cookies}; c=d") == user.id
        assert enter(node, f'token="{user.token}"; {cookies}') == user.id
        assert enter(node, f'token="{user.token}"') == 401, "the database knows that token, but is not asked"
        assert enter(node, f"awx_sessionid={user.token}; csrftoken=c") == 401


def test_tokens_are_the_database_s_as_ever():
    user = site.user("*.*.*")
    with at_an_application() as (application, node):
        application.answer = application.hang
        assert node.connect(user).user == user.id
        client = node.dial("/websocket/", {"Authorization": f"Bearer {user.token}", "Cookie": "sid=nobody"})
        assert client.status == 101, client.status
        assert not application.asked, application.asked


def test_no_cookie_is_401_without_a_question():
    with at_an_application() as (application, node):
        assert node.dial("/websocket/").status == 401
        assert not application.asked


def test_server_sent_events_by_cookie():
    user = site.user("jobs.*.*")
    with at_an_application() as (application, node):
        cookies = application.log_in(user.name)
        assert node.get("/events?groups=job_events-42", headers={"Cookie": cookies}).status == 403
        assert node.get("/events?groups=jobs-summary", headers={"Cookie": "sid=nobody"}).status == 401
        stream = Stream(node.port, "jobs-summary", headers={"Cookie": cookies})
        site.clients.append(stream)
        assert stream.status == 200 and stream.groups()[1]["groups_current"] == ["jobs-summary"]


# ---- refusals ----


def test_401_and_403_are_refusals():
    with at_an_application() as (application, node):
        assert enter(node, "sid=nobody") == 401
        application.answer = lambda handler: handler.reply(403, {"X-User": "root"})
        assert enter(node, "sid=nobody") == 401


def test_a_name_that_the_database_does_not_know_is_refused():
    with at_an_application() as (application, node):
        assert enter(node, application.log_in("nobody in particular")) == 401


def test_a_foreign_origin_is_403_without_a_question():
    user = site.user("*.*.*")
    with at_an_application() as (application, node):
        cookies = application.log_in(user.name)
        assert enter(node, cookies, Origin="http://evil.example") == 403
        assert not application.asked
        assert enter(node, cookies, Origin=f"http://127.0.0.1:{node.port}") == user.id


def test_answers_that_say_nothing_are_503():
    user = site.user("*.*.*")
    with at_an_application() as (application, node):
        cookies = application.log_in(user.name)
        answers = [(500, {"X-User": user.name}), (302, {"Location": "/login", "X-User": user.name}), (200, {}), (200, {"X-User": ""}),
                   (200, {"X-User": "x" * 256}), (200, (("X-User", user.name), ("x-user", "somebody"))), (404, {}), (429, {"X-User": user.name})]
        for status, headers in answers:
            application.answer = lambda handler: handler.reply(status, headers)
            client = node.dial("/websocket/", {"Cookie": cookies})
            assert client.status == 503 and client.headers["retry-after"] == "2", (status, headers, client.status)
        assert (node.metric("pgrelay_subrequests_total"), node.metric("pgrelay_subrequests_failed_total")) == (len(answers), len(answers))
        application.answer = application.tell
        assert enter(node, cookies) == user.id


def test_answers_that_are_no_http_are_503():
    user = site.user("*.*.*")
    with at_an_application() as (application, node):
        cookies = application.log_in(user.name)
        for octets in (b"", b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 200 OK\r\nX-User", b"HTTP/1.1 200 OK\r\n" + b"X-Much: " + b"x" * 100000 + b"\r\n\r\n"):

            def babble(handler):
                handler.wfile.write(octets)
                handler.close_connection = True

            application.answer = babble
            assert enter(node, cookies) == 503, octets[:40]
        application.answer = application.tell
        assert enter(node, cookies) == user.id


def test_an_application_that_hangs_is_503_after_query_timeout():
    user = site.user("*.*.*")
    with at_an_application(query_timeout=f"{seconds(1)}s") as (application, node):
        cookies = application.log_in(user.name)
        application.answer = application.hang
        began = time.monotonic()
        assert enter(node, cookies) == 503
        assert 0.9 * seconds(1) < time.monotonic() - began < seconds(5)
        application.answer = application.tell
        assert enter(node, cookies) == user.id


def test_an_application_that_hangs_does_not_hold_up_tokens():
    user = site.user("*.*.*")
    with at_an_application(query_timeout="20s") as (application, node):
        application.answer = application.hang
        with concurrent.futures.ThreadPoolExecutor(40) as pool:
            hanging = [pool.submit(enter, node, f"sid=w{n}") for n in range(40)]
            eventually(lambda: len(application.asked) == 16, what="as many questions as are allowed are under way")
            assert node.connect(user).user == user.id
            application.answer = application.tell
            application.let_go.set()
            assert {f.result() for f in hanging} <= {401, 503}


def test_an_application_that_is_not_there_is_503_and_one_that_comes_back_is_asked():
    user = site.user("*.*.*")
    with Application() as application, Node(auth_url=application.url()) as node:
        cookies = application.log_in(user.name)
        assert enter(node, cookies) == user.id
        application.stop()
        assert enter(node, cookies) == 503
        with Application(application.port) as again:
            again.sessions = application.sessions
            assert enter(node, cookies) == user.id


def test_a_kept_connection_that_the_application_has_closed_harms_nobody():
    user = site.user("*.*.*")
    with at_an_application() as (application, node):
        cookies = application.log_in(user.name)
        for _ in range(5):
            assert enter(node, cookies) == user.id
            for connection in list(application.open_sockets):
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)


def test_connections_are_kept():
    user = site.user("*.*.*")
    with at_an_application() as (application, node):
        cookies = application.log_in(user.name)
        for _ in range(10):
            assert enter(node, cookies) == user.id
        assert len(application.open_sockets) == 1, application.open_sockets


def test_a_host_by_name_whose_first_address_does_not_answer():
    """localhost is ::1 as well, where nobody listens."""
    user = site.user("*.*.*")
    with at_an_application(host="localhost") as (application, node):
        for _ in range(3):
            assert enter(node, application.log_in(user.name)) == user.id
        assert application.asked[-1][1]["Host"] == f"localhost:{application.port}"


def test_a_host_that_has_no_address_and_a_url_that_is_none_are_503():
    for url in ("http://nowhere.invalid/", "ftp://127.0.0.1/", "what?", "http://user:secret@127.0.0.1/"):
        with Node(auth_url=url) as node:
            assert enter(node, "sid=x") == 503, url
            assert "auth_url" in node.log and "secret" not in node.log


# ---- many at once ----


def begin(node, cookies):
    """A handshake that nobody waits for."""
    client = socket.create_connection(("127.0.0.1", node.port), seconds(20))
    site.clients.append(client)
    client.sendall(f"GET /websocket/ HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                   f"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nCookie: {cookies}\r\n\r\n".encode())
    return client


def test_equal_questions_are_one():
    user = site.user("*.*.*")
    with at_an_application() as (application, node):
        cookies = application.log_in(user.name)
        application.answer = lambda handler: (application.let_go.wait(60), application.tell(handler))
        burst = [begin(node, cookies) for _ in range(20)]
        for _ in range(2):
            node.get("/metrics")  # behind them
        application.let_go.set()
        for client in burst:
            assert client.recv(12) == b"HTTP/1.1 101"
        assert len(application.asked) == 1, len(application.asked)


def test_questions_that_differ_are_not_one():
    ann, bob = site.user("*.*.*"), site.user("*.*.*")
    with at_an_application() as (application, node):
        first, second = application.log_in(ann.name), application.log_in(bob.name)
        with concurrent.futures.ThreadPoolExecutor(20) as pool:
            burst = [pool.submit(enter, node, cookies) for cookies in (first, second) * 10]
            assert [f.result() for f in burst] == [ann.id, bob.id] * 10


def test_many_users_at_once():
    users = [site.user("*.*.*") for _ in range(10)]
    with at_an_application() as (application, node):
        logged_in = [(application.log_in(user.name), user.id) for user in users for _ in range(6)]
        with concurrent.futures.ThreadPoolExecutor(30) as pool:
            entered = [(pool.submit(enter, node, cookies), expected) for cookies, expected in logged_in]
            for future, expected in entered:
                assert future.result() == expected
        assert len(application.open_sockets) <= 16, len(application.open_sockets)


def test_a_client_that_hangs_up_meanwhile():
    user = site.user("*.*.*")
    with at_an_application() as (application, node):
        application.answer = application.hang
        cookies = application.log_in(user.name)
        client = begin(node, cookies)
        eventually(lambda: application.asked, what="it is asked")
        client.close()
        application.answer = application.tell
        assert enter(node, f"{cookies}; other=1") == user.id


# ---- open sessions ----


def test_a_logout_is_noticed_within_auth_url_recheck():
    user = site.user("*.*.*")
    with at_an_application(auth_url_recheck="1s") as (application, node):
        goes, stays = application.log_in(user.name), application.log_in(user.name)
        gone, left = open_session(node, goes), open_session(node, stays)
        eventually(lambda: len(application.asked) >= 6, what="both are asked about again")
        left.assert_alive()
        application.log_out(goes)
        began = time.monotonic()
        assert gone.wait_closed() == 1008
        assert time.monotonic() - began < 1.5 + seconds(0.5)  # 1 s, and a turn of the wheel to begin and to end
        left.assert_alive()


def test_a_session_that_has_become_somebody_else_s_ends():
    ann, bob = site.user("*.*.*"), site.user("*.*.*")
    with at_an_application(auth_url_recheck="1s") as (application, node):
        cookies = application.log_in(ann.name)
        client = open_session(node, cookies)
        application.log_in(bob.name, cookies.split("=")[1])
        assert client.wait_closed() == 1008


def test_an_outage_ends_no_session_but_what_it_hid_does():
    user = site.user("*.*.*")
    with Application() as application, Node(auth_url=application.url(), auth_url_recheck="1s") as node:
        goes, stays = application.log_in(user.name), application.log_in(user.name)
        gone, left = open_session(node, goes), open_session(node, stays)
        application.stop()
        eventually(lambda: node.log.count("could not ask http") >= 1, what="the outage is noticed")
        for client in (gone, left):
            client.assert_alive()
        application.log_out(goes)
        with Application(application.port) as again:
            again.sessions = application.sessions
            assert gone.wait_closed() == 1008
            eventually(lambda: len(again.asked) >= 4, what="the other one is asked about again")
            left.assert_alive()


def test_changed_grants_are_the_database_s_business():
    user = site.user("jobs.*.*", "job_events.*.*")
    with at_an_application() as (application, node):
        client = open_session(node, application.log_in(user.name)).join(jobs=["summary"], job_events=[1])
        asked = len(application.asked)
        site.sql(f"DELETE FROM pgrelay.grants WHERE user_id = {user.id} AND pattern = 'jobs.*.*'")
        assert client.json()["groups_left"] == ["jobs-summary"]
        assert len(application.asked) == asked


def test_a_user_who_is_deleted_is_out():
    user = site.user("jobs.*.*")
    with at_an_application() as (application, node):
        client = open_session(node, application.log_in(user.name))
        site.sql(f"DELETE FROM pgrelay.users WHERE id = {user.id}")
        assert client.wait_closed() == 1008


def test_without_auth_url_its_sessions_end():
    user = site.user("*.*.*")
    with Application() as application:
        with Node(config=f"auth_url = {application.url()}\nauth_url_recheck = 1s\n") as node:
            client = open_session(node, application.log_in(user.name))
            node.configure("")
            node.process.signal(signal.SIGHUP)
            assert client.wait_closed() == 1008


# ---- csrf tokens ----


def test_with_a_csrftoken_cookie_messages_must_carry_it():
    user = site.user("*.*.*")
    with at_an_application() as (application, node):
        cookies = application.log_in(user.name)
        client = open_session(node, f"{cookies}; csrftoken=c1")
        for wrong in ({}, {"xrftoken": "c2"}):
            client.send_json({"groups": {"jobs": ["summary"]}, **wrong})
            assert client.json() == {"error": "access denied to channel"}, wrong
        errors, reply = client.ask({"groups": {"jobs": ["summary"]}, "xrftoken": "c1"})
        assert not errors and reply["groups_current"] == ["jobs-summary"], (errors, reply)
        open_session(node, cookies).join(jobs=["summary"])


# ---- https ----


def test_https_with_an_authority_of_ones_own():
    user, authority = site.user("*.*.*"), Authority()
    with at_an_application("https", "localhost", served_by(authority), tls_ca_file=authority.path) as (application, node):
        cookies = application.log_in(user.name)
        for _ in range(5):
            assert enter(node, cookies) == user.id
        assert len(application.asked) == 5
        assert enter(node, "sid=nobody") == 401


def test_https_over_connections_that_are_closed():
    user, authority = site.user("*.*.*"), Authority()
    with at_an_application("https", "127.0.0.1", served_by(authority), tls_ca_file=authority.path) as (application, node):
        cookies = application.log_in(user.name)
        application.answer = lambda handler: (application.tell(handler), setattr(handler, "close_connection", True))
        for _ in range(3):
            assert enter(node, cookies) == user.id


def test_https_with_a_certificate_that_nobody_trusts_is_503():
    user = site.user("*.*.*")
    with at_an_application("https", "127.0.0.1", served_by(Authority("another")), tls_ca_file=Authority().path) as (application, node):
        assert enter(node, application.log_in(user.name)) == 503
        assert not application.asked
        assert "certificate is not accepted" in node.log, node.log


def test_https_with_another_host_s_certificate_is_503():
    authority = Authority()
    context = served_by(authority, "DNS:elsewhere.example")
    with at_an_application("https", "localhost", context, tls_ca_file=authority.path) as (application, node):
        assert enter(node, application.log_in("anybody")) == 503
        assert not application.asked


def served_by(authority, alt="IP:127.0.0.1,DNS:localhost"):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue(alt=alt))
    return context


# ---- secrets ----


def test_a_token_in_the_url_is_not_told():
    user = site.user("*.*.*")
    with at_an_application() as (application, node):
        cookies = application.log_in(user.name)
        assert enter(node, cookies, f"/websocket/?a=1&Token={user.token}&b=2") == user.id
        assert application.asked[-1][1]["X-Original-URI"] == "/websocket/?a=1&Token=&b=2", application.asked


def test_no_cookie_in_any_log():
    user = site.user("*.*.*")
    with at_an_application(auth_url_recheck="1s", log_level="debug") as (application, node):
        cookies = application.log_in(user.name)
        client = open_session(node, f"{cookies}; csrftoken=do-not-tell-{user.id}")
        eventually(lambda: len(application.asked) >= 2, what="it is asked about again")
        application.answer = lambda handler: handler.reply(500)
        assert enter(node, f"{cookies}; more=1") == 503
        client.close()
        node.stop()
        for text in (node.log, site.pg.log()):
            assert cookies.split("=")[1] not in text and "do-not-tell" not in text


if __name__ == "__main__":
    main()
