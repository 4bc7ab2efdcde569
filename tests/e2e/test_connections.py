#!/usr/bin/env python3
"""Connections of all nodes: listed, shown, closed, and told of by events (docs/drp.md, section 7)."""
import contextlib
import datetime
import json
import signal
import socket
import threading
import time
import urllib.parse

import drp
from harness import Client, Node, User, eventually, free_port, main, quote, seconds, site
from mesh import Player, cluster, make_header, start, wait_linked, wait_log
from stream import Stream
from wire import BINARY, TEXT, Closed, make_frame

PATH = "/api/v3/connections"
FIELDS = ["CreateTime", "ExpiresAt", "Principal", "RemoteAddr", "Type", "Node"]
NEVER = "0001-01-01T00:00:00Z"
REASON = "closed by an administrator"


def request(node, user, path=PATH, method="GET", **options):
    return node.get(path, method, headers={"Authorization": f"Bearer {user.token}"}, **options)


def ask(node, user, path=PATH, method="GET"):
    reply = request(node, user, path, method)
    assert reply.status == 200 and reply.headers["content-type"].startswith("application/json"), reply
    return json.loads(reply.body)


def refused(node, user, status, path=PATH, method="GET"):
    """The message of an error."""
    reply = request(node, user, path, method)
    assert reply.status == status, reply
    error = json.loads(reply.body)
    assert list(error) == ["Model", "Key", "Type", "Messages", "Code"] and error["Model"] == "connections", error
    assert error["Code"] == status and len(error["Messages"]) == 1, error
    assert error["Type"] == ("AUTH" if status == 403 else method), error
    return error["Messages"][0]


def one(address):
    return f"{PATH}/{urllib.parse.quote(address, safe='')}"


def address(client):
    host, port = client.socket.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def connect(node, user):
    """From a port that no other connection has: without a bind() two towards different nodes may be given the same."""
    return node.connect(user, source="127.0.0.1")


def follow(node, user, groups="jobs-status_changed"):
    client = Stream(node.port, groups, user.token, timeout=seconds(20), source="127.0.0.1")
    site.clients.append(client)
    assert client.status == 200, (client.status, client.body)
    client.groups()
    return client


def addresses(connections):
    return [c["RemoteAddr"] for c in connections]


def wait_listed(node, user, clients, path=PATH):
    """Until these are in the list, and no others; the list."""
    def listed():
        found = ask(node, user, path)
        assert sorted(addresses(found)) == sorted(map(address, clients)), found
        return found or True

    return eventually(listed, what="all of them are listed, and no others")


def may_publish(user, *patterns):
    site.pgrelay("grant", "add", "--publish", user.name, *patterns)
    return user


def age(text):
    """Seconds since this time."""
    when = datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
    return (datetime.datetime.now(datetime.timezone.utc) - when).total_seconds()


@contextlib.contextmanager
def stopped(node):
    node.process.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        node.process.signal(signal.SIGCONT)


# ---- lists ----


def test_any_node_lists_the_connections_of_all():
    with cluster(3) as nodes:
        operator = site.user("connections.list.*")
        bob, ann = site.user("*.*.*"), site.user("*.*.*")
        assert ask(nodes[0], operator) == [], "links are none"
        clients = [connect(nodes[0], bob), connect(nodes[2], ann), follow(nodes[1], bob)]
        relay = nodes[0].dial("/websocket/relay/", [("secret", make_header(nonce=str(int(time.time()))))])
        assert relay.status == 101, "AWX's relays are none, either"
        for node in nodes:
            found = {c["RemoteAddr"]: c for c in wait_listed(node, operator, clients)}
            for client, user, name, kind in zip(clients, (bob, ann, bob), ("n0", "n2", "n1"), ("websocket", "websocket", "api")):
                c = found[address(client)]
                assert list(c) == FIELDS, c
                assert (c["Principal"], c["Node"], c["Type"], c["ExpiresAt"]) == (f"user:{user.name}", name, kind, NEVER), c
                assert c["CreateTime"].endswith("Z") and -1 < age(c["CreateTime"]) < seconds(60), c
        clients.pop(1).close()
        wait_listed(nodes[0], operator, clients)


def test_when_the_credential_expires_is_told():
    operator = site.user("connections.list.*")
    short = User(operator.name, site.token(operator.name, "--ttl", "1h"))
    client = site.node.connect(short)
    found = ask(site.node, operator, one(address(client)))
    assert 3500 - seconds(60) < -age(found["ExpiresAt"]) < 3602, found
    client.close()


def test_filters_order_and_pages_go_over_all_nodes():
    with cluster(2) as nodes:
        operator = site.user("connections.list.*")
        users = [site.user("*.*.*") for _ in range(2)]
        clients = [connect(nodes[n % 2], users[n // 2 % 2]) for n in range(8)] + [follow(nodes[1], users[0])]
        everything = wait_listed(nodes[0], operator, clients)
        numbers = [int(a.rpartition(":")[2]) for a in addresses(everything)]
        assert numbers == sorted(numbers), "without an order by address"
        by_time = sorted(everything, key=lambda c: c["CreateTime"].rstrip("Z"))  # zeros at the end are left out

        def query(**parameters):
            return ask(nodes[0], operator, f"{PATH}?{urllib.parse.urlencode(parameters)}")

        assert query(sort="CreateTime") == by_time and query(sort="CreateTime", reverse="true") == by_time[::-1]
        for offset in range(0, 10, 3):
            assert query(sort="CreateTime", offset=offset, limit=3) == by_time[offset:offset + 3]
        assert query(limit=0) == []
        assert query(Type="api") == [c for c in everything if c["Type"] == "api"] != []
        name = f"user:{users[1].name}"
        assert query(Principal=name) == [c for c in everything if c["Principal"] == name] and len(query(Principal=name)) == 4
        assert query(Principal=f"Ne({name})", Type="websocket", limit=2) == [
            c for c in everything if c["Principal"] != name and c["Type"] == "websocket"][:2]
        middle = by_time[4]["CreateTime"]
        assert query(CreateTime=f"Lt({middle})", sort="CreateTime") == by_time[:4]
        assert query(CreateTime=f"Between({middle},{by_time[6]['CreateTime']})", sort="CreateTime") == by_time[4:7]
        assert query(RemoteAddr=f"Gt({everything[2]['RemoteAddr']})") == everything[3:]
        assert query(RemoteAddr="Lt(127.0.0.1:0)") == [] and query(RemoteAddr="127.0.0.1") == everything
        assert ask(nodes[0], operator, f"{PATH}?Type=websocket&Type=api") == []
        assert ask(nodes[0], operator, f"{PATH}?reverse") == everything[::-1]


def test_what_is_asked_wrongly_is_400():
    operator = site.user("connections.list.*")
    for query, what in (
        ("Name=x", 'unknown filter "Name"'), ("RemoteAddr=Lt(here)", "192.0.2.7:50312"), ("Type=Like(web)", '"Like"'),
        ("limit=-1", "invalid limit"), ("offset=50000", "filters make it shorter"), ("sort=Node", '"Node"'),
        ("CreateTime=Between(2026-11-22T10:00:00Z)", "two values"), ("Type=%FF(", None),
    ):
        if what is not None:
            assert what in refused(site.node, operator, 400, f"{PATH}?{query}"), query
        else:
            assert ask(site.node, operator, f"{PATH}?{query}") == []
    refused(site.node, operator, 400, f"{PATH}?%FF=1")


def test_only_what_is_granted_is_seen():
    with cluster(2) as nodes:
        bob, ann = site.user("*.*.*"), site.user("*.*.*")
        clients = [connect(nodes[0], bob), connect(nodes[1], bob), connect(nodes[1], ann)]
        some = site.user(f"connections.list.user:{bob.name}", "connections.list.runner:none", "connections.create.*")
        wait_listed(nodes[0], some, clients[:2])
        assert ask(nodes[0], some, f"{PATH}?Principal=user:{ann.name}") == []
        assert ask(nodes[0], some, one(address(clients[1])))["Node"] == "n1"
        refused(nodes[0], some, 404, one(address(clients[2])))
        type_alone = site.user(f"connections.*.user:{ann.name}")
        wait_listed(nodes[0], type_alone, clients[2:])
        nobody = site.user("connections.create.*")
        assert "connections.list.*" in refused(nodes[0], nobody, 403)
        refused(nodes[0], nobody, 404, one(address(clients[0])))
        reply = nodes[0].get(PATH)
        assert reply.status == 401 and reply.headers["www-authenticate"] == "dr-provision" and not reply.body, reply
        assert nodes[0].get(PATH, headers={"Authorization": "Bearer none"}).status == 403


def test_a_user_with_many_grants():
    with cluster(2) as nodes:
        bob = site.user("*.*.*")
        clients = [connect(nodes[1], bob)]
        many = site.user(f"connections.list.user:{bob.name}")
        grants = "INSERT INTO pgrelay.grants (user_id, pattern) SELECT {}, 'connections.list.user:' || n || repeat('x', {}) FROM generate_series(1, {}) n"
        site.sql(grants.format(many.id, 40, 5000))
        wait_listed(nodes[0], many, clients)
        site.sql(grants.format(many.id, 200, 3000))
        assert "connections.list.*" in refused(nodes[0], many, 400)
        site.sql(f"DELETE FROM pgrelay.grants WHERE user_id = {many.id}")


def test_names_that_need_care():
    operator = site.user("connections.list.*")
    names = ['a "b" \\ c', "x,y*%", "\u00e4\u0416\U0001f600", "n" * 255]
    clients = []
    for name in names:
        user = User(name, site.token(name))
        clients.append(site.node.connect(user))
        key = name[:250].replace("%", "%25").replace(" ", "%20").replace(",", "%2C").replace("*", "%2A")
        narrow = site.user(f"connections.list.user:{key}")
        assert [c["Principal"] for c in ask(site.node, narrow)] == [f"user:{name[:250]}"]
    assert {c["Principal"] for c in ask(site.node, operator)} == {f"user:{name[:250]}" for name in names}
    for client in clients:
        client.close()


# ---- machines ----


def test_a_machine_s_connections():
    with cluster(2) as nodes:
        uuid = "0d4c7c52-9d1b-4f0e-8f1e-6e4a3f0b6a01"
        runner = User(f"runner:{uuid}", site.token(f"runner:{uuid}"))
        other = site.user("*.*.*")
        operator = site.user("connections.list.*")
        clients = [connect(nodes[1], runner), connect(nodes[0], runner), connect(nodes[0], other)]
        wait_listed(nodes[0], operator, clients)
        for kind in ("machines", "clusters", "resource_brokers"):
            found = ask(nodes[0], operator, f"/api/v3/{kind}/{uuid}/connections")
            assert sorted(addresses(found)) == sorted(map(address, clients[:2])), found
            assert {c["Principal"] for c in found} == {f"runner:{uuid}"}
        assert ask(nodes[0], operator, f"/api/v3/machines/{uuid}/connections?RemoteAddr={address(clients[0])}&limit=5") == [
            c for c in found if c["RemoteAddr"] == address(clients[0])]
        assert ask(nodes[0], operator, "/api/v3/machines/none/connections") == []
        assert request(nodes[0], operator, f"/api/v3/jobs/{uuid}/connections").status == 404


# ---- closing ----


def test_a_connection_is_closed_wherever_it_is():
    with cluster(3) as nodes:
        bob = site.user("*.*.*")
        operator = may_publish(site.user("connections.list.*"), "connections.delete.*")
        clients = [connect(node, bob) for node in nodes]
        stream = follow(nodes[2], bob)
        wait_listed(nodes[0], operator, [*clients, stream])
        for client in (clients[2], clients[0]):
            shown = ask(nodes[0], operator, one(address(client)))
            assert ask(nodes[0], operator, one(address(client)), "DELETE") == shown
            assert client.take_close() == (1008, REASON)
        ask(nodes[0], operator, one(address(stream)), "DELETE")
        stream.wait_end()
        wait_listed(nodes[0], operator, [clients[1]])
        clients[1].assert_alive()
        refused(nodes[0], operator, 404, one(address(clients[2])), "DELETE")
        wait_log(nodes[0], f"{operator.name} closes the connection of user:{bob.name}, {address(clients[2])} on node \"n2\"")


def test_who_may_close():
    with cluster(2) as nodes:
        bob, ann = site.user("*.*.*"), site.user("*.*.*")
        clients = [connect(nodes[1], bob), connect(nodes[1], ann)]
        seer = site.user("connections.*.*")
        wait_listed(nodes[0], seer, clients)
        assert "connections.delete" in refused(nodes[0], seer, 403, one(address(clients[0])), "DELETE")
        blind = may_publish(site.user("jobs.*.*"), "*.*.*")
        refused(nodes[0], blind, 404, one(address(clients[0])), "DELETE")
        some = may_publish(site.user("connections.list.*"), f"connections.delete.user:{bob.name}")
        refused(nodes[0], some, 403, one(address(clients[1])), "DELETE")
        for client in clients:
            client.assert_alive()
        ask(nodes[0], some, one(address(clients[0])), "DELETE")
        assert clients[0].take_close() == (1008, REASON)
        clients[1].assert_alive()
        for path in ("127.0.0.1:1", "127.0.0.1", "here", "%5B::1", "127.0.0.1:99999"):
            refused(nodes[0], some, 404, f"{PATH}/{path}")
            refused(nodes[0], some, 404, f"{PATH}/{path}", "DELETE")
        reply = request(nodes[0], some, one("127.0.0.1:1"), "POST", body=b"{}")
        assert reply.status == 405 and {m.strip() for m in reply.headers["allow"].split(",")} >= {"GET", "DELETE"}, reply


class Client6(Client):
    """By IPv6."""

    def __init__(self, port):
        super().__init__(port, timeout=seconds(20))
        self.socket.close()
        self.socket = socket.socket(socket.AF_INET6)
        self.socket.settimeout(self.timeout)
        self.socket.connect(("::1", port))
        site.clients.append(self)


def test_ipv6_in_brackets():
    port = free_port()
    with start("n0", port=port, listen=f"127.0.0.1:{port},[::1]:{port}") as first, start("n1") as second:
        wait_linked([first, second])
        bob = site.user("*.*.*")
        operator = may_publish(site.user("connections.list.*"), "connections.delete.*")
        old = connect(first, bob)
        client = Client6(port)
        client.upgrade(f"/websocket/?token={bob.token}")
        assert client.status == 101
        client.json()
        wait_listed(second, operator, [old, client])
        name = address(client)
        assert name.startswith("[::1]:")
        assert addresses(ask(second, operator)) == [address(old), name], "IPv4 comes first"
        assert addresses(ask(second, operator, f"{PATH}?RemoteAddr=Lt([::]:0)")) == [address(old)]
        number = name.rpartition(":")[2]
        for path in (name, urllib.parse.quote(name, safe=""), f"[0:0:0:0:0:0:0:1]:{number}"):
            assert ask(second, operator, f"{PATH}/{path}")["RemoteAddr"] == name, path
        ask(second, operator, f"{PATH}/{name}", "DELETE")
        assert client.take_close() == (1008, REASON)


# ---- nodes that do not answer ----


def test_a_node_that_hangs_costs_one_second():
    with cluster(3) as nodes:
        bob = site.user("*.*.*")
        operator = may_publish(site.user("connections.list.*"), "connections.delete.*")
        clients = [connect(node, bob) for node in nodes]
        wait_listed(nodes[0], operator, clients)
        with stopped(nodes[1]):
            began = time.monotonic()
            assert sorted(addresses(ask(nodes[0], operator))) == sorted(map(address, (clients[0], clients[2])))
            took = time.monotonic() - began
            assert 0.9 < took < seconds(2), took
            refused(nodes[0], operator, 404, one(address(clients[1])), "DELETE")
        wait_listed(nodes[0], operator, clients)


def test_who_asks_may_hang_up_or_the_node_may_end_meanwhile():
    with cluster(2) as nodes:
        bob = site.user("*.*.*")
        operator = may_publish(site.user("connections.list.*"), "connections.delete.*")
        client, far = connect(nodes[0], bob), connect(nodes[1], bob)
        wait_listed(nodes[0], operator, [client, far])

        def begin(method, path):
            s = socket.create_connection(("127.0.0.1", nodes[0].port), seconds(20))
            s.sendall(f"{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {operator.token}\r\n\r\n".encode())
            return s

        with stopped(nodes[1]):
            for method, path in (("GET", PATH), ("GET", one(address(far))), ("DELETE", one(address(client)))):
                begin(method, path).close()
            client.assert_alive()
            waiting = [begin("GET", PATH) for _ in range(40)]
            statuses = [s.recv(100).split()[1] for s in waiting]
            assert statuses.count(b"503") >= 8 and statuses.count(b"200") == 40 - statuses.count(b"503"), statuses
        eventually(lambda: len(ask(nodes[0], operator)) >= 1, what="it answers again")
        with stopped(nodes[1]):
            waiting = begin("GET", PATH)
            wait_asked = time.monotonic()
            nodes[0].process.signal(signal.SIGTERM)
            assert waiting.recv(100).split()[1] in (b"200", b"503")
            nodes[0].process.wait()
            nodes[0].stop()
            assert time.monotonic() - wait_asked < seconds(10)
        nodes.pop(0)


def test_a_node_that_ends_meanwhile_is_left_out():
    with cluster(2) as nodes:
        bob = site.user("*.*.*")
        operator = site.user("connections.list.*")
        client = connect(nodes[0], bob)
        connect(nodes[1], bob)
        with stopped(nodes[1]):
            nodes[1].process.kill()
        wait_listed(nodes[0], operator, [client])
        nodes.pop()


def test_without_a_secret_a_node_lists_its_own():
    with start("n0", secret=None) as first, start("n1", secret=None) as second:
        bob = site.user("*.*.*")
        operator = may_publish(site.user("connections.list.*"), "connections.delete.*")
        for node in (first, second):
            node.wait_ready()
        mine, other = connect(first, bob), connect(second, bob)
        wait_listed(first, operator, [mine])
        wait_listed(second, operator, [other])
        refused(first, operator, 404, one(address(other)), "DELETE")
        ask(first, operator, one(address(mine)), "DELETE")
        assert mine.take_close() == (1008, REASON)


# ---- between nodes ----


def answer(link, number):
    """The whole answer to a question, and in how many pieces it came."""
    text, pieces = "", 0
    while True:
        word, request, rest = link.message().split(" ", 2)
        assert word in ("part", "answer") and request == str(number), (word, request)
        text += rest
        pieces += 1
        if word == "answer":
            return text, pieces


def test_what_a_node_answers_to_another():
    with start("n0") as node, Player("p").beating() as player:
        node.wait_ready()
        link = player.dial(node).open("n0")
        bob = site.user("*.*.*")
        clients = [connect(node, bob) for _ in range(3)]
        link.send_words("ask", 1, "connections", "limit=2", "*")
        lines = answer(link, 1)[0].splitlines()
        assert [line.split(" ")[4:] for line in lines] == [
            [a, f"user:{bob.name}"] for a in sorted(map(address, clients), key=lambda a: int(a.rpartition(":")[2]))[:2]], lines
        link.send_words("ask", 2, "connections", "limit=2", f"user:nobody,user:{bob.name}x")
        assert answer(link, 2)[0] == ""
        link.send_words("ask", 3, "connections", "Name=1", "*")  # of a newer node: not answered
        link.send_words("ask", 4, "weather", "today")
        link.send_words("ask", 5, "close", "nothing")
        link.send_words("ask", 6, "close", "99999")
        assert answer(link, 6)[0] == "gone"
        number = lines[0].split(" ")[0]
        link.send_words("ask", 7, "close", number)
        assert answer(link, 7)[0] == "closed"
        closed = [c for c in clients if address(c) == lines[0].split(" ")[4]]
        assert closed[0].take_close() == (1008, REASON)
        link.assert_open()
        link.close()


def play(player, node, on_ask):
    """A link that answers questions by on_ask(link, number, words), in a thread."""
    link = player.dial(node).open("n0")

    def run():
        with contextlib.suppress(Closed, OSError, TimeoutError, ValueError):
            while True:
                word, *fields = link.message().split(" ")
                if word == "ask":
                    on_ask(link, fields[0], fields[1:])

    threading.Thread(target=run, daemon=True).start()
    return link


def test_what_another_node_answers_is_looked_at():
    good = "7 1795341600000000 0 websocket 192.0.2.7:50312 user:far\n"
    answers = [
        good, good + "no line\n" + "8 1 0 websocket 192.0.2.9:1 user:\x01\n", good.replace("user:far", "user:unseen") + good, good[:-1],
        "", good * 3,
    ]
    with start("n0") as node, Player("p").beating() as player:
        node.wait_ready()
        asked = []

        def on_ask(link, number, words):
            asked.append(words)
            text = answers[len(asked) - 1].encode()
            half = len(text) // 2
            link.send_frame(BINARY, f"part {number} ".encode() + text[:half])
            link.send_frame(BINARY, f"part {int(number) + 999} ".encode() + text)
            link.send_frame(BINARY, f"answer {number} ".encode() + text[half:])

        link = play(player, node, on_ask)
        far = site.user("connections.list.user:far")
        for expected in (1, 1, 1, 0, 0, 3):
            found = ask(node, far)
            assert [(c["RemoteAddr"], c["Node"], c["Principal"]) for c in found] == [("192.0.2.7:50312", "p", "user:far")] * expected, found
        assert asked[0] == ["connections", "limit=50000", "user:far"], asked[0]
        link.close()


def test_an_answer_without_end_ends_the_link():
    with start("n0") as node, Player("p").beating() as player:
        node.wait_ready()

        def on_ask(link, number, words):
            piece = f"part {number} ".encode() + b"x" * 65536
            for _ in range(100):
                link.send_frame(BINARY, piece)

        link = play(player, node, on_ask)
        assert ask(node, site.user("connections.list.*")) == []
        wait_log(node, "an answer is too long")
        link.close()


def octets_before_pong(link, asks):
    """Of answers, where a ping stands behind so many questions."""
    questions = [f"ask {n} connections limit=50000 *" for n in range(2, 2 + asks)]
    link.send(b"".join(make_frame(TEXT, text.encode()) for text in (*questions, "ping 4711")))
    octets, left, before = 0, asks, None
    while left > 0 or before is None:
        text = link.text()
        if text == "pong 4711":
            before = octets
        elif text.startswith(("part ", "answer ")):
            octets += len(text)
            left -= text.startswith("answer ")
    return before


def test_two_thousand_connections():
    """In pieces, while the link does all else that it has to."""
    with cluster(2, log_level="warning") as nodes:
        bob = User("b" * 100, site.token("b" * 100))
        operator = may_publish(site.user("connections.list.*"), "connections.delete.*")
        clients = [nodes[n % 2].connect(bob) for n in range(2000)]
        began = time.monotonic()
        found = wait_listed(nodes[0], operator, clients)
        took = time.monotonic() - began
        print(f"# a list of 2,000 connections of two nodes: {took * 1000:.0f} ms with its parsing")
        assert {c["Node"] for c in found} == {"n0", "n1"}
        pages = [ask(nodes[1], operator, f"{PATH}?offset={n}&limit=300") for n in range(0, 2100, 300)]
        assert [c for page in pages for c in page] == found
        player = Player("p")
        with player.beating():
            link = player.dial(nodes[0]).open("n0")
            link.send_words("ask", 1, "connections", "limit=50000", "*")
            text, pieces = answer(link, 1)
            assert len(text.splitlines()) == 1000 and pieces == -(-len(text) // 65536) > 1, (len(text), pieces)
            assert octets_before_pong(link, 10) < 600000 < 10 * len(text), "what else is sent does not wait for all answers"
            link.close()
        told = [c["RemoteAddr"] for c in found]
        last = next(c for c in reversed(clients) if told.count(address(c)) == 1)  # a port may be in use towards both nodes
        ask(nodes[0], operator, one(address(last)), "DELETE")
        assert last.take_close() == (1008, REASON)


# ---- events ----


def listen(node):
    """Who hears of connections, as AWX's clients do."""
    client = node.connect(site.all_seeing)
    client.ask({"groups": {"connections": ["create", "delete"]}})
    return client


def next_change(listener, user=None):
    """The next event about a user's connections: action and object."""
    while True:
        event = listener.json()
        assert event["group_name"] == "connections", event
        if user is None or event["key"] == f"user:{user.name}":
            assert event["object"]["Principal"] == event["key"] and list(event["object"]) and set(event["object"]) == set(FIELDS), event
            return event["action"], event["object"]


def test_who_comes_and_goes_is_told_on_all_nodes():
    with cluster(2, connection_events="all") as nodes:
        bob = site.user("*.*.*")
        listener = listen(nodes[1])
        watcher = drp.watcher(None, f"connections.*.user:{bob.name}", node=nodes[1])
        client, stream = connect(nodes[0], bob), follow(nodes[0], bob)
        for other, kind in ((client, "websocket"), (stream, "api")):
            action, connection = next_change(listener, bob)
            assert action == "create" and connection["RemoteAddr"] == address(other) and connection["Type"] == kind, connection
            assert connection == ask(nodes[1], site.all_seeing, one(address(other))), "as the list has it"
        name = address(client)
        client.close()
        action, connection = next_change(listener, bob)
        assert action == "delete" and connection["RemoteAddr"] == name and connection["Node"] == "n0", connection
        may_publish(site.all_seeing, "connections.delete.*")
        name = address(stream)
        ask(nodes[1], site.all_seeing, one(name), "DELETE")
        action, connection = next_change(listener, bob)
        assert action == "delete" and connection["RemoteAddr"] == name
        events = [watcher.next() for _ in range(4)]
        assert [(e.type, e.action, e.key) for e in events] == [("connections", a, f"user:{bob.name}") for a in ("create", "create", "delete", "delete")]
        assert events[3].object == connection and events[3].original is None, events[3]
        eventually(lambda: nodes[0].metric("pgrelay_connection_events_total") >= 4, what="the node knows that they are committed")
        assert nodes[0].metric("pgrelay_connection_events_waiting") == nodes[0].metric("pgrelay_connection_events_lost_total") == 0


def test_which_are_told_of_is_a_setting():
    bob, ann = site.user("*.*.*"), site.user("*.*.*")
    for setting, told in (("off", []), ("drp", ["drp"]), ("all", ["awx", "drp"])):
        with Node(connection_events=setting) as node, Node(connection_events="all") as mark:
            listener = listen(mark)
            node.connect(bob).close()
            client = drp.Client(node.port)
            client.upgrade("/api/v3/ws", {"Authorization": f"Bearer {ann.token}"})
            assert client.status == 101, client.body
            client.close()
            eventually(lambda: node.metric("pgrelay_sessions") == 0, what="both have gone")
            eventually(lambda: node.metric("pgrelay_connection_events_waiting") == 0, what="all is told")
            assert node.metric("pgrelay_connection_events_total") == 2 * len(told), setting
            last = address(mark.connect(site.all_seeing))
            seen = []
            while (change := next_change(listener))[1]["RemoteAddr"] != last:
                if change[1]["RemoteAddr"] != address(listener):
                    seen.append((change[0], change[1]["Principal"]))
            expected = {"awx": bob, "drp": ann}
            assert sorted(seen) == sorted((a, f"user:{expected[who].name}") for who in told for a in ("create", "delete")), (setting, seen)

def test_the_setting_changes_while_the_node_runs():
    with Node(config="connection_events = off\n") as node, Node(connection_events="all") as mark:
        bob = site.user("*.*.*")
        listener = listen(mark)
        client = node.connect(bob)
        node.configure("connection_events = all\n")
        node.process.signal(signal.SIGHUP)
        wait_log(node, "settings re-read")
        client.close()
        assert next_change(listener, bob)[0] == "delete"


def test_the_node_s_end_is_told():
    with Node(connection_events="all") as mark:
        bob = site.user("*.*.*")
        listener = listen(mark)
        node = Node(connection_events="all")
        clients = [node.connect(bob) for _ in range(50)]
        for _ in clients:
            assert next_change(listener, bob)[0] == "create"
        names = set(map(address, clients))
        node.process.signal(signal.SIGTERM)
        for client in clients:
            assert client.wait_closed() == 1001
            client.close()
        node.process.wait()  # a second signal would end it at once
        node.stop()
        for _ in range(50):
            action, connection = next_change(listener, bob)
            assert action == "delete"
            names.remove(connection["RemoteAddr"])


def test_without_the_database_the_node_ends_all_the_same():
    node = Node(connection_events="all", shutdown_timeout="20s")
    client = node.connect(site.user("*.*.*"))
    site.drop_sessions()
    site.pg.stop(signal.SIGQUIT)
    eventually(lambda: node.metric("pgrelay_query_up") == 0, what="the database is away")
    began = time.monotonic()
    node.process.signal(signal.SIGTERM)
    client.wait_closed()
    client.close()
    node.process.wait()
    node.stop()
    assert time.monotonic() - began < seconds(10), "it waits for nobody"
    site.pg.start()


def test_what_happens_while_the_database_is_away_is_told_afterwards():
    with Node(connection_events="all") as node:
        bob = site.user("*.*.*")
        clients = [node.connect(bob) for _ in range(20)]
        eventually(lambda: node.metric("pgrelay_connection_events_total") == 20, what="all is told")
        names = set(map(address, clients))
        site.drop_sessions()
        site.pg.stop(signal.SIGQUIT)
        for client in clients:
            client.close()
        eventually(lambda: node.metric("pgrelay_connection_events_waiting") == 20, what="they wait")
        site.pg.start()
        eventually(lambda: node.metric("pgrelay_connection_events_waiting") == 0, timeout=40, what="they are told")
        rows = site.rows("SELECT payload::jsonb->'object'->>'RemoteAddr' FROM pgrelay.event WHERE type = 'connections' AND action = 'delete'"
                         f" AND key = 'user:{bob.name}'")
        assert {row[0] for row in rows} == names, rows


def definition(function):
    return site.sql(f"SELECT pg_get_functiondef({quote(function)}::regprocedure)")


def test_what_the_database_refuses_is_tried_again_or_lost():
    function = "pgrelay.connections_changed(text, jsonb)"
    before = definition(function)
    refuse = ("CREATE OR REPLACE FUNCTION pgrelay.connections_changed(origin text, events jsonb) RETURNS bigint LANGUAGE plpgsql AS "
              "$$ BEGIN RAISE EXCEPTION 'not now' USING ERRCODE = '{}'; END $$")
    with Node(connection_events="all") as node:
        bob = site.user("*.*.*")
        try:
            site.sql(refuse.format("55000"), "owner")
            clients = [node.connect(bob) for _ in range(5)]
            wait_log(node, "could not tell of connections, will try again: ")
            assert node.metric("pgrelay_connection_events_waiting") == 5
            site.sql(refuse.format("22023"), "owner")
            eventually(lambda: node.metric("pgrelay_connection_events_lost_total") == 5, what="they are given up")
            wait_log(node, "5 events about connections are lost: not now")
        finally:
            site.sql(before, "owner")
        clients[0].close()
        eventually(lambda: node.metric("pgrelay_connection_events_total") == 1, what="the next one is told")
        assert node.metric("pgrelay_connection_events_waiting") == 0


def test_many_come_and_go_in_their_order():
    with Node(connection_events="all") as node:
        bob = site.user("*.*.*")
        for _ in range(10):
            clients = [node.connect(bob) for _ in range(30)]
            for client in clients:
                client.close()
        eventually(lambda: node.metric("pgrelay_connection_events_total") == 600, what="all is told")
        there = set()
        rows = site.rows("SELECT action, payload::jsonb->'object'->>'RemoteAddr' FROM pgrelay.event WHERE type = 'connections'"
                         f" AND key = 'user:{bob.name}' ORDER BY id")
        assert len(rows) == 600
        for action, name in rows:
            if action == "create":
                assert name not in there
                there.add(name)
            else:
                there.remove(name)
        assert not there


if __name__ == "__main__":
    main()
