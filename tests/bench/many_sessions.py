"""Scenarios of make bench with ten thousand sessions on one node: what their registrations cost, and how soon rights that are
taken away are gone."""
import contextlib
import os
import random
import statistics
import time
import uuid

from harness import quote, site
from measure import cpu_seconds, pin_database, plural, program, relay, rss_bytes, settle, sized, wait_until_idle, write
from table import Failure

SESSIONS = 10_000
PATTERNS = 10  # of a session
ROUNDS, ROUND_EVENTS = 7, 100_000
REVOKED = 50

# What an event's way through the index may cost with all registrations, against those of one session; octets a pattern.
MATCHING_RATIO, PATTERN_OCTETS = 1.3, 200
REVOKED_MS = 100


# ---- sessions ----


@contextlib.contextmanager
def sessions(server, tokens, count, dialect="drp", cpu=None):
    """The load generator with so many sessions open; the token of the n-th one is tokens[n % len(tokens)]."""
    with program("bench_sessions", "--port", server.port, "--sessions", count, "--dialect", dialect,
                 "--tokens", lines_file("tokens", tokens), cpu=cpu) as client:
        client.opened = client.json()
        yield client
        ended = client.end()
        if any(ended.values()):
            raise Failure(f"not to be expected: {ended}")


def lines_file(name, lines):
    path = os.path.join(site.folder, name)
    with open(path, "w") as f:
        f.writelines(f"{line}\n" for line in lines)
    return path


def send(client, messages):
    """messages: (session, text), those of a session together. Returns the seconds until all have been acknowledged."""
    lines = [f"{session} {text}" for session, text in messages]
    answer = client.ask(f"send {lines_file('messages', lines)}")
    if answer["acknowledged"] != len(lines):
        raise Failure(f"{len(lines)} messages, but {answer}")
    return answer["seconds"]


# ---- registrations ----


def registrations(table, args):
    """100,000 patterns of 10,000 sessions, against the ten of one session: what an event costs, and what a pattern holds."""
    size = sized(args, (SESSIONS, ROUNDS, ROUND_EVENTS), (100, 1, 1_000))
    samples = {count: [] for count in (1, size[0])}
    for _ in range(args.repeats):
        for count in samples:
            wait_until_idle(args.wait)
            samples[count].append(registered(count, *size))
    registration_rows(table, size[0], *samples.values())


def registered(count, of, rounds, events):
    """With registrations of so many of the sessions."""
    result = {"nobody": [], "one": []}
    with pin_database() as (cpu, database_cpu), relay(cpu, max_sessions=of + 1000) as it:
        with sessions(it, [site.all_seeing.token], of, cpu=cpu) as client:
            settle(it)
            before = rss_bytes(it.pid)
            result["seconds"] = send(client, [(s, f"register {p}") for s in range(count) for p in commands(s)])
            settle(it)
            result["octets"] = (rss_bytes(it.pid) - before) / (count * PATTERNS)
            expect_patterns(it, count * PATTERNS)
            for _ in range(rounds):
                result["nobody"].append(matching_us(it, client, unmatched_topics(events), events, 1, database_cpu))
                result["one"].append(matching_us(it, client, matched_topics(), events, events, database_cpu))
    return {**result, "nobody": statistics.median(result["nobody"]), "one": statistics.median(result["one"])}


def expect_patterns(it, count):
    found = it.node.metric("pgrelay_patterns")
    if found != count:
        raise Failure(f"{found:g} patterns are in the index instead of {count}")


def key(session, thing):
    return uuid.UUID(int=random.Random(f"{session} {thing}").getrandbits(128), version=4)


def commands(session):
    """What a session registers: ten patterns, by six commands with one and two lists of two."""
    machine, flow = key(session, "machine"), key(session, "workflow")
    return [
        f"machines.create.{machine}", f"machines.update,delete.{machine}", f"machines.save.{machine}",
        f"workflows.update,delete.{flow}", f"jobs.*.{key(session, 'job')}", f"jobs.*.{key(session, 'last job')}",
        f"leases.update.{key(session, 'lease')}", f"work_orders.*.{key(session, 'work order')}",
    ]


def matched_topics():
    """Each matches a pattern of the first session."""
    topics = []
    for command in commands(0):
        type, actions, key = command.split(".")
        topics += [f"{type}.{'update' if action == '*' else action}.{key}" for action in actions.split(",")]
    return topics


def unmatched_topics(events):
    """Of the same types and actions, with keys that nobody has registered; behind them one event tells that all have passed."""
    matched = matched_topics()
    topics = []
    for n in range(events - 1):
        type, action, _ = matched[n % PATTERNS].split(".")
        topics.append(f"{type}.{action}.{uuid.uuid4()}")
    return topics + matched[:1]


def matching_us(it, client, topics, events, delivered, database_cpu):
    """The node's processor time of an event."""
    path = lines_file("topics", topics)
    client.tell(f"events {delivered}")
    before = cpu_seconds(it.pid)
    write("--raw", "--events", events, "--batch", events, "--topics", path, cpu=database_cpu)
    if client.json()["events"] != delivered:
        raise Failure("more events have come than there are")
    return 1e6 * (cpu_seconds(it.pid) - before) / events


def registration_rows(table, count, few, many):
    def column(samples, key):
        return [s[key] for s in samples]

    def ratio(key):
        return statistics.median(column(many, key)) / statistics.median(column(few, key))

    total = count * PATTERNS
    for key, whom in (("nobody", "nobody"), ("one", "one of them")):
        table.add("registrations", f"{total:,} patterns, an event for {whom}: CPU", "us", column(many, key))
        table.add("registrations", f"  the same with {plural(PATTERNS, 'pattern')}", "us", column(few, key))
        table.add("registrations", f"  {total:,}/{plural(PATTERNS, 'pattern')}", "ratio", [ratio(key)], bound=MATCHING_RATIO)
    table.add("registrations", "memory of a pattern", "octets RSS", column(many, "octets"), bound=PATTERN_OCTETS)
    table.add("registrations", f"  {total:,} are registered", "s", column(many, "seconds"))


# ---- revocation ----


def revocation(table, args):
    """10,000 sessions; from the COMMIT that takes rights away until the clients know."""
    count, revoked = sized(args, (SESSIONS, REVOKED), (100, 5))
    samples = {name: [] for name in ("own", "drp", "awx")}
    users = own_users(count)
    for _ in range(args.repeats):
        wait_until_idle(args.wait)
        samples["own"].append(revoke_some(users, revoked))
        for dialect in ("drp", "awx"):
            wait_until_idle(args.wait)
            samples[dialect].append(revoke_all(dialect, count))
    revocation_rows(table, count, samples)


def own_users(count):
    """A user for each session; returns their names."""
    names = [f"own{n}" for n in range(count)]
    site.sql(f"""SELECT count(pgrelay.user_create(n)) FROM unnest('{{{','.join(names)}}}'::text[]) n;
        INSERT INTO pgrelay.grants (user_id, pattern) SELECT id, 'machines.*.*' FROM pgrelay.users WHERE name LIKE 'own%'""", "owner")
    return names


def revoke_some(users, revoked):
    """Each session has a user of its own; one token is deleted, so many times. Returns milliseconds."""
    count = len(users)
    tokens = site.rows(f"""SELECT t.token_id, t.token FROM unnest('{{{','.join(users)}}}'::text[]) WITH ORDINALITY u (name, n),
        pgrelay.token_create(u.name) t ORDER BY u.n""", "owner", 300)
    with relay(max_sessions=count + 1000) as it, sessions(it, [token for _, token in tokens], count) as client:
        send(client, [(s, f"register machines.update.{key(s, 'machine')}") for s in range(count)])
        settle(it)
        times = []
        for token_id, _ in tokens[::count // revoked]:
            since = commit(f"SELECT pgrelay.token_revoke({token_id})")
            times.append(client.ask(f"closed 1 {since}")["max_us"] / 1e3)
    site.sql("DELETE FROM pgrelay.token WHERE user_id IN (SELECT id FROM pgrelay.users WHERE name LIKE 'own%')", "owner")
    return {"closed": quantiles(times)}


def quantiles(times):
    times = sorted(times)
    return {"p50": times[len(times) // 2], "p99": times[int(len(times) * 0.99)]}


MESSAGES = {
    "drp": ["register machines.*.*", "register jobs.*.*"],
    "awx": ['{"groups": {"machines": [1], "jobs": [1]}}'],
}


def revoke_all(dialect, count):
    """All sessions are of one user, with one token: a grant is removed, then the token is deleted."""
    user = site.user("machines.*.*", "jobs.*.*")
    with relay(max_sessions=count + 1000) as it, sessions(it, [user.token], count, dialect) as client:
        send(client, [(s, text) for s in range(count) for text in MESSAGES[dialect]])
        settle(it)
        told = all_of(client, count, "told", commit(f"SELECT pgrelay.grant_remove({quote(user.name)}, 'jobs.*.*')"))
        settle(it)
        closed = all_of(client, count, "closed", commit(f"DELETE FROM pgrelay.token WHERE user_id = {user.id}"))
    return {"told": told, "closed": closed}


def commit(statement):
    """Does it; returns the time right before COMMIT, in microseconds."""
    owner = site.shared_session("owner")
    owner("BEGIN")
    owner(statement)
    since = time.time_ns() // 1000
    owner("COMMIT")
    return since


def all_of(client, count, what, since):
    times = client.ask(f"{what} {count} {since}")
    if times["sessions"] != count:
        raise Failure(f"{what}: {times}")
    return {"p50": times["p50_us"] / 1e3, "p99": times["p99_us"] / 1e3}


def revocation_rows(table, count, samples):
    def add(label, name, what):
        for quantile, bound in (("p50", None), ("p99", REVOKED_MS)):
            table.add("revocation", f"{label}, {quantile}", "ms", [s[what][quantile] for s in samples[name]], bound=bound)

    add(f"one of {count:,} users loses a token: closed", "own", "closed")
    for dialect in ("drp", "awx"):
        add(f"{count:,} of one user, {dialect}, lose a grant: told", dialect, "told")
        add("  and their token: closed", dialect, "closed")
