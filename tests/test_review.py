"""A person looks at what a staged copy would reach before it runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import unify
from tests.prefect_side.tiny_application import TinyApplication
from unified_db.migration import phase_pages
from unified_db.migration.runs import RunFolder

PLANTED = "planted-secret-value"


@pytest.fixture
def tiny(tmp_path: Path) -> TinyApplication:
    tiny = TinyApplication.create(tmp_path)
    with (tiny.root / ".env").open("a") as stream:
        stream.write(f"\nSMTP_PASSWORD={PLANTED}\n")
    tiny.configure(staging={})
    return tiny


@pytest.mark.parametrize("verb", ["run", "dry-run"])
def test_a_run_is_refused_before_any_long_work_with_the_list_and_the_way_out(
    tiny: TinyApplication, verb: str
) -> None:
    done = unify(verb, "--no-prefect", "--config", tiny.toml)
    assert done.exit_code == 2
    assert ".env: SMTP_PASSWORD" in done.answer["hint"]
    assert "reviewed = true" in done.answer["hint"]
    assert PLANTED not in done.told + str(done.answer)
    (run,) = (tiny.root / ".unify-db" / "runs").iterdir()
    assert not list((run / "backup").iterdir())


def test_a_plan_lists_names_alone_and_needs_no_review(tiny: TinyApplication) -> None:
    done = unify("plan", "--config", tiny.toml)
    assert done.exit_code == 0
    assert ".env: SMTP_PASSWORD" in done.answer["plan"]["reaching"]
    page = phase_pages.phase_markdown("plan", RunFolder(next((tiny.root / ".unify-db" / "runs").iterdir())))
    assert "SMTP_PASSWORD" in page
    assert PLANTED not in done.told + str(done.answer) + page
