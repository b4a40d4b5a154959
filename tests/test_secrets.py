"""Recognisable secrets are planted everywhere, and no output, log or artifact shows one.

What holds data by its nature stays for its owner alone: backups, journal, pre-images, what staged
processes printed, the staged copies and the configuration that a run keeps.
"""

from __future__ import annotations

import re
import sqlite3
from base64 import b64decode
from contextlib import closing
from pathlib import Path

import pytest

from tests.conftest import Done, unify
from tests.prefect_side.tiny_application import TinyApplication
from unified_db.migration import phase_pages, process_table, report, schema_page
from unified_db.migration.records import MigrationPlan
from unified_db.migration.runs import RunFolder

MARK = re.compile(r"PLANT\w*ED", re.IGNORECASE)
HOLD_DATA = {"backup", "preimages", "originals", "archive", "stage", "suites", "benchmark", "unify.toml"} | {
    "journal.jsonl",
    "server.log",
    "unified.sqlite",
    "unified-kept.sqlite",
}
REQUEST = {"name": "counts", "method": "POST", "path": "/"}
PHASES = ("plan", "backup", "merge", "validate", "suites", "benchmark", "approval", "cutover", "archive")

# Prints a row, a key, its settings and the environment, in the ways that failing tests do.
SUITE = """
import os, sqlite3, sys
from pathlib import Path
from server import HERE, database
rows = sqlite3.connect(database("NOTES")).execute("SELECT text FROM notes").fetchall()
print("a row:", rows[0][0], "and all:", rows)
print((HERE / ".env").read_text(), os.environ.get("PAYMENT_TOKEN"))
junit = Path(sys.argv[1])
together = database("NOTES") == database("EVENTS")
broken = together and (HERE / "broken").exists()
detail = f"AssertionError: user {rows[0][0]} of {rows} is missing, {os.environ.get('PAYMENT_TOKEN')}"
failure = f"<failure message={detail!r}>E  assert {rows[0][0]} == 1</failure>" if broken else ""
junit.write_text(f"<testsuite><testcase classname='check' name='rows'>{failure}</testcase></testsuite>")
sys.exit(int(broken))
"""


# Answers a request with a body too, prints at every one, and where `dies` lies beside it does not start.
SERVER = {
    "    def do_GET(self):\n": """
    def do_POST(self):
        print("PLANTED-printed", self.rfile.read(int(self.headers["Content-Length"])), flush=True)
        self.do_GET()

    def do_GET(self):
""",
    "HERE = Path(__file__).parent\n": """
HERE = Path(__file__).parent
if (HERE / "dies").exists():
    raise SystemExit("cannot start for " + (HERE / ".env").read_text() + "PLANTED-other-words")
""",
}


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TinyApplication:
    tiny = TinyApplication.create(tmp_path)
    root = tiny.root
    monkeypatch.setenv("PAYMENT_TOKEN", "PLANTED-environment-value")
    (root / ".env").write_text(
        "NOTES=data/notes.db\nEVENTS=data/events.db\nOWNER=PLANTED owner of it\nSMTP_PASSWORD=PLANTED-smtp\n"
    )
    (root / "settings.toml").write_text('database_url = "postgres://me:PLANTEDtoml@db/x"\nunified = "a"\n')
    (root / "settings.yaml").write_text("broker: amqp://me:PLANTEDyaml@mq/\nunified: a\n")
    (root / "constants.py").write_text('REMOTE = "redis://me:PLANTEDpython@cache/0"\nUNIFIED = "a"\n')
    (root / "check_planted.py").write_text(SUITE)
    with closing(sqlite3.connect(tiny.notes)) as notes, notes:
        notes.execute("CREATE TABLE people (name TEXT PRIMARY KEY, thread_id TEXT) WITHOUT ROWID")
        notes.execute("INSERT INTO people VALUES ('PLANTED-key', 'PLANTED-thread')")
        notes.execute("UPDATE notes SET text = 'PLANTED-cell ' || text")
    server = (root / "server.py").read_text()
    for old, new in SERVER.items():
        assert old in server
        server = server.replace(old, new, 1)
    (root / "server.py").write_text(server)
    configure(tiny)
    return tiny


def configure(tiny: TinyApplication, **sections: object) -> None:
    dotenv = [
        {"file": ".env", "kind": "dotenv", "key": key, "value": "data/unified.db"}
        for key in ("NOTES", "EVENTS")
    ]
    # Beside the planted addresses, so that the diffs of the switch have those in their context.
    others = [
        {"file": "settings.toml", "kind": "toml", "key": "unified", "value": "data/unified.db"},
        {"file": "settings.yaml", "kind": "yaml", "key": "unified", "value": "data/unified.db"},
        {"file": "constants.py", "kind": "python-constant", "name": "UNIFIED", "value": "data/unified.db"},
    ]
    usual: dict[str, object] = {
        "suite": [{"name": "all", "command": "{python} check_planted.py {junit}"}],
        "edit": [*dotenv, *others],
        "benchmark": {
            "budget_s": 20,
            "min_diff_ms": 500,
            "request": [
                {"name": "counts", "method": "POST", "path": "/", "body": {"message": "PLANTED-request-body"}}
            ],
        },
    }
    tiny.configure(**{**usual, **sections})


def pages(run: RunFolder) -> str:
    """All that Prefect's artifacts and the terminal are made of, pictures included."""
    texts = [phase_pages.phase_markdown(p, run) for p in PHASES]
    texts += [report.summary_markdown(run)]
    plan = run.load("plan", MigrationPlan)
    texts += [schema_page.schema_markdown(plan)] if plan else []
    pictures = re.findall(r"data:image/svg\+xml;base64,([A-Za-z0-9+/=]+)", "".join(texts))
    return "\n".join([*texts, *(b64decode(p).decode() for p in pictures)])


def run_of(tiny: TinyApplication) -> RunFolder:
    return RunFolder(sorted((tiny.root / ".unify-db" / "runs").iterdir())[-1])


def require_clean(tiny: TinyApplication, done: Done) -> None:
    run = run_of(tiny)
    shown = {"standard error": done.told, "standard output": str(done.answer), "artifacts": pages(run)}
    for path in sorted(run.path.rglob("*")):
        if path.is_file() and path.relative_to(run.path).parts[0] not in HOLD_DATA:
            shown[path.name] = path.read_text(errors="replace")
    assert "report.html" in shown
    assert "run.log" in shown
    leaks = {
        name: text[max(0, m.start() - 80) : m.end() + 40]
        for name, text in shown.items()
        if (m := MARK.search(text))
    }
    assert not leaks
    assert run.path.stat().st_mode & 0o777 == 0o700


def test_a_closed_run_shows_no_secret(tiny: TinyApplication) -> None:
    (tiny.root / "broken").write_text("")
    done = unify("dry-run", "--no-prefect", "--config", tiny.toml)
    assert done.exit_code == 3
    assert "suites: closed" in str(done.answer)
    require_clean(tiny, done)
    status = unify("status", "--config", tiny.toml)
    require_clean(tiny, status)


def test_a_run_and_its_rollback_show_no_secret(tiny: TinyApplication) -> None:
    try:
        done = unify("run", "--no-prefect", "--config", tiny.toml)
        assert done.exit_code == 0, done.told
        require_clean(tiny, done)
        with closing(sqlite3.connect(tiny.root / "data/unified.db")) as unified, unified:
            unified.execute("INSERT INTO people VALUES ('PLANTED-late-key', 'PLANTED-late-thread')")
        taken_back = unify("rollback", run_of(tiny).name, "--config", tiny.toml)
        assert taken_back.exit_code == 0, taken_back.told
        require_clean(tiny, taken_back)
    finally:
        tiny.stop()


def test_a_staged_server_that_dies_with_its_settings_on_its_lips_shows_no_secret(
    tiny: TinyApplication,
) -> None:
    (tiny.root / "dies").write_text("")
    configure(tiny, suite=[{"name": "all", "command": "{python} -c pass"}])
    done = unify("dry-run", "--no-prefect", "--config", tiny.toml)
    assert done.exit_code != 0
    require_clean(tiny, done)


def test_differences_are_told_without_the_values_that_differ(tmp_path: Path) -> None:
    for name, value in (("a.db", "PLANTED-one"), ("b.db", "PLANTED-two")):
        with closing(sqlite3.connect(tmp_path / name)) as connection, connection:
            table = name[0]
            connection.execute(f"CREATE TABLE {table} (name TEXT PRIMARY KEY, x) WITHOUT ROWID")
            connection.execute(f"INSERT INTO {table} VALUES (?, ?)", (f"{value}-key", value))
    merged = unify("merge", tmp_path / "a.db", tmp_path / "b.db", "--into", tmp_path / "c.db")
    assert merged.exit_code == 0
    with closing(sqlite3.connect(tmp_path / "c.db")) as connection, connection:
        connection.execute("UPDATE a SET x = 'PLANTED-three'")
        connection.execute("DELETE FROM b")
        connection.execute("INSERT INTO b VALUES ('PLANTED-four-key', 1)")
    done = unify("validate", tmp_path / "a.db", tmp_path / "b.db", "--against", tmp_path / "c.db")
    assert done.exit_code == 3
    for text in (str(merged.answer), merged.told, str(done.answer), done.told):
        assert not MARK.search(text), text[max(0, MARK.search(text).start() - 200) :][:400]  # type: ignore[union-attr]


def test_a_command_line_that_names_a_secret_is_shown_without_it() -> None:
    assert not MARK.search(process_table.describe_command(["server", "--token", "PLANTED", "--port", "80"]))
    assert not MARK.search(process_table.describe_command(["server", "--password=PLANTED"]))
    assert not MARK.search(process_table.describe_command(["env", "API_KEY=PLANTED", "server"]))
    assert not MARK.search(process_table.describe_command(["server", "redis://u:PLANTED@h"]))
    harmless = ["python", "server.py", "--port", "80"]
    assert process_table.describe_command(harmless) == " ".join(harmless)
