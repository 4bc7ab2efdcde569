#!/usr/bin/env python3
"""Clients that break the rules, and what it costs them; nobody else notices."""
import json
import os
import re
import signal
import socket
import time

from faults import resident_bytes
from harness import WRAPPER, Node, eventually, is_sanitized, main, quote, seconds, site
from wire import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, Closed, WebSocket, close_payload, make_frame

LIMIT = 1 << 20
EURO = "€".encode()


def client(node=None):
    return (node or site.node).connect(site.all_seeing)


def assert_closes(code, *frames):
    """Frames, all octets of them at once, then again one octet at a time."""
    for step in (1 << 20, 1):
        c = client()
        data = b"".join(frames)
        if step == 1 and len(data) > 1000:
            continue
        for at in range(0, len(data), step):
            c.send_quietly(data[at:at + step])
        got = c.wait_closed()
        assert got == code, f"closed with {got} instead of {code}"
        assert c.wait_end() == b"", "more came after the close frame"
        c.close()


def groups(n):
    return json.dumps({"groups": {"job_events": [n]}}).encode()


# ---- sizes ----


def test_a_message_just_under_the_limit_is_served():
    c = client()
    head, foot = b'{"groups": {"job_events": [1]}, "pad": "', b'"}'
    c.send_text(head + b"x" * (LIMIT - len(head) - len(foot)) + foot)
    assert c.json()["groups_current"] == ["job_events-1"]


def test_a_message_over_the_limit_is_1009():
    head, foot = b'{"groups": {"job_events": [1]}, "pad": "', b'"}'
    assert_closes(1009, make_frame(TEXT, head + b"x" * (LIMIT + 1 - len(head) - len(foot)) + foot))


def test_fragments_that_add_up_to_more_are_1009():
    part = b"x" * (LIMIT // 4)
    assert_closes(1009, make_frame(TEXT, part, fin=False), *[make_frame(CONTINUATION, part, fin=False)] * 4)


def test_a_header_that_promises_too_much_is_1009_at_once():
    for length in (LIMIT + 1, 1 << 40, (1 << 63) - 1):
        assert_closes(1009, make_frame(TEXT, b"x", length=length))


def test_a_length_with_its_highest_bit_is_a_protocol_error():
    c = client()
    c.send(make_frame(TEXT, b"x", length=1 << 63))
    assert c.wait_closed() in (1002, 1009)


def test_the_limit_is_a_setting():
    with Node(max_message_bytes=1024) as node:
        c = client(node)
        c.send_text(b'{"pad": "' + b"x" * 1013 + b'"}')
        c.assert_alive()
        c.send_text(b'{"pad": "' + b"x" * 1014 + b'"}')
        assert c.wait_closed() == 1009


# ---- text ----


def test_a_binary_message_is_1003():
    assert_closes(1003, make_frame(BINARY, groups(1)))
    assert_closes(1003, make_frame(BINARY, b""))


def test_text_that_is_not_utf8_is_1007():
    for text in (b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"abc\x80", b"{\"a\": \"\xc3\"}", EURO[:2]):
        assert_closes(1007, make_frame(TEXT, text))


def test_text_that_is_not_utf8_over_fragments_is_1007():
    assert_closes(1007, make_frame(TEXT, EURO[:1], fin=False), make_frame(CONTINUATION, b"\x28\xa1"))
    assert_closes(1007, make_frame(TEXT, EURO[:2], fin=False), make_frame(CONTINUATION, b""))


def test_a_character_split_over_fragments_is_whole():
    c = client()
    text = json.dumps({"groups": {"job_events": [1]}, "pad": "€" * 10}, ensure_ascii=False).encode()
    for n, octet in enumerate(text):
        c.send_frame(CONTINUATION if n else TEXT, bytes([octet]), fin=n == len(text) - 1)
    assert c.json()["groups_current"] == ["job_events-1"]


# ---- frames ----


def test_an_unmasked_frame_is_1002():
    assert_closes(1002, make_frame(TEXT, groups(1), mask=False))
    assert_closes(1002, make_frame(PING, b"", mask=False))


def test_a_reserved_bit_is_1002():
    for rsv in (1, 2, 4):
        assert_closes(1002, make_frame(TEXT, groups(1), rsv=rsv))


def test_a_reserved_opcode_is_1002():
    for opcode in (3, 7, 11, 15):
        assert_closes(1002, make_frame(opcode, b""))


def test_a_control_frame_too_long_is_1002():
    assert_closes(1002, make_frame(PING, b"x" * 126))


def test_a_fragmented_control_frame_is_1002():
    assert_closes(1002, make_frame(PING, b"x", fin=False))


def test_a_continuation_of_nothing_is_1002():
    assert_closes(1002, make_frame(CONTINUATION, b"x"))
    assert_closes(1002, make_frame(TEXT, b"{}"), make_frame(CONTINUATION, b"x"))


def test_a_new_message_inside_another_is_1002():
    assert_closes(1002, make_frame(TEXT, b"{", fin=False), make_frame(TEXT, b"}"))


def test_a_fragmented_message_with_a_ping_inside():
    c = client()
    text = groups(7)
    c.send_frame(TEXT, text[:5], fin=False)
    c.send_frame(PING, b"inside")
    frame = c.frame()
    assert (frame.opcode, frame.payload) == (PONG, b"inside"), frame
    c.send_frame(CONTINUATION, b"", fin=False)
    c.send_frame(CONTINUATION, text[5:])
    assert c.json()["groups_current"] == ["job_events-7"]


def test_a_ping_is_answered_with_its_payload():
    c = client()
    for payload in (b"", b"x", b"\x00\xff" * 62, b"x" * 125):
        c.send_frame(PING, payload)
        frame = c.frame()
        assert (frame.opcode, frame.payload) == (PONG, payload), frame


def test_a_pong_nobody_asked_for_is_ignored():
    c = client()
    c.send_frame(PONG, b"hello")
    c.assert_alive()


def test_thousands_of_pings_are_answered():
    c = client()
    count = 5000
    c.send(b"".join(make_frame(PING, str(n).encode()) for n in range(count)))
    answered = [c.frame() for _ in range(count)]
    assert all(f.opcode == PONG for f in answered)
    payloads = [int(f.payload) for f in answered]
    assert payloads == list(range(count))


def test_empty_fragments_without_end_cost_only_the_sender():
    c = client()
    c.send(make_frame(TEXT, b"{", fin=False) + make_frame(CONTINUATION, b"", fin=False) * 10000)
    c.assert_alive()
    c.send_frame(CONTINUATION, b'"groups": {}}')
    assert c.json()["groups_current"] == []
    c.send(make_frame(TEXT, b"{", fin=False) + make_frame(CONTINUATION, b"", fin=False) * 20000)
    assert c.wait_closed() == 1009


def test_many_messages_in_one_packet():
    c = client()
    c.send(make_frame(TEXT, groups(5)) * 1000)
    for _ in range(1000):
        assert c.json()["groups_current"] == ["job_events-5"]


# ---- closing ----


def test_the_close_handshake_echoes_the_code():
    for code in (1000, 1001, 1003, 1011, 3000, 4000, 4999):
        c = client()
        c.send_frame(CLOSE, close_payload(code, b"bye"))
        assert c.wait_closed() == code
        assert c.wait_end() == b""


def test_a_close_without_a_code_is_answered():
    c = client()
    c.send_frame(CLOSE)
    assert c.wait_closed() in (1000, 1005)
    assert c.wait_end() == b""


def test_a_close_frame_with_half_a_code_is_1002():
    assert_closes(1002, make_frame(CLOSE, b"x"))


def test_a_close_frame_with_a_code_that_must_not_be_sent_is_1002():
    for code in (0, 999, 1004, 1005, 1006, 1015, 5000, 65535):
        assert_closes(1002, make_frame(CLOSE, close_payload(code)))


def test_a_close_reason_that_is_not_utf8_is_refused():
    c = client()
    c.send_frame(CLOSE, close_payload(1000, b"\xff"))
    assert c.wait_closed() in (1002, 1007)


def test_what_follows_a_close_frame_is_not_read():
    c = client()
    c.send(make_frame(CLOSE, close_payload(1000)) + make_frame(TEXT, groups(1)))
    assert c.wait_closed() == 1000


def test_a_connection_cut_at_any_place_does_no_harm():
    token = site.all_seeing.token
    probe = WebSocket(site.node.port)
    request = probe.request(f"/websocket/?token={token}")
    probe.close()
    frame = make_frame(TEXT, groups(1))
    for cut in [*range(0, len(request), 7), *range(len(request), len(request) + len(frame) + 1)]:
        c = WebSocket(site.node.port)
        c.send((request + frame)[:cut])
        c.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        c.close()
    client().assert_alive()


# ---- silence ----


def test_a_silent_client_is_pinged_and_then_closed_with_1008():
    with Node(ping_interval="300ms", ping_timeout="700ms") as node:
        c = client(node)
        c.answers_pings = False
        assert c.wait_closed() == 1008
        assert c.pings >= 1


def test_half_a_frame_and_silence_is_1008():
    with Node(ping_interval="300ms", ping_timeout="700ms") as node:
        c = client(node)
        c.answers_pings = False
        c.send(make_frame(TEXT, groups(1))[:9])
        assert c.wait_closed() == 1008


def test_a_silent_client_that_answers_pings_stays():
    with Node(ping_interval="150ms", ping_timeout="10s") as node:
        c = client(node)
        c.join(job_events=[1])
        while c.pings < 5:
            frame = c.frame()
            assert frame.opcode == PING, frame
            c.pings += 1
            c.send_frame(PONG, frame.payload)
        site.emit("job_events", "x", "1", {"n": 1})
        assert c.json() == {"n": 1}


# ---- HTTP ----


def open_socket(node):
    c = WebSocket(node.port, timeout=seconds(20))
    site.clients.append(c)
    return c


def test_garbage_instead_of_http_is_answered_or_closed():
    for garbage in (b"\x00" * 100, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + os.urandom(200), b"hello\r\n\r\n", b"\r\n" * 50,
                    b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"GET  HTTP/1.1\r\n\r\n", b"GET /websocket/ HTTP/1.1\r\nbroken\r\n\r\n",
                    b"GET /%00%0d%0a HTTP/1.1\r\nHost: x\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"):
        c = open_socket(site.node)
        c.send(garbage)
        c.socket.shutdown(socket.SHUT_WR)
        answer = bytes(c.wait_end())
        assert b" 200 " not in answer.split(b"\r\n")[0] and b" 101 " not in answer, (garbage, answer)
    assert site.node.get("/healthz").status == 200


def test_huge_headers_are_refused():
    node = site.node
    for request in (b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: " + b"y" * (4 << 20) + b"\r\n\r\n",
                    b"GET /" + b"y" * (4 << 20) + b" HTTP/1.1\r\nHost: x\r\n\r\n",
                    b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * (1 << 19) + b"\r\n"):
        c = open_socket(node)
        try:
            c.send(request)
        except (BrokenPipeError, ConnectionResetError):
            continue
        try:
            c.read_response()
            assert 400 <= c.status < 500, c.status
        except (Closed, ConnectionResetError):
            pass
    assert node.get("/healthz").status == 200


def test_a_huge_body_is_not_taken():
    c = open_socket(site.node)
    c.send(b"POST /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000000\r\n\r\n" + b"x" * 100000)
    try:
        c.read_response()
        assert 400 <= c.status < 500, c.status
    except (Closed, ConnectionResetError):
        pass


def test_a_request_that_never_ends_is_cut_off():
    with Node(handshake_timeout="1s") as node:
        start = time.monotonic()
        for part in (b"", b"G", b"GET /websocket/ HTTP/1.1\r\nHost: x\r\n"):
            c = open_socket(node)
            c.send(part)
            c.wait_end()
        assert time.monotonic() - start >= 2


def test_a_request_that_drips_is_cut_off_too():
    """Slowloris: a header line every tenth of a second must not stretch the time-out."""
    with Node(handshake_timeout="1s") as node:
        c = open_socket(node)
        c.send(b"GET /websocket/ HTTP/1.1\r\nHost: x\r\n")
        start = time.monotonic()
        c.socket.settimeout(0.1)
        while True:
            assert time.monotonic() - start < seconds(10), "the connection is still open"
            try:
                c.send(b"X: y\r\n")
                if not c.socket.recv(4096):
                    break
            except socket.timeout:
                continue
            except (BrokenPipeError, ConnectionResetError):
                break
        assert time.monotonic() - start > 0.5


def test_a_served_session_outlives_the_handshake_timeout():
    with Node(handshake_timeout=f"{seconds(1)}s", ping_interval="200ms") as node:
        c = client(node)
        c.join(job_events=[1])
        end = time.monotonic() + 1.5 * seconds(1)
        while time.monotonic() < end:
            frame = c.frame()
            assert frame.opcode == PING, frame
            c.send_frame(PONG, frame.payload)
        c.assert_alive()


# ---- nobody else notices ----


def test_hostile_neighbours_do_not_disturb_a_client():
    with Node() as node:
        good = client(node)
        good.join(job_events=[1])
        for n in range(30):
            for bad in (make_frame(TEXT, b"\xff"), make_frame(BINARY, b"x"), make_frame(TEXT, b"x", mask=False), b"\xff" * 50,
                        make_frame(TEXT, b"{" * 1000)):
                c = client(node)
                c.send(bad)
                c.close()
            site.emit("job_events", "x", "1", {"n": n})
        assert good.take(30) == [{"n": n} for n in range(30)]
        eventually(lambda: node.metric("pgrelay_sessions") == 1, what="the sessions of those who went are gone")


def test_a_client_that_pings_and_never_reads_costs_no_memory():
    def resident():
        with open(f"/proc/{site.node.pid}/status") as f:
            return next(int(line.split()[1]) for line in f if line.startswith("VmRSS"))

    c = client()
    before = resident()
    c.socket.settimeout(seconds(2))
    pings = make_frame(PING, b"x" * 125) * 1000
    sent = 0
    try:
        while sent < 60 << 20:
            c.send(pings)
            sent += len(pings)
    except OSError:
        pass
    grown = (resident() - before) / 1024
    if not is_sanitized() and not WRAPPER:
        assert grown < 60, f"the node grew by {grown:.0f} MB for {sent >> 20} MB of pings"
    client().assert_alive()


def test_pings_behind_the_node_s_close_frame_cost_no_memory():
    """Nobody may answer them any more, so their answers must not be kept either."""
    user = site.user("job_events.*.*")
    c = site.node.connect(user)
    before = resident_bytes(site.node.pid)
    site.sql(f"DELETE FROM pgrelay.users WHERE name = {quote(user.name)}")
    assert c.frame().opcode == CLOSE
    c.socket.settimeout(seconds(2))
    pings = make_frame(PING) * 100000
    try:
        for _ in range(10):
            c.send(pings)
    except OSError:
        pass
    grown = resident_bytes(site.node.pid) - before
    if not is_sanitized() and not WRAPPER:
        assert grown < 20 << 20, grown
    client().assert_alive()


def test_a_cursor_client_behind_a_ticket_that_is_slow_is_not_too_slow():
    """Each turn's cursor behind the ticket held a block, which counted against queue_limit."""
    with Node(queue_limit="1MB") as node:
        c = client(node)
        assert c.ask({"groups": {"demo": [1]}, "cursor": True})[1]["groups_current"] == ["demo-1"]
        query = int(re.findall(r"query: connected .* backend ([0-9]+)", node.log)[-1])
        os.kill(query, signal.SIGSTOP)
        try:
            site.emit("demo", "x", "1", {"big": "x" * 20000})
            for n in range(300):
                site.emit("demo", "x", "1", {"n": n})
            eventually(lambda: node.metric("pgrelay_events_total") >= 301, what="all has been heard")
        finally:
            os.kill(query, signal.SIGCONT)
        messages = []
        while len(messages) < 301:
            message = c.json()
            if "cursor" not in message:
                messages.append(message)
        assert [m.get("n") for m in messages] == [None, *range(300)], messages[:3]


# ---- whoever may NOTIFY ----


def forge(channel, *payloads):
    for payload in payloads:
        site.sql(f"SELECT pg_notify({quote(channel)}, {quote(payload)})", "writer")


def test_a_forged_deferred_batch_is_read_from_the_log_for_once_only():
    with Node() as node:
        c = client(node).join(demo=[1])
        before = node.metric("pgrelay_catch_ups_total")
        forge("pgrelay", "d 999999999:999999999: 999999999:999999999:")
        eventually(lambda: node.metric("pgrelay_records_malformed_total") == 1, what="the batch is found to be none")
        site.emit("demo", "x", "1", {"n": 1})
        assert c.json() == {"n": 1}
        assert node.metric("pgrelay_catch_ups_total") == before + 1


def test_a_forged_batch_from_the_future_hides_nothing_for_long():
    site.sql("SELECT pgrelay.announce_set('later', 'deferred')")
    with Node(probe_interval="200ms") as node:
        c = client(node).join(later=[1])
        site.emit("later", "x", "1", {"n": 0})
        assert c.json() == {"n": 0}
        forge("pgrelay", "d 3:3: 999999999:999999999:")
        for n in range(1, 20):
            site.emit("later", "x", "1", {"n": n})
        assert c.take(19) == [{"n": n} for n in range(1, 20)]


if __name__ == "__main__":
    main()
