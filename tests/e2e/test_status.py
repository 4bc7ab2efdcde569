#!/usr/bin/env python3
"""One picture of all nodes: GET /api/v1/cluster and `pgrelay status`."""
import contextlib
import json
import signal

from harness import Node, eventually, main, seconds, site

SECRET = "the secret of the cluster in this test"


@contextlib.contextmanager
def cluster(count, secret=SECRET, **settings):
    with contextlib.ExitStack() as stack:
        env = {"PGRELAY_SECRET": secret} if secret else None
        nodes = [stack.enter_context(Node(env=env, node=f"web{n}", wait=False, **settings)) for n in range(count)]
        for node in nodes:
            node.wait_ready()
        if secret:
            eventually(lambda: all(node.metric("pgrelay_links") == count - 1 for node in nodes), what="all nodes are linked")
        yield nodes


def picture(node, user):
    reply = node.get("/api/v1/cluster", headers={"Authorization": f"Bearer {user.token}"})
    assert reply.status == 200, reply
    assert reply.headers["content-type"].startswith("application/json"), reply.headers
    return json.loads(reply.body)


def by_name(told):
    return {node["node"]: node for node in told["nodes"]}


def operator():
    return site.user("cluster.status.*")


def test_any_node_knows_all_of_them():
    with cluster(3) as nodes:
        user = operator()
        client = nodes[2].connect(site.all_seeing)
        for asked, node in enumerate(nodes):
            told = picture(node, user)
            assert told["cluster"] == "default" and told["node"] == f"web{asked}", told
            found = by_name(told)
            assert set(found) == {"web0", "web1", "web2"}, found
            for name, one in found.items():
                assert one["kind"] == ("self" if name == told["node"] else "peer"), one
                assert one["state"] == "online" and one["answered"] is True and one["ready"] is True, one
                assert one["address"] == f"127.0.0.1:{nodes[int(name[3:])].port}", one
                assert abs(one["skew_ms"]) < seconds(5000) and one["heard_ms"] < seconds(10000), one
                assert one["uptime_s"] >= 0 and one["listener_lag_ms"] >= 0, one
                assert {(link["node"], link["state"]) for link in one["links"]} == {
                    (other, "open") for other in found if other != name}, one
                assert all(link["dialled"] == (name < link["node"]) for link in one["links"]), one
            assert sum(one["announcer"] for one in found.values()) <= 1
            assert found["web2"]["sessions"] == 1 and found["web0"]["sessions"] == 0, found
        eventually(lambda: all(link["rtt_us"] for one in picture(nodes[0], user)["nodes"] for link in one["links"]),
                   what="each link has its round trip")
        client.close()


def test_a_node_that_does_not_answer_is_shown_as_such():
    with cluster(3) as nodes:
        user = operator()
        nodes[1].process.signal(signal.SIGSTOP)
        try:
            found = by_name(picture(nodes[0], user))
            assert found["web1"]["answered"] is False and found["web1"]["kind"] == "peer", found["web1"]
            assert "sessions" not in found["web1"] and found["web1"]["address"].endswith(f":{nodes[1].port}")
            assert found["web2"]["answered"] is True, found["web2"]
            eventually(lambda: by_name(picture(nodes[0], user))["web1"]["state"] == "dead", timeout=40, what="it is dead")
            link = next(link for link in by_name(picture(nodes[0], user))["web0"]["links"] if link["node"] == "web1")
            assert link["state"] == "none" and link["error"], link
        finally:
            nodes[1].process.signal(signal.SIGCONT)
        eventually(lambda: by_name(picture(nodes[0], user))["web1"]["answered"], timeout=40, what="it answers again")


def test_without_a_secret_nodes_know_of_each_other():
    with cluster(2, secret=None) as nodes:
        user = operator()
        eventually(lambda: len(by_name(picture(nodes[0], user))) == 2, what="the other one has been heard")
        found = by_name(picture(nodes[0], user))
        assert found["web0"]["answered"] is True and found["web0"]["links"] == []
        assert found["web1"]["kind"] == "unsigned" and found["web1"]["answered"] is False, found["web1"]


def test_who_may_see_it():
    with cluster(1) as (node,):
        assert node.get("/api/v1/cluster").status == 401
        stranger = site.user("job_events.*.*")
        reply = node.get("/api/v1/cluster", headers={"Authorization": f"Bearer {stranger.token}"})
        assert reply.status == 403 and "cluster.status" in json.loads(reply.body)["error"], reply
        narrow = site.user("cluster.status.web1")
        assert node.get("/api/v1/cluster", headers={"Authorization": f"Bearer {narrow.token}"}).status == 403
        assert picture(node, site.all_seeing)["node"] == "web0"
        assert node.get("/api/v1/cluster", method="POST", body=b"{}").status in (404, 405)


def test_the_command():
    with cluster(2) as nodes:
        user = operator()
        url = f"http://127.0.0.1:{nodes[0].port}"
        done = site.pgrelay("status", "--url", url, "--token", user.token)
        lines = done.stdout.splitlines()
        assert lines[0] == 'cluster "default", as node "web0" sees it', lines
        assert any(line.split()[:4] == ["web0", "self", "online", "yes"] for line in lines), lines
        assert any(line.split()[:4] == ["web1", "peer", "online", "yes"] for line in lines), lines
        assert any(line.split()[:3] == ["web0", "web1", "open"] for line in lines), lines
        told = json.loads(site.pgrelay("status", "--url", url, "--token", user.token, "--json").stdout)
        assert set(by_name(told)) == {"web0", "web1"}
        refused = site.pgrelay("status", "--url", url, "--token", site.user("job_events.*.*").token, status=1)
        assert "cluster.status" in refused.stderr, refused.stderr
        refused = site.pgrelay("status", "--url", url, "--token", "none", status=1)
        assert "token" in refused.stderr, refused.stderr
        unreached = site.pgrelay("status", "--url", "http://127.0.0.1:9", "--token", user.token, status=1)
        assert "127.0.0.1:9" in unreached.stderr, unreached.stderr


if __name__ == "__main__":
    main()
