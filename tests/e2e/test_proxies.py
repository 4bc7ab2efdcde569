#!/usr/bin/env python3
"""Who the client is, behind proxies: docs/protocol.md, section 7. With nginx, with haproxy, and with whoever forges what they say.

All come from 127.0.0.1, which is trusted; STRANGER is an address that is not. What the node takes for the client's address stands in
its log."""
import contextlib
import os
import re
import shutil
import signal
import socket
import struct
import time

from certificates import TlsNode
from harness import Client, Missing, Node, Process, eventually, free_port, is_sanitized, main, read_text, seconds, site
from wire import Closed

STRANGER = "127.0.0.9"
V2 = b"\r\n\r\n\0\r\nQUIT\n"
LOCAL, PROXY = 0x20, 0x21


def v1(source="192.0.2.7", port=50312, family="TCP4", destination="10.0.0.1"):
    return f"PROXY {family} {source} {destination} {port} 443\r\n".encode()


def v2(source="192.0.2.7", port=50312, command=PROXY, tlvs=b"", family=None, length=None):
    """length: what the header claims, where it is not the truth."""
    kind = socket.AF_INET6 if ":" in source else socket.AF_INET
    addresses = socket.inet_pton(kind, source) * 2 + struct.pack(">HH", port, 443) + tlvs
    family = family if family is not None else 0x21 if ":" in source else 0x11
    return V2 + struct.pack(">BBH", command, family, len(addresses) if length is None else length) + addresses


def tlv(kind, value):
    return struct.pack(">BH", kind, len(value)) + value


class Proxied(Client):
    """A client behind a proxy that sends this header first. step: so many octets at a time."""

    def __init__(self, node, header=b"", tls=False, step=None, **options):
        super().__init__(node.tls_port if tls else node.port, timeout=seconds(20), **options)
        site.clients.append(self)
        for at in range(0, len(header), step or len(header) or 1):
            self.send(header[at:at + (step or len(header))])
        if tls:
            self.socket = node.tls.wrap_socket(self.socket, server_hostname="127.0.0.1")

    def login(self, user, headers=(), path="/websocket/"):
        self.upgrade(f"{path}?token={user.token}", headers)
        assert self.status == 101, (self.status, self.body)
        assert self.json()["accept"] is True
        return self


def address_of(node, user):
    """What the node takes for the address of this user's last session."""
    found = re.findall(rf"session \d+ (\S+) {user.name}: opened", node.log)
    return found[-1] if found else None


def seen_as(node, header=b"", headers=(), **options):
    """The address of a client with this header before, and these in its request. It must be served as any other."""
    user = site.user("demo.*.*")
    client = Proxied(node, header, **options).login(user, headers)
    client.join(demo=[1])
    number = time.monotonic_ns()
    site.emit("demo", "x", "1", {"n": number})
    assert client.json() == {"n": number}
    own = "%s:%d" % client.socket.getsockname()
    client.close()
    address = eventually(lambda: address_of(node, user), what="the session is logged")
    return "itself" if address == own else address


proxied_node = None


def the_node():
    global proxied_node
    if proxied_node is None:
        proxied_node = TlsNode(trusted_proxies="127.0.0.1, 10.0.0.0/8, fd00::/8")
        proxied_node.process.lasting = True
    return proxied_node


# ---- the PROXY protocol ----


def test_either_version_tells_the_address_plain_and_before_tls():
    node = the_node()
    for tls in (False, True):
        for header, address in (
            (v1(), "192.0.2.7:50312"),
            (v1("2001:db8::7", 1, "TCP6", "::1"), "[2001:db8::7]:1"),
            (v2(), "192.0.2.7:50312"),
            (v2("2001:db8::7", 65535), "[2001:db8::7]:65535"),
            (v2("::ffff:192.0.2.7"), "192.0.2.7:50312"),
            (v2(tlvs=tlv(1, b"h2") + tlv(0x20, b"x" * 2000) + tlv(4, b"")), "192.0.2.7:50312"),
            (v2(tlvs=b"x" * (4096 - 28)), "192.0.2.7:50312"),
        ):
            assert seen_as(node, header, tls=tls) == address, (header, tls)


def test_a_header_that_tells_nothing_leaves_the_connections_address():
    node = the_node()
    for tls in (False, True):
        for header in (b"PROXY UNKNOWN\r\n", b"PROXY UNKNOWN 192.0.2.7 10.0.0.1 1 2\r\n", v2(command=LOCAL), v2(family=0), v2(family=0x12),
                       V2 + struct.pack(">BBH", LOCAL, 0, 0)):
            assert seen_as(node, header, tls=tls) == "itself", (header, tls)


def test_without_a_header_all_is_as_ever():
    node = the_node()
    for tls in (False, True):
        assert seen_as(node, tls=tls) == "itself"
        assert seen_as(node, tls=tls, source=STRANGER) == "itself"


def test_a_header_octet_by_octet():
    node = the_node()
    for tls in (False, True):
        for header in (v1(), v2(), v2("2001:db8::7", tlvs=tlv(1, b"h2"))):
            assert "50312" in seen_as(node, header, tls=tls, step=1), (header, tls)
            assert "50312" in seen_as(node, header, tls=tls, step=7), (header, tls)


def test_a_header_in_one_packet_with_what_follows():
    node, user = the_node(), site.user()
    for header in (v1(), v2()):
        client = Proxied(node)
        client.send(header + client.request(f"/websocket/?token={user.token}"))
        client.read_response()
        assert client.status == 101 and client.json()["accept"] is True
        assert address_of(node, user) == "192.0.2.7:50312"
        client = Proxied(node)
        client.send(header + client.request("/healthz", upgrade=False) + client.request("/readyz", upgrade=False))
        assert client.read_response().body == "ok\n" and client.read_response().body == "ready\n"
        # the kernel keeps both together, until there is a whole packet or 200 ms have passed
        client = Client(node.tls_port, timeout=seconds(20))
        site.clients.append(client)
        client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 0)
        client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
        client.send(header)
        client.socket = node.tls.wrap_socket(client.socket, server_hostname="127.0.0.1")
        assert client.upgrade("/healthz", upgrade=False).body == "ok\n"


def test_requests_of_a_kept_connection_are_all_the_clients():
    node = the_node()
    for tls in (False, True):
        user = site.user()
        client = Proxied(node, v2("192.0.2.99", 7), tls=tls)
        for _ in range(3):
            client.send(client.request("/healthz", upgrade=False))
            assert client.read_response().body == "ok\n"
        client.login(user)
        assert address_of(node, user) == "192.0.2.99:7", tls
        # a descriptor of the same number belongs to somebody else next time
        client.close()
        assert seen_as(node, tls=tls) == "itself"


def test_refusals_and_other_paths_name_the_client():
    node, user = the_node(), site.user("demo.*.*")
    Proxied(node, v1("192.0.2.31")).upgrade("/websocket/?token=wrong")
    assert "192.0.2.31:50312: handshake refused with 401" in node.log
    client = Proxied(node, v2("192.0.2.32"), tls=True)
    client.send(client.request(f"/events?groups=demo-1&token={user.token}", upgrade=False))
    client.read_until(b"\r\n\r\n")
    assert address_of(node, user) == "192.0.2.32:50312"


def test_a_malformed_header_ends_the_connection():
    node = the_node()
    for n, header in enumerate((
        b"PROXY TCP4 192.0.2.7 10.0.0.1 1\r\n", b"PROXY TCP4 localhost 10.0.0.1 1 2\r\n", b"PROXY \r\n", b"PROXY " + b"x" * 200,
        v2(command=0x22), v2(command=0x11), v2(family=0x41), v2(length=11), v2("2001:db8::7", length=12), v2(length=4081), v2(length=65535),
        V2 + b"\xff" * 100,
    )):
        for tls in (False, True):
            client = Client(node.tls_port if tls else node.port, timeout=seconds(20))
            client.send_quietly(header)
            client.send_quietly(client.request("/healthz", upgrade=False))
            assert client.wait_end() == b"", (n, tls)
            client.close()
    assert "hung up on 127.0.0.1:" in node.log and "whose PROXY header is malformed: its addresses or ports are not valid" in node.log
    assert seen_as(node, v1()) == "192.0.2.7:50312"


def test_a_length_that_is_wrong_by_one_is_no_request():
    """One octet of the request is taken for the header's, or one of the header's for the request's."""
    node = the_node()
    for more in (1, -1):
        client = Proxied(node)
        client.send(v2(tlvs=b"ab", length=14 + more) + client.request("/healthz", upgrade=False))
        with contextlib.suppress(Closed):
            assert client.read_response().status in (400, 405, 501), client.status
        with contextlib.suppress(OSError):
            TlsBroken(node, v2(tlvs=b"ab", length=14 + more)).fail()


class TlsBroken:
    """A TLS connection that cannot come about."""

    def __init__(self, node, header, source=None):
        self.node, self.client = node, Client(node.tls_port, timeout=seconds(20), source=source)
        self.client.send(header)

    def fail(self):
        try:
            self.node.tls.wrap_socket(self.client.socket, server_hostname="127.0.0.1")
        except OSError:
            return
        finally:
            self.client.close()
        raise AssertionError("the handshake succeeded")


def test_a_second_header_is_malformed():
    client = Proxied(the_node(), v1() + v1("203.0.113.9")).upgrade("/healthz", upgrade=False)
    assert client.status == 400, client.status
    TlsBroken(the_node(), v2() + v2("203.0.113.9")).fail()


# ---- forgers ----


def test_a_header_from_a_stranger_is_a_malformed_request():
    node = the_node()
    for header in (v1(), v2(), b"PROXY UNKNOWN\r\n", v2(command=LOCAL)):
        client = Proxied(node, header, source=STRANGER)
        with contextlib.suppress(Closed, ConnectionResetError):
            client.upgrade("/healthz", upgrade=False)
            assert client.status == 400, client.status
        TlsBroken(node, header, STRANGER).fail()
    assert seen_as(node, headers={"X-Forwarded-For": "192.0.2.7"}, source=STRANGER) == "itself"
    assert seen_as(node, headers={"X-Forwarded-For": "192.0.2.7"}, source=STRANGER, tls=True) == "itself"


def test_without_the_setting_nobody_is_believed():
    with TlsNode() as node:
        assert seen_as(node, headers={"X-Forwarded-For": "192.0.2.7"}) == "itself"
        client = Proxied(node, v1())
        assert client.upgrade("/healthz", upgrade=False).status == 400, client.status
        TlsBroken(node, v2()).fail()
        node.stop()


# ---- X-Forwarded-For ----


def forwarded(*values):
    return [("X-Forwarded-For", value) for value in values]


def test_forwarded_addresses_are_read_from_the_end():
    node = the_node()
    for values, address in (
        (["192.0.2.7"], "192.0.2.7"),
        (["203.0.113.9, 192.0.2.7"], "192.0.2.7"),
        (["203.0.113.9, 192.0.2.7, 10.0.0.2,10.3.4.5"], "192.0.2.7"),
        (["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        (["203.0.113.9", "192.0.2.7", "10.0.0.2"], "192.0.2.7"),
        (["192.0.2.7:4711"], "192.0.2.7"),
        (["[2001:db8::7]:4711, fd00::1"], "[2001:db8::7]"),
        (["::ffff:192.0.2.7"], "192.0.2.7"),
        (["192.0.2.7, unknown"], "127.0.0.1"),
        (["192.0.2.7, <script>, 10.0.0.2"], "10.0.0.2"),
        (["", ", ,"], "127.0.0.1"),
    ):
        got = seen_as(node, headers=forwarded(*values))
        if got == "itself":
            got = "127.0.0.1:0"
        assert got.rpartition(":")[0] == address, (values, got)
    assert seen_as(node, headers=forwarded("192.0.2.7"), tls=True).startswith("192.0.2.7:")


def test_the_port_stays_that_of_the_connection():
    node, user = the_node(), site.user()
    client = Proxied(node).login(user, forwarded("192.0.2.7:4711"))
    assert address_of(node, user) == f"192.0.2.7:{client.socket.getsockname()[1]}"


def test_forwarded_addresses_behind_a_header():
    """The PROXY header's client is believed when it is itself a trusted proxy."""
    node = the_node()
    for tls in (False, True):
        assert seen_as(node, v2("10.0.0.2"), forwarded("192.0.2.7"), tls=tls) == "192.0.2.7:50312"
        assert seen_as(node, v2("203.0.113.9"), forwarded("192.0.2.7"), tls=tls) == "203.0.113.9:50312"


def test_a_giant_list_is_read_to_its_end():
    node = the_node()
    proxies = ", ".join(["10.0.0.2"] * 1500)
    assert seen_as(node, headers=forwarded(f"192.0.2.7, {proxies}")).startswith("192.0.2.7:")
    assert seen_as(node, headers=forwarded("1" * 15000)) == "itself"
    assert seen_as(node, headers=forwarded("," * 15000)) == "itself"
    client = Proxied(node).upgrade("/healthz", forwarded("192.0.2.7, " * 2000), upgrade=False)
    assert client.status == 400, client.status


# ---- those who wait ----


def cpu_seconds(node):
    fields = read_text(f"/proc/{node.pid}/stat").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def descriptors(node):
    return len(os.listdir(f"/proc/{node.pid}/fd"))


def hang(node, *beginnings):
    """Connections that have sent this much, plain and to the port of TLS; they are accepted."""
    waiting, before = [], descriptors(node)
    for port in (node.port, node.tls_port):
        for beginning in beginnings:
            client = Client(port, timeout=seconds(30))
            site.clients.append(client)
            client.send(beginning)
            waiting.append(client)
    eventually(lambda: descriptors(node) > before + len(waiting) - SLACK, what="they are accepted")
    return waiting


SLACK = 5  # descriptors of connections that were closed a moment ago
BEGINNINGS = (b"", b"P", b"PROXY", b"PROXY TCP4 192.0.2.7", v1()[:-1], b"\r\n\r\n", V2, V2 + b"\x21\x11", v2()[:-1], v2(length=4000))


def test_a_header_that_does_not_come_costs_nothing_and_ends_in_time():
    with TlsNode(trusted_proxies="127.0.0.1", handshake_timeout="3s") as node:
        before = descriptors(node)
        waiting = hang(node, *BEGINNINGS * 5)
        start, spent = time.monotonic(), cpu_seconds(node)
        for client in waiting:
            client.wait_end()
        took, spent = time.monotonic() - start, cpu_seconds(node) - spent
        assert 1 < took < seconds(10), took
        assert spent < took / 3 or is_sanitized(), f"{spent:.2f} s of {took:.2f} s"
        eventually(lambda: descriptors(node) <= before, what="the descriptors are given back")


def test_a_header_that_drips_ends_in_time():
    with TlsNode(trusted_proxies="127.0.0.1", handshake_timeout="1s") as node:
        for port, header in ((node.port, v1()), (node.tls_port, v2())):
            client, start = Client(port, timeout=seconds(20)), time.monotonic()
            with contextlib.suppress(OSError):
                for octet in header * 10:
                    client.send(bytes([octet]))
                    client.socket.settimeout(0.2)
                    with contextlib.suppress(TimeoutError):
                        if not client.socket.recv(1):
                            break
            assert time.monotonic() - start < seconds(10)
            client.close()


def test_clients_that_hang_up_within_the_header():
    """It is noticed, however long they might have waited."""
    with TlsNode(trusted_proxies="127.0.0.1", handshake_timeout="10min") as node:
        before = descriptors(node)
        for abruptly in (False, True):
            waiting = hang(node, *BEGINNINGS * 3)
            for client in waiting:
                if abruptly:
                    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    client.close()
                else:
                    client.socket.shutdown(socket.SHUT_WR)
                    client.wait_end()
                    client.close()
            eventually(lambda: descriptors(node) <= before, what="the descriptors are given back")
        assert seen_as(node, v2(), tls=True) == "192.0.2.7:50312"


def test_the_node_ends_while_some_wait():
    with TlsNode(trusted_proxies="127.0.0.1") as node:
        hang(node, *BEGINNINGS)
        Proxied(node, v1()).upgrade("/healthz", upgrade=False)
        node.stop()


# ---- the setting ----


def test_the_setting_is_checked_and_reloaded():
    for value, reason in (
        ("proxy.example.com", '"proxy.example.com" is neither an address nor a network'),
        ("10.0.0.0/8, 10.0.0.1/24", '"10.0.0.1/24" is no network, for bits beyond its prefix are set: is 10.0.0.0/24 meant, or 10.0.0.1 alone?'),
        ("::1/129", "a number up to 128"),
    ):
        done = site.pgrelay("serve", "--trusted-proxies", value, status=None)
        assert done.returncode != 0 and "trusted_proxies" in done.stderr and reason in done.stderr, done.stderr
    with Node(config="trusted_proxies = '10.0.0.0/8'\n") as node:
        assert seen_as(node, headers=forwarded("192.0.2.7")) == "itself"
        for setting, said in (("'127.0.0.1'", 'setting "trusted_proxies" is now "127.0.0.1"'), ("'127.0.0.1/8'", '"127.0.0.1/8" is no network')):
            node.configure(f"trusted_proxies = {setting}\n")
            node.process.signal(signal.SIGHUP)
            eventually(lambda: said in node.log, what=said)
            assert seen_as(node, v1(), forwarded("192.0.2.8")) == "192.0.2.7:50312"
            assert seen_as(node, headers=forwarded("192.0.2.7")).startswith("192.0.2.7:")
        kept = Proxied(node, v1())
        node.configure("\n")
        node.process.signal(signal.SIGHUP)
        eventually(lambda: 'setting "trusted_proxies" is now ""' in node.log, what="the setting is empty")
        assert seen_as(node, headers=forwarded("192.0.2.7")) == "itself"
        user = site.user()
        kept.login(user)
        assert address_of(node, user) == "192.0.2.7:50312"


def test_ipv6():
    port = free_port()
    node = Node(port=port, listen=f"127.0.0.1:{port},[::1]:{port}", trusted_proxies="::1")
    with node:
        user = site.user()
        for header, address in ((v2("2001:db8::7"), r"\[2001:db8::7\]:50312"), (v1(), r"192\.0\.2\.7:50312"), (b"", r"\[::1\]:\d+")):
            client = Client(port, timeout=seconds(20))
            client.close()
            client.socket = socket.create_connection(("::1", port), timeout=seconds(20))
            site.clients.append(client)
            client.send(header + client.request(f"/websocket/?token={user.token}"))
            client.read_response()
            assert client.status == 101
            assert re.fullmatch(address, address_of(node, user)), address_of(node, user)
            client.close()


# ---- nginx ----


def installed(name, variable):
    path = os.environ.get(variable) or shutil.which(name) or f"/usr/sbin/{name}"
    if not os.access(path, os.X_OK):
        raise Missing(f"{name} is missing; on Debian: apt install {name}, or {variable} names the program")
    return path


class Front:
    """A proxy before a node; clients reach it at `port`, as if it were one."""

    def __init__(self, name):
        self.name, self.port, self.folder = name, free_port(), os.path.join(site.folder, f"{name}-{time.monotonic_ns()}")
        os.mkdir(self.folder)

    def path(self, name):
        return os.path.join(self.folder, name)

    def write(self, name, text):
        with open(self.path(name), "w") as f:
            f.write(text)
        return self.path(name)

    def run(self, argv, tls=None):
        """Until it passes on; tls: through it."""
        self.process = Process(argv, name=self.name)

        def passes():
            client = Client(self.port)
            site.clients.append(client)
            if tls is not None:
                client.socket = tls.wrap_socket(client.socket, server_hostname="127.0.0.1")
            return client.upgrade("/healthz", upgrade=False).status == 200

        eventually(passes, what=f"{self.name} passes on\n{self.process.describe()}")
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.signal(signal.SIGTERM)
        self.process.wait()


def nginx(node):
    """With contrib/nginx's header."""
    front = Front("nginx")
    paths = "".join(f"{name}_temp_path {front.path(name)};\n" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    conf = front.write("nginx.conf", f"""
{"user root;" if os.geteuid() == 0 else ""}
daemon off; master_process off; pid {front.path("pid")}; error_log stderr; events {{ }}
http {{
    access_log off;
    {paths}
    server {{
        listen 127.0.0.1:{front.port};
        location / {{
            proxy_pass http://127.0.0.1:{node.port};
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection "upgrade";
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        }}
    }}
}}
""")
    return front.run([installed("nginx", "PGRELAY_NGINX"), "-e", "stderr", "-p", front.folder, "-c", conf])


def seen_through(front, node, headers=(), tls=False, source="127.0.0.8"):
    """The address of a client from `source` that comes through this proxy."""
    user = site.user("demo.*.*")
    client = Client(front.port, timeout=seconds(20), source=source)
    site.clients.append(client)
    port = client.socket.getsockname()[1]
    if tls:
        client.socket = node.tls.wrap_socket(client.socket, server_hostname="127.0.0.1")
    client.upgrade(f"/websocket/?token={user.token}", headers)
    assert client.status == 101, (client.status, client.body)
    assert client.json()["accept"] is True
    client.join(demo=[1])
    site.emit("demo", "x", "1", {"text": "x" * 100_000})
    assert len(client.json()["text"]) == 100_000
    client.close()
    address = eventually(lambda: address_of(node, user), what="the session is logged")
    return address.replace(f":{port}", ":PORT")


def test_nginx_tells_by_a_header():
    node = the_node()
    with nginx(node) as front:
        assert seen_through(front, node).startswith("127.0.0.8:")
        assert seen_through(front, node, forwarded("192.0.2.7")).startswith("127.0.0.8:"), "a client's own header is believed"
        assert seen_through(front, node, forwarded("10.0.0.2", "192.0.2.7, 10.0.0.2")).startswith("127.0.0.8:")


# ---- haproxy ----


def haproxy(node, mode, server, extra="", port=None, tls=False):
    """mode tcp or http; server: options of the line that names the node; tls: clients speak it with the node."""
    front = Front("haproxy")
    conf = front.write("haproxy.cfg", f"""
global
    stats socket {front.path("control")}
defaults
    mode {mode}
    timeout connect 10s
    timeout client 60s
    timeout server 60s
frontend relay
    bind 127.0.0.1:{front.port}
    default_backend nodes
backend nodes
    {extra}
    server web1 127.0.0.1:{port or node.port} {server}
""")
    return front.run([installed("haproxy", "PGRELAY_HAPROXY"), "-db", "-f", conf], node.tls if tls else None)


def test_haproxy_tells_by_the_proxy_protocol():
    node = the_node()
    for option in ("send-proxy", "send-proxy-v2", "send-proxy-v2 proxy-v2-options crc32c,unique-id", "send-proxy-v2 check inter 50ms fall 1000"):
        with haproxy(node, "tcp", option) as front:
            assert seen_through(front, node) == "127.0.0.8:PORT", option
            assert seen_through(front, node, forwarded("192.0.2.7")) == "127.0.0.8:PORT", option
        with haproxy(node, "http", option) as front:
            assert seen_through(front, node) == "127.0.0.8:PORT", option


def test_haproxy_passes_tls_on():
    node = the_node()
    for option in ("send-proxy", "send-proxy-v2", "send-proxy-v2-ssl", "send-proxy-v2 check inter 50ms fall 1000"):
        with haproxy(node, "tcp", option, port=node.tls_port, tls=True) as front:
            assert seen_through(front, node, tls=True) == "127.0.0.8:PORT", option


def test_health_checks_are_no_failed_handshakes():
    """haproxy's, which end in a reset behind the header, and those of who just connects."""
    node = the_node()
    failures = node.tls_failures()
    with haproxy(node, "tcp", "send-proxy-v2 check inter 20ms fall 1000", port=node.tls_port, tls=True) as front:
        control = front.path("control")

        def checks():
            with socket.socket(socket.AF_UNIX) as s:
                s.connect(control)
                s.sendall(b"show stat nodes 4 -1\n")
                names, row = s.makefile().read().splitlines()[:2]
            row = dict(zip(names.lstrip("# ").split(","), row.split(",")))
            return row["check_status"] == "L4OK" and int(row["lastchg"]) >= 1

        eventually(checks, what="haproxy has looked at the node for a second")
    for header in (b"", v2(command=LOCAL), v1()):
        for _ in range(5):
            client = Client(node.tls_port, timeout=seconds(20))
            client.send(header)
            client.socket.shutdown(socket.SHUT_WR)
            assert client.wait_end() == b""
            client.close()
    TlsBroken(node, b"GET / HTTP/1.1\r\n\r\n").fail()
    eventually(lambda: node.tls_failures() >= failures + 1, what="a real failure is counted")
    assert node.tls_failures() == failures + 1, node.tls_failures()


def test_haproxy_dials_the_node_with_tls():
    """It speaks HTTP, and the PROXY header comes before TLS of its own."""
    node = the_node()
    options = f"ssl verify required ca-file {node.authority.path} send-proxy-v2"
    with haproxy(node, "http", options, port=node.tls_port) as front:
        assert seen_through(front, node) == "127.0.0.8:PORT"


def test_haproxy_tells_by_a_header_of_its_own():
    """It adds a line, and leaves the client's alone."""
    node = the_node()
    with haproxy(node, "http", "", "option forwardfor") as front:
        assert seen_through(front, node).startswith("127.0.0.8:")
        assert seen_through(front, node, forwarded("192.0.2.7")).startswith("127.0.0.8:"), "a client's own header is believed"


def test_haproxy_before_nginx():
    """The PROXY header tells haproxy's client, who is trusted here: nginx's header counts."""
    with TlsNode(trusted_proxies="127.0.0.1, 127.0.0.8") as node:
        with nginx(node) as inner, haproxy(inner, "http", "", "option forwardfor") as outer:
            assert seen_through(outer, node, source="127.0.0.7").startswith("127.0.0.7:")
            assert seen_through(outer, node, forwarded("192.0.2.7"), source="127.0.0.8").startswith("192.0.2.7:")


def test_the_node_of_these_tests_ends_well():
    the_node().stop()


if __name__ == "__main__":
    main()
