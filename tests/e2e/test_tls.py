#!/usr/bin/env python3
"""TLS on the node's own port: docs/protocol.md, section 8."""
import asyncio
import contextlib
import json
import os
import re
import resource
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import threading
import time
import warnings

import drp
import mesh
from certificates import Authority, TlsNode, default_authority, set_version, trusting_anybody
from harness import Client, Node, Process, clean_environment, eventually, free_port, main, need, need_module, node_environment, seconds, site
from wire import CLOSE, TEXT, Closed, close_payload, make_frame

BIG = 5_000_000


class SecureClient(Client):
    """Of the AWX dialect, over TLS."""

    def __init__(self, node, tls=None, host="127.0.0.1", **options):
        super().__init__(node.tls_port, **{"timeout": seconds(20), **options})
        site.clients.append(self)
        self.socket = (tls or node.tls).wrap_socket(self.socket, server_hostname=host)


def secure(node, user=None, tls=None, path="/websocket/", **options):
    """An accepted client."""
    client = SecureClient(node, tls, **options).upgrade(path, drp.bearer(user or site.all_seeing))
    assert client.status == 101, (client.status, client.body)
    assert client.json()["accept"] is True
    return client


def get(node, path, tls=None, **headers):
    return drp.request(node, "GET", path, headers, tls=tls or node.tls)


def assert_serves(node, tls=None):
    client = secure(node, tls=tls).join(demo=[1])
    site.emit("demo", "x", "1", {"n": 1})
    assert client.json() == {"n": 1}
    return client


def flood(count, size, key="1"):
    site.sql(f"""SELECT count(pgrelay.emit('demo', 'x', '{key}', jsonb_build_object('n', n, 'pad', repeat('x', {size}))))
        FROM generate_series(1, {count}) n""", "writer")


@contextlib.contextmanager
def shared():
    """The node of those tests that want nothing in particular."""
    if site.default_node is None or not site.default_node.is_running():
        site.default_node = TlsNode()
        site.default_node.process.lasting = True
    yield site.default_node


# ---- versions ----


def can_speak(version):
    """Can this Python, as a client that is set so, speak this version of TLS at all?"""
    certificate = default_authority().issue()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(*certificate)
    client = trusting_anybody()
    set_version(server, version)
    set_version(client, version)
    a, b = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [client.wrap_bio(a, b), server.wrap_bio(b, a, server_side=True)]
    for _ in range(10):
        for end in ends:
            with contextlib.suppress(ssl.SSLWantReadError):
                end.do_handshake()
    return ends[0].version() == ends[1].version() and ends[0].version() is not None


def test_tls_1_2_and_1_3():
    with TlsNode() as node:
        for version, name in ((ssl.TLSVersion.TLSv1_2, "TLSv1.2"), (ssl.TLSVersion.TLSv1_3, "TLSv1.3")):
            client = assert_serves(node, node.authority.context(version=version))
            assert client.socket.version() == name
        assert node.tls_failures() == 0


def test_older_ones_are_refused():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        old = ssl.TLSVersion.TLSv1_1
    assert can_speak(old), "this machine's OpenSSL cannot speak TLS 1.1, so nothing is proved"
    with TlsNode() as node:
        context = trusting_anybody()
        set_version(context, old)
        try:
            SecureClient(node, context)
        except (ssl.SSLError, ConnectionError) as e:
            print("#", e)
        else:
            raise AssertionError("TLS 1.1 is taken")
        eventually(lambda: node.tls_failures() == 1, what="it is counted")
        assert_serves(node)


def test_all_paths_are_served_alike():
    with shared() as node:
        for path, status in (("/healthz", 200), ("/readyz", 200), ("/metrics", 200), ("/nothing", 404), ("/events", 400), ("/websocket/", 401)):
            over_tls, plain = get(node, path), node.get(path)
            assert over_tls.status == plain.status, (path, over_tls, plain)
            assert status == over_tls.status or path in ("/events", "/websocket/"), (path, over_tls)
        client = SecureClient(node).upgrade("/websocket/")
        assert client.status == 401, client.status


def test_requests_one_behind_the_other_on_a_kept_connection():
    with shared() as node:
        client = SecureClient(node)
        for _ in range(3):
            client.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b" 200 " in client.read_until(b"\r\n\r\n").split(b"\r\n")[0]
            assert bytes(client.read_exactly(3)) == b"ok\n"
        client.send(client.request("/websocket/", drp.bearer(site.all_seeing)))
        client.read_response()
        assert client.json()["accept"] is True


# ---- what clients send, in all sizes ----


def test_what_is_sent_with_the_handshake_and_octet_by_octet():
    with shared() as node:
        groups = make_frame(TEXT, json.dumps({"groups": {"demo": [1]}}).encode())
        for pieces in ("at once", "octets"):
            client = SecureClient(node)
            data = client.request("/websocket/", drp.bearer(site.all_seeing)) + groups
            for piece in [data] if pieces == "at once" else [data[i:i + 1] for i in range(len(data))]:
                client.send(piece)
            client.read_response()
            assert client.status == 101 and client.json()["accept"] is True
            assert client.json()["groups_current"] == ["demo-1"]


def test_a_big_message_and_a_big_body():
    with TlsNode(max_message_bytes="2MB") as node:
        client = secure(node)
        client.send_text(json.dumps({"groups": {"demo": [1]}, "pad": "x" * 1_900_000}))
        assert client.json()["groups_current"] == ["demo-1"]
        client.send_text("x" * 2_200_000)
        assert client.wait_closed() == 1009
        user = drp.make_user("*.*.*", publish=["*.*.*"])
        body = json.dumps({"type": "demo", "action": "x", "key": "1", "payload": {"pad": "x" * BIG}})
        follower = secure(node).join(demo=[1])
        reply = drp.request(node, "POST", "/api/v1/events", {**drp.bearer(user), "Content-Type": "application/json"}, body, node.tls)
        assert reply.status == 200, reply
        assert follower.json() == {"pad": "x" * BIG}


def test_many_small_messages_in_a_record_and_over_records():
    with shared() as node:
        client = secure(node)
        data = b"".join(make_frame(TEXT, json.dumps({"groups": {"demo": [n]}}).encode()) for n in range(1000))
        for i in range(0, len(data), 7777):
            client.send(data[i:i + 7777])
        for n in range(1000):
            assert client.json()["groups_current"] == [f"demo-{n}"]


# ---- what clients get ----


def test_big_payloads_and_small_ones_in_order():
    with shared() as node:
        clients = [secure(node).join(demo=[1]) for _ in range(3)]
        sizes = [10, BIG, 10, 20000, 7990, 100, 1_000_000, 16384, 16383, 1]
        for n, size in enumerate(sizes):
            site.sql(f"SELECT pgrelay.emit('demo', 'x', '1', jsonb_build_object('n', {n}, 'pad', repeat('x', {size})))", "writer")
        for client in clients:
            for n, size in enumerate(sizes):
                assert client.json() == {"n": n, "pad": "x" * size}, (n, size)


def test_a_client_that_reads_again_in_time_misses_nothing():
    with TlsNode(queue_limit="64MB") as node:
        slow = secure(node, receive_buffer=4096).join(demo=[1])
        witness = secure(node).join(demo=[1])
        flood(2000, 6000)
        witness.take(2000)
        assert [m["n"] for m in slow.take(2000)] == list(range(1, 2001))


def test_a_slow_reader_is_closed_with_1013_and_no_other_notices():
    with TlsNode(queue_limit="1MB") as node:
        slow = secure(node, receive_buffer=4096).join(demo=[1])
        good = secure(node).join(demo=[1])
        sent = 0
        while not node.metric("pgrelay_sessions_closed_slow_total"):
            assert sent < 20000, "the slow client is still there"
            flood(100, 6000)
            assert [m["n"] for m in good.take(100)] == list(range(1, 101))
            sent += 100
        got = []
        try:
            while True:
                got.append(slow.json()["n"])
        except Closed as closed:
            assert closed.code == 1013, closed
        assert got == [n % 100 + 1 for n in range(len(got))] and len(got) < sent, "a gap before the close"
        assert 1 << 20 < sent * 6000, "closed too early"


def test_a_client_that_takes_nothing_is_given_up_after_the_write_timeout():
    with TlsNode(write_timeout="1s", queue_limit="64MB") as node:
        before = node.metric("pgrelay_queue_memory_bytes")
        secure(node, receive_buffer=4096).join(demo=[1])
        flood(1500, 6000)
        eventually(lambda: node.metric("pgrelay_sessions") == 0, what="it is given up")
        assert node.metric("pgrelay_queued_bytes") == 0
        assert node.metric("pgrelay_queue_memory_bytes") == before, "what was encrypted for it still counts"


def test_what_is_encrypted_counts_in_queue_memory_and_goes_with_its_connection():
    """An event at a time, until one does not fit into the sockets any more: it waits encrypted, and in no queue."""
    with TlsNode(queue_memory="1MB", queue_limit="64MB", queue_age="0s", write_timeout="10min") as node:
        stalled = {key: [secure(node, receive_buffer=4096).join(demo=[key]) for _ in range(10)] for key in (1, 2)}
        good = secure(node).join(demo=[1, 2])
        held = idle = node.metric("pgrelay_queue_memory_bytes")

        def flood_until(key, condition):
            for _ in range(5000):
                if condition():
                    return
                flood(1, 6000, key)
                assert good.json()["n"] == 1
            raise AssertionError("the sockets take everything")

        for key in stalled:
            flood_until(key, lambda: node.metric("pgrelay_queue_memory_bytes") > held)
            assert node.metric("pgrelay_queued_bytes") == 0, "it waits in a queue"
            held = node.metric("pgrelay_queue_memory_bytes")
        flood_until(1, lambda: node.metric("pgrelay_sessions_closed_slow_total"))
        assert 1 <= node.metric("pgrelay_sessions_closed_slow_total") <= 10, "others go than those who are furthest behind"
        assert node.metric("pgrelay_queue_memory_bytes") <= 1 << 20
        for client in stalled[1] + stalled[2]:
            client.close()
        eventually(lambda: node.metric("pgrelay_sessions") == 1, what="they are gone")
        assert node.metric("pgrelay_queue_memory_bytes") <= idle


def test_pings_over_tls():
    with TlsNode(ping_interval="200ms", ping_timeout=f"{seconds(1)}s") as node:
        client = secure(node).join(demo=[1])
        eventually(lambda: (client.assert_alive(), True)[1])
        client.answers_pings = False
        assert client.wait_closed() == 1008


def test_the_end_of_a_node_is_told():
    with TlsNode() as node:
        client = secure(node)
        node.process.signal(signal.SIGTERM)
        assert client.wait_closed() == 1001


# ---- other programs ----


def curl(node, *arguments, status=0, **popen):
    argv = [need("curl", "curl"), "-sS", "--cacert", node.authority.path, "--max-time", str(seconds(20)), *arguments]
    done = subprocess.run(argv, env=clean_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **popen)
    assert done.returncode == status, (done.returncode, done.stdout, done.stderr)
    return done.stdout


def test_curl():
    with shared() as node:
        base = f"https://127.0.0.1:{node.tls_port}"
        for option in ("--http1.1", "--http2", "--tls-max=1.2", "--tlsv1.3"):
            name, _, value = option.partition("=")
            assert curl(node, name, *([value] if value else []), f"{base}/healthz") == "ok\n"
        user = drp.make_user("*.*.*", publish=["*.*.*"])
        told = curl(node, "-H", f"Authorization: Bearer {user.token}", "-H", "Content-Type: application/json", "-d", '{"type": "demo", "action": "x", "payload": {"n": 1}}',
                    f"{base}/api/v1/events")
        assert json.loads(told)["ids"], told


def test_server_sent_events_with_curl():
    """When the node ends the stream ends as TLS wants it: curl would say otherwise, and exit with 56."""
    node = TlsNode()
    stream = Process([need("curl", "curl"), "-sSN", "--cacert", node.authority.path, "-H", f"Authorization: Bearer {site.all_seeing.token}",
                      f"https://127.0.0.1:{node.tls_port}/events?groups=demo-1"], name="curl")
    stream.wait_for("groups_current")
    flood(3, 20000)
    eventually(lambda: stream.out.count('"pad": "' + "x" * 20000) == 3, what="the events come")
    node.stop()
    assert stream.wait() == 0, stream.describe()
    assert stream.err == "", stream.err


def test_python_websockets():
    websockets = need_module("websockets", "python3-websockets")

    async def follow(node):
        headers = drp.bearer(site.all_seeing)
        async with websockets.connect(f"wss://localhost:{node.tls_port}/websocket/", ssl=node.tls, extra_headers=headers) as ws:
            assert json.loads(await ws.recv())["accept"] is True
            await ws.send(json.dumps({"groups": {"demo": [1]}}))
            assert "groups_current" in json.loads(await ws.recv())
            await asyncio.get_running_loop().run_in_executor(None, flood, 3, 100000)
            numbers = [json.loads(await ws.recv())["n"] for _ in range(3)]
            await (await ws.ping())
        return numbers, ws.close_code

    with shared() as node:
        assert asyncio.run(asyncio.wait_for(follow(node), seconds(60))) == ([1, 2, 3], 1000)


def test_python_websocket_client():
    websocket = need_module("websocket", "python3-websocket")
    with shared() as node:
        ws = websocket.create_connection(f"wss://127.0.0.1:{node.tls_port}/websocket/?token={site.all_seeing.token}", timeout=seconds(20),
                                         sslopt={"ca_certs": node.authority.path})
        assert json.loads(ws.recv())["accept"] is True
        ws.send(json.dumps({"groups": {"demo": [1]}}))
        assert "groups_current" in json.loads(ws.recv())
        flood(3, 100000)
        assert [json.loads(ws.recv())["n"] for _ in range(3)] == [1, 2, 3]
        ws.close()
        try:
            websocket.create_connection(f"wss://127.0.0.1:{node.tls_port}/websocket/?token={site.all_seeing.token}", timeout=seconds(20))
        except ssl.SSLError as e:
            assert "certificate" in str(e).lower(), e
        else:
            raise AssertionError("a certificate of nobody's is trusted")


NODE_PROGRAM = """
const WebSocket = require("ws"), fs = require("fs");
const [url, ca, token] = process.argv.slice(2);
const ws = new WebSocket(url, { ca: fs.readFileSync(ca), headers: { Authorization: `Bearer ${token}` } });
ws.on("open", () => console.log("open"));
ws.on("error", (error) => { console.log("error", error.message); });
ws.on("close", (code) => console.log("close", code));
ws.on("message", (data) => {
  const message = JSON.parse(data);
  if (message.accept) ws.send(JSON.stringify({ groups: { demo: [1] } }));
  else if (message.groups_current) console.log("joined");
  else { console.log("event", message.n, message.pad.length); if (message.n === 3) ws.close(1000); }
});
"""


def test_node_ws():
    path = os.path.join(site.folder, "client.cjs")
    with open(path, "w") as f:
        f.write(NODE_PROGRAM)
    with shared() as node:
        client = Process(["node", path, f"wss://localhost:{node.tls_port}/websocket/", node.authority.path, site.all_seeing.token], node_environment(), name="ws")
        client.wait_for("joined")
        flood(3, 100000)
        assert client.wait() == 0, client.describe()
        assert client.out.splitlines() == ["open", "joined", *(f"event {n} 100000" for n in (1, 2, 3)), "close 1000"], client.describe()
        stranger = Authority("a stranger")
        client = Process(["node", path, f"wss://localhost:{node.tls_port}/websocket/", stranger.path, site.all_seeing.token], node_environment(), name="ws")
        client.wait()
        assert "error" in client.out and "open" not in client.out.splitlines(), client.describe()


def watch(node, *options, url=None, **more):
    return site.start("watch", "demo-1", "--json", "--url", url or f"wss://127.0.0.1:{node.tls_port}", *options, env={"PGRELAY_TOKEN": site.all_seeing.token}, **more)


def test_pgrelay_watch_emit_and_status():
    with shared() as node:
        ca = ("--tls-ca-file", node.authority.path)
        follower = watch(node, *ca)
        follower.wait_for("following demo-1", stream="err")
        user = drp.make_user("cluster.status.*", publish=["*.*.*"])
        site.pgrelay("emit", "--via-node", "demo", "x", "1", '{"n": 1}', "--url", f"https://localhost:{node.tls_port}", *ca, env={"PGRELAY_TOKEN": user.token})
        follower.wait_for('{"n": 1}')
        done = site.pgrelay("status", "--url", f"wss://localhost:{node.tls_port}", *ca, env={"PGRELAY_TOKEN": user.token})
        assert "online" in done.stdout, done.stdout
        follower.signal(signal.SIGINT)
        assert follower.wait() == 130


def assert_told(node, pattern, *options, url=None):
    """watch and status tell what is wrong with the certificate, in these words."""
    options = options or ("--tls-ca-file", node.authority.path)
    follower = watch(node, *options, url=url)
    eventually(lambda: re.search(pattern, follower.err), what=f"{pattern!r} in {follower.err!r}")
    assert "certificate" in follower.err, follower.err
    follower.kill()
    done = site.pgrelay("status", "--url", url or f"wss://127.0.0.1:{node.tls_port}", *options, env={"PGRELAY_TOKEN": site.all_seeing.token}, status=1)
    assert re.search(pattern, done.stderr), done.stderr


def test_wrong_certificates_are_told_by_watch_and_status():
    authority = default_authority()
    with TlsNode(certificate=authority.issue(days=-1)) as node:
        assert_told(node, "expired")
    with TlsNode(certificate=authority.issue(alt="DNS:elsewhere.example")) as node:
        assert_told(node, "(?i)mismatch")
        assert_told(node, "(?i)mismatch", url=f"wss://localhost:{node.tls_port}")
    with TlsNode(authority=Authority("a stranger")) as node:
        assert_told(node, "(?i)issuer|self.signed", "--tls-ca-file", authority.path)
        follower = watch(node, "--tls-verify", "off")
        follower.wait_for("following demo-1", stream="err")


# ---- renewal ----


class Served:
    """The two files that a node serves from, which are written anew."""

    def __init__(self, authority=None):
        self.authority = authority or default_authority()
        self.certificate, self.key = (os.path.join(self.authority.folder, f"served-{free_port()}.{end}") for end in ("pem", "key"))
        self.renew()

    @property
    def paths(self):
        return self.certificate, self.key

    def renew(self):
        """The new one's serial number."""
        certificate, key = self.authority.issue()
        shutil.copy(certificate, self.certificate)
        shutil.copy(key, self.key)
        done = subprocess.run(["openssl", "x509", "-in", certificate, "-noout", "-serial"], stdout=subprocess.PIPE, text=True, check=True)
        self.serial = done.stdout.strip().partition("=")[2].lstrip("0")
        return self.serial

    def write(self, text, key=False):
        with open(self.key if key else self.certificate, "w") as f:
            f.write(text)


def fresh_serial(node):
    """Of the certificate that a new connection sees."""
    with socket.create_connection(("127.0.0.1", node.tls_port), timeout=seconds(20)) as plain, node.tls.wrap_socket(plain, server_hostname="localhost") as tls:
        return tls.getpeercert()["serialNumber"].lstrip("0")


def test_renewal_under_load():
    """Sessions that are open stay, and miss nothing; new ones see the new certificate; nobody is turned away meanwhile."""
    served = Served()
    with TlsNode(certificate=served.paths) as node:
        assert fresh_serial(node) == served.serial
        stayed = [secure(node).join(demo=["1"]) for _ in range(5)]
        writer = site.session("writer")
        writer.send("""DO $$ BEGIN FOR n IN 1..800 LOOP
            PERFORM pgrelay.emit('demo', 'x', '1', jsonb_build_object('n', n, 'pad', repeat('x', CASE WHEN n % 50 = 0 THEN 20000 ELSE 10 END)));
            COMMIT; PERFORM pg_sleep(0.001); END LOOP; END $$""")
        for _ in range(5):
            former, wanted = served.serial, served.renew()
            node.process.signal(signal.SIGHUP)

            def is_new():
                seen = fresh_serial(node)
                assert seen in (former, wanted)
                return seen == wanted

            eventually(is_new, what="new connections see the new certificate")
            secure(node).close()
        for client in stayed:
            assert [m["n"] for m in client.take(800)] == list(range(1, 801))
        writer.result()
        assert node.tls_failures() == 0


def test_broken_files_leave_the_former_certificate():
    served = Served()
    with TlsNode(certificate=served.paths) as node:
        stayed = secure(node).join(demo=[1])
        former = served.serial
        stranger = default_authority().issue()
        breakages = (
            (lambda: served.write("no certificate"), served.certificate),
            (lambda: served.write(""), served.certificate),
            (lambda: os.unlink(served.certificate), served.certificate),
            (lambda: served.write("no key", key=True), served.key),
            (lambda: shutil.copy(stranger[1], served.key), served.key),  # of another certificate
            (lambda: os.unlink(served.key), served.key),
        )
        for n, (damage, path) in enumerate(breakages):
            served.renew()
            damage()
            before = len(node.log)
            node.process.signal(signal.SIGHUP)
            eventually(lambda: path in node.log[before:], what=f"the log tells of {path}: {node.log[before:]}")
            print("#", next(line for line in node.log[before:].splitlines() if path in line))
            assert fresh_serial(node) == former, n
        new = served.renew()
        node.process.signal(signal.SIGHUP)
        eventually(lambda: fresh_serial(node) == new, what="files that are whole again are taken")
        site.emit("demo", "x", "1", {"n": 1})
        assert stayed.json() == {"n": 1}


def refused_start(pattern, **settings):
    node = Node(wait=False, **settings)
    status = node.process.wait()
    assert status not in (0, None) and re.search(pattern, node.log), (status, node.log)


def test_a_node_does_not_start_with_wrong_files():
    certificate, key = default_authority().issue()
    other = default_authority().issue()
    listen = f"127.0.0.1:{free_port()}"
    refused_start("tls_cert_file", listen_tls=listen)
    refused_start("tls_key_file", listen_tls=listen, tls_cert_file=certificate)
    refused_start("/nonexistent", listen_tls=listen, tls_cert_file="/nonexistent", tls_key_file=key)
    refused_start("/nonexistent", listen_tls=listen, tls_cert_file=certificate, tls_key_file="/nonexistent")
    refused_start("(?i)key.*certificate|certificate.*key", listen_tls=listen, tls_cert_file=certificate, tls_key_file=other[1])
    refused_start("/nonexistent", listen_tls=listen, tls_cert_file=certificate, tls_key_file=key, tls_client_ca_file="/nonexistent")
    locked = key + ".locked"
    default_authority().openssl("pkey", "-in", key, "-aes256", "-passout", "pass:x", "-out", locked)
    refused_start("passphrase", listen_tls=listen, tls_cert_file=certificate, tls_key_file=locked)


def test_a_chain_is_sent_whole():
    """A client that knows the root alone must be satisfied."""
    root = default_authority()
    middle = Authority("in between")
    base = middle.file("signed")
    with open(base + ".ext", "w") as f:
        f.write("basicConstraints=critical,CA:TRUE\n")
    root.openssl("req", "-new", "-key", middle.key, "-subj", "/CN=in between", "-out", base + ".csr")
    root.openssl("x509", "-req", "-in", base + ".csr", "-CA", root.path, "-CAkey", root.key, "-set_serial", "77", "-days", "2",
                 "-extfile", base + ".ext", "-out", base + ".pem")
    certificate, key = middle.issue()
    chain = middle.file("chain.pem")
    with open(chain, "w") as out:
        for path in (certificate, base + ".pem"):
            with open(path) as f:
                out.write(f.read())
    with TlsNode(certificate=(chain, key)) as node:
        assert_serves(node)
    with TlsNode(certificate=(certificate, key)) as node:
        try:
            SecureClient(node)
        except ssl.SSLCertVerificationError:
            return
        raise AssertionError("without the certificate in between it is trusted all the same")


# ---- client certificates ----


def refused_handshake(node, context):
    """In TLS 1.3 a client learns of it only when it reads."""
    try:
        client = SecureClient(node, context)
        client.send(client.request("/websocket/", drp.bearer(site.all_seeing)))
        client.read_response()
    except (ssl.SSLError, ConnectionError, Closed) as e:
        return str(e)
    raise AssertionError(f"it is let in: {client.status}")


def test_client_certificates():
    authority, stranger = default_authority(), Authority("a stranger")
    with TlsNode(tls_client_ca_file=authority.path) as node:
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            before = node.tls_failures()
            wrong = (authority.context(version=version), authority.context(stranger.issue("client"), version), authority.context(authority.issue("client", days=-1), version))
            for n, context in enumerate(wrong, 1):
                print("#", refused_handshake(node, context))
                eventually(lambda: node.tls_failures() == before + n, what=f"it is counted: {node.tls_failures()}")
            assert_serves(node, authority.context(authority.issue("client"), version))
        assert node.get("/healthz").status == 200


def test_a_client_certificate_proves_no_user():
    authority = default_authority()
    with TlsNode(tls_client_ca_file=authority.path) as node:
        client = SecureClient(node, authority.context(authority.issue(site.all_seeing.name))).upgrade("/websocket/")
        assert client.status == 401, client.status


def test_client_certificates_may_be_wanted_later():
    """From SIGHUP on; who is there stays."""
    authority = default_authority()
    with TlsNode(config="") as node:
        stayed = secure(node).join(demo=[1])
        for wanted in (True, False):
            node.configure(f"tls_client_ca_file = '{authority.path}'\n" if wanted else "")
            node.process.signal(signal.SIGHUP)

            def is_in_force():
                try:
                    secure(node).close()
                except (ssl.SSLError, ConnectionError, Closed):
                    return wanted
                return not wanted

            eventually(is_in_force, what=f"tls_client_ca_file is {'there' if wanted else 'gone'}")
            assert_serves(node, authority.context(authority.issue("client")))
            assert stayed.json() == {"n": 1}


def test_none_is_asked_for_without_authorities():
    with TlsNode() as node:
        assert_serves(node, node.authority.context(Authority("a stranger").issue("client")))


# ---- what is no TLS ----


def test_plain_http_and_garbage_are_cut_and_counted():
    with TlsNode() as node:
        served = secure(node).join(demo=[1])
        garbage = (b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", b"\x00" * 100, os.urandom(500), b"\x16\x03\x01\xff\xff" + b"x" * 1000, b"PROXY TCP4 x y\r\n",
                   b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00", b"\x80\x2e\x01\x03\x01" + b"x" * 60, b"\x15\x03\x01\x00\x02\x02\x28", b"SSH-2.0-x\r\n")
        for n, data in enumerate(garbage, 1):
            with socket.create_connection(("127.0.0.1", node.tls_port), timeout=seconds(20)) as plain:
                with contextlib.suppress(ConnectionError):
                    plain.sendall(data)
                    with contextlib.suppress(OSError):  # ENOTCONN: it is cut already
                        plain.shutdown(socket.SHUT_WR)
                    while answer := plain.recv(4096):
                        assert b"HTTP/1.1 200" not in answer, (data, answer)
            eventually(lambda: node.tls_failures() == n, what=f"{data[:20]} is counted: {node.tls_failures()}")
        for _ in range(3):
            with socket.create_connection(("127.0.0.1", node.tls_port)):
                pass
        site.emit("demo", "x", "1", {"n": 1})
        assert served.json() == {"n": 1}
        assert_serves(node)


def test_plain_http_is_cut_without_waiting_for_more():
    with TlsNode(handshake_timeout="1h") as node, socket.create_connection(("127.0.0.1", node.tls_port), timeout=seconds(20)) as plain:
        plain.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            while plain.recv(4096):
                pass


def test_tls_to_the_plain_port_harms_nobody():
    with TlsNode() as node:
        served = node.connect(site.all_seeing).join(demo=[1])
        with socket.create_connection(("127.0.0.1", node.port), timeout=seconds(20)) as plain:
            try:
                node.tls.wrap_socket(plain, server_hostname="localhost")
            except (ssl.SSLError, OSError):
                pass
            else:
                raise AssertionError("the plain port speaks TLS")
        site.emit("demo", "x", "1", {"n": 1})
        assert served.json() == {"n": 1}


# ---- ends ----


def is_forgotten(node, sessions=0):
    eventually(lambda: node.metric("pgrelay_sessions") == sessions, what=f"{sessions} sessions are left: {node.metric('pgrelay_sessions')}")


def test_half_closed_and_abrupt_ends():
    with TlsNode() as node:
        served = secure(node).join(demo=[1])

        def reset(client):
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.socket.close()

        def notify_and_wait(client):
            with contextlib.suppress(OSError, ssl.SSLError):
                client.socket.settimeout(seconds(20))
                client.socket.unwrap()

        def half_a_record(client):
            raw = socket.socket(fileno=os.dup(client.socket.fileno()))
            raw.sendall(b"\x17\x03\x03\x40\x00" + b"x" * 100)
            raw.close()
            client.socket.close()

        def a_broken_record(client):
            raw = socket.socket(fileno=os.dup(client.socket.fileno()))
            raw.sendall(b"\x17\x03\x03\x00\x40" + b"x" * 64)
            with contextlib.suppress(OSError, Closed):
                client.wait_end()
            raw.close()

        ends = [reset, notify_and_wait, half_a_record, a_broken_record, lambda c: c.socket.close(), lambda c: socket.socket.shutdown(c.socket, socket.SHUT_WR),
                lambda c: (c.send_frame(CLOSE, close_payload(1000)), c.close())]
        for n, end in enumerate(ends):
            for joined in (False, True):
                client = secure(node)
                if joined:
                    client.join(demo=[1])
                    flood(5, 20000)
                    served.take(5)
                end(client)
                is_forgotten(node, 1)
        site.emit("demo", "x", "1", {"n": 1})
        assert served.json() == {"n": 1}


def test_a_closing_handshake_with_a_client_that_closes():
    with shared() as node:
        client = secure(node)
        client.send_frame(CLOSE, close_payload(1000, b"bye"))
        try:
            client.text()
        except Closed as closed:
            assert closed.code == 1000, closed
        client.socket.suppress_ragged_eofs = False
        assert client.wait_end() == b"", "something behind the close frame"


def test_descriptors_are_given_back():
    with TlsNode() as node:
        def open_ones():
            return len(os.listdir(f"/proc/{node.pid}/fd"))

        secure(node).close()
        is_forgotten(node)
        before = open_ones()
        for n in range(60):
            for data in (b"", b"\x16\x03\x01"):
                with socket.create_connection(("127.0.0.1", node.tls_port)) as plain:
                    plain.sendall(data)
            if n % 6 == 0:
                secure(node).close()
                SecureClient(node).close()
        eventually(lambda: open_ones() <= before + 1, what="the descriptors are closed")


def test_more_connections_than_descriptors_are_survived():
    with TlsNode() as node:
        resource.prlimit(node.pid, resource.RLIMIT_NOFILE, (60, 60))
        served = secure(node).join(demo=[1])
        crowd = [socket.create_connection(("127.0.0.1", node.tls_port)) for _ in range(100)]
        site.emit("demo", "x", "1", {"n": 1})
        assert served.json() == {"n": 1}
        for each in crowd:
            each.close()
        eventually(lambda: get(node, "/healthz").status == 200, what="the node accepts again")
        assert_serves(node)


# ---- slow handshakes ----


def client_hello():
    """What a client says first."""
    sent, received = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = trusting_anybody().wrap_bio(received, sent, server_hostname="localhost")
    with contextlib.suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    return sent.read()


def test_500_slow_handshakes_stop_nobody():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
    hello = client_hello()
    with TlsNode(handshake_timeout=f"{seconds(3)}s") as node:
        served = secure(node).join(demo=[1])
        crowd = []
        began = time.monotonic()
        for n in range(500):
            slow = socket.create_connection(("127.0.0.1", node.tls_port), timeout=seconds(30))
            slow.sendall(hello[: 1 + n % (len(hello) - 1)])
            crowd.append(slow)
        for n in range(10):
            start = time.monotonic()
            newcomer = secure(node)
            assert time.monotonic() - start < seconds(3), "a handshake waits for others"
            newcomer.close()
            site.emit("demo", "x", "1", {"n": n})
            assert served.json() == {"n": n}
        assert node.tls_failures() == 0 or time.monotonic() - began > seconds(3)
        eventually(lambda: node.tls_failures() == 500, 30, what="each is cut in the end, and counted")
        for slow in crowd:
            with contextlib.suppress(ConnectionError):
                while slow.recv(4096):
                    pass
            slow.close()
        served.assert_alive()


def test_octets_now_and_then_do_not_lengthen_the_handshake():
    """Neither TLS's nor, behind it, HTTP's; the time of both is one."""
    hello = client_hello()
    with TlsNode(handshake_timeout="1s") as node:
        for secured in (False, True):
            slow = SecureClient(node).socket if secured else socket.create_connection(("127.0.0.1", node.tls_port), timeout=seconds(20))
            data = b"GET /healthz HTTP/1.1\r\nX: " + b"x" * 100000 if secured else hello
            began, sent = time.monotonic(), 0
            slow.settimeout(0.1)
            while True:
                assert time.monotonic() - began < seconds(10), "it is not cut"
                with contextlib.suppress(TimeoutError):
                    try:
                        if sent < len(data) - 1:
                            slow.send(data[sent:sent + 1])
                            sent += 1
                        if slow.recv(4096) == b"":
                            break
                    except (ConnectionError, ssl.SSLError):
                        break
            slow.close()


# ---- load ----


def test_many_clients_at_once():
    with shared() as node:
        clients = []

        def dial():
            for _ in range(25):
                clients.append(secure(node).join(demo=[1]))

        site.all_seeing
        threads = [threading.Thread(target=dial) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(clients) == 100
        flood(20, 2000)
        for client in clients:
            assert [m["n"] for m in client.take(20)] == list(range(1, 21))


# ---- links ----


@contextlib.contextmanager
def linked(*settings, links=1):
    """Nodes n0, n1... that tell the others to dial them by wss."""
    nodes = []
    for n, more in enumerate(settings):
        certificate = more.pop("certificate", None) or default_authority().issue()
        port = free_port()
        nodes.append(mesh.start(f"n{n}", listen_tls=f"127.0.0.1:{port}", tls_cert_file=certificate[0], tls_key_file=certificate[1],
                                **{"advertise": f"wss://127.0.0.1:{port}", "tls_ca_file": default_authority().path, **more}))
        nodes[-1].tls_port = port
    with mesh.ending_well(nodes):
        if links:
            mesh.wait_linked(nodes, links)
        yield nodes


def assert_shared(nodes):
    """Big payloads reach all clients, and were asked for over the links."""
    clients = [node.connect(site.all_seeing).join(demo=[1]) for node in nodes]
    flood(8, 300000)
    for client in clients:
        assert [m["n"] for m in client.take(8)] == list(range(1, 9))
    assert mesh.total(nodes, "payloads_fetched_total") + mesh.total(nodes, "payloads_fallback_total") > 0
    assert mesh.total(nodes, "payloads_wrong_total") == 0


def test_nodes_are_linked_over_wss():
    with linked({}, {}) as nodes:
        assert_shared(nodes)
        (line, *_) = mesh.wait_log(nodes[0], "link n1: open")
        assert f"127.0.0.1:{nodes[1].tls_port}" in line, line


def test_links_stay_when_certificates_are_renewed():
    served = Served()
    with linked({}, {"certificate": served.paths}) as nodes:
        wanted = served.renew()
        nodes[1].tls = default_authority().context()
        nodes[1].process.signal(signal.SIGHUP)
        eventually(lambda: fresh_serial(nodes[1]) == wanted)
        assert_shared(nodes)
        assert mesh.total(nodes, "links_lost_total") == 0


def test_a_node_shows_its_own_certificate_to_one_that_asks():
    ca = {"tls_client_ca_file": default_authority().path}
    with linked(dict(ca), dict(ca)) as nodes:
        assert_shared(nodes)


def test_no_link_to_a_node_with_a_wrong_certificate():
    with linked({}, {"certificate": default_authority().issue(alt="DNS:elsewhere.example")}, links=0) as nodes:
        (line, *_) = mesh.wait_log(nodes[0], 'no link to node "n1": ')
        assert "certificate" in line, line
        assert nodes[0].metric("pgrelay_links") == 0


if __name__ == "__main__":
    main(limit=60)
