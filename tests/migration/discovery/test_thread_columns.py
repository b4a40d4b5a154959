import pytest

from tests.migration.discovery.trees import CHECKPOINTS, NOTES, plant_databases
from unified_db.migration.discovery.thread_columns import find_thread_columns


def find(root, sql):
    plant_databases(root, {"app.db": sql, "graph.db": CHECKPOINTS})
    return find_thread_columns(root / "app.db", root / "graph.db")


@pytest.mark.parametrize(
    ("sql", "columns"),
    [
        pytest.param(NOTES, ("notes.thread_id",), id="by-name-and-values"),
        pytest.param("CREATE TABLE a (thread_id TEXT)", ("a.thread_id",), id="by-name-where-it-is-empty"),
        pytest.param(
            "CREATE TABLE sessions (id TEXT); INSERT INTO sessions VALUES ('t-1'), ('t-2')",
            ("sessions.id",),
            id="by-values",
        ),
        pytest.param(
            "CREATE TABLE a (thread_id INT); INSERT INTO a VALUES (1), (2)",
            (),
            id="of-the-name-with-other-values",
        ),
        pytest.param(
            "CREATE TABLE users (id TEXT); INSERT INTO users VALUES ('t-1')", (), id="never-of-another-name"
        ),
        pytest.param(
            "CREATE TABLE chats (id TEXT); INSERT INTO chats VALUES ('t-1'), ('x'), ('y')",
            (),
            id="not-where-most-are-no-threads",
        ),
    ],
)
def test_a_column_that_names_threads_is_told_by_name_and_values(tmp_path, sql, columns):
    assert find(tmp_path, sql) == columns


def test_a_file_that_cannot_be_read_names_none(tmp_path):
    (tmp_path / "app.db").write_text("no database")
    plant_databases(tmp_path, {"graph.db": CHECKPOINTS})
    assert find_thread_columns(tmp_path / "app.db", tmp_path / "graph.db") == ()
