"""Scenarios of make bench: what events cost those who write them, and how fast they are written."""
import contextlib
import json
import os
import subprocess
import time

from harness import site
from measure import EVENT_OCTETS, PROGRAMS, cpu_seconds, plural, program, relay, sized, wait_until_idle, write
from table import Failure

HERE = os.path.dirname(os.path.abspath(__file__))

# What the issue of the main path asks for.
TRIGGER_RATIO = 2.5
# Deferred events cost writers little, and the log costs little.
DEFERRED_RATIO, LOG_RATIO = 1 / 0.85, 1.6

JOB_LINES = 100_000
# Connections, events a request, requests.
POST_WAYS, POST_EMITTED = ((1, 1, 2_000), (64, 1, 20_000), (64, 100, 1_000)), 2_000
SMOKE_POST_WAYS = ((1, 1, 20), (4, 5, 40))


# ---- in the database ----


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
    figures, output = script_figures("triggers.sh", "trigger_ratio", BENCH_ROUNDS=sized(args, max(4, 4 * args.repeats), 1), BENCH_MILLION="no")
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
        "announce.sh", "deferred_ratio", os.path.join(PROGRAMS, "slow_flush.so"), BENCH_ROUNDS=sized(args, max(4, 2 * args.repeats), 1),
        BENCH_SECONDS=sized(args, 4, 1),
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
    lines = sized(args, JOB_LINES, 200)
    for _ in range(args.repeats):
        number_of_job = site.job(name="bench")
        message = json.dumps({"groups": {"job_events": [number_of_job]}})
        with relay() as it, it.client(1, "--events", lines, "--seq-key", "counter", "--message", message) as client:
            client.line()
            start = time.time()
            site.pgrelay(
                "run", "--quiet", "--job", number_of_job, "--", "seq", "-f", "line %.0f of a job's output", lines,
                user="writer", timeout=300,
            )
            whole.append(time.time() - start)
            result = table.check(client.json(), "job", "relay", 1)
            rates.append(lines / (result["last_us"] / 1e6 - start))
    table.add("job", f"pgrelay run, {lines:,} lines to one watcher", "lines/s", rates)
    table.add("job", "  from its start to its end", "s", whole)


# ---- over HTTP ----


def publish(table, args):
    """Events published over HTTP, against a client of the database that emits them in transactions of its own."""
    token = publisher()
    ways, emitted = sized(args, (POST_WAYS, POST_EMITTED), (SMOKE_POST_WAYS, 20))
    samples = {way: [] for way in ways}
    for _ in range(args.repeats):
        for way in ways:
            wait_until_idle(args.wait)
            with relay() as it:
                posted = post_events(table, it, token, *way)
            samples[way].append({**posted, "emitted": write("--events", emitted)})
    for way in ways:
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
