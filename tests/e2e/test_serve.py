#!/usr/bin/env python3
"""pgrelay serve as a process: starting, ending, signals, settings."""
import contextlib
import os
import re
import signal
import socket
import subprocess
import time

from harness import Node, eventually, free_port, main, seconds, site
from wire import CLOSE, Closed, WebSocket, close_payload


def start_fails(**options):
    """A node that must not start; what it says."""
    node = Node(wait=False, **options)
    status = node.process.wait()
    assert status in (1, 2), node.process.describe()
    assert node.log.strip(), "it says nothing"
    return node.log


# ---- starting ----


def test_a_port_in_use_is_said():
    log = start_fails(listen=f"127.0.0.1:{site.node.port}")
    assert str(site.node.port) in log and re.search("in use", log, re.I), log


def test_a_broken_config_file_is_said():
    for config, word in (("queue_limit = lots\n", "queue_limit"), ("no_such_setting = 1\n", "no_such_setting"), ("nonsense\n", "line 1"),
                         ("\n# fine\nlisten = 'x\n", "line 3"), ("ping_interval = 30\n", "30")):
        log = start_fails(config=config)
        assert word in log, (config, log)


def test_a_config_file_that_is_not_there_is_said():
    done = site.pgrelay("serve", "--config", "/no/such/file", user="node", status=None)
    assert done.returncode in (1, 2) and "/no/such/file" in done.stderr, done.stderr


def test_wrong_options_are_said():
    for argv in (("--no-such-option",), ("--listen",), ("--queue-limit", "x"), ("operand",), ("--ping-interval", "10")):
        done = site.pgrelay("serve", *argv, user="node", status=2)
        assert done.stderr, argv


def test_listen_addresses_that_are_none():
    for listen in ("127.0.0.1", "nonsense", "127.0.0.1:99999", "127.0.0.1:x", "no.such.host.invalid:8052", "[::1:80"):
        assert listen.split(":")[0].strip("[") in start_fails(listen=listen), listen


def test_several_addresses():
    second = free_port()
    with Node() as plain:
        port = plain.port
    with Node(port=port, listen=f"127.0.0.1:{port}, 127.0.0.1:{second}") as node:
        for p in (port, second):
            client = WebSocket(p)
            client.upgrade(f"/websocket/?token={site.all_seeing.token}")
            assert client.status == 101
            client.close()
        assert node.get("/healthz").status == 200


def test_ipv6():
    with socket.socket(socket.AF_INET6) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            print("# this host has no IPv6")
            return
    port = free_port()
    with Node(port=port, listen=f"[::1]:{port},127.0.0.1:{port}"):
        with socket.create_connection(("::1", port)) as s:
            s.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
            assert b" 200 " in s.recv(4096)


def test_two_nodes_share_a_port_when_told_to():
    with Node(reuse_port="on") as first:
        with Node(reuse_port="on", port=first.port, node="second", wait=False) as second:
            eventually(lambda: "ready" in second.log or "listening" in second.log or "serving" in second.log, what="the second is up")

            def connected():  # whichever of the two takes it: it may not hear events yet
                with contextlib.suppress(AssertionError):
                    return first.connect(site.all_seeing)

            client = eventually(connected)
            client.assert_alive()
        client.close()


# ---- ending ----


def test_sigterm_tells_clients_1001_and_ends_with_0():
    for number in (signal.SIGTERM, signal.SIGINT):
        node = Node()
        clients = [node.connect(site.all_seeing) for _ in range(5)]
        node.process.signal(number)
        for client in clients:
            try:
                while True:
                    client.text()
            except Closed as closed:
                assert closed.code == 1001, closed
            client.send_frame(CLOSE, close_payload(1001))
            client.close()
        assert node.process.wait() == 0, node.process.describe()


def test_sigterm_does_not_wait_for_clients_that_do_not_answer():
    node = Node(shutdown_timeout="500ms")
    silent = node.connect(site.all_seeing)
    start = time.monotonic()
    node.process.signal(signal.SIGTERM)
    assert node.process.wait() == 0
    assert time.monotonic() - start < seconds(5)
    assert silent.wait_closed() == 1001


def test_sigterm_in_the_midst_of_much_delivers_what_is_queued():
    node = Node()
    client = node.connect(site.all_seeing).join(demo=[1])
    site.sql("SELECT pgrelay.emit_many(array_agg(('demo', 'x', '1', jsonb_build_object('n', n))::pgrelay.new_event ORDER BY n)) "
             "FROM generate_series(1, 5000) n", "writer")
    first = client.json()
    node.process.signal(signal.SIGTERM)
    got = [first["n"]]
    try:
        while True:
            got.append(client.json()["n"])
    except Closed as closed:
        assert closed.code == 1001, closed
    assert got == list(range(1, len(got) + 1)), got
    client.send_frame(CLOSE, close_payload(1001))
    client.close()
    assert node.process.wait() == 0


def test_sigterm_twice_and_during_the_start():
    node = Node(wait=False)
    eventually(lambda: node.log, what="it has begun")
    node.process.signal(signal.SIGTERM)
    assert node.process.wait() in (0, -signal.SIGTERM), node.process.describe()
    node = Node()
    node.connect(site.all_seeing)
    node.process.signal(signal.SIGTERM)
    node.process.signal(signal.SIGTERM)
    assert node.process.wait() in (0, -signal.SIGTERM), node.process.describe()


def test_no_new_client_is_let_in_while_it_ends():
    node = Node(shutdown_timeout="1s")
    client = node.connect(site.all_seeing)
    node.process.signal(signal.SIGTERM)
    assert client.wait_closed() == 1001
    try:
        late = WebSocket(node.port, timeout=seconds(5))
        late.upgrade(f"/websocket/?token={site.all_seeing.token}")
        assert late.status == 503, late.status
    except (OSError, Closed):
        pass
    client.close()
    assert node.process.wait() == 0


def test_a_lost_log_does_not_end_it():
    """Standard error's reader goes away: a daemon must not die of SIGPIPE."""
    argv, env = site.command("serve", "--listen", f"127.0.0.1:{(port := free_port())}", user="node")
    process = subprocess.Popen(argv, env=env, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
    try:
        process.stderr.readline()
        process.stderr.close()
        node = Node.__new__(Node)
        node.port = port
        eventually(lambda: node.get("/readyz").status == 200, what="it serves")
        client = node.connect(site.all_seeing)
        client.send_frame(3)
        client.wait_closed()
        client.close()
        with contextlib.closing(node.connect(site.all_seeing)) as another:
            another.assert_alive()
        assert process.poll() is None
    finally:
        process.terminate()
        process.wait()


# ---- settings while running ----


def test_sighup_applies_what_has_changed():
    with Node(config="max_groups = 5\n") as node:
        client = node.connect(site.all_seeing)
        client.send_json({"groups": {"a": list(range(6))}})
        assert client.json() == {"error": "too many groups: at most 5"}
        node.configure("max_groups = 6\n")
        node.process.signal(signal.SIGHUP)
        eventually(lambda: re.search(r'setting "max_groups" is now "6"', node.log), what="the change is logged")
        client.join(a=list(range(6)))


def test_sighup_with_a_broken_file_keeps_the_old_settings():
    with Node(config="max_groups = 5\n") as node:
        client = node.connect(site.all_seeing)
        before = len(node.log)
        node.configure("max_groups = many\n")
        node.process.signal(signal.SIGHUP)
        eventually(lambda: "max_groups" in node.log[before:], what="the error is logged")
        client.send_json({"groups": {"a": list(range(6))}})
        assert client.json() == {"error": "too many groups: at most 5"}
        client.assert_alive()
        before = len(node.log)
        os.unlink(node.config_path)
        node.process.signal(signal.SIGHUP)
        eventually(lambda: os.path.basename(node.config_path) in node.log[before:], what="the missing file is logged")
        client.join(a=list(range(5)))


def test_sighup_says_what_needs_a_restart():
    with Node(config="channel = pgrelay\n") as node:
        node.configure("channel = other\n")
        node.process.signal(signal.SIGHUP)
        eventually(lambda: re.search(r'"channel" cannot change', node.log), what="it is said")
        client = node.connect(site.all_seeing).join(demo=[1])
        site.emit("demo", "x", "1", {"n": 1})
        assert client.json() == {"n": 1}


def test_sighup_changes_the_origins():
    with Node(config="allowed_origins = ''\n") as node:
        headers = {"Cookie": f"token={site.all_seeing.token}", "Origin": "http://ui.example"}
        assert node.dial("/websocket/", headers).status == 403
        node.configure("allowed_origins = 'http://ui.example'\n")
        node.process.signal(signal.SIGHUP)
        eventually(lambda: node.dial("/websocket/", headers).status == 101, what="the origin is allowed")


def test_flags_beat_the_environment_and_that_beats_the_file():
    with Node(config="max_groups = 1\nping_interval = 11s\nqueue_limit = 1MB\n", env={"PGRELAY_MAX_GROUPS": "2", "PGRELAY_PING_INTERVAL": "22s"},
              max_groups=3) as node:
        client = node.connect(site.all_seeing)
        client.send_json({"groups": {"a": list(range(4))}})
        assert client.json() == {"error": "too many groups: at most 3"}


# ---- the log ----


def test_log_lines_have_their_form_and_name_the_session():
    with Node() as node:
        client = node.connect(site.all_seeing)
        peer = "{}:{}".format(*client.socket.getsockname())
        client.send_frame(3)
        client.wait_closed()
        client.close()
        eventually(lambda: node.metric("pgrelay_sessions") == 0)
        for line in node.log.splitlines():
            assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z \[\d+\] (debug|info|warning|error): ", line), line
        about = [line for line in node.log.splitlines() if peer in line]
        assert len(about) >= 2 and any("1002" in line for line in about), about


def test_what_a_client_sends_cannot_forge_a_log_line():
    with Node() as node:
        node.get("/%0a2026-01-01T00:00:00.000Z%20[1]%20error:%20forged")
        client = node.dial("/websocket/", {"User-Agent": "x\x1b[2J", "Origin": "http://evil\x7f.example", "Cookie": "token=x"})
        assert client.status in (400, 401, 403)
        assert "\x1b" not in node.log and not re.search(r"^2026-01-01T00:00:00", node.log, re.M)


def test_a_quiet_log_level_is_quiet():
    with Node(log_level="error") as node:
        node.connect(site.all_seeing).assert_alive()
        node.dial("/websocket/?token=wrong")
    assert node.log == "", node.log


if __name__ == "__main__":
    main()
