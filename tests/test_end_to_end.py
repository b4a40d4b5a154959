"""The real example, through its own HTTP API: from two files to one, and back, without Prefect."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import httpx
import pytest
import tomlkit

from flows import demo, example, order
from flows.direct import Direct
from tests.migration import asked
from unified_db import sources, sqlite
from unified_db.migration import compare, cutover, phases
from unified_db.migration.config import MigrationConfig, load_config
from unified_db.migration.journal import read_state
from unified_db.migration.records import Approval, CutoverRecord, Verdict
from unified_db.migration.runs import RunFolder

API_KEY = b"SECRET"
# Where a run keeps data on purpose; everything else of it may be shown around.
DATA = {"backup", "originals", "archive", "preimages", "stage"}


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MigrationConfig]:
    """A running, seeded copy of the example that judges functions and not speed."""
    monkeypatch.setattr("unified_db.migration.measuring._PHASE_LIMITS_S", (0.2, 0.3))
    monkeypatch.setattr("unified_db.migration.measuring.CONTROL_BLOCKS", 1)
    config = example.copy_example(tmp_path / "chat")
    document = tomlkit.parse(config.file.read_text())
    document["benchmark"].update({"min_diff_ms": 60_000.0, "budget_s": 300})
    document["cutover"]["soak_s"] = 0.5
    config.file.write_text(tomlkit.dumps(document))
    config = load_config(config.file)
    example.create_tables(config, tmp_path / "demo.log")
    example.start(config, tmp_path / "server.log")
    example.seed(config, tmp_path / "demo.log")
    yield config
    with suppress(Exception):
        example.stop(config, tmp_path / "demo.log")


def tree(config: MigrationConfig) -> dict[str, str]:
    """Digest of every file of the application but databases and what running it leaves."""
    running = {".unify-db", "__pycache__", ".pytest_cache", "data"}
    return {
        str(p.relative_to(config.root)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(config.root.rglob("*"))
        if p.is_file() and not running & set(p.parts) and p.suffix not in {".pid", ".db"}
    }


def content(path: Path) -> list[str]:
    """Schema and every row with its rowid, as text."""
    with sources.reading(path) as conn:
        compare.prepare(conn)
        lines = [repr(r) for r in conn.execute("SELECT type, name, sql FROM sqlite_schema ORDER BY name")]
        names = sqlite.tables(conn)
        if sqlite.has_table(conn, "sqlite_sequence"):
            names.append("sqlite_sequence")
        for name in names:
            quoted = sqlite.quote_name(name)
            lines += [name, *(repr(r) for r in conn.execute(f"SELECT rowid, * FROM {quoted} ORDER BY rowid"))]
        return lines


def client(config: MigrationConfig) -> httpx.Client:
    return httpx.Client(base_url=f"http://127.0.0.1:{config.app.port}", timeout=30, trust_env=False)


class Watched(Direct):
    """The phases, with a look at the application before its switch."""

    def __init__(self, look: Callable[[], object]) -> None:
        self._look = look

    def cutover(self, config: MigrationConfig, run: RunFolder, approval: Approval) -> CutoverRecord:
        self._look()
        return super().cutover(config, run, approval)


def test_the_example_moves_to_one_file_and_back(config: MigrationConfig) -> None:
    before = tree(config)
    old = [config.resolve(s.path) for s in config.source]
    contents = [content(p) for p in old]

    def require_untouched() -> None:
        """After all that a dry run does."""
        assert tree(config) == before
        assert [content(p) for p in old] == contents
        assert not config.target_path.exists()

    assert old[1].with_name(f"{old[1].name}-wal").stat().st_size > 0, "a tail is still in the WAL"
    messages = len(client(config).get("/api/history/seed-0001").json()["messages"])

    run = order.begin(config, dry_run=False)
    outcome = order.migrate(Watched(require_untouched), config, run, dry_run=False)

    assert outcome.cutover is not None
    assert read_state(run).state == "archived"
    checks = demo.check_application(config, messages_before=messages)
    assert [c for c in checks if not c.passed] == []
    verdict = run.load("verdict-benchmark", Verdict)
    assert verdict is not None
    assert {
        f.where: f.measured for f in verdict.findings if f.check == "conversations begun before go on"
    } == {
        "a conversation begun before goes on": "9 answers in 3 conversations alike",
        "an interrupted graph resumes": "2 answers in 1 conversation alike",
    }
    assert tree(config).keys() == before.keys()
    assert {n for n, d in tree(config).items() if d != before[n]} == {
        str(config.label(config.resolve(e.file))) for e in config.edit
    }
    shown = [
        p for p in run.path.rglob("*") if p.is_file() and not DATA & set(p.parts) and p.suffix != ".sqlite"
    ]
    assert len(shown) > 15
    assert [p for p in shown if API_KEY in p.read_bytes()] == []

    unified = _tables(config.target_path)
    order.roll_back(Direct(), config, run)

    assert tree(config) == before
    assert read_state(run).state == "rolled_back"
    back = {name: rows for path in old for name, rows in _tables(path).items()}
    assert back == unified, "what was written since is in the old files"
    journal_modes = []
    for path in old:
        with closing(sqlite3.connect(path)) as conn:
            journal_modes.append(conn.execute("PRAGMA journal_mode").fetchone()[0])
    assert journal_modes == ["delete", "wal"]
    assert len(client(config).get("/api/history/seed-0001").json()["messages"]) == messages + 2


def test_a_dry_run_changes_nothing_and_a_rollback_without_new_rows_restores_every_row(
    config: MigrationConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What they leave alone is looked at above.
    monkeypatch.setattr(phases, "suites", asked.play_suites)
    monkeypatch.setattr(phases, "benchmark", asked.play_benchmark)
    example.stop(config, tmp_path / "demo.log")
    before, old = tree(config), [config.resolve(s.path) for s in config.source]
    bytes_before = [p.read_bytes() for p in old]
    contents = [content(p) for p in old]
    run = order.begin(config, dry_run=True)
    order.migrate(Direct(), config, run, dry_run=True)
    assert tree(config) == before
    assert [p.read_bytes() for p in old] == bytes_before
    assert not config.target_path.exists()
    assert list(config.cwd.rglob("*-wal")) == []

    # The evidence of the dry run is as good for the switch; to rehearse again would show nothing new.
    cutover.perform_cutover(config, run)
    assert config.target_path.exists()
    order.roll_back(Direct(), config, run)
    assert [content(p) for p in old] == contents
    assert tree(config) == before


def _tables(path: Path) -> dict[str, list[str]]:
    with sources.reading(path) as conn:
        names = sqlite.tables(conn)
        return {
            n: [repr(r) for r in conn.execute(f"SELECT rowid, * FROM {sqlite.quote_name(n)} ORDER BY rowid")]
            for n in names
        }
