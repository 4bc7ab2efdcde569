#!/usr/bin/env python3
"""AWX's relays of both generations dial in (docs/cluster.md, section 6): wsrelay pushes messages and is told of groups,
wsbroadcast gets all events. What they do is done here by hand, and by the two WebSocket libraries that Python has."""
import asyncio
import collections
import hashlib
import hmac
import http.client
import json
import os
import signal
import threading
import time

from harness import Node, eventually, main, need_module, quote, seconds, site
from stream import Stream
from wire import BINARY, CLOSE, TEXT, close_payload, make_frame

SECRET = 'what "these" two \\ share: \u00e4\u20ac\U0001f600\x01\t\x7f'
RELAY, BROADCAST = "/websocket/relay/", "/websocket/broadcast/"
BOTH = (RELAY, BROADCAST)
UUID = "5f1d0a2b-3c4d-5e6f-8a9b-0c1d2e3f4a5b"

site.tokens.append(SECRET)
site.node_settings = {"env": {"PGRELAY_SECRET": SECRET}, "node": "web1"}


def sign(secret, nonce):
    text = json.dumps({"secret": secret, "nonce": nonce})
    return hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()


def header(secret=SECRET, nonce=None):
    nonce = str(int(time.time())) if nonce is None else nonce
    return f"HMAC-SHA256 {nonce}:{sign(secret, nonce)}"


def serve(secret=SECRET, **settings):
    if secret not in site.tokens:
        site.tokens.append(secret)
    return Node(env={"PGRELAY_SECRET": secret}, **settings)


def knock(node, path, secret, source="127.0.0.1"):
    """Just the upgrade request; status and text of the answer."""
    headers = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13",
               "Sec-WebSocket-Key": "MDEyMzQ1Njc4OWFiY2RlZg=="}
    if secret is not None:
        headers["secret"] = secret
    connection = http.client.HTTPConnection("127.0.0.1", node.port, timeout=seconds(20), source_address=(source, 0))
    try:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, "" if answer.status == 101 else answer.read().decode()
    finally:
        connection.close()


def dial(node, path, secret=SECRET):
    client = node.dial(path, [("secret", header(secret))])
    assert client.status == 101, (client.status, client.body)
    assert "sec-websocket-protocol" not in client.headers, client.headers
    return client


def relay(node=None):
    return dial(node or site.node, RELAY)


def broadcast(node=None):
    return dial(node or site.node, BROADCAST)


def push(client, group, payload):
    text = payload if isinstance(payload, str) else json.dumps(payload)
    client.send_json({"group": group, "message": {"type": "internal.message", "text": text}})


def join(**groups):
    return site.node.connect(site.all_seeing).join(**groups)


def refused(node, reason):
    return node.metric(rf'pgrelay_peers_refused_total\{{reason="{reason}"\}}')


class Subscriptions:
    """What a relay has been told, as wsrelay keeps it."""

    def __init__(self, client, node="web1"):
        self.client, self.node = client, node
        self.groups = collections.defaultdict(set)  # of each client
        self.messages = []

    def take(self):
        message = self.client.json()
        assert set(message) == {"type", "groups", "origin_channel"}, message
        start, node, session = message["origin_channel"].rsplit(".", 2)
        assert start == "pgrelay" and node == self.node and session.isdigit(), message
        groups = set(message["groups"])
        assert groups and len(groups) == len(message["groups"]), message
        mine = self.groups[message["origin_channel"]]
        if message["type"] == "consumer.subscribe":
            assert not groups & mine, f"told twice: {message}"
            mine |= groups
        else:
            assert message["type"] == "consumer.unsubscribe" and groups <= mine, (message, mine)
            mine -= groups
        self.messages.append(message)
        return message

    def until(self, *wanted):
        """Until the clients' sets of groups are these, in any order."""
        wanted = sorted(sorted(w) for w in wanted)
        total = sum(map(len, wanted))
        while sum(map(len, self.groups.values())) != total or sorted(sorted(g) for g in self.groups.values() if g) != wanted:
            self.take()


# ---- the header ----


def test_without_a_secret_there_are_no_such_endpoints():
    with Node() as node:
        for path in BOTH:
            for secret in (None, header(), header("")):
                status, text = knock(node, path, secret)
                assert status == 404 and text.count("\n") == 1, (path, status, text)


def test_secrets_of_all_kinds():
    for secret in ("0123456789abcdef", '"quotes" and \'quotes\'', "back\\slash \\n \\u0041 \\\\", "\x01\x02\b\t\n\f\r\x1f\x7f in control",
                   "\u00fcber umlauts \u00df", "emojis \U0001f600\U0010ffff !", "bmp \ue000\uffff\u0800\u07ff\x80", "/slashes </script> 'a' %25 #"):
        with serve(secret) as node:
            for path in BOTH:
                assert knock(node, path, header(secret))[0] == 101, (secret, path)
                status, text = knock(node, path, header(secret + "x"))
                assert status == 403 and "secret" in text, (secret, path, status, text)
            assert refused(node, "secret") == 2


def test_headers_that_are_none():
    now = str(int(time.time()))
    good = header(nonce=now)
    digest = sign(SECRET, now)

    def of(nonce):
        return header(nonce=nonce)

    before = refused(site.node, "malformed")
    forms = [None, "", "HMAC-SHA256", "HMAC-SHA256 ", now, digest, f"{now}:{digest}", f"hmac-sha256 {now}:{digest}",
             f"HMAC-SHA1 {now}:{digest}", f"HMAC-SHA256:{now}:{digest}", f"HMAC-SHA256  {now}:{digest}",
             f"HMAC-SHA256 {now} :{digest}", f"HMAC-SHA256 {now}: {digest}", f"HMAC-SHA256 {now}{digest}", f"HMAC-SHA256 {now}:",
             f"HMAC-SHA256 :{digest}", of(""), of("abc"), of("-" + now), of("+" + now), of("0x6560"), of("1.7e9"), of(now + "."),
             of("." + now), of(now + ".1234567"), of(now + ".5.5"), of("9" * 13), of("9" * 300), of("\u00b2" * 4),
             good[:-1], good + "0", good + ":", good + " x", good[:-1] + "g", f"HMAC-SHA256 {now}:{digest.upper()}",
             f"Bearer {site.all_seeing.token}"]
    for path in BOTH:
        for form in forms:
            if form is not None and not form.isascii():
                form = form.encode()
            status, text = knock(site.node, path, form)
            assert status == 401 and "secret" in text and text.count("\n") == 1, (path, form, status, text)
    assert refused(site.node, "malformed") == before + 2 * len(forms)
    assert knock(site.node, RELAY, good)[0] == 101


def test_a_clock_may_be_off_by_five_minutes_and_no_more():
    def answer(path, off):
        """The second must not change while it is asked."""
        while True:
            now = int(time.time())
            got = knock(site.node, path, header(nonce=str(now + off)))
            if int(time.time()) == now:
                return got

    before = refused(site.node, "clock")
    for path in BOTH:
        for off in (-299, 299, -300, 300):
            assert answer(path, off)[0] == 101, (path, off)
        for off, word in ((-301, "301 s behind"), (301, "301 s ahead"), (-86400, "behind"), (86400, "ahead"), (-int(time.time()), "behind")):
            status, text = answer(path, off)
            assert status == 403 and word in text, (path, off, status, text)
    assert refused(site.node, "clock") >= before + 10


def test_a_header_is_good_for_the_address_that_brought_it_first():
    with serve() as node:
        for n, path in enumerate(BOTH):
            secret = header(nonce=str(int(time.time()) - n))
            assert knock(node, path, secret)[0] == 101
            for other in BOTH:
                status, text = knock(node, other, secret, "127.0.0.2")
                assert status == 403 and "before" in text, (status, text)
                assert knock(node, other, secret)[0] == 101
        assert refused(node, "replay") == 4
        assert knock(node, RELAY, header(nonce=str(int(time.time()) - 7)), "127.0.0.2")[0] == 101


def test_a_wrong_header_is_not_remembered():
    """Else anybody could take a nonce away from the one who has the secret."""
    with serve() as node:
        nonce = str(int(time.time()))
        assert knock(node, RELAY, header("x" * 20, nonce), "127.0.0.2")[0] == 403
        assert knock(node, RELAY, header(nonce=nonce))[0] == 101


def test_a_secret_is_replaced_without_a_pause():
    old, new = "the old secret of these", "the new secret of these"
    site.tokens.extend((old, new))

    def settings(node, **values):
        count = node.log.count("settings re-read")
        node.configure("".join(f"{name} = '{value}'\n" for name, value in values.items()))
        node.process.signal(signal.SIGHUP)
        eventually(lambda: node.log.count("settings re-read") == count + 1, what="the settings are re-read")

    def taken(node):
        return [knock(node, RELAY, header(secret))[0] == 101 for secret in (old, new)]

    with Node(config=f"secret = '{old}'\n") as node:
        stays = dial(node, RELAY, old)
        assert taken(node) == [True, False]
        for values, want in (({"secret": old, "secret_also": new}, [True, True]), ({"secret": new, "secret_also": old}, [True, True]),
                             ({"secret": new}, [False, True])):
            settings(node, **values)
            assert taken(node) == want, values
        stays.assert_alive()
        settings(node, cluster="default")
        assert knock(node, RELAY, header(new))[0] == 404, "without a secret nobody dials in"
        stays.assert_alive()


# ---- wsrelay pushes ----


def test_what_is_pushed_goes_to_the_group_as_it_came():
    r = relay()
    inside = join(job_events=[123], jobs=["status_changed"])
    outside = join(job_events=[124, 12], jobs=["summary", 123], ad_hoc_command_events=[123])
    texts = ['{"event": "runner_on_ok",  "stdout":"\\u00e4\\ud83d\\ude00\\\\ \\"quoted\\" \\u0001", "n": 1.50}',
             '{"stdout": "\u00e4\u20ac\U0001f600", "n": 2}', '{\n\t"n": 3\n}', '{"event": 7, "n": 4}', '{"event": "two words", "n": 5}', "{}"]
    for text in texts:
        push(r, "job_events-123", text)
    for want in texts:
        assert inside.text() == want
    push(r, "jobs-status_changed", {"group_name": "jobs", "unified_job_id": 123, "status": "running"})
    assert inside.json()["status"] == "running"
    push(r, "job_events-124", {"n": 7})
    assert outside.json() == {"n": 7}  # and nothing came before it
    inside.assert_alive()


def test_kinds_of_groups():
    r = relay()
    c = join(jobs=["status_changed", "summary"], schedules=["changed"], inventories=["status_changed"],
             control=["limit_reached_7"], workflow_events=["9"], job_events=[UUID])
    for n, group in enumerate(("jobs-status_changed", "jobs-summary", "schedules-changed", "inventories-status_changed",
                               "control-limit_reached_7", "workflow_events-9", f"job_events-{UUID}")):
        for key in ({}, {"id": 5}, {"unified_job_id": None, "id": "a b*,%"}, {"id": "x" * 256}, {"id": [1]}, {"inventory_id": "1\n2"}):
            push(r, group, {**key, "n": n})
            assert c.json() == {**key, "n": n}


def test_who_may_see_a_part_gets_a_part():
    user = site.user("jobs.*.42", "job_events.runner_on_ok.42")
    part = site.node.connect(user).join(jobs=["status_changed", 42], job_events=[42])
    by_id = site.node.connect(user).join(jobs=[42])
    r = relay()
    for job in (41, 42, 43):
        push(r, "jobs-status_changed", {"unified_job_id": job})
    for event in ("runner_on_failed", "runner_on_ok", "verbose"):
        push(r, "job_events-42", {"event": event})
    push(r, "jobs-42", {"last": True})
    assert part.take(3) == [{"unified_job_id": 42}, {"event": "runner_on_ok"}, {"last": True}]
    assert by_id.json() == {"last": True}, "only what is pushed to its group"


def test_what_is_pushed_moves_no_cursor():
    r = relay()
    c = site.node.connect(site.all_seeing)
    c.send_json({"groups": {"demo": [7]}, "cursor": True})
    assert "groups_current" in c.json()
    s = Stream(site.node.port, "demo-7", site.all_seeing.token, timeout=seconds(20))
    site.clients.append(s)
    first = c.take_until(lambda m: "cursor" in m)[-1]["cursor"]
    site.emit("demo", "x", "7", {"n": 1})
    assert c.json() == {"n": 1}
    s.groups()
    event = s.event()
    assert event.json() == {"n": 1} and event.id, event
    other = join(demo=["y"])
    site.emit("demo", "y", "other", {})  # by which the stream's cursor moves on
    assert other.json() == {}
    push(r, "demo-7", {"n": 2})
    messages = c.take_until(lambda m: m == {"n": 2})
    assert all("cursor" in m for m in messages[:-1]), messages
    again = s.event()
    assert again.json() == {"n": 2} and again.id == event.id, "it has no cursor of its own"
    late = c.take_until(lambda m: "cursor" in m)[-1]["cursor"]
    site.emit("demo", "x", "7", {"n": 3})
    assert s.event().json() == {"n": 3}
    for cursor, want in ((first, [1, 3]), (event.id, [3]), (late, [3])):
        back = site.node.connect(site.all_seeing)
        back.send_json({"groups": {"demo": [7]}, "cursor": cursor})
        got = [m["n"] for m in back.take_until(lambda m: m.get("n") == 3) if "n" in m]
        assert got == want, "what relays brought is in no log and no history"


def test_who_is_on_the_way_back_gets_it_when_it_is_there():
    old = site.node.connect(site.all_seeing)
    old.send_json({"groups": {"demo": [8]}, "cursor": True})
    cursor = old.take_until(lambda m: "cursor" in m)[-1]["cursor"]
    site.emit("demo", "x", "8", {"n": 1})
    with serve(node="web2") as node:
        r = relay(node)
        site.sql("BEGIN; LOCK pgrelay.event IN ACCESS EXCLUSIVE MODE")
        try:
            back = node.connect(site.all_seeing)
            back.send_json({"groups": {"demo": [8]}, "cursor": cursor})
            assert back.json()["groups_current"] == ["demo-8"]
            stream = Stream(node.port, "demo-8", site.all_seeing.token, cursor=cursor, timeout=seconds(20))
            site.clients.append(stream)
            stream.groups()
            for n in range(2, 50):
                push(r, "demo-8", {"n": n, "pad": "x" * 2000})
            eventually(lambda: node.metric("pgrelay_relayed_total") == 48)
        finally:
            site.sql("COMMIT")
        assert [m["n"] for m in back.take_until(lambda m: m.get("n") == 49) if "n" in m] == list(range(1, 50))
        events = [stream.event() for _ in range(49)]
        assert [e.json()["n"] for e in events] == list(range(1, 50)), events
        site.emit("demo", "x", "8", {"n": 50})
        assert back.take_until(lambda m: m.get("n") == 50)


def test_who_is_too_slow_on_the_way_back_is_closed():
    old = site.node.connect(site.all_seeing)
    old.send_json({"groups": {"demo": [9]}, "cursor": True})
    cursor = old.take_until(lambda m: "cursor" in m)[-1]["cursor"]
    with serve(node="web2", queue_limit="100kB") as node:
        r = relay(node)
        site.sql("BEGIN; LOCK pgrelay.event IN ACCESS EXCLUSIVE MODE")
        try:
            back = node.connect(site.all_seeing)
            back.send_json({"groups": {"demo": [9]}, "cursor": cursor})
            assert back.json()["groups_current"] == ["demo-9"]
            for n in range(100):
                push(r, "demo-9", {"n": n, "pad": "x" * 2000})
            assert back.wait_closed() == 1013
        finally:
            site.sql("COMMIT")


def test_messages_that_are_none_are_counted_and_passed_over():
    r = relay()
    c = join(job_events=[5])
    good = {"type": "internal.message", "text": "{}"}
    bad = ["", "x", "null", "7", "[]", "{", '"x"', "{}", {"group": "job_events-5"}, {"message": good}, {"group": 5, "message": good},
           {"group": None, "message": good}, {"group": "job_events-5", "message": "{}"}, {"group": "job_events-5", "message": []},
           {"group": "job_events-5", "message": {}}, {"group": "job_events-5", "message": {"text": None}},
           {"group": "job_events-5", "message": {"text": {}}}, {"group": "", "message": good}, {"group": "jobs", "message": good},
           {"group": "-", "message": good}, {"group": "*-5", "message": good}, {"group": "job_events-*", "message": good},
           {"group": "job events-5", "message": good}, {"group": "a.b-5", "message": good}, {"group": "x" * 64 + "-5", "message": good},
           {"group": "x-" + "y" * 64, "message": good}, {"group": "x-" + "5" * 256, "message": good}, {"group": "\u00e4-5", "message": good},
           {"group": "job_events-5\u0000", "message": good}]
    bad += [{"group": "job_events-5", "message": {"text": text}}
            for text in ("", "x", "7", "null", "[]", '"{}"', "{", "{}{}", '{"a": 1,}', "{'a': 1}", '{"a": NaN}', "{} x",
                         '{"a": ' + "[" * 5000 + "]" * 5000 + "}")]
    bad += ['{"a": ' * 100000, "[" * 100000, '{"group": "job_events-5", "message": {"text": "{\\"a\\": \\"\\ud800\\"}"}}']
    before = site.node.metric("pgrelay_messages_invalid_total")
    for message in bad:
        if isinstance(message, str):
            r.send_text(message)
        else:
            r.send_json(message)
    push(r, "job_events-5", {"good": True})
    assert c.json() == {"good": True}
    assert site.node.metric("pgrelay_messages_invalid_total") == before + len(bad)
    lines = [line for line in site.node.log.splitlines() if "a message was passed over" in line]
    assert len(lines) == 1, "a log is not for a relay to fill"


def test_metrics_are_dropped():
    r = relay()
    c = join(job_events=[5])
    before = site.node.metric("pgrelay_messages_invalid_total"), site.node.metric("pgrelay_relayed_total")
    r.send_json({"group": "metrics", "message": {"text": json.dumps({"instance": "a", "metrics": "x", "metrics_namespace": "y"})}})
    r.send_json({"group": "metrics", "message": {"type": "internal.message", "text": "no JSON"}})
    r.send_json({"group": "metrics"})
    push(r, "job_events-5", {"n": 1})
    assert c.json() == {"n": 1}
    assert (site.node.metric("pgrelay_messages_invalid_total"), site.node.metric("pgrelay_relayed_total") - 1) == before


def test_big_messages():
    r = relay()
    c = join(job_events=[6])
    for size in (1 << 10, 1 << 15, 1 << 16, 1 << 20, 3 << 20):  # each quote takes four octets on the way
        push(r, "job_events-6", {"stdout": '"' * size})
        assert c.json() == {"stdout": '"' * size}
    r.send_quietly(make_frame(TEXT, b"x" * 100, length=(16 << 20) + 1))
    assert r.wait_closed() == 1009
    r = relay()
    r.send_frame(BINARY, b"{}")
    assert r.wait_closed() == 1003
    c.assert_alive()


# ---- several relays ----


def test_what_several_relays_bring_comes_once():
    relays = [relay() for _ in range(4)]
    c = join(job_events=[20, 21])
    for n in range(50):
        for r in relays:
            push(r, "job_events-20", {"n": n})
    eventually(lambda: site.node.metric("pgrelay_awx_relays") == 4)
    for r in relays:
        r.assert_alive()  # all it has sent is taken
    push(relays[0], "job_events-20", {"last": True})
    got = c.take_until(lambda m: "last" in m)
    assert sorted(m["n"] for m in got[:-1]) == list(range(50)), got
    # another group, or another text, is another message
    push(relays[0], "job_events-21", {"n": 1})
    push(relays[1], "job_events-21", '{"n":1}')
    relays[1].assert_alive()
    assert c.take(2) == [{"n": 1}, {"n": 1}]
    push(relays[2], "job_events-20", {"end": True})
    assert c.json() == {"end": True}


def test_what_one_relay_brings_again_is_meant_again():
    a, b, late = relay(), relay(), relay()
    c = join(job_events=[22])

    def bring(r, times, text="same"):
        for _ in range(times):
            push(r, "job_events-22", {"text": text})
        r.assert_alive()

    def came():
        push(a, "job_events-22", {"mark": time.monotonic()})
        return len(c.take_until(lambda m: "mark" in m)) - 1

    bring(a, 3)
    assert came() == 3
    bring(b, 2)
    assert came() == 0
    bring(b, 1)
    assert came() == 0
    bring(b, 2)
    assert came() == 2, "the 4th and 5th of b are more than the 3 that there were"
    bring(a, 2)
    assert came() == 0
    bring(a, 1)
    assert came() == 1
    bring(late, 7)
    assert came() == 1
    bring(b, 500, "many")
    bring(a, 501, "many")
    assert came() == 501


def test_a_relay_that_takes_over_repeats_nothing():
    a = relay()
    c = join(job_events=[23])
    push(a, "job_events-23", {"n": 1})
    assert c.json() == {"n": 1}
    a.close()
    eventually(lambda: site.node.metric("pgrelay_awx_relays") == 0)
    b = relay()
    push(b, "job_events-23", {"n": 1})
    push(b, "job_events-23", {"n": 2})
    assert c.json() == {"n": 2}


# ---- wsrelay is told of groups ----


def test_a_late_relay_is_told_of_all_groups():
    first = join(job_events=[1, 2], jobs=["status_changed"])
    second = join(job_events=[1])
    site.node.connect(site.all_seeing)  # in none
    stream = Stream(site.node.port, "job_events-3,demo-x", site.all_seeing.token, timeout=seconds(20))
    site.clients.append(stream)
    stream.groups()
    told = Subscriptions(relay())
    told.until({"job_events-1", "job_events-2", "jobs-status_changed"}, {"job_events-1"}, {"job_events-3", "demo-x"})
    assert len(told.messages) == 3 and len(told.groups) == 3, "one message for each session"
    also = Subscriptions(relay())
    also.until({"job_events-1", "job_events-2", "jobs-status_changed"}, {"job_events-1"}, {"job_events-3", "demo-x"})
    assert also.groups == told.groups
    first.close(), second.close(), stream.close()
    for r in (told, also):
        r.until()
        assert len(r.messages) == 6


def test_a_relay_is_told_of_changes():
    told = Subscriptions(relay())
    c = join(job_events=[1, 2])
    told.until({"job_events-1", "job_events-2"})
    c.join(job_events=[2, 3], jobs=["status_changed"])
    told.until({"job_events-2", "job_events-3", "jobs-status_changed"})
    assert [(m["type"][9:], set(m["groups"])) for m in told.messages[1:]] == [
        ("subscribe", {"job_events-3", "jobs-status_changed"}), ("unsubscribe", {"job_events-1"})], told.messages
    c.join(job_events=[2, 3], jobs=["status_changed"])  # nothing changes
    c.join()
    told.until()
    assert len(told.messages) == 4
    c.join(job_events=[4])
    d = join(job_events=[4])
    told.until({"job_events-4"}, {"job_events-4"})
    c.send_frame(CLOSE, close_payload(1000))
    told.until({"job_events-4"})
    d.close()
    told.until()
    assert len(told.groups) == 2, "each client has a name of its own"


def test_a_relay_is_told_of_lost_rights():
    user = site.user("job_events.*.1", "job_events.*.2")
    c = site.node.connect(user).join(job_events=[1, 2])
    told = Subscriptions(relay())
    told.until({"job_events-1", "job_events-2"})
    site.pgrelay("grant", "remove", user.name, "job_events.*.2")
    told.until({"job_events-1"})
    assert c.json()["groups_left"] == ["job_events-2"]
    site.sql(f"SELECT pgrelay.token_revoke(id) FROM pgrelay.token WHERE user_id = {user.id}", "owner")
    told.until()
    assert c.wait_closed() == 1008


def test_a_refused_group_is_not_asked_for():
    user = site.user("job_events.*.1")
    told = Subscriptions(relay())
    c = site.node.connect(user)
    errors, reply = c.ask({"groups": {"job_events": [1, 2], "jobs": ["status_changed"]}})
    assert len(errors) == 2 and reply["groups_current"] == ["job_events-1"]
    c.close()
    join(job_events=[9])
    told.until({"job_events-9"})
    assert not any("job_events-2" in m["groups"] or "jobs-status_changed" in m["groups"] for m in told.messages), told.messages


def test_many_clients_do_not_overflow_a_relay():
    """All that it is told is more than queue_limit and what a socket takes at once; and clients come and go meanwhile."""
    count, more, groups, name = 60, 5, 1000, "x" * 56 + "_events"
    with serve(node="web3", queue_limit="128kB") as node:
        def client(n):
            return node.connect(site.all_seeing).join(**{name: range_of(n)})

        def range_of(n):
            return [n * groups + i for i in range(groups)]

        clients = [client(n) for n in range(count)]
        relayed = node.dial(RELAY, [("secret", header())], receive_buffer=8192)
        for n in range(count):
            if n % 10 != 0:
                clients[n].close()
        clients += [client(count + n) for n in range(more)]
        told = Subscriptions(relayed, "web3")
        told.until(*[{f"{name}-{i}" for i in range_of(n)} for n in range(count + more) if n % 10 == 0 or n >= count])
        assert node.metric("pgrelay_sessions_closed_slow_total") == 0


def test_more_groups_than_fit_a_message():
    with serve(node="web4", max_groups=5000, max_message_bytes="10MB") as node:
        c = node.connect(site.all_seeing).join(job_events=list(range(2500)))
        told = Subscriptions(relay(node), "web4")
        told.until({f"job_events-{n}" for n in range(2500)})
        assert [len(m["groups"]) for m in told.messages] == [1000, 1000, 500]
        c.join()
        told.until()


def test_an_odd_name_of_the_node():
    with serve(node='we"b \\5') as node:
        told = Subscriptions(relay(node), 'we"b \\5')
        c = node.connect(site.all_seeing).join(job_events=[1])
        told.until({"job_events-1"})
        c.assert_alive()


def test_a_relay_that_reads_nothing_is_closed_and_harms_nobody():
    for overflow in ("close", "gap"):
        with serve(node="web6", queue_limit="64kB", overflow=overflow) as node:
            stuck = node.dial(RELAY, [("secret", header())], receive_buffer=2048)
            assert stuck.status == 101
            c = node.connect(site.all_seeing)
            eventually(lambda: node.metric("pgrelay_awx_relays") == 1)

            def closed():
                for n in range(10):
                    c.join(**{"x" * 63: [f"{n}{i:03d}" for i in range(1000)]})
                return node.metric("pgrelay_sessions_closed_slow_total") == 1

            eventually(closed, 60, "the relay that reads nothing is closed")
            eventually(lambda: node.metric("pgrelay_awx_relays") == 0)
            c.assert_alive()


# ---- wsbroadcast ----


def test_every_event_and_its_group():
    b, second = broadcast(), broadcast()
    told = []

    def emit(group, type, action, key, payload):
        site.emit(type, action, key, payload)
        told.append((group, payload))

    def notify(group, payload, told_as=None):
        site.sql(f"SELECT pgrelay.emit_channel_notification({quote(group)}, {quote(json.dumps(payload))})", "writer")
        told.append((told_as or group, payload))

    emit("job_events-42", "job_events", "runner_on_ok", "42", {"event": "runner_on_ok"})
    emit("jobs-status_changed", "jobs", "status_changed", "42", {"status": "running"})
    emit("jobs-summary", "jobs", "summary", "42", {"final_counter": 7})
    emit("deploy-step", "deploy", "step", "web1", {"done": 3})
    emit("deploy-step", "deploy", "step", "", {"done": 3})
    emit("my_events-a b*,%c", "my_events", "x", "a b*,%c", {})
    emit('my_events-"\\\u00e4\U0001f600', "my_events", "x", '"\\\u00e4\U0001f600', {})
    emit("my_events-x", "my_events", "x", "", {})
    emit("my_events-" + "%" * 255, "my_events", "x", "%" * 255, {})
    emit("x" * 63 + "-" + "y" * 63, "x" * 63, "y" * 63, "z" * 255, {})
    for group in ("job_events-42", "jobs-status_changed", "schedules-changed", "control-limit_reached_7", "custom-42", f"custom-{UUID}",
                  "my-custom-7", "workflow_events-3"):
        for payload in ({"n": 1}, {"event": "verbose", "n": 2}, {"event": "not a word", "unified_job_id": 5}):
            notify(group, payload)
    emit("last-one", "last", "one", "", {"a": '"\\/\b\f\n\r\t\u0001\u007f\u2028\u00e4\U0001f600', "b": [None, True, 1.5, {}]})
    for client in (b, second):
        for group, payload in told:
            message = client.json()
            assert set(message) == {"group", "message"} and isinstance(message["message"], str), message
            assert (message["group"], json.loads(message["message"])) == (group, payload), (message, group, payload)


def test_what_relays_bring_goes_to_no_broadcaster():
    b, r = broadcast(), relay()
    c = join(demo=["x"])
    push(r, "demo-x", {"n": 1})
    assert c.json() == {"n": 1}
    site.emit("demo", "x", "", {"n": 2})
    assert json.loads(b.json()["message"]) == {"n": 2}
    assert c.json() == {"n": 2}


def test_many_events_of_all_sizes_in_order():
    sizes = (10, 100, 5000, 9000, 40000, 70000, 1 << 20)
    b, c = broadcast(), join(demo=["x"])
    count = 2000
    big = {n: sizes[n % len(sizes)] for n in range(0, count, 83)}
    values = ", ".join(f"({n}, {big.get(n, 20)})" for n in range(count))
    site.sql(f"""SELECT count(pgrelay.emit('demo', 'x', n::text, jsonb_build_object('n', n, 'pad', repeat('"\\', size / 2))))
        FROM (VALUES {values}) AS v (n, size)""", "writer")
    for n in range(count):
        message = b.json()
        payload = json.loads(message["message"])
        assert message["group"] == "demo-x" and payload["n"] == n, (message["group"], payload["n"], n)
        assert payload["pad"] == '"\\' * (big.get(n, 20) // 2), n
        plain = c.text()
        assert plain == message["message"], "the same text as clients get"
    assert site.node.metric("pgrelay_tickets_read_total") > 0


def test_a_broadcaster_has_nothing_to_say():
    b = broadcast()
    before = site.node.metric("pgrelay_messages_invalid_total")
    b.send_json({"groups": {"job_events": [1]}})
    b.send_text("x")
    b.assert_alive()
    assert site.node.metric("pgrelay_messages_invalid_total") == before + 2
    b.send_quietly(make_frame(TEXT, b"x" * 100, length=1 << 30))
    assert b.wait_closed() == 1009


def test_a_broadcaster_that_reads_nothing_is_closed():
    """It learns so of what it missed, and comes again; a hole that nobody tells would be worse."""
    for overflow in ("close", "gap"):
        with serve(node="web7", queue_limit="256kB", overflow=overflow) as node:
            stuck = node.dial(BROADCAST, [("secret", header())], receive_buffer=2048)
            assert stuck.status == 101
            reads = broadcast(node)
            c = node.connect(site.all_seeing).join(demo=["x"])
            rounds = 0

            def closed():
                nonlocal rounds
                site.sql("SELECT count(pgrelay.emit('demo', 'x', '', jsonb_build_object('pad', repeat('x', 5000)))) "
                         "FROM generate_series(1, 200)", "writer")
                rounds += 200
                c.take(200)
                for _ in range(200):
                    reads.json()
                return node.metric("pgrelay_sessions_closed_slow_total") == 1

            eventually(closed, 60, "the broadcaster that reads nothing is closed")
            c.assert_alive()
            reads.assert_alive()


# ---- programs ----


def test_the_two_libraries_of_python():
    websockets = need_module("websockets", "python3-websockets")
    websocket = need_module("websocket", "python3-websocket")
    c = join(job_events=[77])

    async def wsrelay():
        async with websockets.connect(site.node.url(RELAY), extra_headers={"secret": header()}) as ws:
            told = json.loads(await ws.recv())
            assert told["type"] == "consumer.subscribe" and told["groups"] == ["job_events-77"], told
            await ws.ping()
            await ws.send(json.dumps({"group": "job_events-77", "message": {"type": "internal.message", "text": '{"n": 1}'}}))
            assert await asyncio.get_running_loop().run_in_executor(None, c.json) == {"n": 1}

    async def wsbroadcast():
        async with websockets.connect(site.node.url(BROADCAST), extra_headers={"secret": header()}) as ws:
            await asyncio.get_running_loop().run_in_executor(None, site.emit, "job_events", "x", "77", {"n": 2})
            assert json.loads(await ws.recv()) == {"group": "job_events-77", "message": '{"n": 2}'}

    asyncio.run(asyncio.wait_for(wsrelay(), seconds(30)))
    asyncio.run(asyncio.wait_for(wsbroadcast(), seconds(30)))
    assert c.json() == {"n": 2}
    r = websocket.create_connection(site.node.url(RELAY), header=[f"secret: {header()}"], timeout=seconds(20))
    b = websocket.create_connection(site.node.url(BROADCAST), header=[f"secret: {header()}"], timeout=seconds(20))
    assert json.loads(r.recv())["groups"] == ["job_events-77"]
    r.send(json.dumps({"group": "job_events-77", "message": {"type": "internal.message", "text": '{"n": 3}'}}))
    assert c.json() == {"n": 3}
    site.emit("job_events", "x", "77", {"n": 4})
    assert json.loads(b.recv()) == {"group": "job_events-77", "message": '{"n": 4}'}
    r.close(), b.close()


def test_awx_clients_see_nothing_strange():
    """With relays and broadcasters about, each frame that AWX's client gets is what it would get from AWX."""
    b, relays = broadcast(), [relay(), relay()]
    c = join(job_events=[31], jobs=["status_changed"])
    for n in range(20):
        for r in relays:
            push(r, "job_events-31", {"group_name": "job_events", "job": 31, "counter": 2 * n})
            r.assert_alive()
        site.emit("job_events", "verbose", "31", {"group_name": "job_events", "job": 31, "counter": 2 * n + 1})
        c_got = c.take(2)
        assert [m["counter"] for m in c_got] == [2 * n, 2 * n + 1] and all(set(m) == {"group_name", "job", "counter"} for m in c_got)
        assert json.loads(b.json()["message"])["counter"] == 2 * n + 1
    c.send_frame(CLOSE, close_payload(1000))
    assert c.wait_closed() == 1000


# ---- hostile ----


def test_a_thousand_connections_without_the_header():
    c = join(job_events=[1])
    before = refused(site.node, "malformed")
    failures = []

    def storm(path):
        for _ in range(125):
            status, text = knock(site.node, path, None)
            if status != 401:
                failures.append((status, text))

    threads = [threading.Thread(target=storm, args=(BOTH[n % 2],)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures[:3]
    assert refused(site.node, "malformed") == before + 1000
    lines = [line for line in site.node.log.splitlines() if "refused a peer" in line]
    assert len(lines) < 100, f"{len(lines)} lines: a log is not for strangers to fill"
    push(relay(), "job_events-1", {"n": 1})
    assert c.json() == {"n": 1}


def test_the_header_alone_opens_nothing_else():
    for path in ("/websocket/", "/events?groups=demo-1"):
        assert knock(site.node, path, header())[0] == 401


if __name__ == "__main__":
    main()
