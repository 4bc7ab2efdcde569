"""make bench: measures pgrelay beside a bare limit and other programs, and prints one table; docs/benchmarks.md tells how to read it.

One temporary PostgreSQL with its default durability (fsync on) serves all scenarios but triggers and announce, which have their
own. What is compared runs in turns, each time with a new process, and the median over the repeats counts. The exit status is
1 when an event is lost or out of order, or a bound of ours is missed.
"""
import argparse
import json
import os
import platform
import subprocess
import sys
import traceback

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))

import harness
import peers
from harness import site
from catching_up import catchup, resume, tickets
from chart import draw
from connecting import memory, storm
from fan_out import fanout, groups, slow, tls
from intake import intake, million
from many_nodes import nodes, payloads
from many_sessions import registrations, revocation
from measure import EVENT_OCTETS
from overload import overload
from table import Failure, Table
from timing import latency, load
from writing import announce, job, publish, triggers

SCENARIOS = {
    f.__name__: f
    for f in (
        latency, load, fanout, groups, tls, slow, memory, storm, intake, million, triggers, announce, job, catchup, resume, tickets,
        nodes, payloads, publish, registrations, revocation, overload,
    )
}
# Those that other programs take part in.
BESIDE_PEERS = {"fanout", "latency", "memory"}


# ---- all of it ----


def machine():
    model = ""
    with open("/proc/cpuinfo") as f:
        model = next((line.split(":", 1)[1].strip() for line in f if line.startswith("model name")), "")
    return {
        "processor": model, "processors": len(os.sched_getaffinity(0)), "kernel": platform.release(),
        "postgresql": subprocess.run([harness.pg_program("postgres"), "--version"], stdout=subprocess.PIPE, text=True).stdout.strip(),
        "pgrelay": subprocess.run([harness.PGRELAY, "--version"], stdout=subprocess.PIPE, text=True).stdout.strip(),
        "file_system": subprocess.run(["stat", "-f", "-c", "%T", site.folder], stdout=subprocess.PIPE, text=True).stdout.strip(),
        "load_before": os.getloadavg()[0],
    }


def parse_arguments():
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3, help="how often each figure is measured (default 3)")
    parser.add_argument("--seconds", type=int, default=10, help="how long latency and idle nodes are measured (default 10)")
    parser.add_argument("--wait", type=int, default=10, help="longest wait for an idle machine before each, in seconds (default 10)")
    parser.add_argument("--json", default=os.path.join(harness.TOP_BUILDDIR, "bench.json"), help="where the results go")
    parser.add_argument("--keep", action="store_true", help="scenarios that are not measured now stay in that file, and in the table")
    parser.add_argument("--smoke", action="store_true", help="once, and everything small, to show that it works; without bounds")
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=f"of: {', '.join(SCENARIOS)}; default: all")
    args = parser.parse_args()
    unknown = set(args.scenarios) - set(SCENARIOS)
    if unknown:
        parser.error(f"no such scenario: {', '.join(sorted(unknown))}; there are: {', '.join(SCENARIOS)}")
    args.scenarios = args.scenarios or list(SCENARIOS)
    if args.smoke:
        args.repeats, args.seconds, args.wait = 1, 1, 0
    return args


def introduce(about, args):
    print(f"# {about['pgrelay']}, {about['postgresql']}, {about['processors']} x {about['processor']}, Linux {about['kernel']}")
    print(f"# PostgreSQL's files lie on {about['file_system']}, in {os.path.dirname(site.folder)} (TMPDIR)")
    if harness.is_sanitized():
        print("# built with sanitizers: these figures mean nothing")
    print(f"# medians of {args.repeats}, {EVENT_OCTETS}-octet events; load average before: {about['load_before']:.2f}")


def measure(table, args, failures):
    """One scenario that fails does not end the others."""
    for name in args.scenarios:
        try:
            SCENARIOS[name](table, args)
        except (Failure, AssertionError, OSError, subprocess.SubprocessError) as e:
            if not isinstance(e, Failure):
                traceback.print_exc(file=sys.stdout)
            failures.append(f"{name}: {e}")
            print(f"{name}: FAIL: {e}", flush=True)


def former(path):
    if not os.path.exists(path):
        return {"figures": [], "runs": [], "chart": [], "peers": []}
    with open(path) as f:
        return json.load(f)


def main():
    args = parse_arguments()
    about = machine()
    introduce(about, args)
    args.others = peers.installed() if set(args.scenarios) & BESIDE_PEERS else {}
    table = Table(judges=not args.smoke, peers=args.others)
    table.head()
    failures = []
    try:
        measure(table, args, failures)
    finally:
        site.destroy()
    about["load_after"] = os.getloadavg()[0]
    if args.keep:
        table.keep(former(args.json), args.scenarios)
    table.save(args.json, list(SCENARIOS), machine=about, repeats=args.repeats, failures=failures)
    if args.keep:
        print("# together with what was there already:")
        table.show_all()
    picture = os.path.splitext(args.json)[0] + ".svg"
    if draw(table.points, picture):
        print(f"# the chart is {picture}")
    print(f"# load average after: {about['load_after']:.2f}; all samples are in {args.json}")
    sys.exit(0 if table.passed and not failures else 1)


if __name__ == "__main__":
    try:
        main()
    except harness.Missing as e:
        sys.exit(f"run.py: {e}")
