#!/usr/bin/env python3
"""Who connects: many at once, what is remembered of them and for how long, and whoever loses a right meanwhile."""
import signal
import threading
import time

import drp
from harness import Node, eventually, main, quote, seconds, site
from herd import Herd, users

QUIET = {"connection_events": "off", "backoff_max": "200ms", "probe_interval": "200ms"}
LONG = {**QUIET, "authenticate_cache": "1h"}
OFF = {**QUIET, "authenticate_cache": "0s"}
SIGNATURE = "RETURNS TABLE (user_id bigint, user_name text, token_id bigint, expires timestamptz) LANGUAGE plpgsql"


def own(n):
    """The groups that visitor n, from 0, asks for: its own, and its neighbour's."""
    return {"own": [n + 1, n + 2]}


def questions(node):
    return node.metric("pgrelay_auth_questions_total")


def status(node, token, path="/websocket/"):
    client = node.dial(f"{path}?token={token}")
    client.close()
    return client.status


def silently(sql):
    """A change that nobody is told of."""
    site.sql(f"SET session_replication_role = replica; {sql}; RESET session_replication_role")


def revoke(token):
    site.sql(f"DELETE FROM pgrelay.token WHERE hash = pgrelay._token_hash({quote(token)})")


# ---- many at once ----


def test_many_at_once_are_few_queries_and_each_gets_its_own_answer():
    ids, tokens = users("crowd", 300)
    with Node(**OFF) as node:
        with Herd(node, tokens, own) as herd:
            herd.wait()
        assert [v.user for v in herd.visitors] == ids
        for n, v in enumerate(herd.visitors):
            assert v.joined == [f"own-{n + 1}"] and v.errors == [f"access denied to channel own for resource id {n + 2}"], (n, v.joined, v.errors)
        asked, queries = questions(node), node.metric("pgrelay_auth_queries_total")
        assert asked == 600, asked
        assert queries <= 200, queries
        assert node.metric("pgrelay_auth_pending") == 0 == node.metric("pgrelay_logins_pending")


def test_tokens_that_are_no_text_are_refused_without_a_question():
    ids, tokens = users("plain", 20)
    odd = ["%ff", "%c3%28", "%ed%a0%80", "abc%80"] * 5
    with Node(**OFF) as node, Herd(node, [t for pair in zip(tokens, odd) for t in pair]) as herd:
        herd.wait()
        assert [v.status for v in herd.visitors] == [101, 401] * 20
        assert [v.user for v in herd.visitors[::2]] == ids
        assert questions(node) == 20


def test_a_token_that_a_function_fails_on_harms_nobody_else():
    ids, tokens = users("fair", 100)
    site.sql(f"""CREATE FUNCTION public.touchy(token text) {SIGNATURE} AS $$BEGIN
        IF token LIKE 'bad%' THEN RAISE EXCEPTION 'touched by %', token; END IF;
        RETURN QUERY SELECT * FROM pgrelay.authenticate(token); END$$""")
    tokens[17:17], tokens[60:60] = ["bad1", "unknown"], ["bad2"]
    with Node(authenticate_function="public.touchy", **OFF) as node, Herd(node, tokens) as herd:
        herd.wait()
        wrong = {v.token: v.status for v in herd.visitors if v.status != 101}
        assert wrong == {"bad1": 503, "bad2": 503, "unknown": 401}, wrong
        assert [v.user for v in herd.visitors if v.user is not None] == ids
        assert "touched by bad" in node.log
        assert node.metric("pgrelay_auth_queries_total") < 100


def test_a_user_whose_rights_a_function_fails_on_harms_nobody_else():
    ids, tokens = users("mild", 60)
    site.sql(f"""CREATE FUNCTION public.touchy_rights(user_id bigint, patterns text[]) RETURNS TABLE (requested text, allowed text)
        LANGUAGE plpgsql AS $$BEGIN
        IF user_id IN ({ids[10]}, {ids[11]}, {ids[40]}) THEN RAISE EXCEPTION 'touched by %', user_id; END IF;
        RETURN QUERY SELECT * FROM pgrelay.authorize(user_id, patterns); END$$""")
    with Node(authorize_function="public.touchy_rights", **OFF) as node:
        with Herd(node, tokens, own) as herd:
            herd.wait(lambda v: v.joined is not None or v.errors and "cannot be asked" in v.errors[-1])
        assert [n for n, v in enumerate(herd.visitors) if v.joined is None] == [10, 11, 40]
        assert all(v.joined == [f"own-{n + 1}"] for n, v in enumerate(herd.visitors) if v.joined is not None)


def test_rights_too_many_for_one_answer_are_got_in_parts():
    """30 users with 3,000 grants each: what would be one answer is larger than the node takes."""
    ids, tokens = users("rich", 30, "none.*.*")
    site.sql(f"INSERT INTO pgrelay.grants (user_id, pattern) SELECT id, 'rich.*.' || n FROM unnest(ARRAY{ids}) id, generate_series(1, 3000) n")
    with Node(**OFF) as node, Herd(node, tokens, lambda n: {"rich": ["any"]}) as herd:
        herd.wait()
        assert all(v.joined == ["rich-any"] for v in herd.visitors), [v.joined for v in herd.visitors]
        assert node.metric("pgrelay_subscriptions") == 30 * 3000


def test_a_slow_function_is_asked_about_few_tokens_at_a_time():
    """Else all of a large query would be late."""
    _, tokens = users("slow", 60)
    site.sql(f"""CREATE FUNCTION public.slow(token text) {SIGNATURE} AS $$BEGIN
        PERFORM pg_sleep(0.02); RETURN QUERY SELECT * FROM pgrelay.authenticate(token); END$$""")
    with Node(authenticate_function="public.slow", query_timeout=f"{seconds(20)}s", **OFF) as node, Herd(node, tokens) as herd:
        herd.wait()
        assert all(v.status == 101 for v in herd.visitors)
        assert node.metric("pgrelay_auth_queries_total") >= 8


def test_who_waits_longer_than_query_timeout_is_refused():
    _, tokens = users("late", 40)
    site.sql(f"""CREATE FUNCTION public.standstill(token text) {SIGNATURE} AS $$BEGIN
        PERFORM pg_sleep(0.2); RETURN QUERY SELECT * FROM pgrelay.authenticate(token); END$$""")
    with Node(authenticate_function="public.standstill", query_timeout="1s", **OFF) as node, Herd(node, tokens) as herd:
        herd.wait()
        assert {v.status for v in herd.visitors} <= {101, 503} and 503 in {v.status for v in herd.visitors}
        eventually(lambda: node.metric("pgrelay_auth_pending") == 0)


def shut_gate(name):
    """An authorize_function that answers only when its gate is opened."""
    site.sql(f"""CREATE TABLE public.{name}_gate (shut boolean); INSERT INTO public.{name}_gate VALUES (true);
        GRANT SELECT ON public.{name}_gate TO PUBLIC;
        CREATE FUNCTION public.{name}(user_id bigint, patterns text[]) RETURNS TABLE (requested text, allowed text) LANGUAGE plpgsql AS $$BEGIN
        WHILE (SELECT shut FROM public.{name}_gate) LOOP PERFORM pg_sleep(0.01); END LOOP;
        RETURN QUERY SELECT * FROM pgrelay.authorize(user_id, patterns); END$$""")
    return f"public.{name}", lambda: site.sql(f"UPDATE public.{name}_gate SET shut = false")


def ask_when_in(herd):
    """All for their rights, once all are accepted: tokens are asked about by the same session."""
    herd.wait()
    for v in herd.visitors:
        v.ask(own(v.number))


def test_rights_that_are_not_told_in_time_are_asked_for_again():
    """Those that have gone out, and those that still wait behind them."""
    _, tokens = users("patient", 60)
    function, open_gate = shut_gate("gated_rights")
    with Node(authorize_function=function, query_timeout=f"{seconds(1)}s", **OFF) as node, Herd(node, tokens) as herd:
        ask_when_in(herd)
        herd.wait(lambda v: v.errors and "cannot be asked" in v.errors[-1])
        assert node.metric("pgrelay_auth_pending") == 0
        open_gate()
        eventually(lambda: not node.connect(tokens[0]).ask({"groups": {"own": [1]}})[0])


def test_a_node_ends_while_rights_are_asked_about():
    _, tokens = users("ending", 60)
    function, open_gate = shut_gate("gated_to_the_end")
    with Node(authorize_function=function, query_timeout=f"{seconds(20)}s", **OFF) as node, Herd(node, tokens) as herd:
        ask_when_in(herd)
        eventually(lambda: herd.step(0) or node.metric("pgrelay_auth_pending") == 60, what="all are being asked about")
        node.process.signal(signal.SIGTERM)
        herd.wait(lambda v: v.closed is not None)
        assert {v.closed[0] for v in herd.visitors} == {1001}
    open_gate()


# ---- what is remembered ----


def test_a_token_and_rights_are_asked_about_once_for_a_while():
    user = site.user("own.*.1")
    with Node(**LONG) as node:
        node.connect(user).join(own=[1])
        before = questions(node)
        for _ in range(3):
            node.connect(user).join(own=[1])
        assert questions(node) == before, "the database was asked again"
        assert node.metric("pgrelay_auth_cache_entries") == 2
        assert node.metric("pgrelay_auth_cache_hits_total") == 6


def test_with_0s_they_are_asked_about_each_time():
    user = site.user("own.*.1")
    with Node(**OFF) as node:
        for n in (1, 2, 3):
            node.connect(user).join(own=[1])
            assert questions(node) == 2 * n
        assert node.metric("pgrelay_auth_cache_entries") == 0


def test_it_is_not_remembered_for_longer_than_the_setting_says():
    user = site.user("own.*.1")
    with Node(**{**QUIET, "authenticate_cache": "300ms"}) as node:
        assert status(node, user.token) == 101
        silently(f"DELETE FROM pgrelay.token WHERE user_id = {user.id}")
        eventually(lambda: status(node, user.token) == 401)


def test_nor_for_longer_than_the_token_is_good():
    _, (token,) = users("brief", 1)
    with Node(**LONG) as node:
        site.sql(f"UPDATE pgrelay.token SET expires = clock_timestamp() + interval '1500 ms' WHERE hash = pgrelay._token_hash({quote(token)})")
        assert status(node, token) == 101
        eventually(lambda: status(node, token) == 401)


def test_what_was_refused_is_not_remembered():
    user = site.user()
    with Node(**LONG) as node:
        client = node.connect(user)
        errors, _ = client.ask({"groups": {"own": [1]}})
        assert errors
        site.sql(f"SELECT pgrelay.grant_add({quote(user.name)}, 'own.*.1')")
        client.join(own=[1])
        assert status(node, "later") == 401
        site.sql(f"INSERT INTO pgrelay.token (user_id, hash) VALUES ({user.id}, pgrelay._token_hash('later'))")
        assert status(node, "later") == 101


def test_a_password_is_asked_about_each_time():
    user = site.user("own.*.1")
    site.sql(f"SELECT pgrelay.password_set({quote(user.name)}, 'a password of his own')")
    site.tokens.append("a password of his own")
    with Node(**LONG) as node:
        for n in (1, 2, 3):
            assert drp.dial(node, drp.basic(user.name, "a password of his own")).status == 101
            assert node.metric("pgrelay_passwords_checked_total") == n


# ---- what is forgotten ----


def test_a_change_makes_forgotten_at_once():
    user, other = site.user("own.*.1"), site.user("own.*.1")
    with Node(**LONG) as node:
        client = node.connect(user).join(own=[1])
        node.connect(other).join(own=[1])
        site.sql(f"SELECT pgrelay.grant_remove({quote(user.name)}, 'own.*.1')")
        assert client.json()["groups_left"] == ["own-1"]
        errors, _ = node.connect(user).ask({"groups": {"own": [1]}})
        assert errors, "a right was remembered that has been taken away"
        before = questions(node)
        node.connect(other).join(own=[1])
        assert questions(node) == before, "somebody else was forgotten"
        revoke(user.token)
        assert client.wait_closed() == 1008
        assert status(node, user.token) == 401


def remembered_and_gone(node, user):
    """The token of a user who is remembered, but not in the database any more, of which nothing tells the node. The user is older than the
    node: the news of a new one, which may come behind the first answer, would make it forgotten."""
    assert status(node, user.token) == 101
    silently(f"DELETE FROM pgrelay.token WHERE user_id = {user.id}")
    assert status(node, user.token) == 101, "it was not remembered at all"
    return user.token


def test_all_is_forgotten_when_the_listen_session_is_lost():
    user = site.user("own.*.1")
    with Node(**LONG) as node:
        token = remembered_and_gone(node, user)
        site.sql("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = 'node'")
        eventually(lambda: status(node, token) == 401)
        node.wait_ready()
        assert status(node, token) == 401


def test_all_is_forgotten_on_sighup():
    user = site.user("own.*.1")
    with Node(**LONG) as node:
        token = remembered_and_gone(node, user)
        node.process.signal(signal.SIGHUP)
        eventually(lambda: status(node, token) == 401)


# ---- a right that goes while it is being asked about ----


def test_a_token_revoked_while_it_is_asked_about_keeps_no_session():
    """The answer is older than the revocation, and comes behind the news of it."""
    user = site.user("own.*.1")
    site.sql(f"""CREATE TABLE public.gate (shut boolean); INSERT INTO public.gate VALUES (true); GRANT SELECT ON public.gate TO PUBLIC;
        CREATE FUNCTION public.gated(token text) {SIGNATURE} VOLATILE AS $$BEGIN
        SELECT * INTO user_id, user_name, token_id, expires FROM pgrelay.authenticate(token);
        WHILE (SELECT shut FROM public.gate) LOOP PERFORM pg_sleep(0.01); END LOOP;
        IF user_id IS NOT NULL THEN RETURN NEXT; END IF; END$$""")
    with Node(authenticate_function="public.gated", query_timeout=f"{seconds(20)}s", **LONG) as node, Herd(node, [user.token]) as herd:
        def asleep():
            herd.step(0)
            return site.sql("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'") == "1"

        eventually(asleep, what="the token is being asked about")
        revoke(user.token)
        eventually(lambda: f"access of user {user.id} changed" in node.log, what="the node knows")
        site.sql("UPDATE public.gate SET shut = false")
        herd.wait(lambda v: v.closed is not None, timeout=15)
        assert herd.visitors[0].closed == (1008, "the token is not valid any more") and herd.visitors[0].user == user.id
        assert status(node, user.token) == 401, "the answer was remembered"


def test_tokens_revoked_while_their_users_connect_keep_no_session():
    """Whenever it happens: all sessions are closed, and from the first refusal on there is no more of them."""
    rounds = 12
    _, tokens = users("gone", rounds)
    with Node(**LONG) as node:
        for n, token in enumerate(tokens):
            clients, stop = [], threading.Event()

            def come():
                while not stop.is_set():
                    clients.append(node.dial(f"/websocket/?token={token}"))

            threads = [threading.Thread(target=come) for _ in range(3)]
            for t in threads:
                t.start()
            eventually(lambda: len(clients) > 3 + n, pause=0.001)
            revoke(token)
            eventually(lambda: any(c.status == 401 for c in clients))
            stop.set()
            for t in threads:
                t.join()
            assert {c.status for c in clients} == {101, 401}
            for c in clients:
                if c.status == 101:
                    assert c.json()["accept"] is True
                    assert c.wait_closed() == 1008
                c.close()


# ---- a herd ----


def test_a_herd_is_served_in_order_and_holds_up_nobody():
    """2,000 come at once, a user each, and the database takes its time for each."""
    count = 2000
    ids, tokens = users("herd", count)
    watcher = site.user("tick.*.*")
    site.sql("SELECT 1", "writer")  # its session takes no high descriptor
    site.sql(f"""CREATE FUNCTION public.unhurried(token text) {SIGNATURE} AS $$BEGIN
        PERFORM pg_sleep(0.0005); RETURN QUERY SELECT * FROM pgrelay.authenticate(token); END$$""")
    with Node(authenticate_function="public.unhurried", query_timeout=f"{seconds(30)}s", **QUIET) as node:
        client = node.connect(watcher).join(tick=["x"])
        seen = {"events": 0, "ready": 0, "pending": 0, "due": 0.0}
        with Herd(node, tokens, own) as herd:
            def meanwhile():
                if time.monotonic() < seen["due"] or herd.served in (0, count):
                    return
                site.emit("tick", "x", "1", {"n": seen["events"]})
                assert client.json() == {"n": seen["events"]}
                seen["events"] += 1
                ready, pending = node.get("/readyz"), node.metric("pgrelay_logins_pending")
                assert ready.status == 200, ready
                seen["ready"] += 1
                seen["pending"] = max(seen["pending"], pending)
                seen["due"] = time.monotonic() + 0.1

            herd.wait(timeout=100, meanwhile=meanwhile)
            assert [v.status for v in herd.visitors if v.status != 101] == []
            assert [v.user for v in herd.visitors] == ids
            assert all(v.joined == [f"own-{n + 1}"] for n, v in enumerate(herd.visitors))
            assert seen["events"] >= 2 and seen["pending"] > 0, seen
            # the order in which sockets become readable is the kernel's: a few may get ahead, but nobody falls far behind
            overtaken = max(v.served - v.asked for v in herd.visitors)
            assert overtaken < count / 4, f"one was served {overtaken} places behind its own"
        assert node.metric("pgrelay_auth_queries_total") < count


if __name__ == "__main__":
    main()
