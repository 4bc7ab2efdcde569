"""A network between the nodes and the server that can be cut without a word to either. Needs root, for network namespaces.

    nodes, clients               the wall                     PostgreSQL
    (here)  10.x.y.1 ------ .2  forwards or not  .5 ------ .6 (namespace)

Unix sockets go around it: so do the writers."""
import contextlib
import ctypes
import os
import subprocess

from harness import Missing, need, site
from faults import with_settings

CLONE_NEWNET = 0x40000000


def ip(*arguments, netns=None):
    done = subprocess.run([need("ip", "iproute2"), *(["-n", netns] if netns else []), *arguments], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        raise Missing(f"ip {' '.join(arguments)}: {done.stdout.strip()}; this test needs root, and network namespaces")


class Wall:
    """Two links and a router between them that stops forwarding, without a word, when it is told to."""

    def __init__(self):
        pid = os.getpid()
        self.router, self.far = f"pgrelay-wall-{pid}", f"pgrelay-far-{pid}"
        # two /30 of 10.64.0.0/10 that no other test has
        base = (10 << 24) + (64 << 16) + pid % (1 << 19) * 8
        self.near_address, near_router, far_router, self.address = (
            ".".join(str(base + n >> shift & 255) for shift in (24, 16, 8, 0)) for n in (1, 2, 5, 6))
        near_net, far_net = (".".join(str(base + n >> shift & 255) for shift in (24, 16, 8, 0)) + "/30" for n in (0, 4))
        self.link = f"wall{pid % 100000}"
        for netns in (self.router, self.far):
            ip("netns", "add", netns)
            ip("link", "set", "lo", "up", netns=netns)
        ip("link", "add", self.link, "type", "veth", "peer", "name", "near", "netns", self.router)
        ip("link", "add", "far", "netns", self.router, "type", "veth", "peer", "name", "wall", "netns", self.far)
        for device, address, netns in ((self.link, self.near_address, None), ("near", near_router, self.router),
                                       ("far", far_router, self.router), ("wall", self.address, self.far)):
            ip("address", "add", f"{address}/30", "dev", device, netns=netns)
            ip("link", "set", device, "up", netns=netns)
        ip("route", "add", far_net, "via", near_router)
        ip("route", "add", near_net, "via", far_router, netns=self.far)
        self.forward(True)

    def conninfo(self):
        return f"host={self.address} port={site.pg.port} dbname=relay user=node"

    def forward(self, on):
        ip("netns", "exec", self.router, "sh", "-c", f"echo {int(on)} > /proc/sys/net/ipv4/ip_forward")

    @contextlib.contextmanager
    def cut(self):
        self.forward(False)
        try:
            yield
        finally:
            self.forward(True)

    def remove(self):
        for netns in (self.router, self.far):
            with contextlib.suppress(Missing):
                ip("netns", "delete", netns)


@contextlib.contextmanager
def inside(netns):
    """What this thread starts, it starts there."""
    setns = ctypes.CDLL(None, use_errno=True).setns
    with open("/proc/thread-self/ns/net") as here, open(f"/run/netns/{netns}") as there:
        if setns(there.fileno(), CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "setns")
        try:
            yield
        finally:
            setns(here.fileno(), CLONE_NEWNET)


@contextlib.contextmanager
def wall():
    """The server runs on its far side."""
    with_settings(listen_addresses="*")
    cluster, barrier = site.pg, Wall()
    start_here = cluster.start

    def start():
        with inside(barrier.far):
            start_here()

    try:
        with open(os.path.join(cluster.data, "pg_hba.conf"), "a") as hba:
            hba.write(f"host all all {barrier.near_address}/32 trust\n")
        cluster.start = start
        site.drop_sessions()
        cluster.restart()
        yield barrier
    finally:
        cluster.start = start_here
        site.drop_sessions()
        cluster.restart()
        barrier.remove()
