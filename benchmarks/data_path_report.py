"""The page and the plot of `data_path.py`, made from its figures alone."""

from __future__ import annotations

import statistics
from typing import Any

_BASE = "cp + fsync"
_COPIES = "cp + fsync of two copies"
_WHOLE = "unify-db merge, whole"
_EXACT = "unify-db merge, exact proof"
_SCRIPT = "row-by-row script, copying alone"


_EQUAL = (
    "Sources are WAL databases that are in use, and warm in the page cache. Every side ends with an fsync. "
    "Sides take turns; each starts with an empty folder, nothing left to write, and memory that another "
    "file fills. *Exact proof* is backup at one instant, merge, "
    "comparison of every cell, integrity check and fsync; *whole* also decodes every checkpoint and write "
    "through LangGraph and reads the newest state of "
    "every thread through three savers."
)


def _about(machine: dict[str, str]) -> str:
    where = f"{machine['processor']}, {machine['memory']}, {machine['system']}"
    what = f"Python {machine['python']}, SQLite {machine['sqlite']}"
    measured = f"Measured {machine['date']} on {where}, {what}; `make bench-data` measures again."
    return f"{measured} {machine.get('note', '')}".rstrip()


def markdown(result: dict[str, Any]) -> str:
    """Tables of all sides, phases and aims."""
    machine = result["machine"]
    lines = [
        "# What the data path costs",
        "",
        _about(machine),
        "",
        _EQUAL,
        "",
        "![Ratios to cp + fsync](data-path-benchmark.svg)",
    ]
    for name, entry in result["sizes"].items():
        lines += ["", f"## {name} GB", "", *_sides(entry), "", *_phases(entry)]
    return "\n".join([*lines, "", *_aims(result), "", *_limit(result), ""])


def _sides(entry: dict[str, Any]) -> list[str]:
    base = statistics.median(entry["seconds"][_BASE])
    rows = [
        "| side | median | from - to | runs | processors' work | ratio to cp + fsync |",
        "|---|---|---|---|---|---|",
    ]
    for name, taken in entry["seconds"].items():
        middle, work = statistics.median(taken), statistics.median(entry["processor"][name])
        spread = f"{min(taken):.2f} - {max(taken):.2f} s"
        rows.append(
            f"| {name} | {middle:.2f} s | {spread} | {len(taken)} | {work:.2f} s | {middle / base:.2f} |"
        )
    return rows


def _phases(entry: dict[str, Any]) -> list[str]:
    rows = ["| ours, one phase after the other in one process | median |", "|---|---|"]
    for name in entry["phases"][0]["seconds"]:
        middle = statistics.median(p["seconds"][name] for p in entry["phases"])
        rows += [f"| {name} | {middle:.2f} s |"]
    return rows


def _aims(result: dict[str, Any]) -> list[str]:
    rows = ["## Aims", "", "| aim | measured | reached |", "|---|---|---|"]
    sizes = result["sizes"]
    if "1.4" in sizes:
        rows += _aims_of_one_size(sizes["1.4"])
    if "4" in sizes and "memory_mb" in sizes["4"]:
        memory = max(sizes["4"]["memory_mb"])
        rows.append(
            _aim("memory beyond mapped pages at 4 GB, under 150 MB", f"{memory:.0f} MB", memory < 150)
        )
    if {"0.1", "4"} <= set(sizes):
        costs = {n: statistics.median(sizes[n]["seconds"][_WHOLE]) / sizes[n]["bytes"] for n in ("0.1", "4")}
        growth = costs["4"] / costs["0.1"]
        rows.append(_aim("cost per byte, 4 GB to 0.1 GB, at most 1.3", f"{growth:.2f}", growth <= 1.3))
    errors = [p["foretold"] for e in sizes.values() for p in e["phases"]]
    for phase in sorted({n for e in errors for n in e}):
        worst = max(e.get(phase, 0.0) for e in errors)
        text = f"remaining time of {phase}, error in its second half under 10 %"
        rows.append(_aim(text, f"{worst:.0%} at worst", worst < 0.1))
    return rows


def _aims_of_one_size(entry: dict[str, Any]) -> list[str]:
    middle = {name: statistics.median(taken) for name, taken in entry["seconds"].items()}
    exact, whole = middle[_EXACT] / middle[_BASE], middle[_WHOLE] / middle[_BASE]
    rate, of_rows = (
        entry["bytes"] / statistics.median(p["seconds"][name] for p in entry["phases"]) / 1e9
        for name in ("exact comparison alone", "exact comparison alone, every row")
    )
    waits = [w["during_max_ms"] for w in entry["writer"]]
    before = max(w["alone_max_ms"] for w in entry["writer"])
    script = middle[_WHOLE] / middle[_SCRIPT]
    return [
        _aim("backup, merge, exact proof, fsync: at most 3 x cp + fsync", f"{exact:.2f} x", exact <= 3),
        _aim("the same with LangGraph's values read", f"{whole:.2f} x", whole <= 3),
        _aim(
            "whole, proof included, faster than the script's copying alone", f"{script:.2f} of it", script < 1
        ),
        _aim(
            "exact comparison alone, at least 1 GB of source per second",
            f"{rate:.2f} GB/s; {of_rows:.2f} GB/s where no page is the same",
            min(rate, of_rows) >= 1,
        ),
        _aim(
            "longest wait of a live writer, under 50 ms",
            f"{max(waits):.1f} ms at worst of {len(waits)} runs, {statistics.median(waits):.1f} ms in their "
            f"median ({before:.1f} ms without us)",
            max(waits) < 50,
        ),
    ]


def _limit(result: dict[str, Any]) -> list[str]:
    """Where an aim of time is not reached: how much the processors have to do, and what is left to win."""
    entry = result["sizes"].get("1.4")
    if entry is None:
        return []
    base = statistics.median(entry["seconds"][_BASE])
    lines = []
    for name in (_EXACT, _WHOLE):
        middle, work = (statistics.median(entry[key][name]) for key in ("seconds", "processor"))
        if middle > 3 * base:
            both = f"{work / 2:.1f} s or {work / 2 / base:.1f} x"
            lines.append(
                f"- *{name}* takes {work:.1f} s of the processors' time. Were two cores busy from its first "
                f"moment to its last, that were {both}; it takes {middle:.1f} s."
            )
    if not lines:
        return []
    copied = statistics.median(entry["seconds"][_COPIES])
    copies = (
        "- Two copies are made and brought to the disk: the backup, and the unified file. "
        f"`cp` and fsync alone take {copied:.1f} s or {copied / base:.1f} x for these."
    )
    rest = (
        "- The rest is a digest of the backups, `integrity_check` of what came of them, and comparison, of "
        "pages where they are the same and else of rows: what a proof consists of."
    )
    return ["## What stands in the way of 3 x", "", *lines, copies, rest]


def _aim(text: str, measured: str, reached: bool) -> str:
    return f"| {text} | {measured} | {'yes' if reached else '**no**'} |"


def picture(result: dict[str, Any]) -> str:
    """Bars of the medians as ratios to cp + fsync, sizes below each other; SVG that stands alone."""
    left, width, step = 250, 470, 22
    rows: list[str] = []
    y = 34
    highest = max(
        statistics.median(taken) / statistics.median(entry["seconds"][_BASE])
        for entry in result["sizes"].values()
        for taken in entry["seconds"].values()
    )
    for size, entry in result["sizes"].items():
        rows.append(f'<text class="name" x="12" y="{y}">{size} GB</text>')
        y += 8
        base = statistics.median(entry["seconds"][_BASE])
        for name, taken in entry["seconds"].items():
            ratio = statistics.median(taken) / base
            kind = "ours" if name.startswith("unify-db") else "peer"
            length = ratio / highest * width
            rows.append(
                f'<text x="{left - 8}" y="{y + 14}" text-anchor="end">{name}</text>'
                f'<rect class="{kind}" x="{left}" y="{y + 3}" width="{length:.1f}" height="14"/>'
                f'<text x="{left + length + 6:.1f}" y="{y + 14}">{ratio:.1f}</text>'
            )
            y += step
        y += 24
    limit = left + 3 / highest * width
    rows.append(f'<line class="limit" x1="{limit:.1f}" y1="24" x2="{limit:.1f}" y2="{y - 20}"/>')
    style = (
        "text{font:12px system-ui,sans-serif;fill:#1f2933}.name{font-weight:600}"
        ".paper{fill:#fff;stroke:#cbd2d9}"
        ".peer{fill:#cbd2d9}.ours{fill:#1f5fbf}.limit{stroke:#b42318;stroke-dasharray:4 3}"
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 800 {y}" width="800" height="{y}" role="img" '
        f'aria-label="Time of each side as a ratio to cp and fsync of the same files; the dashed line is 3">'
        f'<style>{style}</style><rect class="paper" x=".5" y=".5" width="799" height="{y - 1}" rx="6"/>'
        f"{''.join(rows)}</svg>\n"
    )
