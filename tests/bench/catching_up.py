"""Scenarios of make bench: what was missed, and what is too big for a NOTIFY."""
import json
import re
import time

from harness import eventually, site
from faults import kept_out
from measure import EVENT_OCTETS, cpu_seconds, event_sql, program, relay, sized, wait_until_idle, write
from table import Failure

MISSED_EVENTS, MISSED_BATCH, MISSED_SECONDS = 100_000, 100, 3
RETURNING, AWAY_EVENTS = 1000, 1000
TICKET_SESSIONS, TICKET_OCTETS = 100, 1_000_000


def catchup(table, args):
    """100,000 events are committed while nobody listens; until a client has the last one."""
    missed = sized(args, MISSED_EVENTS, 1_000)
    samples = {"lost": [], "restarted": []}
    for _ in range(args.repeats):
        samples["lost"].append(catch_up_lost(table, args, missed))
        samples["restarted"].append(catch_up_restarted(table, args, missed))
    catchup_rows(table, missed, samples)


def catch_up_lost(table, args, missed):
    """The node loses its sessions with the database, and gets new ones."""
    with relay(log_level="info") as it, missing_client(it, missed) as client:
        client.line()
        with kept_out():
            range_of_log = miss_events(missed)
            wait_until_idle(args.wait)
        result = table.check(client.json(), "catchup", "relay", 1)
        result["seconds"] = result["last_us"] / 1e6 - listening_since()
        result["log_ms"] = caught_up_ms(it.node, missed)
    return {**result, "bare": read_log(missed, *range_of_log)}


def catch_up_restarted(table, args, missed):
    """A client comes back to a node that was killed, and knows nothing."""
    with relay() as it, missing_client(it, missed, "--return") as client:
        client.line()
        it.kill()
        range_of_log = miss_events(missed)
        with relay(port=it.port) as again:
            wait_until_idle(args.wait)
            client.tell()
            client.line()
            result = table.check(client.json(), "catchup", "relay", 1)
            result["seconds"] = (result["last_us"] - result["asked_us"]) / 1e6
            expect(again.node, pgrelay_resumes_log_total=1)
    return {**result, "bare": read_log(missed, *range_of_log)}


def missing_client(server, missed, *options):
    groups = {f"bench_{t}": list(range(25)) for t in range(4)}
    return server.client(1, "--events", missed, "--message", json.dumps({"groups": groups}), "--patience", 300, *options)


def miss_events(missed):
    """Commits the events, a hundred a transaction, of four types and a hundred topics. Returns the snapshots before and after."""
    before = site.sql("SELECT pg_current_snapshot()")
    site.sql(f"""DO $$ BEGIN
        FOR batch IN 0..{missed // MISSED_BATCH - 1} LOOP
            PERFORM pgrelay.emit_many(array_agg(('bench_' || n % 4, 'tick', (n / 4 % 25)::text,
                    {event_sql('n', EVENT_OCTETS)})::pgrelay.new_event ORDER BY n))
                FROM generate_series(batch * {MISSED_BATCH} + 1, (batch + 1) * {MISSED_BATCH}) n;
            COMMIT;
        END LOOP;
    END $$""", "writer", 300)
    return before, site.sql("SELECT pg_current_snapshot()")


def listening_since():
    """When the LISTEN session's connection was made, by the clock of this host."""
    return float(site.sql("SELECT extract(epoch FROM backend_start) FROM pg_stat_activity WHERE usename = 'node' "
                          "AND application_name LIKE 'pgrelay listen%'"))


def caught_up_ms(node, missed):
    told = eventually(lambda: re.search(r"stream: caught up: (\d+) events, (\d+) ms", node.log), what="the node says so")
    if int(told.group(1)) != missed:
        raise Failure(f"the node has caught up on {told.group(1)} events")
    return int(told.group(2))


def read_log(missed, since, until):
    """The seconds that a program needs which only reads the log."""
    with program("bench_read", "--database", site.pg.conninfo("node"), "--since", since, "--until", until) as it:
        result = it.json()
    if result["rows"] != missed:
        raise Failure(f"bench_read has read {result['rows']} rows")
    return result["seconds"]


def catchup_rows(table, missed, samples):
    def column(name, key):
        return [s[key] for s in samples[name]]

    for name, what in (("lost", "the node, bare: log_read alone"), ("restarted", "a client, node restarted")):
        table.add(
            "catchup", f"{missed:,} missed by {what}", "s", column(name, "seconds"), column(name, "bare"),
            "ratio", MISSED_SECONDS,
        )
        if name == "lost":
            table.add("catchup", "  of it, by the node's log", "ms", column(name, "log_ms"))


def expect(node, **values):
    """Metrics that must have these values, or the measurement is of something else."""
    for name, value in values.items():
        if node.metric(name) != value:
            raise Failure(f"{name} is {node.metric(name):g} instead of {value}")


def resume(table, args):
    """1,000 clients hang up, a second passes, and they come back at once."""
    returning, away = sized(args, (RETURNING, AWAY_EVENTS), (20, 50))
    samples = []
    for _ in range(args.repeats):
        with relay() as it, it.client(returning, "--events", away, "--return") as client:
            client.line()
            write("--events", away, "--rate", AWAY_EVENTS)
            wait_until_idle(min(args.wait, 60))  # history_age is 120 s
            before = cpu_seconds(it.pid)
            client.tell()
            opened = client.json()["open_seconds"]
            result = table.check(client.json(), "resume", "relay", returning)
            expect(it.node, pgrelay_resumes_total=returning, pgrelay_resumes_log_total=0, pgrelay_log_rows_read_total=0)
            result["server_us"] = (cpu_seconds(it.pid) - before) * 1e6 / returning
            samples.append({**result, "opened": opened, "seconds": (result["last_us"] - result["return_us"]) / 1e6})
    table.add(
        "resume", f"{returning:,} come back at once, {away:,} missed by each", "s", [s["seconds"] for s in samples],
    )
    table.add("resume", "  of it until all are in their groups again", "s", [s["opened"] for s in samples])
    table.add("resume", "  server CPU a client", "us", [s["server_us"] for s in samples])
    table.add("resume", "  events read from the log for it", "", [0] * args.repeats, bound=0)


def tickets(table, args):
    """A payload too big for a NOTIFY, for 100 clients: it is read from the log once."""
    sessions = sized(args, TICKET_SESSIONS, 5)
    samples = []
    for _ in range(args.repeats):
        wait_until_idle(args.wait)
        with relay() as it, it.client(sessions, "--events", 1) as client:
            client.line()
            committed = emit_big()
            result = table.check(client.json(), "tickets", "relay", sessions)
            expect(it.node, pgrelay_tickets_total=1, pgrelay_tickets_read_total=1)
            samples.append({**result, "ms": (result["last_us"] - committed * 1e6) / 1e3})
    table.add(
        "tickets", f"{TICKET_OCTETS:,} octets to {sessions} clients, from COMMIT", "ms", [s["ms"] for s in samples]
    )
    table.add("tickets", "  times the payload is read from the log", "", [1] * args.repeats, bound=1)


def emit_big():
    """Returns the time before COMMIT."""
    writer = site.session("writer")
    try:
        writer("BEGIN")
        writer(f"SELECT pgrelay.emit('bench', 'tick', '1', {event_sql(1, TICKET_OCTETS)})")
        committed = time.time()
        writer("COMMIT")
        return committed
    finally:
        writer.close()
