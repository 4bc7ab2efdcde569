"""Scenarios of make bench: how long events take, on an idle system and at half of what it can do."""
import os

from harness import site
from fan_out import FANOUT_EVENTS, SMOKE_EVENTS, burst, column
from measure import bare, busy_percent, pin_database, processor_ticks, relay, sized, subscribers, wait_until_idle, write

LATENCY_RATE = 100
# What the issue of the main path asks for, and what may be added to the bare limit.
LATENCY_P50_US, LATENCY_P99_US = 1000, 5000
MOST_MORE_US = {"p50_us": 150, "p99_us": 500}

LOAD_SECONDS, LOAD_TRANSACTIONS = 2, 200  # transactions: a second, at most


def latency(table, args):
    """An idle system, 100 single-event transactions a second through pgrelay.emit; from COMMIT to the client."""
    servers = {"relay": relay, "bare": bare(1), **args.others}
    for sessions in sized(args, (1, 100), (1, 5)):
        samples = {name: [] for name in servers}
        for _ in range(args.repeats):
            for name, server in servers.items():
                samples[name].append(tick(table, args, server, name, sessions))
        latency_rows(table, sessions, samples, args.others)


def tick(table, args, server, name, sessions):
    events = LATENCY_RATE * args.seconds
    wait_until_idle(args.wait)
    with server() as it:
        commits = ("--commits", os.path.join(site.folder, "commits")) if it.knows_commits else ()
        with it.client(sessions, "--events", events, *commits) as client:
            client.line()
            before = processor_ticks()
            writer = it.tick(events, LATENCY_RATE, *commits)
            busy = busy_percent(before)
            return table.check({**client.json(), "writer": writer, "busy": busy}, "latency", name, sessions)


def latency_rows(table, sessions, samples, others):
    def writer(step):
        return [s["writer"][step]["p50_us"] for s in samples["relay"] + samples["bare"]]

    def beside(key):
        return {name: column(samples, name, key) for name in others}

    for key, bound in (("p50_us", LATENCY_P50_US), ("p99_us", LATENCY_P99_US)):
        table.add(
            "latency", f"latency {key[:-3]}, {subscribers(sessions)}", "us", column(samples, "relay", key), column(samples, "bare", key),
            "difference", bound, most=MOST_MORE_US[key] if sessions == 100 else None, peers=beside(key),
        )
    table.add("latency", "  processors busy meanwhile, with all programs", "%", column(samples, "relay", "busy"),
              column(samples, "bare", "busy"))
    table.add("latency", "  COMMIT until it is answered, p50", "us", writer("commit"))
    table.add("latency", "  before it: BEGIN and pgrelay.emit, p50", "us", writer("statement"))


# ---- under load ----


def load(table, args):
    """Latency while there are half as many deliveries as the node is capable of, placed as in fanout."""
    with pin_database() as cpus:
        for sessions, events in sized(args, FANOUT_EVENTS, SMOKE_EVENTS).items():
            samples = {"relay": [], "bare": []}
            for _ in range(args.repeats):
                most = burst(table, "load", relay, "relay", sessions, events, *cpus)["deliveries_per_second"]
                for name, server in (("relay", relay), ("bare", bare(64))):
                    samples[name].append(steady(table, args, server, name, sessions, most / 2 / sessions, *cpus))
            load_rows(table, sessions, samples)


def steady(table, args, server, name, sessions, events_per_second, cpu, database_cpu):
    rate = max(1, min(LOAD_TRANSACTIONS, round(events_per_second)))
    batch = max(1, round(events_per_second / rate))
    events = sized(args, rate * batch * LOAD_SECONDS, 200)
    with server(cpu) as it, it.client(sessions, "--events", events, cpu=cpu) as client:
        client.line()
        # It is the server that is measured, not the disk.
        writer = write("--raw", "--batch", batch, "--rate", rate, "--events", events, cpu=database_cpu,
                       settings="-c synchronous_commit=off")
        return table.check({**client.json(), "writer": writer}, "load", name, sessions)


def load_rows(table, sessions, samples):
    def compare(label, unit, key):
        table.add("load", label, unit, column(samples, "relay", key), column(samples, "bare", key), "difference")

    compare(f"half the rate to {subscribers(sessions)}: latency p50", "us", "p50_us")
    compare("  latency p99", "us", "p99_us")
    table.add("load", "  deliveries meanwhile", "deliveries/s", column(samples, "relay", "deliveries_per_second"),
              column(samples, "bare", "deliveries_per_second"))
    for name, label in (("relay", "pgrelay"), ("bare", "bare, blocks")):
        table.point("load", label, sessions, p99_us=column(samples, name, "p99_us"))
