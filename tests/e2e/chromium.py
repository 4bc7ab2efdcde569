"""Headless Chromium, for the tests that need a real browser."""
import http.server
import json
import os
import shutil
import tempfile
import threading

from harness import Missing, Process, eventually, free_port, need_module, seconds, site


class Page(http.server.BaseHTTPRequestHandler):
    """Any path is an empty page, or the one put there."""

    pages = {}

    def do_GET(self):
        body = self.pages.get(self.path, "<!doctype html><title>page</title>").encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Browser:
    """Chromium, driven over its DevTools protocol."""

    def __init__(self):
        self.websocket = need_module("websocket", "python3-websocket")
        chromium = shutil.which("chromium") or shutil.which("google-chrome")
        if chromium is None:
            raise Missing("chromium is missing; on Debian: apt install chromium")
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", free_port()), Page)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.origin = f"http://127.0.0.1:{self.server.server_port}"
        profile = tempfile.mkdtemp(prefix="chromium-", dir=site.folder)
        self.process = Process(
            [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage", "--no-first-run",
             "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions",
             "--remote-debugging-port=0", f"--user-data-dir={profile}", "about:blank"],
            {**os.environ, "HOME": profile}, name="chromium")
        self.process.lasting = True
        port_file = os.path.join(profile, "DevToolsActivePort")

        def endpoint():
            assert self.process.is_running(), self.process.describe()
            with open(port_file) as f:
                lines = f.read().split("\n")
            assert len(lines) > 1, "half written"
            return f"ws://127.0.0.1:{lines[0]}{lines[1]}"

        self.devtools = self.websocket.create_connection(
            eventually(endpoint, 60, "Chromium is up"), suppress_origin=True, timeout=seconds(30))
        self.count = 0
        self.events = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.page = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.call("Runtime.enable")
        self.call("Page.enable")

    def call(self, method, **params):
        self.count += 1
        message = {"id": self.count, "method": method, "params": params}
        if hasattr(self, "page"):
            message["sessionId"] = self.page
        self.devtools.send(json.dumps(message))
        while True:
            answer = json.loads(self.devtools.recv())
            if answer.get("id") == self.count:
                assert "error" not in answer, answer
                return answer["result"]
            self.events.append(answer)

    def open(self, url):
        """Loads a page."""
        self.events.clear()
        result = self.call("Page.navigate", url=url)
        assert not result.get("errorText"), result
        eventually(lambda: self.evaluate("document.readyState") == "complete" and self.evaluate("location.href") == url)

    def evaluate(self, expression):
        """The value of a JavaScript expression; promises are awaited."""
        result = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def console(self):
        """What the page has said so far."""
        self.evaluate("0")
        return [" ".join(str(a.get("value", a.get("description"))) for a in e["params"]["args"])
                for e in self.events if e["method"] == "Runtime.consoleAPICalled"]


browser = None


def chromium():
    global browser
    if browser is None or not browser.process.is_running():
        browser = Browser()
    return browser
