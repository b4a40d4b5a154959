"""Alembic's share: the URL in `alembic.ini`, and whether `env.py` takes it from there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath

import libcst as cst

from unified_db.migration.discovery import calling, documents, uses
from unified_db.migration.discovery.evaluation import Evaluator
from unified_db.migration.discovery.finds import Place
from unified_db.migration.discovery.modules import Module
from unified_db.migration.discovery.uses import Use
from unified_db.migration.discovery.values import Table, Text, Values, concatenate, keep, plain

_ASKS_FOR_INI = re.compile(r"engine_from_config|get_main_option|get_section")
CALL = "alembic"


def find_uses(ev: Evaluator) -> Iterator[Use]:
    """The database of each `alembic.ini`: what its `env.py` sets, else what stands in it."""
    for file in sorted(f for f in ev.tree.files if PurePosixPath(f).name == "alembic.ini"):
        whole = documents.table(ev.tree, file, "ini")
        section = whole.get("alembic") if whole else None
        table = section[0] if section else None
        if isinstance(table, Table):
            yield from _of_ini(ev, file, table)


def all_uses(ev: Evaluator) -> list[Use]:
    """Every place of the application that opens a database, Alembic's too."""
    return [*uses.find_uses(ev), *find_uses(ev)]


def env_files(ev: Evaluator) -> list[str]:
    """The `env.py` of each Alembic environment of the tree."""
    return [
        f
        for f in ev.tree.mentioning(re.compile(r"context\.configure\("))
        if PurePosixPath(f).name == "env.py"
    ]


def _of_ini(ev: Evaluator, file: str, table: Table) -> Iterator[Use]:
    env = _environment_of(ev, file, table)
    module = ev.tree.module(env) if env else None
    overrides = list(_overrides(ev, module)) if module is not None else []
    for place, values in overrides:
        yield Use(place=place, call=CALL, role="engine", is_async=False, path=values, imported=place)
    url = table.get("sqlalchemy.url")
    reads = module is None or bool(_ASKS_FOR_INI.search(module.source.text))
    if url and isinstance(url[0], Text) and not overrides and reads:
        origin = url[0].pieces[0].origin
        place = Place(file=file, line=origin.line if origin else 1)
        folder = ev.tree.root / PurePosixPath(file).parent
        values = (_expanded(url[0], str(folder)),)
        yield Use(
            place=place,
            call=CALL,
            role="engine",
            is_async=False,
            path=values,
            imported=place,
            base=folder,
        )


def _environment_of(ev: Evaluator, file: str, table: Table) -> str | None:
    location = table.get("script_location")
    folder = PurePosixPath(file).parent
    text = location[0].text if location and isinstance(location[0], Text) else "alembic"
    env = (folder / text.replace("%(here)s/", "") / "env.py").as_posix()
    return env if env in ev.tree.files else None


def _overrides(ev: Evaluator, module: Module) -> Iterator[tuple[Place, Values]]:
    """What `config.set_main_option("sqlalchemy.url", ...)` sets in place of the file's URL."""
    for node in module.calls:
        last = node.func.attr.value if isinstance(node.func, cst.Attribute) else ""
        if last == "set_main_option":
            arguments = calling.collect(ev, node, ev.frame_of(node, module))
            name = arguments.get(0, "name")
            if name and isinstance(name[0], Text) and name[0].text == "sqlalchemy.url":
                value = arguments.get(1, "value")
                if value:
                    yield Place(file=module.file, line=module.line(node)), value


def _expanded(text: Text, folder: str) -> Text:
    """A value of an INI file with `%(here)s` filled in."""
    mark = "%(here)s"
    if mark not in text.text:
        return text
    at = text.text.index(mark)
    tail = keep(text, at + len(mark), len(text.text))
    return concatenate([keep(text, 0, at), plain(folder, "file"), tail])
