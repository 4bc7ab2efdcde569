#!/usr/bin/env python3
"""The JavaScript program, and cookie sessions, in headless Chromium."""
import json
import os

from chromium import Page, chromium
from harness import HERE, Node, eventually, main, site

LINES = [f"line {n}" for n in range(1, 51)]
COMMAND = ["sh", "-c", "for n in $(seq 50); do echo line $n; done"]


# Opens a WebSocket and tells how it went: the first message, or the code it was closed with; then asks for a group.
TRY = """
new Promise((resolve) => {
  const ws = new WebSocket(%s);
  const seen = [];
  ws.onmessage = (event) => {
    seen.push(JSON.parse(event.data));
    if (seen.length == 1) ws.send(JSON.stringify(%s));
    else { ws.onclose = null; ws.close(); resolve(seen); }
  };
  ws.onclose = (event) => resolve(event.code);
})
"""


def attempt(node, question, path="/websocket/"):
    return chromium().evaluate(TRY % (json.dumps(node.url(path)), json.dumps(question)))


def test_the_javascript_program_in_a_page():
    site.job(id=123, name="monitored")
    with open(os.path.join(HERE, "clients", "monitor.js")) as f:
        script = f.read().replace("wss://awx.example.com", f"ws://127.0.0.1:{site.node.port}")
    script = script.replace("YOUR_API_TOKEN", site.all_seeing.token)
    Page.pages["/monitor"] = f"<!doctype html><title>monitor</title><script>{script}</script>"
    chromium().open(f"{chromium().origin}/monitor")
    eventually(lambda: site.node.metric("pgrelay_subscriptions") == 2, what="the page has joined its groups")
    site.pgrelay("run", "--quiet", "--job", 123, "--", *COMMAND, user="writer")
    said = eventually(lambda: "Job finished" in (c := chromium().console()) and c, what="the page says that the job is over")
    assert [s for s in said if s.startswith("[")] == [f"[verbose] {line}" for line in LINES], said
    assert said[-3:-2] == ["Job status: successful"] and said[-1] == "Job finished", said
    eventually(lambda: site.node.metric("pgrelay_sessions") == 0, what="the page has closed its socket")


def test_a_token_in_the_url_works_from_any_page():
    chromium().open(f"{chromium().origin}/")
    accept, reply = attempt(site.node, {"groups": {"jobs": ["summary"]}}, f"/websocket/?token={site.all_seeing.token}")
    assert accept == {"accept": True, "user": site.all_seeing.id}, accept
    assert reply["groups_current"] == ["jobs-summary"], reply


def test_a_cookie_session_of_the_node_s_own_origin():
    chromium().open(site.node.url("/healthz", "http"))
    chromium().evaluate(f"document.cookie = 'awx_sessionid={site.all_seeing.token}; path=/'; document.cookie = 'csrftoken=c1; path=/'")
    accept, reply = attempt(site.node, {"groups": {"jobs": ["summary"]}, "xrftoken": "c1"})
    assert accept == {"accept": True, "user": site.all_seeing.id}, accept
    assert reply["groups_current"] == ["jobs-summary"], reply
    accept, reply = attempt(site.node, {"groups": {"jobs": ["summary"]}, "xrftoken": "stolen"})
    assert reply == {"error": "access denied to channel"}, reply


def test_a_cookie_session_from_a_foreign_origin_is_refused():
    """Another port of the same host: the browser sends the cookies along, so only the Origin tells."""
    before = site.node.metric("pgrelay_sessions_refused_total")
    chromium().open(f"{chromium().origin}/")
    assert "awx_sessionid" in chromium().evaluate("document.cookie"), "the cookies are not sent, nothing would be proven"
    assert attempt(site.node, {"groups": {}, "xrftoken": "c1"}) == 1006
    assert site.node.metric("pgrelay_sessions_refused_total") == before + 1


def test_a_cookie_session_from_an_allowed_origin():
    with Node(allowed_origins=chromium().origin) as node:
        chromium().open(f"{chromium().origin}/")
        accept, reply = attempt(node, {"groups": {"jobs": ["summary"]}, "xrftoken": "c1"})
        assert accept["accept"] is True and reply["groups_current"] == ["jobs-summary"], (accept, reply)


def test_a_token_cookie_in_the_browser():
    chromium().open(site.node.url("/healthz", "http"))
    chromium().evaluate("document.cookie = 'awx_sessionid=; path=/; max-age=0'")
    chromium().evaluate(f"document.cookie = 'token=\"{site.all_seeing.token}\"; path=/'")
    accept, reply = attempt(site.node, {"groups": {"jobs": ["summary"]}})
    assert accept["accept"] is True and reply["groups_current"] == ["jobs-summary"], (accept, reply)


def test_a_page_sees_the_shutdown_as_1001():
    chromium().open(f"{chromium().origin}/")
    with Node() as node:
        url = json.dumps(node.url(f"/websocket/?token={site.all_seeing.token}"))
        chromium().evaluate(f"new Promise((done) => {{ window.s = new WebSocket({url}); s.onmessage = done; }}).then(() => 1)")
        chromium().evaluate("window.ended = new Promise((done) => { s.onclose = (e) => done(e.code); }); 1")
        node.stop()
        assert chromium().evaluate("window.ended") == 1001


if __name__ == "__main__":
    main()
