#!/usr/bin/env python3
"""Programs written for AWX, unchanged but for URL and token, follow a job made by `pgrelay run`."""
import asyncio
import json
import os
import queue
import re
import subprocess
import sys
import threading

from harness import HERE, Process, eventually, main, need_module, node_environment, seconds, site

LINES = [f"line {n}" for n in range(1, 51)]
COMMAND = ["sh", "-c", "for n in $(seq 50); do echo line $n; done"]


def program(name):
    """A client program with our URL and a token in it; its path."""
    with open(os.path.join(HERE, "clients", name)) as f:
        text = f.read()
    port = site.node.port
    for theirs, ours in (("wss://awx.example.com", f"ws://127.0.0.1:{port}"), ("https://awx.example.com", f"http://127.0.0.1:{port}"),
                         ("YOUR_API_TOKEN", site.all_seeing.token), ("YOUR_TOKEN", site.all_seeing.token)):
        text = text.replace(theirs, ours)
    path = os.path.join(site.folder, name)
    with open(path, "w") as f:
        f.write(text)
    return path


def python(name):
    need_module("websocket", "python3-websocket")
    return Process([sys.executable, "-u", program(name)], name=name)


def node(name, *options):
    env = node_environment()
    return Process(["node", *options, program(name)], env, name=name)


def joined(groups):
    eventually(lambda: site.node.metric("pgrelay_subscriptions") == groups, what=f"the program has joined {groups} groups")


def run_job_123():
    site.pgrelay("run", "--quiet", "--job", 123, "--", *COMMAND, user="writer")


def make_job_123():
    site.sql("DELETE FROM pgrelay.job WHERE id = 123")
    site.job(id=123, name="monitored")


def assert_followed(output, form, last):
    """The job's lines are all there, in order, and its end comes after them."""
    lines = output.splitlines()
    got = [line for line in lines if re.fullmatch(form.replace("LINE", "line [0-9]+"), line)]
    assert got == [form.replace("\\", "").replace("LINE", want) for want in LINES], output
    ends = [n for n, line in enumerate(lines) if re.match(last, line)]
    assert ends and ends[0] > lines.index(got[-1]), output


# ---- Python ----


def test_the_simple_python_program():
    make_job_123()
    client = python("monitor_simple.py")
    client.wait_for("WebSocket connected")
    client.wait_for("groups_current")
    run_job_123()
    client.wait_for("'status': 'successful'")
    received = [line for line in client.out.splitlines() if line.startswith("Received: ")]
    events = [m for m in map(eval_message, received) if m.get("type") == "job_event"]
    assert [m["stdout"] for m in events] == LINES, events
    assert [m["counter"] for m in events] == list(range(1, 51))
    site.node.stop()
    client.wait_for("WebSocket closed")
    assert client.wait() == 0
    assert "Error" not in client.out, client.out


def eval_message(line):
    return eval(line.removeprefix("Received: "), {"__builtins__": {}, "None": None, "True": True, "False": False})


def test_the_python_class_ends_by_itself_when_the_job_has_ended():
    make_job_123()
    client = python("monitor_class.py")
    client.wait_for("WebSocket connected")
    joined(2)
    run_job_123()
    assert client.wait() == 0, client.describe()
    assert_followed(client.out, "LINE", "Job 123: successful")
    assert "Job 123: running" in client.out, client.out
    assert client.out.splitlines()[-1] == "Job monitoring complete", client.out
    assert "error" not in client.out, client.out


def test_the_python_class_sees_a_job_fail():
    make_job_123()
    client = python("monitor_class.py")
    joined(2)
    site.pgrelay("run", "--quiet", "--job", 123, "--", "false", user="writer", status=1)
    assert client.wait() == 0, client.describe()
    assert "Job 123: failed" in client.out, client.out


def test_python_websockets():
    need_module("websockets", "python3-websockets")
    import websockets

    job = site.job()

    async def follow():
        url = site.node.url(f"/websocket/?token={site.all_seeing.token}")
        async with websockets.connect(url) as ws:
            assert json.loads(await ws.recv())["accept"] is True
            await ws.send(json.dumps({"groups": {"job_events": [job], "jobs": ["status_changed"]}}))
            assert "groups_current" in json.loads(await ws.recv())
            run = site.start("run", "--quiet", "--job", job, "--", *COMMAND, user="writer")
            lines = []
            async for text in ws:
                message = json.loads(text)
                if message["type"] == "job_event":
                    lines.append(message["stdout"])
                elif message["status"] == "successful":
                    break
            assert run.wait() == 0, run.describe()
            pong = await ws.ping()
            await pong
        assert ws.close_code == 1000, ws.close_code
        return lines

    assert asyncio.run(asyncio.wait_for(follow(), seconds(60))) == LINES


# ---- node ----


def test_the_javascript_program_in_node_with_ws():
    make_job_123()
    client = node("monitor.js", "--require", os.path.join(HERE, "clients", "use_ws.cjs"))
    joined(2)
    run_job_123()
    assert client.wait() == 0, client.describe()
    assert_followed(client.out, r"\[verbose\] LINE", "Job status: successful")
    assert client.out.splitlines()[-1] == "Job finished", client.out


def test_the_javascript_program_in_node_with_its_own_websocket():
    """node 22 has one; 20 has it behind a flag; with older ones there is nothing to prove."""
    env = node_environment()
    options = []
    probe = ["node", "-e", "process.exit(typeof WebSocket === 'function' ? 0 : 1)"]
    if subprocess.run(probe, env=env, stderr=subprocess.DEVNULL).returncode != 0:
        options = ["--experimental-websocket"]
        if subprocess.run([probe[0], *options, *probe[1:]], env=env, stderr=subprocess.DEVNULL).returncode != 0:
            print("# this node has no WebSocket of its own")
            return
    make_job_123()
    client = node("monitor.js", *options)
    joined(2)
    run_job_123()
    assert client.wait() == 0, client.describe()
    assert_followed(client.out, r"\[verbose\] LINE", "Job status: successful")


def test_the_javascript_connection_program():
    client = node("connect.js", "--require", os.path.join(HERE, "clients", "use_ws.cjs"))
    client.wait_for("WebSocket connected")
    client.wait_for("accept: true")
    site.node.stop()
    client.wait_for("WebSocket closed")
    assert client.wait() == 0, client.describe()


def test_ws_is_refused_with_an_error_it_understands():
    path = program("connect.js")
    with open(path) as f:
        text = f.read().replace(site.all_seeing.token, "wrong")
    with open(path, "w") as f:
        f.write(text)
    client = Process(["node", "--require", os.path.join(HERE, "clients", "use_ws.cjs"), path], node_environment(), name="refused")
    client.wait_for("WebSocket closed")
    assert "401" in client.err, client.describe()


# ---- as awxkit does it ----


class Kit:
    """Speaks as AWX's own test client: cookies, websocket-client in a thread, a queue of messages, groups_current."""

    def __init__(self, token=None, session_id=None, csrftoken=None):
        websocket = need_module("websocket", "python3-websocket")
        self.csrftoken = csrftoken
        self.messages = queue.Queue()
        self.connected, self.acknowledged = threading.Event(), threading.Event()
        self.pending = None
        cookie = f'token="{token}";' if token else f'awx_sessionid="{session_id}"'
        if session_id and csrftoken:
            cookie += f";csrftoken={csrftoken}"
        self.ws = websocket.WebSocketApp(
            f"ws://127.0.0.1:{site.node.port}/websocket/", cookie=cookie,
            on_open=lambda ws: self.connected.set(), on_message=lambda ws, text: self.on_message(json.loads(text)))
        threading.Thread(target=self.ws.run_forever, daemon=True).start()
        assert self.connected.wait(seconds(20)), "not connected"

    def on_message(self, message):
        if self.pending and message.get("group_name") == "jobs" and message.get("status") == "pending":
            job, self.pending = message["unified_job_id"], None
            self.subscribe(jobs=["status_changed", "summary"], job_events=[job])
        self.messages.put(message)
        if "groups_current" in message:
            self.acknowledged.set()

    def subscribe(self, **groups):
        self.acknowledged.clear()
        self.ws.send(json.dumps({"groups": groups, "xrftoken": self.csrftoken}))

    def wait_subscribed(self):
        assert self.acknowledged.wait(seconds(10)), "no groups_current came"

    def next(self):
        return self.messages.get(timeout=seconds(20))

    def close(self):
        self.ws.close()


def follow_with_kit(kit):
    job = site.job()
    kit.subscribe(jobs=["status_changed", "summary"], job_events=[job])
    kit.wait_subscribed()
    site.pgrelay("run", "--quiet", "--job", job, "--", *COMMAND, user="writer")
    messages = []
    while not messages or messages[-1].get("status") != "successful":
        messages.append(kit.next())
    assert messages[0] == {"accept": True, "user": site.all_seeing.id}, messages[0]
    assert [m["stdout"] for m in messages if "stdout" in m] == LINES
    (summary,) = [m for m in messages if "final_counter" in m]
    assert summary["final_counter"] == len(LINES), summary
    kit.subscribe()
    kit.wait_subscribed()
    left = kit.next()
    assert left["groups_current"] == [] and len(left["groups_left"]) == 3, left
    kit.close()


def test_awxkit_s_way_with_a_token_cookie():
    follow_with_kit(Kit(token=site.all_seeing.token))


def test_awxkit_s_way_with_a_session_cookie():
    follow_with_kit(Kit(session_id=site.all_seeing.token, csrftoken="abc123"))


def test_awxkit_s_way_of_joining_a_job_as_soon_as_it_is_pending():
    kit = Kit(token=site.all_seeing.token)
    kit.subscribe(jobs=["status_changed"])
    kit.wait_subscribed()
    kit.pending = True
    kit.acknowledged.clear()
    job = site.job(status="pending")
    kit.wait_subscribed()
    site.pgrelay("run", "--quiet", "--job", job, "--", *COMMAND, user="writer")
    messages = []
    while not messages or messages[-1].get("status") != "successful":
        messages.append(kit.next())
    assert [m["stdout"] for m in messages if "stdout" in m] == LINES
    kit.close()


# ---- pgrelay watch ----


def test_pgrelay_watch():
    job = site.job()
    watch = site.start("watch", f"job_events-{job}", "--until-finished", "--url", site.node.url(), "--token", site.all_seeing.token)
    watch.wait_for("following ", stream="err")
    site.pgrelay("run", "--quiet", "--job", job, "--", *COMMAND, user="writer")
    assert watch.wait() == 0, watch.describe()
    assert watch.out.splitlines() == LINES, watch.describe()


if __name__ == "__main__":
    main()
