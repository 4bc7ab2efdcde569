"""The chart of make bench: deliveries a second, and p99, over the number of subscribers; drawn by gnuplot."""
import os
import shutil
import subprocess

PANELS = (
    ("deliveries_per_second", "deliveries a second, a burst"),
    ("p99_us", "p99 in microseconds, at half of pgrelay's rate"),
)


def draw(points, path):
    """Writes an SVG file of the table's points; returns whether it has."""
    panels = [(key, title) for key, title in PANELS if any(key in p for p in points)]
    if not panels:
        return False
    if shutil.which("gnuplot") is None:
        print("# the chart is left out: on Debian, apt install gnuplot-nox")
        return False
    subprocess.run(["gnuplot"], input=script(points, panels, path), text=True, check=True)
    return True


def script(points, panels, path):
    lines = [
        f"set terminal svg size {620 * len(panels)},460 background rgb 'white' font 'sans,12'",
        f"set output '{os.path.abspath(path)}'",
        f"set multiplot layout 1,{len(panels)}",
        "set logscale xy", "set format y '%.0s%c'", "set xlabel 'subscribers'", "set bmargin 7", "set key bottom center horizontal at graph 0.5, -0.42",
        "set grid",
    ]
    for number, (key, title) in enumerate(panels):
        names = list(dict.fromkeys(p["series"] for p in points if key in p))
        for i, name in enumerate(names):
            rows = "\n".join(f"{p['subscribers']} {p[key]}" for p in points if p["series"] == name and key in p)
            lines.append(f"$panel{number}line{i} << EOD\n{rows}\nEOD")
        lines.append(f'set title "{title}"')
        plots = [f"$panel{number}line{i} with linespoints linewidth 2 title \"{name}\"" for i, name in enumerate(names)]
        lines.append("plot " + ", ".join(plots))
    return "\n".join(lines + ["unset multiplot", ""])
