import pytest

from unified_db.migration.redaction import Redaction, redaction_of

REDACTION = Redaction(frozenset({"load_user", "balance", "PAGE", "hunter2"}), secrets=("hunter2",))


@pytest.mark.parametrize(
    "text",
    [
        "sqlite3.OperationalError: database is locked",
        "sqlalchemy.exc.IntegrityError: UNIQUE constraint failed",
        "tests/api/test_chat.py:41: AssertionError",
        "TypeError: load_user() got an unexpected keyword argument",
        "assert 3 == 5",
        "AttributeError: NoneType object has no attribute balance",
        "BalanceTooLowError: balance",
        "HTTP status 500",
    ],
)
def test_what_went_wrong_stays_readable(text):
    assert REDACTION.clean(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "AssertionError: user PLANTED-4711 is missing",
        "KeyError: thread_PLANTED",
        "loading PLANTED@example.org from the table",
        "assert PLANTED == 1",
        "card 4111111111111111 was denied",
        "password hunter2",
        "assert {'name': 'Jane PLANTED'} == None",
        "balance_PLANTED",
        "PLANTEDError_of_data",
    ],
)
def test_what_may_be_data_is_hidden(text):
    shown = REDACTION.clean(text)
    assert not [w for w in ("PLANTED", "4111", "hunter2", "Jane", "example") if w in shown]
    assert "•••" in shown


def test_the_words_are_those_of_source_code_not_of_settings_and_data(tmp_path):
    (tmp_path / "app.py").write_text("def load_user(): pass\n")
    (tmp_path / ".env").write_text("NAME=PLANTED\n")
    (tmp_path / "rows.json").write_text('{"name": "Miller"}')
    shown = redaction_of(tmp_path).clean("load_user failed for Miller PLANTED")
    assert shown == "load_user failed for •••"
