"""What `data_path.py` runs in processes of its own: the plan's script, a live writer, our phases."""

from __future__ import annotations

import json
import shutil
import sqlite3
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from benchmarks.data_path_sources import Sources

_BATCH = 1000


def copy_row_by_row(target: Path, sources: list[Path]) -> None:
    """What the plan's script does: SQLAlchemy reads every row, and inserts them in batches."""
    from sqlalchemy import MetaData, create_engine, insert, select

    into = create_engine(f"sqlite:///{target}")
    for path in sources:
        engine, tables = create_engine(f"sqlite:///{path}"), MetaData()
        tables.reflect(engine)
        tables.create_all(into)
        with engine.connect() as reading, into.begin() as writing:
            for table in tables.sorted_tables:
                rows = reading.execution_options(yield_per=_BATCH).execute(select(table))
                for batch in rows.mappings().partitions(_BATCH):
                    writing.execute(insert(table), [dict(row) for row in batch])


def write_all_the_time(path: Path, report: Path, stop: Path) -> None:
    """Commit a checkpoint of 20 KB again and again; the milliseconds that each commit took."""
    taken: list[tuple[float, float]] = []
    with closing(sqlite3.connect(path, timeout=60, isolation_level=None)) as conn:
        row = conn.execute("SELECT * FROM checkpoints LIMIT 1").fetchone()
        marks = ", ".join("?" * len(row))
        sql = f"INSERT INTO checkpoints VALUES ({marks})"
        while not stop.exists():
            started = time.perf_counter()
            conn.execute(sql, ("writer", "", f"{time.time_ns()}", *row[3:]))
            taken.append((time.time(), (time.perf_counter() - started) * 1000))
            time.sleep(0.001)
    report.write_text(json.dumps(taken))


def merge_without_meaning(arguments: list[str]) -> int:
    """The command `unify-db merge` with all of its proof but the reading of LangGraph's values."""
    from unified_db import _launcher
    from unified_db.migration import meaning

    meaning.has_checkpoints = lambda backup: False  # noqa: ARG005 - for this process alone
    sys.argv = ["unify-db", "merge", *arguments]
    return int(_launcher.main() or 0)


def compare_alone(folder: Path, sources: Sources) -> dict[str, Any]:
    """Seconds of each phase alone, of the comparison alone, and how well time is foretold."""
    from unified_db import files, pieces
    from unified_db.migration import backup, merge, same_pages, validate
    from unified_db.migration.backup import PlainSource

    seen: list[tuple[str, float, float]] = []

    def note(progress: pieces.Progress) -> None:
        seen.append((progress.phase, time.perf_counter(), progress.done_bytes / progress.total_bytes))

    (folder / "backups").mkdir()
    plain = [PlainSource(p, p.name) for p in sources.paths]
    seconds: dict[str, float] = {}
    with pieces.observed(note):
        started = {"backup": time.perf_counter()}
        backups = backup.take_backups(plain, folder / "backups")
        started["merge"] = time.perf_counter()
        seconds["backup, checks, digest, fsync"] = started["merge"] - started["backup"]
        built = merge.merge_backups(backups, folder / "unified.sqlite")
        started["validate"] = time.perf_counter()
        seconds["merge, digest, fsync"] = started["validate"] - started["merge"]
        validate.validate(backups, built)
        seconds["proof with meaning"] = time.perf_counter() - started["validate"]

    def compare() -> float:
        begun = time.perf_counter()
        found = pieces.do_together(
            validate.plan_comparison(backups, built, validate.look_for_same_pages(backups, built))
        )
        assert all(f.passed for part in found for f in part)
        return time.perf_counter() - begun

    seconds["exact comparison alone"] = compare()
    same_pages.find_same = lambda *_, **__: same_pages.Same()  # for this process alone
    seconds["exact comparison alone, every row"] = compare()
    begun = time.perf_counter()
    files.digest_file(built.path)
    seconds["digest of the unified file"] = time.perf_counter() - begun
    ended = {"backup": started["merge"], "merge": started["validate"]}
    return {"seconds": seconds, "foretold": _errors(seen, started, ended)}


def _errors(
    seen: list[tuple[str, float, float]], started: dict[str, float], ended: dict[str, float]
) -> dict[str, float]:
    """For each phase over two seconds the worst error of its estimated end, in its second half."""
    errors: dict[str, float] = {}
    for phase, moment, share in seen:
        end = ended.get(phase, max(t for p, t, _ in seen if p == phase))
        total, passed = end - started[phase], moment - started[phase]
        if total > 2 and passed > total / 2 and share:
            errors[phase] = max(errors.get(phase, 0.0), abs(passed / share - total) / total)
    return errors


def main(role: str, *arguments: str) -> int:
    """Play *role*; the exit code."""
    if role == "script":
        copy_row_by_row(Path(arguments[0]), [Path(a) for a in arguments[1:]])
    elif role == "writer":
        write_all_the_time(Path(arguments[0]), Path(arguments[1]), Path(arguments[2]))
    elif role == "merge":
        return merge_without_meaning(list(arguments))
    elif role == "phases":
        folder = Path(arguments[0])
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        print(json.dumps(compare_alone(folder, Sources("", Path(arguments[1]), Path(arguments[2])))))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
