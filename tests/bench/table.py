"""The table of results of make bench: figures, what they are compared with, and bounds; and the JSON file that holds it."""
import json
import os
import statistics


class Failure(Exception):
    """A result that is no measurement: events lost, or out of order."""


class Table:
    def __init__(self, judges=True, peers=()):
        """judges: bounds count; else figures are shown without them. peers: the names of those that have a column."""
        self.judges = judges
        self.peers = tuple(peers)
        self.figures = []
        self.runs = []  # what each client said, for the JSON file
        self.points = []  # of the chart

    def add(self, scenario, name, unit, relay, bare=None, compare=None, bound=None, note="", least=None, most=None, peers=None, least_of=None):
        """relay, bare, each of peers: a sample for each repeat. compare: 'ratio' or 'difference'. Bounds: the most relay may be;
        the least ratio to bare; the most difference; of peers (a dictionary) the least ratio to each."""
        figure = {"scenario": scenario, "name": name, "unit": unit, "relay": statistics.median(relay), "note": note}
        figure["samples"] = {"relay": relay, **(peers or {})}
        if bare:
            figure["bare"] = statistics.median(bare)
            figure["samples"]["bare"] = bare
            figure["samples"]["compare"] = compare
        if bare and compare == "ratio":
            figure["ratio"] = over(figure["relay"], figure["bare"])
        elif bare and compare == "difference":
            figure["difference"] = figure["relay"] - figure["bare"]
        for peer, samples in (peers or {}).items():
            median = statistics.median(samples)
            figure.setdefault("peers", {})[peer] = {"figure": median, "ratio": over(figure["relay"], median)}
        if self.judges:
            judge(figure, bound, least, most, least_of or {})
        self.figures.append(figure)
        self.show(figure)

    def check(self, result, scenario, server, sessions):
        """Keeps a client's result; it counts only when no event was lost."""
        self.runs.append({"scenario": scenario, "server": server, "sessions": sessions, **result})
        if result["missing"] or result["sequence_errors"] or result["errors"] or result["closed"]:
            raise Failure(f"{server}, {sessions} sessions: {json.dumps(result)}")
        return result

    def point(self, scenario, series, subscribers, **values):
        """What the chart shows of a server with so many subscribers: deliveries_per_second, p99_us; a sample for each repeat."""
        medians = {name: statistics.median(samples) for name, samples in values.items()}
        self.points.append({"scenario": scenario, "series": series, "subscribers": subscribers, **medians})

    @property
    def passed(self):
        return all(f.get("passed", True) for f in self.figures)

    # -- showing --

    def head(self):
        self.row("figure", "unit", "pgrelay", "bare", "compared", [f"/{peer}" for peer in self.peers], "bound")

    def show_all(self):
        self.head()
        for figure in self.figures:
            self.show(figure)

    def show(self, figure):
        compared, bound = "", ""
        if "ratio" in figure:
            compared = "" if figure["ratio"] is None else f"{figure['ratio']:.2f}"
        elif "difference" in figure:
            compared = f"{figure['difference']:+,.0f} {figure['unit']}"
        if "bounds" in figure:
            bound = f"{', '.join(b['text'] for b in figure['bounds'])}  {'PASS' if figure['passed'] else 'FAIL'}"
        bare = number(figure["bare"]) if "bare" in figure else ""
        beside = figure.get("peers", {})
        ratios = [ratio_text(beside[peer]["ratio"]) if peer in beside else "" for peer in self.peers]
        self.row(figure["name"], figure["unit"], number(figure["relay"]), bare, compared, ratios, bound)

    def row(self, name, unit, relay, bare, compared, ratios, bound):
        cells = "".join(f" {ratio:>10}" for ratio in ratios)
        print(f"{name:<50} {unit:<12} {relay:>11} {bare:>11} {compared:>12}{cells}  {bound}".rstrip(), flush=True)

    # -- the file --

    def keep(self, former, scenarios):
        """What a former run has of other scenarios than these."""
        for mine, name in ((self.figures, "figures"), (self.runs, "runs"), (self.points, "chart")):
            mine += [it for it in former[name] if it["scenario"] not in scenarios]
        self.peers += tuple(peer for peer in former["peers"] if peer not in self.peers)

    def save(self, path, order, **more):
        """order: of the scenarios."""
        in_order = {"key": lambda it: order.index(it["scenario"])}
        self.figures.sort(**in_order)
        self.points.sort(**in_order)
        results = {**more, "peers": self.peers, "figures": self.figures, "chart": self.points, "runs": self.runs}
        with open(path + ".new", "w") as f:
            json.dump(results, f, indent=1)
            f.write("\n")
        os.replace(path + ".new", path)


def over(a, b):
    """The ratio; None: there is none, for nothing has been measured."""
    return a / b if b else None


def ratio_text(ratio):
    return "" if ratio is None else f"{ratio:.3g}"


def judge(figure, bound, least, most, least_of):
    rows = []
    if bound is not None:
        rows.append((f"<= {number(bound)}", figure["relay"] <= bound))
    if least is not None:
        rows.append((f"ratio >= {number(least)}", (figure["ratio"] or 0) >= least))
    if most is not None:
        rows.append((f"difference <= {number(most)}", figure["difference"] <= most))
    for peer, limit in least_of.items():
        if peer in figure.get("peers", {}):
            rows.append((f"/{peer} >= {number(limit)}", (figure["peers"][peer]["ratio"] or 0) >= limit))
    if rows:
        figure["bounds"] = [{"text": text, "passed": passed} for text, passed in rows]
        figure["passed"] = all(passed for _, passed in rows)


def number(value):
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
