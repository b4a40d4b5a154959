"""The page about the runtime's speed says what was measured, whether or not an aim was reached."""

from __future__ import annotations

import json
from typing import Any

import pytest

from benchmarks.report import DOCS, Row, ordinary, write_page


def row(aim: dict[str, float], ours: dict[str, Any], stock: dict[str, Any] | None = None) -> Row:
    sides = {"ours": ours} | ({"stock": stock} if stock is not None else {})
    return Row("work", "how", aim, sides)


WRITES = {"median_ms": 1.0, "p99_ms": 2.0, "worst_ms": 99.0, "count": 5}


@pytest.mark.parametrize(
    ("found", "reached"),
    [
        pytest.param(row({"ratio": 2}, {"median_ms": 1.0}, {"median_ms": 2.0}), True, id="just-fast-enough"),
        pytest.param(row({"ratio": 2}, {"median_ms": 1.01}, {"median_ms": 2.0}), False, id="a-little-slow"),
        pytest.param(
            row({"errors": 0, "worst_ms": 100}, {"median_ms": 1.0, "errors": 0, "writes": WRITES}, {}),
            True,
            id="no-error-and-quick",
        ),
        pytest.param(
            row({"errors": 0, "worst_ms": 100}, {"median_ms": 1.0, "errors": 1, "writes": WRITES}, {}),
            False,
            id="one-error",
        ),
        pytest.param(
            row({"errors": 0, "worst_ms": 98}, {"median_ms": 1.0, "errors": 0, "writes": WRITES}, {}),
            False,
            id="one-slow-write",
        ),
        pytest.param(
            row({"of_two_files": 1.25}, {"writes": {**WRITES, "median_ms": 1.3}}, {"writes": WRITES}),
            False,
            id="slower-than-on-two-files",
        ),
    ],
)
def test_an_aim_is_reached_when_all_of_it_is(found: Row, reached: bool) -> None:
    assert found.reached is reached


def test_an_ordinary_run_is_published_not_the_best() -> None:
    def run(ratio: float) -> dict[str, Any]:
        sides = {"ours": {"median_ms": 1.0}, "stock": {"median_ms": ratio}}
        return {"benchmarks": [{"work": "w", "how": "h", "aim": {"ratio": 1}, "sides": sides}]}

    assert ordinary([run(3), run(1), run(2)]) == 2
    assert ordinary([run(3), run(1)]) == 1


def test_the_page_shows_the_kept_figures() -> None:
    kept = json.loads((DOCS / "runtime-benchmark.json").read_text())
    assert (DOCS / "runtime-benchmark.md").read_text() == write_page(kept)
