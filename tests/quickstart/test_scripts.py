#!/usr/bin/env python3
"""The scripts of contrib/: their shell, their help, what they say to wrong arguments, what they install."""
import glob
import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))
from harness import TOP_SRCDIR, clean_environment, main, need, site  # noqa: E402

SCRIPTS = [os.path.relpath(p, TOP_SRCDIR) for p in sorted(glob.glob(os.path.join(TOP_SRCDIR, "contrib", "*.sh")))]


def call(*argv, env=None):
    return subprocess.run(
        argv, cwd=TOP_SRCDIR, env={**clean_environment(), **(env or {})}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, timeout=60,
    )


def test_dash_and_shellcheck_are_content():
    assert SCRIPTS
    for script in [*SCRIPTS, ".ci/run"]:
        done = call("dash", "-n", script)
        assert done.returncode == 0, done.stderr
        done = call(need("shellcheck", "shellcheck"), "-x", script)
        assert done.returncode == 0, done.stdout


def test_help_and_wrong_arguments():
    for script, flags in (("quickstart.sh", ("--once", "--database")), ("check.sh", ("--quick",))):
        script = f"contrib/{script}"
        done = call("sh", script, "--help")
        assert done.returncode == 0 and not done.stderr, done
        for flag in flags:
            assert flag in done.stdout, (flag, done.stdout)
        done = call("sh", script, "--fast")
        assert done.returncode == 2 and '"--fast"' in done.stderr and not done.stdout, done
    done = call("sh", "contrib/quickstart.sh", "--database")
    assert done.returncode == 1 and "--database" in done.stderr, done


def test_packages_are_those_of_the_readme():
    """What the script installs to build is what README.md tells to install."""
    done = call("sh", "-c", '. contrib/packages.sh; want() { while [ "$1" != -- ]; do echo "$1"; shift; done; }; want_to_build')
    assert done.returncode == 0, done.stderr
    with open(os.path.join(TOP_SRCDIR, "README.md")) as readme:
        command = re.search(r"^```sh as-root\n(.*?)^```", readme.read(), re.M | re.S).group(1)
    packages = [word for word in command.replace("\\\n", " ").split()[2:] if not word.startswith("-")]
    assert sorted(packages) == sorted(done.stdout.split()), (packages, done.stdout.split())


def fake_host(folder, **commands):
    """A PATH where dpkg's world is seen through these commands alone."""
    os.makedirs(folder)
    for tool in ("sh", "dirname", "uname", "mkdir", "env", "sed", "tr", "sort", "tail", "cat", "pwd", "grep", "rm", "tee"):
        os.symlink(need(tool, "coreutils"), os.path.join(folder, tool))
    for name, body in commands.items():
        path = os.path.join(folder, name.replace("_", "-"))
        with open(path, "w") as f:
            f.write(f"#!/bin/sh\n{body}\n")
        os.chmod(path, 0o755)
    return folder


def test_without_rights_it_says_what_to_install():
    folder = fake_host(os.path.join(site.folder, "no-sudo"), id="echo 1000", apt_get="exit 99")
    env = {"PATH": folder, "BUILD_DIR": os.path.join(site.folder, "b1")}
    done = call("/bin/sh", "contrib/quickstart.sh", env=env)
    assert done.returncode == 1, done
    assert "nor is there sudo" in done.stderr and "apt-get install --no-install-recommends gcc" in done.stderr, done.stderr

    folder = fake_host(os.path.join(site.folder, "no-apt"), id="echo 0")
    env = {"PATH": folder, "BUILD_DIR": os.path.join(site.folder, "b2")}
    done = call("/bin/sh", "contrib/quickstart.sh", env=env)
    assert done.returncode == 1 and "Debian's packages" in done.stderr and "libpq-dev" in done.stderr, done


def test_lists_are_fetched_only_when_needed():
    log = os.path.join(site.folder, "apt.log")
    record = f'while [ "${{1#-}}" != "$1" ]; do [ "$1" = -o ] && shift; shift; done; echo "$1" >>{log}; '
    for name, install, known, expected in (
        ("known", "exit 0", "exit 0", ["install"]),
        ("unknown", "exit 0", "exit 1", ["update", "install"]),
        ("gone", f"[ -e {site.folder}/gone.updated ]", "exit 0", ["install", "update", "install"]),
        ("broken", "exit 100", "exit 0", ["install", "update", "install"]),
    ):
        body = record + f'case $1 in update) : >{site.folder}/{name}.updated ;; *) {install} ;; esac'
        folder = fake_host(os.path.join(site.folder, name), id="echo 0", apt_get=body, apt_cache=known)
        switch = os.path.join(site.folder, f"{name}.d", "switch")
        script = (
            f". contrib/packages.sh; cluster_switch={switch}; packages_missing=' gcc make'; "
            f"install_missing {site.folder}/{name}.log; echo status $? missing:$packages_missing; [ ! -e {switch} ]"
        )
        done = call("/bin/sh", "-c", script, env={"PATH": folder})
        with open(log) as f:
            assert f.read().split() == expected, (name, done)
        assert done.returncode == 0, (name, done)
        if name == "broken":
            assert "status 1 missing: gcc make" in done.stdout and "apt-get failed" in done.stderr, done
        else:
            assert done.stdout.endswith("status 0 missing:\n") and not done.stderr, (name, done)
        os.unlink(log)


if __name__ == "__main__":
    main(finish=False)
