"""Applications that set their paths in all usual styles: each from two files to one, and back."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.migration.filler import Filler
from tests.migration.styles import Application, Move, Style, rows, steps
from unified_db.errors import ConfigError

RENAMED = ("rename checkpoints", "app.stop", "benchmark.request")
STYLES = [
    Style("settings_class", "loans", "/loans/since?book=Emma", "/loans"),
    Style("environment_variable", "tickets", "/tickets/since?subject=since", "/tickets"),
    Style("literal", "recipes", "/order/since?dish=since", "/"),
    Style("derived_path", "readings", "/api/plants/since?degrees=20", "/api/plants"),
    Style(
        "yaml_configuration",
        "sightings",
        "/visits/since?body=since&magnitude=1",
        "/sightings",
        ("benchmark.request",),
    ),
    Style("default_argument", "tools", "/jobs/since?tool=since", "/tools"),
    Style("flask_sync", "entries", "/guests/since?text=since", "/"),
    Style("script", "days", "diary.py write since since", "diary.py read", ("app.start",)),
    Style("alembic_revisions", "parcels", "/rounds/since?address=since&grams=1", "/parcels"),
    Style("business_checkpoints", "passages", "/hikers/since?place=since", "/places", RENAMED),
    Style("own_tasks_package", "tasks", "/hands/since?title=since", "/tasks"),
]
BY_NAME = {style.name: style for style in STYLES}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the applications inherit, as from a shell in their folder."""
    repository = str(Path(__file__).parents[2])
    # The application's folder comes first: its own `tasks` and `flows` are meant there.
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([".", repository]))
    # Loading every plugin that is installed takes longer than the tests.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")


@pytest.fixture(scope="module")
def filler() -> Iterator[Filler]:
    with Filler() as made:
        yield made


@pytest.fixture
def ended() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.mark.parametrize("style", STYLES, ids=lambda style: style.name)
def test_an_application_moves_to_one_file_and_back(
    style: Style, tmp_path: Path, filler: Filler, ended: ExitStack
) -> None:
    app = Application(style, tmp_path, filler)
    tree, databases = app.tree(), app.databases()
    assert app.initiate() == [*style.asks, "staging.reviewed"]
    move = Move.begin(app, app.answer())
    ended.callback(move.end)
    old = [move.config.resolve(source.path) for source in move.config.source]

    suites = move.rehearse()

    assert {test.after for test in suites.tests} == {"passed"}
    assert app.tree() == tree
    assert app.databases() == databases
    if move.config.app.stop:
        move.start()

    move.switch()

    assert "since" in move.write()
    assert app.tree().keys() == tree.keys()
    assert {n for n, content in app.tree().items() if content != tree[n]} == {
        str(edit.file) for edit in move.config.edit
    }
    move.stop()
    unified = rows(move.config.target_path)

    move.back()

    assert app.tree() == tree
    assert not move.config.target_path.exists()
    assert _in_unified_names(move, old) == unified
    assert steps(old[1]) > 0
    if move.config.app.stop:
        assert "since" in move.read()


def _in_unified_names(move: Move, old: list[Path]) -> dict[str, list[tuple[Any, ...]]]:
    """The tables of the *old* files with their rows, called as they are in the unified file."""
    now = {(move.config.resolve(r.source), r.object): r.to for r in move.config.rename}
    return {now.get((path, name), name): found for path in old for name, found in rows(path).items()}


def test_a_split_brain_is_explained_and_refused(tmp_path: Path, filler: Filler) -> None:
    app = Application(Style("split_brain", "scores", "/answers/since?points=1", "/scores"), tmp_path, filler)
    assert "split brain" in app.initiate()
    with pytest.raises(ConfigError, match=r"does not agree with itself.*quiz\.db.*data/quiz\.db"):
        Move.begin(app, app.answer()).rehearse()
