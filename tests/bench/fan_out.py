"""Scenarios of make bench: how many deliveries a second there are, to how many, over what, and beside whom."""
import bisect
import contextlib
import itertools
import random

import certificates
import harness
from many_sessions import lines_file
from measure import bare, cpu_seconds, pin_database, relay, sized, subscribers, write
from table import Failure

FANOUT_EVENTS = {1: 300_000, 100: 40_000, 1000: 4_000, 5000: 1_000}
SMOKE_EVENTS = {1: 500, 10: 200}
# Of the contiguous bare limit, and of Nchan, by subscribers; microseconds of a delivery to 1,000.
LEAST_OF_BARE = {100: 0.4, 1000: 0.6, 5000: 0.6}
LEAST_OF_PEERS = {100: {"Nchan": 8}, 1000: {"Nchan": 10}, 5000: {"Nchan": 10}}
DELIVERY_US = {1000: 0.15}
# What is slower gets a part of the events: its rate does not depend on how many there are.
PARTS = {"bare": 8, "Nchan": 16, "ws": 16, "socket.io": 16}
PEER_EVENTS = 50  # at least

GROUP_SESSIONS, GROUPS_EACH, GROUP_EVENTS, GROUP_GATHER = 10_000, 5, 200_000, 16
LEAST_OF_WRITEV = 0.5
TLS_EVENTS = {100: 20_000, 1000: 2_000}
SLOW_SESSIONS, SLOW_STALLED, SLOW_EVENTS, SLOW_LIMIT = 1000, 50, 25_000, "1MB"
LEAST_BESIDE_SLOW = 0.9


def fanout(table, args):
    """A burst of events, packed into NOTIFYs in one transaction; the server shares a processor with the load generator."""
    servers = {"relay": relay, "bare": bare(1), "block": bare(64), **args.others}
    with pin_database() as (cpu, database_cpu):
        for sessions, events in sized(args, FANOUT_EVENTS, SMOKE_EVENTS).items():
            samples = {name: [] for name in servers}
            for _ in range(args.repeats):
                for name, server in servers.items():
                    count = max(events // PARTS.get(name, 1), PEER_EVENTS)
                    samples[name].append(burst(table, "fanout", server, name, sessions, count, cpu, database_cpu))
            fanout_rows(table, sessions, samples, args.others)


def burst(table, scenario, server, name, sessions, events, cpu, database_cpu, *options):
    with server(cpu) as it:
        order = ["--any-order"] if it.any_order else []
        with it.client(sessions, "--events", events, *order, *options, cpu=cpu) as client:
            client.line()
            before = cpu_seconds(it.pid)
            it.burst(sessions, events, database_cpu)
            result = table.check(client.json(), scenario, name, sessions)
            result["server_us"] = (cpu_seconds(it.pid) - before) * 1e6 / result["deliveries"]
            return result


def column(samples, name, key):
    return [s[key] for s in samples[name]]


def fanout_rows(table, sessions, samples, others):
    def of(key):
        return {name: column(samples, name, key) for name in samples}

    rates, cpu = of("deliveries_per_second"), of("server_us")
    table.add(
        "fanout", f"fan-out to {subscribers(sessions)}, bare: blocks", "deliveries/s", rates["relay"], rates["block"], "ratio",
        least=LEAST_OF_BARE.get(sessions), peers={name: rates[name] for name in others}, least_of=LEAST_OF_PEERS.get(sessions),
    )
    table.add("fanout", "  bare: one send each", "deliveries/s", rates["relay"], rates["bare"], "ratio")
    table.add("fanout", "  server CPU a delivery, bare: blocks", "us", cpu["relay"], cpu["block"], "ratio", DELIVERY_US.get(sessions),
              peers={name: cpu[name] for name in others})
    for name, label in {"relay": "pgrelay", "block": "bare, blocks", **{name: name for name in others}}.items():
        table.point("fanout", label, sessions, deliveries_per_second=rates[name])


# ---- many groups ----


def zipf_topics(events, groups):
    """Topics of so many events: the group at rank r is 1/r as frequent as the first; the same in each run."""
    chance = random.Random("zipf")
    by_rank = chance.sample(range(1, groups + 1), groups)
    sums = list(itertools.accumulate(1 / rank for rank in range(1, groups + 1)))
    return [f"bench.tick.{by_rank[bisect.bisect_left(sums, chance.random() * sums[-1])]}" for _ in range(events)]


def groups(table, args):
    """Each session has groups of its own, of which some are far busier than others: an event is for one session."""
    sessions, events = sized(args, (GROUP_SESSIONS, GROUP_EVENTS), (20, 500))
    total = sessions * GROUPS_EACH
    topics = lines_file("topics", zipf_topics(events, total))
    own = ("--topics", topics, "--groups-each", GROUPS_EACH)
    servers = {
        "relay": lambda cpu: relay(cpu, max_sessions=sessions + 100),
        "bare": bare(1, "--gather", GROUP_GATHER, "--groups-each", GROUPS_EACH),
    }
    samples = {name: [] for name in servers}
    with pin_database() as (cpu, database_cpu):
        for _ in range(args.repeats):
            for name, server in servers.items():
                samples[name].append(own_groups(table, server, name, sessions, events, own, cpu, database_cpu))
    table.add(
        "groups", f"{sessions:,} sessions, {total:,} groups; bare: writev", "deliveries/s", column(samples, "relay", "deliveries_per_second"),
        column(samples, "bare", "deliveries_per_second"), "ratio", least=LEAST_OF_WRITEV,
    )
    table.add("groups", "  server CPU a delivery", "us", column(samples, "relay", "server_us"), column(samples, "bare", "server_us"), "ratio")


def own_groups(table, server, name, sessions, events, own, cpu, database_cpu):
    with server(cpu) as it, it.client(sessions, "--events", events, *own, cpu=cpu) as client:
        client.line()
        before = cpu_seconds(it.pid)
        write("--raw", "--events", events, "--batch", events, *own[:2], cpu=database_cpu)
        result = table.check(client.json(), "groups", name, sessions)
        result["server_us"] = (cpu_seconds(it.pid) - before) * 1e6 / result["deliveries"]
        return result


# ---- TLS ----


def tls(table, args):
    """The same as fanout over TLS; the bare server encrypts each block of 64 frames for each connection."""
    certificate, key = certificates.default_authority().issue()
    servers = {
        "relay": lambda cpu: secure_relay(cpu, certificate, key),
        "block": bare(64, "--tls-certificate", certificate, "--tls-key", key),
    }
    with pin_database() as (cpu, database_cpu):
        for sessions, events in sized(args, TLS_EVENTS, SMOKE_EVENTS).items():
            samples = {name: [] for name in servers}
            for _ in range(args.repeats):
                for name, server in servers.items():
                    samples[name].append(burst(table, "tls", server, name, sessions, events, cpu, database_cpu, "--tls"))
            tls_rows(table, sessions, samples)


def tls_rows(table, sessions, samples):
    for label, unit, key in (
        (f"TLS: fan-out to {subscribers(sessions)}, bare: blocks", "deliveries/s", "deliveries_per_second"),
        ("  server CPU a delivery, bare: blocks", "us", "server_us"),
    ):
        table.add("tls", label, unit, column(samples, "relay", key), column(samples, "block", key), "ratio")
    table.point("tls", "pgrelay, TLS", sessions, deliveries_per_second=column(samples, "relay", "deliveries_per_second"))


@contextlib.contextmanager
def secure_relay(cpu=None, certificate=None, key=None):
    port = harness.free_port()
    with relay(cpu, listen_tls=f"127.0.0.1:{port}", tls_cert_file=certificate, tls_key_file=key) as it:
        it.port = port
        yield it


# ---- slow clients ----


def slow(table, args):
    """A part of the clients stop reading; what the others get, against the same without those."""
    sessions, stalled, events = sized(args, (SLOW_SESSIONS, SLOW_STALLED, SLOW_EVENTS), (20, 2, 25_000))
    reading = sessions - stalled
    samples = {"stalled": [], "alone": []}
    with pin_database() as (cpu, database_cpu):
        for _ in range(args.repeats):
            for name, options in (("stalled", ["--stalled", stalled]), ("alone", [])):
                samples[name].append(beside_stalled(table, name, reading, events, options, cpu, database_cpu))
    closed = column(samples, "stalled", "closed_slow")
    table.add(
        "slow", f"{reading:,} clients beside {stalled:,} stalled; bare: alone", "deliveries/s",
        column(samples, "stalled", "deliveries_per_second"), column(samples, "alone", "deliveries_per_second"), "ratio", least=LEAST_BESIDE_SLOW,
    )
    table.add("slow", "  of the stalled ones, closed at queue_limit", "", closed)
    if any(count != stalled for count in closed):
        raise Failure(f"of {stalled} clients that stalled, {closed} were closed: they have not been slow enough")


def beside_stalled(table, name, reading, events, options, cpu, database_cpu):
    with relay(cpu, queue_limit=SLOW_LIMIT) as it, it.client(reading, "--events", events, *options, cpu=cpu) as client:
        client.line()
        it.burst(reading, events, database_cpu)
        result = table.check(client.json(), "slow", name, reading)
        result["closed_slow"] = it.node.metric("pgrelay_sessions_closed_slow_total")
    return result
