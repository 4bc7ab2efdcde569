#!/usr/bin/env python3
"""What the documents, the manual pages and the samples say is what the program does."""
import base64
import glob
import json
import os
import re
import shutil
import ssl
import stat
import subprocess
import sys
import urllib.request

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))
from harness import PGRELAY, TOP_BUILDDIR, TOP_SRCDIR, SqlError, eventually, free_port, main, need, read_text, site  # noqa: E402

COMMANDS = {
    "serve": [], "check": [], "emit": [], "run": [], "watch": [], "config": [],
    "cert": [], "password": ["set", "remove"],
    "schema": ["install", "upgrade", "print", "uninstall"],
    "token": ["create", "list", "revoke"],
    "grant": ["add", "list", "remove"],
    "status": [],
}


def source(name):
    return read_text(os.path.join(TOP_SRCDIR, name))


def manual(name):
    """A manual page as plain text, in one line."""
    done = subprocess.run(
        [need("mandoc", "mandoc"), "-T", "utf8", "-O", "width=500", os.path.join(TOP_SRCDIR, "docs", name)],
        stdout=subprocess.PIPE, text=True, check=True,
    )
    return re.sub(r"\s+", " ", re.sub(".\b", "", done.stdout))


def options():
    """From `pgrelay config --list`: name -> (text, default, needs a restart)."""
    listed = {}
    for block in site.pgrelay("config", "--list").stdout.split("\n\n")[1:]:
        text, setting = block.strip().split("\n")
        name, default = re.fullmatch(r"#(\w+) = '?(.*?)'?", setting).groups()
        restart = text.endswith(" (restart)")
        listed[name] = (text.removeprefix("# ").removesuffix(" (restart)"), default, restart)
    assert len(listed) > 20, listed
    return listed


def test_the_sample_is_the_list_of_settings():
    assert source("contrib/pgrelay.conf.sample") == site.pgrelay("config", "--list").stdout, \
        "make samples writes contrib/pgrelay.conf.sample anew"


def test_the_sample_is_valid_with_every_setting_uncommented():
    path = os.path.join(site.folder, "pgrelay.conf")
    with open(path, "w") as f:
        f.write(re.sub(r"^#(\w+ = )", r"\1", source("contrib/pgrelay.conf.sample"), flags=re.M))
    site.pgrelay("config", "--check", "--config", path)


def test_the_manual_describes_each_setting():
    page = source("docs/pgrelay.conf.5")
    items = dict(re.findall(r"^\.It Ic (\w+)\n(\(.*\)\n[^.].*)$", page, re.M))
    listed = options()
    assert list(items) == list(listed), set(items) ^ set(listed) or "not in the order of the table"
    for name, (text, default, restart) in listed.items():
        facts, sentence = items[name].split("\n")
        assert f"; default {default or 'empty'}" in facts, (facts, default)
        assert facts.endswith("; restart)") == restart, (facts, restart)
        assert sentence.lower() == text.lower() + ".", (sentence, text)


def test_the_manual_names_each_command_and_option():
    page, commands = manual("pgrelay.8"), source("docs/commands.md")
    help_text = site.pgrelay("--help").stdout
    assert re.findall(r"^  (\w+) ", help_text, re.M) == list(COMMANDS) or \
        set(re.findall(r"^  (\w+) ", help_text, re.M)) == set(COMMANDS), help_text
    for command, parts in COMMANDS.items():
        assert f"pgrelay {command}" in page and f"`{command}" in commands, command
        if parts:
            found = re.findall(r"^  (\w+) ", site.pgrelay(command, "--help").stdout, re.M)
            assert found == parts, (command, found)
        for part in parts or [""]:
            text = site.pgrelay(command, *part.split(), "--help").stdout
            own = text.split("\nSettings", 1)[0]
            flags = set(re.findall(r"^  (--[\w-]+)", own, re.M))
            assert {"--config", "--help"} <= flags, text
            for flag in flags:
                assert flag in page, (command, part, flag)
                if flag not in ("--config", "--help"):
                    assert flag in commands, (command, part, flag)
            assert part in page and part in commands, (command, part)


def test_the_manuals_are_well_formed():
    pages = sorted(glob.glob(os.path.join(TOP_SRCDIR, "docs", "*.[58]")))
    assert len(pages) == 2
    done = subprocess.run([need("mandoc", "mandoc"), "-T", "lint", *pages], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    complaints = [
        line for line in done.stdout.splitlines()
        if "STYLE: input text line longer" not in line and "STYLE: referenced manual not found" not in line
    ]
    assert not complaints, "\n".join(complaints)


def test_the_metrics_are_those_of_the_node():
    told = re.findall(r"^# HELP (\w+) (.*)$", site.node.get("/metrics").body, re.M)
    types = dict(re.findall(r"^# TYPE (\w+) (\w+)$", site.node.get("/metrics").body, re.M))
    written = re.findall(r"^\| `(pgrelay_\w+)(?:\{\w+\})?` \| (.*?) \|$", source("docs/operations.md"), re.M)
    assert dict(written) == {name: f"{types[name]}: {text}" for name, text in told if name != "pgrelay_info"} | \
        {"pgrelay_info": dict(written)["pgrelay_info"]}
    for name in set(re.findall(r"`(pgrelay_\w+)`", source("docs/operations.md") + source("docs/protocol.md"))):
        assert name in types or name in ("pgrelay_node", "pgrelay_emitter"), name


def test_settings_named_in_the_documents_exist():
    known = set(options())
    for document in ("docs/operations.md", "docs/design.md", "docs/protocol.md", "docs/commands.md", "SECURITY.md"):
        text = source(document)
        for name in re.findall(r"\bsetting `(\w+)`|`((?!proxy_|tcp_|pgrelay_)\w+_(?:timeout|limit|interval|buffer|bytes|origins|max|port))`", text):
            assert (name[0] or name[1]) in known, (document, name)


def test_links_lead_somewhere():
    documents = [p for p in glob.glob(os.path.join(TOP_SRCDIR, "**", "*.md"), recursive=True)
                 if "node_modules" not in p and "build" not in os.path.relpath(p, TOP_SRCDIR)]
    for document in documents:
        for link in re.findall(r"\]\(([^)#]+)\)", read_text(document)):
            assert os.path.exists(os.path.join(os.path.dirname(document), link)), (document, link)
    for document in ("README.md", "HACKING", "SECURITY.md", *(f"docs/{d}.md" for d in ("operations", "design"))):
        for path in re.findall(r"\b((?:contrib|docs|src|sql|tests)/[\w./-]*\w)", source(document)):
            if "NAME" not in path and not path.endswith(".log"):
                assert os.path.exists(os.path.join(TOP_SRCDIR, path)), (document, path)


def test_sql_in_operations_runs():
    blocks = re.findall(r"^```sql\n(.*?)^```", source("docs/operations.md"), re.M | re.S)
    assert len(blocks) >= 2
    site.sql("CREATE ROLE app LOGIN")
    for block in blocks:
        try:
            site.sql(block)
        except SqlError as e:
            raise AssertionError(f"{block}\n{e}") from e
    # What the roles are said to be enough for.
    site.pgrelay("check", user="relay")
    assert site.pgrelay("emit", "demo", "x", "1", "{}", user="app").stdout.strip().isdigit()


def test_the_renewal_hook_of_operations():
    """As certbot calls it; only its folder, its group and the service's name are put in place."""
    hook = re.search(r"^```sh\n(#!/bin/sh\n.*?)^```", source("docs/operations.md"), re.M | re.S).group(1)
    folder = os.path.join(site.folder, "hook")
    for made in ("live", "next", "bin"):
        os.makedirs(os.path.join(folder, made))
    for made in ("live", "next"):
        site.pgrelay("cert", "--out", os.path.join(folder, made))
    settings = {f"tls_{kind}_file": os.path.join(folder, "live", f"pgrelay.{end}") for kind, end in (("cert", "crt"), ("key", "key"))}
    with site.serve(listen_tls=f"127.0.0.1:{(port := free_port())}", **settings) as node:
        text = hook.replace("/etc/pgrelay/", f"{folder}/live/").replace(" -g pgrelay", "")
        assert text.count(folder) == 2 and "systemctl try-reload-or-restart pgrelay\n" in text, text
        before = ssl.get_server_certificate(("127.0.0.1", port))
        for old, new in (("crt", "fullchain"), ("key", "privkey")):
            os.rename(os.path.join(folder, "next", f"pgrelay.{old}"), os.path.join(folder, "next", f"{new}.pem"))
        with open(os.path.join(folder, "bin", "systemctl"), "w") as f:
            f.write(f"#!/bin/sh\n[ \"$*\" = 'try-reload-or-restart pgrelay' ] && kill -HUP {node.pid}\n")
        os.chmod(f.name, 0o755)
        done = subprocess.run(["sh", "-c", text], env={"PATH": f"{folder}/bin:{os.environ['PATH']}", "RENEWED_LINEAGE": f"{folder}/next"},
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert done.returncode == 0, done.stdout
        eventually(lambda: ssl.get_server_certificate(("127.0.0.1", port)) != before, what="the new certificate is shown")
        assert read_text(settings["tls_cert_file"]).startswith(ssl.get_server_certificate(("127.0.0.1", port)))
        assert stat.S_IMODE(os.stat(settings["tls_key_file"]).st_mode) == 0o640


def test_the_clients_certificates_of_operations():
    """The commands, and a node that wants such a certificate."""
    block = re.search(r"^```sh\n(openssl req .*?)^```", source("docs/operations.md"), re.M | re.S).group(1)
    folder = os.path.join(site.folder, "clients")
    os.mkdir(folder)
    site.pgrelay("cert", "--out", folder)
    port = free_port()
    *commands, curl = block.replace("/etc/pgrelay/", f"{folder}/").replace("relay.example.org:8443", f"localhost:{port}").strip().split("\n")
    run = lambda text: subprocess.run(["sh", "-ec", text], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    done = run("\n".join(commands))
    assert done.returncode == 0, done.stdout
    with site.serve(listen_tls=f"127.0.0.1:{port}", tls_cert_file=f"{folder}/pgrelay.crt", tls_key_file=f"{folder}/pgrelay.key",
                    tls_client_ca_file=f"{folder}/clients.crt"):
        done = run(curl.replace("curl ", "curl -sS "))
        assert done.stdout == "ready\n", done.stdout
        done = run(curl.replace("curl ", "curl -sS ").replace("--cert alice.crt --key alice.key ", ""))
        assert done.returncode != 0 and "ready" not in done.stdout, done.stdout


def test_the_commands_for_digital_rebar_of_operations():
    """Up to drpcli, whose requests are made here."""
    text = source("docs/operations.md").split("\n## Digital Rebar's clients\n")[1]
    commands, clients = re.findall(r"^```sh\n(.*?)^```", text, re.M | re.S)[:2]
    folder = os.path.join(site.folder, "rebar")
    os.mkdir(folder)
    _, env = site.command("x", env={"PATH": f"{os.path.dirname(PGRELAY)}:{os.environ['PATH']}"})
    done = subprocess.run(["sh", "-ec", commands], cwd=folder, env=env, input="r0cketsk8ts\n", stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 0 and done.stdout.count("granted") == 4, done
    token = read_text(os.path.join(folder, "builder.token")).strip()
    site.tokens.append(token)
    site.pgrelay("cert", "--out", folder)
    context = ssl.create_default_context(cafile=os.path.join(folder, "pgrelay-ca.crt"))
    basic = "Basic " + base64.b64encode(b"rocketskates:r0cketsk8ts").decode()

    def ask(path, credential, body=None):
        headers = {"Authorization": credential, "Content-Type": "application/json"}
        request = urllib.request.Request(f"https://localhost:{port}/api/v3/{path}", body, headers)
        with urllib.request.urlopen(request, context=context, timeout=20) as answer:
            return answer.status, answer.read()

    with site.serve(listen_tls=f"127.0.0.1:{(port := free_port())}", tls_cert_file=f"{folder}/pgrelay.crt", tls_key_file=f"{folder}/pgrelay.key"):
        assert "Token" in json.loads(ask("users/rocketskates/token", basic)[1])
        event = re.search(r"drpcli events post '(.*)'", clients).group(1)
        assert ask("events", f"Bearer {token}", event.encode()) == (204, b"")
        assert ask("connections", f"Bearer {token}")[0] == 200


def test_the_systemd_unit():
    unit = read_text(os.path.join(TOP_BUILDDIR, "contrib", "systemd", "pgrelay.service"))
    assert "@bindir" not in unit and "@sysconfdir" not in unit
    start = re.search(r"^ExecStart=(\S+)/pgrelay serve$", unit, re.M).group(1)
    makefile = read_text(os.path.join(TOP_BUILDDIR, "Makefile"))
    prefix = re.search(r"^prefix = (.*)$", makefile, re.M).group(1)
    assert start == f"{prefix}/bin", (start, prefix)
    if shutil.which("systemd-analyze") is None:
        return
    # On a host where the program is not installed, and the user does not exist, the rest can be verified.
    path = os.path.join(site.folder, "pgrelay.service")
    with open(path, "w") as f:
        f.write(unit.replace(f"{start}/pgrelay", "/bin/true").replace("User=pgrelay", "User=root"))
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", path], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    complaints = [line for line in done.stdout.splitlines() if "pgrelay.service" in line]
    assert not complaints, done.stdout


if __name__ == "__main__":
    main()
