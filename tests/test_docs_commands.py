"""Somebody types what the documents show: every command of README.md and docs/ runs, or is excused by name.

One prepared application for all of them. `docs/runtime.md` has a test of its own,
`tests/runtime/test_guide.py`.
"""

from __future__ import annotations

import contextlib
import json
import re
import shlex
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from sqlite3 import connect
from typing import Any

import pytest

from flows import cli, reference
from tests.migration.test_approval import Asking
from tests.prefect_side.tiny_application import TinyApplication
from tests.test_docs import load

ROOT = Path(__file__).parent.parent
PAGES = [p for p in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))) if p.name != "runtime.md"]
WHEEL = "tests/test_launcher.py builds the wheel and uses it"
# Why a command is not typed here, and which test does what it does.
EXCUSED = {
    "git clone URL-OF-THIS-REPOSITORY unify-db && cd unify-db": "the URL is the reader's",
    "make demo": "minutes; tests/test_end_to_end.py moves the example as it does",
    "pip install --no-cache-dir 'unify-db[flow] @ file:///path/to/this/repository'": WHEEL,
    "pip install --no-cache-dir 'unify-db @ file:///path/to/this/repository'": WHEEL,
    "make serve": "tests/prefect_side/test_deployments.py serves all deployments",
    "source .venv/bin/activate": "a shell's own; the tests run in that environment",
    "export PREFECT_API_URL=http://127.0.0.1:4200/api": "a shell's own",
    "prefect deployment run unify-db/dry-run --watch": "tests/prefect_side/test_deployments.py",
    "prefect deployment run unify-db/unify-db -p config=/path/to/unify.toml --watch": "the same",
    "prefect deployment run unify-db-fleet/unify-db-fleet -p configs='/srv/*/unify.toml'": "the same",
    "prefect deployment run unify-db-fleet/unify-db-fleet -p configs=/srv/fleet.txt -p dry_run=false": (
        "tests/migration/test_fleet.py reads such lists"
    ),
}


def commands_of(page: Path) -> list[str]:
    """The lines of the page's bash blocks, without comments."""
    blocks = re.findall(r"^```bash\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    lines = [re.sub(r"(?:^|\s)#\s.*", "", line).strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line]


SHOWN = {command for page in PAGES for command in commands_of(page)}


class Reader:
    """Types commands as they stand in the documents, in one folder.

    Attributes:
        typed: What was typed so far.
    """

    def __init__(self, folder: Path, output: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.typed: set[str] = set()
        self._output = output

    def type(self, command: str, *, exit_code: int = 0, **stands_for: object) -> dict[str, Any]:
        """Run *command* with its words in capitals filled in; its JSON answer."""
        assert command in SHOWN, f"no document shows it: {command}"
        self.typed.add(command)
        program, verb, *words = shlex.split(command)
        assert program == "unify-db"
        words = [str(stands_for.get(w, w)) for w in words]
        # Through Prefect the same takes longer, and other tests do it.
        words += ["--no-prefect"] if verb in {"run", "dry-run"} else []
        self._output.readouterr()
        with contextlib.chdir(self.folder):
            # In this process, since a new one takes a second to begin; tests/test_cli.py starts them.
            ended = cli._run_app([verb, "--json", *words])
        printed, told = self._output.readouterr()
        assert ended == exit_code, f"{command}: {told}\n{printed}"
        answer: dict[str, Any] = json.loads(printed)
        return answer


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[TinyApplication]:
    application = TinyApplication.create(tmp_path)
    yield application
    application.stop()


def test_every_command_of_the_documents_does_what_it_is_shown_for(
    tiny: TinyApplication, capfd: pytest.CaptureFixture[str]
) -> None:
    reader = Reader(tiny.root, capfd)
    look_at_a_new_application(reader, tiny.root.parent / "chat")
    look_and_rehearse(reader)
    decide_against(reader, tiny)
    move_and_take_back(reader, tiny)
    merge_files(reader, tiny)
    assert SHOWN - reader.typed - EXCUSED.keys() == set(), "shown, neither typed nor excused"


def look_at_a_new_application(reader: Reader, root: Path) -> None:
    """The application of the README's pictures."""
    root.mkdir()
    load("pictures").build_tree(root)
    usual, reader.folder = reader.folder, root
    assert len(reader.type("unify-db init")["sources"]) == 2
    plan = reader.type("unify-db plan")["plan"]
    assert [s["label"] for s in plan["sources"]] == ["data/app.db", "data/checkpoints.sqlite"]
    edited = {str(Path(e["file"]).relative_to(root)) for e in plan["edits"]}
    assert edited == {".env", "chat/server.py", "requirements.txt"}
    assert {r["name"] for r in plan["risks"]} >= {"sync-beside-async", "copied-as-a-file"}
    reader.folder = usual


def look_and_rehearse(reader: Reader) -> None:
    assert reader.type("unify-db plan")["plan"]["sources"]
    assert reader.type("unify-db dry-run")["state"] == "closed"


def decide_against(reader: Reader, tiny: TinyApplication) -> None:
    asking = Asking(tiny)
    for command in ("unify-db reject RUN", 'unify-db reject RUN --reason "..."'):
        going = asking.ask()
        reader.type(command, RUN=asking.run.name)
        assert asking.end(going)["state"] == "closed"


def move_and_take_back(reader: Reader, tiny: TinyApplication) -> None:
    asking = Asking(tiny)
    for command in ("unify-db approve RUN --evidence DIGEST", "unify-db approve RUN"):
        # `unify-db run` with its rehearsal played, which the dry run did in earnest.
        going = asking.ask()
        reader.typed.add("unify-db run")
        run = asking.run.name
        assert reader.type("unify-db status")["state"] == "waiting"
        reader.type(command, RUN=run, DIGEST=asking.digest())
        assert asking.end(going)["state"] == "archived"
        if "DIGEST" in command:
            take_back(reader, tiny, run)


def take_back(reader: Reader, tiny: TinyApplication, run: str) -> None:
    assert reader.type("unify-db resume RUN", RUN=run)["state"] == "archived"
    copy = reader.type("unify-db backup data/unified.db --into backups")["backup"]
    with closing(connect(tiny.unified)) as conn, conn:
        conn.execute("INSERT INTO notes (text) VALUES ('later')")
    assert reader.type("unify-db rollback RUN", RUN=run)["state"] == "rolled_back"
    assert rows(tiny.notes, "notes") == 4
    reader.type("unify-db restore BACKUP --to FILE", BACKUP=copy, FILE="again.db")
    assert rows(tiny.root / "again.db", "notes") == 3


def merge_files(reader: Reader, tiny: TinyApplication) -> None:
    for name, table in (("app.db", "a"), ("checkpoints.sqlite", "b")):
        with closing(connect(tiny.root / name)) as conn:
            conn.execute(f"CREATE TABLE {table} (x)")
    assert reader.type("unify-db merge app.db checkpoints.sqlite --into unified.sqlite")["tables"]
    assert reader.type("unify-db validate app.db checkpoints.sqlite --against unified.sqlite")["ok"]


def rows(path: Path, table: str) -> int:
    with closing(connect(path)) as conn:
        return int(conn.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


def test_every_excuse_is_for_a_command_that_is_shown_and_names_a_test_that_is_there() -> None:
    assert EXCUSED.keys() - SHOWN == set()
    named = re.findall(r"tests/[\w/]+\.py", " ".join(EXCUSED.values()))
    assert [n for n in named if not (ROOT / n).exists()] == []


# ---- what is named in a line of text -------------------------------------------------------------

VERBS = reference.commands()
INLINE = sorted(
    {
        (str(page.relative_to(ROOT)), found)
        for page in (*PAGES, ROOT / "docs" / "runtime.md", ROOT / "CHANGELOG.md")
        for found in re.findall(r"`(unify-db [^`\n]+|make [^`\n]+)`", page.read_text())
    }
)


@pytest.mark.parametrize(("page", "command"), INLINE, ids=str)
def test_a_command_that_is_named_exists_with_its_options(page: str, command: str) -> None:
    program, name, *words = command.split()
    if program == "make":
        assert re.search(rf"^{re.escape(name)}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
        return
    if name in {"VERB", "--help", "--version"}:
        return
    assert name in VERBS
    options = {o for p in VERBS[name].params for o in p.opts} | {"--help"}
    assert {w for w in words if w.startswith("--")} <= options
