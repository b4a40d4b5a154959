import os

from core import env_loader


def test_the_process_environment_names_the_database(monkeypatch):
    monkeypatch.setenv("DATABASE_URL", "sqlite:////srv/chat/other.db")
    assert env_loader.get_database_url() == "sqlite:////srv/chat/other.db"


def test_without_a_setting_the_default_database_is_used(monkeypatch):
    monkeypatch.delenv("DATABASE_URL", raising=False)
    expected = env_loader.resolve_sqlite_url(env_loader.DEFAULT_DATABASE_URL)
    assert env_loader.get_database_url() == expected


def test_a_relative_path_is_relative_to_the_backend_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    url = env_loader.resolve_sqlite_url("sqlite:///./data/some.db")
    assert url == f"sqlite:///{env_loader.BACKEND_DIR / 'data' / 'some.db'}"


def test_the_url_of_another_kind_of_database_is_left_alone():
    url = "postgresql://chat:pw@db.example.invalid/chat"
    assert env_loader.resolve_sqlite_url(url) == url


def test_the_env_file_does_not_overwrite_the_process_environment(monkeypatch):
    monkeypatch.setenv("CHAT_MODEL", "from-the-process")
    env_loader.load_env()
    assert os.environ["CHAT_MODEL"] == env_loader.get_chat_model() == "from-the-process"


def test_the_log_level_may_be_written_in_small_letters(monkeypatch):
    monkeypatch.setenv("LOG_LEVEL", "debug")
    assert env_loader.get_log_level() == "DEBUG"


def test_the_port_comes_from_the_environment(monkeypatch):
    monkeypatch.setenv("PORT", "8123")
    assert env_loader.get_port() == 8123
