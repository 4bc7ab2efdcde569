"""Scenarios of make bench: what comes in from the database."""
import time

from harness import eventually, site
from fan_out import column
from many_sessions import lines_file
from measure import cpu_seconds, event_sql, pin_database, program, relay, rss_bytes, sized, write
from table import Failure

INTAKE_EVENTS, INTAKE_OCTETS, INTAKE_TOPICS = 2_000_000, 80, 1000
BEFORE_EVENTS = 1_000_000  # they fill the history
LEAST_OF_LISTENER = 0.8
BIG_EVENTS, BIG_BATCH, BIG_OCTETS = 1_000_000, 1000, 300
BIG_MIB = 128  # history_limit, queue_limit, and half as much again


def intake(table, args):
    """Small records, packed into NOTIFYs of up to 7,999 octets, of which a client wants one in a thousand; bare: libpq alone."""
    events = sized(args, INTAKE_EVENTS, 20_000) + 1  # the first and the last are wanted
    topics = lines_file("topics", [f"bench.tick.{n + 1}" for n in range(INTAKE_TOPICS)])
    stream = ("--raw", "--events", events, "--batch", events, "--octets", INTAKE_OCTETS, "--topics", topics)
    samples = {"relay": [], "bare": []}
    with pin_database() as (cpu, database_cpu):
        for _ in range(args.repeats):
            samples["relay"].append(taken_in(table, args, events, topics, stream, cpu, database_cpu))
            samples["bare"].append(listened(events, stream, cpu, database_cpu))
    table.add("intake", f"{INTAKE_OCTETS}-octet records, bare: libpq alone", "records/s", column(samples, "relay", "rate"),
              column(samples, "bare", "rate"), "ratio", least=LEAST_OF_LISTENER)
    table.add("intake", "  CPU a record", "us", column(samples, "relay", "us"), column(samples, "bare", "us"), "ratio")


def fill_history(node, args, cpu):
    """As that of a node which is not just starting is, and its memory is there."""
    events = sized(args, BEFORE_EVENTS, 10_000)
    topics = lines_file("topics_before", ["bench.tick.0"])
    write("--raw", "--events", events, "--batch", events, "--octets", INTAKE_OCTETS, "--topics", topics, cpu=cpu)
    eventually(lambda: node.metric("pgrelay_events_total") >= events, 60, "the history is full")


def taken_in(table, args, events, topics, stream, cpu, database_cpu):
    wanted = (events - 1) // INTAKE_TOPICS + 1
    with relay(cpu) as it, it.client(1, "--events", wanted, "--topics", topics, "--groups-each", 1, cpu=cpu) as client:
        client.line()
        fill_history(it.node, args, database_cpu)
        before = cpu_seconds(it.pid)
        write(*stream, cpu=database_cpu)
        result = table.check(client.json(), "intake", "relay", 1)
        us = 1e6 * (cpu_seconds(it.pid) - before) / events
    return {"rate": events / result["seconds"], "us": us}


def listened(events, stream, cpu, database_cpu):
    with program("bench_listen", "--database", site.pg.conninfo("node"), "--events", events, cpu=cpu) as it:
        it.line()
        write(*stream, cpu=database_cpu)
        result = it.json()
    if result["events"] != events:
        raise Failure(f"bench_listen has heard {result['events']} events of {events}")
    return {"rate": events / result["seconds"], "us": 1e6 * result["cpu_seconds"] / events}


# ---- one transaction ----


def million(table, args):
    """A million events by emit_many() in one transaction, to one client: how much memory the node and the writer's backend want."""
    events = sized(args, BIG_EVENTS, 10_000)
    with relay() as it, it.client(1, "--events", events, "--patience", 120) as client:
        client.line()
        before = rss_bytes(it.pid)
        committed, backend_mib = emit_in_one(events)
        result = table.check(client.json(), "million", "relay", 1)
        node_mib = (peak_bytes(it.pid) - before) / 2**20
    table.add("million", f"{events:,} events in one transaction: node's peak", "MiB RSS", [node_mib], bound=BIG_MIB)
    table.add("million", "  the writer's backend's peak", "MiB RSS", [backend_mib])
    table.add("million", "  from COMMIT until the client has the last", "s", [result["last_us"] / 1e6 - committed])
    table.add("million", "  rate from the first to the last", "deliveries/s", [result["deliveries_per_second"]])


def emit_in_one(events):
    """Returns the time before COMMIT, and the most memory of the backend, in MiB."""
    writer = site.session("writer")
    try:
        pid = int(writer("SELECT pg_backend_pid()"))
        writer("BEGIN")
        writer(f"""DO $$ BEGIN
            FOR batch IN 0..{events // BIG_BATCH - 1} LOOP
                PERFORM pgrelay.emit_many(array_agg(('bench', 'tick', '1', {event_sql('n', BIG_OCTETS)})::pgrelay.new_event ORDER BY n))
                    FROM generate_series(batch * {BIG_BATCH} + 1, (batch + 1) * {BIG_BATCH}) n;
            END LOOP;
        END $$""", 600)
        committed = time.time()
        writer("COMMIT", 600)
        return committed, peak_bytes(pid) / 2**20
    finally:
        writer.close()


def peak_bytes(pid):
    with open(f"/proc/{pid}/status") as f:
        return next(int(line.split()[1]) * 1024 for line in f if line.startswith("VmHWM:"))
