"""Scenarios of make bench: what sessions cost that do nothing, and how fast they come."""
import certificates
from fan_out import column, secure_relay
from harness import site
from many_sessions import lines_file
from measure import bare, cpu_seconds, pin_database, relay, rss_bytes, settle, sized

IDLE_SESSIONS, IDLE_KIB = 1000, 2.5
STORM_SESSIONS = 5000


def memory(table, args):
    """What an idle session adds to the process."""
    sessions = sized(args, IDLE_SESSIONS, 20)
    certificate, key = certificates.default_authority().issue()
    servers = {"relay": (relay, []), "tls": (lambda: secure_relay(None, certificate, key), ["--tls"])}
    servers.update({name: (start, []) for name, start in args.others.items()})
    samples = {name: [idle(table, name, server, sessions, options) for _ in range(args.repeats)] for name, (server, options) in servers.items()}
    for name, label, others, bound in (("relay", "", args.others, IDLE_KIB), ("tls", " over TLS", (), None)):
        table.add("memory", f"memory of an idle session{label}, of {sessions:,}", "KiB RSS", column(samples, name, "kib"), bound=bound,
                  peers={other: column(samples, other, "kib") for other in others})
        table.add("memory", "  sessions opened", "sessions/s", column(samples, name, "rate"),
                  peers={other: column(samples, other, "rate") for other in others})


def idle(table, name, server, sessions, options):
    with server() as it:
        settle(it)
        before = rss_bytes(it.pid)
        with it.client(sessions, "--hold", *options) as client:
            rate = sessions / client.json()["open_seconds"]
            settle(it)
            kib = (rss_bytes(it.pid) - before) / sessions / 1024
            table.check(client.end(), "memory", name, sessions)
    return {"kib": kib, "rate": rate}


# ---- many at once ----


def storm(table, args):
    """Handshake, token and groups of thousands; the bare server only accepts and greets."""
    sessions = sized(args, STORM_SESSIONS, 50)
    tokens = lines_file("tokens", tokens_of_users(sessions))
    ways = {
        "one": (relay, []), "many": (relay, ["--tokens", tokens]), "bare": (bare(1), []),
        "one at once": (relay, ["--at-once", sessions]), "many at once": (relay, ["--at-once", sessions, "--tokens", tokens]),
        "bare at once": (bare(1), ["--at-once", sessions]),
    }
    samples = {way: [] for way in ways}
    with pin_database() as (cpu, _):
        for _ in range(args.repeats):
            for way, (server, options) in ways.items():
                samples[way].append(come(table, server, way, sessions, options, cpu))
    for name, label in (("one", "one token"), ("many", "a user each")):
        table.add("storm", f"{sessions:,} sessions, 64 at a time, {label}", "sessions/s", column(samples, name, "rate"),
                  column(samples, "bare", "rate"), "ratio")
        table.add("storm", "  server CPU a session", "us", column(samples, name, "us"), column(samples, "bare", "us"), "ratio")
        table.add("storm", "  all at once: until the last is served", "s", column(samples, f"{name} at once", "seconds"),
                  column(samples, "bare at once", "seconds"), "ratio")
        table.add("storm", "  of them told to ask again for their groups", "", column(samples, f"{name} at once", "again"))


def tokens_of_users(count):
    """A token of each of so many users, who may see the bench's events."""
    names = ",".join(f"storm{n}" for n in range(count))
    site.sql(f"""SELECT count(pgrelay.user_create(n)) FROM unnest('{{{names}}}'::text[]) n;
        INSERT INTO pgrelay.grants (user_id, pattern) SELECT id, 'bench.*.*' FROM pgrelay.users WHERE name LIKE 'storm%'""", "owner")
    rows = site.rows(f"SELECT t.token FROM unnest('{{{names}}}'::text[]) n, pgrelay.token_create(n) t", "owner", 300)
    return [token for token, in rows]


def come(table, server, way, sessions, options, cpu):
    with server(cpu) as it:
        before = cpu_seconds(it.pid)
        with it.client(sessions, "--hold", "--patience", 60, *options, cpu=cpu) as client:
            opened = client.json()
            us = (cpu_seconds(it.pid) - before) * 1e6 / sessions
            table.check(client.end(), "storm", way, sessions)
    seconds = opened["open_seconds"]
    return {"seconds": seconds, "rate": sessions / seconds, "us": us, "again": opened["asked_again"]}
