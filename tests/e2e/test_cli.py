#!/usr/bin/env python3
"""The other commands, as a user types them."""
import contextlib
import itertools
import json
import os
import pty
import re
import signal
import subprocess
import termios
import threading
import time

from harness import PGRELAY, Sql, clean_environment, die_with_parent, eventually, main, need, pg_program, quote, site
from faults import with_clock, with_settings
from mesh import SECRET, start
from test_pooler import PgBouncer

COMMANDS = ["serve", "schema", "check", "token", "grant", "emit", "run", "watch", "config", "password", "cert"]
numbers = itertools.count(1)


def database(owner="owner"):
    """A new, empty database; the environment that points to it."""
    name = f"db{next(numbers)}"
    site.sql(f"CREATE DATABASE {name} OWNER {owner}")
    return {"PGRELAY_DATABASE": site.pg.conninfo(owner, name)}


def query(env, text):
    """One value from that database."""
    done = subprocess.run([pg_program("psql"), "-XAtq", "-d", env["PGRELAY_DATABASE"], "-c", text], env=clean_environment(),
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def user_of(token, env=None):
    """Whose token it is, by the database; asked by a role whose statements are not logged."""
    conninfo = env["PGRELAY_DATABASE"].replace("user=owner", "user=postgres") if env else site.pg.conninfo()
    return query({"PGRELAY_DATABASE": conninfo}, f"SELECT user_name FROM pgrelay.authenticate('{token}')")


# ---- help ----


def test_help_lists_the_commands_and_each_has_its_own():
    everything = site.pgrelay("--help").stdout
    for command in COMMANDS:
        assert re.search(rf"^\s+{command}\b", everything, re.M), command
        text = site.pgrelay(command, "--help").stdout
        assert re.match("usage:", text, re.I) and command in text and len(text.splitlines()) > 3, text
    for pair in ("schema install", "token create", "token list", "token revoke", "grant add", "grant list", "grant remove"):
        assert site.pgrelay(*pair.split(), "--help").stdout, pair


def test_version():
    assert re.fullmatch(r"pgrelay \d+\.\d+\.\d+\S*\n", site.pgrelay("--version").stdout)


def test_wrong_usage_is_2_and_leaves_standard_output_alone():
    for argv in ((), ("nonsense",), ("--nonsense",), ("token",), ("token", "nonsense"), ("token", "create"), ("token", "revoke"),
                 ("grant", "add", "someone"), ("schema",), ("schema", "nonsense"), ("emit",), ("emit", "a"), ("config",),
                 ("check", "operand"), ("token", "create", "a", "b"), ("token", "create", "a", "--nonsense")):
        done = site.pgrelay(*argv, status=2)
        assert done.stdout == "" and done.stderr, argv


def test_no_database_is_1_and_says_why():
    for argv in (("schema", "install"), ("token", "create", "x"), ("token", "list"), ("grant", "list"), ("emit", "a", "b", "c", "{}")):
        done = site.pgrelay(*argv, status=1, env={"PGRELAY_DATABASE": "host=127.0.0.1 port=1 connect_timeout=2 password=hush"})
        assert "refused" in done.stderr and "hush" not in done.stderr and done.stdout == "", (argv, done.stderr)


def test_no_schema_is_1_and_says_what_to_do():
    env = database()
    for argv in (("token", "create", "x"), ("grant", "list"), ("emit", "a", "b", "c", "{}")):
        done = site.pgrelay(*argv, status=1, env=env)
        assert "schema install" in done.stderr, (argv, done.stderr)


def test_an_empty_database_setting_means_libpq_s_defaults():
    site.pg
    env = {"PGRELAY_DATABASE": "", "PGHOST": site.pg.sockets, "PGPORT": str(site.pg.port), "PGDATABASE": "relay", "PGUSER": "owner"}
    site.pgrelay("grant", "list", env=env)


# ---- schema ----


def test_schema_install_twice_keeps_the_data():
    env = database()
    assert "installed" in site.pgrelay("schema", "install", env=env).stdout
    token = site.pgrelay("token", "create", "kept", env=env).stdout.strip()
    site.pgrelay("grant", "add", "kept", "a.b.c", env=env)
    query(env, "INSERT INTO pgrelay.job (name) VALUES ('kept')")
    for command in ("install", "upgrade"):
        site.pgrelay("schema", command, env=env)
    assert query(env, "SELECT name FROM pgrelay.job") == "kept"
    site.tokens.append(token)
    assert user_of(token, env) == "kept"
    assert "a.b.c" in site.pgrelay("grant", "list", env=env).stdout


def test_schema_print_is_what_install_does():
    env = database()
    script = site.pgrelay("schema", "print").stdout
    done = subprocess.run([pg_program("psql"), "-X", "-q", "-1", "-v", "ON_ERROR_STOP=1", "-d", env["PGRELAY_DATABASE"]],
                          env=clean_environment(), input=script, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 0, done.stderr
    assert int(query(env, "SELECT pgrelay.emit('a', 'b', 'c', '{}')")) > 0
    site.pgrelay("schema", "install", env=env)
    site.pgrelay("check", env=env, status=None)


def test_schema_print_needs_no_database():
    assert "CREATE SCHEMA" in site.pgrelay("schema", "print", env={"PGRELAY_DATABASE": "host=127.0.0.1 port=1"}).stdout


def test_schema_uninstall_wants_to_be_sure():
    env = database()
    site.pgrelay("schema", "install", env=env)
    done = site.pgrelay("schema", "uninstall", status=None, env=env)
    assert done.returncode in (1, 2) and "--yes" in done.stderr, done.stderr
    assert query(env, "SELECT to_regnamespace('pgrelay') IS NOT NULL") == "t"
    site.pgrelay("schema", "uninstall", "--yes", env=env)
    assert query(env, "SELECT to_regnamespace('pgrelay') IS NULL") == "t"
    site.pgrelay("schema", "install", env=env)


def test_schema_uninstall_takes_the_triggers_off_one_s_own_tables():
    env = database()
    site.pgrelay("schema", "install", env=env)
    query(env, "CREATE TABLE mine (id integer PRIMARY KEY)")
    query(env, "SELECT pgrelay.watch('mine')")
    site.pgrelay("schema", "uninstall", "--yes", env=env)
    query(env, "INSERT INTO mine VALUES (1)")
    assert query(env, "SELECT count(*) FROM mine") == "1"


def test_schema_install_into_a_database_of_another_encoding_is_refused():
    site.sql("CREATE DATABASE latin OWNER owner ENCODING 'LATIN1' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'")
    done = site.pgrelay("schema", "install", status=1, env={"PGRELAY_DATABASE": site.pg.conninfo("owner", "latin")})
    assert "UTF8" in done.stderr, done.stderr


def test_schema_install_that_fails_leaves_nothing():
    env = database()
    query(env, "CREATE SCHEMA pgrelay")
    query(env, "CREATE TABLE pgrelay.job (other text)")
    done = site.pgrelay("schema", "install", status=1, env=env)
    assert done.stderr
    assert query(env, "SELECT count(*) FROM pg_class WHERE relnamespace = 'pgrelay'::regnamespace") == "1"


def test_schema_install_by_a_role_that_may_not_create_roles_says_so():
    site.sql("CREATE ROLE plain LOGIN")
    env = database("plain")
    roles = ("pgrelay_node", "pgrelay_emitter")
    for role in roles:
        site.sql(f"ALTER ROLE {role} RENAME TO {role}_away")
    try:
        done = site.pgrelay("schema", "install", env=env, user="plain")
        assert query(env, "SELECT to_regclass('pgrelay.job') IS NOT NULL") == "t"
        said = done.stdout + done.stderr
        assert all(role in said for role in roles), said
        assert query(env, "SELECT count(*) FROM pg_roles WHERE rolname IN ('pgrelay_node', 'pgrelay_emitter')") == "0"
    finally:
        for role in roles:
            site.sql(f"ALTER ROLE {role}_away RENAME TO {role}")


def test_schema_install_makes_the_roles_once_for_all_databases():
    env = database()
    said = site.pgrelay("schema", "install", env=env).stdout
    query({"PGRELAY_DATABASE": env["PGRELAY_DATABASE"].replace("user=owner", "user=writer")}, "SELECT pgrelay.emit('a', 'b', 'c', '{}')")
    assert "error" not in said.lower(), said


# ---- check ----

CHECKS = ["settings", "TLS", "connection", "server", "primary", "encoding", "schema", "channel", "privileges", "LISTEN", "NOTIFY queue", "log",
          "log rotation", "log persistence", "commit order", "clock", "cluster"]


def check(*failing, user="node", env=None):
    """Runs it: name -> text, with the hint behind. Exactly these fail, each with a hint, and the exit status tells."""
    env = {"PGRELAY_PROBE_INTERVAL": "50ms", **(env or {})}  # it listens to other nodes for two of these
    text = site.pgrelay("check", user=user, env=env, status=1 if failing else 0).stdout
    lines = re.findall(r"^(ok  |FAIL) ([^:\n]+): (.*)\n((?:     hint: .*\n)?)", text, re.M)
    assert "".join(f"{result} {name}: {said}\n{hint}" for result, name, said, hint in lines) == text, text
    assert [name for result, name, _, _ in lines if result == "FAIL"] == list(failing), text
    assert [name for _, name, _, hint in lines if hint] == list(failing), text
    return {name: said + hint for _, name, said, hint in lines}


@contextlib.contextmanager
def changed(statement, back, query=site.sql):
    query(statement)
    try:
        yield
    finally:
        query(back)


def test_check_proves_a_deployment():
    said = check()
    assert list(said) == CHECKS, said
    assert site.sql("SHOW server_version") in said["server"], said


def test_check_of_a_database_that_is_not_there():
    said = check("connection", env={"PGRELAY_DATABASE": "host=127.0.0.1 port=1"})
    assert "refused" in said["connection"] and "--database" in said["connection"] and list(said) == CHECKS[:3], said


def test_check_of_a_database_without_the_schema():
    said = check("schema", env=database())
    assert "schema install" in said["schema"] and list(said)[-1] == "schema", said


def test_check_of_another_encoding():
    said = check("encoding", env={"PGRELAY_DATABASE": site.pg.conninfo("owner", "latin")})
    assert "LATIN1" in said["encoding"] and "UTF8" in said["encoding"], said


def test_check_of_read_only_transactions():
    with changed("ALTER ROLE node SET default_transaction_read_only = on", "ALTER ROLE node RESET default_transaction_read_only"):
        said = check("connection")
        assert "read-only" in said["connection"] and "primary" in said["connection"], said
        said = check("primary", env={"PGRELAY_DATABASE": site.pg.conninfo("node") + " target_session_attrs=any"})
        assert "read-only" in said["primary"] and "default_transaction_read_only" in said["primary"], said


def test_check_of_another_channel():
    said = check("channel", env={"PGRELAY_CHANNEL": "other"})
    assert '"other"' in said["channel"] and '"pgrelay"' in said["channel"], said


def test_check_of_broken_settings():
    said = check("settings", env={"PGRELAY_QUEUE_LIMIT": "x"})
    assert "QUEUE_LIMIT" in said["settings"] and list(said) == ["settings"], said


def test_check_of_privileges():
    site.sql("CREATE ROLE poor LOGIN")
    assert "pgrelay_node" in site.pgrelay("check", user="poor", status=1).stdout
    read = "log_read(pg_snapshot, pg_snapshot, pg_snapshot, pg_snapshot, text[], text[], text[])"
    for right, name, failing in (
        (f"EXECUTE ON FUNCTION pgrelay.{read}", "pgrelay.log_read", ()),
        ("EXECUTE ON FUNCTION pgrelay.log_covers(pg_snapshot, pg_snapshot, bigint, bigint)", "pgrelay.log_covers", ()),
        ("EXECUTE ON FUNCTION pgrelay.epoch()", "pgrelay.epoch", ()),
        ("EXECUTE ON FUNCTION pgrelay.announce(pg_snapshot, boolean)", "pgrelay.announce(", ()),
        ("EXECUTE ON FUNCTION pgrelay.announce_wanted()", "pgrelay.announce_wanted", ()),
        ("EXECUTE ON FUNCTION pgrelay.event_payload(bigint, text)", "pgrelay.event_payload", ()),
        ("EXECUTE ON FUNCTION pgrelay.authenticate(text)", "pgrelay.authenticate(text)", ()),
        ("EXECUTE ON FUNCTION pgrelay.authenticate_password(text, text)", "pgrelay.authenticate_password(text, text)", ()),
        ("EXECUTE ON FUNCTION pgrelay.authenticate_name(text)", "pgrelay.authenticate_name(text)", ()),
        ("EXECUTE ON FUNCTION pgrelay.authorize(bigint, text[])", "pgrelay.authorize(bigint, text[])", ()),
        ("EXECUTE ON FUNCTION pgrelay.authorize_publish(bigint, text[])", "pgrelay.authorize_publish", ()),
        ("EXECUTE ON FUNCTION pgrelay.token_issue(bigint, interval, bigint)", "pgrelay.token_issue", ()),
        ("EXECUTE ON FUNCTION pgrelay.connections_changed(text, jsonb)", "pgrelay.connections_changed", ()),
        ("EXECUTE ON FUNCTION pgrelay.health()", "pgrelay.health", ("log", "log rotation")),
        ("SELECT ON pgrelay.event", "pgrelay.event", ()),
        ("SELECT ON pgrelay.event_type", "pgrelay.event_type", ()),
    ):
        with changed(f"REVOKE {right} FROM pgrelay_node", f"GRANT {right} TO pgrelay_node"):
            said = check("privileges", *failing)
        assert f"may not use {name}" in said["privileges"] and "GRANT pgrelay_node" in said["privileges"], said


def test_check_of_functions_of_one_s_own():
    for setting, arguments in (("AUTHENTICATE", "text"), ("AUTHENTICATE_PASSWORD", "text, text"), ("AUTHENTICATE_NAME", "text"),
                               ("AUTHORIZE", "bigint, text[]")):
        env = {f"PGRELAY_{setting}_FUNCTION": "public.mine"}
        assert f"may not use public.mine({arguments})" in check("privileges", env=env)["privileges"]
        site.sql(f"CREATE FUNCTION public.mine({arguments}) RETURNS void LANGUAGE sql AS ''")
        with changed(f"REVOKE EXECUTE ON FUNCTION public.mine({arguments}) FROM PUBLIC", f"DROP FUNCTION public.mine({arguments})"):
            assert "public.mine" in check("privileges", env=env)["privileges"]
            site.sql(f"GRANT EXECUTE ON FUNCTION public.mine({arguments}) TO node")
            check(env=env)


def test_check_through_a_pooler_in_transaction_mode():
    with PgBouncer("transaction") as pooler:
        said = check("LISTEN", env={"PGRELAY_DATABASE": pooler.conninfo(), "PGRELAY_PROBE_TIMEOUT": "1s"})
        assert "pooler" in said["LISTEN"], said


def ask_now(node, condition, timeout, what):
    """The database's figures, asked for at once rather than every ten seconds."""
    def is_so():
        node.process.signal(signal.SIGHUP)
        return condition()

    eventually(is_so, timeout, what, pause=0.3)


def test_check_and_metrics_of_the_notification_queue():
    """Half of the queue's 8 GB cannot be filled in a test; from PostgreSQL 17 on it can be made smaller."""
    small = int(site.sql("SHOW server_version_num")) >= 170000
    if small:
        with_settings(max_notify_queue_pages="64")
    node = site.node
    node.wait_ready()
    holder = site.session()
    pid = holder("SELECT pg_backend_pid()")
    holder("LISTEN held")
    holder("BEGIN; SELECT 1")
    megabytes = 0.4 if small else 80
    site.sql(f"SELECT count(pg_notify('held', n || repeat('x', 7900))) FROM generate_series(1, {megabytes} * 128) n")
    usage = float(site.sql("SELECT pg_notification_queue_usage()"))
    assert usage > (0.5 if small else 0.005), usage
    if small:
        assert "xact_start" in check("NOTIFY queue")["NOTIFY queue"]
        ask_now(node, lambda: "% of the NOTIFY queue is in use" in node.log, 30, "the node's log warns")
    else:
        assert check()["NOTIFY queue"].startswith(f"{usage * 100:.1f} %")
    ask_now(node, lambda: abs(node.metric("pgrelay_notify_queue_usage") - usage) < usage / 10, 30, "the node's metric")
    site.sql(f"SELECT pg_terminate_backend({pid})")
    ask_now(node, lambda: node.metric("pgrelay_notify_queue_usage") < usage / 10, 30, "the queue is free again")


def test_check_and_metrics_of_clocks_that_differ():
    node = site.node
    with with_clock() as clock:
        node.wait_ready()
        clock.set(3)
        said = check("clock")
        assert re.match(r"the server's is [23]\.\d+ s ahead", said["clock"]) and "NTP" in said["clock"], said
        ask_now(node, lambda: 2.5 < node.metric("pgrelay_clock_skew_seconds") < 3.5, 30, "the node's metric")
        clock.set(-2)
        assert re.match(r"the server's is [12]\.\d+ s behind", check("clock")["clock"])
        clock.set(0.5)
        assert "ahead" in check()["clock"]
    ask_now(node, lambda: abs(node.metric("pgrelay_clock_skew_seconds")) < 0.2, 30, "the node's metric")


def test_check_and_metrics_of_a_log_that_is_not_rotated():
    """A reader's open transaction, as of pg_dump, keeps all parts of the log in use."""
    node = site.node
    retention = "SELECT pgrelay.setting_set('retention', '{}')".format
    with changed(retention("1 min"), retention("10 min")), with_clock() as clock:
        node.wait_ready()
        site.emit("demo", "x", "1", {"n": 1})
        holder = site.session("owner")
        holder("SET application_name = 'sleeper'")
        pid = holder("SELECT pg_backend_pid()")
        holder("BEGIN; SELECT count(*) FROM pgrelay.event")
        clock.forward(1800)
        said = check("log rotation", "clock")
        assert "overdue" in said["log rotation"], said
        assert f"pid {pid} " in said["log rotation"] and '(user "owner", application "sleeper")' in said["log rotation"], said
        assert "open that uses the log;" in said["log rotation"], said  # since when is not for another role to see
        assert "for 30 min;" in check("log rotation", "clock", user="owner")["log rotation"]

        clock.forward(7200)
        assert "stale" in check("log rotation", "clock")["log rotation"]
        ask_now(node, lambda: node.metric("pgrelay_log_stale") == 1, 30, "the node's metric")
        assert node.metric("pgrelay_log_rotation_age_seconds") > 8900 and node.metric("pgrelay_log_age_seconds") > 8900
        assert node.metric("pgrelay_log_bytes") == int(site.sql("SELECT log_bytes FROM pgrelay.health()"))

        holder("COMMIT")
        ask_now(node, lambda: node.metric("pgrelay_log_stale") == 0, 60, "the node has rotated the log")
        assert re.search(r"last \d+ s ago", check("clock")["log rotation"])


def test_check_of_a_log_that_no_node_rotates():
    env = {"PGRELAY_DATABASE": database()["PGRELAY_DATABASE"]}
    site.pgrelay("schema", "install", env=env)
    with with_clock() as clock:
        clock.set(0)
        query(env, "SELECT pgrelay.emit('demo', 'x', '1', '{}')")
        clock.set(7200)
        said = check("log rotation", "clock", env=env)
        assert "see that one runs" in said["log rotation"], said
        assert "the oldest event is 2 h old" in said["log"], said


def test_check_of_a_log_that_becomes_unlogged():
    env = {"PGRELAY_DATABASE": database()["PGRELAY_DATABASE"]}
    site.pgrelay("schema", "install", env=env)
    assert check(env=env)["log persistence"] == "logged"
    query(env, "SELECT pgrelay.setting_set('log', 'unlogged')")
    said = []
    with with_clock() as clock:
        for _ in range(8):
            query(env, "SELECT pgrelay.emit('demo', 'x', '1', '{}')")
            clock.forward(700)
            query(env, "SELECT pgrelay.log_rotate()")
            said.append(check("clock", env=env)["log persistence"].split(":")[0])
    assert list(dict.fromkeys(said)) == ["partly unlogged", "unlogged"], said


def test_check_of_the_commit_order():
    assert "last events (track_commit_timestamp is off)" in check()["commit order"]
    with_settings(track_commit_timestamp="on")
    assert "commits (track_commit_timestamp is on)" in check()["commit order"]


# ---- check of the cluster ----


def cluster(*failing, secret=None, **settings):
    """What is said of it after a second of listening."""
    env = {f"PGRELAY_{name.upper()}": value for name, value in settings.items()}
    return check(*failing, env={"PGRELAY_PROBE_INTERVAL": "500ms", **({"PGRELAY_SECRET": secret} if secret else {}), **env})["cluster"]


def beat(node, boot="0123456789abcdef", **more):
    """A heartbeat as another node's would be."""
    return json.dumps({"hostname": "elsewhere", "ip": "192.0.2.7", "action": "online", "node": node, "boot": boot, "cluster": "check", "scheme": "ws",
                       "port": 8052, "version": "0", "time": time.time_ns() // 1000, "counter": 1, **more}, separators=(",", ":"))


@contextlib.contextmanager
def beating(make):
    """Somebody who sends what make() makes, again and again."""
    over, session = threading.Event(), Sql(site.pg.conninfo())

    def send():
        while not over.wait(0.05):
            session("; ".join(f"SELECT pg_notify('web_ws_heartbeat', {quote(text)})" for text in make()))

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        session.close()


def test_check_of_a_cluster_without_other_nodes():
    said = cluster(node="lonely", advertise="relay1.example.org:8052")
    assert re.fullmatch('"default" without a secret; this node, "lonely", does not run, and is known by the address relay1.example.org; '
                        'others heard: .*', said), said
    assert "by its host's name (advertise is empty)" in cluster(listen="*:8052")
    assert f'"{os.uname().nodename}:8052"' in cluster() and "(advertise is empty)" in cluster()
    assert cluster(secret=SECRET, cluster="another").startswith('"another" with a secret;')


def test_check_of_the_nodes_that_are_heard():
    with start("a", wait=True, probe_interval="100ms", cluster="check") as a, start("b", wait=True, probe_interval="100ms", cluster="check"):
        said = cluster(secret=SECRET, node="c", cluster="check")
        assert '"c", does not run' in said and 'others heard: 2: "a", "b"' in said, said
        said = cluster(secret=SECRET, node="a", cluster="check")
        assert '"a", runs' in said and 'others heard: 1: "b"' in said, said
        assert 'has another secret' in cluster("cluster", secret="another secret than theirs", node="c", cluster="check")
        said = cluster("cluster", node="c", cluster="check")
        assert "has a secret, and this one has none" in said and "same secret" in said, said
        assert "so are nodes of another cluster" in cluster(secret=SECRET, node="c", cluster="elsewhere")
        assert a.metric("pgrelay_links") == 1  # they have not been disturbed


def test_check_of_nodes_that_are_not_right():
    with beating(lambda: [beat("x")]):
        assert 'node "x" has no secret, and this one has one' in cluster("cluster", secret=SECRET, cluster="check")
        assert 'others heard: 1: "x"' in cluster(cluster="check", node="y")
    with beating(lambda: [beat("x", "00000000000000aa"), beat("x", "00000000000000bb", hostname="web2")]):
        said = cluster("cluster", cluster="check")
        assert 'two nodes claim the id "x"; one is on host "' in said and '"node"' in said, said
    with beating(lambda: [beat("x", time=(time.time_ns() + 400 * 10**9) // 1000)]):
        said = cluster("cluster", cluster="check")
        assert re.search(r'the clock of node "x" is (399|400) s ahead', said) and "NTP" in said, said
    with beating(lambda: [json.dumps({"hostname": "awx1", "ip": "192.0.2.1", "action": "online"}), "nonsense", "{}"]):
        assert "AWX's are heard, too" in cluster(cluster="check")
    with beating(lambda: [beat(f"n{i:02}") for i in range(12)]):
        assert re.search(r'others heard: 12: "n00", .*"n09", \.\.\.', cluster(cluster="check")), cluster(cluster="check")


def test_check_of_a_node_that_is_started_anew_is_no_double():
    boots = itertools.chain(["00000000000000aa"] * 8, itertools.repeat("00000000000000bb"))
    with beating(lambda: [beat("x", next(boots))]):
        assert 'others heard: 1: "x"' in cluster(cluster="check")


# ---- config ----


def test_config_print_shows_where_each_setting_comes_from():
    path = os.path.join(site.folder, "print.conf")
    with open(path, "w") as f:
        f.write("ping_interval = 11s # a comment\nnode = 'it''s'\n\n  # another\nmax_groups=7\n")
    done = site.pgrelay("config", "--print", "--config", path, "--queue-limit", "1MB",
                        env={"PGRELAY_MAX_GROUPS": "8", "PGRELAY_DATABASE": "postgresql://me:hush@h/db"})
    values = dict(re.findall(r"^(\w+) = (.*)$", done.stdout, re.M))
    assert values["ping_interval"] == "11s  # file" and values["max_groups"] == "8  # environment", values
    assert values["queue_limit"] == "1MB  # flag" and values["listen"].endswith("# default"), values
    assert values["node"] == "'it''s'  # file", values["node"]
    assert "hush" not in done.stdout


def test_config_print_can_be_read_again():
    path = os.path.join(site.folder, "again.conf")
    first = site.pgrelay("config", "--print", "--node", "a'b # c", "--max-groups", "9").stdout
    with open(path, "w") as f:
        f.write(first)
    second = site.pgrelay("config", "--print", "--config", path, env={"PGRELAY_DATABASE": site.pg.conninfo("owner")}).stdout

    def without_source(text):
        return [line.rsplit("  # ", 1)[0] for line in text.splitlines()]

    assert without_source(first) == without_source(second)


def test_config_check():
    path = os.path.join(site.folder, "check.conf")
    for text, status in (("ping_interval = 11s\n", 0), ("ping_interval = 11\n", 1), ("nonsense = 1\n", 1), ("# nothing\n", 0), ("queue_limit = 1TB", 1)):
        with open(path, "w") as f:
            f.write(text)
        done = site.pgrelay("config", "--check", "--config", path, status=status)
        assert status == 0 or (path in done.stderr and "line 1" in done.stderr), done.stderr


def test_config_list_is_a_file_that_checks():
    path = os.path.join(site.folder, "list.conf")
    text = site.pgrelay("config", "--list").stdout
    with open(path, "w") as f:
        f.write(re.sub(r"^#(\w+ = )", r"\1", text, flags=re.M))
    site.pgrelay("config", "--check", "--config", path)
    described = set(re.findall(r"^#(\w+) = ", text, re.M))
    printed = set(re.findall(r"^(\w+) = ", site.pgrelay("config", "--print").stdout, re.M))
    assert described == printed and len(described) > 20


# ---- token ----


def test_token_create_prints_the_token_alone():
    done = site.pgrelay("token", "create", "carol", "--description", "for ci")
    token = done.stdout
    assert re.fullmatch(r"[!-~]{20,}\n", token), token
    site.tokens.append(token.strip())
    assert token.strip() not in done.stderr
    assert user_of(token.strip()) == "carol"


def test_tokens_are_url_and_cookie_safe_and_never_the_same():
    tokens = {site.token("many") for _ in range(5)}
    assert len(tokens) == 5 and all(re.fullmatch("[A-Za-z0-9_.~-]+", t) for t in tokens), tokens


def test_token_list():
    site.token("dave", "--ttl", "30d", "--description", "laptop")
    site.token("dave")
    text = site.pgrelay("token", "list", "dave").stdout
    assert "laptop" in text and len(text.splitlines()) >= 3, text
    rows = json.loads(site.pgrelay("token", "list", "dave", "--json").stdout)
    assert [r["user"] for r in rows] == ["dave", "dave"] and rows[0]["description"] == "laptop", rows
    assert rows[0]["expires"] and rows[1]["expires"] is None
    everything = json.loads(site.pgrelay("token", "list", "--json").stdout)
    assert {"carol", "dave"} <= {r["user"] for r in everything}
    for token in site.tokens:
        assert token not in text + json.dumps(everything)
    assert json.loads(site.pgrelay("token", "list", "nobody-of-that-name", "--json", status=None).stdout or "[]") == []


def test_token_ttl():
    for ttl, ok in (("30d", True), ("12h", True), ("90 minutes", True), ("nonsense", False), ("-1h", False), ("0s", False)):
        done = site.pgrelay("token", "create", "erin", "--ttl", ttl, status=None)
        assert (done.returncode == 0) == ok, (ttl, done.returncode, done.stderr)
        if done.stdout.strip():
            site.tokens.append(done.stdout.strip())


def test_token_revoke():
    token = site.token("frank")
    number = json.loads(site.pgrelay("token", "list", "frank", "--json").stdout)[0]["id"]
    site.pgrelay("token", "revoke", number)
    assert user_of(token) == ""
    done = site.pgrelay("token", "revoke", number, status=1)
    assert str(number) in done.stderr
    for wrong in ("x", "99999999999999999999", ""):
        assert site.pgrelay("token", "revoke", wrong, status=None).returncode in (1, 2), wrong


def test_issued_tokens_are_listed_as_such_and_go_with_the_one_they_came_from():
    token = site.token("issa")
    first = json.loads(site.pgrelay("token", "list", "issa", "--json").stdout)[0]
    issued = site.sql(f"SELECT token FROM pgrelay.token_issue((SELECT user_id FROM pgrelay.authenticate({quote(token)})), '1 h', {first['id']})")
    site.tokens.append(issued)
    rows = json.loads(site.pgrelay("token", "list", "issa", "--json").stdout)
    assert [row["origin"] for row in rows] == [None, first["id"]], rows
    assert f"issued with token {first['id']}" in site.pgrelay("token", "list", "issa").stdout
    site.pgrelay("token", "revoke", first["id"])
    assert user_of(issued) == "" and json.loads(site.pgrelay("token", "list", "issa", "--json").stdout) == []


# ---- password ----


def lets_in(name, password):
    asked = f"SELECT user_name FROM pgrelay.authenticate_password({quote(name)}, {quote(password)})"
    return site.sql(asked) == name


def set_password(name, password, **options):
    return site.pgrelay("password", "set", name, input=password, **options)


def test_a_password_from_standard_input_or_a_file():
    site.tokens += ["correct horse", "r\u00f6hre\u00a0\u2168", "of a file"]
    assert set_password("pia", b"correct horse\n").stdout == 'set the password of "pia"\n'
    assert lets_in("pia", "correct horse") and not lets_in("pia", "correct horse ") and not lets_in("pia", "")
    set_password("pia", "r\u00f6hre\u00a0\u2168\r\nsecond line\n".encode())
    assert lets_in("pia", "r\u00f6hre\u00a0\u2168") and not lets_in("pia", "correct horse")
    path = os.path.join(site.folder, "password")
    with open(path, "w") as f:
        f.write("of a file")
    site.pgrelay("password", "set", "pia", "--password-file", path)
    assert lets_in("pia", "of a file")


def test_the_password_does_not_reach_the_server():
    """Whatever it logs, and whoever reads its memory."""
    secret = "stays-at-home-4711"
    with_parameters = site.pg.conninfo("owner") + " options='-c log_parameter_max_length_on_error=-1'"
    site.sql("ALTER ROLE owner SET log_parameter_max_length = -1")
    try:
        set_password("paul", secret.encode(), env={"PGRELAY_DATABASE": with_parameters})
        set_password("p\x01", secret.encode(), env={"PGRELAY_DATABASE": with_parameters}, status=1)
    finally:
        site.sql("ALTER ROLE owner RESET log_parameter_max_length")
    log = site.pg.log()
    assert "password_set" in log and "SCRAM-SHA-256$4096:" in log and secret not in log
    assert lets_in("paul", secret)


def test_a_verifier_is_taken_as_it_is():
    site.sql("CREATE ROLE moved PASSWORD 'from elsewhere'")
    set_password("mona", site.sql("SELECT rolpassword FROM pg_authid WHERE rolname = 'moved'").encode())
    assert lets_in("mona", "from elsewhere")
    for wrong in ("SCRAM-SHA-256$x", "md5" + "0" * 32):
        assert "verifier" in set_password("mona", wrong.encode(), status=1).stderr
    assert lets_in("mona", "from elsewhere")


def test_passwords_that_are_none():
    site.token("nora")
    for password, said in ((b"", "it is empty"), (b"\n", "is empty"), (b"x" * 1001, "longer than 1000"), (b"\n\nsecond", "is empty")):
        assert said in set_password("nora", password, status=1).stderr, password
    assert "No such file" in site.pgrelay("password", "set", "nora", "--password-file", "/nonexistent", status=1).stderr
    assert "Is a directory" in site.pgrelay("password", "set", "nora", "--password-file", "/", status=1).stderr
    for argv in (("password",), ("password", "set"), ("password", "set", "nora", "hush"), ("password", "remove"), ("password", "set", "nora", "--password", "x")):
        done = site.pgrelay(*argv, status=2)
        assert done.stdout == "" and done.stderr, argv
    assert site.sql("SELECT count(*) FROM pgrelay.password JOIN pgrelay.users ON id = user_id WHERE name = 'nora'") == "0"


def test_password_remove():
    set_password("remo", b"once")
    assert lets_in("remo", "once")
    assert site.pgrelay("password", "remove", "remo").stdout == 'removed the password of "remo"\n'
    assert not lets_in("remo", "once")
    assert '"remo" has no password' in site.pgrelay("password", "remove", "remo", status=1).stderr
    assert "nobody-of-that-name" in site.pgrelay("password", "remove", "nobody-of-that-name", status=1).stderr


class Terminal:
    """A command whose standard input and output are a terminal."""

    def __init__(self, *argv):
        self.master, slave = pty.openpty()
        argv, env = site.command(*argv)
        self.process = subprocess.Popen(["setsid", "--ctty", "--wait", *argv], env=env, stdin=slave, stdout=slave, stderr=slave,
                                        preexec_fn=as_from_a_terminal)
        self.slave, self.text = slave, ""
        os.set_blocking(self.master, False)
        site.clients.append(self)

    def has_said(self, text):
        with contextlib.suppress(BlockingIOError):
            self.text += os.read(self.master, 65536).decode()
        return text in self.text

    def answer(self, question, text):
        eventually(lambda: self.has_said(question) and not self.has_echo(), what=f"{question!r} without echo: {self.text!r}")
        self.text = ""
        os.write(self.master, text.encode())

    def has_echo(self):
        return bool(termios.tcgetattr(self.slave)[3] & termios.ECHO)

    def end(self, said):
        eventually(lambda: self.has_said(said), what=f"{said!r}: {self.text!r}")
        return self.process.wait(20)

    def close(self):
        self.process.kill()
        self.process.wait()
        os.close(self.master)
        os.close(self.slave)


def as_from_a_terminal():
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    die_with_parent()


def test_on_a_terminal_it_is_asked_for_twice_and_not_shown():
    terminal = Terminal("password", "set", "tina")
    terminal.answer('Password for "tina": ', "typed blindly\n")
    terminal.answer("Once more: ", "typed blindly\n")
    assert terminal.end('set the password of "tina"') == 0
    assert "blindly" not in terminal.text and terminal.has_echo() and lets_in("tina", "typed blindly")

    terminal = Terminal("password", "set", "tina")
    terminal.answer('Password for "tina": ', "one\n")
    terminal.answer("Once more: ", "another\n")
    assert terminal.end("not the same; nothing has changed") == 1 and lets_in("tina", "typed blindly") and terminal.has_echo()


def test_ctrl_c_at_the_question_leaves_the_terminal_with_its_echo():
    terminal = Terminal("password", "set", "tina")
    terminal.answer('Password for "tina": ', "ha\x03")
    eventually(lambda: terminal.process.poll() is not None, what="it ends")
    assert terminal.has_echo() and terminal.process.returncode in (-signal.SIGINT, 128 + signal.SIGINT), terminal.process.returncode


# ---- grant ----


def test_grants_are_added_listed_and_removed():
    site.token("grace")
    site.pgrelay("grant", "add", "grace", "job_events.*.42", "jobs.status_changed.*")
    rows = json.loads(site.pgrelay("grant", "list", "grace", "--json").stdout)
    assert sorted(r["pattern"] for r in rows) == ["job_events.*.42", "jobs.status_changed.*"], rows
    assert "job_events.*.42" in site.pgrelay("grant", "list").stdout
    site.pgrelay("grant", "add", "grace", "job_events.*.42")
    site.pgrelay("grant", "remove", "grace", "job_events.*.42")
    rows = json.loads(site.pgrelay("grant", "list", "grace", "--json").stdout)
    assert [r["pattern"] for r in rows] == ["jobs.status_changed.*"], rows


def test_grants_to_publish_are_others_than_those_to_see():
    site.token("gunnar")
    rights = lambda: sorted((r["pattern"], r["right"]) for r in json.loads(site.pgrelay("grant", "list", "gunnar", "--json").stdout))
    assert "publishing" not in site.pgrelay("grant", "add", "gunnar", "deploy.*.*").stdout
    assert rights() == [("deploy.*.*", "see")]
    assert "granted publishing" in site.pgrelay("grant", "add", "--publish", "gunnar", "deploy.*.*", "test.*.*").stdout
    assert "before" in site.pgrelay("grant", "add", "gunnar", "deploy.*.*", "--publish").stdout
    assert rights() == [("deploy.*.*", "publish"), ("deploy.*.*", "see"), ("test.*.*", "publish")]
    table = [line.split() for line in site.pgrelay("grant", "list", "gunnar").stdout.splitlines()]
    assert table[0] == ["USER", "PATTERN", "RIGHT", "SINCE"] and [row[1:3] for row in table[1:]] == [
        ["deploy.*.*", "see"], ["deploy.*.*", "publish"], ["test.*.*", "publish"]], table
    site.pgrelay("grant", "remove", "gunnar", "deploy.*.*")
    assert rights() == [("deploy.*.*", "publish"), ("test.*.*", "publish")]
    assert "was not granted" in site.pgrelay("grant", "remove", "gunnar", "test.*.*").stdout
    site.pgrelay("grant", "remove", "--publish", "gunnar", "test.*.*", "deploy.*.*")
    assert rights() == []


def test_a_pattern_that_is_none_is_refused():
    site.token("heidi")
    for pattern in ("job_events", "a.b", "", "a b.c.d", "a..b", ".b.c", "*.*", "a.b\n.c"):
        done = site.pgrelay("grant", "add", "heidi", pattern, status=None)
        assert done.returncode in (1, 2) and done.stderr, pattern
    done = site.pgrelay("grant", "add", "heidi", "a.b.c", "broken", status=None)
    assert done.returncode != 0
    site.pgrelay("grant", "add", "heidi", "a.b.", "a.b.c.d.e", "a.b.%2A", "a.b.%20x")


def test_a_user_that_is_not_there():
    done = site.pgrelay("grant", "add", "nobody-here", "a.b.c", status=None)
    assert done.returncode == 0 or "nobody-here" in done.stderr, done.stderr
    done = site.pgrelay("grant", "remove", "nobody-there", "a.b.c", status=None)
    assert done.returncode == 1 and done.stderr


# ---- emit ----


def test_emit_prints_the_id_and_reaches_clients():
    client = site.node.connect(site.all_seeing).join(demo=[1], jobs=["status_changed"])
    done = site.pgrelay("emit", "demo", "x", "1", '{"n": 1}', user="writer")
    assert re.fullmatch(r"\d+\n", done.stdout), done.stdout
    assert client.json() == {"n": 1}
    for argv in (("emit", "demo", "x", "1"), ("emit", "demo", "x", "1", "-")):
        site.pgrelay(*argv, user="writer", input=b'{"text":\n "aus der R\xc3\xb6hre"}\n')
        assert client.json() == {"text": "aus der Röhre"}
    site.pgrelay("emit", "--group", "demo-1", '{"n": 2}', user="writer")
    assert client.json() == {"n": 2}
    site.pgrelay("emit", "--group", "jobs-status_changed", user="writer", input=b'{"id": 7}')
    assert client.json() == {"id": 7}


def test_emit_refuses_what_is_no_event():
    for argv in (("a b", "x", "1", "{}"), ("a", "x.y", "1", "{}"), ("a", "x", "1", "[]"), ("a", "x", "1", "not json"), ("a", "x", "1", ""),
                 ("a", "x", "k" * 256, "{}"), ("--group", "nogroup", "{}")):
        done = site.pgrelay("emit", *argv, user="writer", status=1)
        assert done.stderr and done.stdout == "", argv
    assert site.pgrelay("emit", "a", "x", "1", user="writer", input=b"", status=1).stderr


def test_emit_takes_a_payload_of_several_megabytes():
    client = site.node.connect(site.all_seeing).join(demo=[2])
    payload = json.dumps({"pad": "ä" * 2_000_000}, ensure_ascii=False)
    site.pgrelay("emit", "demo", "x", "2", user="writer", input=payload.encode())
    assert client.json() == json.loads(payload)


# ---- somebody else's schema ----


def test_a_schema_of_somebody_else_is_not_installed_over():
    site.sql("CREATE DATABASE squatted")
    site.sql("CREATE ROLE mallory LOGIN")
    site.sql("GRANT CREATE ON DATABASE squatted TO mallory, owner")
    Sql(site.pg.conninfo("mallory", "squatted"))("CREATE SCHEMA pgrelay; GRANT ALL ON SCHEMA pgrelay TO owner")
    done = site.pgrelay("schema", "install", "--database", site.pg.conninfo("owner", "squatted"), status=1)
    assert "mallory" in done.stderr and "hint" in done.stderr.lower(), done.stderr


# ---- what a user pipes together ----


def test_commands_in_a_shell():
    """token=$(pgrelay token create ...); pgrelay watch ... | head"""
    need("sh", "dash")
    script = """
        set -e
        mkfifo "$GONE"
        token=$(pgrelay token create ivan 2>/dev/null)
        pgrelay grant add ivan 'demo.*.*' >/dev/null
        pgrelay watch demo-77 --json --token "$token" | { grep -m1 hello; exec <&-; : >"$GONE"; } &
        until curl -sf "$NODE/metrics" | grep -q '^pgrelay_subscriptions 1'; do :; done
        pgrelay emit demo x 77 '{"hello": 1}' >/dev/null
        cat "$GONE"
        pgrelay emit demo x 77 '{"bye": 1}' >/dev/null
        wait
    """
    need("curl", "curl")
    eventually(lambda: site.node.metric("pgrelay_sessions") == 0)
    _, env = site.command("x")
    env.update({"PATH": os.path.dirname(PGRELAY) + ":" + env["PATH"], "NODE": site.node.url("", "http"), "PGRELAY_URL": site.node.url(),
                "GONE": os.path.join(site.folder, "gone")})
    done = subprocess.run(["timeout", "120", "sh", "-c", script], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert '{"hello": 1}' in done.stdout, (done.stdout, done.stderr)


if __name__ == "__main__":
    main()
