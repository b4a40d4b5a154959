"""What a flow run is called and tagged in Prefect: what it does, and to which application."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Literal

from prefect.client.orchestration import get_client
from prefect.context import FlowRunContext

from tasks import telling

Mode = Literal["dry-run", "run", "rollback"]

_FAMILY = "unify-db"


def application_name(config: Path) -> str:
    """The name of the application's root, for a configuration that may be missing or wrong."""
    file = config / "unify.toml" if config.is_dir() else config
    root = file.absolute().parent
    try:
        section = tomllib.loads(file.read_text(encoding="utf-8-sig")).get("app", {})
        root = root / str(section.get("root", "."))
    except (OSError, ValueError, AttributeError):
        pass  # the name of its folder will do; the flow itself says what is wrong
    return root.resolve().name


def tags_of(application: str, mode: Mode) -> list[str]:
    """The tags by which the runs of one application, or of one kind, are found."""
    return [_FAMILY, mode, application]


def tag_flow_run(application: str, mode: Mode) -> None:
    """Tag the flow run that is running, whoever created it; nothing outside of one."""
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        return
    flow_run, wanted = context.flow_run, tags_of(application, mode)
    if set(wanted) <= set(flow_run.tags):
        return

    def tell() -> None:
        with get_client(httpx_settings={}, sync_client=True) as client:
            client.update_flow_run(flow_run.id, tags=sorted({*flow_run.tags, *wanted}))

    telling.bounded(tell)
