"""Charts as inline SVG: drawn by Vega-Lite, without scripts, links or fonts of their own.

Colours are the light theme's; style.css maps each of them to the dark theme's by its value, so a chart is drawn once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from markupsafe import Markup, escape

from preftrace.report.calibration import Bin
from preftrace.report.html import clean

INK, MUTED, GRID, ACCENT, SPAN = "#1b1f25", "#57606b", "#dfe3e9", "#2456a6", "#8aa4cf"
SERIES = (ACCENT, "#b35900")
WIDTH = 250
FONT = "system-ui, -apple-system, Segoe UI, Roboto, sans-serif"


class Bar(NamedTuple):
    """A value with its interval (NaN ends: none)."""

    label: str
    value: float
    low: float
    high: float


def dots(bars: Sequence[Bar], axis: str, domain: tuple[float, float] | None, reference: float | None = None) -> Markup:
    """One row for each bar: a dot for the value and a line for the interval; `reference` is a dashed line."""
    import altair as alt

    data = alt.Data(values=[_finite({**b._asdict(), "label": clean(b.label)}) for b in bars])
    scale = alt.Scale(domain=list(domain)) if domain else alt.Scale(zero=False, nice=True)
    base = alt.Chart(data).encode(y=alt.Y("label:N", sort=None, title=None))
    x = alt.X("value:Q", scale=scale, title=clean(axis), axis=alt.Axis(tickCount=5))
    layers = [
        base.mark_rule(color=SPAN, strokeWidth=5, strokeCap="round").encode(x=alt.X("low:Q", scale=scale), x2="high:Q"),
        base.mark_point(filled=True, color=ACCENT, size=90, opacity=1).encode(x=x),
    ]
    if reference is not None:
        rule = alt.Chart(alt.Data(values=[{"reference": reference}])).mark_rule(color=MUTED, strokeDash=[4, 3])
        layers.insert(0, rule.encode(x=alt.X("reference:Q", scale=scale)))
    words = [f"{b.label} {b.value:.2f}" for b in bars]
    return _svg(
        alt.layer(*layers).properties(width=WIDTH, height=max(28 * len(bars), 40)), f"{axis}: {', '.join(words)}"
    )


def curves(lines: Mapping[str, Sequence[tuple[float, float]]], axis: str) -> Markup:
    """One or two lines over optimiser steps; `lines`: label -> (step, value). The caption names the axis."""
    import altair as alt

    rows = [
        _finite({"line": clean(label), "step": step, "value": value})
        for label, points in lines.items()
        for step, value in points
    ]
    labels = [clean(label) for label in lines]
    colour = alt.Color(
        "line:N",
        scale=alt.Scale(domain=labels, range=list(SERIES[: len(labels)])),
        legend=alt.Legend(orient="top", title=None) if len(labels) > 1 else None,
    )
    chart = alt.Chart(alt.Data(values=rows)).mark_line(strokeWidth=2, point=len(rows) <= 24 or alt.Undefined)
    chart = chart.encode(
        x=alt.X("step:Q", title="step", axis=alt.Axis(tickCount=5, tickMinStep=1)),
        y=alt.Y("value:Q", title=None, scale=alt.Scale(zero=False), axis=alt.Axis(tickCount=5)),
        color=colour,
    )
    last = ", ".join(f"{label} ends at {points[-1][1]:.3g}" for label, points in lines.items() if points)
    return _svg(chart.properties(width=WIDTH, height=130), f"{axis} over steps: {last}")


def calibrated(
    bins: Sequence[Bin],
    lowest: float = 0.5,
    across: str = "expected to be right",
    up: str = "right",
    what: str = "pairs",
) -> Markup:
    """Expected against observed share of right pairs, with intervals; the dashed line is where they are the same.

    Args:
        bins: from the lowest expected share to the highest.
        lowest: expected share that the axis starts at.
        across: title of the axis of expected shares.
        up: title of the axis of observed shares.
        what: what a bin holds, in words.
    """
    import altair as alt

    ticks = [round(lowest + (1 - lowest) * i / 5, 2) for i in range(6)]
    wide = alt.Scale(domain=[lowest - 0.02, 1.02], nice=False)
    high = alt.Scale(domain=[0, 1], nice=False)
    x = alt.X("expected:Q", scale=wide, title=across, axis=alt.Axis(values=ticks, format=".1f"))
    base = alt.Chart(alt.Data(values=[_finite(b._asdict()) for b in bins])).encode(x=x)
    even = alt.Chart(alt.Data(values=[{"expected": at, "share": at} for at in (lowest, 1.0)]))
    layers = [
        even.mark_line(color=MUTED, strokeDash=[4, 3], strokeWidth=1).encode(x=x, y=alt.Y("share:Q", scale=high)),
        base.mark_rule(color=SPAN, strokeWidth=5, strokeCap="round").encode(y=alt.Y("low:Q", scale=high), y2="high:Q"),
        base.mark_point(filled=True, color=ACCENT, size=90, opacity=1).encode(
            y=alt.Y("share:Q", scale=high, title=up, axis=alt.Axis(tickCount=5, format=".1f"))
        ),
    ]
    words = ", ".join(f"{b.share:.2f} of {b.n} {what} where {b.expected:.2f} is expected" for b in bins)
    return _svg(alt.layer(*layers).properties(width=WIDTH, height=190), f"Share of {up} {what}: {words}")


def heat(cells: Mapping[tuple[str, str], float], title: str) -> Markup:
    """A map of values in [0, 1] by (row, column): the larger, the stronger its colour; a missing cell is empty."""
    import altair as alt

    data = [{"row": clean(row), "column": clean(column), "value": v} for (row, column), v in cells.items()]
    small = alt.Axis(labelFontSize=10, labelLimit=130, grid=False)
    chart = alt.Chart(alt.Data(values=data)).mark_rect(color=ACCENT, stroke=GRID, strokeWidth=1)
    chart = chart.encode(
        x=alt.X("column:N", title=None, axis=small),
        y=alt.Y("row:N", title=None, axis=small),
        opacity=alt.Opacity("value:Q", scale=alt.Scale(domain=[0, 1], range=[0.05, 1]), legend=None),
    )
    heading = alt.TitleParams(clean(title), anchor="start", fontSize=12, fontWeight="normal", color=INK)
    most = sorted(cells.items(), key=lambda cell: (-cell[1], cell[0]))[:5]
    words = ", ".join(f"{row} on {column} {value:.2f}" for (row, column), value in most)
    return _svg(chart.properties(width={"step": 15}, height={"step": 14}, title=heading), f"{title}, most: {words}")


def _finite(row: dict[str, Any]) -> dict[str, Any]:
    return {key: None if isinstance(v, float) and not abs(v) < float("inf") else v for key, v in row.items()}


def _svg(chart: Any, words: str) -> Markup:
    import vl_convert

    axis = {
        "labelColor": INK,
        "titleColor": MUTED,
        "gridColor": GRID,
        "domain": False,
        "ticks": False,
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "labelPadding": 6,
        "labelLimit": 110,
    }
    chart = chart.configure(font=FONT, background="transparent").configure_axis(**axis).configure_view(stroke=None)
    chart = chart.configure_legend(labelColor=INK, labelFontSize=12)
    # The browser's font may be wider than the one that the labels were measured with.
    chart = chart.properties(padding={"left": 14, "right": 8, "top": 5, "bottom": 5})
    svg = str(vl_convert.vegalite_to_svg(chart.to_dict()))
    svg = re.sub(r' xmlns(:xlink)?="[^"]*"', "", svg)
    return Markup(svg.replace("<svg ", f'<svg role="img" aria-label="{escape(clean(words))}" ', 1))
