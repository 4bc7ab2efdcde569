#!/usr/bin/env python3
"""Programs that were written for Digital Rebar Provision, over TLS, and many at once."""
import asyncio
import collections
import json
import os
import random
import signal
import subprocess
import sys
import threading

import drp
from certificates import TlsNode, trusting_anybody
from drp import Event, basic, bearer
from harness import HERE, Process, clean_environment, eventually, main, need, need_module, node_environment, seconds, site
from wire import CLOSE, Closed, close_payload

PASSWORD = "r0cketsk8ts"
MACHINE = "550e8400-e29b-41d4-a716-446655440000"


def server():
    """The one node of this file, with TLS."""
    if site.default_node is None or not site.default_node.is_running():
        site.default_node = TlsNode()
        site.default_node.process.lasting = True
    return site.default_node


class Cast:
    def __getattr__(self, name):
        assert name == "rocketskates"
        self.rocketskates = drp.make_user("*.*.*", publish=["*.*.*"], password=PASSWORD)
        return self.rocketskates


cast = Cast()


def machine(action="update", key=MACHINE, **fields):
    site.emit("machines", action, key, {"object": {"Uuid": key, **fields}, "key": key, "action": action})


# ---- the Go package ----


def matches(pattern, event):
    """As the client itself looks at each event once more: parts are *, a word, or words with commas between them."""
    def part(wanted, value):
        return wanted == "*" or value in [item.strip() for item in wanted.split(",")]

    type, action, key = pattern.split(".", 2)
    return part(type, event.type) and part(action, event.action) and part(key, event.key)


class Stream:
    """What api.Events() is: handles with patterns of their own over one WebSocket. It counts acknowledgements and looks at none of
    them, and it waits without a time-out."""

    def __init__(self, node, token):
        self.ws = drp.Client(node.tls_port, trusting_anybody())
        self.ws.upgrade(drp.PATH, [("Authorization", f"Bearer {token}"), ("User-Agent", "Go-http-client/1.1")])
        assert self.ws.status == 101, (self.ws.status, self.ws.body)
        self.patterns = collections.Counter()
        self.handles = []
        self.acknowledged = 0

    def read(self):
        """One frame; an event goes to each handle of which a pattern matches."""
        event = Event(self.ws.text())
        if event.type == "websocket":
            self.acknowledged += 1
        wanted = False
        for patterns, received in self.handles:
            if any(matches(pattern, event) for pattern in patterns):
                received.append(event)
                wanted = True
        assert wanted or event.type == "websocket", f"an event that nobody has registered: {event}"

    def command(self, word, patterns):
        until = self.acknowledged + len(patterns)
        for pattern in patterns:
            self.ws.send_text(f"{word} {pattern}")
        while self.acknowledged < until:
            self.read()

    def register(self, *patterns):
        """A handle, whose received events are in the list that is returned."""
        handle = (patterns, [])
        self.handles.append(handle)
        new = [pattern for pattern in dict.fromkeys(patterns) if not self.patterns[pattern]]
        self.patterns.update(patterns)
        self.command("register", new)
        return handle[1]

    def deregister(self, received):
        (handle,) = [handle for handle in self.handles if handle[1] is received]
        self.handles = [handle for handle in self.handles if handle[1] is not received]
        self.patterns.subtract(handle[0])
        self.command("deregister", [pattern for pattern in dict.fromkeys(handle[0]) if not self.patterns[pattern]])

    def next(self, received):
        while not received:
            self.read()
        return received.pop(0)

    def close(self):
        """It does not wait."""
        self.ws.send_frame(CLOSE, close_payload(1000))
        self.ws.close()


class Session:
    """What api.UserSession() and api.TokenSession() are."""

    def __init__(self, node, name, password=None, token=None):
        self.node, self.name, self.tls = node, name, trusting_anybody()
        self.token = token or drp.token_by_basic(node, name, password, self.tls)

    def refresh(self, ttl=600):
        reply = drp.request(self.node, "GET", f"/api/v3/users/{self.name}/token?ttl={ttl}", bearer(self.token), tls=self.tls)
        assert reply.status == 200, reply
        self.token = reply.json["Token"]
        site.tokens.append(self.token)

    def events(self):
        return Stream(self.node, self.token)

    def post(self, **event):
        """A 204 without a Content-Type is an error to this client."""
        reply = drp.post(self.node, bearer(self.token), event, self.tls)
        assert (reply.status, reply.body) == (204, "") and reply.headers.get("content-type", "").startswith("application/json"), reply


def user_session():
    return Session(server(), cast.rocketskates.name, PASSWORD)


def test_the_go_client_from_login_to_close():
    session = user_session()
    events = session.events()
    machines, mine = events.register("machines.*.*"), events.register("machines.update.mine", "machines.save.mine")
    session.post(Type="machines", Action="update", Key="other", Object={"n": 1})
    session.post(Type="machines", Action="update", Key="mine", Object={"n": 2}, Original={"n": 1}, Principal="user:somebody-else", Time="2017-12-21T23:26:43.412554192Z")
    first, second = events.next(machines), events.next(machines)
    assert (first.topic, first.object, first.original) == ("machines.update.other", {"n": 1}, None)
    assert (second.key, second.object, second.original, second.time) == ("mine", {"n": 2}, {"n": 1}, "2017-12-21T23:26:43.412554192Z"), second
    assert first.principal == second.principal == f"user:{cast.rocketskates.name}", (first, second)
    assert events.next(mine).object == {"n": 2}
    events.deregister(machines)
    machine(key="other")
    machine(key="mine", n=3)
    assert events.next(mine).object == {"Uuid": "mine", "n": 3}
    events.deregister(mine)
    assert events.acknowledged == 6
    before = server().metric("pgrelay_sessions")
    events.close()
    eventually(lambda: server().metric("pgrelay_sessions") == before - 1, what="the session is gone")


def test_the_go_client_with_a_token_of_its_own_and_renewed():
    session = Session(server(), cast.rocketskates.name, token=cast.rocketskates.token)
    events = session.events()
    received = events.register("machines.create.*")
    session.refresh()
    session.refresh(7200)
    session.post(Type="machines", Action="create", Key="m", Object=None)
    assert events.next(received).object is None
    events.close()


def test_the_go_client_registers_and_misses_nothing():
    """Register, post, wait: what the acknowledgement was invented for."""
    session = user_session()
    events = session.events()
    for n in range(60):
        received = events.register(f"tasks.create.{n}")
        session.post(Type="tasks", Action="create", Key=str(n), Object=n)
        assert events.next(received).object == n
        if n % 3 == 0:
            events.deregister(received)
    events.close()


def test_the_go_client_with_lists_and_shared_patterns():
    events = user_session().events()
    a, b = events.register("machines,leases.create,update.*", "tasks.*.*"), events.register("tasks.*.*")
    events.deregister(b)  # a holds the pattern still
    site.emit("tasks", "create", "t", {})
    site.emit("leases", "delete", "l", {})
    site.emit("leases", "update", "l", {})
    assert [events.next(a).topic for _ in range(2)] == ["tasks.create.t", "leases.update.l"]
    events.close()


def test_what_the_go_client_posts_wrongly():
    node, credentials = server(), bearer(cast.rocketskates)
    for body, sent in (("{", "application/json"), ('{"Type": "a b", "Action": "x", "Key": ""}', "application/json"), ("[]", "application/json"), ("{}", "application/json"),
                       ('{"Type": "a", "Action": "x", "Key": "k", "Object": 1}', "text/plain")):
        reply = drp.request(node, "POST", "/api/v3/events", {**credentials, "Content-Type": sent}, body, trusting_anybody())
        assert reply.status == 400 or (sent == "text/plain" and reply.status == 415), (body, reply)
        assert list(reply.json) == ["Model", "Key", "Type", "Messages", "Code"] and reply.json["Code"] == reply.status and reply.json["Messages"], reply
    for credentials, status in (({}, 401), (bearer("x" * 43), 403), (bearer(site.all_seeing), 403)):
        assert drp.post(node, credentials, {"Type": "a", "Action": "x", "Key": "k"}, trusting_anybody()).status == status, (status, credentials)


# ---- drpcli ----


def curl(*arguments):
    """The body, and behind it in a line of its own the status and the Content-Type."""
    argv = [need("curl", "curl"), "-sSk", "--compressed", "--max-time", str(seconds(20)), "-w", "\n%{http_code} %{content_type}", *arguments]
    done = subprocess.run(argv, env=clean_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 0, done.stderr
    body, _, status = done.stdout.rpartition("\n")
    return body, status


def test_drpcli_s_way_to_its_token():
    """What it has cached is tried at /info; then name and password, then a longer one by that."""
    base, name = f"https://127.0.0.1:{server().tls_port}/api/v3", cast.rocketskates.name
    assert curl(f"{base}/info", "-H", "Authorization: Bearer " + "x" * 43)[1].startswith("403 application/json")
    body, status = curl(f"{base}/users/{name}/token", "-u", f"{name}:{PASSWORD}")
    assert status.startswith("200 application/json"), (body, status)
    body, status = curl(f"{base}/users/{name}/token?ttl=7200&roles=superuser", "-H", f"Authorization: Bearer {json.loads(body)['Token']}")
    assert status.startswith("200 "), (body, status)
    token = json.loads(body)["Token"]
    body, status = curl(f"{base}/info", "-H", f"Authorization: Bearer {token}")
    assert status.startswith("200 application/json"), (body, status)
    info = json.loads(body)
    assert all(field in info for field in ("version", "id", "local_id", "arch", "os", "api_port", "address", "features", "stats", "scopes", "errors")), info
    client = drp.dial(server(), bearer(token), tls=trusting_anybody()).register("*.*.*")
    body, status = curl(f"{base}/events", "-H", f"Authorization: Bearer {token}", "-H", "Content-Type: application/json", "-d",
                        '{"Type": "machines", "Action": "start", "Key": "m1", "Object": {"a": 1}}')
    assert (body, status) == ("", "204 application/json"), (body, status)
    assert {e.type for e in client.until(lambda e: e.topic == "machines.start.m1")} <= {"connections"}
    assert curl(f"{base}/nothing/here", "-H", f"Authorization: Bearer {token}")[1].startswith("404 application/json")


def test_drpcli_events_watch():
    """*.*.*: the first it sees is its own acknowledgement."""
    client = drp.dial(server(), basic(cast.rocketskates.name, PASSWORD), tls=trusting_anybody())
    client.send_text("register *.*.*")
    first = client.event()
    assert first.is_acknowledgement() and first.key == "*.*.*", first
    machine(n=1)
    client.until(lambda e: e.object == {"Uuid": MACHINE, "n": 1})
    node = server()
    node.process.signal(signal.SIGTERM)
    assert client.wait_closed() == 1001
    node.stop()


# ---- Python, node ----


def test_the_python_sample():
    need_module("websocket", "python3-websocket")
    login = f"{cast.rocketskates.name}:{PASSWORD}"
    client = Process([sys.executable, "-u", os.path.join(HERE, "clients", "drp_watch.py"), f"127.0.0.1:{server().tls_port}", login, "machines.*.*", "profiles.*.global"],
                     name="sample")
    eventually(lambda: client.out.count('"Action":"register"') == 2, what=client.describe())
    machine("create", n=1)
    site.emit("profiles", "save", "other", {})
    site.emit("profiles", "save", "global", {"Name": "global"})
    client.wait_for('"Key":"global"')
    events = [Event(line) for line in client.out.splitlines()]
    assert [e.topic for e in events] == ["websocket.register.machines.*.*", "websocket.register.profiles.*.global", f"machines.create.{MACHINE}", "profiles.save.global"], events
    server().stop()
    assert client.wait() == 0, client.describe()


def test_node_ws():
    client = Process(["node", os.path.join(HERE, "clients", "drp_watch.cjs"), f"wss://127.0.0.1:{server().tls_port}", cast.rocketskates.token, "machines.*.*", "leases.*.*"],
                     node_environment(), name="ws")
    client.wait_for("websocket.register.leases.*.*")
    machine("create", n=1)
    machine("update", pad="x" * 100000)
    machine("delete")
    assert client.wait() == 0, client.describe()
    lines = [line.replace("x" * 100000, "PAD") for line in client.out.splitlines()]
    assert lines[:5] == ["websocket.register.machines.*.*  null", "websocket.register.leases.*.*  null", f'machines.create.{MACHINE} unknown {{"n":1,"Uuid":"{MACHINE}"}}',
                         f'machines.update.{MACHINE} unknown {{"pad":"PAD","Uuid":"{MACHINE}"}}', f'machines.delete.{MACHINE} unknown {{"Uuid":"{MACHINE}"}}'], lines
    assert lines[-1] == "close 1000", lines


def test_python_websockets():
    websockets = need_module("websockets", "python3-websockets")

    async def follow(node):
        async with websockets.connect(f"wss://localhost:{node.tls_port}{drp.PATH}?Token={cast.rocketskates.token}", ssl=node.tls, max_size=None) as ws:
            for pattern in ("machines.create,delete.*", "machines.*.big"):
                await ws.send(f"register {pattern}")
                assert Event(await ws.recv()).key == pattern
            await asyncio.get_running_loop().run_in_executor(None, lambda: (machine("create"), machine("update"), machine(key="big", pad="x" * 3_000_000), machine("delete")))
            events = [Event(await ws.recv()) for _ in range(3)]
            await (await ws.ping())
        return [e.action for e in events], len(events[1].object["pad"]), ws.close_code

    assert asyncio.run(asyncio.wait_for(follow(server()), seconds(60))) == (["create", "update", "delete"], 3_000_000, 1000)


# ---- many at once ----


Topic = collections.namedtuple("Topic", "type action key")


class Model:
    """A client, and what it must get."""

    def __init__(self, client):
        self.client, self.patterns, self.expected = client, set(), []

    def expect(self, topic):
        if any(matches(pattern, topic) for pattern in self.patterns):
            self.expected.append(".".join(topic))

    def check(self, n):
        got = [self.client.next() for _ in self.expected]
        assert [e.topic for e in got] == self.expected, (n, got[:3], self.expected[:3])
        self.expected.clear()


def test_many_clients_that_register_and_deregister_at_random():
    """A model knows what each of them must get: each event once, in order, and nothing else."""
    dice = random.Random(os.environ.get("PGRELAY_SEED", "7"))
    node = server()
    models = [Model(drp.connect(node, cast.rocketskates, tls=trusting_anybody() if n % 4 == 0 else None)) for n in range(40)]
    types, actions, keys = ["machines", "leases", "tasks"], ["create", "update"], ["a", "b", "c"]

    def part(values):
        return dice.choice([*values, ",".join(dice.sample(values, 2))])

    def any_or(values):
        return dice.choice(["*", part(values), part(values)])

    for turn in range(12):
        for model in models:
            commands = []
            for _ in range(dice.randrange(4)):
                pattern = f"{part(types)}.{any_or(actions)}.{any_or(keys)}"  # *.*.* would bring what is not the model's
                if model.patterns and dice.random() < 0.4:
                    pattern = dice.choice(sorted(model.patterns))
                word = dice.choice(["register", "deregister"])
                (model.patterns.add if word == "register" else model.patterns.discard)(pattern)
                commands.append((word, pattern))
            for command in commands:
                model.client.command(*command)
            for command in commands:
                assert not model.client.take_acknowledgement(*command)
        topics = [Topic(dice.choice(types), dice.choice(actions), dice.choice(keys)) for _ in range(20)]
        rows = ", ".join(f"ROW('{t}', '{a}', '{k}', '{{}}')::pgrelay.new_event" for t, a, k in topics)
        site.sql(f"SELECT count(*) FROM pgrelay.emit_many(ARRAY[{rows}])", "writer")
        for topic in topics:
            for model in models:
                model.expect(topic)
        for model in models:
            model.check(turn)
    for model in models:
        assert not model.client.waiting and not drp.settle(model.client)


def test_100_logins_at_once():
    """Name and password, a token, a WebSocket, a registration; then an event for all of them."""
    node, streams, errors = server(), [], []

    def login():
        try:
            for _ in range(10):
                events = Session(node, cast.rocketskates.name, PASSWORD).events()
                streams.append((events, events.register("crowd.*.*")))
        except BaseException as e:
            errors.append(e)
            raise

    cast.rocketskates
    threads = [threading.Thread(target=login) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors and len(streams) == 100, errors
    for n in range(3):
        site.emit("crowd", "x", "1", {"n": n})
    for events, received in streams:
        assert [events.next(received).object["n"] for _ in range(3)] == [0, 1, 2]
    for events, _ in streams:
        events.close()
    eventually(lambda: node.metric("pgrelay_sessions") == 0, what="all sessions are gone")


def test_clients_of_all_dialects_that_come_and_go():
    """Nobody is disturbed by those who leave in the middle."""
    node = server()
    stayed = drp.connect(node, cast.rocketskates, tls=trusting_anybody()).register("machines.*.*")
    for n in range(30):
        leaving = drp.connect(node, cast.rocketskates, tls=trusting_anybody() if n % 2 else None)
        leaving.command("register", "machines.*.*")
        if n % 3 == 0:
            node.connect(cast.rocketskates).join(machines=["update"]).close()
        machine(n=n, pad="x" * (20000 if n % 5 == 0 else 10))
        leaving.close()
        assert stayed.next().object["n"] == n
    with_code = drp.connect(node, cast.rocketskates)
    with_code.send_frame(CLOSE, close_payload(1000, b"bye"))
    try:
        with_code.text()
    except Closed as closed:
        assert closed.code == 1000, closed
    with_code.close()
    eventually(lambda: node.metric("pgrelay_sessions") == 1, what="one is left")


if __name__ == "__main__":
    main(limit=60)
