"""A client of the Digital Rebar dialect (docs/drp.md), on a bare socket, with TLS or without.

Every frame is held against section 3: seven fields, in their order. Acknowledgements are counted as DRP's Go client does it: one a
command, in their order; a session that gets one too many or too few is out of step, and says so."""
import base64
import collections
import http.client
import json
import re
import time
import urllib.parse

import wire
from harness import Node, User, quote, seconds, site

PATH = "/api/v3/ws"
FIELDS = ["Time", "Type", "Action", "Key", "Principal", "Object", "Original"]
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{0,8}[1-9])?(Z|[+-]\d\d:\d\d)")


class Event:
    """One frame: `text` as it came, and its fields in lower case."""

    def __init__(self, text):
        self.text = text
        value = json.loads(text)
        assert isinstance(value, dict) and list(value) == FIELDS, f"not the seven fields: {text[:500]}"
        assert all(isinstance(value[name], str) for name in FIELDS[:5]), f"a field is no string: {text[:500]}"
        assert TIME.fullmatch(value["Time"]), f"no time as Go writes it: {value['Time']!r}"
        self.time, self.type, self.action, self.key, self.principal, self.object, self.original = value.values()

    @property
    def topic(self):
        return f"{self.type}.{self.action}.{self.key}"

    def is_acknowledgement(self):
        return self.type == "websocket" and self.action in ("register", "deregister")

    def is_notice(self):
        return self.type == "pgrelay"

    def __repr__(self):
        return f"Event({self.text[:300]})"


class Client(wire.WebSocket):
    """Events that come while an acknowledgement is waited for are kept, in `waiting`."""

    def __init__(self, port, tls=None, host="127.0.0.1", **options):
        super().__init__(port, **{"timeout": seconds(20), **options})
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_hostname=host)
        self.waiting = collections.deque()
        self.notices = []
        site.clients.append(self)

    # -- commands --

    def command(self, word, pattern):
        self.send_text(f"{word} {pattern}")

    def take_acknowledgement(self, word, pattern):
        """The next one, which must be of this command; the notices before it."""
        notices = []
        while not (event := Event(self.text())).is_acknowledgement():
            (notices if event.is_notice() else self.waiting).append(event)
        assert (event.action, event.key) == (word, pattern), f"out of step: {word} {pattern!r} is waited for, not {event}"
        assert (event.principal, event.object, event.original) == ("", None, None), event
        self.notices += notices
        return notices

    def ask(self, word, pattern):
        self.command(word, pattern)
        return self.take_acknowledgement(word, pattern)

    def register(self, *patterns):
        """Each is acknowledged, and there is nothing to say against it."""
        for pattern in patterns:
            notices = self.ask("register", pattern)
            assert not notices, notices
        return self

    def deregister(self, *patterns):
        for pattern in patterns:
            notices = self.ask("deregister", pattern)
            assert not notices, notices
        return self

    # -- events --

    def event(self, timeout=None):
        """The next frame of any kind."""
        return self.waiting.popleft() if self.waiting else Event(self.text(timeout))

    def next(self, timeout=None):
        """The next event, which is neither a notice nor an acknowledgement."""
        event = self.event(timeout)
        assert not event.is_acknowledgement() and not event.is_notice(), event
        return event

    def take(self, n):
        """Topics of the next n events."""
        return [self.next().topic for _ in range(n)]

    def objects(self, n):
        return [self.next().object for _ in range(n)]

    def notice(self, timeout=None):
        """The next event of type pgrelay; others before it are passed over, and returned by none."""
        while not (event := self.event(timeout)).is_notice():
            assert not event.is_acknowledgement(), event
        return event

    def until(self, last):
        """All events before the first for which last(event) holds."""
        events = []
        while not last(event := self.event()):
            events.append(event)
        return events


# ---- dialling ----


def basic(name, password):
    return {"Authorization": "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()}


def bearer(user):
    return {"Authorization": f"Bearer {user.token if isinstance(user, User) else user}"}


def dial(node, headers=(), path=PATH, tls=None, **options):
    """The upgrade request alone; .status, .headers and .body tell the answer."""
    return Client(node.port if tls is None else node.tls_port, tls, **options).upgrade(path, headers)


def connect(node, user, **options):
    client = dial(node, bearer(user), **options)
    assert client.status == 101, f"refused: {client.status} {client.body}"
    return client


def watcher(user=None, *patterns, node=None, **options):
    """A client of this user's, or of one who sees everything, that has registered."""
    return connect(node or site.node, user or site.all_seeing, **options).register(*patterns)


def settle(client, emitter=None):
    """Everything that comes before an event emitted now. The client's user must be allowed to see the type `end`."""
    mark = f"{time.monotonic_ns()}"
    client.register("end.end." + mark)
    (emitter or site.emit)("end", "end", mark, {})
    return client.until(lambda event: event.type == "end" and event.key == mark)


# ---- the API ----


class Reply:
    def __init__(self, answer):
        self.status = answer.status
        self.headers = {k.lower(): v for k, v in answer.getheaders()}
        self.body = answer.read().decode()

    @property
    def json(self):
        return json.loads(self.body)

    def __repr__(self):
        return f"{self.status} {self.headers} {self.body!r}"


def request(node, method, path, headers=None, body=None, tls=None):
    """One HTTP request on a connection of its own."""
    if tls is None:
        connection = http.client.HTTPConnection("127.0.0.1", node.port, timeout=seconds(20))
    else:
        connection = http.client.HTTPSConnection("127.0.0.1", node.tls_port, timeout=seconds(20), context=tls)
    try:
        connection.request(method, path, body, {"Accept": "application/json", **(headers or {})})
        return Reply(connection.getresponse())
    finally:
        connection.close()


def token_by_basic(node, name, password, tls=None, query=""):
    reply = request(node, "GET", f"/api/v3/users/{urllib.parse.quote(name)}/token{query}",
                    {**basic(name, password), "Cache-Control": "no-store", "Accept-Encoding": "gzip"}, tls=tls)
    assert reply.status == 200, reply
    site.tokens.append(reply.json["Token"])
    return reply.json["Token"]


def post(node, credentials, event, tls=None):
    """POST /api/v3/events as the Go client does it: a 204 without a Content-Type is an error to it."""
    return request(node, "POST", "/api/v3/events", {**credentials, "Content-Type": "application/json"}, json.dumps(event), tls)


# ---- in the database ----


def make_user(*patterns, publish=(), password=None):
    """A user with a token, and with a password where there is one."""
    user = site.user(*patterns)
    for pattern in publish:
        site.sql(f"SELECT pgrelay.grant_add({quote(user.name)}, {quote(pattern)}, true)")
    if password is not None:
        set_password(user, password)
    return user


def set_password(user, password):
    site.tokens.append(password)  # no log may show it
    site.pgrelay("password", "set", user.name, input=(password + "\n").encode())
    user.password = password


def tell(topic, payload, micros):
    """An event that was emitted at this time, by the channel itself (protocol.md, section 2). It is in no log."""
    site.sql(f"SELECT pg_notify('pgrelay', 'u ' || nextval('pgrelay.event_id_seq') || ' {micros} ' || {quote(topic)} || ' ' || {quote(payload)})")


def machine(key="u1", action="update", **fields):
    """An event whose payload is no envelope."""
    site.emit("machines", action, key, fields)


def envelope(object, key="u1", action="update", type="machines", **more):
    site.emit(type, action, key, {"object": object, "key": key, "action": action, **more})


def topics(events):
    return [event.topic for event in events]


def serve(**settings):
    """A node beside the default one, of the same settings but for these."""
    return Node(**{**site.node_settings, **settings})
