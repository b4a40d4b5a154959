"""The page of `write_pause.py`, made from its figures alone."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

_ABOUT = (
    "The write pause is the time from the stop that is issued to the first healthy answer, less a plain "
    "restart of the same application measured a moment before. Each run is a whole move of a fresh copy of "
    "the sources (0.15 GB of an application's rows, 0.85 GB of LangGraph's checkpoints for each GB); the "
    "writer is part of the application and commits four rows about every 10 ms."
)
_AIMS_MS = (250, 1000, 1000)


def markdown(sides: dict[str, Any]) -> str:
    """Pause of every case on every side, the aims, and where the time goes."""
    lines = ["# The write pause", "", _ABOUT, ""]
    for name, side in sides.items():
        lines += [f"**{name}**: {_where(side)}", ""]
    lines += ["| case | aim | " + " | ".join(sides) + " |", "|---|---|" + "---|" * len(sides)]
    for place, case in enumerate(_cases(sides)):
        cells = [_pause(side["cases"][case]) for side in sides.values()]
        lines.append(f"| {case} | under {_AIMS_MS[place]} ms | " + " | ".join(cells) + " |")
    for name, side in sides.items():
        lines += ["", f"## {name}", "", *_details(side)]
    return "\n".join([*lines, ""])


def _cases(sides: dict[str, Any]) -> list[str]:
    return list(next(iter(sides.values()))["cases"])


def _where(side: dict[str, Any]) -> str:
    about = side["machine"]
    load = [run["load"] for runs in side["cases"].values() for run in runs]
    return (
        f"{side['bytes'] / 1e9:.2f} GB, measured {about['date']} on {about['processor']}, {about['memory']}, "
        f"Python {about['python']}, SQLite {about['sqlite']}; load {min(load):.1f} to {max(load):.1f}. "
        f"{about['note']}".rstrip()
    )


def _pause(runs: Sequence[dict[str, Any]]) -> str:
    taken = [run["pause_ms"] for run in runs]
    return f"{statistics.median(taken):.0f} ms ({min(taken):.0f} to {max(taken):.0f}, {len(taken)} runs)"


def _details(side: dict[str, Any]) -> list[str]:
    rows = ["| median, ms | " + " | ".join(side["cases"]) + " |", "|---|" + "---|" * len(side["cases"])]
    for key, words in (
        ("downtime_ms", "stop to first answer"),
        ("restart_ms", "a plain restart"),
        ("pause_ms", "**pause**"),
        ("client_gap_ms", "longest wait of the client"),
        ("late_rows", "rows written since the backup"),
    ):
        cells = [f"{statistics.median(r[key] for r in runs):,.0f}" for runs in side["cases"].values()]
        rows.append(f"| {words} | " + " | ".join(cells) + " |")
    names = dict.fromkeys(n for runs in side["cases"].values() for r in runs for n in r["steps"])
    for name in names:
        cells = [
            f"{statistics.median(r['steps'].get(name, 0.0) for r in runs):.0f}"
            for runs in side["cases"].values()
        ]
        rows.append(f"| step: {name} | " + " | ".join(cells) + " |")
    return rows
