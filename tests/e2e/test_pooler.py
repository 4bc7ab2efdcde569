#!/usr/bin/env python3
"""PgBouncer between the node and PostgreSQL: in session mode all is well, in transaction mode the node says that it is deaf."""
import os
import shutil
import signal
import subprocess

from harness import Missing, Node, Sql, clean_environment, die_with_parent, eventually, free_port, main, read_text, site

FAST = {"backoff_max": "500ms", "probe_interval": "200ms", "probe_timeout": "2s"}


def program():
    path = os.environ.get("PGRELAY_PGBOUNCER") or shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"
    if not os.access(path, os.X_OK):
        raise Missing("pgbouncer is missing; on Debian: apt install pgbouncer, or PGRELAY_PGBOUNCER names the program")
    return path


class PgBouncer:
    """A pooler before the test's cluster. Leaving it as a context ends it."""

    def __init__(self, pool_mode):
        self.port = free_port()
        self.folder = os.path.join(site.folder, f"pgbouncer-{self.port}")
        self.config = os.path.join(self.folder, "pgbouncer.ini")
        self.log_path = os.path.join(self.folder, "log")
        self.process = None
        os.mkdir(self.folder)
        self.program = shutil.copy(program(), self.folder)  # to where the server's user may go
        if site.pg.user:  # it refuses to run as root, too
            os.chown(self.folder, site.pg.user.pw_uid, site.pg.user.pw_gid)
        with open(os.path.join(self.folder, "users"), "w") as f:
            f.write('"node" ""\n"writer" ""\n')
        self.set_mode(pool_mode)
        self.start()

    def set_mode(self, pool_mode):
        with open(self.config, "w") as f:
            f.write(
                f"[databases]\nrelay = host={site.pg.sockets} port={site.pg.port}\n"
                f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {self.port}\nunix_socket_dir =\n"
                f"auth_type = trust\nauth_file = {self.folder}/users\npool_mode = {pool_mode}\n"
            )

    def start(self):
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                [self.program, self.config], env=clean_environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                preexec_fn=die_with_parent, **site.pg.identity(),
            )
        eventually(lambda: "process up" in read_text(self.log_path), what="PgBouncer is up")

    def stop(self, how=signal.SIGTERM):
        self.process.send_signal(how)
        self.process.wait(20)
        os.truncate(self.log_path, 0)

    def conninfo(self, user="node"):
        return f"host=127.0.0.1 port={self.port} dbname=relay user={user}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop(signal.SIGKILL)


def follow(node):
    return node.connect(site.all_seeing).join(job_events=[1])


def emit(*numbers, session=None):
    for n in numbers:
        text = f"SELECT pgrelay.emit('job_events', 'x', '1', '{{\"n\": {n}}}')"
        session(text) if session else site.sql(text, "writer")


def assert_numbers(client, *numbers):
    assert [client.json()["n"] for _ in numbers] == list(numbers)


def test_session_mode():
    with PgBouncer("session") as pooler, Node(database=pooler.conninfo(), **FAST) as node:
        client = follow(node)
        emit(*range(100))
        assert_numbers(client, *range(100))
        site.sql("SELECT pgrelay.emit('job_events', 'x', '1', jsonb_build_object('pad', repeat('x', 50000)))", "writer")
        assert len(client.json()["pad"]) == 50000
        assert "connected through a pooler" in node.log, node.log


def test_session_mode_and_deferred_events():
    """The announcer's lock is the session's: it goes with the node."""
    site.sql("SELECT pgrelay.announce_set('job_events', 'deferred')")
    try:
        with PgBouncer("session") as pooler, Node(**FAST) as other:
            with Node(database=pooler.conninfo(), **FAST) as node:
                client = follow(node)
                emit(*range(10))
                assert_numbers(client, *range(10))
                eventually(lambda: node.metric("pgrelay_announcer") + other.metric("pgrelay_announcer") == 1)
                site.sql("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted")
                emit(10)
                assert_numbers(client, 10)
            eventually(lambda: other.metric("pgrelay_announcer") == 1, 5)
    finally:
        site.sql("SELECT pgrelay.announce_set('job_events', 'commit')")


def test_a_restart_of_the_pooler_loses_nothing():
    with PgBouncer("session") as pooler, Node(database=pooler.conninfo(), **FAST) as node:
        client = follow(node)
        for how in (signal.SIGTERM, signal.SIGKILL):
            emit(1)
            assert_numbers(client, 1)
            lost = node.metric("pgrelay_listen_lost_total")
            pooler.stop(how)
            eventually(lambda: node.metric("pgrelay_listen_lost_total") > lost, what="the loss is noticed")
            emit(2, 3)
            pooler.start()
            emit(4)
            node.wait_ready()
            emit(5)
            assert_numbers(client, 2, 3, 4, 5)


def test_transaction_mode_is_noticed_and_named():
    """The backend that sends a heartbeat also hears it, so it comes back; what others send does not."""
    site.sql("SELECT pgrelay.announce_set('other', 'deferred')")
    with PgBouncer("transaction") as pooler, Node(database=pooler.conninfo(), wait=False, **FAST) as node:
        eventually(lambda: node.get("/readyz").status == 503)
        while node.metric("pgrelay_listen_deaf_total") < 2:
            answer = node.get("/readyz")
            assert answer.status == 503, answer
            assert node.metric("pgrelay_announcer") == 0, "the lock would be the pooler's"
        eventually(lambda: "in transaction mode" in node.get("/readyz").body, what="/readyz says why")
        assert "a pooler in transaction mode?" in node.log, node.log
        pooler.stop()
        pooler.set_mode("session")
        pooler.start()
        node.wait_ready()
        client = follow(node)
        emit(1)
        assert_numbers(client, 1)
    site.sql("SELECT pgrelay.announce_set('other', 'commit')")


def test_writers_may_go_through_a_pooler_in_transaction_mode():
    with PgBouncer("transaction") as pooler, Node(**FAST) as node:
        client = follow(node)
        writers = [Sql(pooler.conninfo("writer")) for _ in range(3)]
        site.clients.extend(writers)
        for n in range(30):
            emit(n, session=writers[n % 3])
        assert_numbers(client, *range(30))


if __name__ == "__main__":
    main()
