#!/usr/bin/env python3
"""contrib/quickstart.sh, really run: in a fresh copy of the sources, twice at once, on a user's database, by Ctrl-C, by
SIGKILL, as root and as an ordinary user. After each, no process and no folder of it is left."""
import contextlib
import os
import pty
import re
import secrets
import shutil
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))
from harness import (  # noqa: E402
    clean_environment, die_with_parent, eventually, main, node_environment, read_text, site,
)
from tree import copy_sources  # noqa: E402

# A client of Digital Rebar that verifies the certificate.
REBAR = """
import sys, websocket
authority, endpoint, token, pattern = sys.argv[1:]
ws = websocket.create_connection(endpoint.replace("https", "wss") + "/api/v3/ws", header={"Authorization": "Bearer " + token}, sslopt={"ca_certs": authority})
ws.send("register " + pattern)
[print(m, flush=True) for m in ws]
"""

ESCAPES = re.compile(r"\x1b\[[0-9;]*m|\r")


def processes(mark):
    """Those that were started with this mark in their environment, or that name a folder of theirs."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/environ", "rb") as f:
                environment = f.read()
            with open(f"/proc/{pid}/cmdline", "rb") as f:
                command = f.read().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if mark.encode() in environment and int(pid) != os.getpid():
            found.append(f"{pid} {command}")
    return found


def as_from_a_terminal():
    """Where the tests run in the background SIGINT is ignored, and a shell cannot undo that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    die_with_parent()


class Start:
    """One start of the script, in a terminal of its own."""

    def __init__(self, *arguments, env=None, source=None, user=None):
        self.mark = f"quickstart-test-{secrets.token_hex(8)}"
        self.folder = source or tree.path
        self.out_path = os.path.join(site.folder, f"{self.mark}.out")
        self.master, slave = pty.openpty()
        environment = {**clean_environment(), "QUICKSTART_TEST": self.mark, **(env or {})}
        identity = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if user else {}
        self.begin = time.monotonic()
        self.process = subprocess.Popen(
            ["setsid", "--ctty", "--wait", "sh", os.path.join(self.folder, "contrib", "quickstart.sh"), *arguments],
            cwd="/", env=environment, stdin=slave, stdout=slave, stderr=slave, preexec_fn=as_from_a_terminal, **identity,
        )
        os.close(slave)
        os.set_blocking(self.master, False)
        self.text = ""
        self.cluster = None
        site.clients.append(self)

    @property
    def out(self):
        """All that stood on the terminal so far."""
        try:
            while data := os.read(self.master, 65536):
                self.text += data.decode(errors="replace")
        except OSError:
            pass
        text = ESCAPES.sub("", self.text)
        home = re.search(r"^PostgreSQL .* log: (\S+)/postgresql.log$", text, re.M)
        if home and self.cluster is None:
            # Gone when the script has ended before we looked.
            with contextlib.suppress(FileNotFoundError):
                self.cluster = read_text(os.path.join(home.group(1), "cluster")).strip()
        return text

    def wait_for(self, text, timeout=60):
        def said():
            if self.process.poll() is not None and text not in self.out:
                raise RuntimeError(f"it ended without {text!r}\n{self.out}")
            return text in self.out

        eventually(said, timeout, f"{text!r} on the terminal; there is:\n{self.out[-3000:]}")

    def end(self, status=0, timeout=60):
        eventually(lambda: self.out is not None and self.process.poll() is not None, timeout, f"the script ends\n{self.out[-3000:]}")
        self.seconds = time.monotonic() - self.begin
        assert self.process.returncode == status, f"status {self.process.returncode} instead of {status}\n{self.out[-6000:]}"
        assert_nothing_left(self)
        return self.out

    def type(self, text):
        os.write(self.master, text.encode())

    def value(self, name):
        return re.search(rf"^{name} +(\S+)", self.out, re.M).group(1)

    def script_pid(self):
        return int(next(p for p in processes(self.mark) if " contrib/quickstart.sh" in p or "/contrib/quickstart.sh" in p
                        if "setsid" not in p).split()[0])

    def close(self):
        """After each test: what a test that failed has left running."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self.master)


def assert_nothing_left(start):
    eventually(lambda: not processes(start.mark), what=f"no process is left: {processes(start.mark)}")
    for port in set(re.findall(r"127\.0\.0\.1:(\d+)", start.out)):
        with open("/proc/net/tcp") as f:
            listening = [line.split()[1] for line in f if line.split()[3] == "0A"]
        assert f"0100007F:{int(port):04X}" not in listening, port
    assert start.cluster is None or not os.path.exists(start.cluster), start.cluster


class Tree:
    """The fresh copy; its folder may be entered by its owner alone, as /root is."""

    path = None


tree = Tree()


def assert_demo(out):
    lines = int(re.search(r"was successful; its (\d+) lines came over the WebSocket, none missing", out).group(1))
    assert lines >= 15, out
    assert out.count("sample 12 of 12:") == 1 and "this line went to standard error" in out and "done ✓" in out, out
    assert re.search(r"^URL +ws://127\.0\.0\.1:\d+/websocket/$", out, re.M), out
    assert re.search(r"^token +\S{30,}$", out, re.M), out


def test_from_a_fresh_copy():
    tree.path = copy_sources(os.path.join(site.folder, "source"))
    os.chmod(site.folder, 0o700)
    assert not os.path.exists(os.path.join(tree.path, "configure"))
    start = Start("--once")
    assert_demo(start.end(timeout=500))
    print(f"# the first start took {start.seconds:.1f} s")


def test_a_second_start_builds_nothing():
    program = os.path.join(tree.path, "build", "pgrelay")
    before = os.stat(program).st_mtime_ns
    start = Start("--once")
    out = start.end()
    assert_demo(out)
    assert "building" not in out and "installing" not in out and os.stat(program).st_mtime_ns == before, out
    print(f"# the second start took {start.seconds:.1f} s")
    assert start.seconds < 30, start.seconds


def test_two_at_once():
    both = [Start("--once"), Start("--once")]
    for start in both:
        assert_demo(start.end())
    assert both[0].value("token") != both[1].value("token") and both[0].value("URL") != both[1].value("URL")


def test_it_stays_for_own_commands_and_other_clients_until_ctrl_c():
    start = Start()
    start.wait_for("Every job's lines and status appear here:")
    assert_demo(start.out)

    env_file = re.search(r"^  \. (\S+/env)$", start.out, re.M).group(1)
    run = re.search(r"^  (\S+/pgrelay run -- ls -l /)$", start.out, re.M).group(1)
    assert os.stat(env_file).st_mode & 0o077 == 0
    shell = ["sh", "-ec", f". {env_file}\n{run}"]
    listing = subprocess.run(shell, env=clean_environment(), stdout=subprocess.PIPE, text=True, check=True).stdout
    for line in listing.splitlines()[:5]:
        start.wait_for(line)

    python = re.search(r"^  (/usr/bin/python3 -c .*)$", start.out, re.M).group(1)
    browser = re.search(r"^  (ws = new WebSocket.*)$", start.out, re.M).group(1)
    curl = re.search(r"^  (curl -sN --cacert .*)$", start.out, re.M).group(1)
    authority = re.search(r"--cacert (\S+) ", curl).group(1)
    drpcli = re.search(r"^  RS_ENDPOINT=(\S+) RS_TOKEN=(\S+) drpcli events watch '(\S+)'$", start.out, re.M).groups()
    assert "-k" not in curl and "https://127.0.0.1:" in curl, curl
    clients = [
        subprocess.Popen(argv, env=env, stdout=open(os.path.join(site.folder, f"client{n}.out"), "wb"), preexec_fn=die_with_parent)
        for n, (argv, env) in enumerate((
            (["sh", "-c", f"exec {python}"], clean_environment()),
            (["node", "-e", f'global.WebSocket = require("ws"); {browser}'], node_environment()),
            (["sh", "-c", f"exec {curl}"], clean_environment()),
            ([sys.executable, "-c", REBAR, authority, *drpcli], clean_environment()),
        ))
    ]
    try:
        for n, joined in enumerate(("groups_current", "groups_current", "groups_current", '"Action":"register"')):
            eventually(lambda: joined in read_text(os.path.join(site.folder, f"client{n}.out")), what=f"client {n} has joined")
        subprocess.run(["sh", "-ec", f". {env_file}\n{run.replace('ls -l /', 'echo for all clients')}"], env=clean_environment(),
                       stdout=subprocess.DEVNULL, check=True)
        for n, seen in enumerate(("for all clients", "for all clients", '"status":"successful"', '"status":"successful"')):
            eventually(lambda: seen in read_text(os.path.join(site.folder, f"client{n}.out")).replace(": ", ":"), what=f"client {n} sees it")
        start.wait_for("for all clients")
    finally:
        for client in clients:
            client.kill()
            client.wait()
    start.type("\x03")
    out = start.end(0)
    assert "ending ..." in out and not os.path.exists(env_file), out
    assert sorted(n for n in os.listdir(os.path.dirname(env_file)) if n.startswith("pgrelay")) == ["pgrelay-ca.crt", "pgrelay.crt"], out


def test_ctrl_c_during_the_demo():
    start = Start("--once")
    start.wait_for("sample  3 of 12")
    start.type("\x03")
    out = start.end(-signal.SIGINT)
    assert "none missing" not in out, out


def test_a_failing_job_is_told():
    demo = os.path.join(tree.path, "contrib", "demo-job.sh")
    shutil.copy(demo, demo + ".kept")
    with open(demo, "w") as f:
        f.write("echo before the end\nexit 3\n")
    try:
        out = Start("--once").end(1)
        assert "before the end" in out and "status 3" in out and "none missing" not in out, out
    finally:
        shutil.move(demo + ".kept", demo)


def test_a_missing_line_is_told():
    program = os.path.join(tree.path, "build", "pgrelay")
    os.rename(program, program + ".real")
    with open(program, "w") as f:
        f.write(
            f'#!/bin/bash\nset -o pipefail\n[ "$1" = watch ] || exec {program}.real "$@"\n{program}.real "$@" | sed -u "/sample  5/d"\n'
        )
    os.chmod(program, 0o755)
    try:
        out = Start("--once").end(1)
        assert "is not what the command printed" in out and "< sample  5 of 12" in out and "none missing" not in out, out
    finally:
        os.rename(program + ".real", program)


def test_on_a_database_of_ones_own():
    conninfo = site.pg.conninfo("owner")
    start = Start("--once", "--database", conninfo)
    out = start.end()
    assert_demo(out)
    assert "PostgreSQL " not in out, out
    assert site.sql("SELECT status FROM pgrelay.job WHERE name = 'quickstart' ORDER BY id DESC LIMIT 1") == "successful"
    assert site.sql("SELECT count(*) FROM pgrelay.token t JOIN pgrelay.users u ON u.id = t.user_id WHERE u.name = 'quickstart'") == "0"


def test_a_database_that_is_not_there_is_told():
    out = Start("--once", "--database=host=/nowhere dbname=none").end(1)
    assert "could not connect" in out and "/nowhere" in out, out


def test_a_port_in_use_is_no_obstacle():
    """All ports but a few are taken: od, which draws them, is made to draw a taken one first."""
    import socket

    taken = socket.socket()

    def bound():
        with contextlib.suppress(OSError):
            taken.bind(("127.0.0.1", 20000 + secrets.randbelow(10000)))
            return True

    eventually(bound, what="a port that nobody has")
    port = taken.getsockname()[1]
    taken.listen()
    folder = os.path.join(site.folder, "draw")
    os.mkdir(folder)
    with open(os.path.join(folder, "od"), "w") as f:
        f.write(
            f'#!/bin/sh\ncase $* in *-tu2*) [ -e "$BUILD_DIR/drawn" ] || {{ : >"$BUILD_DIR/drawn"; echo {port - 20000}; exit; }} ;; esac\n'
            f'exec /usr/bin/od "$@"\n'
        )
    os.chmod(os.path.join(folder, "od"), 0o755)
    try:
        start = Start("--once", env={"PATH": f"{folder}:{os.environ['PATH']}", "BUILD_DIR": os.path.join(tree.path, "build")})
        assert_demo(start.end())
        assert os.path.exists(os.path.join(tree.path, "build", "drawn"))
    finally:
        taken.close()


def test_killed_it_leaves_no_process_and_the_next_start_tidies_up():
    start = Start()
    start.wait_for("Every job's lines and status appear here:")
    os.kill(start.script_pid(), signal.SIGKILL)
    eventually(lambda: not processes(start.mark), what=f"no process is left: {processes(start.mark)}")
    assert os.path.isdir(start.cluster)
    assert_demo(Start("--once").end())
    assert not os.path.exists(start.cluster)


def test_as_an_ordinary_user():
    if os.geteuid() != 0:
        return  # then all of the above was it
    user = site.pg.ordinary_user()
    os.chmod(site.folder, 0o755)
    home = os.path.join(site.folder, "home")
    os.mkdir(home)
    os.rename(tree.path, os.path.join(home, "source"))
    tree.path = os.path.join(home, "source")
    subprocess.run(["chown", "-R", f"{user.pw_uid}:{user.pw_gid}", home], check=True)
    out = Start("--once", user=user, env={"HOME": home}).end(timeout=500)
    assert_demo(out)


if __name__ == "__main__":
    main(finish=False, limit=600)
