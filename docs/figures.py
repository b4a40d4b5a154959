"""Draws the two figures of how-it-works.md as SVG; `make docs` runs it, and a test fails when they drift.

Plain SVG with its own light ground, so that it reads the same on a dark page.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from xml.sax.saxutils import escape

HERE = Path(__file__).parent
_FONT = "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif"
_INK, _MUTE, _LINE, _GROUND = "#1b2430", "#5a6675", "#9aa6b2", "#ffffff"
_BLUE, _GREEN, _RED, _AMBER = "#dbe8fb", "#dff2e3", "#fbe3e1", "#fdf0cf"


def _page(width: int, height: int, title: str, parts: list[str]) -> str:
    marker = (
        f'<defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" '
        f'orient="auto-start-reverse"><path d="M0 0 10 5 0 10z" fill="{_MUTE}"/></marker></defs>'
    )
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" role="img" font-family="{_FONT}" font-size="14" fill="{_INK}">'
    )
    ground = _box(0.5, 0.5, width - 1, height - 1, fill=_GROUND, stroke="#e3e8ed")
    return "\n".join([head, f"<title>{escape(title)}</title>", marker, ground, *parts, "</svg>"]) + "\n"


def _text(x: float, y: float, text: str, *, size: int = 14, fill: str = _INK, anchor: str = "middle") -> str:
    return (
        f'<text x="{x:g}" y="{y:g}" font-size="{size}" fill="{fill}" text-anchor="{anchor}">'
        f"{escape(text)}</text>"
    )


def _bold(x: float, y: float, text: str, *, size: int = 14, anchor: str = "middle") -> str:
    return _text(x, y, text, size=size, anchor=anchor).replace("<text ", '<text font-weight="600" ')


def _box(x: float, y: float, width: float, height: float, *, fill: str, stroke: str = _LINE) -> str:
    size = f'width="{width:g}" height="{height:g}"'
    return f'<rect x="{x:g}" y="{y:g}" {size} rx="6" fill="{fill}" stroke="{stroke}"/>'


def _arrow(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<path d="M{x1:g} {y1:g} {x2:g} {y2:g}" stroke="{_MUTE}" fill="none" marker-end="url(#tip)"/>'


def _dashed(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<path d="M{x1:g} {y1:g} {x2:g} {y2:g}" stroke="{_LINE}" fill="none" stroke-dasharray="4 4"/>'


# ---- the flow ------------------------------------------------------------------------------------

_STEPS = (
    ("plan", "reads only", _BLUE),
    ("backup", "one instant", _BLUE),
    ("merge", "one file", _BLUE),
    ("validate", "every cell", _AMBER),
    ("suites", "your tests", _AMBER),
    ("benchmark", "old against new", _AMBER),
    ("approval", "gates, a person", _BLUE),
    ("cut-over", "stop to ready", _RED),
    ("archive", "read back", _GREEN),
)


def draw_flow() -> str:
    """The phases of a run from left to right, what the application does meanwhile, and each way out."""
    left, wide, gap, top, high = 24, 104, 14, 84, 62
    lefts = [left + n * (wide + gap) for n in range(len(_STEPS))]
    width = lefts[-1] + wide + 24
    parts = []
    for (name, said, fill), x in zip(_STEPS, lefts, strict=True):
        parts += [_box(x, top, wide, high, fill=fill), _bold(x + wide / 2, top + 27, name)]
        parts.append(_text(x + wide / 2, top + 47, said, size=12, fill=_MUTE))
    middle = top + high / 2
    parts += [_arrow(a + wide, middle, b, middle) for a, b in itertools.pairwise(lefts)]
    parts += _spans(lefts, wide)
    parts += _ways_out(lefts, wide, top + high)
    return _page(int(width), 268, "The phases of a run, and how it ends", parts)


def _spans(lefts: list[float] | list[int], wide: int) -> list[str]:
    spans = (
        (lefts[0], lefts[6] + wide, "the application serves on its old files"),
        (lefts[7], lefts[7] + wide, "short pause"),
        (lefts[8], lefts[8] + wide, "one file"),
    )
    parts = []
    for begin, end, said in spans:
        parts.append(f'<path d="M{begin} 62v-8H{end}v8" stroke="{_LINE}" fill="none"/>')
        parts.append(_text((begin + end) / 2, 42, said, size=13, fill=_MUTE))
    return parts


def _ways_out(lefts: list[int], wide: int, bottom: int) -> list[str]:
    y, high = 212, 36
    # From the first phase to the last of each, and which of them end there.
    ways = (
        (0, 2, (0, 1), "a source cannot be used: refused (exit 4)"),
        (3, 6, (3, 4, 5, 6), "a gate is closed, or nobody agrees: nothing was switched (exit 3)"),
        (7, 8, (7,), "all undone, as before (exit 5)"),
    )
    parts = []
    for first, last, ending, said in ways:
        begin, end = lefts[first], lefts[last] + wide
        parts += [_box(begin, y, end - begin, high, fill=_GROUND)]
        parts += [_text((begin + end) / 2, y + 23, said, size=13)]
        parts += [_arrow(lefts[n] + wide / 2, bottom, lefts[n] + wide / 2, y) for n in ending]
    return parts


# ---- the cut-over --------------------------------------------------------------------------------

_LANES = ("application", "old files", "unified file", "configuration")
# Where a bar begins and ends on the line of time, in which lane, and what it says.
_BARS = (
    (0, 170, 0, "serves, writes", _GREEN),
    (170, 640, 0, "stopped", _RED),
    (640, 930, 0, "serves on one file", _GREEN),
    (0, 230, 1, "in use", _GREEN),
    (230, 520, 1, "write locks held by us", _AMBER),
    (520, 930, 1, "in the run's folder; a fence at each path", _BLUE),
    (0, 300, 2, "late rows carried, compared", _BLUE),
    (300, 400, 2, "last rows", _AMBER),
    (400, 930, 2, "in its place, in use from the start on", _GREEN),
    (0, 450, 3, "old", _GREEN),
    (450, 930, 3, "edited, file by file, written and renamed", _BLUE),
)
_MOMENTS = (
    (170, "stop"),
    (230, "lock"),
    (400, "place"),
    (450, "edit"),
    (520, "move, fence"),
    (600, "start"),
    (640, "ready"),
    (880, "soak_s over"),
)
_WORDS = (
    "Each act is in the journal, fsynced, before it is done. Whatever goes wrong up to",
    "“soak_s over” is undone in reverse order, and rows written since the start are carried back.",
)


def draw_cutover() -> str:
    """The cut-over on a line of time (not to scale): who does what, and where the pause is."""
    left, top, lane, wide = 136, 92, 46, 930
    bottom = top + lane * len(_LANES)
    parts = [
        _bold(left - 14, top + n * lane + 27, name, size=13, anchor="end") for n, name in enumerate(_LANES)
    ]
    for at, said in _MOMENTS:
        level = 60 if said in {"lock", "edit", "start"} else 78
        parts.append(_dashed(left + at, top - 10, left + at, bottom + 4))
        parts.append(_text(left + at, level, said, size=12, fill=_MUTE))
    for begin, end, row, said, fill in _BARS:
        y = top + row * lane + 4
        parts.append(_box(left + begin, y, end - begin, lane - 8, fill=fill))
        parts.append(_text(left + (begin + end) / 2, y + 24, said, size=12))
    parts.append(f'<path d="M{left + 170} 42v-8H{left + 640}v8" stroke="{_MUTE}" fill="none"/>')
    parts.append(_bold(left + 405, 26, "away: our pause, and one plain restart", size=13))
    parts += [_text(left, bottom + 28 + 18 * n, w, size=13, anchor="start") for n, w in enumerate(_WORDS)]
    parts.append(_text(left + wide, bottom + 28, "time, not to scale →", size=12, fill=_MUTE, anchor="end"))
    title = "The cut-over in time: stop, lock, carry, switch, start, watch"
    return _page(left + wide + 24, bottom + 66, title, parts)


FIGURES = {"flow.svg": draw_flow, "cutover.svg": draw_cutover}


def main() -> None:
    """Write both figures beside this file."""
    for name, draw in FIGURES.items():
        (HERE / name).write_text(draw())


if __name__ == "__main__":
    main()
