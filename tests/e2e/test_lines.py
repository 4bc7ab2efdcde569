#!/usr/bin/env python3
"""100,000 lines of one job arrive complete and in order at three different clients."""
import os
import sys

from harness import HERE, Process, eventually, main, need_module, node_environment, site

COUNT = 100_000
WANT = [f"{n} {'x' * (n % 60)}" for n in range(1, COUNT + 1)]
SCRIPT = f"""awk 'BEGIN {{ x = sprintf("%60s", ""); gsub(/ /, "x", x); for (n = 1; n <= {COUNT}; n++) print n " " substr(x, 1, n % 60) }}'"""

PYTHON = """
import asyncio, json, sys, websockets

async def main(url, job):
    lines = []
    async with websockets.connect(url) as ws:
        await ws.send(json.dumps({"groups": {"job_events": [job], "jobs": ["status_changed"]}}))
        async for text in ws:
            data = json.loads(text)
            if data.get("type") == "job_event":
                lines.append(data["stdout"])
            elif data.get("finished") and data["id"] == job:
                print("\\n".join([*lines, data["status"]]))
                return

asyncio.run(main(sys.argv[1], int(sys.argv[2])))
"""


def assert_complete(process, extra):
    assert process.wait(120) == 0, process.describe()
    lines = process.out.splitlines()
    for n, (got, want) in enumerate(zip(lines, WANT)):
        assert got == want, f"{process.name}: line {n + 1} is {got!r} instead of {want!r}\n{tail_of(process)}"
    assert lines[COUNT:] == extra, f"{process.name}: {len(lines)} lines, at the end {lines[COUNT:][:5]}\n{tail_of(process)}"


def tail_of(process):
    return process.err[-2000:]


# 70 MB in a few seconds: on a busy machine a client may be far behind, which is not what is tested here.
site.node_settings = {"queue_limit": "256MB"}


def test_100000_lines_at_three_clients():
    need_module("websockets", "python3-websockets")
    environment = node_environment()
    job = site.job()
    node, token = site.node, site.all_seeing.token
    url = node.url(f"/websocket/?token={token}")
    clients = [
        Process([sys.executable, "-c", PYTHON, url, str(job)], name="python-websockets"),
        Process(["node", os.path.join(HERE, "clients", "count_ws.cjs"), url, str(job)], environment, name="node-ws"),
        site.start("watch", f"job_events-{job}", "--until-finished", env={"PGRELAY_URL": node.url(), "PGRELAY_TOKEN": token}),
    ]
    eventually(lambda: node.metric("pgrelay_subscriptions") >= 5, what="all three have joined")
    run = site.start("run", "--quiet", "--job", job, "--", "sh", "-c", SCRIPT, user="writer")
    assert run.wait(120) == 0, run.describe()
    assert int(site.sql(f"SELECT count(*) FROM pgrelay.job_event WHERE job_id = {job}")) == COUNT
    for client, extra in zip(clients, (["successful"], ["successful"], [])):
        assert_complete(client, extra)


def test_100000_lines_past_pgrelay_run_s_own_output():
    """Without --quiet the output also goes through, unchanged."""
    run = site.start("run", "--", "sh", "-c", SCRIPT, user="writer")
    assert_complete(run, [])


if __name__ == "__main__":
    main(limit=300)
