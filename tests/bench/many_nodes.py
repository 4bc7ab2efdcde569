"""Scenarios of make bench with several nodes."""
import json
import os
import statistics
import time

from harness import site
from measure import (bare_listeners, busy_percent, cpu_seconds, linked, plural, processor_ticks, sized, unlinked, wait_until_idle,
                     write)
from mesh import total
from table import Failure, over

NODES, NODE_SESSIONS = (1, 2, 4, 8), 4
# Events a commit, which go in one NOTIFY.
NODE_WAYS, NODE_COMMITS, NODE_RATE = (1, 20), 5_000, 1_000
# What one node more costs the server, against one bare listener more.
NODE_RATIO = 1.3
# Octets: events, and how many a second.
BIG, BIGGER = 1_000_000, 5_000_000
PAYLOADS, SMOKE_PAYLOADS = {BIG: (50, 5), BIGGER: (20, 2)}, {BIG: (3, 5)}
PAYLOAD_NODES, PAYLOAD_MS = 8, 50


def nodes(table, args):
    """The same events with 1, 2, 4 and 8 nodes: what the server works for it, against as many bare listeners."""
    counts, commits = sized(args, (NODES, NODE_COMMITS), ((1, 2), 100))
    ends = counts[0], counts[-1]
    servers = {"relay": linked, "bare": bare_listeners}
    samples = {(way, name, count): [] for way in NODE_WAYS for name in servers for count in counts}
    idle = {count: [] for count in ends}
    for _ in range(args.repeats):
        for count in counts:
            for name, server in servers.items():
                with server(count) as it:
                    wait_until_idle(args.wait)
                    for way in NODE_WAYS:
                        samples[way, name, count].append(volume(table, it, name, way, commits))
                    if name == "relay" and count in ends:
                        idle[count].append(idle_percent(args.seconds))
    for way in NODE_WAYS:
        volume_rows(table, way, counts, samples)
    for count in ends:
        table.add("nodes", f"{plural(count, 'node')}, nothing to do: server CPU", "%", idle[count])


def volume(table, it, name, batch, commits):
    """What these commits cost in the server: the writer's backend, and those of the nodes or bare listeners."""
    events = ("--events", commits * batch)
    with it.client(NODE_SESSIONS, *events) as client:
        client.line()
        before = backend_seconds()
        # It is processors that are measured, not the disk.
        writer = write("--raw", "--batch", batch, "--rate", NODE_RATE, *events, settings="-c synchronous_commit=off")
        result = table.check({**client.json(), "writer": writer}, "nodes", name, NODE_SESSIONS * len(it.members))
        used = backend_seconds_since(before)
    listening = [seconds for listens, seconds in used if listens]
    if len(listening) != len(it.members) or writer["notifications"] != commits:
        raise Failure(f"{name}: {len(listening)} sessions of {len(it.members)} listen, {json.dumps(writer)}")
    result["writer_us"] = 1e6 * writer["backend_seconds"] / commits
    result["server_us"] = result["writer_us"] + 1e6 * sum(seconds for _, seconds in used) / commits
    result["listener_us"] = 1e6 * statistics.mean(listening) / commits
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


def volume_rows(table, batch, counts, samples):
    ends = counts[0], counts[-1]

    def column(name, count, key):
        return [s[key] for s in samples[batch, name, count]]

    def add(label, count, key):
        table.add("nodes", label, "us/commit", column("relay", count, key), column("bare", count, key), "ratio")

    def one_more(name):
        first, last = (column(name, count, "server_us") for count in ends)
        return [(b - a) / (ends[1] - ends[0]) for a, b in zip(first, last)]

    for count in counts:
        add(f"{plural(batch, 'event')} a commit, {plural(count, 'node')}: server CPU", count, "server_us")
        if count in ends:
            add("  of it, the writer's backend", count, "writer_us")
            add("  each LISTEN session's backend", count, "listener_us")
            add("  COMMIT until it is answered, p50", count, "commit_us")
    more, bare_more = one_more("relay"), one_more("bare")
    table.add("nodes", f"{plural(batch, 'event')} a commit, one node more: server CPU", "us/commit", more, bare_more)
    growth = over(statistics.median(more), statistics.median(bare_more)) or 0
    table.add("nodes", "  one node more/one bare listener more", "ratio", [growth], bound=NODE_RATIO)


def payloads(table, args):
    """Big payloads to clients of 8 nodes, which are linked, against nodes that have no secret: each reads for itself."""
    servers = {"relay": linked, "bare": unlinked}
    count, payloads_of = sized(args, (PAYLOAD_NODES, PAYLOADS), (2, SMOKE_PAYLOADS))
    samples = {(octets, name): [] for octets in payloads_of for name in servers}
    for _ in range(args.repeats):
        for name, server in servers.items():
            with server(count) as it:
                for octets, pace in payloads_of.items():
                    wait_until_idle(args.wait)
                    samples[octets, name].append(big_events(table, it, name, octets, *pace))
    for octets in payloads_of:
        payload_rows(table, count, octets, samples)


def big_events(table, it, name, octets, events, rate):
    common = ("--events", events, "--commits", os.path.join(site.folder, f"commits-{octets}"))
    counted = ("tickets_read_total", "payloads_fallback_total")
    with it.client(1, *common) as client:
        client.line()
        before = [total(it.nodes, metric) for metric in counted]
        backends, processes, ticks = backend_seconds(), it.cpu_seconds(), processor_ticks()
        writer = write(*common, "--rate", rate, "--octets", octets)
        result = table.check({**client.json(), "writer": writer}, "payloads", name, len(it.members))
        result["busy"] = busy_percent(ticks)
        result["server_ms"] = 1e3 * sum(seconds for _, seconds in backend_seconds_since(backends)) / events
        result["nodes_ms"] = 1e3 * (it.cpu_seconds() - processes) / events
        reads, result["fallbacks"] = (total(it.nodes, metric) - then for metric, then in zip(counted, before))
    result["reads"] = reads / events
    return result


def payload_rows(table, count, octets, samples):
    def column(name, key, scale=1):
        return [s[key] / scale for s in samples[octets, name]]

    def add(label, unit, key, scale=1, bound=None):
        table.add("payloads", label, unit, column("relay", key, scale), column("bare", key, scale), "ratio", bound)

    bound = PAYLOAD_MS if octets == BIG else None
    for quantile in ("p50", "p99"):
        add(f"{octets:,} octets to {count} nodes, {quantile}", "ms", f"last_{quantile}_us", 1000, bound if quantile == "p50" else None)
    add("  the backends' CPU for it", "ms", "server_ms")
    add("  the CPU of all nodes", "ms", "nodes_ms")
    add("  times it is read from the log", "", "reads", bound=1)
    table.add("payloads", "  asked of another node in vain", "", column("relay", "fallbacks"), bound=0)
    busy = column("relay", "busy"), column("bare", "busy")
    table.add("payloads", "  processors busy meanwhile, with all programs", "%", *busy)
