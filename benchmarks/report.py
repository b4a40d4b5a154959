"""From pytest-benchmark's JSON to `docs/runtime-benchmark.json` and `docs/runtime-benchmark.md`."""

from __future__ import annotations

import json
import math
import os
import platform
import sqlite3
import statistics
import sys
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

DOCS = Path(__file__).parent.parent / "docs"
LIBRARIES = (
    "langgraph",
    "langgraph-checkpoint",
    "langgraph-checkpoint-sqlite",
    "aiosqlite",
    "SQLAlchemy",
    "pytest-benchmark",
)
_HEAD = """# The runtime, measured

Made by `make bench-runtime` (`benchmarks/runtime.py`, pytest-benchmark); every round of every run is in
[runtime-benchmark.json](runtime-benchmark.json). "Stock" is LangGraph's own saver or store, "ours" the
unified one with only the import changed. Both run in alternating rounds, on files of their own with the
same payloads and the same settings: WAL, `synchronous=FULL`, a checkpoint of the WAL every 1000 pages.
They are read back from the connections that write.
"""


@dataclass(frozen=True)
class Row:
    """A line of the table, from one benchmark.

    What is to be reached is one of: `ratio` (how many times faster than stock), `errors` with or
    without `worst_ms`, `worst_ms`, `median_ms`, `of_two_files` (an application's median write
    against the one before the move).
    """

    work: str
    how: str
    aim: dict[str, float]
    sides: dict[str, dict[str, Any]]

    @classmethod
    def of(cls, benchmark: dict[str, Any]) -> Row:
        """The line of one entry of the kept JSON."""
        return cls(benchmark["work"], benchmark["how"], benchmark["aim"], benchmark["sides"])

    @property
    def aim_text(self) -> str:
        """The aim in words."""
        texts = {
            "ratio": "{:g} x",
            "errors": "{:g} lock errors",
            "worst_ms": "worst write < {:g} ms",
            "median_ms": "< {:g} ms",
            "of_two_files": "median within {:g} of two files",
        }
        return ", ".join(texts[kind].format(value) for kind, value in self.aim.items())

    def quickest_ms(self, side: str) -> float:
        """The quickest round of a side: whatever else the machine did can only have added to it."""
        return float(min(self.sides[side]["rounds_ms"]))

    def found(self) -> dict[str, float]:
        """What was measured, under the names of the aim."""
        ours, stock = self.sides["ours"], self.sides.get("stock", {})
        return {kind: self._measure(kind, ours, stock) for kind in self.aim}

    @staticmethod
    def _measure(kind: str, ours: dict[str, Any], stock: dict[str, Any]) -> float:
        if kind == "ratio":
            return float(stock["median_ms"] / ours["median_ms"])
        if kind == "of_two_files":
            return float(ours["writes"]["median_ms"] / stock["writes"]["median_ms"])
        if kind == "worst_ms":
            return float(ours["writes"]["worst_ms"])
        return float(ours[kind])

    @property
    def reached(self) -> bool:
        """Whether the aim was."""
        found = self.found()
        return all(
            found[kind] >= value if kind == "ratio" else found[kind] <= value
            for kind, value in self.aim.items()
        )

    def cell(self, side: str) -> str:
        """A side's figures."""
        if side not in self.sides:
            return ""
        found = self.sides[side]
        if "writes" not in found:
            return f"{found['median_ms']:.3g} ms"
        writes = found["writes"]
        if "errors" not in found:
            ms = [writes[name] for name in ("median_ms", "p99_ms", "worst_ms")]
            return "median {:.2f}, p99 {:.1f}, worst {:.0f} ms".format(*ms)
        took = f"{writes['count']:,} writes in {found['median_ms'] / 1000:.2g} s"
        return f"{found['errors']} errors, worst {writes['worst_ms']:,.0f} ms; {took}"

    def result(self, runs: list[Row]) -> str:
        """What came out, with how far apart the runs were."""
        texts = []
        for kind, value in self.found().items():
            unit = {"ratio": "x", "of_two_files": "times two files", "errors": "errors"}.get(kind, "ms")
            every = [row.found()[kind] for row in runs]
            between = f" ({min(every):.3g} to {max(every):.3g})" if len(every) > 1 else ""
            texts.append(f"{value:.3g} {unit}{between}")
        if "ratio" in self.aim:
            quickest = self.quickest_ms("stock") / self.quickest_ms("ours")
            texts.append(f"quickest rounds {quickest:.3g} x")
        return ", ".join(texts)


# --- Running and keeping -----------------------------------------------------------------------------


def run(suite: Path, arguments: list[str]) -> int:
    """Run *suite* as often as the first argument says, keep every run, write the page about one."""
    count = int(arguments[0]) if arguments and arguments[0].isdigit() else 1
    runs: list[dict[str, Any]] = []
    for _ in range(count):
        with tempfile.TemporaryDirectory() as folder:
            raw = Path(folder) / "raw.json"
            options = ["-q", "-p", "no:cacheprovider", "--benchmark-only", "--benchmark-disable-gc"]
            code = pytest.main([str(suite), *options, f"--benchmark-json={raw}", *arguments[1:]])
            if code:
                return int(code)
            runs.append(keep(json.loads(raw.read_text())))
        write(runs)
    return 0


def write(runs: list[dict[str, Any]]) -> None:
    """Keep *runs* and write the page about the middle one."""
    kept = {"published": ordinary(runs), "runs": runs}
    (DOCS / "runtime-benchmark.json").write_text(json.dumps(kept, indent=1) + "\n")
    page = write_page(kept)
    (DOCS / "runtime-benchmark.md").write_text(page)
    print(page)


def keep(raw: dict[str, Any]) -> dict[str, Any]:
    """What of pytest-benchmark's JSON says nothing of whose machine it was."""
    benchmarks = [
        {
            "work": b["group"],
            "stats_s": {
                name: b["stats"][name] for name in ("min", "max", "mean", "stddev", "median", "rounds")
            },
            **{key: b["extra_info"][key] for key in ("how", "aim", "calls", "sides")},
        }
        for b in raw["benchmarks"]
    ]
    return {"date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC", "machine": machine(), "benchmarks": benchmarks}


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cores": os.cpu_count(),
        "memory_gb": round(memory / 2**30),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        **{name: version(name) for name in LIBRARIES},
    }


def ordinary(runs: list[dict[str, Any]]) -> int:
    """Which run lies in the middle, by the geometric mean of its ratios; the worse one of two."""
    means = [statistics.fmean(math.log(r) for r in ratios(kept)) for kept in runs]
    return sorted(range(len(runs)), key=means.__getitem__)[(len(runs) - 1) // 2]


def ratios(kept: dict[str, Any]) -> list[float]:
    """How many times faster than stock, for the rows that ask for it."""
    rows = [Row.of(b) for b in kept["benchmarks"]]
    return [row.found()["ratio"] for row in rows if "ratio" in row.aim] or [1.0]


# --- The page ------------------------------------------------------------------------------------------


def write_page(kept: dict[str, Any]) -> str:
    """The Markdown page about the published run."""
    published = kept["runs"][kept["published"]]
    rows = [Row.of(b) for b in published["benchmarks"]]
    every = [[Row.of(b) for b in r["benchmarks"]] for r in kept["runs"]]
    lines = [
        _HEAD,
        _about(published, len(every)),
        "| work | aim | stock | ours | result | reached |",
        "|---|---|---|---|---|---|",
    ]
    for n, row in enumerate(rows):
        cells = [
            row.work,
            row.aim_text,
            row.cell("stock"),
            row.cell("ours"),
            row.result([run[n] for run in every]),
        ]
        lines.append(f"| {' | '.join(cells)} | {'yes' if row.reached else '**no**'} |")
    lines += ["", limits(rows)]
    lines += ["## How each row is measured", ""]
    lines += [f"- **{row.work}**: {row.how}" for row in rows]
    return "\n".join(lines) + "\n"


def _about(published: dict[str, Any], count: int) -> str:
    about = published["machine"]
    libraries = ", ".join(f"{name} {about[name]}" for name in LIBRARIES)
    runs = (
        f"the middle one of {count} runs; in parentheses how far the runs lie apart"
        if count > 1
        else "one run"
    )
    return (
        f"{published['date']}, {runs}. {about['cores']} cores, {about['memory_gb']} GB, {about['system']}, "
        f"Python {about['python']}, SQLite {about['sqlite']}, {libraries}.\n"
    )


def limits(rows: list[Row]) -> str:
    """What the other measurements say about those rows, by their quickest rounds."""
    lines = ["## What the limits are", ""]
    for row in rows:
        if "bare" in row.sides:
            lines.append(_bare(row))
        if "memory" in row.sides and "ratio" in row.aim:
            lines.append(_nothing_stored(row))
        if "of_two_files" in row.aim:
            lines.append(_beside(row))
    return "\n".join([*lines, ""])


def _bare(row: Row) -> str:
    stock, ours, bare, thread = (row.quickest_ms(side) for side in ("stock", "ours", "bare", "thread"))
    return (
        f"- **{row.work}**: in their quickest rounds stock takes {stock:.3g} ms, ours {ours:.3g} ms. The "
        f"same commits take {bare:.3g} ms in a bare `sqlite3` loop, and {thread:.3g} ms where an event loop "
        "hands each to a thread and waits for it, which is the least that a saver can do without stopping "
        f"its loop: {stock / thread:.3g} x the stock saver is the most that any could reach here. Each side "
        "waits for exactly one `fdatasync` per commit (counted with strace)."
    )


def _nothing_stored(row: Row) -> str:
    stock, ours, least = (row.quickest_ms(side) for side in ("stock", "ours", "memory"))
    return (
        f"- **{row.work}**: in the quickest rounds {least:.3g} ms with nothing stored at all (LangGraph's "
        f"saver in memory); stock adds {stock - least:.3g} ms to that, ours {ours - least:.3g} ms."
    )


def _beside(row: Row) -> str:
    beside = "; ".join(
        f"{name}: {row.cell(side)}, {row.sides[side]['turns']:,} runs of the graph meanwhile"
        for side, name in (
            ("stock", "two files, stock"),
            ("two", "two files, ours"),
            ("ours", "one file, ours"),
            ("memory", "conversations that store nothing"),
        )
    )
    return f"- **{row.work}**: {beside}.{_without_a_pause(row) if 'no pause' in row.work else ''}"


def _without_a_pause(row: Row) -> str:
    stock, two, ours = (row.sides[side] for side in ("stock", "two", "ours"))
    queue_ms = ours["writes"]["median_ms"] - two["writes"]["median_ms"]
    return (
        f" With ours {ours['turns'] / stock['turns']:.1f} times as many runs of the graph come to their end "
        "meanwhile, and without a pause they keep the one core that Python uses busy: conversations that "
        "store nothing at all hold an application's write up longest. What the shared file itself adds is "
        f"the commit that is under way when the write comes, {queue_ms:.2f} ms in the median against two "
        "files with ours; that much is the price of one write lock."
    )


if __name__ == "__main__":
    sys.exit("run `python -m benchmarks.runtime`")
