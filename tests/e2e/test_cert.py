#!/usr/bin/env python3
"""pgrelay cert: what it writes, that OpenSSL, curl, Python and our own commands trust it, and nodes that serve with it."""
import contextlib
import os
import re
import signal
import ssl
import stat
import subprocess

from harness import Node, clean_environment, eventually, free_port, main, need, seconds, site
from mesh import start, wait_linked


FILES = ["pgrelay-ca.crt", "pgrelay.crt", "pgrelay.key"]


def openssl(*argv, status=0):
    done = subprocess.run([need("openssl", "openssl"), *argv], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert status is None or done.returncode == status, (argv, done.stdout)
    return done.stdout


class Cert:
    """Made by the command, in a folder of its own unless told."""

    def __init__(self, *options, folder=None):
        self.folder = folder or os.path.join(site.folder, f"cert-{len(os.listdir(site.folder))}")
        os.makedirs(self.folder, mode=0o755, exist_ok=True)
        self.path, self.key = (os.path.join(self.folder, f"pgrelay.{end}") for end in ("crt", "key"))
        self.authority = os.path.join(self.folder, "pgrelay-ca.crt")
        self.out = site.pgrelay("cert", "--out", self.folder, *options).stdout

    def text(self, *options):
        return openssl("x509", "-in", self.path, "-noout", *options)

    def names(self):
        return re.findall(r"(?:DNS|IP Address):([^,\s]+)", self.text("-ext", "subjectAltName"))

    def fingerprint(self):
        return self.text("-fingerprint", "-sha256").strip().split("=")[1]

    def settings(self):
        return {"tls_cert_file": self.path, "tls_key_file": self.key}


class TlsNode(Node):
    def __init__(self, cert, **settings):
        self.tls_port = free_port()
        super().__init__(listen_tls=f"127.0.0.1:{self.tls_port}", **cert.settings(), **settings)

    def shown(self):
        """The fingerprint of the certificate that new connections get."""
        done = subprocess.run([need("openssl", "openssl"), "s_client", "-connect", f"127.0.0.1:{self.tls_port}"], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, timeout=seconds(20))
        shown = os.path.join(site.folder, "shown.pem")
        with open(shown, "w") as f:
            f.write(done.stdout)
        return openssl("x509", "-in", shown, "-noout", "-fingerprint", "-sha256").strip().split("=")[1]


# ---- the files ----


def test_the_files_and_what_is_printed():
    cert = Cert("--name", "relay.example.org", "--name", "192.0.2.7", "--name", "2001:db8::7", "--name", "*.example.org", "--name", "RELAY.example.org")
    assert [stat.S_IMODE(os.stat(path).st_mode) for path in (cert.path, cert.authority, cert.key)] == [0o644, 0o644, 0o600]
    assert sorted(os.listdir(cert.folder)) == FILES
    assert cert.names() == ["relay.example.org", "192.0.2.7", "2001:DB8:0:0:0:0:0:7", "*.example.org"], cert.names()
    comment, *settings = cert.out.splitlines()
    assert settings == [f"tls_cert_file = '{cert.path}'", f"tls_key_file = '{cert.key}'"], cert.out
    assert re.fullmatch(rf"# relay.example.org, 192.0.2.7, 2001:db8::7, \*.example.org; until \d{{4}}-\d\d-\d\d \d\d:\d\d UTC; SHA-256 {cert.fingerprint()}", comment)
    conf = os.path.join(cert.folder, "pgrelay.conf")
    with open(conf, "w") as f:
        f.write(cert.out)
    assert f"tls_key_file = '{cert.key}'  # file" in site.pgrelay("config", "--print", "--config", conf).stdout


def test_a_folder_whose_name_wants_quotes():
    cert = Cert(folder=os.path.join(site.folder, "it's # here"))
    conf = os.path.join(cert.folder, "pgrelay.conf")
    with open(conf, "w") as f:
        f.write(cert.out)
    assert "it''s # here/pgrelay.crt'  # file" in site.pgrelay("config", "--print", "--config", conf).stdout


def test_without_names_it_is_for_this_host():
    cert = Cert()
    names = cert.names()
    assert names[-3:] == ["localhost", "127.0.0.1", "0:0:0:0:0:0:0:1"] and os.uname().nodename in names, names


def test_into_the_present_folder_unless_told():
    folder = os.path.join(site.folder, "present")
    os.mkdir(folder)
    argv, env = site.command("cert")
    subprocess.run(argv, cwd=folder, env=env, stdout=subprocess.DEVNULL, check=True)
    assert sorted(os.listdir(folder)) == FILES


def test_the_key_is_closed_and_the_certificate_open_whatever_the_umask():
    for umask in (0o000, 0o077):
        folder = os.path.join(site.folder, f"umask-{umask}")
        os.mkdir(folder, 0o755)
        argv, env = site.command("cert", "--out", folder)
        subprocess.run(argv, env=env, stdout=subprocess.DEVNULL, check=True, umask=umask)
        modes = [stat.S_IMODE(os.stat(os.path.join(folder, f"pgrelay.{end}")).st_mode) for end in ("crt", "key")]
        assert modes == [0o644, 0o600], (umask, modes)


def test_kinds_and_purposes():
    cert = Cert("--name", "localhost")
    text = cert.text("-text")
    for said in ("ASN1 OID: prime256v1", "ecdsa-with-SHA256", "CA:FALSE", "Digital Signature\n", "TLS Web Server Authentication, TLS Web Client Authentication"):
        assert said in text, (said, text)
    key = openssl("pkey", "-in", cert.key, "-pubout")
    assert cert.text("-pubkey").startswith(key), "the key does not fit"
    # The authority may issue nothing below another one, and its key is nowhere.
    text = openssl("storeutl", "-noout", "-text", "-certs", cert.path)
    assert text.count("Certificate:") == 2 and "CA:TRUE, pathlen:0" in text and "Certificate Sign" in text, text
    with open(cert.path) as both, open(cert.authority) as authority:
        assert both.read().endswith(authority.read())


def test_days():
    def days(cert):
        text = cert.text("-dates")
        begin, end = (int(ssl.cert_time_to_seconds(re.search(rf"{name}=(.*)", text).group(1))) for name in ("notBefore", "notAfter"))
        return (end - begin) / 86400

    assert days(Cert()) == 825
    assert days(Cert("--days", "1")) == 1 and days(Cert("--days", "3650")) == 3650
    cert = Cert("--days", "1")
    assert "will expire" in openssl("x509", "-in", cert.path, "-noout", "-checkend", "86400", status=1)
    assert "will not expire" in cert.text("-checkend", "80000")


def test_verifiers_accept_it_for_its_names_only():
    cert = Cert()
    for options in ((), ("-x509_strict",), ("-purpose", "sslserver"), ("-purpose", "sslclient"), ("-verify_hostname", "localhost"),
                    ("-verify_ip", "127.0.0.1"), ("-verify_ip", "::1"), ("-partial_chain", "-x509_strict")):
        for trusted in (cert.authority, cert.path):  # the latter holds it, too
            assert openssl("verify", "-CAfile", trusted, *options, cert.path).endswith(": OK\n"), options
    for options in (("-verify_hostname", "example.org"), ("-verify_ip", "192.0.2.7")):
        assert "mismatch" in openssl("verify", "-CAfile", cert.authority, *options, cert.path, status=None)
    other = Cert()
    assert "unable to get local issuer" in openssl("verify", "-CAfile", other.authority, cert.path, status=None)
    # Several of them in one file of authorities are told apart.
    both = os.path.join(site.folder, "both.pem")
    with open(both, "w") as f:
        for one in (other, cert):
            f.write(open(one.authority).read())
    for one in (other, cert):
        assert openssl("verify", "-CAfile", both, one.path).endswith(": OK\n")


def test_files_that_are_there_are_left_alone_unless_forced():
    cert = Cert("--name", "first.example.org")
    paths = (cert.path, cert.key, cert.authority)
    before = [open(path, "rb").read() for path in paths]
    for gone in (None, *paths):
        kept = [path for path in paths if path != gone]
        if gone:
            os.rename(gone, gone + ".away")
        done = site.pgrelay("cert", "--out", cert.folder, status=1)
        assert "is there already" in done.stderr and "--force" in done.stderr and done.stdout == "", done.stderr
        assert all(os.path.exists(path) for path in kept) and not (gone and os.path.exists(gone))
        if gone:
            os.rename(gone + ".away", gone)
    assert [open(path, "rb").read() for path in paths] == before
    anew = Cert("--force", "--name", "second.example.org", folder=cert.folder)
    assert anew.names() == ["second.example.org"] and sorted(os.listdir(cert.folder)) == FILES
    assert stat.S_IMODE(os.stat(cert.key).st_mode) == 0o600
    assert anew.text("-pubkey").startswith(openssl("pkey", "-in", cert.key, "-pubout"))


def test_replaced_files_stay_with_their_owner():
    """The node that could read the former key can read the new one; nobody else can."""
    cert = Cert()
    for before, after in ((0o640, 0o640), (0o600, 0o600), (0o644, 0o640), (0o400, 0o400)):
        os.chmod(cert.key, before)
        if os.geteuid() == 0:
            os.chown(cert.key, 12, 34)
        site.pgrelay("cert", "--force", "--out", cert.folder)
        now = os.stat(cert.key)
        assert stat.S_IMODE(now.st_mode) == after and (os.geteuid() != 0 or (now.st_uid, now.st_gid) == (12, 34)), (before, now)
    assert stat.S_IMODE(os.stat(cert.path).st_mode) == 0o644


def test_a_link_in_the_way_is_not_followed():
    folder = os.path.join(site.folder, "linked")
    os.mkdir(folder)
    target = os.path.join(site.folder, "target")
    os.symlink(target, os.path.join(folder, "pgrelay.key"))
    assert site.pgrelay("cert", "--out", folder, status=1).stderr
    assert not os.path.exists(target) and os.listdir(folder) == ["pgrelay.key"]


def test_mistakes_are_told():
    for argv, status, said in (
        (("--name", "https://relay.example.org"), 2, "neither a host's name nor an IP address"),
        (("--name", "relay.example.org:443"), 2, "Without scheme, port and brackets"),
        (("--name", "[::1]"), 2, "brackets"), (("--name", ""), 2, '""'), (("--name", "a..b"), 2, '"a..b"'), (("--name", "-a"), 2, '"-a"'),
        (("--name", "x" * 64), 2, "neither"), (("--name", ".".join(["x" * 63] * 4)), 2, "neither"), (("--name", "r\u00f6h.re"), 2, "xn--"),
        (("--name", "a,DNS:b"), 2, "neither"), (("--name", "*"), 2, "neither"), (("--name", "a.*"), 2, "neither"),
        (("--days", "0"), 2, "from 1 to 3650"), (("--days", "3651"), 2, "3651"), (("--days", "1y"), 2, '"1y"'), (("--days", ""), 2, "from 1"),
        (("--out", "/nonexistent"), 1, "No such file"), (("--out", "/etc/passwd"), 1, "it is a file"), (("operand",), 2, "operand"),
        (("--out", "/proc"), 1, "could not write"),
    ):
        done = site.pgrelay("cert", *argv, status=status)
        assert said in done.stderr and done.stdout == "", (argv, done.stderr)


def test_a_folder_that_may_not_be_written_to():
    if os.geteuid() == 0:
        argv, env = site.command("cert", "--out", "/etc")
        user = site.pg.ordinary_user()
        done = subprocess.run(argv, env=env, user=user.pw_uid, group=user.pw_gid, extra_groups=[], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    else:
        done = site.pgrelay("cert", "--out", "/etc", status=None)
    assert done.returncode == 1 and "Permission denied" in done.stderr and "/etc/pgrelay.key" in done.stderr, done.stderr
    assert not os.path.exists("/etc/pgrelay.key") and not os.path.exists("/etc/pgrelay.crt")


def test_it_needs_no_database_and_no_settings():
    cert = Cert()
    site.pgrelay("cert", "--out", cert.folder, "--force", env={"PGRELAY_DATABASE": "host=127.0.0.1 port=1", "PGRELAY_QUEUE_LIMIT": "nonsense"})


# ---- a node that serves with it ----


def test_curl_and_our_own_commands_trust_it():
    cert, user = Cert(), site.user("*.*.*")
    site.pgrelay("grant", "add", "--publish", user.name, "*.*.*")
    with TlsNode(cert) as node:
        url = f"https://localhost:{node.tls_port}"
        curl = [need("curl", "curl"), "-sS", "--max-time", "20"]
        for address in (url, f"https://127.0.0.1:{node.tls_port}"):
            done = subprocess.run([*curl, "-f", "--cacert", cert.authority, f"{address}/readyz"], env=clean_environment(), stdout=subprocess.PIPE, text=True)
            assert done.stdout == "ready\n", done
        done = subprocess.run([*curl, f"{url}/readyz"], env=clean_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert done.returncode == 60 and not done.stdout, done
        env = {"PGRELAY_TOKEN": user.token, "PGRELAY_URL": url, "PGRELAY_TLS_CA_FILE": cert.authority}
        assert '"nodes"' in site.pgrelay("status", "--json", env=env).stdout
        watch = site.start("watch", "demo-1", "--json", env=env)
        watch.wait_for("following demo-1", stream="err")
        assert site.pgrelay("emit", "--via-node", "demo", "x", "1", '{"n": 1}', env=env).stdout.strip().isdigit()
        watch.wait_for('{"n": 1}')
        untrusted = site.start("watch", "demo-1", env={**env, "PGRELAY_TLS_CA_FILE": ""})
        untrusted.wait_for("certificate is not accepted", stream="err")
        watch.kill()
        untrusted.kill()


def test_a_new_one_is_shown_after_sighup():
    cert = Cert()
    with TlsNode(cert) as node:
        first = node.shown()
        assert first == cert.fingerprint()
        Cert("--force", folder=cert.folder)
        node.process.signal(signal.SIGHUP)
        eventually(lambda: node.shown() == cert.fingerprint() != first, what="the new certificate is shown")


def test_nodes_link_up_with_one_for_all():
    """advertise = wss://..., and each shows its own to the other, which wants one (tls_client_ca_file)."""
    cert = Cert("--name", "localhost", "--name", "127.0.0.1")
    with contextlib.ExitStack() as stack:
        nodes = []
        for name in ("a", "z"):
            port = free_port()
            nodes.append(start(name, listen_tls=f"127.0.0.1:{port}", advertise=f"wss://localhost:{port}", tls_ca_file=cert.authority,
                               tls_client_ca_file=cert.authority, **cert.settings()))
            stack.enter_context(nodes[-1])
        wait_linked(nodes)


# ---- check ----


def check(*options, status=0, env=None):
    out = site.pgrelay("check", *options, user="node", status=None, env={"PGRELAY_PROBE_INTERVAL": "50ms", **(env or {})}).stdout
    line = re.search(r"^(ok  |FAIL) TLS: (.*(?:\n     hint: .*)?)", out, re.M)
    assert (line.group(1) == "FAIL") == bool(status), out
    return line.group(2)


def serving(cert, **more):
    return [f"--{k.replace('_', '-')}={v}" for k, v in {"listen_tls": "*:8443", **cert.settings(), **more}.items()]


def test_check_of_the_certificate():
    assert check() == "not served, listen_tls is empty"
    said = check(*serving(Cert("--name", "relay.example.org", "--name", "192.0.2.7", "--name", "2001:db8::7")))
    assert re.fullmatch(r"for relay.example.org, 192.0.2.7, 2001:db8::7, until \d{4}-\d\d-\d\d \d\d:\d\d UTC \(824 d\)", said), said
    assert "(12 d): renew it soon" in check(*serving(Cert("--days", "13")))
    assert check(*serving(Cert("--days", "16"))).endswith("(15 d)")


def test_check_of_certificates_that_will_not_do():
    cert, other = Cert(), Cert()
    assert "listen_tls needs tls_cert_file and tls_key_file" in check("--listen-tls", "*:8443", status=1)
    assert "No such file" in check(*serving(cert, tls_cert_file="/nonexistent"), status=1)
    assert "pgrelay cert" in check(*serving(cert, tls_key_file=cert.path), status=1)
    assert "mismatch" in check(*serving(cert, tls_key_file=other.key), status=1)
    with open(os.path.join(cert.folder, "empty.pem"), "w") as empty:
        pass
    assert "no start line" in check(*serving(cert, tls_cert_file=empty.name), status=1)
    secret = os.path.join(cert.folder, "secret.key")
    openssl("pkey", "-in", cert.key, "-aes256", "-passout", "pass:hush", "-out", secret)
    assert "passphrase" in check(*serving(cert, tls_key_file=secret), status=1)
    assert "tls_client_ca_file" in check(*serving(cert, tls_client_ca_file=cert.key), status=1)
    assert "tls_ca_file" in check("--tls-ca-file", cert.key, status=1)
    os.chmod(cert.key, 0o604)
    assert "everybody" in check(*serving(cert), status=1)
    os.chmod(cert.key, 0o640)
    check(*serving(cert))


def test_check_of_a_certificate_that_is_over_or_not_yet():
    cert = Cert()
    for name, begin, end, said in (("over", "20200101000000Z", "20210101000000Z", "has expired: 2021-01-01"),
                                   ("early", "20600101000000Z", "20610101000000Z", "not valid before 2060-01-01")):
        path = make_between(cert, name, begin, end)
        assert said in check(*serving(cert, tls_cert_file=path), status=1)


def make_between(cert, name, begin, end):
    """By openssl ca, for openssl req cannot say when it begins."""
    folder = os.path.join(site.folder, name)
    os.mkdir(folder)
    config, path = os.path.join(folder, "ca.conf"), os.path.join(folder, "cert.pem")
    with open(config, "w") as f:
        f.write(f"[ca]\ndefault_ca=d\n[d]\nnew_certs_dir={folder}\ndatabase={folder}/index\nserial={folder}/serial\ndefault_md=sha256\npolicy=p\n"
                "email_in_dn=no\nunique_subject=no\n[p]\ncommonName=supplied\n")
    open(os.path.join(folder, "index"), "w").close()
    request = os.path.join(folder, "request.pem")
    openssl("req", "-new", "-key", cert.key, "-subj", "/CN=localhost", "-out", request)
    openssl("ca", "-batch", "-config", config, "-selfsign", "-keyfile", cert.key, "-in", request, "-out", path, "-startdate", begin, "-enddate", end,
            "-rand_serial", "-notext")
    return path


if __name__ == "__main__":
    main()
