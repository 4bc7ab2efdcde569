"""The hot path costs no more instructions and cache lines than tests/profile/figures says, with a tenth of slack: nobody slows it unnoticed."""
import os
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import hot_path

SLACK = 0.10
LINES_SLACK = 0.02  # where they lie differs by a few in a run
TAKE_OVER = "if that is what the change is to cost, say so in its commit and run make profile-figures; make profile shows the functions"


class Tap:
    checks = failures = 0

    def ok(self, passed, what, *diagnosis):
        self.checks += 1
        self.failures += not passed
        print(f"{'' if passed else 'not '}ok {self.checks} - {what}")
        for line in () if passed else diagnosis:
            print(f"# {line}")

    def skip(self, what, why):
        self.checks += 1
        print(f"ok {self.checks} - {what} # SKIP {why}")


def compare(tap, p, kept):
    instructions, lines, unit = kept or (p.figure, p.lines, p.unit)  # that it is not kept has been told
    tap.ok(p.unit == unit, f"{p.name}: counted per {p.unit}", f"it is kept per {unit}: make profile-figures")
    compare_figure(tap, p, "instructions", p.figure, instructions, 0)
    compare_figure(tap, p, "cache lines", p.lines, lines, LINES_SLACK)


def compare_figure(tap, p, what, is_now, was, slack):
    change = is_now / was - 1 if was > 0 else 0
    notes = []
    if is_now > was * (1 + SLACK) + slack:
        notes = [f"{p.name} costs {100 * change:.1f} % more than the {was:,.2f} {what} in tests/profile/figures, which is more "
                 f"than {100 * SLACK:.0f} %", TAKE_OVER]
    elif is_now < was * (1 - SLACK) - slack:
        print(f"# {p.name} costs {-100 * change:.1f} % less {what} than are kept: make profile-figures keeps it so")
    tap.ok(not notes, f"{p.name}: {is_now:,.2f} {what} a {p.unit}, {was:,.2f} are kept", *notes)


def test_reader(tap):
    """What callgrind counts goes to functions, inlined lines too, calls not twice."""
    with tempfile.NamedTemporaryFile("w") as f:
        f.write("events: Ir D1mr Dw D1mw\n\nob=(1) /x/hot_path\nfl=(1) a.c\nfn=(1) one\n10 5 1 9 2\n+2 3\nfi=(2) b.h\n7 2\nfe=(1)\n"
                "cob=(2) /lib/libssl.so.3\ncfn=(2) two\ncalls=4 1\n12 1000 500\n* 1\n\nob=(2)\nfn=(2)\n0 1000 7\n\n"
                "ob=(1)\nfn=(3) three'2\n1 4 1\n\ntotals: 1015\n")
        f.flush()
        got, lines = hot_path.read_callgrind(f.name)
    want = {("one", "hot_path"): 11, ("two", "libssl.so.3"): 1000, ("three", "hot_path"): 4}
    p = hot_path.Profile("x", 3, 0, got, lines)
    tap.ok(dict(got) == want and (p.total, p.total_lines) == (15, 4), "callgrind's file is read, and OpenSSL's part left out",
           f"got {dict(got)}, {dict(lines)}, {p.total}, {p.total_lines}")


def test_scenarios(tap):
    of, kept = hot_path.read_figures()
    built, names = hot_path.build(), hot_path.scenarios()
    tap.ok(set(kept) == set(names), "each scenario has a figure, and each figure a scenario",
           *[f"{name}: make profile-figures" for name in sorted(set(kept) ^ set(names))])
    for name in names:
        if built == of:
            compare(tap, hot_path.count_with_callgrind(name), kept.get(name))
        else:  # callgrind could not run all of these
            hot_path.execute([hot_path.BUILT, name])
            tap.skip(name, f"it runs; but the figures kept are of \"{of}\", and this build is \"{built}\"")


def main():
    tap = Tap()
    try:
        test_reader(tap)
        test_scenarios(tap)
    except hot_path.Failure as e:
        tap.ok(False, "the hot path can be measured", str(e))
    print(f"1..{tap.checks}")
    return 1 if tap.failures else 0


if __name__ == "__main__":
    sys.exit(main())
