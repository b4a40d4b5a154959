"""The edits of a switch: planned in memory, shown, made in a tree, written as a patch."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unified_db.errors import EditError, ExitCode
from unified_db.migration import switch
from unified_db.migration.config import EditConfig, MigrationConfig, parse_config
from unified_db.migration.runs import create_run

SECRET = "s3cr3t-Vu7"
OLD_IMPORT = "langgraph.checkpoint.sqlite.aio.AsyncSqliteSaver"

FILES = {
    ".env": f"API_KEY={SECRET}\nDB=sqlite:///a.db\nSMTP_HOST=mail.example.org\nDEBUG=true\n",
    ".env.local": "DB=sqlite:///a.db\n",
    "server.py": """\
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
x = AsyncSqliteSaver
DB = 'a.db'
""",
    "deploy/compose.yaml": f"environment:\n  TOKEN: {SECRET}\n  DB: a.db\n",
    "requirements.txt": "langgraph\n",
    "backup.sh": "cp a.db b.db backup/\n",
}
EDITS: list[dict[str, Any]] = [
    {"file": ".env", "kind": "dotenv", "key": "DB", "value": "sqlite:///one.db"},
    {"file": ".env.local", "kind": "dotenv", "key": "DB", "value": "sqlite:///one.db"},
    {
        "file": "server.py",
        "kind": "python-import",
        "old": OLD_IMPORT,
        "new": "unified_db.UnifiedAsyncSqliteSaver",
    },
    {"file": "server.py", "kind": "python-constant", "name": "DB", "value": "one.db"},
    {"file": "deploy/compose.yaml", "kind": "yaml", "key": "environment.DB", "value": "one.db"},
    {"file": "requirements.txt", "kind": "requirement", "value": "unify-db==1"},
    {"file": "backup.sh", "kind": "text", "old": "a.db b.db", "new": "one.db", "when": "archive"},
]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    tree = tmp_path / "app"
    _write_tree(tree)
    return tree


def _write_tree(tree: Path) -> None:
    for name, text in FILES.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(text)


def _configure(root: Path, edits: list[dict[str, Any]] | None = None) -> MigrationConfig:
    values = {
        "app": {},
        "source": [{"path": "a.db"}, {"path": "data/b.db"}],
        "target": {"path": "one.db"},
        "edit": EDITS if edits is None else edits,
    }
    return parse_config(values, file=root / "unify.toml")


def _read_tree(root: Path) -> dict[str, bytes]:
    files = (p for p in root.rglob("*") if p.is_file() and not {".git", ".unify-db"} & set(p.parts))
    return {str(p.relative_to(root)): p.read_bytes() for p in files}


def test_planning_writes_nothing_and_combines_the_edits_of_a_file(root: Path) -> None:
    before = _read_tree(root)
    planned = {p.name: p for p in switch.plan_edits(_configure(root))}
    assert _read_tree(root) == before
    assert list(planned) == [".env", ".env.local", "server.py", "deploy/compose.yaml", "requirements.txt"]
    server = planned["server.py"]
    assert (server.file, server.before) == (root / "server.py", before["server.py"])
    assert server.after == (
        b"from unified_db import UnifiedAsyncSqliteSaver\nx = UnifiedAsyncSqliteSaver\nDB = 'one.db'\n"
    )
    assert server.kinds == ("python-import", "python-constant")


def test_applying_makes_what_was_planned_and_a_second_time_nothing(root: Path) -> None:
    config = _configure(root)
    planned = switch.plan_edits(config)
    changed = switch.apply_edits(config, config.root, "switch")
    assert changed == tuple(p.file for p in planned)
    assert all(p.file.read_bytes() == p.after for p in planned)
    assert (root / "backup.sh").read_text() == FILES["backup.sh"]
    assert switch.apply_edits(config, config.root, "switch") == ()
    assert not any(p.changes for p in switch.plan_edits(config))


def test_the_archive_s_edits_come_in_their_own_phase(root: Path) -> None:
    assert switch.apply_edits(_configure(root), root, "archive") == (root / "backup.sh",)
    assert (root / "backup.sh").read_text() == "cp one.db backup/\n"


def test_one_edit_that_does_not_apply_leaves_every_file_alone(root: Path) -> None:
    bad = {"file": "server.py", "kind": "python-constant", "name": "NOPE", "value": "x"}
    before = _read_tree(root)
    with pytest.raises(EditError, match=r"server\.py") as caught:
        switch.apply_edits(_configure(root, [*EDITS, bad]), root, "switch")
    assert caught.value.exit_code == ExitCode.USAGE
    assert _read_tree(root) == before


def test_a_missing_file_is_named(root: Path) -> None:
    with pytest.raises(EditError, match=r"gone\.py"):
        switch.plan_edits(_configure(root, [{"file": "gone.py", "kind": "text", "old": "a", "new": "b"}]))


@pytest.mark.parametrize("name", ["../outside.txt", "/etc/hostname"])
def test_a_file_outside_the_tree_is_refused(root: Path, name: str) -> None:
    with pytest.raises(EditError, match="leads out"):
        switch.plan_edits(_configure(root, [{"file": name, "kind": "text", "old": "a", "new": "b"}]))


def test_a_copy_never_writes_through_a_link_to_the_original(root: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    _write_tree(copy)
    (copy / ".env").unlink()
    (copy / ".env").symlink_to(root / ".env")
    switch.apply_edits(_configure(root), copy, "switch")
    assert (root / ".env").read_text() == FILES[".env"]
    assert "sqlite:///one.db" in (copy / ".env").read_text()
    assert not (copy / ".env").is_symlink()


def test_a_linked_folder_in_a_copy_is_refused(root: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    _write_tree(copy)
    (copy / "deploy/compose.yaml").unlink()
    (copy / "deploy").rmdir()
    (copy / "deploy").symlink_to(root / "deploy")
    with pytest.raises(EditError, match="leads out"):
        switch.apply_edits(_configure(root), copy, "switch")


def test_the_real_application_s_links_stay_links(root: Path, tmp_path: Path) -> None:
    real = tmp_path / "shared.env"
    (root / ".env").rename(real)
    (root / ".env").symlink_to(real)
    switch.apply_edits(_configure(root), root, "switch")
    assert (root / ".env").is_symlink()
    assert "sqlite:///one.db" in real.read_text()


def test_byte_order_mark_mode_and_odd_bytes_stay(root: Path) -> None:
    (root / ".env").write_bytes(b"\xef\xbb\xbfDB=a\r\n# \xff\r\n")
    (root / ".env").chmod(0o600)
    switch.apply_edits(_configure(root), root, "switch")
    assert (root / ".env").read_bytes() == b"\xef\xbb\xbfDB=sqlite:///one.db\r\n# \xff\r\n"
    assert (root / ".env").stat().st_mode & 0o777 == 0o600


def test_python_in_its_own_encoding_stays_in_it() -> None:
    edit = EditConfig(file=Path("a.py"), kind="python-constant", name="DB", value="é.db")
    content = "# -*- coding: latin-1 -*-\nNAME = 'ü'\nDB = 'x'\n".encode("latin-1")
    assert switch.edit_text(edit, content, file=edit.file) == content.replace(b"'x'", b"'\xe9.db'")


@pytest.mark.parametrize("content", [b"D\0B\0=\0", b"\xff\xfeD\0B\0"], ids=["binary", "utf-16"])
def test_what_is_no_text_is_refused(content: bytes) -> None:
    edit = EditConfig(file=Path(".env"), kind="dotenv", key="DB", value="x")
    with pytest.raises(EditError, match="NUL byte"):
        switch.edit_text(edit, content, file=edit.file)


@given(content=st.binary(max_size=40), value=st.sampled_from(["a", "a b", "é"]))
def test_any_bytes_are_edited_losslessly_or_refused(content: bytes, value: str) -> None:
    edit = EditConfig(file=Path("notes.txt"), kind="text", old="<old>", new=value)
    try:
        after = switch.edit_text(edit, content + b"<old>", file=edit.file)
    except EditError:
        assert b"\0" in content
    else:
        assert after == content + value.encode()


def test_previews_show_both_phases_without_secrets(root: Path) -> None:
    previews = switch.preview_edits(_configure(root))
    assert [p.when for p in previews] == ["switch"] * 5 + ["archive"]
    assert SECRET not in "".join(p.model_dump_json() for p in previews)
    server = next(p for p in previews if p.file.name == "server.py")
    assert server.kind == "python-import, python-constant"
    assert "+DB = 'one.db'" in server.diff
    assert "sets DB to one.db" in server.summary
    assert [p.when for p in switch.preview_edits(_configure(root), "archive")] == ["archive"]


def test_an_archive_edit_is_previewed_on_top_of_the_switch(root: Path) -> None:
    later = {
        "file": "server.py",
        "kind": "text",
        "old": "DB = 'one.db'",
        "new": "DB = 'uno.db'",
        "when": "archive",
    }
    preview = switch.preview_edits(_configure(root, [*EDITS, later]), "archive")[-1]
    assert "-DB = 'one.db'\n+DB = 'uno.db'" in preview.diff


def test_a_preview_says_where_nothing_is_left_to_do(root: Path) -> None:
    config = _configure(root)
    switch.apply_edits(config, root, "switch")
    preview = switch.preview_edits(config, "switch")[0]
    assert (preview.diff, preview.summary) == ("", "already so: sets DB to sqlite:///one.db")


def test_credentials_and_addresses_are_listed_by_name(root: Path) -> None:
    (root / ".env.example").write_text("API_KEY=fill in\n")
    (root / "node_modules").mkdir()
    (root / "node_modules/.env").write_text("TOKEN=x\n")
    keys = switch.credential_keys(_configure(root))
    of_files = tuple(key for key in keys if not key.startswith("environment: "))
    assert of_files == (".env: API_KEY", ".env: SMTP_HOST", "deploy/compose.yaml: environment.TOKEN")


def test_mentions_of_old_files_are_found_by_line(root: Path) -> None:
    (root / "notes.md").write_text("\nsee data/b.db\nmy-a.db a.db.bak a.dbx\na.db-wal.\n")
    (root / "big.txt").write_text("a.db\n" + "x" * 1_000_001)
    (root / "blob.bin").write_bytes(b"a.db\n\0")
    (root / "a.db").write_text("this is no database: a.db is gone\n")
    (root / "venv").mkdir()
    (root / "venv/pyvenv.cfg").write_text("a.db\n")
    found = switch.find_mentions(_configure(root), ["a.db", "data/b.db"])
    assert found == (
        ".env:2",
        ".env.local:1",
        "backup.sh:1",
        "deploy/compose.yaml:3",
        "notes.md:2",
        "notes.md:4",
        "server.py:3",
    )


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout


def test_the_patch_gives_the_same_tree_as_the_edits(root: Path, tmp_path: Path) -> None:
    """In a repository whose root lies above the application's, with one dotenv file tracked."""
    top = root.parent
    _git(top, "init", "-q")
    (top / ".gitignore").write_text("/app/.env\n.unify-db/\n")
    (root / "my notes.md").write_text("a.db")
    _git(top, "add", ".")
    _git(top, "commit", "-qm", "before")
    (root / "new.cfg").write_text("[x]\nDB = a.db")
    more = [
        {"file": "my notes.md", "kind": "text", "old": "a.db", "new": "one.db"},
        {"file": "new.cfg", "kind": "ini", "key": "x.DB", "value": "one.db"},
    ]
    config = _configure(root, [*EDITS, *more])
    patch = switch.write_patch(config, create_run(config.state_folder))

    text = patch.read_text()
    assert SECRET not in text
    assert "# Left out: app/.env, a dotenv file that git does not track." in text
    assert "--unidiff-zero" in text
    copy = tmp_path / "copy"
    _git(top, "worktree", "add", "-q", str(copy))
    (copy / "app/new.cfg").write_text("[x]\nDB = a.db")
    (copy / "app/.env").write_text(FILES[".env"])
    _git(copy, "apply", "--check", "--unidiff-zero", str(patch))
    _git(copy, "apply", "--unidiff-zero", str(patch))
    switch.apply_edits(config, root, "switch")
    expected = _read_tree(root)
    expected[".env"] = FILES[".env"].encode()
    assert _read_tree(copy / "app") == expected


def test_without_secrets_near_the_patch_applies_as_it_is(root: Path) -> None:
    _git(root, "init", "-q")
    config = _configure(root, [e for e in EDITS if e["file"] in {"server.py", "requirements.txt"}])
    patch = switch.write_patch(config, create_run(config.state_folder))
    assert "unidiff-zero" not in patch.read_text()
    _git(root, "apply", "--check", str(patch))


def test_without_git_the_patch_is_relative_to_the_application(root: Path) -> None:
    config = _configure(root)
    text = switch.write_patch(config, create_run(config.state_folder)).read_text()
    assert "--- a/server.py\n+++ b/server.py\n" in text
    assert "DB=sqlite" not in text


def test_a_file_whose_changed_lines_hold_a_secret_is_left_out(root: Path) -> None:
    (root / "db.ini").write_text(f"[db]\nurl = postgresql://u:{SECRET}@h/x\n")
    config = _configure(
        root, [{"file": "db.ini", "kind": "ini", "key": "db.url", "value": "sqlite:///one.db"}]
    )
    text = switch.write_patch(config, create_run(config.state_folder)).read_text()
    assert SECRET not in text
    assert "# Left out: db.ini, its changed lines hold a secret" in text


class _Installed:
    """A distribution that pip took from an index, from a wheel, or from a repository with a token."""

    version = "0.1.0"

    def __init__(self, origin: str | None) -> None:
        self._origin = origin

    def read_text(self, _: str) -> str | None:
        return self._origin


@pytest.mark.parametrize(
    ("origin", "named"),
    [
        pytest.param(None, "PATH-OR-URL-OF-ITS-WHEEL", id="from-an-index"),
        pytest.param('{"url": "file:///w/u.whl"}', "unify-db @ file:///w/u.whl", id="from-a-wheel"),
    ],
)
def test_the_install_hint_names_where_it_came_from_and_never_the_bare_name(
    monkeypatch: pytest.MonkeyPatch, origin: str | None, named: str
) -> None:
    monkeypatch.setattr("importlib.metadata.distribution", lambda _: _Installed(origin))
    assert switch.install_requirement() == named


def test_the_install_hint_shows_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    origin = '{"url": "https://me:PLANTED@git.example/u"}'
    monkeypatch.setattr("importlib.metadata.distribution", lambda _: _Installed(origin))
    assert "PLANTED" not in switch.install_requirement()


# ---- what edits leave unused, and what the last commit still says -----------------------------------


def test_an_edit_takes_away_what_it_leaves_unused_and_says_so(root: Path) -> None:
    (root / "settings.py").write_text(
        "from pathlib import Path\nBASE = Path('.')\nNAME = 'a'\nDB = BASE / NAME / 'a.db'\n"
    )
    (root / "worker.py").write_text("from settings import NAME\n")
    edit = {"file": "settings.py", "kind": "text", "old": "BASE / NAME / 'a.db'", "new": "'one.db'"}
    config = _configure(root, [edit])
    preview = switch.preview_edits(config)[0]
    assert preview.summary.endswith("; removes what that leaves unused: BASE, Path")
    switch.apply_edits(config, root)
    assert (root / "settings.py").read_text() == "NAME = 'a'\nDB = 'one.db'\n"
    assert not any(p.changes for p in switch.plan_edits(config))


def test_the_last_commit_is_asked_which_tracked_files_still_have_the_old_text(root: Path) -> None:
    top = root.parent
    _git(top, "init", "-q")
    (top / ".gitignore").write_text("/app/.env.local\n")
    _git(top, "add", ".")
    config = _configure(root)
    assert switch.find_uncommitted(config) == (), "nothing is committed yet"
    _git(top, "commit", "-qm", "before")
    switch.apply_edits(config, root)
    tracked = ("app/.env", "app/deploy/compose.yaml", "app/requirements.txt", "app/server.py")
    assert switch.find_uncommitted(config) == tracked
    (root / "server.py").write_text((root / "server.py").read_text() + "# and more\n")
    _git(top, "commit", "-qm", "half of it", "--", "app/server.py", "app/.env")
    assert switch.find_uncommitted(config) == ("app/deploy/compose.yaml", "app/requirements.txt")
    assert switch.find_uncommitted(config, archived=True) == (
        "app/backup.sh",
        "app/deploy/compose.yaml",
        "app/requirements.txt",
    )
    _git(top, "commit", "-qam", "the rest")
    assert switch.find_uncommitted(config) == ()


def test_a_file_that_has_become_another_one_is_committed_as_it_is_in_use(root: Path) -> None:
    _git(root, "init", "-q")
    _git(root, "add", ".")
    _git(root, "commit", "-qm", "before")
    config = _configure(root)
    (root / "server.py").write_text("print('written anew')\n")
    assert "server.py" in switch.find_uncommitted(config)
    _git(root, "commit", "-qam", "written anew")
    assert "server.py" not in switch.find_uncommitted(config)


def test_without_a_repository_or_without_git_nothing_is_uncommitted(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = _configure(root)
    assert switch.find_uncommitted(config) == ()
    _git(root, "init", "-q")
    _git(root, "add", ".")
    _git(root, "commit", "-qm", "before")
    assert switch.find_uncommitted(config) != ()
    monkeypatch.setenv("PATH", "")
    assert switch.find_uncommitted(config) == ()
