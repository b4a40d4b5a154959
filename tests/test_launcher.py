"""The command finds its own `flows` and `tasks`, and takes these names away from nobody."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--wheel-dir", folder, REPOSITORY], check=True, capture_output=True)
    return next(folder.glob("*.whl"))


@pytest.fixture
def application(tmp_path: Path) -> Path:
    """A folder with packages of its own that are called as ours are."""
    for name in ("flows", "tasks"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"raise RuntimeError('the {name} of the application')")
    return tmp_path


def call(*arguments: str, cwd: Path, path: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "unified_db._launcher", *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_wheel_takes_no_common_name(wheel: Path) -> None:
    names = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {n for n in names if not n.endswith(".dist-info")} == {"unified_db"}


def test_the_wheel_carries_the_flow_and_the_example(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    home = "unified_db/_flow"
    assert {f"{home}/flows/cli.py", f"{home}/tasks/policy.py"} <= names
    assert f"{home}/examples/chat_backend/unify.toml" in names


def test_a_checkout_works_beside_the_applications_own_packages(application: Path) -> None:
    done = call("status", cwd=application, path=f".{os.pathsep}{REPOSITORY}")
    assert done.returncode == 2, done.stderr
    assert "no configuration" in done.stderr


def test_an_installed_copy_works_beside_the_applications_own_packages(wheel: Path, application: Path) -> None:
    installed = application / "installed"
    zipfile.ZipFile(wheel).extractall(installed)
    done = call("--help", cwd=application, path=f".{os.pathsep}{installed}")
    assert done.returncode == 0, done.stderr
    assert "rollback" in done.stdout


def test_without_the_extra_the_command_says_what_to_install(application: Path) -> None:
    done = subprocess.run(
        # -S: no site-packages, so nothing but the standard library and our own code.
        [sys.executable, "-S", "-m", "unified_db._launcher"],
        cwd=application,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert 'pip install --no-cache-dir "unify-db[flow]' in done.stderr
    assert "Traceback" not in done.stderr
