"""Counts every event at every client: writers that number what they commit, clients that keep the numbers, and the comparison.

An event is one number: its writer's number in the upper bits, its own, from 1 without a hole, in the lower ones. Its topic is
TYPE.wWRITER.NUMBER, its payload {"n": NUMBER, "s": SIZE, "w": WRITER, "pad": "xxx"}, which each client checks octet by octet.

    with Load(writers=4, rate=3000) as load, Crowd() as crowd:
        crowd.join(load, node, 20)
        load.start()
        ...                                    what goes wrong
        load.stop()
        crowd.check(load)

A client that stays must get everything once; one with a cursor goes away and comes back as it likes, and holds back what came
behind its last cursor. Where something is missing, a gap message must stand, and name the group.
"""
import array
import base64
import collections
import contextlib
import errno
import itertools
import json
import os
import random
import re
import selectors
import socket
import struct
import threading
import time

import libpq
from harness import SqlError, eventually, patience, seconds, site
from wire import CLOSE, PING, PONG, TEXT, close_payload, make_frame, new_socket

WRITER_SHIFT = 40
NUMBER_MASK = (1 << WRITER_SHIFT) - 1
EVENT = re.compile(rb'\{"n": (\d+), "s": (\d+), "w": (\d+), "pad": "')
# The writer's row was not as it thought; the queue is full; a deadlock; a lock that is not free.
REPEATABLE = ("22012", "54000", "40001", "40P01", "55P03")


def event_name(event):
    return f"w{event >> WRITER_SHIFT}/{event & NUMBER_MASK}"


# ---- writers ----


def small(dice):
    return dice.choice((0, 10, 10, 30, 100, 300))


def mixed(dice):
    """1 kB to 5 MB, evenly by the number of digits."""
    return int(1000 * 5000 ** dice.random())


class Writer(threading.Thread):
    """Commits events in transactions of any shape at a rate. Each transaction also moves the writer's row in loss_written,
    which tells how a commit ended whose answer did not come, and where the writer is after a restored backup.

    size(dice): octets of padding; batch(dice): events of a transaction; hold(dice): seconds it stays open.
    followers: clients that must have had the last transaction before the next one begins, however slow the machine is.
    The types of one writer must be announced alike: only then has it one order.
    """

    numbers = itertools.count(1)

    def __init__(self, rate=500, types=("loss",), size=small, batch=None, hold=None, setup=None, seed=0, limit=None, conninfo=None):
        super().__init__(daemon=True)
        self.number = next(self.numbers)
        self.rate, self.types, self.size, self.hold, self.setup, self.limit = rate, types, size, hold, setup, limit
        self.batch = batch or (lambda dice: dice.choice((1, 1, 1, 2, 5, 20, 100)))
        self.conninfo = conninfo or site.pg.conninfo("writer")
        self.dice = random.Random(f"{seed}/{self.number}")
        self.session = None
        self.n = 0  # the last one known to be committed
        self.begun = 0  # events of the open transaction
        self.followers = ()
        self.interrupted = self.refused = 0
        self.ending = threading.Event()
        self.error = None
        site.sql(f"INSERT INTO loss_written VALUES ({self.number}, 0)")

    def run(self):
        due = time.monotonic()
        try:
            while not self.ending.is_set() and (self.limit is None or self.n < self.limit):
                before = self.n
                if self.is_ahead():
                    self.ending.wait(0.002)
                    continue
                self.step()
                due = max(due + (self.n - before) / self.rate, time.monotonic() - 1)
                self.ending.wait(max(0, due - time.monotonic()))
        except BaseException as e:
            self.error = e
        finally:
            self.drop()

    def is_ahead(self):
        return any(client.last.get(self.number, 0) < self.n and not client.failure for client in self.followers)

    def step(self):
        try:
            if self.session is None:
                self.connect()
            self.write(self.batch(self.dice))
        except libpq.Lost:
            self.interrupted += 1
            self.drop()
            self.ending.wait(0.05)
        except SqlError as e:
            if e.sqlstate not in REPEATABLE:
                raise
            self.refused += 1
            self.drop()
            self.ending.wait(0.05)

    def connect(self):
        """Waits for a transaction of the session before that is still under way."""
        self.session = libpq.Session(self.conninfo)
        if self.setup:
            self.session(self.setup)
        self.n = int(self.session(f"SELECT upto FROM loss_written WHERE writer = {self.number} FOR UPDATE")[0][0])

    def drop(self):
        if self.session is not None:
            self.session.close()
            self.session = None

    def write(self, count):
        if self.limit is not None:
            count = min(count, self.limit - self.n)
        if self.hold is None:
            self.session(self.statements(count))
            self.n += count
        else:
            self.begin(count)
            self.ending.wait(self.hold(self.dice))
            self.commit()

    def begin(self, count):
        """Begins a transaction and emits in it; for a test, too, that does not start the thread."""
        if self.session is None:
            self.connect()
        self.session(f"BEGIN; {self.statements(count)}")
        self.begun = count

    def commit(self):
        self.session("COMMIT")
        self.n += self.begun

    def statements(self, count):
        first, last = self.n + 1, self.n + count
        sizes = [self.size(self.dice) for _ in range(count)]
        types = [self.dice.choice(self.types) for _ in range(count)]
        move = (f"WITH own AS (UPDATE loss_written SET upto = {last} WHERE writer = {self.number} AND upto = {self.n} RETURNING 1) "
                "SELECT 1 / count(*) FROM own; ")
        if count < 4:
            return move + "; ".join(f"SELECT pgrelay.emit('{type}', 'w{self.number}', '{n}', {self.payload(n, size)})"
                                    for n, type, size in zip(range(first, last + 1), types, sizes))
        return move + ("SELECT count(*) FROM pgrelay.emit_many(ARRAY(SELECT "
                       f"ROW(e.type, 'w{self.number}', e.n::text, {self.payload('e.n', 'e.size')})::pgrelay.new_event "
                       f"FROM unnest(ARRAY{types}::text[], ARRAY{sizes}, ARRAY{[*range(first, last + 1)]}) e (type, size, n) "
                       "ORDER BY e.n))")

    def one_more(self):
        """Commits one event more than it should, when its thread has ended."""
        self.limit = None
        self.connect()
        self.write(1)
        self.drop()

    def payload(self, n, size):
        return f"jsonb_build_object('n', {n}, 's', {size}, 'w', {self.number}, 'pad', repeat('x', {size}))"

    def stop(self):
        self.ending.set()
        if self.ident is None:
            self.drop()
            return
        self.join(seconds(60))
        assert not self.is_alive(), f"writer {self.number} does not end"
        if self.error is not None:
            raise self.error


class Load:
    """Writers; rate is that of all together."""

    def __init__(self, writers=4, rate=3000, **options):
        prepare()
        self.writers = []
        self.add(writers, rate / writers if writers else 0, **options)

    def add(self, count=1, rate=500, **options):
        added = [Writer(rate / patience(), **options) for _ in range(count)]
        self.writers += added
        return added

    def follow(self, clients):
        for writer in self.writers:
            writer.followers = clients

    def start(self, writers=None):
        for writer in self.writers if writers is None else writers:
            if writer.ident is None:
                writer.start()
        return self

    @property
    def written(self):
        return sum(writer.n for writer in self.writers)

    def wait_for(self, more):
        """Until so many more are committed."""
        until = self.written + more

        def committed():
            for writer in self.writers:
                if writer.error is not None:
                    raise writer.error
            return self.written >= until

        eventually(committed, 60, f"{more} more events are committed")

    def finish(self):
        """Until the writers with a limit have reached it."""
        for writer in self.writers:
            if writer.limit is not None:
                writer.join(seconds(100))
                assert not writer.is_alive(), f"writer {writer.number} is at {writer.n} of {writer.limit}"
        return self.stop()

    def stop(self):
        for writer in self.writers:
            writer.ending.set()
        for writer in self.writers:
            writer.stop()
        return self

    def one_more(self):
        for writer in self.writers:
            writer.one_more()

    def totals(self):
        """How far each writer has come, as the database knows it."""
        rows = site.rows(f"SELECT writer, upto FROM loss_written WHERE writer IN ({', '.join(str(w.number) for w in self.writers)})")
        return {int(writer): int(upto) for writer, upto in rows}

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        with contextlib.suppress(Exception) if kind else contextlib.nullcontext():
            self.stop()


def prepare():
    site.sql("CREATE TABLE IF NOT EXISTS public.loss_written (writer integer PRIMARY KEY, upto bigint NOT NULL)")
    site.sql("GRANT SELECT, UPDATE ON public.loss_written TO writer")
    site.sql("ALTER ROLE writer SET log_statement = none")


class Reference(threading.Thread):
    """What a bare LISTEN session hears: the order of the commits."""

    def __init__(self):
        super().__init__(daemon=True)
        self.session = libpq.Session(site.pg.conninfo("postgres"))
        self.session("LISTEN pgrelay")
        self.events = array.array("q")
        self.last = {}
        self.ending = threading.Event()
        self.error = None

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.ending.set()
        self.join()
        self.session.close()

    def run(self):
        try:
            while not self.ending.is_set():
                for payload in self.session.notifications(0.1):
                    self.take(payload)
        except Exception as e:
            self.error = e

    def take(self, payload):
        for record in payload.split(b"\n"):
            if record[:1] in b"eut":
                _, action, number = record.split(b" ", 4)[3].split(b".")
                if action[:1] == b"w":
                    writer, n = int(action[1:]), int(number)
                    self.events.append(writer << WRITER_SHIFT | n)
                    self.last[writer] = n

    def order(self, totals):
        """The events of these writers, all of them."""
        def all_heard():
            assert self.error is None, self.error
            return all(self.last.get(writer, 0) == n for writer, n in totals.items())

        eventually(all_heard, what="the reference hears the last events")
        if len(self.last) == len(totals):
            return self.events
        return array.array("q", (e for e in self.events if e >> WRITER_SHIFT in totals))


# ---- clients ----


class Crowd:
    """Clients in one thread, hundreds of them. What touches a client goes through do()."""

    def __init__(self):
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.selector = selectors.DefaultSelector()
        self.clients = []
        self.returning = []  # (when, client)
        self.commands = collections.deque()
        self.waker, self.woken = socket.socketpair()
        self.waker.setblocking(False)
        self.woken.setblocking(False)
        self.selector.register(self.woken, selectors.EVENT_READ, None)
        self.ending = False
        self.error = None

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ending = True
        self.wake()
        self.thread.join()
        for client in self.clients:
            client.drop()
        self.selector.close()
        self.waker.close()
        self.woken.close()

    def wake(self):
        with contextlib.suppress(BlockingIOError):
            self.waker.send(b"x")

    def do(self, function, *arguments):
        """Runs it in the crowd's thread; returns its value."""
        done, box = threading.Event(), []

        def run():
            try:
                box[:] = [function(*arguments), None]
            except BaseException as e:
                box[:] = [None, e]
            done.set()

        self.commands.append(run)
        self.wake()
        while not done.wait(0.2):
            if not self.thread.is_alive():
                raise RuntimeError(f"the crowd's thread has ended: {self.error!r}")
        if box[1] is not None:
            raise box[1]
        return box[0]

    def run(self):
        try:
            while not self.ending:
                self.turn()
        except BaseException as e:
            self.error = e
            raise

    def turn(self):
        due = min((when for when, _ in self.returning), default=None)
        for key, events in self.selector.select(None if due is None else max(0, due - time.monotonic())):
            if key.data is None:
                with contextlib.suppress(BlockingIOError):
                    self.woken.recv(4096)
            else:
                key.data.on_ready(events)
        while self.commands:
            self.commands.popleft()()
        if self.returning:
            now = time.monotonic()
            ready = [client for when, client in self.returning if when <= now]
            self.returning = [(when, client) for when, client in self.returning if when > now]
            for client in ready:
                client.connect()

    # -- for tests --

    def join(self, load, nodes, count=1, writers=None, kind=None, cursor=False, wait=True, **options):
        """Clients of the writers, all of them if none are named; nodes: one, or those to go to in turn. Waits until they have joined."""
        nodes = nodes if isinstance(nodes, (list, tuple)) else [nodes]
        writers = load.writers if writers is None else writers
        new = [(kind or WebSocketClient)(self, [n.port for n in nodes], writers, cursor, **options) for _ in range(count)]
        self.clients += new
        for client in new:
            self.do(client.connect)
        if wait:
            self.wait_joined(new)
        return new

    def wait_joined(self, clients=None, timeout=30):
        clients = self.clients if clients is None else clients

        def joined():
            for client in clients:
                if client.failure:
                    raise RuntimeError(f"{client.name}: {client.failure}")
            out = [client for client in clients if not client.is_joined()]
            assert not out, f"{len(out)} of {len(clients)} have not; {out[0].name}: {out[0].describe()}"
            return True

        eventually(joined, timeout, "the clients have joined")

    def gaps(self):
        """All that the clients were told: (reason, groups)."""
        return [gap for client in self.clients for gap in client.gaps_told()]

    def assert_no_gaps(self):
        gaps = self.gaps()
        assert not gaps, f"{len(gaps)} gaps, among them {sorted(set(gaps))[:5]}"

    def wait_complete(self, load, timeout, clients, gaps):
        """Until each client has the last event of each of its writers; returns how far these have come then. Where there may be
        gaps one may hide the last event: then it must have the next one."""
        totals, due, pause = load.totals(), time.monotonic() + seconds(2), seconds(2)

        def lacking():
            return [c for c in clients if not c.failure and c.lacks(totals)]

        def is_complete():
            nonlocal totals, due, pause
            if gaps and lacking() and time.monotonic() > due:
                load.one_more()
                totals = load.totals()
                pause *= 2
                due = time.monotonic() + pause
            return not lacking()

        with contextlib.suppress(AssertionError):
            eventually(is_complete, timeout, pause=0.05)
        assert self.error is None, self.error
        lack = lacking()
        assert not lack, (f"{len(lack)} of {len(clients)} clients have not got the last events: " + "; ".join(
            f"{c.name}: {c.describe()}, lacks " + ", ".join(f"w{w} after {c.last.get(w, 0)} of {totals[w]}" for w in c.lacks(totals))
            for c in lack[:5]))
        return totals

    def check(self, load, gaps=False, reference=None, timeout=30, clients=None):
        """Each client has each event once, the writers' orders are kept, and that of the commits where there is a reference.
        gaps: whether there may be any."""
        clients = self.clients if clients is None else clients
        totals = self.wait_complete(load, timeout, clients, gaps)
        flaws, verdicts = [], {}
        for client in clients:
            stream = client.stream()
            key = (tuple(client.writers), stream.tobytes(), repr(client.gaps))
            if key not in verdicts:
                verdicts[key] = find_flaws(stream, client, totals, gaps)
            flaws += [f"{client.name}: {flaw}" for flaw in ([client.failure] if client.failure else []) + verdicts[key]]
        if reference is not None:
            order = reference.order(totals)
            flaws += [f"{c.name}: {flaw}" for c in clients for flaw in compare_order(c, order)]
        assert not flaws, f"{len(flaws)} flaws:\n" + "\n".join(flaws[:20])
        return sum(totals.values())


def find_flaws(stream, client, totals, gaps_allowed, limit=5):
    """What is missing, or there twice, without a gap message in between."""
    flaws = []
    last = dict.fromkeys(client.writers, None if client.late else 0)
    excused = {}  # writer: reason
    for item in stream:
        if item < 0:
            reason, groups = client.gaps[-item - 1]
            if not gaps_allowed:
                flaws.append(f"gap {reason} of {', '.join(groups)} after {last}")
            excused.update((writer, reason) for writer in client.writers_of(groups))
            continue
        writer, n = item >> WRITER_SHIFT, item & NUMBER_MASK
        if writer not in last:
            flaws.append(f"{event_name(item)} was not asked for")
        elif last[writer] is not None and n != last[writer] + 1:
            if writer not in excused or n <= last[writer] and excused[writer] != "restored":
                flaws.append(f"{event_name(item)} after {last[writer]}")
        last[writer] = n
        excused.pop(writer, None)
        if len(flaws) >= limit:
            return flaws
    return flaws + [f"ends at w{w}/{n} of {totals[w]}" for w, n in last.items() if n != totals[w]]


def compare_order(client, order):
    stream = client.stream()
    if len(client.writers) < len({e >> WRITER_SHIFT for e in order}):
        order = array.array("q", (e for e in order if e >> WRITER_SHIFT in client.writers))
    if stream == order:
        return []
    at = next((i for i, (a, b) in enumerate(zip(stream, order)) if a != b), min(len(stream), len(order)))
    return ["not in commit order at event {}: {} instead of {}".format(
        at, *(" ".join(map(event_name, events[at : at + 5])) for events in (stream, order)))]


class Client:
    """What both kinds of clients have in common: the connection, what has come, and what of it counts.

    Without cursor: losing the connection is a failure. With cursor: it comes back by itself, to the next of its ports.
    """

    count = itertools.count(1)
    pause_s = 0.1

    def __init__(self, crowd, ports, writers, cursor, token=None, receive_buffer=None, late=False):
        self.crowd, self.ports, self.wants_cursor = crowd, ports, cursor
        self.name = f"client {next(self.count)}" + (" with cursor" if cursor else "")
        self.writers = [w.number for w in writers]
        self.groups = {}
        for writer in writers:
            for type in writer.types:
                self.groups.setdefault(type, []).append(f"w{writer.number}")
        self.token = token or site.all_seeing.token
        self.receive_buffer = receive_buffer
        self.late = late  # joins while the writers are at it: its first events may have any number
        self.socket = None
        self.state = "away"
        self.reading = True
        self.cursor = None
        self.log = array.array("q")  # what counts; a negative number is a gap
        self.batch = array.array("q") if cursor else self.log  # what came behind the last cursor
        self.last, self.kept_last = {}, {}  # of each writer
        self.gaps = []
        self.connections, self.cursors = 0, 0
        self.ends = []  # why connections ended
        self.failure = None

    # -- the connection --

    def connect(self):
        self.port = self.ports[self.connections % len(self.ports)]
        self.connections += 1
        self.buffer = bytearray()
        self.out = bytearray(self.request())
        self.state = "connecting"
        self.socket = new_socket(self.port)
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.receive_buffer)
        status = self.socket.connect_ex(("127.0.0.1", self.port))
        self.crowd.selector.register(self.socket, selectors.EVENT_READ | selectors.EVENT_WRITE, self)
        if status not in (0, errno.EINPROGRESS):
            self.end(os.strerror(status))

    def request(self):
        raise NotImplementedError

    def drop(self):
        """Leaves without a word."""
        if self.socket is None:
            return
        if self.reading:
            self.crowd.selector.unregister(self.socket)
        self.socket.close()
        self.socket = None
        self.state = "away"
        self.reading = True
        if self.wants_cursor:
            del self.batch[:]
            self.last = dict(self.kept_last)

    def end(self, why):
        self.drop()
        self.ends.append(why)
        if not self.wants_cursor:
            self.failure = f"lost its connection: {why}"
        else:
            self.come_back(self.pause_s)

    def come_back(self, pause=0):
        self.crowd.returning.append((time.monotonic() + pause, self))

    def suspend(self):
        """As a stopped process: reads nothing, answers nothing."""
        if self.socket is not None and self.reading:
            self.crowd.selector.unregister(self.socket)
            self.reading = False

    def wake_up(self):
        if self.socket is not None and not self.reading:
            self.crowd.selector.register(self.socket, selectors.EVENT_READ, self)
            self.reading = True
            self.flush()

    def sip(self):
        """Takes a little."""
        self.wake_up()
        self.on_ready(selectors.EVENT_READ)
        self.suspend()

    def on_ready(self, events):
        if self.socket is None or not self.reading:
            return
        try:
            if events & selectors.EVENT_WRITE:
                self.flush()
            if events & selectors.EVENT_READ:
                data = self.socket.recv(1 << 18)
                if not data:
                    self.end("end of the connection")
                    return
                self.buffer += data
                self.on_data()
        except BlockingIOError:
            pass
        except OSError as e:
            self.end(e.strerror or repr(e))

    def flush(self):
        if self.out:
            with contextlib.suppress(BlockingIOError):
                sent = self.socket.send(self.out)
                del self.out[:sent]
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if self.out else 0)
        self.crowd.selector.modify(self.socket, events, self)

    def send(self, data):
        self.out += data
        self.flush()

    def on_data(self):
        if self.state == "connecting":
            self.state = "asked"
        if self.state == "asked" and not self.take_response():
            return
        self.take_stream()

    def take_response(self):
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return False
        head = self.buffer[:end].decode("latin-1").split("\r\n")
        del self.buffer[: end + 4]
        status = int(head[0].split(" ")[1])
        if status in (101, 200):
            self.on_accepted([line.lower() for line in head[1:]])
            return True
        if status in (401, 403, 400, 404):
            self.failure = f"refused: {head[0]} {bytes(self.buffer).decode(errors='replace').strip()}"
        self.end(head[0])
        return False

    def on_accepted(self, headers):
        raise NotImplementedError

    def take_stream(self):
        raise NotImplementedError

    def is_joined(self):
        return self.state == "joined" and not (self.wants_cursor and self.cursor is None)

    # -- what comes --

    def take_event(self, found, start, stop, octets):
        """found: EVENT's match at start of octets; the payload ends at stop."""
        n, size, writer = map(int, found.groups())
        pad = found.end()
        if stop - pad != size + 2 or octets.count(b"x", pad, stop - 2) != size or octets[stop - 2 : stop] != b'"}':
            self.failure = self.failure or f"w{writer}/{n} is not as it was sent: {bytes(octets[start : start + 100])}"
        self.batch.append(writer << WRITER_SHIFT | n)
        self.last[writer] = n

    def take_gap(self, gap):
        if set(gap) != {"groups", "reason"} or not gap["groups"] or not isinstance(gap["groups"], list):
            self.failure = self.failure or f"no gap message: {gap}"
            return
        self.gaps.append((gap["reason"], tuple(sorted(gap["groups"]))))
        self.batch.append(-len(self.gaps))

    def take_cursor(self, cursor):
        if not re.fullmatch(r"[A-Za-z0-9:,._-]{1,4096}", cursor):
            self.failure = self.failure or f"no cursor: {cursor[:200]!r}"
        self.cursor = cursor
        self.cursors += 1
        if self.batch:
            self.log.extend(self.batch)
            del self.batch[:]
            self.kept_last = dict(self.last)

    # -- for the comparison --

    def stream(self):
        return self.log + self.batch if self.wants_cursor else self.log

    def gaps_told(self):
        return [self.gaps[-item - 1] for item in self.stream() if item < 0]

    def lacks(self, totals):
        """The writers whose last events have not come."""
        return [w for w in self.writers if self.last.get(w, 0) != totals[w]]

    def writers_of(self, groups):
        return [w for w in self.writers if any(g.endswith(f"-w{w}") for g in groups)]

    def describe(self):
        return f"{self.state}, {len(self.stream())} items, {self.connections} connections" + (f", ended by {self.ends[-3:]}" if self.ends else "")


class WebSocketClient(Client):
    def request(self):
        key = base64.b64encode(os.urandom(16)).decode()
        return (f"GET /websocket/?token={self.token} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n").encode()

    def on_accepted(self, headers):
        self.state = "accepting"

    def take_stream(self):
        buffer, at, end = self.buffer, 0, len(self.buffer)
        match, take_event, found = EVENT.match, self.take_event, None
        while end - at >= 2:
            n, start = buffer[at + 1], at + 2
            if n > 125:
                width = 2 if n == 126 else 8
                n, start = int.from_bytes(buffer[start : start + width], "big"), start + width
            stop = start + n
            if stop > end or start > end:
                break
            if buffer[at] == 0x80 | TEXT:
                found = match(buffer, start, stop)
                if found:
                    take_event(found, start, stop, buffer)
                else:
                    self.take_message(json.loads(buffer[start:stop]))
                    if self.socket is None:
                        return
            else:
                self.take_control(buffer[at], bytes(buffer[start:stop]))
                if self.socket is None:
                    return
            at = stop
        found = None  # it holds the buffer
        del buffer[:at]

    def take_message(self, message):
        if "cursor" in message:
            self.take_cursor(message["cursor"])
        elif "gap" in message:
            self.take_gap(message["gap"])
        elif "accept" in message:
            ask = {"groups": self.groups}
            if self.wants_cursor:
                ask["cursor"] = self.cursor or True
            self.send(make_frame(TEXT, json.dumps(ask).encode()))
        elif "groups_current" in message:
            self.state = "joined"
        elif message.get("error", "").endswith("try again"):
            self.end(message["error"])
        else:
            self.failure = self.failure or f"a message that it did not want: {message}"

    def take_control(self, first, payload):
        if first == 0x80 | PING:
            self.send(make_frame(PONG, payload))
        elif first == 0x80 | CLOSE:
            code = struct.unpack(">H", payload[:2])[0] if payload else 1005
            with contextlib.suppress(OSError):
                self.send(make_frame(CLOSE, close_payload(code)))
            self.end(f"closed with {code} {payload[2:].decode()}")
        else:
            self.failure = self.failure or f"a frame that it did not want: {first:#x}"


class EventStreamClient(Client):
    """Server-sent events: each message has its cursor."""

    def __init__(self, crowd, ports, writers, cursor=True, **options):
        super().__init__(crowd, ports, writers, True, **options)
        self.name += " by HTTP"

    def request(self):
        groups = ",".join(f"{type}-{value}" for type, values in self.groups.items() for value in values)
        resume = f"Last-Event-ID: {self.cursor}\r\n" if self.cursor else ""
        return (f"GET /events?groups={groups} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nAuthorization: Bearer {self.token}\r\n"
                f"Accept: text/event-stream\r\n{resume}\r\n").encode()

    def on_accepted(self, headers):
        self.chunked = any(h.startswith("transfer-encoding:") and "chunked" in h for h in headers)
        self.text = bytearray()
        self.state = "joining"
        if not any(h.startswith("content-type: text/event-stream") for h in headers):
            self.failure = self.failure or f"no event stream: {headers}"

    def take_stream(self):
        if self.chunked:
            self.unchunk()
        else:
            self.text += self.buffer
            self.buffer.clear()
        at = 0
        while (end := self.text.find(b"\n\n", at)) >= 0:
            self.take_block(self.text[at:end])
            at = end + 2
        del self.text[:at]

    def unchunk(self):
        at = 0
        while (end := self.buffer.find(b"\r\n", at)) >= 0:
            size = int(bytes(self.buffer[at:end]).split(b";")[0], 16)
            if len(self.buffer) < end + 2 + size + 2:
                break
            self.text += self.buffer[end + 2 : end + 2 + size]
            at = end + 2 + size + 2
        del self.buffer[:at]

    def take_block(self, block):
        fields = {}
        for line in block.split(b"\n"):
            name, _, value = line.partition(b":")
            if name:
                fields[bytes(name)] = value.removeprefix(b" ")
        data = fields.get(b"data")
        kind = bytes(fields.get(b"event", b"message"))
        if data is None:
            pass
        elif kind == b"groups":
            self.state = "joined"
        elif kind == b"gap":
            self.take_gap(json.loads(data))
        elif kind == b"message" and (found := EVENT.match(data)):
            self.take_event(found, 0, len(data), data)
        else:
            self.failure = self.failure or f"a message that it did not want: {bytes(block[:200])}"
        if b"id" in fields:
            self.take_cursor(fields[b"id"].decode())
