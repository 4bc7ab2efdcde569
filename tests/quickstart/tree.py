"""A fresh copy of the sources, as a clone would be."""
import os
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))
from harness import TOP_SRCDIR  # noqa: E402

BUILT = shutil.ignore_patterns(
    ".git", "build", "build-*", "autom4te.cache", "configure", "configure~", "aclocal.m4", "Makefile.in", "config.h.in*",
    "node_modules", "__pycache__", "*.o", "*.a", "*.log", "*.trs",
)


def listed_files():
    """What git knows or would take; None where this is no work tree of git's."""
    if not os.path.exists(os.path.join(TOP_SRCDIR, ".git")):
        return None
    done = subprocess.run(
        ["git", "-c", f"safe.directory={TOP_SRCDIR}", "-C", TOP_SRCDIR, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        stdout=subprocess.PIPE, check=True,
    )
    return [os.fsdecode(name) for name in done.stdout.split(b"\0") if name]


def copy_sources(target):
    names = listed_files()
    if names is None:
        shutil.copytree(TOP_SRCDIR, target, ignore=BUILT)
        return target
    for name in names:
        source = os.path.join(TOP_SRCDIR, name)
        if os.path.exists(source):
            os.makedirs(os.path.dirname(os.path.join(target, name)), exist_ok=True)
            shutil.copy2(source, os.path.join(target, name))
    return target
