#!/usr/bin/env python3
"""The Digital Rebar dialect: docs/drp.md, sections 1 and 2, row by row: credentials, commands, acknowledgements."""
import base64
import datetime
import json
import os
import re
import socket
import threading

import drp
from drp import basic, bearer, connect, dial, machine, make_user, serve, settle, topics, watcher
from faults import kept_out, resident_bytes
from harness import eventually, main, patience, seconds, site
from wire import BINARY, CONTINUATION, PING, PONG, TEXT, make_frame

site.node_settings = {"connection_events": "off", "backoff_max": "200ms"}  # who registers *.*.* would see them


# ---- 1. credentials ----


class Cast:
    """One user, and what proves who he is; made when first asked for."""

    password = "r0cket: sk8ts ä"

    def __getattr__(self, name):
        assert name == "user"
        self.user = make_user("*.*.*", password=self.password)
        return self.user


cast = Cast()


def quoted(text):
    return "".join(f"%{octet:02X}" for octet in text.encode())


def assert_serves(headers=(), path=drp.PATH):
    client = dial(site.node, headers, path)
    assert client.status == 101, (headers, path, client.status, client.body)
    assert "sec-websocket-protocol" not in client.headers and "sec-websocket-extensions" not in client.headers, client.headers
    client.register("machines.*.u1")
    machine(n=1)
    assert client.next().object == {"n": 1}
    client.close()


def test_a_token_in_a_header():
    for scheme in ("Bearer", "bearer", "BEARER"):
        assert_serves({"Authorization": f"{scheme} {cast.user.token}"})


def test_name_and_password_in_a_header():
    """The first colon ends the name; the password may hold more."""
    secret = base64.b64encode(f"{cast.user.name}:{cast.password}".encode()).decode()
    for scheme in ("Basic", "basic", "BASIC"):
        assert_serves({"Authorization": f"{scheme} {secret}"})


def test_credentials_in_the_url():
    for name in ("token", "Token"):
        assert_serves(path=f"{drp.PATH}?{name}={cast.user.token}")
        assert_serves(path=f"{drp.PATH}?x=y&{name}={quoted(cast.user.name + ':' + cast.password)}&z")


def test_a_cookie_of_the_own_origin():
    for headers in ({}, {"Origin": f"http://127.0.0.1:{site.node.port}"}):
        assert_serves({"Cookie": f'token="{cast.user.token}"', **headers})


def test_a_header_wins_over_the_url_and_the_url_over_a_cookie():
    good, wrong = cast.user.token, "x" * 43
    assert_serves(bearer(good), f"{drp.PATH}?token={wrong}")
    assert_serves({"Cookie": f"token={wrong}"}, f"{drp.PATH}?token={good}")
    for headers, path in ((bearer(wrong), f"{drp.PATH}?token={good}"), ({"Cookie": f"token={good}"}, f"{drp.PATH}?token={wrong}"),
                          ({**bearer(wrong), "Cookie": f"token={good}"}, drp.PATH), (basic(cast.user.name, "wrong"), f"{drp.PATH}?token={good}")):
        assert dial(site.node, headers, path).status == 403, (headers, path)


def test_any_origin_as_far_as_no_cookie_is_taken():
    for origin in ("http://evil.example", "null", f"http://127.0.0.1:{site.node.port}"):
        assert_serves({**bearer(cast.user), "Origin": origin})
        assert_serves({"Origin": origin}, f"{drp.PATH}?token={cast.user.token}")
    refused = dial(site.node, {"Cookie": f"token={cast.user.token}", "Origin": "http://evil.example"})
    assert refused.status == 403, refused.status


def test_no_subprotocol_and_no_extension():
    assert_serves({**bearer(cast.user), "Sec-WebSocket-Protocol": "drp, chat", "Sec-WebSocket-Extensions": "permessage-deflate"})


def test_no_credential_or_a_malformed_one_is_401():
    secret = base64.b64encode(b"no colon here").decode()
    for headers, path in (({}, drp.PATH), ({}, f"{drp.PATH}?x=y"), ({"Authorization": ""}, drp.PATH), ({"Authorization": "Bearer"}, drp.PATH),
                          ({"Authorization": "Bearer "}, drp.PATH), ({"Authorization": "Basic"}, drp.PATH), ({"Authorization": "Basic !!!"}, drp.PATH),
                          ({"Authorization": f"Basic {secret}"}, drp.PATH), ({"Authorization": cast.user.token}, drp.PATH)):
        client = dial(site.node, headers, path)
        assert client.status == 401, (headers, path, client.status, client.body)
        assert client.headers["www-authenticate"] == "dr-provision" and client.body == "", (headers, client.headers, client.body)


def refusal(client, model):
    """Section 6."""
    assert client.status == 403, (client.status, client.body)
    assert client.headers["content-type"].startswith("application/json"), client.headers
    error = json.loads(client.body)
    assert list(error) == ["Model", "Key", "Type", "Messages", "Code"], error
    assert error["Model"] == model and error["Code"] == 403 and error["Type"] in ("GET", "AUTH"), error
    assert error["Messages"] and all(isinstance(text, str) for text in error["Messages"]), error
    return client.body


def test_an_unknown_name_and_a_wrong_password_are_403_and_alike():
    name = cast.user.name
    texts = {refusal(dial(site.node, basic(*pair)), "users").replace(pair[0], "NAME")
             for pair in ((name, "wrong"), (name, ""), (name, cast.password + " "), ("nobody-of-this-name", cast.password))}
    assert len(texts) == 1, f"the answer tells whether there is such a user: {texts}"
    refusal(dial(site.node, (), f"{drp.PATH}?token={quoted(name)}:wrong"), "users")
    user = site.user("*.*.*")
    refusal(dial(site.node, basic(user.name, "")), "users")  # who has no password has no empty one


def test_an_unknown_token_is_403_and_not_told_back():
    wrong = "q" * 43
    for headers, path in ((bearer(wrong), drp.PATH), ({}, f"{drp.PATH}?token={wrong}"), ({}, f"{drp.PATH}?Token={wrong}"), ({"Cookie": f"token={wrong}"}, drp.PATH)):
        assert wrong not in refusal(dial(site.node, headers, path), "system")


def test_a_token_that_has_expired_or_was_revoked_is_403():
    user = site.user("*.*.*")
    brief = site.token(user.name, "--ttl", "1s")
    eventually(lambda: dial(site.node, bearer(brief)).status == 403, what="it expires")
    refusal(dial(site.node, bearer(brief)), "system")
    site.sql(f"SELECT count(pgrelay.token_revoke(id)) FROM pgrelay.token WHERE user_id = {user.id}")
    eventually(lambda: dial(site.node, bearer(user)).status == 403, what="it is revoked")


def test_what_cannot_be_asked_is_503():
    with serve(max_sessions=1, query_timeout=f"{seconds(1)}s") as node:
        served = connect(node, cast.user)
        full = dial(node, bearer(cast.user))
        assert full.status == 503 and json.loads(full.body)["Code"] == 503 and "retry-after" in full.headers, (full.status, full.headers, full.body)
        served.close()
        eventually(lambda: node.metric("pgrelay_sessions") == 0)
        with kept_out():
            away = eventually(lambda: (c := dial(node, bearer(cast.user))).status == 503 and c, what="the database is away")
            assert json.loads(away.body)["Code"] == 503 and "retry-after" in away.headers, (away.headers, away.body)


def test_what_is_no_websocket_is_told_so():
    client = drp.Client(site.node.port).upgrade(drp.PATH, bearer(cast.user), upgrade=False)
    assert 400 <= client.status < 500, client.status
    client = drp.Client(site.node.port).upgrade(drp.PATH, bearer(cast.user), version="8")
    assert client.status in (400, 426), client.status


def test_the_server_pings_and_answers_pings():
    with serve(ping_interval="200ms", ping_timeout=f"{seconds(1)}s") as node:
        client = watcher(None, "machines.*.*", node=node)
        frame = client.frame()
        assert frame.opcode == PING, frame
        client.send_frame(PONG, frame.payload)
        client.send_frame(PING, b"mine")
        while (frame := client.frame()).opcode == PING:
            client.send_frame(PONG, frame.payload)
        assert frame.opcode == PONG and frame.payload == b"mine", frame
        client.answers_pings = False
        assert client.wait_closed() == 1008


# ---- 2. acknowledgements ----


def raw_acknowledgement(word, pattern):
    return re.compile(r'\{"Time":"([^"]+)","Type":"websocket","Action":"%s","Key":"%s","Principal":"","Object":null,"Original":null\}' % (word, re.escape(pattern)))


def test_the_acknowledgement_is_this_text():
    client = connect(site.node, site.all_seeing)
    for word in ("register", "register", "deregister", "deregister"):
        before = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(seconds=10)
        client.command(word, "machines.*.*")
        text = client.text()
        match = raw_acknowledgement(word, "machines.*.*").fullmatch(text)
        assert match and drp.TIME.fullmatch(match[1]) and match[1].endswith("Z"), text
        told = datetime.datetime.fromisoformat(re.sub(r"\.\d+", "", match[1]).replace("Z", "+00:00"))
        assert before <= told <= before + datetime.timedelta(seconds=seconds(30)), (text, before)
    assert not settle(client)


def test_each_command_is_acknowledged_once_and_in_order():
    client = connect(site.node, site.all_seeing)
    commands = []
    for n in range(150):
        commands += [("register", f"machines.*.k{n % 7}"), ("deregister", f"machines.*.k{(n + 3) % 7}"), ("register", f"jobs,tasks.*.{n}")][: 1 + n % 3]
    for word, pattern in commands:
        client.command(word, pattern)
    for word, pattern in commands:
        assert not client.take_acknowledgement(word, pattern)
    assert not settle(client)


KEYS = ["a.b.c", "a..b.", ".", "a b", "100%", "%2A", "%20x", "ä€😀", "it's", '"quoted"', "back\\slash", "\\4", "<&>", "{}[]", "user:bob", "/a/b?c=d", "-",
        "x" * 255, "é" * 127, "machines", "\u2028"]


def test_keys_of_every_kind():
    """In patterns a key is written as it is, and so it is in the acknowledgement and the event."""
    client = connect(site.node, site.all_seeing)
    for key in KEYS:
        client.register(f"files.write.{key}")
        site.emit("files", "write", key, {"of": key})
        event = client.next()
        assert (event.key, event.object) == (key, {"of": key}), (key, event)
        client.deregister(f"files.write.{key}")


def test_escapes():
    client = connect(site.node, site.all_seeing)
    for pattern, key in (("a\\1b", "a.b"), ("a\\2b", "a,b"), ("\\3", "*"), ("a\\3\\2\\1", "a*,."), ("\\1", "."), ("\\2,\\3x", ","), ("p,\\2", ","), ("\\3,q", "*")):
        client.register(f"files.write.{pattern}")
        site.emit("files", "write", "x", {})
        site.emit("files", "write", pattern, {})
        site.emit("files", "write", key, {"of": key})
        event = client.next()
        assert event.key == key, (pattern, event)
        client.deregister(f"files.write.{pattern}")


def test_lists():
    client = connect(site.node, site.all_seeing).register("machines, leases ,tasks.create,delete.a,b.c, d e")
    for type, action, key in (("machines", "create", "x"), ("machines", "update", "a"), ("jobs", "create", "a"), ("leases", "delete", "b.c"),
                              ("tasks", "create", "a"), ("machines", "create", "b"), ("machines", "delete", "d e"), ("tasks", "create", "a,b.c")):
        site.emit(type, action, key, {})
    assert topics(settle(client)) == ["leases.delete.b.c", "tasks.create.a", "machines.delete.d e"]


def test_a_list_with_an_asterisk_in_it_is_an_asterisk():
    client = connect(site.node, site.all_seeing).register("machines.create,*.u1", "leases.create. x , *")
    for topic in (("machines", "update", "u1"), ("machines", "update", "u2"), ("leases", "create", "any"), ("leases", "update", "x")):
        site.emit(*topic, {})
    assert topics(settle(client)) == ["machines.update.u1", "leases.create.any"]


def test_there_are_no_other_wildcards():
    client = connect(site.node, site.all_seeing)
    for pattern in ("machines.upd*.u1", "mach*.*.*", "machines.*.u*", "machines.*.*1", "machines.update.?1", "machines.**.u1", "Machines.*.*", "machines.*.U1"):
        client.ask("register", pattern)
    machine()
    site.emit("machines", "update", "u*", {})
    assert topics(settle(client)) == ["machines.update.u*"]


def test_what_stands_behind_the_third_dot_is_the_key_s():
    client = connect(site.node, site.all_seeing).register("machines.update.u1.Name Eq x", "machines.update.*.x")
    machine()
    site.emit("machines", "update", "u1.Name Eq x", {})
    site.emit("machines", "update", "*.x", {})
    assert topics(settle(client)) == ["machines.update.u1.Name Eq x", "machines.update.*.x"]


def test_an_empty_key_is_one():
    client = connect(site.node, site.all_seeing).register("machines.update.")
    machine()
    machine("")
    assert topics(settle(client)) == ["machines.update."]


def test_white_space_around_the_frame_is_dropped():
    client = connect(site.node, site.all_seeing)
    for frame in (" register machines.*.u1", "register machines.*.u1\n", "\r\n\t register machines.*.u1 \t\r\n\v\f"):
        client.send_text(frame)
        assert not client.take_acknowledgement("register", "machines.*.u1")
    machine(n=1)
    assert len(settle(client)) == 1


def test_the_first_space_splits():
    client = connect(site.node, site.all_seeing)
    client.send_text("register  machines.*.u1")
    client.take_acknowledgement("register", " machines.*.u1")
    for word in ("register", "deregister"):
        client.send_text(f"{word} machines.*.a b  c")
        assert not client.take_acknowledgement(word, "machines.*.a b  c")


def test_two_lines_in_one_frame_are_one_pattern():
    client = connect(site.node, site.all_seeing)
    client.send_text("register machines.*.u1\nregister machines.*.u2")
    client.take_acknowledgement("register", "machines.*.u1\nregister machines.*.u2")
    machine("u1")
    machine("u2")
    assert not settle(client)


def test_a_command_in_fragments():
    client = connect(site.node, site.all_seeing)
    client.send_frame(TEXT, b"regis", fin=False)
    client.send_frame(PING, b"between")
    client.send_frame(CONTINUATION, b"ter machines.*.u", fin=False)
    client.send_frame(CONTINUATION, b"1")
    frame = client.frame()
    assert frame.opcode == PONG, frame
    assert not client.take_acknowledgement("register", "machines.*.u1")


BAD = ["machines", "machines.update", "..", "machines..u1", ".update.u1", "ma chines.*.*", "machines.up date.u1", "ma\\1chines.*.*", "mäschinen.*.*",
       "x" * 64 + ".*.*", "machines." + "x" * 64 + ".u1", "a/b.c.d", "machines.*." + "x" * 256, '"quoted', "{}", "*", "a,b"]


def test_a_pattern_that_can_match_nothing_is_told_and_acknowledged_once():
    client = connect(site.node, site.all_seeing).register("machines.*.u1")
    for pattern in BAD:
        notices = client.ask("register", pattern)
        assert [(n.type, n.action, n.key) for n in notices] == [("pgrelay", "error", pattern)], (pattern, notices)
        (notice,) = notices
        assert list(notice.object) == ["Message"] and len(notice.object["Message"]) > 10, notice
        assert (notice.principal, notice.original) == ("", None), notice
    machine(n=1)
    assert topics(settle(client)) == ["machines.update.u1"]
    for pattern in BAD:
        client.ask("deregister", pattern)
    assert not settle(client)


def test_what_is_no_command_is_not_acknowledged():
    client = connect(site.node, site.all_seeing).register("machines.*.u1")
    wrong = ["hello", "register", "deregister", "register ", "REGISTER a.b.c", "Register a.b.c", "unregister machines.*.u1", "", "   ", "foo bar",
             "registermachines.*.*", "register\tmachines.*.u2", '{"groups": {"machines": ["u1"]}}', "x" * 5000]
    for text in wrong:
        client.send_text(text)
        notice = client.event()
        assert (notice.type, notice.action, notice.key) == ("pgrelay", "error", ""), (text, notice)
        assert list(notice.object) == ["Message"] and "x" * 1000 not in notice.text, notice
    machine("u2")
    machine("u1")
    assert topics(settle(client)) == ["machines.update.u1"]


def test_a_binary_message_is_passed_over():
    client = connect(site.node, site.all_seeing)
    for octets in (b"register machines.*.u2", b"", b"\x00\xff" * 100):
        client.send_frame(BINARY, octets)
    client.register("machines.*.u1")
    machine("u2")
    machine("u1")
    assert topics(settle(client)) == ["machines.update.u1"]


def test_messages_of_more_than_512_octets():
    client = connect(site.node, site.all_seeing)
    keys = [f"00000000-0000-4000-8000-{n:012}" for n in range(105)]
    client.register("machines.update." + ",".join(keys))
    for key in (keys[0], "other", keys[-1]):
        machine(key)
    assert [event.key for event in settle(client)] == [keys[0], keys[-1]]


def test_a_message_larger_than_max_message_bytes_is_1009():
    with serve(max_message_bytes="1kB") as node:
        client = connect(node, site.all_seeing).register("machines.*." + "x" * 200)
        client.send_text("register machines.*." + " " * (1024 - 20))
        client.take_acknowledgement("register", "machines.*.")
        client.send_text("register machines.*." + "y" * (1025 - 20))
        assert client.wait_closed() == 1009


def test_text_that_is_not_utf_8_is_1007():
    client = connect(site.node, site.all_seeing)
    client.send_text(b"register machines.*.\xff")
    assert client.wait_closed() == 1007


def test_an_unmasked_frame_is_1002():
    client = connect(site.node, site.all_seeing)
    client.send_frame(TEXT, b"register machines.*.u1", mask=False)
    assert client.wait_closed() == 1002


# ---- how many ----


def words(prefix, n):
    return ",".join(f"{prefix}{i}" for i in range(n))


def test_a_command_stands_for_1000_patterns_at_most():
    with serve(max_groups=5000) as node:
        client = connect(node, site.all_seeing)
        client.register(f"{words('t', 10)}.{words('a', 10)}.{words('k', 10)}")
        too_many = f"{words('u', 10)}.{words('a', 10)}.{words('k', 11)}"
        (notice,) = client.ask("register", too_many)
        assert (notice.action, notice.key) == ("error", too_many) and "1000" in notice.object["Message"].replace(",", ""), notice.text[-300:]
        site.emit("u3", "a3", "k3", {})
        site.emit("t9", "a9", "k9", {})
        site.emit("t9", "a9", "k10", {})
        assert topics(settle(client)) == ["t9.a9.k9"]
        assert not client.ask("deregister", too_many)


def test_a_session_may_have_max_groups_of_them():
    with serve(max_groups=6) as node:
        client = connect(node, site.all_seeing).register("machines.*.a,b,c")
        (notice,) = client.ask("register", "tasks.create,delete.x,y")
        assert notice.action == "error" and "max_groups" in notice.object["Message"], notice
        client.register("leases.*.*", "machines.*.a,b,c")  # what is registered already counts once
        for topic in (("tasks", "create", "x"), ("machines", "x", "b"), ("leases", "x", "y")):
            site.emit(*topic, {})
        events = client.take(2)
        assert events == ["machines.x.b", "leases.x.y"], events
        client.deregister("machines.*.a,b,c").register("tasks.create,delete.x,y")
        site.emit("tasks", "create", "x", {})
        assert client.take(1) == ["tasks.create.x"]


# ---- register and deregister ----


def test_who_has_registered_nothing_gets_nothing():
    idle, client = connect(site.node, site.all_seeing), watcher(None, "machines.*.*")
    machine(n=1)
    assert client.next().object == {"n": 1}
    idle.register("machines.*.*")
    machine(n=2)
    assert idle.next().object == {"n": 2}


def test_an_event_comes_once_however_many_patterns_match():
    client = watcher(None, "*.*.*", "machines.*.*", "machines.update.u1", "machines,leases.update,create.u1,u2", "*.update.u1")
    machine(n=1)
    machine(n=2)
    assert client.objects(2) == [{"n": 1}, {"n": 2}]
    client.deregister("*.*.*", "machines.update.u1")
    machine(n=3)
    machine("other", n=4)
    assert client.objects(2) == [{"n": 3}, {"n": 4}]


def test_what_was_registered_twice_counts_once():
    client = watcher(None, "machines.*.u1", "machines.*.u1").deregister("machines.*.u1")
    machine()
    assert not settle(client)


def test_deregister_takes_back_the_very_same_text():
    client = watcher(None, "machines.*.*", "machines.update.u1", "leases, tasks.*.*")
    client.deregister("machines.update.*", "leases,tasks.*.*", "tasks, leases.*.*", "*.*.*", "Machines.*.*", "machines.*.*x")
    machine("u2")
    site.emit("tasks", "create", "t", {})
    assert topics(settle(client)) == ["machines.update.u2", "tasks.create.t"]
    client.deregister("machines.*.*")
    machine("u2")
    machine("u1")
    assert topics(settle(client)) == ["machines.update.u1"]
    client.deregister("leases, tasks.*.*", "machines.update.u1")
    machine("u1")
    site.emit("tasks", "create", "t", {})
    assert not settle(client)


def test_patterns_that_share_a_part_do_not_take_it_along():
    client = watcher(None, "machines,leases.*.*", "leases,tasks.*.*").deregister("machines,leases.*.*")
    for type in ("machines", "leases", "tasks"):
        site.emit(type, "create", "x", {})
    assert topics(settle(client)) == ["leases.create.x", "tasks.create.x"]


def test_what_is_committed_after_the_acknowledgement_is_seen():
    client = connect(site.node, site.all_seeing)
    for n in range(200):
        client.register(f"machines.create.k{n}")
        site.emit("machines", "create", f"k{n}", {"n": n})
        assert client.next().object == {"n": n}
        if n % 2:
            client.deregister(f"machines.create.k{n}")
            site.emit("machines", "create", f"k{n}", {"n": "no"})


def test_while_the_database_cannot_be_asked_the_acknowledgement_waits():
    with serve(query_timeout=f"{seconds(1)}s", probe_interval="200ms") as node:
        client = connect(node, site.all_seeing).register("machines.*.u1")
        with kept_out():
            client.command("register", "machines.*.u2")
            client.command("deregister", "machines.*.u1")
            eventually(lambda: node.get("/readyz").status == 503)
            client.assert_alive()
        client.take_acknowledgement("register", "machines.*.u2")
        client.take_acknowledgement("deregister", "machines.*.u1")
        machine("u1")
        machine("u2")
        assert client.take(1) == ["machines.update.u2"]


def test_commands_that_wait_take_little_memory():
    """What comes while a question is under way waits in the socket, but for a little."""
    with serve(query_timeout=f"{seconds(1)}s", probe_interval="200ms") as node:
        client = connect(node, site.all_seeing)
        pattern, count = "machines.update." + "x" * 240, 30000
        before = resident_bytes(node.pid)
        with kept_out():
            flood = threading.Thread(target=client.send_quietly, args=(make_frame(TEXT, f"register {pattern}".encode()) * count,), daemon=True)
            flood.start()
            eventually(lambda: unread_octets(node.port) > 50000, what="the socket is full")
            grown = resident_bytes(node.pid) - before
            assert patience() > 1 or grown < 4 << 20, grown
        for _ in range(count):
            client.take_acknowledgement("register", pattern)
        flood.join()
        client.register("machines.update.u1")


def unread_octets(port):
    """What the node has not taken from its sockets."""
    with open("/proc/net/tcp") as f:
        rows = [line.split() for line in f.readlines()[1:]]
    return max((int(row[4].split(":")[1], 16) for row in rows if int(row[1].split(":")[1], 16) == port and row[3] == "01"), default=0)


def busy_seconds(pid):
    """What a process has had of the processors."""
    with open(f"/proc/{pid}/stat") as f:
        fields = f.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_to_take_back_one_of_a_thousand_patterns_costs_little():
    """The time of the loop is everybody's."""
    client = connect(site.node, site.all_seeing).register("leases.update." + ",".join(map(str, range(990))))
    before = busy_seconds(site.node.pid)
    for word in ("register", "deregister") * 200:
        client.command(word, "tasks.update.x")
    for word in ("register", "deregister") * 200:
        assert not client.take_acknowledgement(word, "tasks.update.x")
    took = busy_seconds(site.node.pid) - before
    assert took < seconds(1), f"{took} s"
    for key in ("990", "989"):
        site.emit("leases", "update", key, {})
        site.emit("tasks", "update", "x", {})
    assert topics(settle(client)) == ["leases.update.989"]


# ---- the denied ----


def test_a_pattern_of_which_nothing_may_be_seen_is_denied_and_acknowledged():
    client = connect(site.node, make_user("machines.*.u1", "end.*.*"))
    for pattern in ("leases.*.*", "machines.update.u2", "machines,leases.*.u2"):
        (notice,) = client.ask("register", pattern)
        assert (notice.type, notice.action, notice.key, notice.object, notice.original, notice.principal) == ("pgrelay", "denied", pattern, None, None, ""), notice
    client.register("machines.*.*", "*.update.*", "machines,leases.*.u1,u2")
    for topic in (("machines", "update", "u2"), ("leases", "update", "u1"), ("machines", "update", "u1")):
        site.emit(*topic, {})
    assert topics(settle(client)) == ["machines.update.u1"]


# ---- the path ----


def test_only_this_path_is_it():
    for path in ("/api/v3/wsx", "/api/v3/WS", "/api/v2/ws", "/api/v3", "/api/v3/ws/x"):
        client = dial(site.node, bearer(cast.user), path)
        assert client.status == 404, (path, client.status)


def test_half_a_handshake_and_an_abrupt_end():
    client = watcher(None, "machines.*.*")
    for _ in range(20):
        hasty = drp.Client(site.node.port)
        hasty.send(hasty.request(drp.PATH, bearer(cast.user)))
        hasty.close()
        abrupt = watcher(None, "machines.*.*")
        abrupt.socket.shutdown(socket.SHUT_WR)
    machine(n=1)
    assert client.next().object == {"n": 1}
    eventually(lambda: site.node.metric("pgrelay_sessions") <= 2, what="they are gone")


if __name__ == "__main__":
    main(limit=60)
