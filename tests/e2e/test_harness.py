#!/usr/bin/env python3
"""The end-to-end tests can fail: the runner and its checks, tried on things that are wrong."""
import os
import signal
import subprocess
import sys
import textwrap
import time

import wire
from harness import HERE, Missing, Node, Process, SqlError, assert_clean_log, eventually, main, need, need_module, quote, site


def run_file(text, *names, env=None):
    """Runs a test file of this text; its exit status and output."""
    path = os.path.join(site.folder, "test_of_tests.py")
    with open(path, "w") as f:
        f.write(f"import sys\nsys.path.insert(0, {HERE!r})\nfrom harness import *\n{textwrap.dedent(text)}\nmain(finish=False, limit=5)\n")
    done = subprocess.run([sys.executable, path, *names], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120,
                          env={**os.environ, **(env or {})})
    return done.returncode, done.stdout


def must_raise(kind, function, *args, **options):
    try:
        function(*args, **options)
    except kind as e:
        return e
    raise AssertionError(f"no {kind.__name__} from {function.__name__}")


def test_a_failing_test_is_not_ok_and_tells_where():
    status, output = run_file("""
        def test_good(): pass
        def test_bad(): assert 1 == 2, "one is not two"
        def test_worse(): raise KeyError("x")
        def test_good_again(): pass
    """)
    assert status == 1
    results = [line for line in output.splitlines() if not line.startswith("#")]
    assert results == ["1..4", "ok 1 - good", "not ok 2 - bad", "not ok 3 - worse", "ok 4 - good again"], output
    assert "# AssertionError: one is not two" in output and "# KeyError: 'x'" in output


def test_all_good_is_status_0_and_names_choose():
    text = "def test_a(): pass\ndef test_b(): assert False"
    assert run_file(text, "test_a")[0] == 0
    assert run_file(text, "test_b")[0] == 1
    assert "no such test" in run_file(text, "test_c")[1]


def test_a_test_that_hangs_fails():
    status, output = run_file("def test_hangs(): time.sleep(1000)\ndef test_next(): pass")
    assert status == 1 and "not ok 1 - hangs" in output and "took too long" in output and "ok 2 - next" in output, output


def test_a_missing_program_stops_all():
    status, output = run_file("def test_x(): pass", env={"PGRELAY": "/no/such/program"})
    assert status == 1 and "Bail out!" in output, output


def test_what_never_comes_is_a_failure():
    must_raise(AssertionError, eventually, lambda: False, 0.1)


def test_a_missing_tool_names_its_package():
    assert "apt install some-package" in str(must_raise(Missing, need, "no-such-tool-anywhere", "some-package"))
    assert "apt install python3-x" in str(must_raise(Missing, need_module, "no_such_module_anywhere", "python3-x"))


def test_a_token_or_a_sanitizer_s_report_in_a_log_fails():
    assert_clean_log("nothing special", "log", ["secret"])
    for line in ("x secret y", "==1==ERROR: AddressSanitizer: heap-use-after-free", "a.c:1:2: runtime error: signed integer overflow",
                 "==7== ERROR SUMMARY: 3 errors from 1 contexts", "==7==    definitely lost: 40 bytes in 1 blocks",
                 "==9==ERROR: LeakSanitizer: detected memory leaks", "==7== Invalid read of size 8"):
        must_raise(AssertionError, assert_clean_log, f"before\n{line}\nafter", "log", ["secret"])
    assert_clean_log("==7== ERROR SUMMARY: 0 errors from 0 contexts", "log", [])


def test_a_node_that_dies_fails():
    node = Node()
    node.process.signal(signal.SIGKILL)
    node.process.wait()
    assert "status -9" in str(must_raise(AssertionError, node.stop))


def test_a_node_that_logs_a_token_fails():
    node = Node()
    with open(node.process.err_path, "a") as log:
        log.write(f"here is {site.all_seeing.token}\n")
    assert "holds a token" in str(must_raise(AssertionError, site.check_logs))
    assert "holds a token" in str(must_raise(AssertionError, node.stop))
    os.truncate(node.process.err_path, 0)


def test_a_node_that_does_not_start_fails_at_once():
    start = time.monotonic()
    must_raise(RuntimeError, Node, queue_limit="nonsense")
    assert time.monotonic() - start < 10


def test_a_command_s_wrong_status_fails():
    must_raise(AssertionError, site.pgrelay, "--version", status=1)
    must_raise(AssertionError, site.pgrelay, "--nonsense")


def test_a_broken_frame_from_a_server_fails():
    class Fake(wire.WebSocket):
        def __init__(self, data):
            self.buffer, self.start, self.timeout, self.answers_pings, self.pings = bytearray(data), 0, 1, True, 0

        def fill(self, deadline):
            raise wire.Closed(None)

    assert Fake(b"\x81\x02{}").json() == {}
    for data in (b"\xc1\x02{}", b"\x81\x82aaaa{}", b"\x83\x00", b"\x81\x7e\x00\x02{}", b"\x01\x02{}", b"\x09\x00", b"\x82\x00"):
        must_raise(AssertionError, Fake(data).text)
    assert must_raise(wire.Closed, Fake(b"\x88\x02\x03\xe8").text).code == 1000
    assert must_raise(wire.Closed, Fake(b"\x81\x02{").text).code is None


def test_masking_and_lengths():
    for n in (0, 1, 125, 126, 65535, 65536):
        payload = os.urandom(n)
        frame = wire.make_frame(wire.BINARY, payload)
        head = 2 if n < 126 else 4 if n < 65536 else 10
        key, masked = frame[head:head + 4], frame[head + 4:]
        assert bytes(b ^ key[i % 4] for i, b in enumerate(masked)) == payload


def test_sql_errors_are_raised_and_values_come_back():
    assert must_raise(SqlError, site.sql, "SELECT 1/0").sqlstate == "22012"
    assert site.sql("SELECT 1") == "1"
    text = "it's\n\"q\\u'"
    assert site.rows(f"SELECT {quote(text)}, NULL UNION ALL SELECT '', 'b'") == [[text, ""], ["", "b"]]
    assert site.rows("SELECT 1 WHERE false") == []


def test_processes_tell_their_output():
    process = Process(["sh", "-c", "echo out; echo err >&2; exit 3"], name="sh")
    assert process.wait() == 3
    assert (process.out, process.err) == ("out\n", "err\n")
    must_raise(AssertionError, process.wait_for, "never")


if __name__ == "__main__":
    main()
