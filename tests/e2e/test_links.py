#!/usr/bin/env python3
"""Links under attack (docs/cluster.md, sections 1 and 3): who listens, replays, alters and reflects, and who has the secret but not
the manners. After each the node that was attacked is well, its true link is still the first one, and the log says what happened."""
import collections
import contextlib
import hashlib
import json
import random
import socket
import time

import wire
from faults import memory_comes_back, pass_time, resident_bytes
from harness import WRAPPER, eventually, is_sanitized, main, seconds, site
from loss import Crowd, Load
from mesh import (PROTOCOL, SECRET, Player, line_time, make_header, new_secret, refused, start, upgrade_headers, wait_linked, wait_log)
from wire import BINARY, TEXT, make_frame

HALF_OPEN = 1000 if not is_sanitized() else 300
REASONS = ("malformed", "secret", "clock", "replay", "cluster", "handshake")


class Victims:
    """Two linked nodes, m and n, for all tests of this file but those that need their own."""

    nodes = None

    def get(self):
        if self.nodes is None or not all(node.is_running() for node in self.nodes):
            self.nodes = [start(name, handshake_timeout="2s") for name in ("m", "n")]
            for node in self.nodes:
                node.process.lasting = True
            wait_linked(self.nodes)
        return self.nodes


victims = Victims()


@contextlib.contextmanager
def attack(lost=0, **expected):
    """On n, which must refuse so many for these reasons and no others, lose so many links, and be well afterwards."""
    m, n = victims.get()
    wait_talkative(n)
    before = {reason: refused(n, reason) for reason in REASONS}
    lost += n.metric("pgrelay_links_lost_total")
    yield n
    wanted = {reason: before[reason] + expected.get(reason, 0) for reason in REASONS}
    eventually(lambda: {reason: refused(n, reason) for reason in REASONS} == wanted or None,
               what=f"{wanted}; there is { {reason: refused(n, reason) for reason in REASONS} }")
    assert_well(m, n)
    assert n.metric("pgrelay_links_lost_total") == lost


def wait_talkative(node):
    """Of refusals it logs one a second."""
    def is_quiet():
        times = [line_time(line) for line in node.log.splitlines() if "refused" in line]
        return not times or time.time() - times[-1] > 1.1

    eventually(is_quiet, what="a second passes without a refusal")


def assert_well(*nodes):
    for node in nodes:
        assert node.is_running() and node.get("/readyz").status == 200
        eventually(lambda: node.metric("pgrelay_links") == len(nodes) - 1, what="only the true links are open")
    clients = [node.connect(site.all_seeing).join(demo=[1]) for node in nodes]
    for pad in (10, 100000):
        site.emit("demo", "x", "1", {"pad": "x" * pad})
    for client in clients:
        assert [len(client.json()["pad"]) for _ in range(2)] == [10, 100000]
        client.close()


def player(name="attacker", **options):
    return Player(name, **options)


def knock(node, header, protocol=PROTOCOL, source=None):
    """The answer's status and text; 101 is undone at once."""
    peer = wire.WebSocket.__new__(wire.WebSocket)
    peer.__dict__.update(timeout=seconds(20), port=node.port, buffer=bytearray(), start=0, status=None, headers={}, body="")
    peer.socket = socket.create_connection(("127.0.0.1", node.port), seconds(20), (source, 0) if source else None)
    with contextlib.closing(peer):
        peer.upgrade("/websocket/relay/", upgrade_headers(header, protocol))
        return peer.status, peer.body.strip()


# ---- the header ----


def test_what_is_no_header_is_malformed():
    true = make_header()
    values = [None, "", "HMAC-SHA256", "HMAC-SHA256 ", "HMAC-SHA256 1700000000", true[:-1], true + "0", true.upper(), true.replace("256", "512"),
              true.replace("HMAC", "hmac"), true.replace(":", ";"), true.replace(":", "::"), true.replace(" ", "  "), make_header(nonce=""),
              make_header(nonce="-1"), make_header(nonce="now"), make_header(nonce="0x7fffffff"), make_header(nonce="1.2.3"), make_header(nonce="1e9"),
              make_header(nonce=f"{int(time.time())}.1234567"), make_header(nonce=f"{int(time.time())}."), make_header(nonce=" 1700000000"),
              make_header(nonce="9" * 100), "HMAC-SHA256 " + "9" * 5000 + ":" + "0" * 64, true + "\x01", true + "\xff"]
    with attack(malformed=len(values)) as n:
        for value in values:
            assert knock(n, value) == (401, "the header secret is missing or malformed: this endpoint is for other nodes and for AWX's relays"), value
        wait_log(n, "refused a peer from 127.0.0.1: the header secret is missing or malformed")


def test_a_header_of_another_secret_is_wrong():
    true = make_header()
    nonce, digest = true.split(" ")[1].split(":")
    altered = [true[:-1] + ("0" if true[-1] != "0" else "1"), true.replace(nonce, f"{float(nonce) + 1:.6f}"), true.replace(nonce, nonce[:-7]),
               f"HMAC-SHA256 {nonce}:{'0' * 64}"]
    with attack(secret=len(altered) + 3) as n:
        for value in [*altered, make_header(new_secret()), make_header(""), make_header(SECRET.encode("unicode_escape").decode())]:
            assert knock(n, value) == (403, "the header secret is wrong: the two sides do not have the same secret"), value
        wait_log(n, "refused a peer from 127.0.0.1: the header secret is wrong")


def test_the_past_and_the_future_are_refused():
    with attack(clock=6) as n:
        for offset, told in ((310, "ahead of"), (4000, "ahead of"), (10**9, "ahead of"), (-310, "behind"), (-4000, "behind")):
            status, text = knock(n, make_header(nonce=str(int(time.time()) + offset)))
            assert status == 403 and text.startswith("its clock is ") and text.endswith(f" s {told} this node's; at most 300 s are accepted"), text
            assert abs(int(text.split(" ")[3]) - abs(offset)) <= seconds(2), text
        assert knock(n, make_header(nonce="0"))[0] == 403
        for offset in (290, -290):
            assert knock(n, make_header(nonce=str(int(time.time()) + offset)))[0] == 101
        wait_log(n, "refused a peer from 127.0.0.1: its clock is 3")


def test_a_header_is_good_for_one_link():
    with attack(replay=5, malformed=2) as n:
        header = make_header()
        assert knock(n, header)[0] == 101
        for source in (None, None, "127.0.0.2"):
            assert knock(n, header, PROTOCOL, source) == (403, "this header secret was used before")
        for unused in (header, make_header()):
            assert knock(n, unused, None)[0] == 401, "a fraction is for links"
        whole = make_header(nonce=str(int(time.time()) - 1))
        assert knock(n, whole)[0] == 101
        assert knock(n, whole, None)[0] == 403, "it came on a link"
        awx = make_header(nonce=str(int(time.time())))
        assert [knock(n, awx, None)[0] for _ in range(3)] == [101] * 3, "AWX's relays have a nonce a second"
        assert knock(n, awx, None, "127.0.0.2")[0] == 403
        wait_log(n, "refused a peer from 127.0.0.1: this header secret was used before")


# ---- the handshake: who is between two nodes ----


@contextlib.contextmanager
def between():
    """a dials z through us: what came from a, up to its hello, and the nodes. Before there was a handshake, recorded as a whole."""
    middle = player("middle")
    with start("a", cluster="between", wait=True) as a, start("z", cluster="between", advertise=f"127.0.0.1:{middle.port}", wait=True) as z:
        yield middle, a, z


class Middle:
    """Passes on messages between a node that has dialled us and the one that it wanted."""

    def __init__(self, middle, z):
        self.near = middle.take()  # a speaks
        self.far = wire.WebSocket(z.port, timeout=seconds(20))
        site.clients.append(self.far)
        self.header = self.near.headers["secret"]
        self.far.upgrade("/websocket/relay/", upgrade_headers(self.header))
        assert self.far.status == 101, self.far.body
        self.log = []

    def from_near(self, change=lambda text: text):
        self.log.append(self.near.text())
        self.far.send_text(change(self.log[-1]))
        return self.log[-1]

    def from_far(self, change=lambda text: text):
        self.log.append(self.far.text())
        self.near.send_text(change(self.log[-1]))
        return self.log[-1]

    def handshake(self):
        self.from_near()
        self.from_far()
        self.from_near()
        return self.log

    def close(self):
        self.near.close()
        self.far.close()


def take_hello(middle):
    """Of those that a has dialled meanwhile, the one that it has not given up."""
    while True:
        with contextlib.suppress(wire.Closed):
            near = middle.take()
            return near, near.text().split(" ")


def flip(field):
    """Another one of the same form, in one field of a message."""
    def change(text):
        words = text.split(" ")
        words[field] = words[field][:-1] + ("0" if words[field][-1] != "0" else "1")
        return " ".join(words)

    return change


def end_of(socket):
    try:
        while True:
            socket.text()
    except wire.Closed as closed:
        return closed.code, closed.reason
    except ConnectionResetError:
        return None, "reset"


def test_what_was_recorded_opens_nothing():
    with between() as (middle, a, z):
        recorded = Middle(middle, z)
        hello, answer, proof = recorded.handshake()
        eventually(lambda: (a.metric("pgrelay_links"), z.metric("pgrelay_links")) == (1, 1), what="they are linked, with us between them")
        for source in (None, "127.0.0.2"):
            assert knock(z, recorded.header, source=source)[0] == 403
        recorded.close()
        for side in (a, z):
            wait_log(side, "is lost: ")
        # a's next header is fresh: with it, what a said before
        second = middle.take()
        replay = wire.WebSocket(z.port, timeout=seconds(20))
        site.clients.append(replay)
        replay.upgrade("/websocket/relay/", upgrade_headers(second.headers["secret"]))
        assert replay.status == 101
        replay.send_text(hello)
        assert replay.text().split(" ")[5] != answer.split(" ")[5], "the challenge is the same again"
        replay.send_text(proof)
        assert end_of(replay) == (1008, "its proof is wrong: it does not have this node's secret")
        second.text()
        second.send_text(answer)  # and to a what z said
        assert second.wait_refused() == (1008, "its proof is wrong: it does not have this node's secret")
        assert refused(z, "handshake") == 1 and refused(z, "replay") == 2 and refused(a, "handshake") == 1
        wait_log(z, "refused: its proof is wrong")
        wait_log(a, "link z: refused: its proof is wrong")
        assert (a.metric("pgrelay_links"), z.metric("pgrelay_links")) == (0, 0)
        Middle(middle, z).handshake()
        eventually(lambda: (a.metric("pgrelay_links"), z.metric("pgrelay_links")) == (1, 1), what="they are linked again")


def test_a_nodes_own_words_open_nothing():
    """All that is sent to a comes from a."""
    with between() as (middle, a, z):
        first = middle.take()
        hello = first.text().split(" ")
        mirror = wire.WebSocket(a.port, timeout=seconds(20))
        site.clients.append(mirror)
        mirror.upgrade("/websocket/relay/", upgrade_headers(first.headers["secret"]))
        assert mirror.status == 101  # its own header: it was not used before
        mirror.send_text(" ".join(["hello", hello[1], hello[4], "0123456789abcdef", hello[2], hello[5]]))
        answer = mirror.text().split(" ")
        first.send_text(" ".join(["hello", hello[1], hello[4], "0123456789abcdef", hello[2], answer[5], answer[6]]))
        assert first.wait_refused() == (1008, "its proof is wrong: it does not have this node's secret")
        mirror.send_text(f"proof {answer[6]}")
        assert end_of(mirror) == (1008, "its proof is wrong: it does not have this node's secret")
        wait_talkative(a)
        second, hello = take_hello(middle)
        second.send_text(" ".join(["hello", hello[1], hello[4], "0123456789abcdef", hello[2], hello[5], answer[6]]))
        assert second.wait_refused() == (1008, "the challenge is this node's own")
        assert refused(a, "handshake") == 3 and a.metric("pgrelay_links") == 0
        wait_log(a, "link z: refused: the challenge is this node's own")


def test_what_is_altered_on_the_way_ends_the_handshake_at_once():
    """One octet in each field of each message."""
    fields = {"hello": ("word", "cluster", "from", "boot", "to", "challenge"), "answer": ("word", "cluster", "from", "boot", "to", "challenge", "proof"),
              "proof": ("word", "proof")}
    with between() as (middle, a, z):
        first = Middle(middle, z)
        first.handshake()
        eventually(lambda: (a.metric("pgrelay_links"), z.metric("pgrelay_links")) == (1, 1), what="they are linked")
        first.close()
        sum_before = sum(refused(node, reason) for node in (a, z) for reason in REASONS)
        count = 0
        for message, names in fields.items():
            for at, name in enumerate(names):
                if name == "word":
                    continue
                count += 1
                m = Middle(middle, z)
                m.from_near(flip(at) if message == "hello" else str)
                with contextlib.suppress(wire.Closed):  # z may have refused it
                    m.from_far(flip(at) if message == "answer" else str)
                    with contextlib.suppress(wire.Closed):  # or a
                        m.from_near(flip(at) if message == "proof" else str)
                        assert message == "proof", f"{message}: {name} was altered, and a goes on"
                eventually(lambda: sum(refused(node, reason) for node in (a, z) for reason in REASONS) == sum_before + count,
                           what=f"{message}: {name} is refused")
                m.close()
                eventually(lambda: (a.metric("pgrelay_links"), z.metric("pgrelay_links")) == (0, 0), what=f"{message}: {name} was altered, no link")


# ---- the handshake: who has the secret ----


def lie_about(field, value, told, reason):
    """As the dialler; returns what was said in the close frame."""
    with attack(**{reason: 1}) as n:
        link = player().dial(n)
        link.send_words(*link.hello("n", **{field: value}))
        assert link.wait_refused() == (1008, told), field
        wait_log(n, f"refused: {told}")


def test_another_cluster_or_another_node_is_meant():
    lie_about("cluster", "other", 'a node of cluster "other" and one of cluster "default" are not linked', "cluster")
    lie_about("to", "o", 'node "o" was dialled, but this is "n"', "cluster")
    lie_about("from", "n", 'both nodes have the id "n"; give each its own by the setting node', "cluster")


def test_malformed_hellos():
    long = "x" * 1000
    base = player().dial(victims.get()[1])
    right = base.hello("n")
    base.close()
    lines = [right[:5], [*right, "0" * 64], right[:1], [""], ["", *right], ["hello", "", *right[2:]],
             *([*right[:at], value, *right[at + 1:]] for at, value in
               ((3, "0123456789abcde"), (3, "0123456789abcdeg"), (3, "0123456789ABCDEF"), (3, "-123456789abcdef"), (3, long), (5, "0" * 63), (5, "0" * 65),
                (5, "G" * 64), (5, "\0" * 64), (5, "0" * 63 + "\0"), (3, "\0" * 16), (2, long), (2, "x" * 766), (5, long)))]
    others = [["proof", "0" * 64], ["want", "1", "1", "1", "0" * 64, "a.b.c"], ["ping", "1"], ["HELLO", *right[1:]], ["hello\n", *right[1:]], ["\0"],
              ["x" * 100000]]
    with attack(handshake=len(lines) + len(others)) as n:
        for words in [*lines, *others]:
            link = player().dial(n)
            link.send_words(*words)
            code, reason = link.wait_refused()
            assert code == 1008, (words, code, reason)
            assert reason in ("its hello is malformed", "a message without a word") or reason.endswith("does not belong into the handshake"), (words, reason)
        wait_log(n, "refused: ")
        assert all(line.isprintable() for line in n.log.splitlines())


def test_close_frames_and_logs_hold_no_broken_characters():
    """Of what was sent, a part is said again."""
    words = [(BINARY, b"\xff\xfe\xfd"), (BINARY, b"hello \xff \xff \xff"), (BINARY, b"x" * 31 + "\u00e4\u20ac".encode()), (TEXT, b"x" * 31 + "\u00e4".encode()),
             (TEXT, b"x" * 30 + "\U0001f600".encode()), (TEXT, b"\x1b[2J\x07\x9f".replace(b"\x9f", "\u009f".encode()))]
    names = ["\u00e4" * 300, "\U0001f600" * 40, "x" * 90 + "\u20ac" * 30, "a\x1b[2Jb"]
    with attack(handshake=len(words), cluster=2 * len(names)) as n:
        for opcode, octets in words:
            link = player().dial(n)
            link.send_frame(opcode, octets)
            assert link.wait_refused()[0] == 1008
        for name in names:
            for field in ("cluster", "to"):
                link = player().dial(n)
                link.send_words(*link.hello("n", **{field: name}))
                assert link.wait_refused()[0] == 1008
        assert "\ufffd" not in n.log and all(line.isprintable() for line in n.log.splitlines())


def test_proofs_over_something_else():
    lies = [{"label": "pgrelay.link.2"}, {"role": "acceptor"}, {"cluster": "other"}, {"dialler": "other"}, {"dialler_boot": "0" * 16}, {"acceptor": "m"},
            {"acceptor_boot": "0" * 16}, {"dialler_challenge": "0" * 64}, {"acceptor_challenge": "0" * 64}]
    thief = player()
    with attack(handshake=len(lies) + 5) as n:
        def proof(make):
            link = player().dial(n)
            link.greet("n")
            link.send_words("proof", *make(link))
            assert link.wait_refused() == (1008, "its proof is wrong: it does not have this node's secret")

        for lie in lies:
            proof(lambda link: [link.prove(**lie)])
        proof(lambda link: [link.prove().upper()])
        proof(lambda link: [link.prove()[:-1]])
        proof(lambda link: [link.prove(), "0"])
        proof(lambda link: ["0" * 100000])
        proof(lambda link: [])
        wait_log(n, "refused: its proof is wrong")
        assert thief.dial(n).status == 101


def test_answers_of_a_node_that_was_dialled():
    """m dials each of us once; none of the lies opens a link, and m says which it was."""
    m, n = victims.get()
    cases = [
        ({"cluster": "other"}, "cluster", 'a node of cluster "other" and one of cluster "default" are not linked'),
        ({"to": "o"}, "cluster", 'node "o" was dialled, but this is "m"'),
        ({"from": "m999"}, "cluster", '" was dialled, but "m999" answers'),
        ({"from": "m"}, "cluster", '" was dialled, but "m" answers'),
        ({"challenge": "0" * 63}, "handshake", "its hello is malformed"),
        ({"challenge": "\0" * 64}, "handshake", "its hello is malformed"),
        ({"boot": "x"}, "handshake", "its hello is malformed"),
        ({"word": "have"}, "handshake", '"have" does not belong into the handshake'),
        ({"boot": "0" * 16}, "handshake", "its proof is wrong"),
        ({"challenge": "0" * 64}, "handshake", "its proof is wrong"),
    ]
    for i, (lie, reason, told) in enumerate(cases):
        liar = player(f"m{i}")  # n waits to be dialled by it
        before = refused(m, reason)
        liar.beat()
        link = liar.take()
        assert link.target == "GET /websocket/relay/ HTTP/1.1" and link.headers["sec-websocket-protocol"] == PROTOCOL
        link.take_hello()
        proof = link.prove()
        link.send_words(*link.hello("m", **lie), proof)
        code, text = link.wait_refused()
        assert code == 1008 and told in text, (lie, code, text)
        assert refused(m, reason) == before + 1, lie
        assert any(told in line for line in wait_log(m, f'no link to node "m{i}": ')), told
        liar.beat("offline")
        liar.close()
    assert_well(m, n)


def test_what_answers_is_no_node():
    """A web server, an echo, somebody who says nothing, and a node of another program."""
    m, n = victims.get()
    answers = [b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", b"HTTP/1.1 403 Forbidden\r\nContent-Type: text/plain\r\n\r\ngo\x1b[2J away\n", b"220 smtp\r\n\r\n",
               b"\0" * 100000, b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\n", b""]
    for i, answer in enumerate(answers):
        other = player(f"m-{i}")
        other.beat()
        accepted, _ = other.listener.accept()
        site.clients.append(accepted)
        with contextlib.suppress(OSError):
            accepted.sendall(answer)
            accepted.shutdown(socket.SHUT_WR)
        (line,) = wait_log(m, f'no link to node "m-{i}": ')
        assert "\x1b" not in line
        other.beat("offline")
        other.close()
    assert_well(m, n)


def test_ids_of_any_characters():
    names = ["a b", "100%", "%41", "a,b*c", "\u00e4 \U0001f600", "x" * 63]
    nodes = [start(name, cluster="cl%1") for name in names]
    wait_linked(nodes)
    for node in nodes:
        assert sum(refused(node, reason) for reason in REASONS) == 0, node.log
        node.stop()
    m, _ = victims.get()
    for control in ("a\nb", "a\r\nb", "\x1b[2J", "\x7f"):
        odd = player(control)
        malformed = m.metric(r'pgrelay_heartbeats_total\{kind="malformed"\}')
        odd.beat()
        eventually(lambda: m.metric(r'pgrelay_heartbeats_total\{kind="malformed"\}') == malformed + 1)
        with attack() as node:
            link = odd.dial(node)
            link.send_words(*link.hello("n"))
            with contextlib.suppress(wire.Closed, AssertionError):
                link.take_hello()
            link.close()
            assert all(line.isprintable() for line in node.log.splitlines())


# ---- open links ----


def linked(name, node="n"):
    m, n = victims.get()
    target = {"m": m, "n": n}[node]
    link = player(name).dial(target).open(node)
    link.assert_open()
    return link


def test_unknown_words_are_passed_over():
    with attack(lost=1) as n:
        link = linked("newer")
        for text in ("later", "later on", "WANT 1", "hello", "proof", "hello x y z", "have 99 0 nothing was asked", "have 1 5 x", "lack 98 never",
                     "pong", "pong x", "pong -1", "pong 99999999999999999999", "ping", "ping x y z", "ping " + "9" * 1000, "x" * 1000000):
            link.send_text(text)
        for octets in (b"later", b"later \xff\0\xfe", b"\xff\xfe", b"have 97 0 \xff\0", b"\0"):
            link.send_frame(BINARY, octets)
        link.assert_open()
        link.close()


def test_malformed_messages_end_the_link():
    zeros = "0" * 64
    malformed = ["want", "want ", "want 1", "want 1 2 3", f"want 1 2 3 {zeros}", f"want 1 2 3 {zeros} ", f"want x 2 3 {zeros} a.b.c", f"want 1 x 3 {zeros} a.b.c",
                 f"want 1 2 -3 {zeros} a.b.c", f"want 1 2 99999999999999999999 {zeros} a.b.c", f"want 1 2 2000000000 {zeros} a.b.c", f"want 1 2 3 {zeros}0 a.b.c",
                 f"want 1 2 3 {zeros[1:]} a.b.c", f"want 1 2 3 {zeros} a.b", f"want 1 2 3 {zeros} *.b.c", f"want 1 2 3 {zeros} a.b.c%0a", "have", "have 1", "have x 1 y", "have 1 x y",
                 "have 1 -1 y", "lack", "lack x y"]
    octets = [(make_frame(TEXT, b"later \xff\xfe"), (1007,)), (make_frame(TEXT, b"x" * 2000000), (1009,)),
              (make_frame(BINARY, b"x" * 2000000), (1009,)), (make_frame(TEXT, b"later", mask=False), (1002,)),
              (make_frame(TEXT, b"later", rsv=4), (1002,)), (make_frame(3, b""), (1002,))]
    with attack(lost=len(malformed) + len(octets)) as n:
        for i, text in enumerate(malformed):
            link = linked(f"bad{i}")
            link.send_text(text)
            assert link.wait_refused() == (1002, "a malformed message about a payload"), text
            wait_log(n, f"link bad{i}: ended: a malformed message about a payload")
        for data, codes in octets:
            link = linked("bad")
            with contextlib.suppress(OSError):
                link.send(data)
            with contextlib.suppress(ConnectionResetError):
                assert link.wait_refused()[0] in codes, data[:20]


def any_field(dice):
    return dice.choice((lambda: str(dice.choice((0, 1, -1, 2**31, 2**32, 2**63 - 1, 2**63, 10**30))), lambda: f"{dice.getrandbits(256):064x}",
                        lambda: dice.choice(("a.b.c", "a.b.", "*.*.*", "a.b.%20", "a.b.%zz", "...", "", " ")), lambda: "x" * dice.choice((1, 255, 1000, 65536)),
                        lambda: "".join(chr(dice.randrange(300)) for _ in range(dice.randrange(20))), lambda: "status"))()


def any_message(dice, want):
    """One that is right, or of the right words, or of no sense."""
    word = dice.choice(("want", "have", "lack", "ask", "answer", "ping", "pong", "later", "hello", "proof"))
    fields = [any_field(dice) for _ in range(dice.randrange(6))]
    if word == "want" and dice.random() < 0.7:
        fields = [str(dice.randrange(5)), *want]
        fields[dice.randrange(5)] = dice.choice((fields[0], any_field(dice)))
    return dice.randbytes(100) if dice.random() < 0.05 else " ".join([word, *fields]).encode()


def test_messages_at_random():
    """400 links, some open, some not, up to 60 messages on each."""
    m, n = victims.get()
    dice = random.Random(1)
    event = site.emit("demo", "x", "1", {"pad": "x" * 300000})
    payload = json.dumps({"pad": "x" * 300000}).encode()
    want = [str(event), str(len(payload)), hashlib.sha256(payload).hexdigest(), "demo.x.1"]
    sent = 0
    with memory_comes_back(n, margin=48 << 20):
        for i in range(400):
            with contextlib.suppress(wire.Closed, OSError):
                link = player(f"at-random-{i % 50}").dial(n)
                if dice.random() < 0.8:
                    link.open("n")
                for _ in range(dice.randrange(60)):
                    link.send_frame(dice.choice((TEXT, TEXT, TEXT, BINARY)), any_message(dice, want))
                    sent += 1
            for made in site.clients:
                made.close()
            site.clients.clear()
        assert_well(m, n)
    assert sent > 2000, sent


def test_a_peer_that_hangs_up_at_once_is_not_dialled_without_a_pause():
    m, n = victims.get()
    fickle = player("m5")
    dialled = 0
    with fickle.beating():
        end = time.monotonic() + 2
        while time.monotonic() < end:
            if fickle.is_dialled(0.1):
                dialled += 1
                with contextlib.suppress(wire.Closed, OSError):
                    fickle.take().open().close()
    assert 3 <= dialled < 30, dialled
    fickle.beat("offline")
    fickle.close()
    assert_well(m, n)


def test_a_second_link_takes_the_place_of_the_first():
    with attack(lost=1) as n:
        mover = player("mover")
        first = mover.dial(n).open("n")
        first.assert_open()
        second = mover.dial(n).open("n")
        second.assert_open()
        assert first.wait_refused() == (1000, "another link takes its place")
        assert n.metric("pgrelay_links") == 2
        wait_log(n, 'a new link to node "mover" takes the place of the former one')
        second.close()


def test_half_open_connections_are_cut():
    """Some send nothing, some half a request, some nothing after the upgrade, some nothing after their hello; links and clients go on.
    And two that are dialled, of which one never answers, and one takes the upgrade and says no word."""
    def tcp(data=b""):
        s = socket.create_connection(("127.0.0.1", n.port), seconds(20))
        s.sendall(data)
        return s

    def greeted():
        link = player("half").dial(n)
        link.greet("n")
        return link.socket

    kinds = [tcp, lambda: tcp(b"GET /websocket/relay/ HTTP/1.1\r\nsecret: "), lambda: player("half").dial(n).socket, greeted]
    with attack(handshake=HALF_OPEN // 4 * 2) as n, Load(2, 1000) as load, Crowd() as crowd:
        crowd.join(load, victims.get(), 4)
        load.start().wait_for(100)
        m, mute, wordless = victims.get()[0], player("m-mute"), player("m-wordless")
        mute.beat()
        wordless.beat()
        link = wordless.take()
        link.take_hello()
        with memory_comes_back(n):
            began = time.monotonic()
            open_now = [kind() for _ in range(HALF_OPEN // 4) for kind in kinds]
            opened = time.monotonic()
            while open_now:
                with contextlib.closing(open_now.pop(0)) as s:
                    s.settimeout(max(0.01, seconds(20) - (time.monotonic() - began)))
                    with contextlib.suppress(ConnectionResetError):
                        while s.recv(65536):
                            pass
            assert time.monotonic() - opened < seconds(12), "the last one was cut too late"
            load.wait_for(500)
        load.stop()
        crowd.check(load)
        assert "does not answer" in wait_log(m, 'no link to node "m-mute": ')[0]
        assert "the handshake was not done in time" in wait_log(m, 'no link to node "m-wordless": ')[0]
        assert link.wait_refused() == (1008, "the handshake was not done in time")
        for silent in (mute, wordless):
            silent.beat("offline")
            silent.close()
        wait_log(n, "refused: the handshake was not done in time")


def test_who_asks_and_does_not_read_harms_nobody():
    """It asks for payloads without an end; the node keeps no more for it than a window, and goes on serving others."""
    site.emit("big", "x", "1", {"pad": "x" * 3000000})
    event, octets, digest = site.rows("SELECT id, octet_length(payload::text), encode(sha256(convert_to(payload::text, 'UTF8')), 'hex') "
                                      "FROM pgrelay.event ORDER BY id DESC LIMIT 1")[0]
    with attack(lost=2) as n, memory_comes_back(n, margin=48 << 20):
        idle = linked("idle")
        before = resident_bytes(n.pid)
        for request in range(3000):
            idle.send_words("want", request, event, octets, digest, "big.x.1")
        for _ in range(3):
            pass_time(1)  # what is too much for queue_limit would be noticed
            idle.send_words("ping", 1)
            assert is_sanitized() or WRAPPER or resident_bytes(n.pid) < before + (32 << 20), "it keeps too much for one that does not read"
        other = linked("other")
        other.send_words("want", 7, event, octets, digest, "big.x.1")
        piece = left = 0
        while piece < int(octets):
            word, request, left, text = other.message().split(" ", 3)
            assert (word, request) == ("have", "7") and len(text) <= 65536 and int(left) == int(octets) - piece - len(text)
            piece += len(text)
        other.close()
        words = collections.Counter()
        while words["lack"] < 2000 or words["have"] < 10:
            text = idle.message()
            words[text.split(" ")[0]] += 1
            assert text.startswith("have ") or text.endswith(" too many are asked for"), text[:100]
        assert words["lack"] == 2000, words
        idle.close()


if __name__ == "__main__":
    main(limit=90)
