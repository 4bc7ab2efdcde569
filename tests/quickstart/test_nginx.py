#!/usr/bin/env python3
"""contrib/nginx/pgrelay.conf before a node, by a real nginx: only names, ports and paths are put in place."""
import http.client
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import urllib.request

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))
from harness import TOP_SRCDIR, Missing, Process, eventually, free_port, main, need, need_module, read_text, site  # noqa: E402

websocket = need_module("websocket", "python3-websocket")


def program():
    path = os.environ.get("PGRELAY_NGINX") or shutil.which("nginx") or "/usr/sbin/nginx"
    if not os.access(path, os.X_OK):
        raise Missing("nginx is missing; on Debian: apt install nginx, or PGRELAY_NGINX names the program")
    return path


class Nginx:
    def __init__(self, node):
        self.port = free_port()
        self.folder = os.path.join(site.folder, "nginx")
        os.mkdir(self.folder)
        self.log = os.path.join(self.folder, "access.log")
        self.make_certificate()
        with open(os.path.join(self.folder, "pgrelay.conf"), "w") as f:
            f.write(self.sample(node))
        user = "user root;" if os.geteuid() == 0 else ""
        paths = "".join(
            f"{name}_temp_path {self.folder}/{name};\n" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        main_conf = os.path.join(self.folder, "nginx.conf")
        with open(main_conf, "w") as f:
            f.write(
                f"{user}\ndaemon off;\nmaster_process off;\npid {self.folder}/pid;\nerror_log stderr info;\nevents {{ }}\n"
                f"http {{\naccess_log off;\n{paths}include {self.folder}/pgrelay.conf;\n}}\n"
            )
        self.process = Process([program(), "-e", "stderr", "-p", self.folder, "-c", main_conf], name="nginx")
        self.context = ssl.create_default_context(cafile=self.certificate)
        eventually(lambda: self.get("/readyz") == "ready", what=f"nginx answers\n{self.process.describe()}")

    def make_certificate(self):
        self.certificate, self.key = os.path.join(self.folder, "cert.pem"), os.path.join(self.folder, "key.pem")
        subprocess.run(
            [need("openssl", "openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
             "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", self.key, "-out", self.certificate],
            check=True, stderr=subprocess.DEVNULL,
        )

    def sample(self, node):
        text = read_text(os.path.join(TOP_SRCDIR, "contrib", "nginx", "pgrelay.conf"))
        for pattern, there in (
            (r"server 127\.0\.0\.1:8052;", f"server 127.0.0.1:{node.port};"),
            (r"listen 443 ssl;", f"listen 127.0.0.1:{self.port} ssl;"),
            (r"server_name .*;", "server_name localhost;"),
            (r"ssl_certificate .*;", f"ssl_certificate {self.certificate};"),
            (r"ssl_certificate_key .*;", f"ssl_certificate_key {self.key};"),
            (r"/var/log/nginx/pgrelay\.log", self.log),
        ):
            text, count = re.subn(pattern, there, text)
            assert count == 1, pattern
        return text

    def get(self, path):
        with urllib.request.urlopen(f"https://localhost:{self.port}{path}", context=self.context, timeout=10) as answer:
            return answer.read().decode().strip()

    def connect(self, path="/websocket/", **options):
        client = websocket.create_connection(
            f"wss://localhost:{self.port}{path}", sslopt={"ca_certs": self.certificate}, timeout=20, **options)
        accept = json.loads(client.recv())
        assert accept["accept"] is True, accept
        return client


nginx = None
site.node_settings["trusted_proxies"] = "127.0.0.1"


def test_events_come_through_at_once():
    global nginx
    nginx = Nginx(site.node)
    nginx.process.lasting = True
    user = site.user("demo.*.*")
    for path in ("/websocket/", "/websocket", "/api/websocket/", "/api/websocket"):
        client = nginx.connect(f"{path}?token={user.token}")
        client.send('{"groups": {"demo": [1]}}')
        assert "demo-1" in client.recv()
        for n in range(3):
            site.emit("demo", "x", "1", {"n": n})
            assert json.loads(client.recv())["n"] == n
        client.close()


def test_server_sent_events_come_through_at_once():
    user = site.user("demo.*.*")
    connection = http.client.HTTPSConnection("localhost", nginx.port, context=nginx.context, timeout=20)
    connection.request("GET", f"/events?groups=demo-1&token={user.token}", headers={"Accept-Encoding": "gzip"})
    answer = connection.getresponse()
    assert (answer.status, answer.getheader("Content-Type")) == (200, "text/event-stream"), answer.status
    assert answer.readline() == b"event: groups\n"
    for n in range(3):
        site.emit("demo", "x", "1", {"n": n})
        while (line := answer.readline()) != f'data: {{"n": {n}}}\n'.encode():
            assert line, "the stream ended"
    connection.close()
    eventually(lambda: site.node.metric("pgrelay_sessions") == 0, what="the node hears that the client has closed")


def test_events_are_published_through_it():
    user = site.user()
    site.pgrelay("grant", "add", "--publish", user.name, "demo.*.*")
    for size in (10, 2_000_000):
        payload = json.dumps({"text": "x" * size})
        site.pgrelay("emit", "--via-node", "--url", f"https://localhost:{nginx.port}", "--tls-ca-file", nginx.certificate, "demo", "x", "1",
                     input=payload.encode(), env={"PGRELAY_TOKEN": user.token})
    refused = site.pgrelay("emit", "--via-node", "--url", f"wss://localhost:{nginx.port}/websocket/", "--tls-ca-file", nginx.certificate, "demo", "x", "1", "{}",
                           status=1, env={"PGRELAY_TOKEN": "wrong"})
    assert "the token is unknown" in refused.stderr, refused.stderr


def test_clients_of_digital_rebar_and_their_addresses():
    """The proxy is trusted (trusted_proxies), so the client's own address is known."""
    user = site.user("demo.*.*", "connections.list.*")
    authorization = {"Authorization": f"Bearer {user.token}"}
    sock = socket.create_connection(("127.0.0.1", nginx.port), source_address=("127.0.0.2", 0))
    client = websocket.create_connection(f"wss://localhost:{nginx.port}/api/v3/ws", header=authorization, timeout=20,
                                         socket=nginx.context.wrap_socket(sock, server_hostname="localhost"))
    client.send("register demo.*.*")
    assert json.loads(client.recv())["Action"] == "register"
    site.emit("demo", "x", "1", {"n": 1})
    event = json.loads(client.recv())
    assert (event["Type"], event["Key"], event["Object"]) == ("demo", "1", {"n": 1}), event
    request = urllib.request.Request(f"https://localhost:{nginx.port}/api/v3/connections?Type=websocket", headers=authorization)
    with urllib.request.urlopen(request, context=nginx.context, timeout=10) as answer:
        connections = json.load(answer)
    assert [c["RemoteAddr"].split(":")[0] for c in connections if c["Principal"] == f"user:{user.name}"] == ["127.0.0.2"], connections
    client.close()


def test_cookies_of_the_site_are_taken_and_those_of_others_are_not():
    user = site.user("demo.*.*")
    nginx.connect(cookie=f"token={user.token}", origin=f"https://localhost:{nginx.port}").close()
    try:
        nginx.connect(cookie=f"token={user.token}", origin="https://elsewhere.example.org")
    except websocket.WebSocketBadStatusException as e:
        assert e.status_code == 403, e
    else:
        raise AssertionError("a foreign origin's cookie was taken")


def test_the_inside_stays_inside():
    try:
        nginx.get("/metrics")
    except urllib.error.HTTPError as e:
        assert e.code == 404, e
    else:
        raise AssertionError("/metrics is open")


def test_tokens_are_not_in_its_logs():
    try:
        nginx.connect("/websocket/?token=pgr_thisonedoesnotexist")
    except websocket.WebSocketBadStatusException as e:
        assert e.status_code == 401, e
    eventually(lambda: " 401 " in read_text(nginx.log), what="the refusal is logged")
    for log in (read_text(nginx.log), nginx.process.err):
        for token in [*site.tokens, "pgr_thisonedoesnotexist"]:
            assert token not in log, log
    assert '"GET /websocket/" 101' in read_text(nginx.log), read_text(nginx.log)


if __name__ == "__main__":
    main()
