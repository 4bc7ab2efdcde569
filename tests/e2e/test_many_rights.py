#!/usr/bin/env python3
"""Users with hundreds of grants: what these leave of what a session asks for is bounded. docs/drp.md, section 2; protocol.md, 4.4 and 5."""
from drp import settle, topics, watcher
from harness import Node, main, quote, seconds, site
from stream import Stream

MOST = 10_000  # patterns that grants may leave a session with the default of max_groups
site.node_settings = {"connection_events": "off"}


def grant(user, patterns):
    """All at once, so that sessions are asked about again once."""
    values = ", ".join(quote(pattern) for pattern in patterns)
    site.sql(f"SELECT count(pgrelay.grant_add({quote(user.name)}, p)) FROM unnest(ARRAY[{values}]) p", "owner")


def make_user(patterns):
    user = site.user("end.*.*")
    grant(user, patterns)
    return user


def types(first, last):
    return [f"t{n}.*.*" for n in range(first, last)]


def actions(first, last):
    return "*." + ",".join(f"a{n}" for n in range(first, last)) + ".*"


# ---- Digital Rebar ----


def assert_too_many(notice, key):
    assert (notice.action, notice.key) == ("error", key) and "too many patterns" in notice.object["Message"], notice
    assert "grants" in notice.object["Message"] and "max_groups" in notice.object["Message"], notice


def test_a_registration_that_grants_make_too_large_is_refused_and_those_beside_it_are_not():
    """All commands come at once, and share a question."""
    client = watcher(make_user(types(1, 121)))
    invalid = site.node.metric("pgrelay_messages_invalid_total")
    large = actions(0, 90)  # 121 grants
    commands = ["t1.*.*", large, "t2.*.*", large, "t3.a200.*"]
    for command in commands:
        client.command("register", command)
    for command in commands:
        notices = client.take_acknowledgement("register", command)
        assert len(notices) == (command == large), notices
        for notice in notices:
            assert_too_many(notice, large)
    assert site.node.metric("pgrelay_messages_invalid_total") == invalid + 2
    assert site.node.metric("pgrelay_subscriptions") == 3
    for type, action in (("t1", "x"), ("t3", "a200"), ("t3", "a5"), ("t2", "y")):
        site.emit(type, action, "k", {})
    assert topics(settle(client)) == ["t1.x.k", "t3.a200.k", "t2.y.k"]


def test_all_registrations_of_a_session_count_together():
    client = watcher(make_user(types(1, 121)), actions(0, 50))
    (notice,) = client.ask("register", actions(50, 100))
    assert_too_many(notice, actions(50, 100))
    client.register(actions(50, 80), actions(0, 50))  # the latter is there already
    assert site.node.metric("pgrelay_subscriptions") == 80 * 121
    client.deregister(actions(0, 50)).register(actions(80, 120))
    assert site.node.metric("pgrelay_subscriptions") == 70 * 121
    for action in ("a49", "a50", "a119"):
        site.emit("t7", action, "k", {})
    assert topics(settle(client)) == ["t7.a50.k", "t7.a119.k"]


def test_the_bound_grows_with_max_groups():
    with Node(max_groups=1100, connection_events="off") as node:
        client = watcher(make_user(types(1, 121)), actions(0, 90), node=node)
        (notice,) = client.ask("register", "*.b.*")
        assert_too_many(notice, "*.b.*")


def test_grants_that_make_registrations_too_large_show_nothing_until_some_are_taken_back():
    user = make_user(types(1, 61))
    client = watcher(user, actions(0, 90), "t1.x.*", actions(100, 101))
    registered = [actions(0, 90), "t1.x.*", actions(100, 101)]
    grant(user, types(61, 121))
    assert_too_many(client.notice(), "")
    rights = client.notice()
    assert rights.action == "rights" and rights.object == {"Denied": registered, "Changed": []}, rights
    assert site.node.metric("pgrelay_subscriptions") == 0
    client.register("t2.y.*").deregister(registered[0])
    rights = client.notice()
    assert rights.action == "rights" and rights.object == {"Denied": [], "Changed": registered[1:]}, rights
    for type, action in (("t1", "x"), ("t1", "a1"), ("t120", "a100"), ("t2", "y")):
        site.emit(type, action, "k", {})
    assert topics(settle(client)) == ["t1.x.k", "t120.a100.k", "t2.y.k"]


def test_grants_taken_away_bring_back_what_had_become_too_large():
    user = make_user(types(1, 61))
    client = watcher(user, actions(0, 90))
    grant(user, types(61, 121))
    assert_too_many(client.notice(), "")
    assert client.notice().object == {"Denied": [actions(0, 90)], "Changed": []}
    values = ", ".join(quote(pattern) for pattern in types(2, 121))
    site.sql(f"SELECT count(pgrelay.grant_remove({quote(user.name)}, p)) FROM unnest(ARRAY[{values}]) p", "owner")
    assert client.notice().object == {"Denied": [], "Changed": [actions(0, 90)]}
    site.emit("t2", "a1", "k", {})
    site.emit("t1", "a1", "k", {})
    assert topics(settle(client)) == ["t1.a1.k"]


# ---- AWX ----


def keys(first, last):
    return [f"demo.*.{n}" for n in range(first, last)]


def values(count):
    return [f"v{n}" for n in range(count)]


TOO_MANY = {"error": f"too many patterns: this user's grants leave more than {MOST} of these groups; ask for fewer groups"}


def test_groups_of_which_grants_leave_too_much_change_nothing():
    client = site.node.connect(make_user(keys(0, 120)))
    client.ask({"groups": {"demo": [1]}})
    invalid = site.node.metric("pgrelay_messages_invalid_total")
    client.send_json({"groups": {"demo": values(90)}})
    assert client.json() == TOO_MANY
    assert site.node.metric("pgrelay_messages_invalid_total") == invalid + 1
    site.emit("demo", "x", "1", {"n": 1})
    assert client.json() == {"n": 1}
    errors, answer = client.ask({"groups": {"demo": values(80)}})
    assert not errors and len(answer["groups_current"]) == 80, (errors, answer)
    site.emit("demo", "v79", "119", {"n": 2})
    assert client.json() == {"n": 2}


def test_grants_that_make_groups_too_large_end_them_and_the_client_is_told():
    user = make_user(keys(0, 100))
    client = site.node.connect(user)
    client.ask({"groups": {"demo": values(90)}})
    grant(user, keys(100, 200))
    assert client.json() == TOO_MANY
    answer = client.json()
    assert answer["groups_current"] == [] and len(answer["groups_left"]) == 90, answer
    errors, answer = client.ask({"groups": {"demo": values(10)}})
    assert not errors and len(answer["groups_current"]) == 10, (errors, answer)


# ---- server-sent events ----


def stream(user, count):
    groups = ",".join(f"demo-{value}" for value in values(count))
    client = Stream(site.node.port, groups, user.token, timeout=seconds(20))
    site.clients.append(client)
    return client


def test_a_stream_of_which_grants_leave_too_much_is_400():
    user = make_user(keys(0, 120))
    refused = stream(user, 90)
    assert refused.status == 400 and "too many patterns" in refused.body, (refused.status, refused.body)
    assert stream(user, 80).status == 200


def test_grants_that_make_a_stream_s_groups_too_large_end_them_and_the_client_is_told():
    user = make_user(keys(0, 100))
    client = stream(user, 90)
    assert client.groups()[1]["groups_current"]
    grant(user, keys(100, 200))
    errors, told = client.groups()
    assert errors == [TOO_MANY["error"]], errors
    assert told["groups_current"] == [] and len(told["groups_left"]) == 90, told


if __name__ == "__main__":
    main()
