"""What the end-to-end tests share: a TAP runner, a private PostgreSQL cluster, nodes, the command line.

A test file is a Python program. Its functions test_* run in the order in which they stand and print TAP; with names as
arguments only those run. Each file has one cluster of its own, in a temporary folder and on ports of its own, with the
roles of a real deployment: "owner" installed the schema, "node" is the daemon, "writer" runs jobs; none is a superuser.

Nothing here sleeps for a fixed time: what has to happen is polled for, with a deadline. What must not happen is proven by
something later that does (events come in commit order).

Environment, as the build sets it or with defaults for a run by hand in the build folder:
  top_srcdir, top_builddir   the two trees
  PGRELAY                    the program under test
  PGRELAY_WRAPPER            put in front of it, e.g. "valgrind -q --error-exitcode=99 --leak-check=full"
  PGRELAY_NODE_MODULES       the folder that holds node_modules (npm ci with package.json of this folder)
  PG_CONFIG                  pg_config of the PostgreSQL to start
  PGRELAY_KEEP               keep the temporary folder
"""
import atexit
import contextlib
import ctypes
import functools
import glob
import http.client
import json
import os
import pwd
import random
import re
import secrets
import select
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback

import wire

HERE = os.path.dirname(os.path.abspath(__file__))
TOP_SRCDIR = os.path.abspath(os.environ.get("top_srcdir") or os.path.join(HERE, "..", ".."))
TOP_BUILDDIR = os.path.abspath(os.environ.get("top_builddir") or ".")
PGRELAY = os.path.abspath(os.environ.get("PGRELAY") or os.path.join(TOP_BUILDDIR, "pgrelay"))
WRAPPER = shlex.split(os.environ.get("PGRELAY_WRAPPER", ""))
SANITIZER_REPORT = re.compile(
    r"ERROR: \w+Sanitizer|WARNING: \w+Sanitizer|SUMMARY: \w+Sanitizer|: runtime error: |==\d+== (Invalid|Conditional jump|"
    r"Use of uninit|Process terminating)|ERROR SUMMARY: [1-9]|definitely lost: [1-9]"
)


@functools.lru_cache(None)
def is_sanitized():
    try:
        with open(PGRELAY, "rb") as program:
            return b"__asan_init" in program.read()
    except OSError:
        return False


@functools.lru_cache(None)
def patience():
    """What every deadline is multiplied by."""
    return 12 if WRAPPER else 3 if is_sanitized() else 1


def seconds(n):
    return n * patience()


# ---- tools ----


class Missing(Exception):
    """A tool that the tests need is not there: that is a failure, never a skip."""


def need(command, package):
    path = shutil.which(command)
    if path is None:
        raise Missing(f"{command} is missing; on Debian: apt install {package}")
    return path


def need_module(name, package):
    try:
        return __import__(name)
    except ImportError:
        raise Missing(
            f"{sys.executable} has no module {name}; on Debian: apt install {package}, and run the tests with /usr/bin/python3"
        ) from None


def node_environment():
    """The environment in which node finds the package ws, installed by npm or by Debian."""
    need("node", "nodejs")
    folders = [os.environ.get("PGRELAY_NODE_MODULES"), os.path.join(TOP_BUILDDIR, "tests", "e2e"), HERE]
    path = [os.path.join(f, "node_modules") for f in folders if f] + ["/usr/share/nodejs"]
    if not any(os.path.isdir(os.path.join(p, "ws")) for p in path):
        raise Missing(
            "node's package ws is missing; copy tests/e2e/package.json and package-lock.json into tests/e2e of the build "
            "folder and run npm ci there, or on Debian: apt install node-ws"
        )
    return {**clean_environment(), "NODE_PATH": os.pathsep.join(path)}


@functools.lru_cache(None)
def pg_program(name):
    """A program of the PostgreSQL server, not Debian's wrapper."""
    folders = []
    pg_config = os.environ.get("PG_CONFIG") or shutil.which("pg_config")
    if pg_config:
        folders += [subprocess.run([pg_config, "--bindir"], stdout=subprocess.PIPE, text=True).stdout.strip()]
    folders += sorted(glob.glob("/usr/lib/postgresql/*/bin"), key=lambda p: int(p.split("/")[4]), reverse=True)
    folders += os.environ.get("PATH", "").split(os.pathsep)
    for folder in folders:
        if os.access(os.path.join(folder, name), os.X_OK):
            return os.path.join(folder, name)
    raise Missing(f"{name} is missing; on Debian: apt install postgresql")


def clean_environment():
    """Ours, less what would change the program's or libpq's mind."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PGRELAY_", "PG")) and not k.lower().endswith("_proxy")}
    env["PGRELAY_CONFIG"] = os.devnull
    return env


# ---- waiting ----


def eventually(condition, timeout=20, what=None, pause=0.02):
    """Polls until condition() is true and returns its value; an AssertionError or OSError in it means: not yet."""
    deadline = time.monotonic() + seconds(timeout)
    while True:
        error = None
        try:
            value = condition()
            if value:
                return value
        except (AssertionError, OSError) as e:
            error = e
        if time.monotonic() > deadline:
            name = what or getattr(condition, "__name__", "condition")
            raise AssertionError(f"not within {seconds(timeout):g} s: {name}" + (f" ({error})" if error else ""))
        time.sleep(pause)


held_ports = []


def free_port():
    """A port that no other test file takes: reserved until this process ends, outside the range of outgoing connections."""
    while True:
        port = random.randrange(15000, 30000)
        reservation = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        probe = socket.socket()
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            reservation.bind(f"\0pgrelay-test-port-{port}")
            probe.bind(("127.0.0.1", port))
            held_ports.append(reservation)
            return port
        except OSError:
            reservation.close()
        finally:
            probe.close()


# ---- processes ----

# A background job of a shell, or nohup's, ignores some of these, and would hand that on; a handler is not inherited.
for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, lambda *_: None)


def die_with_parent():
    """Should this test be killed, what it started goes too (Linux: PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGKILL, 0, 0, 0)


class Process:
    """A program that runs beside the test; its output goes to files, or is read as it comes."""

    def __init__(self, argv, env=None, name="process", stdin=subprocess.DEVNULL, **popen):
        self.name = name
        self.lasting = False  # outlives the test that started it
        self.out_path = os.path.join(site.folder, f"{name}-{secrets.token_hex(3)}.out")
        self.err_path = self.out_path[:-3] + "err"
        with open(self.out_path, "ab") as out, open(self.err_path, "ab") as err:
            self.popen = subprocess.Popen(
                argv, env=env if env is not None else clean_environment(), stdin=stdin, stdout=out, stderr=err,
                preexec_fn=die_with_parent, **popen,
            )
        site.processes.append(self)

    @property
    def out(self):
        return read_text(self.out_path)

    @property
    def err(self):
        return read_text(self.err_path)

    def is_running(self):
        return self.popen.poll() is None

    def wait(self, timeout=30):
        """Its exit status; -N when signal N killed it."""
        try:
            return self.popen.wait(seconds(timeout))
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} did not end within {seconds(timeout):g} s\n{self.describe()}") from None

    def wait_for(self, text, timeout=30, stream="out"):
        """Until text stands in its output."""

        def said_or_ended():
            ended = not self.is_running()
            return text in getattr(self, stream) or ended

        eventually(said_or_ended, timeout, f"{self.name} prints {text!r}\n{self.describe()}")
        assert text in getattr(self, stream), f"{self.name} ended without printing {text!r}\n{self.describe()}"

    def signal(self, number):
        self.popen.send_signal(number)

    def kill(self):
        if self.is_running():
            self.popen.kill()
        self.popen.wait()

    def describe(self):
        return f"{self.name}: status {self.popen.poll()}\nstdout:\n{tail(self.out, 15)}\nstderr:\n{tail(self.err, 30)}"


def read_text(path):
    with open(path, "r", errors="replace") as f:
        return f.read()


def tail(text, lines=40):
    return "\n".join(line[:400] for line in text.splitlines()[-lines:])


def assert_clean_log(log, what, tokens):
    """No sanitizer's or valgrind's report, and no credential."""
    report = SANITIZER_REPORT.search(log)
    assert report is None, f"{what}: {log[report.start():report.start() + 4000]}"
    for token in tokens:
        at = log.find(token)
        assert at < 0, f"{what} holds a token: {log[max(0, at - 200):at]}<token>"


# ---- PostgreSQL ----


class Cluster:
    """A PostgreSQL server of the test's own."""

    SETTINGS = """
listen_addresses = '127.0.0.1'
fsync = off
full_page_writes = off
shared_buffers = 64MB
max_connections = 60
max_wal_size = 512MB
log_line_prefix = '%m [%p] %u %a: '
log_statement = 'all'
log_parameter_max_length = 0
log_lock_waits = on
timezone = 'Europe/Berlin'
"""

    def __init__(self, folder):
        self.folder = folder
        self.data = os.path.join(folder, "data")
        self.log_path = os.path.join(folder, "postgresql.log")
        self.port = free_port()
        self.server = None
        self.user = None
        if os.geteuid() == 0:
            self.user = self.ordinary_user()
            os.chmod(folder, 0o755)
        self.sockets = os.path.join(folder, "s")
        for path in (self.data, self.sockets):
            os.mkdir(path, 0o755)
            if self.user:
                os.chown(path, self.user.pw_uid, self.user.pw_gid)
        os.chmod(self.data, 0o700)
        self.run(
            pg_program("initdb"), "--no-sync", "--auth=trust", "--encoding=UTF8", "--locale=C", "--username=postgres",
            "--no-instructions", "-D", self.data,
        )
        with open(os.path.join(self.data, "postgresql.conf"), "a") as conf:
            conf.write(self.SETTINGS + f"port = {self.port}\nunix_socket_directories = '{self.sockets}'\n")

    @staticmethod
    def ordinary_user():
        """initdb refuses to run as root."""
        for name in ("postgres", "pgrelay-test"):
            with contextlib.suppress(KeyError):
                return pwd.getpwnam(name)
        subprocess.run(["useradd", "--system", "--no-create-home", "pgrelay-test"], check=True)
        return pwd.getpwnam("pgrelay-test")

    def identity(self):
        if self.user is None:
            return {}
        return {"user": self.user.pw_uid, "group": self.user.pw_gid, "extra_groups": []}

    def run(self, *argv):
        done = subprocess.run(
            argv, env=clean_environment(), cwd=self.folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, **self.identity(),
        )
        if done.returncode != 0:
            raise AssertionError(f"{' '.join(argv)} failed:\n{done.stdout}")

    def start(self):
        with open(self.log_path, "ab") as log:
            self.server = subprocess.Popen(
                [pg_program("postgres"), "-D", self.data], env=clean_environment(), cwd=self.folder, stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, preexec_fn=die_with_parent, **self.identity(),
            )

        def answers():
            if self.server.poll() is not None:
                raise RuntimeError(f"PostgreSQL did not start:\n{tail(self.log())}")
            return subprocess.run(
                [pg_program("pg_isready"), "-q", "-h", self.sockets, "-p", str(self.port), "-U", "postgres", "-d", "postgres"], env=clean_environment()
            ).returncode == 0

        eventually(answers, 60, "PostgreSQL answers")

    def stop(self, how=signal.SIGINT):
        """SIGINT: fast; SIGQUIT: immediate, as a crash."""
        if self.server is not None and self.server.poll() is None:
            self.server.send_signal(how)
            self.server.wait(60)
        self.server = None

    def restart(self, how=signal.SIGINT):
        self.stop(how)
        self.start()

    def log(self):
        return read_text(self.log_path) if os.path.exists(self.log_path) else ""

    def conninfo(self, user="postgres", dbname="relay", tcp=False):
        host = "127.0.0.1" if tcp else self.sockets
        return f"host={host} port={self.port} dbname={dbname} user={user}"


class SqlError(Exception):
    def __init__(self, sqlstate, message):
        super().__init__(f"{sqlstate}: {message}")
        self.sqlstate = sqlstate


class Sql:
    """A session with the database: psql, fed statement by statement, so that transactions can be held open."""

    def __init__(self, conninfo):
        self.process = subprocess.Popen(
            [pg_program("psql"), "-X", "-A", "-t", "-q", "-F", "\x1f", "-R", "\x1e", "-d", conninfo], env=clean_environment(),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, preexec_fn=die_with_parent,
        )
        self.mark = f"--{secrets.token_hex(8)}--"
        self.buffer = b""

    def __call__(self, text, timeout=60):
        """Runs statements; returns the last result's first value, or None without rows."""
        rows = self.rows(text, timeout)
        return rows[0][0] if rows else None

    def rows(self, text, timeout=60):
        self.send(text)
        return self.result(timeout)

    def send(self, text):
        text = text.rstrip().rstrip(";")
        self.process.stdin.write(f"{text}\n;\n\\echo '{self.mark}' :ERROR :SQLSTATE\n\\echo '{self.mark}'\n".encode())
        self.process.stdin.flush()

    def result(self, timeout=60):
        body = self.answer(timeout)
        return [row.split("\x1f") for row in body.removesuffix("\n").split("\x1e")] if body else []

    def answer(self, timeout=60):
        """What psql printed for the statements sent."""
        deadline = time.monotonic() + seconds(timeout)
        mark = self.mark.encode()
        while self.buffer.count(mark) < 2:
            ready = select.select([self.process.stdout], [], [], max(0, deadline - time.monotonic()))[0]
            if not ready:
                raise AssertionError(f"no answer from the database within {seconds(timeout):g} s")
            data = os.read(self.process.stdout.fileno(), 1 << 20)
            if not data:
                raise ConnectionError(f"psql ended: {self.buffer.decode(errors='replace')}")
            self.buffer += data
        body, status, self.buffer = self.buffer.split(mark, 2)
        self.buffer = self.buffer.lstrip(b"\n")
        failed, _, sqlstate = status.decode().strip().partition(" ")
        body = body.decode(errors="replace")
        if "connection to server was lost" in body or not sqlstate:
            raise ConnectionError(body.strip())
        if failed == "true":
            raise SqlError(sqlstate, body.strip())
        return body

    def close(self):
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


# ---- the node ----


class Reply:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def __repr__(self):
        return f"{self.status} {self.headers} {self.body!r}"


class Node:
    """A running `pgrelay serve`. Leaving it as a context ends it, and asserts that it ended well."""

    def __init__(self, wait=True, env=None, config=None, database=None, port=None, **settings):
        self.port = port or free_port()
        self.config_path = None
        if database is None:
            database = site.pg.conninfo("node")
        settings = {"listen": f"127.0.0.1:{self.port}", "log_level": "debug", **settings}
        argv = [*WRAPPER, PGRELAY, "serve"]
        if config is not None:
            self.config_path = os.path.join(site.folder, f"node-{self.port}.conf")
            self.configure(config)
            argv += ["--config", self.config_path]
        for name, value in settings.items():
            if value is not None:
                argv += ["--" + name.replace("_", "-"), str(value)]
        self.process = Process(argv, {**clean_environment(), "PGRELAY_DATABASE": database, **(env or {})}, name="node")
        site.nodes.append(self)
        if wait:
            self.wait_ready()

    def configure(self, text):
        with open(self.config_path, "w") as f:
            f.write(text)

    @property
    def log(self):
        return self.process.err

    @property
    def pid(self):
        return self.process.popen.pid

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        for client in site.clients:
            if getattr(client, "port", None) == self.port:
                client.close()
        if kind is None:
            self.stop()
        else:
            self.process.kill()

    def is_running(self):
        return self.process.is_running()

    def wait_ready(self, timeout=30):
        def ready():
            if not self.is_running():
                raise RuntimeError(f"the node ended with status {self.process.popen.returncode}:\n{tail(self.log)}")
            return self.get("/readyz").status == 200

        eventually(ready, timeout, "the node is ready")

    def get(self, path, method="GET", body=None, headers=None, timeout=10):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=seconds(timeout))
        connection.sock = wire.new_socket(self.port)
        connection.sock.settimeout(seconds(timeout))
        try:
            connection.sock.connect(("127.0.0.1", self.port))
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return Reply(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read().decode())
        except http.client.HTTPException as e:
            raise ConnectionError(f"no HTTP answer: {e!r}") from e
        finally:
            connection.close()

    def metric(self, name):
        """The sum of a metric over its labels; None where there is none."""
        values = [float(v) for v in re.findall(rf"^{name}(?:\{{[^}}]*\}})? (\S+)$", self.get("/metrics").body, re.M)]
        return sum(values) if values else None

    def stop(self, status=0):
        """SIGTERM; the node must end with the given status, and its log must be clean."""
        if self.is_running():
            self.process.signal(signal.SIGTERM)
        ended = self.process.wait(30)
        assert ended == status, f"the node ended with status {ended} instead of {status}:\n{tail(self.log)}"
        assert_clean_log(self.log, "the node's log", site.tokens)

    def url(self, path="/websocket/", scheme="ws"):
        return f"{scheme}://127.0.0.1:{self.port}{path}"

    # -- clients --

    def dial(self, path="/websocket/", headers=(), **options):
        """The upgrade request alone; returns the client with .status, .headers, .body of the answer."""
        client = Client(self.port, timeout=seconds(20), **options)
        site.clients.append(client)
        client.upgrade(path, headers)
        return client

    def connect(self, user, path="/websocket/", headers=(), **options):
        """An accepted client; user is a User or a token."""
        token = user.token if isinstance(user, User) else user
        client = self.dial(f"{path}?token={token}", headers, **options)
        assert client.status == 101, f"refused: {client.status} {client.body}"
        accept = client.json()
        assert accept.get("accept") is True and isinstance(accept.get("user"), int), accept
        client.user = accept["user"]
        return client


class Client(wire.WebSocket):
    """A raw WebSocket client with the AWX dialect's manners."""

    def ask(self, message):
        """Sends a message; returns the errors before the reply, and the reply."""
        self.send_json(message)
        errors = []
        while True:
            answer = self.json()
            if "error" in answer:
                assert answer["error"].startswith("access denied to channel "), f"no reply follows: {answer}"
                errors.append(answer["error"])
            else:
                assert set(answer) == {"groups_current", "groups_left", "groups_joined"}, answer
                return errors, {k: sorted(v) for k, v in answer.items()}

    def join(self, **groups):
        """Joins exactly these groups, which must be allowed."""
        errors, reply = self.ask({"groups": groups})
        assert not errors, errors
        assert reply["groups_current"] == sorted({f"{n}-{v}" for n, values in groups.items() for v in values}), reply
        return self


class User:
    """A user of pgrelay with a token."""

    def __init__(self, name, token):
        self.name, self.token = name, token
        self.id = int(site.sql(f"SELECT id FROM pgrelay.users WHERE name = {quote(name)}"))


# ---- what all tests of a file share ----


class Site:
    """The one cluster of a test file with schema and roles, and its default node; each is made when first used."""

    def __init__(self):
        self.tokens = []
        self.nodes, self.processes, self.clients = [], [], []
        self.sessions = {}
        self.default_node = None
        self.node_settings = {}
        self.user_count = 0
        self.cluster = None

    @functools.cached_property
    def folder(self):
        return tempfile.mkdtemp(prefix="pgrelay-e2e-")

    @property
    def pg(self):
        if self.cluster is None:
            cluster = Cluster(self.folder)
            self.cluster = cluster
            cluster.start()
            sql = Sql(cluster.conninfo(dbname="postgres"))
            sql("ALTER ROLE postgres SET log_statement = none")
            sql("CREATE ROLE owner LOGIN CREATEROLE")
            sql("CREATE DATABASE relay OWNER owner")
            sql.close()
            self.pgrelay("schema", "install")
            for statement in (
                "CREATE ROLE node LOGIN",
                "CREATE ROLE writer LOGIN",
                "GRANT pgrelay_node TO node",
                "GRANT pgrelay_emitter TO writer",
            ):
                self.sql(statement)
        return self.cluster

    @property
    def node(self):
        if self.default_node is None or not self.default_node.is_running():
            self.default_node = Node(**self.node_settings)
            self.default_node.process.lasting = True
        return self.default_node

    def serve(self, *args, **settings):
        return Node(*args, **settings)

    def session(self, user="postgres", **where):
        """A database session of its own; closed after the test."""
        sql = Sql(self.pg.conninfo(user, **where))
        self.clients.append(sql)
        return sql

    def sql(self, text, user="postgres", timeout=60):
        return self.shared_session(user)(text, timeout)

    def rows(self, text, user="postgres", timeout=60):
        return self.shared_session(user).rows(text, timeout)

    def shared_session(self, user):
        session = self.sessions.get(user)
        if session is None or session.process.poll() is not None:
            session = self.sessions[user] = Sql(self.pg.conninfo(user))
        return session

    def drop_sessions(self):
        """Before the server stops."""
        for session in self.sessions.values():
            session.close()
        self.sessions.clear()

    def emit(self, type, action, key, payload):
        text = json.dumps(payload, ensure_ascii=False)
        return int(self.sql("SELECT pgrelay.emit({}, {}, {}, {})".format(*map(quote, (type, action, key, text))), "writer"))

    def job(self, **columns):
        """A new job's id."""
        columns.setdefault("name", "test")
        names, values = ", ".join(columns), ", ".join(quote(v) for v in columns.values())
        return int(self.sql(f"INSERT INTO pgrelay.job ({names}) VALUES ({values}) RETURNING id", "writer"))

    # -- the command line --

    def command(self, *argv, user="owner", env=None, program=None):
        return (
            [*WRAPPER, program or PGRELAY, *map(str, argv)],
            {**clean_environment(), "PGRELAY_DATABASE": self.pg.conninfo(user), **(env or {})},
        )

    def pgrelay(self, *argv, user="owner", status=0, input=None, env=None, timeout=60):
        """Runs a command to its end, as a user would; asserts the exit status (None: any)."""
        argv, env = self.command(*argv, user=user, env=env)
        stdin = {"stdin": subprocess.DEVNULL} if input is None else {"input": input}
        done = subprocess.run(
            argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=seconds(timeout), **stdin
        )
        done.raw = done.stdout
        done.stdout, done.stderr = (s.decode(errors="replace") for s in (done.stdout, done.stderr))
        assert_clean_log(done.stderr, " ".join(argv[:3]), [])
        if status is not None and done.returncode != status:
            raise AssertionError(
                f"{' '.join(argv)[:300]}: status {done.returncode} instead of {status}\nstdout:\n{tail(done.stdout, 10)}\n"
                f"stderr:\n{tail(done.stderr)}"
            )
        return done

    def start(self, *argv, user="owner", env=None, **popen):
        """Starts a command beside the test."""
        argv, env = self.command(*argv, user=user, env=env)
        return Process(argv, env, name=f"pgrelay-{argv[len(WRAPPER) + 1]}", **popen)

    def token(self, name, *options):
        token = self.pgrelay("token", "create", name, *options).stdout.strip()
        assert re.fullmatch(r"[!-~]{16,}", token), f"no token: {token!r}"
        self.tokens.append(token)
        return token

    def user(self, *patterns):
        """A new user with a token and these grants."""
        self.user_count += 1
        user = User(f"user{self.user_count}", self.token(f"user{self.user_count}"))
        if patterns:
            self.pgrelay("grant", "add", user.name, *patterns)
        return user

    @functools.cached_property
    def all_seeing(self):
        return self.user("*.*.*")

    # -- between and after the tests --

    def after_test(self):
        for client in self.clients:
            client.close()
        self.clients.clear()
        for process in self.processes:
            if process.is_running() and not process.lasting:
                process.kill()
        self.processes = [p for p in self.processes if p.is_running()]
        if self.cluster is not None and (self.cluster.server is None or self.cluster.server.poll() is not None):
            self.drop_sessions()
            self.cluster.start()

    def check_logs(self):
        """What the commands and nodes of the test have said: no token, no sanitizer's report."""
        for process in self.processes:
            if process.name.startswith(("pgrelay-", "node")):
                assert_clean_log(process.err, f"{process.name}'s standard error", self.tokens)

    def finish(self):
        """Ends the default node, as a test of its own."""
        self.after_test()
        if self.default_node is not None:
            self.default_node.stop()
        if self.cluster is not None:
            assert_clean_log(self.cluster.log(), "PostgreSQL's log", self.tokens)

    def destroy(self):
        for process in self.processes:
            process.kill()
        self.drop_sessions()
        if self.cluster is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.cluster.stop(signal.SIGQUIT)
            if self.cluster.server is not None:
                self.cluster.server.kill()
        if "folder" in self.__dict__ and not os.environ.get("PGRELAY_KEEP"):
            shutil.rmtree(self.folder, ignore_errors=True)


site = Site()


def quote(value):
    """An SQL literal."""
    if value is None:
        return "NULL"
    if isinstance(value, (int, float)):
        return str(value)
    return "'" + str(value).replace("'", "''") + "'"


# ---- TAP ----


def diagnose(text):
    for line in text.splitlines():
        print("#", line.encode("ascii", "backslashreplace").decode())


def on_alarm(*_):
    raise TimeoutError("the test took too long")


def run_test(number, name, function, limit):
    signal.alarm(int(seconds(limit)))
    start = time.monotonic()
    log_start = {node: len(node.log) for node in site.nodes}
    try:
        function()
        signal.alarm(0)
        site.check_logs()
        print(f"ok {number} - {name}", flush=True)
        return True
    except KeyboardInterrupt:
        raise
    except BaseException:
        signal.alarm(0)
        print(f"not ok {number} - {name}", flush=True)
        diagnose(traceback.format_exc())
        for node in site.nodes:
            log = node.log[log_start.get(node, 0):]
            if log:
                diagnose(f"--- the log of the node on port {node.port} ---\n{tail(log)}")
        if site.cluster is not None:
            log = re.sub(r"^.*LOG:  execute .*\n", "", site.cluster.log(), flags=re.M)
            diagnose(f"--- PostgreSQL's log ---\n{tail(log, 20)}")
        return False
    finally:
        signal.alarm(0)
        if time.monotonic() - start > 3:
            diagnose(f"{name}: {time.monotonic() - start:.1f} s")


def main(finish=True, limit=120):
    """Runs the test_* functions of the program. limit: seconds a test may take."""
    module = sys.modules["__main__"]
    tests = [(n[5:].replace("_", " "), f) for n, f in vars(module).items() if n.startswith("test_") and callable(f)]
    wanted = {a.replace("test_", "", 1).replace("_", " ") for a in sys.argv[1:]}
    if wanted:
        tests = [t for t in tests if t[0] in wanted]
        if len(tests) != len(wanted):
            sys.exit(f"no such test; there are: {', '.join(n for n in vars(module) if n.startswith('test_'))}")
    if finish:
        tests.append(("the node ends well and no log holds a token", site.finish))
    atexit.register(site.destroy)
    signal.signal(signal.SIGALRM, on_alarm)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    print(f"1..{len(tests)}", flush=True)
    if not os.access(PGRELAY, os.X_OK):
        print(f"Bail out! {PGRELAY} is no program: build first, or set PGRELAY")
        sys.exit(1)
    failed = 0
    for number, (name, function) in enumerate(tests, 1):
        try:
            failed += not run_test(number, name, function, limit)
        finally:
            site.nodes = [n for n in site.nodes if n.is_running()]
            site.after_test()
    sys.exit(failed > 0)
