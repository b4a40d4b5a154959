"""Settings that name a SQLite file, whoever reads them: variables with their readers, and the rest."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import libcst as cst

from unified_db.migration.discovery import documents, objects
from unified_db.migration.discovery.evaluation import Evaluator
from unified_db.migration.discovery.finds import PathSetting, Place
from unified_db.migration.discovery.modules import Module, dotted_name
from unified_db.migration.discovery.paths import looks_like_sqlite, settle
from unified_db.migration.discovery.settings import Settings
from unified_db.migration.discovery.texts_of import qualified_name
from unified_db.migration.discovery.tree import is_template
from unified_db.migration.discovery.uses import Use
from unified_db.migration.discovery.values import (
    Arguments,
    ClassRef,
    External,
    Instance,
    Origin,
    Piece,
    Table,
    Text,
    known_texts,
)
from unified_db.migration.edits.survey import is_test

_READS = re.compile(r"getenv|environ|BaseSettings|Settings\b")
_LITERAL = re.compile(r"sqlite[\w+]*:|\.(?:db3?|sqlite3?|sqlite-?db)[\"']", re.IGNORECASE)
_VALUE = re.compile(r"sqlite[\w+]*:|\.(?:db3?|sqlite3?|sqlite-?db)\b", re.IGNORECASE)
_GETTERS = {"getenv", "get", "setdefault"}
_NO_SETTINGS = re.compile(
    r"(?:.*lock.*\.(?:json|ya?ml|toml)|package(?:-lock)?\.json|pyproject\.toml|tsconfig.*\.json|unify\.toml|openapi\.json)",
    re.IGNORECASE,
)
# Files in which a process's environment is put together.
_SETTERS = re.compile(
    r"(?:^|/)(?:Dockerfile[^/]*|(?:docker-)?compose[^/]*\.ya?ml|Procfile|Makefile|[^/]*\.(?:service|sh|bash|fish|nomad|tf))$"
)
_SET = re.compile(
    r"(?<![\w$])(?P<name>[A-Z][A-Z0-9_]{2,})(?:=|:[ \t]+|[ \t]+(?=sqlite))[\"']?(?P<value>[^\s\"']+)"
)


@dataclass(frozen=True)
class Reader:
    """A place that reads an environment variable, and the file that it then means.

    Attributes:
        who: What reads it, with its place: a field of a settings class, or code.
        where: Where it reads it, in words that follow "reads it".
        falls_back: True where its default counts, since nothing sets the variable there.
    """

    place: Place
    who: str
    where: str
    falls_back: bool
    text: Text
    resolved: Path
    use: Use


def find_readers(ev: Evaluator) -> dict[str, list[Reader]]:
    """By the variable's name in capitals, those who read it as the place of a SQLite file."""
    found: dict[str, list[Reader]] = {}
    names = _sqlite_variables(ev)
    telling = re.compile("|".join([_LITERAL.pattern, *map(re.escape, names)]), re.IGNORECASE)
    for file in ev.tree.mentioning(_READS):
        module = ev.tree.module(file) if telling.search(ev.tree.text(file) or "") else None
        for name, reader in _readers(ev, module) if module is not None else ():
            found.setdefault(name.upper(), []).append(reader)
    return found


def _sqlite_variables(ev: Evaluator) -> set[str]:
    """Variables that the environment or some dotenv file sets to the place of a SQLite file."""
    keys = [k for file in ev.tree.dotenv_files for k in ev.environment.keys(file)]
    named = {k.name for k in keys if looks_like_sqlite(k.text.text)}
    return named | {n for n, value in ev.environment.real.items() if looks_like_sqlite(value)}


def _readers(ev: Evaluator, module: Module) -> Iterator[tuple[str, Reader]]:
    for node in module.nodes:
        if isinstance(node, cst.ClassDef):
            yield from _fields(ev, module, node)
        elif isinstance(node, (cst.Call, cst.Subscript)):
            name = _variable(ev, module, node)
            for text in known_texts(ev.ask(node, module)) if name else ():
                yield from _reader(ev, name, text, Place(file=module.file, line=module.line(node)))


def _variable(ev: Evaluator, module: Module, node: cst.Call | cst.Subscript) -> str:
    """The name that `os.getenv`, `os.environ.get` or `os.environ[...]` reads; empty for anything else."""
    if isinstance(node, cst.Call):
        last = node.func.attr.value if isinstance(node.func, cst.Attribute) else dotted_name(node.func)
        if last not in _GETTERS or not node.args:
            return ""
        owner, key = node.func, node.args[0].value
    else:
        first = node.slice[0].slice
        if not isinstance(first, cst.Index) or not dotted_name(node.value).endswith("environ"):
            return ""
        owner, key = node.value, first.value
    names = {v.name for v in ev.ask(owner, module) if isinstance(v, External)}
    if not names & {"os.getenv", "os.environ.get", "os.environ.setdefault", "os.environ"}:
        return ""
    told = known_texts(ev.ask(key, module))
    return told[0].text if told else ""


def _fields(ev: Evaluator, module: Module, node: cst.ClassDef) -> Iterator[tuple[str, Reader]]:
    cls = ClassRef(module, node)
    if not objects.is_settings(ev, cls):
        return
    owner = Instance(cls, Arguments())
    for name, field in objects.fields(cls).items():
        for text in known_texts(objects.attribute(ev, owner, name)):
            place = Place(file=module.file, line=module.line(field))
            variables = objects.variables(ev, cls, name)
            what = f"{qualified_name(module, node)}.{name}"
            for variable in variables[:1]:
                yield from _reader(ev, variable, text, place, what)


def _reader(
    ev: Evaluator, name: str, text: Text, place: Place, field: str = ""
) -> Iterator[tuple[str, Reader]]:
    settled = settle(text, ev.environment.cwd)
    if settled is not None and looks_like_sqlite(text.text):
        call = field or "the environment"
        use = Use(place=place, call=call, role="unknown", is_async=False, path=(text,), imported=place)
        origin = next((p.origin for p in reversed(text.pieces) if p.origin), None)
        yield (
            name,
            Reader(
                place=place,
                who=f"{field} ({place})" if field else str(place),
                where=_where_read(origin, place, through_environment=not field),
                falls_back=origin is not None and origin.kind not in {"dotenv", "environment"},
                text=text,
                resolved=settled.resolved,
                use=use,
            ),
        )


def _where_read(origin: Origin | None, here: Place, *, through_environment: bool) -> str:
    if origin is None:
        return "from a place that is not known"
    if origin.kind == "environment":
        return "from the environment, which sets it"
    if origin.kind == "dotenv":
        loaded = "the environment, into which it is loaded from " if through_environment else ""
        return f"from {loaded}{origin.file}:{origin.line}"
    place = f"{origin.file}:{origin.line}"
    where = "from the environment" if through_environment else "from its settings"
    return (
        f"{where}, where nothing sets it, so falls back on {'its default' if place == str(here) else place}"
    )


def add_rest(ev: Evaluator, settings: Settings) -> list[str]:
    """Note what names a SQLite file and reached nothing: dotenv keys, settings files, constants, services.

    Returns:
        Questions about what sets variables that the application reads.
    """
    by_key = {s.key: s for s in reversed(settings.all()) if s.kind in {"dotenv", "environment"}}
    for file in ev.tree.dotenv_files:
        for key in ev.environment.keys(file):
            if looks_like_sqlite(key.text.text):
                why = _why_unread(file, key.name, by_key, commented=key.commented)
                _put(ev, settings, key.text, why, commented=key.commented, twin=by_key.get(key.name))
    for file in ev.tree.settings_files:
        if not _NO_SETTINGS.fullmatch(PurePosixPath(file).name) and _VALUE.search(ev.tree.text(file) or ""):
            for text in _texts(documents.table(ev.tree, file)):
                _put(ev, settings, text, "no code was found that loads it")
    asks: list[str] = []
    for text in _process_settings(ev):
        origin = text.pieces[0].origin
        if origin is not None and ev.tree.mentioning(re.compile(rf"\b{origin.key}\b")):
            asks.append(
                f"{origin.file}:{origin.line} sets {origin.key} to {origin.raw}: is the application "
                "started from there? Then that counts, not what is told here."
            )
        _put(ev, settings, text, "it counts for what is started from here")
    for text in _constants(ev):
        _put(ev, settings, text, "its value was not seen to reach a call that opens a database")
    return asks


def _why_unread(file: str, name: str, by_key: dict[str, PathSetting], *, commented: bool) -> str:
    twin = by_key.get(name)
    if commented:
        return "it is commented out"
    if is_template(file):
        return f"a template{f'; {twin.place} is what counts' if twin else ''}"
    if twin is not None:
        return f"{twin.place} counts, and nobody was found who reads this file for {name}"
    return f"nothing was found that reads {name} from this file"


def _put(
    ev: Evaluator,
    settings: Settings,
    text: Text,
    why: str,
    *,
    commented: bool = False,
    twin: PathSetting | None = None,
) -> None:
    settled = settle(text, ev.environment.cwd)
    origin = text.pieces[-1].origin
    if settled is None or origin is None or settings.has(origin):
        return
    settings.put(settled, composed=False, use=None, wins=False, why=why, commented=commented)
    if twin is not None and twin.role != "unknown":
        settings.give_role(origin, twin.role)


def _texts(value: object) -> Iterator[Text]:
    if isinstance(value, Text):
        if looks_like_sqlite(value.text):
            yield value
    elif isinstance(value, Table):
        for _, values in value.items:
            for each in values:
                yield from _texts(each)


def _process_settings(ev: Evaluator) -> Iterator[Text]:
    """Variables that Compose files, Dockerfiles, units and scripts set."""
    for file in sorted(ev.tree.files):
        text = ev.tree.text(file) if _SETTERS.search(file) else None
        for number, line in enumerate((text or "").split("\n"), 1):
            for found in _SET.finditer(line):
                if looks_like_sqlite(found["value"]):
                    origin = Origin("environment", file, number, found["name"], found["value"])
                    yield Text((Piece(found["value"], origin),))


def _constants(ev: Evaluator) -> Iterator[Text]:
    """Constants, fields and defaults whose literal names a SQLite file."""
    for file in ev.tree.mentioning(_LITERAL):
        module = ev.tree.module(file) if not is_test(file) else None
        for node in module.nodes if module is not None else ():
            value = node.evaluated_value if isinstance(node, cst.SimpleString) else None
            if isinstance(value, str) and looks_like_sqlite(value) and module is not None:
                texts = known_texts(ev.ask(node, module))
                yield from (t for t in texts if t.pieces[0].origin and t.pieces[0].origin.key)
