"""make profile: what a record and a delivery cost on the way from NOTIFY to the sockets, in instructions and cache lines,
and which functions they go to. make profile-figures writes tests/profile/figures anew; test_hot_path.py compares with it.

hot_path.py [--figures] [SCENARIO ...]

The program is hot_path.c. It is counted by perf where processor and kernel let it, else, and for the figures always, by
callgrind, which counts the same each time, and counts the cache lines: what misses a first-level data cache of 32 kB.
"""
import argparse
import collections
import os
import re
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
BUILT = os.path.join(os.environ.get("top_builddir", "."), "tests", "profile", "hot_path")
FIGURES = os.path.join(HERE, "figures")

FUNCTIONS_SHOWN = 14
PERF_TIMES, PERF_PERIOD = 50, 20_011
SECONDS = 120
# The C library takes its string functions by the processor; these are what each x86-64 has.
TUNABLES = "glibc.cpu.hwcaps=" + ",".join("-" + name for name in (
    "AVX2", "AVX512F", "AVX512VL", "ERMS", "FSRM", "AVX_Fast_Unaligned_Load", "SSSE3", "SSE4_1", "SSE4_2"))

CACHES = ("--cache-sim=yes", "--I1=32768,8,64", "--D1=32768,8,64", "--LL=8388608,16,64")  # the same on each machine
HEAD = """\
# What the hot path costs, in instructions and cache lines: written by "make profile-figures", compared by
# test_hot_path.py where the build is this one. Per delivery; of records that nobody wants, per record.
build: {build}
"""


class Failure(Exception):
    pass


def without_openssl(functions):
    return {key: n for key, n in functions.items() if not re.match(r"lib(ssl|crypto)\b", key[1])}


class Profile:
    """What was counted for one scenario, without OpenSSL's own: instructions and lines are of (function, library)."""

    def __init__(self, name, records, deliveries, instructions, lines=None):
        self.name, self.records, self.deliveries = name, records, deliveries
        self.functions = without_openssl(instructions)
        self.total = sum(self.functions.values())
        self.total_lines = None if lines is None else sum(without_openssl(lines).values())

    @property
    def unit(self):
        return "delivery" if self.deliveries else "record"

    @property
    def figure(self):
        return self.total / (self.deliveries or self.records)

    @property
    def lines(self):
        return self.total_lines / (self.deliveries or self.records)


def execute(command, **options):
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                              timeout=SECONDS, **options)
    except FileNotFoundError as e:
        package = {"valgrind": "valgrind", "perf": "linux-perf"}.get(command[0])
        raise Failure(f"{command[0]} is missing" + (f"; on Debian: apt install {package}" if package else
                                                     "; make check and make profile build it")) from e
    except subprocess.TimeoutExpired as e:
        raise Failure(f"{' '.join(command)} has not ended after {SECONDS} s") from e
    if done.returncode != 0:
        raise Failure(f"{' '.join(command)} ended with {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def scenarios():
    return dict(line.split(" ", 1) for line in execute([BUILT, "--list"]).splitlines())


def build():
    """Compiler, C library and flags, without those that change no instruction."""
    text = execute([BUILT, "--build"]).strip()
    return " ".join(word for word in text.split() if not re.fullmatch(r"-g[0-3]?|-W[a-z0-9=+-]*|-pipe", word))


# ---- callgrind ----

def read_callgrind(path):
    """Instructions and cache lines of each function itself, without what stands below calls=."""
    names, instructions, lines = {}, collections.Counter(), collections.Counter()
    columns, function, library = [], "", ""
    called = False

    def name(kind, text):
        number, _, given = text.partition(" ")
        if given:
            names[kind, number] = given
        return names[kind, number]

    with open(path) as f:
        for line in f:
            line = line.rstrip("\n")
            head, _, value = line.partition("=")
            if head in ("ob", "cob"):
                given = name("ob", value)
                library = os.path.basename(given) if head == "ob" else library
            elif head in ("fn", "cfn"):
                given = name("fn", value)
                function = given if head == "fn" else function
            elif head == "calls":
                called = True
            elif line.startswith("events: "):
                columns = line.split()[1:]
            elif re.match(r"[-+*0-9]", line):
                if not called:
                    costs = dict(zip(columns, map(int, line.split()[1:])))  # zeros at the end are left out
                    key = function.partition("'")[0], library
                    instructions[key] += costs["Ir"]
                    lines[key] += costs.get("D1mr", 0) + costs.get("D1mw", 0)
                called = False
    return instructions, lines


def count_with_callgrind(name):
    with tempfile.TemporaryDirectory() as folder:
        out = os.path.join(folder, "callgrind.out")
        env = {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LC_ALL": "C", "GLIBC_TUNABLES": TUNABLES}
        said = execute(["valgrind", "-q", "--tool=callgrind", *CACHES, "--collect-atstart=no", "--toggle-collect=hot_take",
                        "--toggle-collect=hot_send", f"--callgrind-out-file={out}", BUILT, name], env=env)
        instructions, lines = read_callgrind(out)
    records, deliveries = map(int, said.split())
    if not instructions:
        raise Failure(f"callgrind has counted nothing for {name}: hot_take() and hot_send() are not where it looks")
    return Profile(name, records, deliveries, instructions, lines)


# ---- perf ----

def perf_counts():
    """Does it count instructions here? Many virtual machines have no such counter, and kernels forbid it."""
    if shutil.which("perf") is None:
        return False
    done = subprocess.run(["perf", "stat", "-x,", "-e", "instructions:u", "true"], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return done.returncode == 0 and re.match(r"\d+,", done.stdout) is not None


def count_with_perf(name, event="instructions:u", period=PERF_PERIOD):
    """By samples, of which each stands for a period; it is told when to count."""
    control, answer = os.pipe(), os.pipe()
    fds = control + answer
    try:
        with tempfile.TemporaryDirectory() as folder:
            data = os.path.join(folder, "perf.data")
            said = execute(["perf", "record", "-q", "-e", event, "-c", str(period), "-D", "-1",
                            "--control", f"fd:{control[0]},{answer[1]}", "-o", data, "--",
                            BUILT, name, str(PERF_TIMES), str(control[1]), str(answer[0])], pass_fds=fds)
            text = execute(["perf", "script", "-i", data, "-F", "ip,sym,dso"])
    finally:
        for fd in fds:
            os.close(fd)
    functions = collections.Counter()
    for line in text.splitlines():
        match = re.match(r"\s*[0-9a-f]+ (.+) \((.+)\)$", line)
        if match:
            functions[match[1], os.path.basename(match[2])] += period
    records, deliveries = map(int, said.split())
    return Profile(name, records, deliveries, functions)


# ---- figures ----

def read_figures():
    """The build they are of, and scenario to (instructions, cache lines, unit)."""
    kept, of = {}, None
    with open(FIGURES) as f:
        for line in f:
            if line.startswith("build: "):
                of = line[len("build: "):].strip()
            elif line.strip() and not line.startswith("#"):
                name, instructions, lines, unit = line.split()
                kept[name] = float(instructions), float(lines), unit
    return of, kept


def write_figures(profiles):
    with open(FIGURES, "w") as f:
        f.write(HEAD.format(build=build()))
        for p in profiles:
            f.write(f"{p.name:<18}{p.figure:>9.1f} {p.lines:>7.2f} {p.unit}\n")


def show(p, what):
    print(f"\n{p.name}: {what}")
    print(f"  {p.total / p.records:,.1f} instructions a record", end="")
    print(f", {p.total / p.deliveries:,.1f} a delivery" if p.deliveries else "")
    if p.total_lines is not None:
        print(f"  {p.lines:.2f} cache lines a {p.unit}")
    for (function, library), n in sorted(p.functions.items(), key=lambda item: -item[1])[:FUNCTIONS_SHOWN]:
        where = "" if library == "hot_path" else f"  ({library})"
        print(f"  {n / (p.deliveries or p.records):>10.1f}  {100 * n / p.total:>4.1f} %  {function}{where}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--figures", action="store_true", help="write tests/profile/figures")
    parser.add_argument("scenario", nargs="*", help="which ones; else all")
    args = parser.parse_args()
    known = scenarios()
    for name in args.scenario:
        if name not in known:
            raise Failure(f"there is no scenario \"{name}\"; there are {', '.join(known)}")
    if args.figures:
        write_figures([count_with_callgrind(name) for name in known])
        print(f"written: {FIGURES}")
        return
    with_perf = perf_counts()
    print(f"instructions, counted by {'perf' if with_perf else 'callgrind'}; {build()}")
    for name in args.scenario or known:
        show((count_with_perf if with_perf else count_with_callgrind)(name), known[name])


if __name__ == "__main__":
    try:
        main()
    except Failure as e:
        sys.exit(f"profile: {e}")
