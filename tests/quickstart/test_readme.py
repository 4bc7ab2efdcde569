#!/usr/bin/env python3
"""README.md, followed word for word in a fresh copy of the sources: each command of it is run, in order.

Only what a reader's host has of its own is put in place: the server (by PGHOST and the like), the folder that make install
installs into (by CONFIG_SITE) and a free port instead of 8052. "make check" inside runs no test: it would run this one.
"""
import os
import re
import signal
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))
from harness import TOP_SRCDIR, clean_environment, die_with_parent, eventually, free_port, main, read_text, site  # noqa: E402
from tree import copy_sources  # noqa: E402

BLOCKS = re.findall(r"^```(\w+)[ ]?([\w-]*)\n(.*?)^```", read_text(os.path.join(TOP_SRCDIR, "README.md")), re.M | re.S)


class Shell:
    """An interactive bash as a reader's terminal has it, fed block by block."""

    def __init__(self, name, env, cwd):
        self.path = os.path.join(site.folder, f"{name}.out")
        with open(self.path, "wb") as out:
            self.process = subprocess.Popen(
                ["bash", "--norc"], env=env, cwd=cwd, stdin=subprocess.PIPE, stdout=out, stderr=out,
                preexec_fn=die_with_parent,
            )
        self.count = 0
        # Jobs have numbers in a terminal, and a failing command is not passed over here.
        self.send("set -m -e -o pipefail")

    @property
    def out(self):
        return read_text(self.path)

    def send(self, text):
        self.process.stdin.write(text.encode() + b"\n")
        self.process.stdin.flush()

    def run(self, text, timeout=60):
        """Returns what the block printed."""
        self.count += 1
        before, mark = len(self.out), f"--- block {self.count} is done ---"
        self.send(f"{text}\necho '{mark}'")

        def done():
            if self.process.poll() is not None:
                raise RuntimeError(f"a command failed:\n{text}\n{self.out[before:]}")
            return mark in self.out

        eventually(done, timeout, f"the block ends:\n{text}\n{self.out[before:][-3000:]}")
        return self.out[before:].replace(mark, "")

    def interrupt(self):
        """Ctrl-C and the end of the terminal."""
        for group in self.jobs():
            os.killpg(group, signal.SIGINT)
        self.process.stdin.close()
        self.process.wait(30)

    def jobs(self):
        children = f"/proc/{self.process.pid}/task/{self.process.pid}/children"
        return [int(pid) for pid in read_text(children).split()]


class Reader:
    """Who follows the README: a role that may create databases, no superuser."""

    port = None
    source = prefix = None
    first = second = None

    def environment(self):
        env = {
            **clean_environment(), "PGHOST": site.pg.sockets, "PGPORT": str(site.pg.port), "PGUSER": "reader",
            "PGRELAY_LISTEN": f"127.0.0.1:{self.port}", "PATH": f"{self.prefix}/bin:{os.environ['PATH']}",
        }
        del env["PGRELAY_CONFIG"]
        return env

    def second_sees(self, *texts):
        for text in texts:
            eventually(lambda: text in self.second.out, what=f"the second terminal shows {text}\n{self.second.out}")


reader = Reader()


def the_block(kind):
    found = [body for language, info, body in BLOCKS if info == kind or (not info and language == kind)]
    assert len(found) == 1, (kind, found)
    return found[0]


def test_it_opens_with_the_two_commands():
    language, info, body = BLOCKS[0]
    assert language == "sh" and not info
    commands = [line.split("#")[0].strip() for line in body.splitlines()]
    # The first is run by test_quickstart.py; the second is what runs this.
    assert commands == ["sh contrib/quickstart.sh", "sh contrib/check.sh"], commands


def test_every_block_is_of_a_kind_that_is_run():
    assert {language for language, _, _ in BLOCKS} == {"sh", "python"}
    assert [info for _, info, _ in BLOCKS if info] == ["as-root", "install", "follow"]


def test_the_packages_exist():
    command = the_block("as-root")
    assert command.startswith("apt-get install ")
    done = subprocess.run(
        ["sh", "-ec", command.replace("apt-get install", "apt-get install --simulate")], stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True,
    )
    assert done.returncode == 0, done.stdout


def test_installing_from_source():
    reader.source = copy_sources(os.path.join(site.folder, "source"))
    reader.prefix = os.path.join(site.folder, "usr")
    config_site = os.path.join(site.folder, "config.site")
    with open(config_site, "w") as f:
        f.write(f'prefix={reader.prefix}\n')
    env = {**clean_environment(), "CONFIG_SITE": config_site, "MAKEFLAGS": f"-j{os.cpu_count()} -- TESTS="}
    done = subprocess.run(
        ["sh", "-ec", the_block("install")], cwd=reader.source, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    for path in ("bin/pgrelay", "share/man/man8/pgrelay.8", "share/man/man5/pgrelay.conf.5", "share/doc/pgrelay/README.md",
                 "share/doc/pgrelay/examples/pgrelay.conf.sample", "lib/systemd/system/pgrelay.service"):
        assert os.path.exists(os.path.join(reader.prefix, path)), path


def test_three_minutes():
    reader.port = free_port()
    site.sql("CREATE ROLE reader LOGIN CREATEDB CREATEROLE")
    folder = os.path.join(site.folder, "reader")
    os.mkdir(folder)
    reader.first = Shell("first", reader.environment(), folder)
    start = next(i for i, (_, _, body) in enumerate(BLOCKS) if body.startswith("createdb"))
    for language, info, body in BLOCKS[start:]:
        body = body.replace(":8052", f":{reader.port}")
        step = follow if info == "follow" else python if language == "python" else first_terminal
        step(body, folder)
    reader.first.interrupt()
    reader.second.interrupt()


def first_terminal(body, folder):
    out = reader.first.run(body)
    assert "ERROR" not in out, out
    if "pgrelay serve" in body:
        eventually(lambda: "listening" in read_text(os.path.join(folder, "serve.log")), what="the node listens")
    if "psql" in body:
        reader.second_sees('"id":42,"state":"new"', '"id":42,"state":"paid"')
    if "pgrelay run" in body:
        reader.second_sees("on its way", "etc", "successful")
    if "uninstall" in body:
        assert "removed the schema" in out, out


def follow(body, folder):
    reader.second = Shell("second", reader.environment(), folder)
    reader.second.send(body)
    reader.second_sees("following")


def python(body, folder):
    program = os.path.join(folder, "follow.py")
    with open(program, "w") as f:
        f.write(body)
    client = Python(program, folder)
    eventually(lambda: "groups_current" in client.out, what=f"the program has joined: {client.out}")
    reader.first.run("""pgrelay emit orders update 43 '{"group_name": "orders", "seen": "from python"}'""")
    eventually(lambda: "from python" in client.out, what=f"the program sees the event: {client.out}")
    client.process.kill()
    client.process.wait()


class Python:
    def __init__(self, program, folder):
        self.path = os.path.join(folder, "follow.out")
        with open(self.path, "wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, program], cwd=folder, env=clean_environment(), stdout=out, stderr=out, preexec_fn=die_with_parent
            )

    @property
    def out(self):
        return read_text(self.path)


if __name__ == "__main__":
    main(finish=False, limit=600)
