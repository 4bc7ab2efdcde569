#!/usr/bin/env python3
"""pgrelay run: a command's output, status and exit status, whatever happens to it or to the database."""
import json
import os
import re
import signal
import time

from harness import WRAPPER, eventually, main, site

PRINTER = "for n in $(seq {count}); do echo line $n; sleep {pause}; done"


class Gate:
    """A command of so many lines, half of which come when this is opened."""

    def __init__(self, count):
        self.path = os.path.join(site.folder, f"gate-{count}")
        os.mkfifo(self.path)
        os.chmod(self.path, 0o644)
        self.script = (f"for n in $(seq {count // 2}); do echo line $n; done; cat {self.path}; "
                       f"for n in $(seq {count // 2 + 1} {count}); do echo line $n; done")

    def open(self):
        open(self.path, "w").close()


def run(*argv, status=0, input=None, env=None):
    """Runs a command as a job; the finished process with .job, its id."""
    done = site.pgrelay("run", "--print-id", *argv, user="writer", status=status, input=input, env=env)
    done.job = int(re.search(r"^job (\d+)$", done.stderr, re.M)[1])
    return done


def status_of(job):
    return site.sql(f"SELECT status FROM pgrelay.job WHERE id = {job}")


def output_of(job):
    """The job's lines; their counters must be 1, 2, 3, ..."""
    rows = site.rows(f"SELECT counter, to_json(stdout) FROM pgrelay.job_event WHERE job_id = {job} ORDER BY counter")
    assert [int(r[0]) for r in rows] == list(range(1, len(rows) + 1)), [r[0] for r in rows]
    return [json.loads(r[1]) for r in rows]


def start(*argv, script=None, env=None):
    """Starts a job beside the test and waits until its id is known."""
    if script is not None:
        argv = (*argv, "--", "sh", "-c", script)
    process = site.start("run", "--print-id", *argv, user="writer", env=env)
    process.job = int(eventually(lambda: re.search(r"^job (\d+)$", process.err, re.M), what="the job's id is printed")[1])
    return process


# ---- a command that runs to its end ----


def test_lines_become_events_and_go_to_standard_output_too():
    done = run("--name", "three lines", "--", "printf", "a\\nb\\n\\nc\\n")
    assert done.stdout == "a\nb\n\nc\n", done.stdout
    assert output_of(done.job) == ["a", "b", "", "c"]
    ((name, status, kind, times),) = site.rows(
        f"SELECT name, status, kind, started IS NOT NULL AND finished >= started FROM pgrelay.job WHERE id = {done.job}")
    assert (name, status, kind, times) == ("three lines", "successful", "job", "t")
    events = site.rows(f"SELECT DISTINCT event FROM pgrelay.job_event WHERE job_id = {done.job}")
    assert events == [["verbose"]], events


def test_without_a_name_the_job_has_one_all_the_same():
    done = run("--", "echo", "x")
    assert "echo" in site.sql(f"SELECT name FROM pgrelay.job WHERE id = {done.job}")


def test_line_numbers_follow_the_lines():
    done = run("--quiet", "--", "seq", "5")
    rows = site.rows(f"SELECT start_line, end_line FROM pgrelay.job_event WHERE job_id = {done.job} ORDER BY counter")
    assert [tuple(map(int, r)) for r in rows] == [(n, n + 1) for n in range(5)], rows


def test_quiet_prints_nothing():
    done = run("--quiet", "--", "seq", "5")
    assert done.stdout == "", done.stdout
    assert len(output_of(done.job)) == 5


def test_no_output_at_all():
    done = run("--", "true")
    assert output_of(done.job) == [] and status_of(done.job) == "successful"


def test_no_newline_at_the_end():
    done = run("--", "printf", "a\\nb")
    assert done.stdout == "a\nb", done.stdout
    assert output_of(done.job) == ["a", "b"]


def test_standard_error_is_joined_in_the_order_of_writing():
    done = run("--", "sh", "-c", "for n in 1 2 3 4 5; do echo out $n; echo err $n >&2; done")
    want = [f"{stream} {n}" for n in range(1, 6) for stream in ("out", "err")]
    assert output_of(done.job) == want
    assert done.stdout.splitlines() == want


def test_standard_input_is_the_command_s():
    done = run("--", "cat", input=b"from\nstdin\n")
    assert output_of(done.job) == ["from", "stdin"]


def test_options_behind_the_command_are_the_command_s():
    done = run("--", "echo", "--quiet", "--name", "--", "-x")
    assert output_of(done.job) == ["--quiet --name -- -x"]
    done = run("echo", "--quiet")
    assert output_of(done.job) == ["--quiet"]


def test_octets_that_are_not_utf8_and_nul_become_u_fffd():
    done = run("--", "printf", "a\\377b\\nc\\000d\\n\\303\\244\\342\\202\n\\360\\237\\230\\200\n")
    assert done.raw == b"a\xffb\nc\0d\n\xc3\xa4\xe2\x82\n\xf0\x9f\x98\x80\n", "standard output is not what the command wrote"
    lines = output_of(done.job)
    assert lines[0] == "a\ufffdb" and lines[1] == "c\ufffdd" and lines[3] == "😀", lines
    assert re.fullmatch("ä\ufffd+", lines[2]), lines[2]


def test_binary_output_arrives_whole_on_standard_output():
    path = os.path.join(site.folder, "binary")
    data = os.urandom(300_000)
    with open(path, "wb") as f:
        f.write(data)
    done = run("--", "cat", path)
    assert done.raw == data
    events = output_of(done.job)
    assert len(events) >= data.count(b"\n") and status_of(done.job) == "successful"


def test_carriage_returns_tabs_and_colours_are_kept():
    done = run("--", "printf", "10%%\\r20%%\\n\\ta\\n\\033[31mred\\033[0m\\nquote'\\\"\\\\\\n")
    lines = output_of(done.job)
    assert lines == ["10%\r20%", "\ta", "\x1b[31mred\x1b[0m", "quote'\"\\"], lines


def test_a_line_longer_than_64_kib_is_cut_into_several_events():
    done = run("--quiet", "--", "sh", "-c", "head -c 200000 /dev/zero | tr '\\0' x; echo; echo after")
    lines = output_of(done.job)
    assert "".join(lines[:-1]) == "x" * 200000 and lines[-1] == "after", [len(line) for line in lines]
    assert max(map(len, lines)) <= 65536 and len(lines) <= 6, [len(line) for line in lines]


def test_a_character_is_never_cut_in_two():
    done = run("--quiet", "--", "sh", "-c", "printf a; yes € | head -50000 | tr -d '\\n'")
    assert "".join(output_of(done.job)) == "a" + "€" * 50000


def test_a_slow_line_is_sent_when_it_is_complete_or_the_command_ends():
    process = start("--quiet", script="printf 'no newline'; sleep 0.2; echo ' yet'; exec sleep 600")
    eventually(lambda: output_of(process.job) == ["no newline yet"], what="the line is stored while the command runs")
    assert status_of(process.job) == "running"
    process.signal(signal.SIGTERM)
    process.wait()


def test_many_lines_in_a_hurry_are_few_statements():
    done = run("--quiet", "--", "seq", "20000")
    assert output_of(done.job) == [str(n) for n in range(1, 20001)]
    transactions = int(site.sql(f"SELECT count(DISTINCT xmin::text) FROM pgrelay.job_event WHERE job_id = {done.job}"))
    assert transactions < 1000, transactions


def test_the_command_inherits_no_descriptor_and_no_ignored_or_blocked_signal():
    done = run("--", "grep", "-E", "^Sig(Blk|Ign):", "/proc/self/status")
    posix = (1 << 31) - 1  # the C library keeps 32 and 33 for itself
    assert all(int(line.split()[1], 16) & posix == 0 for line in done.stdout.splitlines()), done.stdout
    done = run("--", "ls", "/proc/self/fd")
    assert WRAPPER or done.stdout.split() == ["0", "1", "2", "3"], done.stdout


# ---- its end ----


def test_the_exit_status_is_the_command_s():
    for status in (1, 2, 3, 77, 255):
        done = run("--", "sh", "-c", f"echo x; exit {status}", status=status)
        assert status_of(done.job) == "failed" and output_of(done.job) == ["x"]


def test_a_command_killed_by_a_signal():
    for number in (signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM):
        done = run("--", "sh", "-c", f"echo x; kill -{int(number)} $$", status=128 + number)
        assert status_of(done.job) == "failed", status_of(done.job)


def cannot_tell_why_not_started():
    """valgrind makes vfork a fork: posix_spawn's errors are lost."""
    if WRAPPER:
        print("# not tested under", WRAPPER[0])
    return bool(WRAPPER)


def test_a_command_that_is_not_there_is_127_and_an_error():
    if cannot_tell_why_not_started():
        return
    done = run("--", "/no/such/command", status=127)
    assert status_of(done.job) == "error"
    assert "/no/such/command" in done.stderr, done.stderr
    done = run("--", "no-such-command-in-path", status=127)
    assert status_of(done.job) == "error"


def test_a_command_that_cannot_be_started_is_126_and_an_error():
    if cannot_tell_why_not_started():
        return
    path = os.path.join(site.folder, "not-executable")
    with open(path, "w") as f:
        f.write("#!/bin/sh\n")
    done = run("--", path, status=126)
    assert status_of(done.job) == "error"
    assert run("--", site.folder, status=126).returncode == 126


def test_being_told_to_end_cancels_and_is_passed_on():
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        process = start(script="trap 'echo caught; exit 9' INT TERM HUP; echo ready; i=0; while [ $i -lt 1200 ]; do i=$((i+1)); sleep 0.05; done")
        process.wait_for("ready")
        process.signal(number)
        assert process.wait() == 9, process.describe()
        assert status_of(process.job) == "canceled" and output_of(process.job) == ["ready", "caught"], output_of(process.job)


def test_a_command_that_does_not_catch_the_signal_ends_by_it():
    process = start(script="echo ready; exec sleep 600")
    process.wait_for("ready")
    process.signal(signal.SIGTERM)
    assert process.wait() == 128 + signal.SIGTERM, process.describe()
    assert status_of(process.job) == "canceled"


def test_a_background_child_that_keeps_the_pipe_does_not_hold_the_job():
    """The job ends with COMMAND, or at the latest with its pipe; both must be soon."""
    done = run("--", "sh", "-c", "sleep 1 & echo x")
    assert status_of(done.job) == "successful" and output_of(done.job) == ["x"]


def test_the_status_is_final_only_after_the_last_line():
    job = site.job()
    client = site.node.connect(site.all_seeing).join(job_events=[job], jobs=["status_changed", "summary"])
    site.pgrelay("run", "--quiet", "--job", job, "--", "seq", "2000", user="writer")
    messages = client.take_until(lambda m: m.get("status") == "successful")
    assert [m["stdout"] for m in messages if "stdout" in m] == [str(n) for n in range(1, 2001)]
    assert [m["final_counter"] for m in messages if "final_counter" in m] == [2000]


# ---- --job ----


def test_a_job_that_waits_is_taken():
    for status in ("new", "pending", "waiting"):
        job = site.job(name="mine", status=status)
        done = run("--job", str(job), "--", "echo", "x")
        assert done.job == job and status_of(job) == "successful" and output_of(job) == ["x"]
        assert site.sql(f"SELECT name FROM pgrelay.job WHERE id = {job}") == "mine"


def test_a_job_that_has_started_or_is_not_there_is_not_taken():
    marker = os.path.join(site.folder, "was-run")
    job = site.job(status="running")
    for argument in (job, 999999999):
        done = site.pgrelay("run", "--job", argument, "--", "touch", marker, user="writer", status=125)
        assert str(argument) in done.stderr, done.stderr
    assert not os.path.exists(marker), "the command was run all the same"
    assert status_of(job) == "running"


# ---- wrong usage ----


def test_wrong_usage_is_said():
    for argv in (("run",), ("run", "--"), ("run", "--no-such-option", "--", "true"), ("run", "--job", "x", "--", "true"), ("run", "--name")):
        done = site.pgrelay(*argv, user="writer", status=None)
        assert done.returncode in (2, 125) and done.stderr, (argv, done.returncode)


def test_no_database_at_the_start_is_125_and_the_command_is_not_run():
    marker = os.path.join(site.folder, "was-run-without-database")
    done = site.pgrelay("run", "--", "touch", marker, status=125, env={"PGRELAY_DATABASE": "host=127.0.0.1 port=1 connect_timeout=2"})
    assert done.stderr and not os.path.exists(marker)


def test_a_role_without_rights_is_125():
    site.sql("CREATE ROLE nobody LOGIN")
    done = site.pgrelay("run", "--", "true", user="nobody", status=125)
    assert "permission denied" in done.stderr, done.stderr


# ---- the database goes away ----


def numbered(job, count):
    return output_of(job) == [f"line {n}" for n in range(1, count + 1)]


def test_the_database_restarts_while_the_command_runs():
    process = start("--quiet", script=PRINTER.format(count=300, pause=0.005))
    eventually(lambda: len(output_of(process.job)) > 20, what="lines are stored")
    site.drop_sessions()
    site.pg.restart()
    eventually(lambda: len(output_of(process.job)) > 100, what="lines are stored again")
    site.drop_sessions()
    site.pg.restart(signal.SIGQUIT)
    assert process.wait() == 0, process.describe()
    assert status_of(process.job) == "successful" and numbered(process.job, 300)


def test_the_database_is_away_when_the_command_ends():
    gate = Gate(30)
    process = start("--quiet", script=gate.script)
    eventually(lambda: len(output_of(process.job)) == 15, what="lines are stored")
    site.drop_sessions()
    site.pg.stop(signal.SIGQUIT)
    gate.open()
    eventually(lambda: not children_of(process.popen.pid), what="the command has ended")
    assert process.is_running(), "run gave up although the database may come back"
    site.pg.start()
    assert process.wait() == 0, process.describe()
    assert status_of(process.job) == "successful" and numbered(process.job, 30)


def children_of(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as f:
        return f.read().split()


def test_its_session_is_killed_again_and_again():
    process = start("--quiet", script=PRINTER.format(count=2000, pause=0.001))
    kills = 0
    while process.is_running():
        kills += len(site.rows(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'writer' AND application_name LIKE 'pgrelay%'"))
        before = site.sql(f"SELECT count(*) FROM pgrelay.job_event WHERE job_id = {process.job}")
        eventually(lambda: not process.is_running() or site.sql(
            f"SELECT count(*) FROM pgrelay.job_event WHERE job_id = {process.job}") != before, 60, what="more lines are stored")
    assert process.wait() == 0, process.describe()
    assert kills > 2, kills
    assert status_of(process.job) == "successful" and numbered(process.job, 2000)


def test_lines_wait_in_memory_and_then_the_command_waits():
    """run_buffer is the bound: a command that writes without end does not fill the memory."""
    process = start("--quiet", "--run-buffer", "64kB", script="i=0; while [ $i -lt 200000 ]; do i=$((i+1)); echo line $i; done")
    eventually(lambda: len(output_of(process.job)) > 0, what="lines are stored")
    site.drop_sessions()
    site.pg.stop(signal.SIGQUIT)
    (child,) = children_of(process.popen.pid)

    def cpu_time():
        with open(f"/proc/{child}/stat") as f:
            return f.read().rsplit(")", 1)[1].split()[11:13]

    def is_still():
        before = cpu_time()
        time.sleep(0.3)
        return cpu_time() == before

    eventually(is_still, what="the command waits")
    site.pg.start()
    assert process.wait(120) == 0, process.describe()
    assert numbered(process.job, 200000) and status_of(process.job) == "successful"


def test_a_writer_held_up_by_a_lock_loses_nothing():
    gate = Gate(100)
    process = start("--quiet", script=gate.script)
    eventually(lambda: len(output_of(process.job)) == 50, what="lines are stored")
    locker = site.session("postgres")
    locker("BEGIN")
    locker("LOCK TABLE pgrelay.job_event IN SHARE ROW EXCLUSIVE MODE")
    gate.open()
    eventually(lambda: not children_of(process.popen.pid), what="the command has ended")
    assert process.is_running()
    locker("COMMIT")
    assert process.wait() == 0 and numbered(process.job, 100)


if __name__ == "__main__":
    main()
