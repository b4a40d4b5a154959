"""The example application made ready to use: a copy, its tables, its server, its conversations.

The demo works on such a copy; the nightly dry run of `prefect.yaml` on the example itself.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import tomlkit

from flows import order
from unified_db.errors import SourceError, UsageError
from unified_db.migration import processes
from unified_db.migration.config import MigrationConfig, load_config

log = logging.getLogger("unified_db.example")

# What running it leaves behind is not part of the example.
_LEFTOVERS = (
    *(".unify-db", "__pycache__", ".pytest_cache", ".ruff_cache"),
    *("*.db", "*.sqlite", "*-wal", "*-shm", "*.pid"),
)
_SEED_TIMEOUT_S = 120.0


def find_example() -> Path:
    """The example's folder: in the repository, or inside the installed package.

    Raises:
        UsageError: It is in neither place.
    """
    home = Path(order.__file__).resolve().parent.parent
    example = home / "examples" / "chat_backend"
    if not (example / "unify.toml").exists():
        raise UsageError(f"the example is not at {example}", hint="Run the demo from the repository.")
    return example


def copy_example(into: Path) -> MigrationConfig:
    """A fresh copy of the example in the new folder *into*, set to a port that is free now."""
    shutil.copytree(find_example(), into, ignore=shutil.ignore_patterns(*_LEFTOVERS), dirs_exist_ok=True)
    file = into / "unify.toml"
    document = tomlkit.parse(file.read_text(encoding="utf-8"))
    document["app"]["port"] = processes.free_port()
    file.write_text(tomlkit.dumps(document), encoding="utf-8")
    return load_config(file)


def create_tables(config: MigrationConfig, log_file: Path) -> None:
    """Bring the application's own database to its newest revision."""
    _run(config, "{python} -m alembic upgrade head", log_file)


def start(config: MigrationConfig, log_file: Path) -> processes.Server:
    """Start the application, detached, and wait until it answers."""
    server = processes.start_detached(
        config.command(config.app.start),
        cwd=config.cwd,
        env=processes.application_environment(config),
        log_file=log_file,
    )
    try:
        server.wait_ready(
            processes.ready_url(config, port=config.app.port), timeout_s=config.app.ready_timeout_s
        )
    except BaseException:
        server.stop()
        raise
    return server


def seed(config: MigrationConfig, log_file: Path) -> str:
    """Fill the running application through its HTTP API; what it holds then, as it counts itself."""
    url = f"http://127.0.0.1:{config.app.port}"
    _run(config, f"{{python}} scripts/seed.py --url {url}", log_file)
    return ", ".join(processes.log_tail(log_file, lines=3).splitlines())


def stop(config: MigrationConfig, log_file: Path) -> None:
    """Stop the application with its own command."""
    _run(config, config.app.stop, log_file)


def prepare() -> dict[str, str]:
    """Give the example its databases where it has none yet; for the nightly dry run.

    Returns:
        Where its configuration lies, as a deployment step hands it on.
    """
    config = load_config(find_example())
    if not all(config.resolve(s.path).exists() for s in config.source):
        with tempfile.TemporaryDirectory(prefix="unify-db-") as folder, _another_port(config) as elsewhere:
            log_file = Path(folder) / "example.log"
            create_tables(elsewhere, log_file)
            start(elsewhere, log_file)
            try:
                seed(elsewhere, log_file)
            finally:
                stop(elsewhere, log_file)
    return {"config": str(config.file)}


@contextlib.contextmanager
def _another_port(config: MigrationConfig) -> Iterator[MigrationConfig]:
    # The configured port may be taken by a copy that somebody runs.
    app = config.app.model_copy(update={"port": processes.free_port()})
    yield config.model_copy(update={"app": app})


def _run(config: MigrationConfig, command: str, log_file: Path) -> None:
    result = processes.run_command(
        config.command(command),
        cwd=config.cwd,
        env=processes.application_environment(config),
        log_file=log_file,
        timeout_s=_SEED_TIMEOUT_S,
    )
    if result.exit_code:
        raise SourceError(
            f"the example cannot be made ready: `{command}` ended with code {result.exit_code}: "
            f"{processes.log_tail(log_file, lines=3)}",
            hint="It needs alembic, langgraph and uvicorn in the same environment.",
        )
