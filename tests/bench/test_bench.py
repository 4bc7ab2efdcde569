"""The programs of make bench, shortly: that they work, lose nothing, and tell what they are to tell. No figure is judged."""
import json
import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "e2e"))

import harness
from harness import seconds, site
from many_sessions import lines_file
from measure import relay, write
from run import SCENARIOS
from table import Table



def run(*arguments):
    return subprocess.run(
        [sys.executable, os.path.join(HERE, "run.py"), *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, timeout=seconds(300),
    )


def read(path):
    with open(path) as f:
        return json.load(f)


def scenarios(results):
    return {figure["scenario"] for figure in results["figures"]}


def test_smoke():
    path = os.path.join(site.folder, "bench.json")
    done = run("--smoke", "--json", path)
    assert done.returncode == 0, done.stdout
    results = read(path)
    assert not results["failures"], results["failures"]
    assert scenarios(results) == set(SCENARIOS), done.stdout
    assert all("passed" not in figure for figure in results["figures"]), results["figures"]
    assert not any(r["missing"] or r["sequence_errors"] or r["errors"] or r["closed"] for r in results["runs"]), results["runs"]
    assert any((figure.get("ratio") or 0) > 0 for figure in results["figures"])
    again = run("--smoke", "--keep", "--json", path, "intake")
    assert again.returncode == 0 and scenarios(read(path)) == scenarios(results), again.stdout
    kept = {figure["name"] for figure in read(path)["figures"]}
    assert kept == {figure["name"] for figure in results["figures"]}
    assert all(name.strip() in again.stdout for name in kept), again.stdout


def test_bounds_count():
    """Each kind of bound, kept and missed; peers that are not there have none."""
    for bounds, passed in (
        ({"bound": 10}, True), ({"bound": 9.9}, False), ({"least": 2}, True), ({"least": 2.1}, False),
        ({"least_of": {"Nchan": 5}}, True), ({"least_of": {"Nchan": 6}}, False), ({"least_of": {"ws": 6}}, None),
        ({"bound": 10, "least": 3, "least_of": {"Nchan": 1}}, False), ({}, None),
    ):
        table = Table(peers=["Nchan"])
        table.add("fanout", "a figure", "us", [1, 10, 20], [5], "ratio", peers={"Nchan": [2]}, **bounds)
        assert table.figures[0].get("passed") is passed and table.passed is (passed is not False), (bounds, table.figures)
    for most, passed in ((5, True), (4.9, False)):
        table = Table()
        table.add("latency", "a figure", "us", [10], [5], "difference", most=most)
        assert table.passed is passed, table.figures


def test_events_that_do_not_come_are_told():
    """The load generator waits in vain: nobody publishes."""
    with harness.Node() as node:
        client = subprocess.run(
            [os.path.join(harness.TOP_BUILDDIR, "tests", "bench", "bench_client"), "--port", str(node.port), "--token", site.all_seeing.token,
             "--clients", "3", "--events", "2", "--patience", str(seconds(5))],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, timeout=seconds(60),
        )
    opened, ended = (json.loads(line) for line in client.stdout.splitlines())
    assert opened["sessions"] == 3, opened
    assert ended["missing"] == 6 and ended["deliveries"] == 0, ended


def test_an_event_of_another_group_is_told():
    """The load generator is told that the first event is for the first session; it comes to the second."""
    with relay() as it:
        told, sent = lines_file("told", ["bench.tick.1", "bench.tick.2"]), lines_file("sent", ["bench.tick.2", "bench.tick.1"])
        with it.client(2, "--events", 2, "--topics", told, "--groups-each", 1) as client:
            assert client.json()["sessions"] == 2
            write("--raw", "--events", 2, "--topics", sent)
            ended = client.json()
    assert ended["deliveries"] == 2 and ended["sequence_errors"] == 2, ended


def test_an_unknown_scenario_is_refused():
    done = run("--smoke", "fanuot")
    assert done.returncode == 2 and "no such scenario: fanuot" in done.stdout, done.stdout


if __name__ == "__main__":
    harness.main(limit=400)
