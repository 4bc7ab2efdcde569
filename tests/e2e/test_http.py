#!/usr/bin/env python3
"""The plain HTTP side, with curl, and upgrades that are none."""
import re
import subprocess

from harness import clean_environment, main, need, seconds, site
from wire import TEXT, WebSocket, make_frame


def curl(path, *options):
    """Status, headers (lower-case names) and body of an answer."""
    argv = [need("curl", "curl"), "-s", "-i", "--max-time", "20", *options, site.node.url(path, "http")]
    done = subprocess.run(argv, env=clean_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert done.returncode == 0, f"curl ended with {done.returncode}: {done.stderr.decode()}"
    head, _, body = done.stdout.decode().partition("\r\n\r\n")
    lines = head.split("\r\n")
    headers = {n.lower(): v.strip() for n, _, v in (line.partition(":") for line in lines[1:])}
    return int(lines[0].split()[1]), headers, body


def assert_error(answer, status):
    """One line of plain text that tells what was wrong."""
    got, headers, body = answer
    assert got == status, answer
    assert headers["content-type"].startswith("text/plain"), headers
    assert len(body) > 10 and body.endswith("\n") and body.count("\n") == 1, body
    return headers


def test_healthz_says_ok():
    status, headers, body = curl("/healthz")
    assert (status, body) == (200, "ok\n"), body
    assert headers["content-type"].startswith("text/plain"), headers


def test_readyz_says_ready():
    status, _, body = curl("/readyz")
    assert (status, body) == (200, "ready\n"), body


def test_a_query_string_changes_nothing():
    assert curl("/healthz?verbose=1")[0] == 200


def test_metrics_are_prometheus_text():
    status, headers, body = curl("/metrics")
    assert status == 200
    assert headers["content-type"].startswith("text/plain"), headers
    described, names = set(), set()
    for line in body.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert kind in ("counter", "gauge", "histogram", "summary"), line
            assert name not in described, f"{name} is described twice"
            described.add(name)
        elif not line.startswith("#"):
            match = re.fullmatch(r'([a-zA-Z_:][a-zA-Z0-9_:]*)(\{(\w+="[^"]*",?)*\})? (-?[0-9.e+-]+|\+Inf|NaN)', line)
            assert match, line
            names.add(match[1])
    assert names and all(n.startswith("pgrelay_") or n.startswith("process_") for n in names), names
    undescribed = {n for n in names if n not in described and re.sub("_(bucket|sum|count)$", "", n) not in described}
    assert not undescribed, undescribed
    assert "pgrelay_records_malformed_total" in names, names


def test_an_unknown_path_is_404():
    assert_error(curl("/"), 404)
    assert_error(curl("/nothing/here"), 404)
    assert_error(curl("/websocket/else"), 404)
    assert_error(curl("/healthzz"), 404)


def test_a_wrong_method_is_405_and_tells_the_right_one():
    for path in ("/healthz", "/readyz", "/metrics", "/websocket/", "/api/websocket/"):
        for method in ("POST", "PUT", "DELETE"):
            headers = assert_error(curl(path, "-X", method), 405)
            assert "GET" in headers["allow"], headers


def test_a_posted_body_is_no_harm():
    assert_error(curl("/healthz", "-d", "x" * 1000), 405)


def test_an_unknown_method_is_refused():
    status, _, _ = curl("/healthz", "-X", "BREW")
    assert status in (400, 405, 501), status


def test_head_has_no_body():
    status, _, body = curl("/healthz", "-I")
    assert status in (200, 405) and body == "", (status, body)


def test_head_tells_the_length():
    _, headers, _ = curl("/healthz", "-I")
    assert headers["content-length"] == "3", headers


def test_a_get_with_a_body_is_refused():
    headers = assert_error(curl("/healthz", "-X", "GET", "-d", "GET /metrics HTTP/1.1"), 400)
    assert headers["connection"] == "close", headers


def test_a_plain_get_of_the_websocket_path_is_426():
    for path in ("/websocket/", "/websocket", "/api/websocket/", "/api/websocket"):
        headers = assert_error(curl(path), 426)
        assert headers["upgrade"].lower() == "websocket", headers


def test_connections_are_kept_alive():
    argv = [need("curl", "curl"), "-s", "-v", site.node.url("/healthz", "http"), site.node.url("/readyz", "http")]
    done = subprocess.run(argv, env=clean_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert done.stdout == b"ok\nready\n", done.stdout
    assert b"Re-using existing connection" in done.stderr, done.stderr.decode()


def test_two_requests_in_one_packet_are_both_answered():
    client = site.node.dial("/healthz")
    client.send(client.request("/healthz", upgrade=False) + client.request("/readyz", upgrade=False, headers={"Connection": "close"}))
    assert client.read_response().body == "ok\n"
    assert client.read_response().body == "ready\n"


def test_a_connection_that_went_takes_nothing_from_the_next():
    """The next one often gets the descriptor of the last; it must get all of its octets, too."""
    def nothing(client):
        pass

    def half_a_request(client):
        client.send(client.request("/healthz")[:30])

    def answered(client):
        client.send(client.request("/healthz", upgrade=False))
        client.read_response()

    def refused(client):
        client.upgrade("/websocket/?token=wrong")

    for before in (nothing, half_a_request, answered, refused):
        for _ in range(5):
            client = WebSocket(site.node.port)
            before(client)
            client.close()
            client = WebSocket(site.node.port, timeout=seconds(5))
            client.upgrade("/websocket/?token=" + "x" * 6000)  # more than one read
            assert client.status == 401, (before.__name__, client.status)
            client.close()


def test_a_wrong_version_is_426_and_names_13():
    user = site.all_seeing
    for version in ("8", "12", "x", ""):
        client = WebSocket(site.node.port)
        client.upgrade(f"/websocket/?token={user.token}", version=version)
        assert client.status in (400, 426), client.status
        assert client.headers.get("sec-websocket-version") == "13", client.headers
        client.close()


def test_a_key_that_is_not_16_octets_is_400():
    user = site.all_seeing
    for key in ("", "short", "dGVzdA==", "!" * 24, "A" * 24, "A" * 44):
        client = WebSocket(site.node.port)
        client.upgrade(f"/websocket/?token={user.token}", key=key)
        assert client.status == 400, (key, client.status)
        client.close()


def test_an_upgrade_without_a_key_is_400():
    client = site.node.dial(f"/websocket/?token={site.all_seeing.token}", {"Sec-WebSocket-Key": None})
    assert client.status == 400, client.status


def test_an_upgrade_to_something_else_is_426():
    client = site.node.dial(f"/websocket/?token={site.all_seeing.token}", {"Upgrade": "h2c"})
    assert client.status in (400, 426), client.status


def test_header_names_and_values_in_any_case_are_taken():
    client = WebSocket(site.node.port)
    request = client.request(f"/websocket/?token={site.all_seeing.token}").decode()
    for a, b in (("Upgrade: websocket", "UPGRADE: WebSocket"), ("Connection: Upgrade", "connection: keep-alive, upgrade"),
                 ("Sec-WebSocket-Key", "sec-websocket-key"), ("Sec-WebSocket-Version", "SEC-WEBSOCKET-VERSION")):
        assert a in request
        request = request.replace(a, b)
    client.send(request.encode())
    client.read_response()
    assert client.status == 101, client.status
    assert client.json()["accept"] is True
    client.close()


def test_no_subprotocol_and_no_extension_is_agreed_to():
    client = site.node.connect(site.all_seeing, headers={
        "Sec-WebSocket-Protocol": "chat, superchat", "Sec-WebSocket-Extensions": "permessage-deflate; client_max_window_bits"})
    assert "sec-websocket-protocol" not in client.headers, client.headers
    assert "sec-websocket-extensions" not in client.headers, client.headers


def test_an_upgrade_in_http_1_0_is_none():
    client = site.node.dial("/healthz")
    assert client.status == 200
    request = client.request(f"/websocket/?token={site.all_seeing.token}").replace(b"HTTP/1.1", b"HTTP/1.0")
    client = WebSocket(site.node.port)
    client.send(request)
    assert client.read_until(b"\r\n").split()[1] in (b"400", b"426", b"505")
    client.close()


def test_an_upgrade_with_a_body_does_no_harm():
    client = WebSocket(site.node.port)
    site.clients.append(client)
    client.upgrade(f"/websocket/?token={site.all_seeing.token}", {"Content-Length": "0"})
    assert client.status in (101, 400), client.status
    client = WebSocket(site.node.port)
    site.clients.append(client)
    client.send(client.request(f"/websocket/?token={site.all_seeing.token}", {"Content-Length": "5"}) + b"hello")
    client.read_response()
    assert client.status in (101, 400), client.status
    if client.status == 101:
        assert client.json()["accept"] is True
        client.assert_alive()


def test_an_upgrade_outside_the_websocket_paths_is_refused():
    for path in ("/healthz", "/", "/websocket/x"):
        client = site.node.dial(f"{path}?token={site.all_seeing.token}")
        assert client.status in (200, 400, 404), client.status
        client.close()


def test_a_frame_sent_with_the_request_is_served():
    client = WebSocket(site.node.port)
    client.send(client.request(f"/websocket/?token={site.all_seeing.token}") + make_frame(TEXT, b'{"groups": {"jobs": ["summary"]}}'))
    client.read_response()
    assert client.status == 101
    assert client.json()["accept"] is True
    assert client.json()["groups_current"] == ["jobs-summary"]
    client.close()


if __name__ == "__main__":
    main()
