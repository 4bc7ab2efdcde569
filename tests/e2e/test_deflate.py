#!/usr/bin/env python3
"""permessage-deflate: the setting compress_min."""
import asyncio
import json
import os
import signal
import struct
import zlib

from faults import kept_out
from harness import TOP_SRCDIR, Node, Process, eventually, main, need_module, node_environment, seconds, site
from wire import CONTINUATION, PING
from wire import TEXT as TEXT_FRAME
from wire import make_frame

OFFER = {"Sec-WebSocket-Extensions": "permessage-deflate; client_max_window_bits"}
ANSWER = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
TEXT = "so many words, " * 100


def deflate(octets):
    z = zlib.compressobj(wbits=-15)
    return (z.compress(octets) + z.flush(zlib.Z_SYNC_FLUSH))[:-4]


def inflate(octets):
    return zlib.decompressobj(wbits=-15).decompress(octets + b"\0\0\xff\xff")


def read_frame(ws):
    """Whether the next frame is compressed, and its payload."""
    first, second = ws.read_exactly(2)
    if second == 126:
        (second,) = struct.unpack(">H", ws.read_exactly(2))
    return bool(first & 0x40), bytes(ws.read_exactly(second))


async def receive(url, groups, count):
    """What a client of python3-websockets gets."""
    async with need_module("websockets", "python3-websockets").connect(url, max_size=None) as ws:
        await ws.recv()
        await ws.send(json.dumps({"groups": groups, "pad": TEXT}))
        reply = json.loads(await ws.recv())
        assert reply["groups_joined"], reply
        site.emit("deploy", "small", "1", {"n": 0})
        for n in range(1, count):
            site.emit("deploy", "big", "1", {"n": n, "text": TEXT * (n * n)})
        return [json.loads(await asyncio.wait_for(ws.recv(), seconds(20))) for _ in range(count)]


def test_without_the_setting_nothing_is_agreed_on():
    with Node() as node:
        ws = node.dial("/websocket/?token=" + site.all_seeing.token, headers=OFFER)
        assert ws.status == 101 and "sec-websocket-extensions" not in ws.headers, ws.headers


def test_a_build_without_zlib_warns_that_the_setting_has_no_effect():
    """Which build this is the handshake tells."""
    with Node(compress_min=100) as node:
        compresses = "sec-websocket-extensions" in node.connect(site.all_seeing, headers=OFFER).headers
        warning = '"compress_min" has no effect: this pgrelay was built without zlib'
        assert node.log.count(warning) == (0 if compresses else 1), node.log
        node.process.signal(signal.SIGHUP)
        eventually(lambda: "settings re-read" in node.log)
        assert node.log.count(warning) == (0 if compresses else 2), node.log
    with Node() as node:
        assert warning not in node.log, node.log


def test_who_does_not_offer_it_gets_plain_messages():
    with Node(compress_min=100) as node:
        ws = node.connect(site.all_seeing)
        assert "sec-websocket-extensions" not in ws.headers
        ws.join(deploy=["big"])
        site.emit("deploy", "big", "1", {"text": TEXT})
        assert ws.json() == {"text": TEXT}


def test_large_messages_are_compressed_and_small_ones_are_not():
    with Node(compress_min=100) as node:
        ws = node.connect(site.all_seeing, headers=OFFER)
        assert ws.headers["sec-websocket-extensions"] == ANSWER
        ws.join(deploy=["big"])
        for text in (TEXT, "few words", TEXT):
            site.emit("deploy", "big", "1", {"text": text})
            compressed, octets = read_frame(ws)
            assert compressed == (text == TEXT) and len(octets) < 100, (compressed, len(octets))
            assert json.loads(inflate(octets) if compressed else octets) == {"text": text}


def test_python_s_client_in_both_directions():
    with Node(compress_min=100) as node:
        url = node.url() + "?token=" + site.all_seeing.token
        got = asyncio.run(receive(url, {"deploy": ["small", "big"]}, 12))
        assert got == [{"n": 0}] + [{"n": n, "text": TEXT * (n * n)} for n in range(1, 12)]


def test_node_s_client():
    with Node(compress_min=100) as node:
        script = os.path.join(TOP_SRCDIR, "tests", "e2e", "clients", "deflate.cjs")
        client = Process(["node", script, node.url() + "?token=" + site.all_seeing.token], node_environment(), name="ws")
        client.wait_for("joined", 20)
        site.emit("deploy", "big", "1", {"text": TEXT})
        client.wait_for("permessage-deflate 1500", 20)
        client.kill()


def test_the_digital_rebar_dialect_as_well():
    with Node(compress_min=100) as node:
        ws = node.dial("/api/v3/ws?token=" + site.all_seeing.token, headers=OFFER)
        assert ws.headers["sec-websocket-extensions"] == ANSWER
        ws.send_text("register deploy.*.*")
        assert ws.json()["Type"] == "websocket"
        site.emit("deploy", "big", "1", {"text": TEXT})
        compressed, octets = read_frame(ws)
        event = json.loads(inflate(octets))
        assert compressed and event["Object"] == {"text": TEXT}, event


def test_what_a_client_may_not_send():
    with Node(compress_min=100, max_message_bytes=5000) as node:
        cases = (
            ("a bomb", OFFER, TEXT_FRAME, 4, deflate(b" " * 100000), 1009),
            ("nonsense", OFFER, TEXT_FRAME, 4, b"\x07nonsense", 1007),
            ("no UTF-8", OFFER, TEXT_FRAME, 4, deflate(b"\xff\xfe"), 1007),
            ("another reserved bit", OFFER, TEXT_FRAME, 2, b"{}", 1002),
            ("a compressed ping", OFFER, PING, 4, b"", 1002),
            ("what was not agreed on", {}, TEXT_FRAME, 4, deflate(b"{}"), 1002),
        )
        for what, headers, opcode, rsv, octets, code in cases:
            ws = node.connect(site.all_seeing, headers=headers)
            ws.send_frame(opcode, octets, rsv=rsv)
            assert ws.wait_closed() == code, what
        eventually(lambda: node.metric("pgrelay_sessions") == 0)


def test_commands_that_wait_are_bounded_by_what_they_were():
    """One read may bring a thousand times what is read."""
    with Node(compress_min=100, max_message_bytes=100000) as node:
        ws = node.dial("/api/v3/ws?token=" + site.all_seeing.token, headers=OFFER)
        command = make_frame(TEXT_FRAME, deflate(b"register deploy.x." + b"x" * 99000), rsv=4)
        with kept_out():
            ws.send(make_frame(TEXT_FRAME, b"register deploy.*.*") + command * 100)
            assert ws.wait_closed() == 1009
        eventually(lambda: node.metric("pgrelay_sessions") == 0)


def test_compressed_requests_are_understood():
    with Node(compress_min=100) as node:
        ws = node.connect(site.all_seeing, headers=OFFER)
        request = deflate(json.dumps({"groups": {"deploy": ["big"]}, "pad": TEXT}).encode())
        half = len(request) // 2
        ws.send_frame(TEXT_FRAME, request[:half], fin=False, rsv=4)
        ws.send_frame(CONTINUATION, request[half:])
        assert ws.json()["groups_joined"] == ["deploy-big"]


if __name__ == "__main__":
    main()
