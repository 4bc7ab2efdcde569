#!/usr/bin/env python3
"""Joining and leaving groups: the table of protocol.md, 4.4, and what the database allows."""
from harness import Node, eventually, main, site

DENIED = {"error": "access denied to channel"}
NO_OBJECT = {"error": "message is not a JSON object"}
UUID = "550e8400-e29b-41d4-a716-446655440000"


def client():
    return site.node.connect(site.all_seeing)


def reply(current, left=(), joined=()):
    return {"groups_current": sorted(current), "groups_left": sorted(left), "groups_joined": sorted(joined)}


def ask(c, groups, **more):
    errors, answer = c.ask({"groups": groups, **more})
    assert not errors, errors
    return answer


# ---- sets ----


def test_a_set_is_joined_and_the_reply_names_it():
    answer = ask(client(), {"jobs": ["status_changed", "summary"], "job_events": [123, "456"], "control": ["limit_reached_1"]})
    names = ["jobs-status_changed", "jobs-summary", "job_events-123", "job_events-456", "control-limit_reached_1"]
    assert answer == reply(names, joined=names), answer


def test_the_next_set_replaces_the_former_one():
    c = client()
    ask(c, {"job_events": [1, 2]})
    assert ask(c, {"job_events": [2, 3]}) == reply(["job_events-2", "job_events-3"], ["job_events-1"], ["job_events-3"])
    for key in ("1", "2", "3"):
        site.emit("job_events", "x", key, {"n": key})
    assert c.take(2) == [{"n": "2"}, {"n": "3"}]


def test_the_same_set_again_changes_nothing():
    c = client()
    ask(c, {"job_events": [1, 2]})
    assert ask(c, {"job_events": [2, 1]}) == reply(["job_events-1", "job_events-2"])


def test_an_empty_set_leaves_everything():
    c = client()
    ask(c, {"job_events": [1, 2]})
    assert ask(c, {}) == reply([], ["job_events-1", "job_events-2"])
    site.emit("job_events", "x", "1", {"n": 1})
    ask(c, {"job_events": [3]})
    site.emit("job_events", "x", "3", {"n": 3})
    assert c.json() == {"n": 3}


def test_an_empty_list_joins_nothing():
    assert ask(client(), {"job_events": [], "jobs": ["summary"]}) == reply(["jobs-summary"], joined=["jobs-summary"])


def test_a_number_and_its_string_are_one_group():
    c = client()
    assert ask(c, {"job_events": [42, "42", 42]}) == reply(["job_events-42"], joined=["job_events-42"])
    site.emit("job_events", "x", "42", {"n": 1})
    site.emit("job_events", "x", "42", {"n": 2})
    assert c.take(2) == [{"n": 1}, {"n": 2}]


def test_a_uuid_is_a_key():
    c = client()
    ask(c, {"machines": [UUID]})
    site.emit("machines", "update", "other", {"n": 0})
    site.emit("machines", "update", UUID, {"n": 1})
    site.emit("machines", UUID, "other", {"n": 2})
    site.emit("machines", "create", UUID, {"n": 3})
    assert c.take(2) == [{"n": 1}, {"n": 3}]


def test_any_other_value_is_an_action():
    c = client()
    ask(c, {"machines": ["update", "12x"]})
    site.emit("machines", "create", "update", {"n": 0})
    site.emit("machines", "update", "a.b.c", {"n": 1})
    site.emit("machines", "12x", "", {"n": 2})
    assert c.take(2) == [{"n": 1}, {"n": 2}]


def test_an_event_comes_once_however_many_groups_match():
    c = client()
    ask(c, {"machines": ["update", 7]})
    site.emit("machines", "update", "7", {"n": 1})
    site.emit("machines", "update", "7", {"n": 2})
    assert c.take(2) == [{"n": 1}, {"n": 2}]


def test_big_numbers_and_negative_ones():
    c = client()
    big = 9223372036854775807
    answer = ask(c, {"job_events": [big, "99999999999999999999", 0]})
    assert f"job_events-{big}" in answer["groups_current"] and "job_events-99999999999999999999" in answer["groups_current"], answer
    site.emit("job_events", "x", "99999999999999999999", {"n": 1})
    assert c.json() == {"n": 1}


def test_the_set_is_in_force_when_the_reply_comes():
    c = client()
    for n in range(50):
        ask(c, {"job_events": [n]})
        site.emit("job_events", "x", str(n), {"n": n})
        assert c.json() == {"n": n}


def test_questions_sent_without_waiting_are_answered_in_order():
    c = client()
    for n in range(200):
        c.send_json({"groups": {"job_events": [n]}})
    for n in range(200):
        answer = c.json()
        assert answer["groups_current"] == [f"job_events-{n}"], answer
    site.emit("job_events", "x", "198", {"n": 198})
    site.emit("job_events", "x", "199", {"n": 199})
    assert c.json() == {"n": 199}


def test_two_clients_have_groups_of_their_own():
    a, b = client(), client()
    ask(a, {"job_events": [1]})
    ask(b, {"job_events": [2]})
    ask(b, {})
    ask(b, {"job_events": [3]})
    for key in ("2", "1", "3"):
        site.emit("job_events", "x", key, {"n": key})
    assert a.json() == {"n": "1"}
    assert b.json() == {"n": "3"}


# ---- the table of errors: nothing changes ----


def assert_nothing_changes(text, error):
    c = client()
    ask(c, {"job_events": [1]})
    c.send_text(text)
    assert c.json() == error, text
    site.emit("job_events", "x", "1", {"n": 1})
    assert c.json() == {"n": 1}
    assert ask(c, {"job_events": [1]}) == reply(["job_events-1"])


def test_groups_that_are_no_object():
    for value in ("[]", '["jobs"]', '"jobs"', "1", "true", "null"):
        assert_nothing_changes('{"groups": %s}' % value, DENIED)


def test_a_value_that_is_no_list():
    for value in ('"status_changed"', "1", "{}", "null", "true"):
        assert_nothing_changes('{"groups": {"job_events": [2], "jobs": %s}}' % value, DENIED)


def test_an_element_that_is_neither_string_nor_integer():
    for element in ("1.5", "null", "true", "[]", "{}", '["x"]', "1e2"):
        assert_nothing_changes('{"groups": {"job_events": [2, %s]}}' % element, DENIED)


def test_what_is_not_json():
    for text in ("", "hello", "{", '{"groups"', '{"groups": {}} x', "{'groups': {}}", '{"groups": {}', "\x00", "\ufeff{}"):
        assert_nothing_changes(text, NO_OBJECT)


def test_json_that_is_no_object():
    for text in ("[]", "1", '"groups"', "null", "true", '[{"groups": {}}]'):
        assert_nothing_changes(text, NO_OBJECT)


def test_json_nested_without_end():
    assert_nothing_changes("[" * 500000, NO_OBJECT)
    assert_nothing_changes('{"groups":' * 50000, NO_OBJECT)


def test_an_object_without_groups_is_ignored():
    c = client()
    ask(c, {"job_events": [1]})
    for text in ("{}", '{"xrftoken": "x"}', '{"group": {"jobs": []}}', '{"status": true}'):
        c.send_text(text)
    assert ask(c, {"job_events": [1]}) == reply(["job_events-1"])


def test_too_many_groups():
    c = client()
    ask(c, {"job_events": [1]})
    c.send_json({"groups": {"job_events": list(range(1, 1002))}})
    assert c.json() == {"error": "too many groups: at most 1000"}
    site.emit("job_events", "x", "1", {"n": 1})
    assert c.json() == {"n": 1}
    answer = ask(c, {"job_events": list(range(1, 1001))})
    assert len(answer["groups_current"]) == 1000
    assert len(answer["groups_joined"]) == 999


def test_the_limit_of_groups_is_a_setting():
    with Node(max_groups=3) as node:
        c = node.connect(site.all_seeing)
        c.send_json({"groups": {"a": [1, 2], "b": [3, 4]}})
        assert c.json() == {"error": "too many groups: at most 3"}
        ask(c, {"a": [1, 2], "b": [3]})


def test_names_and_values_that_make_no_pattern():
    c = client()
    for groups in ({"": [1]}, {"a b": [1]}, {"a.b": [1]}, {"x" * 64: [1]}, {"jobs": ["a b"]}, {"jobs": [""]}, {"jobs": ["x" * 64]},
                   {"jobs": ["a.b"]}, {"jobs": ["a\nb"]}, {"jobs\n": [1]}, {"jöbs": [1]}, {"jobs": ["\U0001f600"]}, {"a": ["b\u0000c"]}):
        c.send_json({"groups": {"job_events": [1], **groups}})
        assert "error" in (first := c.json()), (groups, first)
        assert first["error"].startswith("access denied to channel"), first
        if first != DENIED:
            assert c.json()["groups_current"] == ["job_events-1"], groups
    assert ask(c, {"job_events": [1]})["groups_current"] == ["job_events-1"]


def test_lone_surrogates_and_nul_do_no_harm():
    for text in ('{"groups": {"jobs": ["\\ud800"]}}', '{"groups": {"a\\u0000b": [1]}}', '{"groups\\u0000": {}, "xrftoken": "\\u0000"}'):
        c = client()
        c.send_text(text)
        c.assert_alive()


def test_a_repeated_name_does_no_harm():
    c = client()
    c.send_text('{"groups": {"job_events": [1]}, "groups": {"job_events": [2]}}')
    answer = c.json()
    assert "error" in answer or answer["groups_current"] in (["job_events-1"], ["job_events-2"]), answer


# ---- grants ----


def test_a_group_not_granted_is_denied():
    c = site.node.connect(site.user("job_events.*.42"))
    errors, answer = c.ask({"groups": {"job_events": [123]}})
    assert errors == ["access denied to channel job_events for resource id 123"], errors
    assert answer == reply([]), answer
    site.emit("job_events", "x", "123", {"n": 123})
    errors, answer = c.ask({"groups": {"job_events": [42]}})
    assert not errors and answer == reply(["job_events-42"], joined=["job_events-42"]), answer
    site.emit("job_events", "x", "42", {"n": 42})
    assert c.json() == {"n": 42}


def test_of_several_the_granted_ones_are_joined():
    c = site.node.connect(site.user("job_events.*.42", "jobs.status_changed.*"))
    errors, answer = c.ask({"groups": {"job_events": [41, 42, 43], "jobs": ["summary", "status_changed"]}})
    assert sorted(errors) == [
        "access denied to channel job_events for resource id 41",
        "access denied to channel job_events for resource id 43",
        "access denied to channel jobs for resource id summary",
    ], errors
    names = ["job_events-42", "jobs-status_changed"]
    assert answer == reply(names, joined=names), answer


def test_a_group_partly_granted_yields_that_part():
    c = site.node.connect(site.user("jobs.status_changed.7", "job_events.runner_on_ok.*"))
    ask(c, {"jobs": ["status_changed"], "job_events": [5]})
    site.emit("jobs", "status_changed", "6", {"n": "no"})
    site.emit("job_events", "runner_on_failed", "5", {"n": "no"})
    site.emit("job_events", "runner_on_ok", "6", {"n": "no"})
    site.emit("job_events", "runner_on_ok", "5", {"n": 1})
    site.emit("jobs", "status_changed", "7", {"n": 2})
    assert c.take(2) == [{"n": 1}, {"n": 2}]


def test_nothing_a_client_may_write_shows_more_than_its_grants():
    c = site.node.connect(site.user("job_events.*.42"))
    for groups in ({"job_events": ["*"]}, {"*": ["*"]}, {"*": [42]}, {"*": [43]}, {"job_events": ["*.43"]}, {"job_events": ["x.43"]},
                   {"job_events.*": [43]}, {"job_events": ["%2A"]}, {"*.*": ["*"]}, {"job_events": ["43' OR true --", "{43}", '"43"']}):
        ask_any(c, groups)
        site.emit("job_events", "x", "43", {"secret": 43})
        site.emit("jobs", "x", "42", {"secret": 42})
        ask(c, {"job_events": [42]})
        site.emit("job_events", "x", "42", {"n": 42})
        assert c.take_until(lambda m: m == {"n": 42}) == [{"n": 42}], groups


def ask_any(c, groups):
    """Asks; all answers up to the reply, or the error that stands alone."""
    c.send_json({"groups": groups})
    answers = [c.json()]
    while "groups_current" not in answers[-1] and answers[-1] != DENIED:
        answers.append(c.json())
    return answers


def test_a_grant_added_counts_from_the_next_question_on():
    user = site.user()
    c = site.node.connect(user)
    errors, _ = c.ask({"groups": {"job_events": [1]}})
    assert errors
    site.pgrelay("grant", "add", user.name, "job_events.*.1")
    eventually(lambda: not c.ask({"groups": {"job_events": [1]}})[0], what="the new grant counts")
    site.emit("job_events", "x", "1", {"n": 1})
    assert c.json() == {"n": 1}


def test_a_grant_removed_ends_what_it_allowed():
    user = site.user("job_events.*.1", "job_events.*.2")
    c = site.node.connect(user)
    ask(c, {"job_events": [1, 2]})
    site.pgrelay("grant", "remove", user.name, "job_events.*.1")

    def is_over():
        site.emit("job_events", "x", "1", {"n": 1})
        site.emit("job_events", "x", "2", {"n": 2})
        return c.json() == {"n": 2} or (c.json(), False)[1]

    eventually(is_over, what="events of the removed grant stop")


# ---- status ----


def test_status_tells_a_late_comer_the_job_s_status():
    job = site.job(name="late", status="running")
    other = site.job(name="other", status="running")
    site.sql(f"UPDATE pgrelay.job SET status = 'successful' WHERE id = {job}", "writer")
    c = client()
    assert ask(c, {"job_events": [job, other], "schedules": ["changed"]}, status=True)["groups_current"]
    messages = {m["id"]: m for m in c.take(2)}
    assert set(messages) == {job, other}
    assert (messages[job]["status"], messages[other]["status"]) == ("successful", "running")
    for m in messages.values():
        assert m["group_name"] == "jobs" and m["unified_job_id"] == m["id"] and m["type"] == "job", m


def test_status_is_told_only_of_jobs_just_asked_for_and_known():
    job, other = site.job(status="running"), site.job(status="running")
    c = client()
    ask(c, {"job_events": [job]}, status=True)
    assert c.json()["id"] == job
    ask(c, {"job_events": [other, 999999999], "project_update_events": [job]}, status=True)
    assert c.json()["id"] == other
    site.emit("job_events", "x", str(other), {"n": 1})
    assert c.json() == {"n": 1}


def test_status_of_other_kinds():
    job = site.job(kind="project_update", status="running")
    c = client()
    ask(c, {"project_update_events": [job]}, status=True)
    assert (m := c.json())["id"] == job and m["type"] == "project_update", m


def test_status_is_not_told_of_what_is_not_granted():
    job, other = site.job(status="running"), site.job(status="running")
    c = site.node.connect(site.user(f"job_events.*.{job}"))
    errors, _ = c.ask({"groups": {"job_events": [job, other]}, "status": True})
    assert len(errors) == 1
    assert c.json()["id"] == job
    ask(c, {"job_events": [job]})


def test_status_false_or_odd_tells_nothing():
    job = site.job(status="running")
    for value in (False, None, 0, "no", []):
        c = client()
        ask(c, {"job_events": [job]}, status=value)
        site.emit("job_events", "x", str(job), {"n": 1})
        assert c.json() == {"n": 1}, value


if __name__ == "__main__":
    main()
