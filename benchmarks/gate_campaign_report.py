"""From the campaign's runs to `docs/gate-campaign.json` and `docs/gate-campaign.md`."""

from __future__ import annotations

import json
import os
import platform
import sqlite3
import statistics
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

Result = Mapping[str, Any]

LIBRARIES = ("langgraph", "SQLAlchemy", "fastapi", "uvicorn")
_HEAD = """# The gates, proven by real runs

Made by `make gate-campaign` (`benchmarks/gate_campaign.py`); every run is in
[gate-campaign.json](gate-campaign.json). Each is the gate's own phase on the example application: fresh
databases, freshly started servers, new random orders. What is planted is in the staged copy that runs on
the unified file alone; the example itself knows nothing of it.

A slow-down is a wait (not busy CPU) before the answers of `POST /api/chat`, as a share of the time that
each request itself took, so that it follows the machine's speed. It is chosen so that the median comes out
at the stated ratio to the old files: with nothing planted the unified file has the ratio of the first row,
and that is taken into account, as is how much of such a wait the client sees (the second row).
"Under concurrency" waits only where another request was there meanwhile.
`chat` is the endpoint that is slow enough: a difference of less than `min_diff_ms` (1 ms) never closes the
gate, which is about all that `ping` and `providers` take, and a third of `history`.
"""
_TAIL = """
Ratios: median over the runs, with the smallest and the largest. A gate that closes because it could not be
decided in time counts as closed. "As it must" asks for the finding that names what was planted,
at `chat` where that was slowed down.

## By which finding
"""
_COLUMNS = (
    "planted on the unified side",
    "the gate must",
    "runs",
    "open",
    "closed",
    "as it must",
    "ratio of `chat`, 1 at a time",
    "8 at a time",
    "seconds a run",
)


class Case(Protocol):
    """What of a case is reported."""

    @property
    def name(self) -> str: ...
    @property
    def verdict(self) -> str: ...
    @property
    def check(self) -> str: ...
    @property
    def runs(self) -> int: ...
    @property
    def slower(self) -> float | None: ...


def write_report(folder: Path, results: Sequence[Result], cases: Sequence[Case]) -> None:
    """Write both files into *folder*."""
    machine = describe_machine()
    document = {"machine": machine, "cases": [_count(c, results) for c in cases], "runs": list(results)}
    (folder / "gate-campaign.json").write_text(json.dumps(document, indent=1) + "\n")
    (folder / "gate-campaign.md").write_text(_page(machine, results, cases))


def describe_machine() -> str:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 1024**3
    libraries = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    return (
        f"{os.cpu_count()} cores, {memory} GB, {platform.system()} {platform.machine()}, "
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, {libraries}"
    )


def _of(case: Case, results: Sequence[Result]) -> list[Result]:
    return [r for r in results if r["case"] == case.name]


def _count(case: Case, results: Sequence[Result]) -> dict[str, Any]:
    own = _of(case, results)
    return {
        "name": case.name,
        "wanted": case.verdict,
        "runs": len(own),
        "open": sum(r["passed"] for r in own),
        "closed": sum(not r["passed"] for r in own),
        "as_wanted": sum(_is_as_wanted(case, r) for r in own),
    }


def _is_as_wanted(case: Case, result: Result) -> bool:
    """True where the gate said what it has to; of what was slowed down, that this is slower."""
    named = not case.slower or any(f["where"].startswith("chat,") for f in result["failures"])
    return bool(result["as_wanted"] and (named or case.verdict == "either"))


def _page(machine: str, results: Sequence[Result], cases: Sequence[Case]) -> str:
    times = sorted(r["at"] for r in results)
    ends = [t[:16].replace("T", " ") for t in (times[0], times[-1])] if times else []
    when = f"{' to '.join(ends)} UTC" if ends else "no run yet"
    lines = [
        _HEAD,
        f"{when}. {machine}.",
        "",
        f"| {' | '.join(_COLUMNS)} |",
        "|---|---|---:|---:|---:|---:|---|---|---|",
        *(_line(case, results) for case in cases),
        _TAIL,
        *(line for case in cases for line in _findings(case, results)),
    ]
    return "\n".join(lines).rstrip("\n") + "\n"


def _line(case: Case, results: Sequence[Result]) -> str:
    own, count = _of(case, results), _count(case, results)
    must = {"either": "either will do", "open": "open", "closed": f'close by "{case.check}"'}[case.verdict]
    ratios = [
        _spread([s["ratio"] for r in own for s in r.get("series", ()) if _is_chat(s, concurrency)])
        for concurrency in (1, 8)
    ]
    seconds = _spread([r["seconds"] for r in own], digits=0)
    return (
        f"| {case.name} | {must} | {count['runs']} of {case.runs} | {count['open']} | {count['closed']} "
        f"| {count['as_wanted']} of {count['runs']} | {ratios[0]} | {ratios[1]} | {seconds} |"
    )


def _is_chat(series: Mapping[str, Any], concurrency: int) -> bool:
    return bool(series["name"] == "chat" and series["concurrency"] == concurrency)


def _spread(values: Sequence[float], *, digits: int = 2) -> str:
    if not values:
        return ""
    low, high = min(values), max(values)
    return f"{statistics.median(values):.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def _findings(case: Case, results: Sequence[Result]) -> list[str]:
    """How often each finding closed the gate, with what it said the first time."""
    own = _of(case, results)
    said: dict[str, list[str]] = {}
    for result in own:
        seen = {f"{f['check']}: {f['where']}": f["measured"] for f in result["failures"]}
        for key, measured in seen.items():
            said.setdefault(key, []).append(measured)
    lines = [f'- {key}: {len(found)} of {len(own)}, such as "{found[0]}"' for key, found in said.items()]
    return [f"**{case.name}**", "", *(lines or ["- none: open"]), ""] if own else []
