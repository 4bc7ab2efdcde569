"""Certificates for tests: an authority, what it vouches for, and nodes that serve TLS."""
import contextlib
import os
import secrets
import ssl
import subprocess
import warnings

from harness import Node, free_port, need, site

EC = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
HERE_NAMES = "IP:127.0.0.1,DNS:localhost"


class Authority:
    """Signs certificates; `path` is its own."""

    def __init__(self, name="the authority"):
        self.folder = os.path.join(site.folder, f"authority-{secrets.token_hex(4)}")
        os.mkdir(self.folder, 0o755)
        self.path, self.key = self.file("ca.pem"), self.file("ca.key")
        self.openssl("req", "-x509", *EC, "-subj", f"/CN={name}", "-keyout", self.key, "-out", self.path)

    def file(self, name):
        return os.path.join(self.folder, name)

    @staticmethod
    def openssl(*arguments):
        done = subprocess.run([need("openssl", "openssl"), *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert done.returncode == 0, f"openssl {arguments[0]}: {done.stdout}"

    def issue(self, name="node", alt=HERE_NAMES, days=2):
        """Paths of a certificate and its key. days below 0: it has expired."""
        base = self.file(f"{name}-{secrets.token_hex(4)}")
        with open(base + ".ext", "w") as f:
            f.write(f"basicConstraints=critical,CA:FALSE\nsubjectAltName={alt}\n")
        self.openssl("req", *EC, "-subj", f"/CN={name}", "-keyout", base + ".key", "-out", base + ".csr")
        self.openssl("x509", "-req", "-in", base + ".csr", "-CA", self.path, "-CAkey", self.key, "-set_serial", str(secrets.randbits(60)),
                     "-days", str(days), "-extfile", base + ".ext", "-out", base + ".pem")
        return base + ".pem", base + ".key"

    def context(self, certificate=None, version=None):
        """For clients who trust this authority alone."""
        context = ssl.create_default_context(cafile=self.path)
        if certificate is not None:
            context.load_cert_chain(*certificate)
        if version is not None:
            set_version(context, version)
        return context


def set_version(context, version):
    """This version of TLS only, however old."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = version
        if version < ssl.TLSVersion.TLSv1_2:
            context.set_ciphers("ALL:@SECLEVEL=0")


def trusting_anybody():
    """As DRP's clients do."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class TlsNode(Node):
    """A node with a second port, `tls_port`, for TLS; `tls` is the context in which the tests trust it."""

    def __init__(self, authority=None, certificate=None, wait=True, **settings):
        self.authority = authority or default_authority()
        self.certificate = certificate or self.authority.issue()
        self.tls_port = free_port()
        self.tls = self.authority.context()
        super().__init__(wait=wait, **{"listen_tls": f"127.0.0.1:{self.tls_port}", "tls_cert_file": self.certificate[0],
                                       "tls_key_file": self.certificate[1], **settings})

    def tls_failures(self):
        return self.metric("pgrelay_tls_failures_total")

    def __exit__(self, kind, *rest):
        for client in site.clients:
            if getattr(client, "port", None) == self.tls_port:
                with contextlib.suppress(OSError):
                    client.close()
        super().__exit__(kind, *rest)


def default_authority():
    if not hasattr(site, "authority"):
        site.authority = Authority()
    return site.authority
