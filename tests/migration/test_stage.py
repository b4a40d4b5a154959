import os
import socket
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.migration.notes_application import NotesApplication
from unified_db import files
from unified_db.errors import UsageError
from unified_db.migration import stage


@pytest.fixture
def notes(tmp_path):
    return NotesApplication.create(tmp_path)


def stage_notes(notes):
    rehearsal = notes.rehearse()
    return rehearsal[0], stage.stage_trees(*rehearsal)


def journal_mode(database):
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute("PRAGMA journal_mode").fetchone()[0]


def count_notes(database):
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute("SELECT count(*) FROM notes").fetchone()[0]


def test_one_tree_keeps_the_old_file_and_the_other_is_switched(notes):
    _, stages = stage_notes(notes)
    assert "DATABASE=data/notes.db" in (stages.before / ".env").read_text()
    assert "data/unified.db" in (stages.after / ".env").read_text()
    assert count_notes(stages.before / "data/notes.db") == 3
    assert count_notes(stages.after / "data/unified.db") == 3
    assert not (stages.before / "data/unified.db").exists()


def test_the_staged_old_file_is_in_the_journal_mode_of_the_real_one(notes):
    _, stages = stage_notes(notes)
    assert journal_mode(stages.before / "data/notes.db") == "wal"


def test_opening_an_old_place_on_the_switched_side_fails_as_it_would_after_the_switch(notes):
    _, stages = stage_notes(notes)
    with pytest.raises(sqlite3.DatabaseError, match="not a database"):
        count_notes(stages.after / "data/notes.db")


def test_the_real_tree_is_left_as_it_was(notes):
    def look():
        return {
            p.relative_to(notes.root): (p.stat().st_mtime_ns, p.read_bytes())
            for p in notes.root.rglob("*")
            if p.is_file() and ".unify-db" not in p.parts
        }

    before = look()
    stage_notes(notes)
    assert look() == before


def test_what_only_weighs_and_what_is_excluded_is_not_copied(notes):
    notes.settings["staging"] = {"reviewed": True, "exclude": ["*.log", "big/", "docs/private"]}
    skipped = [
        ".git/HEAD",
        "node_modules/a.js",
        "pkg/__pycache__/a.pyc",
        "env/pyvenv.cfg",
        "big/a",
        "docs/private/a",
        "a.log",
        "server.pid",
    ]
    for name in [*skipped, "docs/public/a"]:
        (notes.root / name).parent.mkdir(parents=True, exist_ok=True)
        (notes.root / name).write_text("x")
    _, stages = stage_notes(notes)
    assert (stages.before / "docs/public/a").exists()
    assert not [name for name in skipped if (stages.before / name).exists()]


def test_modes_and_links_are_kept_and_no_link_leads_back_to_the_real_files(notes, tmp_path):
    (notes.root / "run.sh").write_text("#!/bin/sh\n")
    (notes.root / "run.sh").chmod(0o750)
    (tmp_path / "outside").write_text("x")
    links = {
        "data/relative": Path("../run.sh"),
        "absolute": notes.root / "run.sh",
        "to_source": notes.database,
        "way_round": Path("../notes/run.sh"),
        "outside": Path("../outside"),
    }
    for name, aim in links.items():
        (notes.root / name).symlink_to(aim)
    _, stages = stage_notes(notes)
    assert (stages.before / "run.sh").stat().st_mode & 0o7777 == 0o750
    assert (stages.before / "data/relative").readlink() == Path("../run.sh")
    for name in ("data/relative", "absolute", "way_round"):
        assert (stages.before / name).resolve() == (stages.before / "run.sh").resolve()
    assert (stages.before / "to_source").resolve() == (stages.before / "data/notes.db").resolve()
    assert (stages.before / "outside").resolve() == (tmp_path / "outside").resolve()


def test_a_folder_without_write_permission_can_be_staged_twice(notes):
    (notes.root / "fixed").mkdir()
    (notes.root / "fixed/a").write_text("x")
    (notes.root / "fixed").chmod(0o555)
    rehearsal = notes.rehearse()
    stage.stage_trees(*rehearsal)
    assert (stage.stage_trees(*rehearsal).after / "fixed/a").exists()
    (notes.root / "fixed").chmod(0o755)


def test_databases_are_made_fresh_again(notes):
    _, stages = stage_notes(notes)
    database = stages.after / "data/unified.db"
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("DELETE FROM notes")
    stage.reset_databases(stages)
    assert count_notes(database) == 3


def test_without_a_review_nothing_is_staged_and_only_names_of_keys_are_told(notes):
    notes.settings["staging"] = {}
    with pytest.raises(UsageError) as caught:
        stage_notes(notes)
    assert caught.value.exit_code == 2
    assert ".env: SMTP_PASSWORD" in caught.value.hint
    assert "planted-secret" not in caught.value.hint + caught.value.message


def outside_data(notes, tmp_path, *, linked):
    """The notes' database moved out of the tree, to which a link named *linked* leads."""
    volume = tmp_path / "volume"
    (notes.root / "data").rename(volume)
    (volume / "upload.txt").write_text("x")
    if linked == "data":
        (notes.root / "data").symlink_to(volume)
    else:
        (notes.root / "data").mkdir()
        (notes.root / "data/notes.db").symlink_to(volume / "notes.db")
    return volume


@pytest.mark.parametrize("linked", ["data", "data/notes.db"])
def test_a_database_that_a_link_in_the_tree_leads_out_to_is_staged_where_its_name_is(notes, tmp_path, linked):
    volume = outside_data(notes, tmp_path, linked=linked)
    notes.settings["app"] = {"start": "x"}
    config = notes.config()
    stage.require_stageable(config)
    _, run, backups, unified = notes.rehearse()
    item = backups.items[0].model_copy(update={"source": volume / "notes.db"})
    stages = stage.stage_trees(config, run, backups.model_copy(update={"items": (item,)}), unified)
    for path, name in ((stages.before, "data/notes.db"), (stages.after, "data/unified.db")):
        assert not (path / "data").is_symlink()
        assert not (path / name).is_symlink()
        assert count_notes(path / name) == 3
    assert (stages.before / "data/upload.txt").exists() == (linked == "data")
    (stages.before / "data/new").write_text("x")
    assert not (volume / "new").exists()


def test_a_link_that_leads_round_in_a_circle_outside_of_the_tree_ends(notes, tmp_path):
    volume = outside_data(notes, tmp_path, linked="data")
    (volume / "again").symlink_to(volume)
    _, run, backups, unified = notes.rehearse()
    item = backups.items[0].model_copy(update={"source": volume / "notes.db"})
    stages = stage.stage_trees(notes.config(), run, backups.model_copy(update={"items": (item,)}), unified)
    assert not (stages.before / "data/again").is_symlink()


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        pytest.param({"source": [{"path": "../elsewhere.db"}]}, "a source lies outside", id="source"),
        pytest.param({"target": {"path": "../unified.db"}}, "the target lies outside", id="target"),
        pytest.param({"app": {"cwd": ".."}}, "app.cwd lies outside", id="cwd"),
    ],
)
def test_what_lies_outside_of_the_root_is_refused_before_anything_is_done(notes, settings, named):
    notes.settings.update(settings)
    with pytest.raises(UsageError, match=named):
        stage.require_stageable(notes.config())


def test_what_is_no_file_is_not_copied(notes, monkeypatch):
    os.mkfifo(notes.root / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        (notes.root / "s").mkdir()
        monkeypatch.chdir(notes.root / "s")  # the name of a socket may have 108 bytes at most
        listener.bind("socket")
        (notes.root / "null").symlink_to("/dev/null")
        _, stages = stage_notes(notes)
    assert not (stages.before / "pipe").exists()
    assert not (stages.before / "s/socket").exists()
    assert (stages.before / "null").readlink() == Path("/dev/null")


def test_no_staged_write_reaches_the_original_nor_the_other_side(notes):
    (notes.root / "big.bin").write_bytes(b"x" * 3_000_000)
    _, stages = stage_notes(notes)
    with (stages.before / "big.bin").open("r+b") as stream:
        stream.write(b"written in place")
    for path in (notes.root / "big.bin", stages.after / "big.bin"):
        assert path.read_bytes() == b"x" * 3_000_000


def test_what_is_declared_to_be_read_only_is_copied_once_and_never_the_original(notes):
    notes.settings["staging"] = {"reviewed": True, "shared": ["models", ".env"]}
    (notes.root / "models").mkdir()
    (notes.root / "models/a.bin").write_bytes(b"x" * 5000)
    config, stages = stage_notes(notes)
    shared = (stages.before / "models/a.bin", stages.after / "models/a.bin")
    assert shared[0].samefile(shared[1])
    assert not shared[0].samefile(notes.root / "models/a.bin")
    assert set(stage.shared_files(stages)) == {Path("models/a.bin")}, "an edited file is never shared"
    stage.rebuild_before(config, stages)
    assert shared[0].samefile(shared[1])
    assert "DATABASE=data/notes.db" in (stages.before / ".env").read_text()
    assert stage.tree_bytes(config)[1] == 5000


def test_what_is_left_out_by_itself_can_be_asked_for(notes):
    notes.settings["staging"] = {"reviewed": True, "include": [".git"], "exclude": ["secret"]}
    for name in (
        ".git/HEAD",
        ".git/objects/a",
        ".git/secret",
        ".venv/x",
        "conda/conda-meta/history",
        ".cache/a",
    ):
        (notes.root / name).parent.mkdir(parents=True, exist_ok=True)
        (notes.root / name).write_text("x")
    _, stages = stage_notes(notes)
    assert sorted(p.name for p in (stages.before / ".git").rglob("*")) == ["HEAD", "a", "objects"]
    assert not [n for n in (".venv", "conda", ".cache") if (stages.before / n).exists()]


def test_a_file_that_may_not_be_read_is_refused_by_name(notes, monkeypatch):
    def refuse(path, target):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(files, "copy_content", refuse)
    with pytest.raises(UsageError, match="cannot be copied to rehearse on"):
        stage_notes(notes)
