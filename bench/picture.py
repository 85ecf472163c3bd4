"""The picture of the results: python -m bench.picture RESULTS.json PICTURE.svg

It has a background of its own, so that it is legible on light and on dark pages. The same results
give the same bytes.
"""

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib  # pyright: ignore[reportMissingImports]
from matplotlib.figure import Figure  # pyright: ignore[reportMissingImports]
from matplotlib.patches import Patch  # pyright: ignore[reportMissingImports]

from bench.figures import DIRECT, FLOOR, JS_FLOOR, TRACED, UNTRACED, Quote, Results

COLORS = {JS_FLOOR: "#b9c0c8", FLOOR: "#7f8b99", UNTRACED: "#5aa9e6", TRACED: "#1f5fa8"}
INK, LINE, CARD = "#24292f", "#d0d7de", "#ffffff"
BAR = 0.19
FIRST_BYTE = {
    "paced stream,\n1 at once": "stream of 5, paced, 1 at once",
    "stream of 200,\n1 at once": "stream of 200, 1 at once",
}
SPEED = {
    "whole 0.5 KB": "whole 0.5 KB, 16 at once",
    "stream of 200": "stream of 200, 16 at once",
    "stream of 2,000": "stream of 2,000, 16 at once",
}
CPU = {
    "whole 2 KB": "whole 2 KB, 16 at once",
    "stream of 200": "stream of 200, 16 at once",
    "stream of 1,000": "stream of 1,000, 16 at once",
}
STYLE: dict[Any, Any] = {
    "svg.hashsalt": "benchmark",
    "svg.fonttype": "path",
    "font.family": "DejaVu Sans",  # it is part of matplotlib
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": LINE,
    "xtick.color": INK,
    "ytick.color": INK,
}


def draw(results: Results, file: Path) -> None:
    """Draw the picture to a file. Scenarios that were not measured have no bars."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(11, 4.2), facecolor=CARD, layout="constrained")
        first, speed, cpu = figure.subplots(1, 3)
        _panel(
            first,
            "Time to first byte, added to direct (ms)",
            {
                name: {s: results.minus(label, s, "first_p50_ms", DIRECT) for s in COLORS}
                for name, label in FIRST_BYTE.items()
            },
        )
        _panel(
            speed,
            "Requests per second, Python floor = 1",
            {
                name: {
                    subject: results.over(label, subject, "requests_per_second", FLOOR)
                    for subject in (FLOOR, UNTRACED, TRACED)
                }
                for name, label in SPEED.items()
            },
        )
        speed.axhline(1, color=COLORS[FLOOR], linewidth=0.8)
        _panel(
            cpu,
            "CPU per request, tracing included (ms)",
            {
                name: {s: results.quote(label, s, "cpu_ms") for s in COLORS}
                for name, label in CPU.items()
            },
        )
        handles = [Patch(color=color) for color in COLORS.values()]
        figure.legend(handles, COLORS, loc="outside upper center", ncols=len(COLORS), frameon=False)
        figure.supxlabel(_conditions(results.data), fontsize=8, color="#57606a")
        figure.savefig(file, metadata={"Date": None, "Creator": None})


def _panel(axes: Any, title: str, groups: dict[str, dict[str, Quote | None]]) -> None:
    axes.set_title(title, fontsize=9.5)
    for place, bars in enumerate(groups.values()):
        left = place - (len(bars) - 1) / 2 * BAR
        for index, (subject, quote) in enumerate(bars.items()):
            if quote is None:
                continue
            x = left + index * BAR
            axes.bar(x, quote.median, BAR * 0.92, color=COLORS[subject])
            spread = [[quote.median - quote.low], [quote.high - quote.median]]
            axes.errorbar(x, quote.median, yerr=spread, color=INK, linewidth=0.8, capsize=2)
            axes.annotate(
                f"{quote.median:.2g}" if quote.median < 10 else f"{quote.median:.0f}",
                (x, max(quote.high, 0)),
                (0, 3),
                textcoords="offset points",
                ha="center",
                fontsize=7.5,
            )
    axes.set_xticks(range(len(groups)), groups)
    axes.tick_params(length=0)
    axes.set_axisbelow(True)
    axes.grid(axis="y", color=LINE, linewidth=0.6)
    axes.set_facecolor(CARD)
    axes.margins(y=0.12)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)


def _conditions(data: dict[str, Any]) -> str:
    return (
        f"{data['date'][:10]}, {data['cpu']}, {data['cores']} cores, workerd"
        f" {data['versions']['workerd']}, load and provider on the same machine."
        f" 16 at once where it says nothing else. Median of {data['rounds']} rounds,"
        " with the lowest and the highest."
    )


if __name__ == "__main__":
    source, target = map(Path, sys.argv[1:])
    draw(Results(json.loads(source.read_text())), target)
