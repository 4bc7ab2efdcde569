"""A streaming standby of the test's cluster, for what happens when servers change their roles."""
import os
import signal
import subprocess

from harness import Cluster, clean_environment, eventually, free_port, pg_program, site


class Standby(Cluster):
    """A standby of another cluster, made by pg_basebackup and started. Leaving it as a context ends it."""

    def __init__(self, primary, name="standby"):
        self.name = name
        self.primary = primary
        self.user = primary.user
        self.folder = os.path.join(site.folder, f"{name}-{free_port()}")
        self.data = os.path.join(self.folder, "data")
        self.sockets = os.path.join(self.folder, "s")
        self.log_path = os.path.join(self.folder, "postgresql.log")
        self.port = free_port()
        self.server = None
        for path in (self.folder, self.data, self.sockets):
            os.mkdir(path, 0o755)
            if self.user:
                os.chown(path, self.user.pw_uid, self.user.pw_gid)
        os.chmod(self.data, 0o700)
        source = f"{primary.conninfo(dbname='replication')} application_name={name}"
        self.run(
            pg_program("pg_basebackup"), "--no-sync", "--checkpoint=fast", "--wal-method=stream", "--write-recovery-conf",
            "-d", source, "-D", self.data,
        )
        with open(os.path.join(self.data, "postgresql.conf"), "a") as conf:
            conf.write(f"port = {self.port}\nunix_socket_directories = '{self.sockets}'\n")
        self.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop(signal.SIGQUIT)

    def query(self, text, dbname="relay"):
        """One statement in a session of its own; its first value."""
        done = subprocess.run(
            [pg_program("psql"), "-X", "-A", "-t", "-q", "-d", self.conninfo(dbname=dbname), "-c", text], env=clean_environment(),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=60,
        )
        if done.returncode != 0:
            raise OSError(done.stderr.strip())
        return done.stdout.strip()

    def wait_streaming(self):
        """Until the primary sends to it."""
        text = f"SELECT count(*) FROM pg_stat_replication WHERE application_name = '{self.name}' AND state = 'streaming'"
        eventually(lambda: site.sql(text) == "1", 30, "the standby is streaming")

    def promote(self):
        """Until it takes writes."""
        assert self.query("SELECT pg_promote()") == "t"


def hosts(*clusters, user="node", dbname="relay", tcp=False, **options):
    """A connection string that names several servers."""
    names = ",".join("127.0.0.1" if tcp else c.sockets for c in clusters)
    ports = ",".join(str(c.port) for c in clusters)
    return " ".join([f"host={names} port={ports} dbname={dbname} user={user}", *(f"{k}={v}" for k, v in options.items())])
