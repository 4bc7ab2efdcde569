#!/usr/bin/env python3
"""Several hosts in the connection string: the node finds the one that serves, whatever the others do, and never stands still."""
import signal
import socket
import time

from harness import Node, eventually, free_port, main, seconds, site
from replication import Standby, hosts

FAST = {"connect_timeout": "1s", "backoff_max": "500ms", "probe_interval": "200ms"}
PATIENT = {**FAST, "connect_timeout": "3s"}


class Silent:
    """A host that takes the connection and never says a word."""

    def __init__(self):
        self.socket = socket.socket()
        self.socket.bind(("127.0.0.1", 0))
        self.socket.listen(64)
        self.port = self.socket.getsockname()[1]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()


class BlackHole(Silent):
    """A host that swallows packets: Linux drops what comes when a listener's queue is full."""

    def __init__(self):
        super().__init__()
        self.socket.listen(0)
        self.callers = []
        while len(self.callers) < 64:
            caller = socket.socket()
            caller.settimeout(0.2)
            self.callers.append(caller)
            try:
                caller.connect(("127.0.0.1", self.port))
            except TimeoutError:
                return
        raise AssertionError("the listener's queue does not fill up")

    def __exit__(self, *_):
        for caller in self.callers:
            caller.close()
        super().__exit__()


def closed_port():
    return free_port()


def ports(*numbers, host="127.0.0.1", **options):
    """A connection string of several ports of one host."""
    text = f"host={','.join([host] * len(numbers))} port={','.join(map(str, numbers))} dbname=relay user=node"
    return " ".join([text, *(f"{k}={v}" for k, v in options.items())])


def assert_flows(node):
    client = node.connect(site.all_seeing).join(job_events=[1])
    site.emit("job_events", "x", "1", {"n": 1})
    assert client.json() == {"n": 1}


def healthz_seconds(node):
    start = time.monotonic()
    assert node.get("/healthz").status == 200
    return time.monotonic() - start


def wait_ready_and_never_blocked(node):
    """The loop turns all the time until the node is ready. A loop that waits for a connection to PostgreSQL does so for 3 s."""
    eventually(lambda: node.get("/healthz").status == 200)
    slowest = 0
    deadline = time.monotonic() + seconds(30)
    while node.get("/readyz").status != 200:
        slowest = max(slowest, healthz_seconds(node))
        assert time.monotonic() < deadline, node.log
        time.sleep(0.02)
    assert slowest < seconds(0.5), f"/healthz took {slowest:.2f} s"


def test_a_silent_host_first_and_a_good_one_second():
    with Silent() as silent, Node(database=ports(silent.port, site.pg.port), wait=False, **PATIENT) as node:
        wait_ready_and_never_blocked(node)
        assert_flows(node)


def test_a_host_that_swallows_packets_first_and_a_good_one_second():
    with BlackHole() as hole, Node(database=ports(hole.port, site.pg.port), wait=False, **PATIENT) as node:
        wait_ready_and_never_blocked(node)
        assert_flows(node)


def test_a_closed_port_costs_no_time():
    """connect_timeout is 10 s, and no attempt may use it up."""
    start = time.monotonic()
    with Node(database=ports(closed_port(), closed_port(), site.pg.port)) as node:
        assert_flows(node)
    assert time.monotonic() - start < seconds(5)


def test_a_host_without_our_database_is_passed_over():
    """A refusal by one host, here the database does not exist on the other server, is no refusal by the next."""
    with Standby(site.pg) as other:
        other.promote()
        other.query("DROP DATABASE relay", dbname="postgres")
        with Node(database=hosts(other, site.pg), **FAST) as node:
            assert_flows(node)


def test_a_standby_first_and_the_primary_second():
    with Standby(site.pg) as standby:
        start = time.monotonic()
        with Node(database=hosts(standby, site.pg)) as node:
            assert time.monotonic() - start < seconds(5)
            assert_flows(node)
            assert "read-only" in node.log or "read only" in node.log, node.log


def test_a_lost_session_comes_back_to_where_it_was():
    """Not by way of the silent host, which would cost connect_timeout; nor does a further session go that way."""
    with Silent() as silent, Node(database=ports(silent.port, site.pg.port), **FAST) as node:
        lost = node.metric("pgrelay_listen_lost_total")
        passed_over = node.log.count("connect_timeout passed")
        assert passed_over >= 2, node.log
        site.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'node'")
        eventually(lambda: node.metric("pgrelay_listen_lost_total") > lost, what="the loss is noticed")
        node.wait_ready()
        assert_flows(node)
        assert node.log.count("connect_timeout passed") == passed_over, node.log


def test_the_last_host_goes_and_the_others_are_tried():
    with Standby(site.pg) as second:
        second.promote()
        with Node(database=hosts(second, site.pg), **FAST) as node:
            second.stop(signal.SIGQUIT)
            eventually(lambda: node.metric("pgrelay_listen_lost_total") > 0, what="the loss is noticed")
            node.wait_ready()
            assert_flows(node)


def test_each_reason_is_told_once():
    missing = closed_port()
    with Silent() as silent, Node(database=ports(silent.port, missing), wait=False, **FAST) as node:
        def told():
            body = node.get("/readyz").body
            assert f'"127.0.0.1" port {silent.port}: connect_timeout passed; ' in body, body
            assert f'"127.0.0.1" port {missing}: Connection refused' in body, body
            return True

        eventually(told, what="/readyz tells the reason of each host")
        rounds = node.log.count("no database session: ")
        eventually(lambda: node.log.count("no database session: ") >= rounds + 4, what="two more rounds of each session")
        for name in ("listen", "query"):
            assert node.log.count(f"warning: {name}: could not connect to the database: ") == 1, node.log


def test_one_host_alone_is_told_in_libpqs_words():
    with Node(database=ports(closed_port()), wait=False, **FAST) as node:
        eventually(lambda: "Is the server running on that host" in node.get("/readyz").body, what="libpq's hint")


def test_a_node_waits_for_the_second_host_to_come_up():
    assert site.pg
    missing = closed_port()
    site.drop_sessions()
    site.pg.stop()
    with Node(database=ports(missing, site.pg.port), wait=False, **FAST) as node:
        eventually(lambda: "could not connect" in node.log, what="a round fails")
        site.pg.start()
        node.wait_ready()
        assert_flows(node)


def test_a_host_name():
    database = f"host=localhost port={site.pg.port} dbname=relay user=node"
    with Node(database=database, **FAST) as node:
        assert_flows(node)
        assert '"relay" on localhost port' in node.log, node.log


def test_a_uri_with_several_hosts():
    database = f"postgresql://node@127.0.0.1:{closed_port()},localhost:{site.pg.port}/relay?connect_timeout=2"
    with Node(database=database, **FAST) as node:
        assert_flows(node)


def test_hosts_from_the_environment():
    env = {"PGHOST": "127.0.0.1,localhost", "PGPORT": f"{closed_port()},{site.pg.port}", "PGUSER": "node"}
    with Node(database="dbname=relay", env=env, **FAST) as node:
        assert_flows(node)


def test_a_name_that_nobody_knows_does_not_stop_the_node():
    """Whether the name servers say so at once, late, or never: the next host's turn comes, and the loop turns all the time."""
    database = ports(1, site.pg.port).replace("host=127.0.0.1,", "host=db.pgrelay.invalid,")
    with Node(database=database, wait=False, **PATIENT) as node:
        wait_ready_and_never_blocked(node)
        assert_flows(node)
        assert '"db.pgrelay.invalid" port 1: ' in node.log, node.log


def test_a_node_ends_while_it_looks_up_a_name():
    with Node(database="host=db.pgrelay.invalid dbname=relay user=node", wait=False) as node:
        eventually(lambda: node.get("/readyz").status == 503)


def test_the_users_own_target_session_attrs_count():
    """Whoever asks for any server gets the standby, which says why it is of no use."""
    with Standby(site.pg) as standby:
        database = hosts(standby, site.pg, target_session_attrs="any")
        with Node(database=database, wait=False, **FAST) as node:
            eventually(lambda: "cannot execute LISTEN during recovery" in node.get("/readyz").body, what="the standby's answer")


def test_a_wrong_number_of_ports_is_told():
    with Node(database="host=a,b port=1,2,3 dbname=relay", wait=False, **FAST) as node:
        eventually(lambda: "could not match 3 port numbers to 2 hosts" in node.get("/readyz").body, what="libpq's words")


if __name__ == "__main__":
    main()
