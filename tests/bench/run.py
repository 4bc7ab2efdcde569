"""make bench: measures pgrelay beside a bare limit and prints one table; docs/benchmarks.md tells how to read it.

run.py [--repeats N] [--seconds N] [--wait N] [--json FILE] [--smoke] [SCENARIO ...]
scenarios: latency load fanout groups tls slow memory storm intake million triggers announce job catchup resume tickets nodes
payloads publish registrations revocation

One temporary PostgreSQL with its default durability (fsync on) serves all scenarios but triggers and announce, which have their
own.
What is compared runs in turns, each time with a new process, and the median over the repeats counts. The exit status is
1 when an event is lost or out of order, or a bound of ours is missed.
"""
import argparse
import contextlib
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))

import harness
from harness import eventually, site
from chart import draw
from connecting import memory, storm
from fan_out import fanout, groups, slow, tls
from faults import kept_out
from intake import intake, million
from many_sessions import registrations, revocation
from measure import (EVENT_OCTETS, PROGRAMS, Failure, Table, bare_listeners, busy_percent, cpu_seconds, event_sql, linked, plural,
                     processor_ticks, program, relay, row, unlinked, wait_until_idle, write)
from mesh import total
from timing import latency, load

HERE = os.path.dirname(os.path.abspath(__file__))

# What the issue of the main path asks for.
TRIGGER_RATIO = 2.5
# Deferred events cost writers little, and the log costs little.
DEFERRED_RATIO, LOG_RATIO = 1 / 0.85, 1.6

JOB_LINES = 100_000
MISSED_EVENTS, MISSED_BATCH, MISSED_SECONDS = 100_000, 100, 3
RETURNING, AWAY_EVENTS = 1000, 1000
TICKET_SESSIONS, TICKET_OCTETS = 100, 1_000_000
NODES, NODE_ENDS, NODE_SESSIONS = (1, 2, 4, 8), (1, 8), 4
# Events a commit, which go in one NOTIFY.
NODE_WAYS, NODE_COMMITS, NODE_RATE = (1, 20), 5_000, 1_000
# What one node more costs the server, against one bare listener more.
NODE_RATIO = 1.3
# Octets: events, and how many a second.
PAYLOADS = {TICKET_OCTETS: (50, 5), 5 * TICKET_OCTETS: (20, 2)}
PAYLOAD_NODES, PAYLOAD_MS = 8, 50
# Connections, events a request, requests.
POST_WAYS, POST_EMITTED = ((1, 1, 2_000), (64, 1, 20_000), (64, 100, 1_000)), 2_000


# ---- scenarios ----


def script_figures(script, wanted, *arguments, **environment):
    """Runs one of our shell scripts; returns its figures, one a line of its output, and the output."""
    done = subprocess.run(
        ["sh", os.path.join(HERE, script), *arguments], stdout=subprocess.PIPE, text=True,
        env={**os.environ, **{name: str(value) for name, value in environment.items()}},
    )
    figures = {}
    for line in done.stdout.splitlines():
        words = line.split()
        with contextlib.suppress(ValueError, IndexError):
            figures[words[0]] = float(words[1])
    if done.returncode != 0 or wanted not in figures:
        raise Failure(f"{script} ended with status {done.returncode}:\n{done.stdout}")
    return figures, done.stdout


def triggers(table, args):
    """What the triggers cost a writer; measured by a script of its own."""
    figures, output = script_figures("triggers.sh", "trigger_ratio", BENCH_ROUNDS=max(4, 4 * args.repeats), BENCH_MILLION="no")
    table.add(
        "triggers", "INSERT of 100 job events, with/without triggers", "ratio", [figures["trigger_ratio"]], bound=TRIGGER_RATIO,
        note=output,
    )
    table.add("triggers", "  the same, with/without the log", "ratio", [figures["log_ratio"]], bound=LOG_RATIO)
    table.add("triggers", "NOTIFYs of an INSERT of 10,000 job events", "", [figures["notifications_10000"]])


def announce(table, args):
    """16 writers, one job event a transaction, a disk whose flush takes 1 ms; measured by a script of its own."""
    wait_until_idle(args.wait)
    figures, output = script_figures(
        "announce.sh", "deferred_ratio", os.path.join(PROGRAMS, "slow_flush.so"), BENCH_ROUNDS=max(4, 2 * args.repeats)
    )
    table.add("announce", "16 writers, flush 1 ms: plain INSERTs", "commits/s", [figures["plain_tps"]])
    table.add("announce", "  job events, announced by the commit", "commits/s", [figures["commit_tps"]])
    table.add("announce", "  job events, deferred", "commits/s", [figures["deferred_tps"]])
    table.add(
        "announce", "  plain INSERTs/deferred job events", "ratio", [1 / figures["deferred_ratio"]], bound=DEFERRED_RATIO, note=output
    )
    table.add("announce", "  one call of the announcer", "ms", [figures["announced_ms"]])


def job(table, args):
    """pgrelay run with 100,000 lines, one watcher."""
    rates, whole = [], []
    for _ in range(args.repeats):
        number_of_job = site.job(name="bench")
        message = json.dumps({"groups": {"job_events": [number_of_job]}})
        with relay() as it, it.client(1, "--events", JOB_LINES, "--seq-key", "counter", "--message", message) as client:
            client.line()
            start = time.time()
            site.pgrelay(
                "run", "--quiet", "--job", number_of_job, "--", "seq", "-f", "line %.0f of a job's output", JOB_LINES,
                user="writer", timeout=300,
            )
            whole.append(time.time() - start)
            result = table.check(client.json(), "job", "relay", 1)
            rates.append(JOB_LINES / (result["last_us"] / 1e6 - start))
    table.add("job", f"pgrelay run, {JOB_LINES:,} lines to one watcher", "lines/s", rates)
    table.add("job", "  from its start to its end", "s", whole)


def catchup(table, args):
    """100,000 events are committed while nobody listens; until a client has the last one."""
    samples = {"lost": [], "restarted": []}
    for _ in range(args.repeats):
        samples["lost"].append(catch_up_lost(table, args))
        samples["restarted"].append(catch_up_restarted(table, args))
    catchup_rows(table, samples)


def catch_up_lost(table, args):
    """The node loses its sessions with the database, and gets new ones."""
    with relay(log_level="info") as it, missing_client(it) as client:
        client.line()
        with kept_out():
            range_of_log = miss_events()
            wait_until_idle(args.wait)
        result = table.check(client.json(), "catchup", "relay", 1)
        result["seconds"] = result["last_us"] / 1e6 - listening_since()
        result["log_ms"] = caught_up_ms(it.node)
    return {**result, "bare": read_log(*range_of_log)}


def catch_up_restarted(table, args):
    """A client comes back to a node that was killed, and knows nothing."""
    with relay() as it, missing_client(it, "--return") as client:
        client.line()
        it.kill()
        range_of_log = miss_events()
        with relay(port=it.port) as again:
            wait_until_idle(args.wait)
            client.tell()
            client.line()
            result = table.check(client.json(), "catchup", "relay", 1)
            result["seconds"] = (result["last_us"] - result["asked_us"]) / 1e6
            expect(again.node, pgrelay_resumes_log_total=1)
    return {**result, "bare": read_log(*range_of_log)}


def missing_client(server, *options):
    groups = {f"bench_{t}": list(range(25)) for t in range(4)}
    return server.client(1, "--events", MISSED_EVENTS, "--message", json.dumps({"groups": groups}), "--patience", 300, *options)


def miss_events():
    """Commits the events, a hundred a transaction, of four types and a hundred topics. Returns the snapshots before and after."""
    before = site.sql("SELECT pg_current_snapshot()")
    site.sql(f"""DO $$ BEGIN
        FOR batch IN 0..{MISSED_EVENTS // MISSED_BATCH - 1} LOOP
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


def caught_up_ms(node):
    told = eventually(lambda: re.search(r"stream: caught up: (\d+) events, (\d+) ms", node.log), what="the node says so")
    if int(told.group(1)) != MISSED_EVENTS:
        raise Failure(f"the node has caught up on {told.group(1)} events")
    return int(told.group(2))


def read_log(since, until):
    """The seconds that a program needs which only reads the log."""
    with program("bench_read", "--database", site.pg.conninfo("node"), "--since", since, "--until", until) as it:
        result = it.json()
    if result["rows"] != MISSED_EVENTS:
        raise Failure(f"bench_read has read {result['rows']} rows")
    return result["seconds"]


def catchup_rows(table, samples):
    def column(name, key):
        return [s[key] for s in samples[name]]

    for name, what in (("lost", "the node, bare: log_read alone"), ("restarted", "a client, node restarted")):
        table.add(
            "catchup", f"{MISSED_EVENTS:,} missed by {what}", "s", column(name, "seconds"), column(name, "bare"),
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
    samples = []
    for _ in range(args.repeats):
        with relay() as it, it.client(RETURNING, "--events", AWAY_EVENTS, "--return") as client:
            client.line()
            write("--events", AWAY_EVENTS, "--rate", AWAY_EVENTS)
            wait_until_idle(min(args.wait, 60))  # history_age is 120 s
            before = cpu_seconds(it.pid)
            client.tell()
            opened = client.json()["open_seconds"]
            result = table.check(client.json(), "resume", "relay", RETURNING)
            expect(it.node, pgrelay_resumes_total=RETURNING, pgrelay_resumes_log_total=0, pgrelay_log_rows_read_total=0)
            result["server_us"] = (cpu_seconds(it.pid) - before) * 1e6 / RETURNING
            samples.append({**result, "opened": opened, "seconds": (result["last_us"] - result["return_us"]) / 1e6})
    table.add(
        "resume", f"{RETURNING:,} come back at once, {AWAY_EVENTS:,} missed by each", "s", [s["seconds"] for s in samples],
    )
    table.add("resume", "  of it until all are in their groups again", "s", [s["opened"] for s in samples])
    table.add("resume", "  server CPU a client", "us", [s["server_us"] for s in samples])
    table.add("resume", "  events read from the log for it", "", [0] * args.repeats, bound=0)


def tickets(table, args):
    """A payload too big for a NOTIFY, for 100 clients: it is read from the log once."""
    samples = []
    for _ in range(args.repeats):
        wait_until_idle(args.wait)
        with relay() as it, it.client(TICKET_SESSIONS, "--events", 1) as client:
            client.line()
            committed = emit_big()
            result = table.check(client.json(), "tickets", "relay", TICKET_SESSIONS)
            expect(it.node, pgrelay_tickets_total=1, pgrelay_tickets_read_total=1)
            samples.append({**result, "ms": (result["last_us"] - committed * 1e6) / 1e3})
    table.add(
        "tickets", f"{TICKET_OCTETS:,} octets to {TICKET_SESSIONS} clients, from COMMIT", "ms", [s["ms"] for s in samples]
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


def nodes(table, args):
    """The same events with 1, 2, 4 and 8 nodes: what the server works for it, against as many bare listeners."""
    servers = {"relay": linked, "bare": bare_listeners}
    samples = {(way, name, count): [] for way in NODE_WAYS for name in servers for count in NODES}
    idle = {count: [] for count in NODE_ENDS}
    for _ in range(args.repeats):
        for count in NODES:
            for name, server in servers.items():
                with server(count) as it:
                    wait_until_idle(args.wait)
                    for way in NODE_WAYS:
                        samples[way, name, count].append(volume(table, it, name, way))
                    if name == "relay" and count in NODE_ENDS:
                        idle[count].append(idle_percent(args.seconds))
    for way in NODE_WAYS:
        volume_rows(table, way, samples)
    for count in NODE_ENDS:
        table.add("nodes", f"{plural(count, 'node')}, nothing to do: server CPU", "%", idle[count])


def volume(table, it, name, batch):
    """What these commits cost in the server: the writer's backend, and those of the nodes or bare listeners."""
    events = ("--events", NODE_COMMITS * batch)
    with it.client(NODE_SESSIONS, *events) as client:
        client.line()
        before = backend_seconds()
        # It is processors that are measured, not the disk.
        writer = write("--raw", "--batch", batch, "--rate", NODE_RATE, *events, settings="-c synchronous_commit=off")
        result = table.check({**client.json(), "writer": writer}, "nodes", name, NODE_SESSIONS * len(it.members))
        used = backend_seconds_since(before)
    listening = [seconds for listens, seconds in used if listens]
    if len(listening) != len(it.members) or writer["notifications"] != NODE_COMMITS:
        raise Failure(f"{name}: {len(listening)} sessions of {len(it.members)} listen, {json.dumps(writer)}")
    result["writer_us"] = 1e6 * writer["backend_seconds"] / NODE_COMMITS
    result["server_us"] = result["writer_us"] + 1e6 * sum(seconds for _, seconds in used) / NODE_COMMITS
    result["listener_us"] = 1e6 * statistics.mean(listening) / NODE_COMMITS
    result["commit_us"] = writer["commit"]["p50_us"]
    return result


def backend_seconds():
    """The server's processes that work for nodes or bare listeners, by pid: whether it listens, and its processor time."""
    rows = site.rows("SELECT pid, application_name FROM pg_stat_activity WHERE usename = 'node'")
    return {int(pid): (not name or name.startswith("pgrelay listen"), cpu_seconds(pid)) for pid, name in rows}


def backend_seconds_since(before):
    """Of each: whether it listens, and the processor time since then."""
    return [(listens, seconds - before.get(pid, (listens, 0))[1]) for pid, (listens, seconds) in backend_seconds().items()]


def idle_percent(duration):
    """Of a processor: what the server uses for nodes that have nothing to do."""
    before, start = backend_seconds(), time.monotonic()
    time.sleep(duration)
    return 100 * sum(seconds for _, seconds in backend_seconds_since(before)) / (time.monotonic() - start)


def volume_rows(table, batch, samples):
    def column(name, count, key):
        return [s[key] for s in samples[batch, name, count]]

    def add(label, count, key):
        table.add("nodes", label, "us/commit", column("relay", count, key), column("bare", count, key), "ratio")

    def one_more(name):
        first, last = (column(name, count, "server_us") for count in NODE_ENDS)
        return [(b - a) / (NODE_ENDS[1] - NODE_ENDS[0]) for a, b in zip(first, last)]

    for count in NODES:
        add(f"{plural(batch, 'event')} a commit, {plural(count, 'node')}: server CPU", count, "server_us")
        if count in NODE_ENDS:
            add("  of it, the writer's backend", count, "writer_us")
            add("  each LISTEN session's backend", count, "listener_us")
            add("  COMMIT until it is answered, p50", count, "commit_us")
    more, bare_more = one_more("relay"), one_more("bare")
    table.add("nodes", f"{plural(batch, 'event')} a commit, one node more: server CPU", "us/commit", more, bare_more)
    growth = statistics.median(more) / statistics.median(bare_more)
    table.add("nodes", "  one node more/one bare listener more", "ratio", [growth], bound=NODE_RATIO)


def payloads(table, args):
    """Big payloads to clients of 8 nodes, which are linked, against nodes that have no secret: each reads for itself."""
    servers = {"relay": linked, "bare": unlinked}
    samples = {(octets, name): [] for octets in PAYLOADS for name in servers}
    for _ in range(args.repeats):
        for name, server in servers.items():
            with server(PAYLOAD_NODES) as it:
                for octets in PAYLOADS:
                    wait_until_idle(args.wait)
                    samples[octets, name].append(big_events(table, it, name, octets))
    for octets in PAYLOADS:
        payload_rows(table, octets, samples)


def big_events(table, it, name, octets):
    events, rate = PAYLOADS[octets]
    common = ("--events", events, "--commits", os.path.join(site.folder, f"commits-{octets}"))
    counted = ("tickets_read_total", "payloads_fallback_total")
    with it.client(1, *common) as client:
        client.line()
        before = [total(it.nodes, metric) for metric in counted]
        backends, processes, ticks = backend_seconds(), it.cpu_seconds(), processor_ticks()
        writer = write(*common, "--rate", rate, "--octets", octets)
        result = table.check({**client.json(), "writer": writer}, "payloads", name, PAYLOAD_NODES)
        result["busy"] = busy_percent(ticks)
        result["server_ms"] = 1e3 * sum(seconds for _, seconds in backend_seconds_since(backends)) / events
        result["nodes_ms"] = 1e3 * (it.cpu_seconds() - processes) / events
        reads, result["fallbacks"] = (total(it.nodes, metric) - then for metric, then in zip(counted, before))
    result["reads"] = reads / events
    return result


def payload_rows(table, octets, samples):
    def column(name, key, scale=1):
        return [s[key] / scale for s in samples[octets, name]]

    def add(label, unit, key, scale=1, bound=None):
        table.add("payloads", label, unit, column("relay", key, scale), column("bare", key, scale), "ratio", bound)

    bound = PAYLOAD_MS if octets == TICKET_OCTETS else None
    for quantile in ("p50", "p99"):
        add(f"{octets:,} octets to {PAYLOAD_NODES} nodes, {quantile}", "ms", f"last_{quantile}_us", 1000, bound if quantile == "p50" else None)
    add("  the backends' CPU for it", "ms", "server_ms")
    add("  the CPU of all nodes", "ms", "nodes_ms")
    add("  times it is read from the log", "", "reads", bound=1)
    table.add("payloads", "  asked of another node in vain", "", column("relay", "fallbacks"), bound=0)
    busy = column("relay", "busy"), column("bare", "busy")
    table.add("payloads", "  processors busy meanwhile, with all programs", "%", *busy)


def publish(table, args):
    """Events published over HTTP, against a client of the database that emits them in transactions of its own."""
    token = publisher()
    samples = {way: [] for way in POST_WAYS}
    for _ in range(args.repeats):
        for way in POST_WAYS:
            wait_until_idle(args.wait)
            with relay() as it:
                posted = post_events(table, it, token, *way)
            samples[way].append({**posted, "emitted": write("--events", POST_EMITTED)})
    for way in POST_WAYS:
        publish_rows(table, way, samples[way])


def publisher():
    user = site.user()
    site.pgrelay("grant", "add", "--publish", user.name, "bench.*.*")
    return user.token


def post_events(table, it, token, connections, batch, requests):
    before = cpu_seconds(it.pid)
    with it.client(1, "--events", batch * requests, "--any-order") as client:
        client.line()
        with program("bench_post", "--port", it.port, "--token", token, "--connections", connections, "--batch", batch,
                     "--requests", requests, "--octets", EVENT_OCTETS) as poster:
            posted = poster.json()
        delivered = table.check(client.json(), "publish", "relay", 1)
    posted["delivered_us"] = delivered["p50_us"]
    posted["server_us"] = (cpu_seconds(it.pid) - before) * 1e6 / posted["events"]
    posted["shared"] = requests / it.node.metric("pgrelay_publish_transactions_total")
    return posted


def publish_rows(table, way, samples):
    def column(key):
        return [s[key] for s in samples]

    connections, batch, _ = way
    emitted = [s["emitted"] for s in samples]
    label = f"POST by {plural(connections, 'connection')}, each of {plural(batch, 'event')}"
    rates = [e["events"] / e["seconds"] for e in emitted]
    table.add("publish", label, "events/s", column("events_per_second"), rates, "ratio")
    if batch > 1:
        table.add("publish", "  the same in requests", "requests/s", column("requests_per_second"))
    table.add("publish", "  until it is answered, p50", "us", column("p50_us"), [e["transaction"]["p50_us"] for e in emitted])
    table.add("publish", "  until it is answered, p99", "us", column("p99_us"), [e["transaction"]["p99_us"] for e in emitted])
    table.add("publish", "  until a subscriber has it, p50", "us", column("delivered_us"))
    table.add("publish", "  requests in one transaction", "", column("shared"))
    table.add("publish", "  the node's CPU", "us/event", column("server_us"))


SCENARIOS = {
    f.__name__: f
    for f in (
        latency, load, fanout, groups, tls, slow, memory, storm, intake, million, triggers, announce, job, catchup, resume, tickets,
        nodes, payloads, publish, registrations, revocation,
    )
}
# Those that --smoke makes small.
SMALL = ("latency", "load", "fanout", "groups", "tls", "slow", "memory", "storm", "intake", "million")


# ---- all of it ----


def machine():
    model = ""
    with open("/proc/cpuinfo") as f:
        model = next((line.split(":", 1)[1].strip() for line in f if line.startswith("model name")), "")
    return {
        "processor": model, "processors": len(os.sched_getaffinity(0)), "kernel": platform.release(),
        "postgresql": subprocess.run([harness.pg_program("postgres"), "--version"], stdout=subprocess.PIPE, text=True).stdout.strip(),
        "pgrelay": subprocess.run([harness.PGRELAY, "--version"], stdout=subprocess.PIPE, text=True).stdout.strip(),
        "file_system": subprocess.run(["stat", "-f", "-c", "%T", site.folder], stdout=subprocess.PIPE, text=True).stdout.strip(),
        "load_before": os.getloadavg()[0],
    }


def parse_arguments():
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3, help="how often each figure is measured (default 3)")
    parser.add_argument("--seconds", type=int, default=10, help="how long latency and idle nodes are measured (default 10)")
    parser.add_argument("--wait", type=int, default=10, help="longest wait for an idle machine before each (default 10)")
    parser.add_argument("--json", default=os.path.join(harness.TOP_BUILDDIR, "bench.json"), help="where the results go")
    parser.add_argument("--smoke", action="store_true", help="once and with few events, to show that it works; without bounds")
    parser.add_argument("scenarios", nargs="*", help=f"of: {', '.join(SCENARIOS)}; default: all")
    args = parser.parse_args()
    there_are = SMALL if args.smoke else tuple(SCENARIOS)
    unknown = set(args.scenarios) - set(there_are)
    if unknown:
        parser.error(f"no such scenario: {', '.join(sorted(unknown))}; there are: {', '.join(there_are)}")
    args.scenarios = args.scenarios or there_are
    if args.smoke:
        args.repeats, args.seconds, args.wait = 1, 1, 0
    return args


def main():
    args = parse_arguments()
    table = Table(judges=not args.smoke)
    about = machine()
    print(f"# {about['pgrelay']}, {about['postgresql']}, {about['processors']} x {about['processor']}, Linux {about['kernel']}")
    print(f"# PostgreSQL's files lie on {about['file_system']}, in {os.path.dirname(site.folder)} (TMPDIR)")
    if harness.is_sanitized():
        print("# built with sanitizers: these figures mean nothing")
    print(f"# medians of {args.repeats}, {EVENT_OCTETS}-octet events; load average before: {about['load_before']:.2f}")
    row("figure", "unit", "pgrelay", "bare", "compared", "bound")
    failures = []
    try:
        for name in args.scenarios:
            try:
                SCENARIOS[name](table, args)
            except Failure as e:
                failures.append(f"{name}: {e}")
                print(f"{name}: FAIL: {e}", flush=True)
    finally:
        site.destroy()
    about["load_after"] = os.getloadavg()[0]
    with open(args.json, "w") as f:
        json.dump({"machine": about, "repeats": args.repeats, "figures": table.figures, "failures": failures, "chart": table.points,
                   "runs": table.runs}, f, indent=1)
        f.write("\n")
    picture = os.path.splitext(args.json)[0] + ".svg"
    if draw(table.points, picture):
        print(f"# the chart is {picture}")
    print(f"# load average after: {about['load_after']:.2f}; all samples are in {args.json}")
    sys.exit(0 if table.passed and not failures else 1)


if __name__ == "__main__":
    try:
        main()
    except harness.Missing as e:
        sys.exit(f"run.py: {e}")
