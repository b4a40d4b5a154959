"""Small pictures as SVG, drawn by hand: how response times spread, and how sure a ratio is.

Every figure says what it shows in an `aria-label`, tells before from after by place and hatching as
well as by colour, and takes its colours from the page; `picture` brings its own, to stand alone.
"""

from __future__ import annotations

import base64
import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from unified_db.migration import wording
from unified_db.migration.records import Latency

WIDTH = 420
SPREAD_HEIGHT = 96
RATIO_HEIGHT = 62
PICTURE_ROWS = 16

_GRID = 72
_LEFT = 46.0
_RIGHT = WIDTH - 10.0
_WIDEST_RATIO = 3.0

# A picture in Prefect's Markdown cannot know which theme surrounds it, so it brings its own paper.
_PICTURE_STYLE = (
    "text{font:12px system-ui,-apple-system,'Segoe UI',Roboto,sans-serif;fill:#1f2933}"
    ".paper{fill:#fff;stroke:#cbd2d9}.name{font-weight:600;font-size:13px}.mute{fill:#52606d}"
    ".axis{stroke:#9aa5b1}.before{fill:url(#hatch);stroke:#7b5e1d}.after{fill:#9fc5f5;stroke:#1f5fbf}"
    ".median-before{stroke:#5f4713;stroke-width:2.5}.median-after{stroke:#123f85;stroke-width:2.5}"
    ".limit{stroke:#b42318;stroke-width:1.5;stroke-dasharray:4 3}.span{stroke:#1f2933;stroke-width:2}"
    ".dot{fill:#1f2933}.hatch-ground{fill:#f3e3bd}.hatch-line{stroke:#7b5e1d}"
)


@dataclass(frozen=True)
class RatioAxis:
    """The one axis that all ratios of a run share: logarithmic, so twice as slow is as far as half."""

    low: float
    high: float
    limit: float

    def place(self, ratio: float) -> float:
        """The x of *ratio*, held inside the axis."""
        held = min(max(ratio, self.low), self.high)
        share = math.log(held / self.low) / math.log(self.high / self.low)
        return _LEFT + share * (_RIGHT - _LEFT)

    def ticks(self) -> list[float]:
        """Round ratios that lie on the axis."""
        wide = self.high / self.low > 2.2
        steps = (0.33, 0.5, 1.0, 2.0, 3.0) if wide else (0.5, 0.75, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0)
        return [t for t in steps if self.low <= t <= self.high]


def ratio_axis(latencies: Sequence[Latency], limit: float) -> RatioAxis:
    """An axis that holds every interval, one at least, and the limit."""
    bounds = [b for latency in latencies for b in (latency.low, latency.high, latency.ratio) if _usable(b)]
    high = max([limit * 1.1, 1.2, *(b * 1.05 for b in bounds)])
    low = min([1 / 1.2, *(b / 1.05 for b in bounds)])
    return RatioAxis(
        low=max(low, 1 / _WIDEST_RATIO), high=min(high, max(_WIDEST_RATIO, limit * 1.1)), limit=limit
    )


def spread(latency: Latency) -> Markup:
    """Both distributions of *latency* mirrored on one axis, with their medians; inline SVG."""
    label = (
        f"{_title(latency)}: median {wording.format_ms(latency.before_ms)} before, "
        f"{wording.format_ms(latency.after_ms)} after; "
        f"95 of 100 within {wording.format_ms(latency.before_p95_ms)} before, "
        f"{wording.format_ms(latency.after_p95_ms)} after"
    )
    return _figure(_spread_shapes(latency), SPREAD_HEIGHT, label)


def interval(latency: Latency, axis: RatioAxis) -> Markup:
    """The ratio of *latency* with its confidence interval against the limit; inline SVG."""
    label = (
        f"{_title(latency)}: after is {wording.format_ratio(latency.ratio)} times before, between "
        f"{wording.format_ratio(latency.low)} and {wording.format_ratio(latency.high)}; "
        f"the limit is {wording.format_ratio(axis.limit)}"
    )
    return _figure(_interval_shapes(latency, axis), RATIO_HEIGHT, label)


def hatch() -> Markup:
    """The pattern that marks "before"; once per page, ahead of every figure."""
    return _HIDDEN


def picture(latencies: Sequence[Latency], limit: float) -> str:
    """One SVG file of the slowest-grown *latencies*, at most sixteen, that stands alone."""
    axis = ratio_axis(latencies, limit)
    shown = sorted(latencies, key=_worst_first)[:PICTURE_ROWS]
    step = SPREAD_HEIGHT + 34
    width, height = 2 * WIDTH + 40, 48 + step * len(shown)
    rows = "".join(_picture_row(latency, axis, 44 + step * i) for i, latency in enumerate(shown))
    title = f"Response times before and after, {len(shown)} of {len(latencies)} measured"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" role="img" aria-label="{title}"><style>{_PICTURE_STYLE}</style>{_HATCH}'
        f'<rect class="paper" x=".5" y=".5" width="{width - 1}" height="{height - 1}" rx="6"/>'
        f'<text class="name" x="16" y="26">Response times</text>'
        f'<text class="mute" x="{WIDTH + 30}" y="26">after / before, with its interval; '
        f"the gate closes beyond {limit:.2f}</text>{rows}</svg>"
    )


def data_uri(svg: str) -> str:
    """*svg* as an address that Markdown and HTML can show as a picture."""
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode("ascii")


_HATCH = (
    '<defs><pattern id="hatch" width="5" height="5" patternUnits="userSpaceOnUse" '
    'patternTransform="rotate(45)"><rect class="hatch-ground" width="5" height="5"/>'
    '<line class="hatch-line" x1="0" y1="0" x2="0" y2="5" stroke-width="1.4"/></pattern></defs>'
)


_HIDDEN = Markup(  # noqa: S704 - fixed text
    f'<svg width="0" height="0" class="defs" aria-hidden="true" focusable="false">{_HATCH}</svg>'
)
_FIGURE = Markup(
    '<svg class="figure" viewBox="0 0 {width} {height}" role="img" aria-label="{label}">{shapes}</svg>'
)


def _figure(shapes: str, height: int, label: str) -> Markup:
    # The shapes are ours: numbers and fixed words only. What comes from outside is the label.
    return _FIGURE.format(
        width=WIDTH,
        height=height,
        label=wording.mask(label),
        shapes=Markup(shapes),  # noqa: S704 - see above
    )


def _picture_row(latency: Latency, axis: RatioAxis, y: int) -> str:
    name = escape(wording.shorten(wording.mask(_title(latency)), 52))
    ratio = f"{wording.format_ratio(latency.ratio)} ({wording.format_change(latency.ratio)})"
    medians = f"{wording.format_ms(latency.before_ms)} → {wording.format_ms(latency.after_ms)}"
    return (
        f'<g transform="translate(10 {y})"><text class="name" x="6" y="16">{name}</text>'
        f'<g transform="translate(0 22)">{_spread_shapes(latency)}</g></g>'
        f'<g transform="translate({WIDTH + 20} {y})"><text x="10" y="16">{medians}, ratio {ratio}</text>'
        f'<g transform="translate(0 34)">{_interval_shapes(latency, axis)}</g></g>'
    )


def _spread_shapes(latency: Latency) -> str:
    low, high = _spread_range(latency)
    middle, half = 40.0, 32.0

    def place(value: float) -> float:
        return _LEFT + (min(max(value, low), high) - low) / (high - low) * (_RIGHT - _LEFT)

    before = _density(latency.before_sample_ms, low, high)
    after = _density(latency.after_sample_ms, low, high)
    peak = max([*before, *after, 1e-12])
    ticks = "".join(_tick(place(t), middle + half + 2, f"{t:g}") for t in _round_steps(low, high))
    return (
        _hill(before, peak, middle, -half, "before")
        + _hill(after, peak, middle, half, "after")
        + f'<line class="axis" x1="{_LEFT}" y1="{middle}" x2="{_RIGHT}" y2="{middle}"/>'
        + _median(place(latency.before_ms), middle, -half, "before")
        + _median(place(latency.after_ms), middle, half, "after")
        + f'<text class="side" x="0" y="{middle - 10}">before</text>'
        + f'<text class="side" x="0" y="{middle + 20}">after</text>'
        + f'{ticks}<text class="mute" x="0" y="{middle + half + 18}">ms</text>'
    )


def _interval_shapes(latency: Latency, axis: RatioAxis) -> str:
    low, high, dot = axis.place(latency.low), axis.place(latency.high), axis.place(latency.ratio)
    one, limit = axis.place(1.0), axis.place(axis.limit)
    floor, y = 40.0, 20.0
    ticks = "".join(_tick(axis.place(t), floor, f"{t:g}") for t in axis.ticks())
    aside, anchor = (limit + 5, "start") if limit < _RIGHT - 60 else (limit - 5, "end")
    return (
        f'<line class="axis" x1="{_LEFT}" y1="{floor}" x2="{_RIGHT}" y2="{floor}"/>'
        f'<line class="axis" x1="{one:.1f}" y1="4" x2="{one:.1f}" y2="{floor}"/>'
        f'<line class="limit" x1="{limit:.1f}" y1="4" x2="{limit:.1f}" y2="{floor}"/>'
        f'<text class="mute" x="{aside:.1f}" y="10" text-anchor="{anchor}">limit {axis.limit:g}</text>{ticks}'
        f'<line class="span" x1="{low:.1f}" y1="{y}" x2="{high:.1f}" y2="{y}"/>'
        f"{_end(low, y, cut=latency.low < axis.low, way=-1)}"
        f"{_end(high, y, cut=latency.high > axis.high, way=1)}"
        f'<circle class="dot" cx="{dot:.1f}" cy="{y}" r="5"/>'
    )


def _end(x: float, y: float, *, cut: bool, way: int) -> str:
    """A whisker, or an arrow where the interval goes on beyond the axis."""
    if cut:
        back = f"{x - 6 * way:.1f}"
        return f'<path class="span" fill="none" d="M{back} {y - 5} L{x:.1f} {y} L{back} {y + 5}"/>'
    return f'<line class="span" x1="{x:.1f}" y1="{y - 6}" x2="{x:.1f}" y2="{y + 6}"/>'


def _tick(x: float, y: float, label: str) -> str:
    return (
        f'<line class="axis" x1="{x:.1f}" y1="{y}" x2="{x:.1f}" y2="{y + 4}"/>'
        f'<text class="mute" x="{x:.1f}" y="{y + 17}" text-anchor="middle">{label}</text>'
    )


def _median(x: float, middle: float, half: float, side: str) -> str:
    return f'<line class="median-{side}" x1="{x:.1f}" y1="{middle}" x2="{x:.1f}" y2="{middle + half}"/>'


def _hill(density: Sequence[float], peak: float, middle: float, half: float, side: str) -> str:
    if not density:
        return ""
    step = (_RIGHT - _LEFT) / (len(density) - 1)
    points = " ".join(f"{_LEFT + i * step:.1f},{middle + d / peak * half:.1f}" for i, d in enumerate(density))
    return f'<polygon class="{side}" points="{_LEFT},{middle} {points} {_RIGHT},{middle}"/>'


def _spread_range(latency: Latency) -> tuple[float, float]:
    """From the fastest to the 98th percentile: a lone outlier must not flatten the rest."""
    samples = [sorted(s) for s in (latency.before_sample_ms, latency.after_sample_ms) if s]
    known = [latency.before_ms, latency.after_ms]
    tops = [s[int(0.98 * (len(s) - 1))] for s in samples] or [latency.before_p95_ms, latency.after_p95_ms]
    low = min([*known, *(s[0] for s in samples)])
    high = max([*known, *tops])
    room = max((high - low) * 0.06, high * 0.02, 0.01)
    return max(low - room, 0.0), high + room


def _density(sample: Sequence[float], low: float, high: float) -> list[float]:
    """A Gaussian kernel density on an even grid; empty where the sample shows no shape."""
    if len(sample) < 5:
        return []
    ordered = sorted(sample)
    quartiles = ordered[3 * len(ordered) // 4] - ordered[len(ordered) // 4]
    # Silverman's rule on the quartiles: a few slow answers must not smear the hill.
    width = max(0.9 * quartiles / 1.34 * len(ordered) ** -0.2, (high - low) / 150)
    grid = [low + (high - low) * i / (_GRID - 1) for i in range(_GRID)]
    return [_kernel_sum(x, ordered, width) / len(ordered) / width for x in grid]


def _kernel_sum(x: float, ordered: Sequence[float], width: float) -> float:
    near = ordered[bisect_left(ordered, x - 4 * width) : bisect_right(ordered, x + 4 * width)]
    return sum(math.exp(-0.5 * ((x - s) / width) ** 2) for s in near)


def _round_steps(low: float, high: float) -> list[float]:
    """Three to six round numbers between *low* and *high*."""
    raw = (high - low) / 4
    magnitude = 10.0 ** math.floor(math.log10(raw))
    step = next(m * magnitude for m in (1, 2, 2.5, 5, 10) if m * magnitude >= raw)
    first = math.ceil(low / step)
    return [round(i * step, 9) for i in range(first, math.floor(high / step) + 1)]


def _title(latency: Latency) -> str:
    return f"{latency.name}, {latency.concurrency} at a time" if latency.concurrency > 1 else latency.name


def _worst_first(latency: Latency) -> float:
    return -latency.high if _usable(latency.high) else 0.0


def _usable(number: float) -> bool:
    return math.isfinite(number) and number > 0
