"""Where the application opens databases: LangGraph's savers and stores, engines, plain connections."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import libcst as cst

from unified_db.migration.discovery import calling, documents
from unified_db.migration.discovery.environment import Environment, Load
from unified_db.migration.discovery.evaluation import Evaluator
from unified_db.migration.discovery.finds import Place, Role
from unified_db.migration.discovery.libraries import CONNECTIONS, FROM_STRING, OPENERS, SAVERS
from unified_db.migration.discovery.modules import Module, dotted_name
from unified_db.migration.discovery.tree import Tree
from unified_db.migration.discovery.values import (
    Arguments,
    Const,
    External,
    Made,
    Opened,
    Text,
    Unknown,
    Value,
    Values,
    few,
)

# Parsing takes most of the time, so a file is parsed only where it has one of these words.
SEED = re.compile(
    r"Sqlite(?:Saver|Store)|create_(?:async_)?engine\b|\bsqlite3\b|aiosqlite|SQLALCHEMY_DATABASE_URI"
    r"|\bdatabases\.Database\b|from databases import|SQLDatabase|sqlite_utils|\bapsw\b|UnifiedDatabase"
)
_LOADERS = re.compile(r"load_dotenv|read_env")
_FLASK_KEY = "SQLALCHEMY_DATABASE_URI"
_LAST_NAMES = {name.rpartition(".")[2] for name in OPENERS} | {"connect"}


@dataclass(frozen=True)
class Use:
    """A place that opens a database.

    Attributes:
        call: The dotted name that is called.
        path: The values of the path or URL.
        imported: Where the name is imported.
        base: The folder of relative paths, where the library takes another than the working folder.
        connection: How a saver comes to its connection: by a path, by one passed in, or unknown.
    """

    place: Place
    call: str
    role: Role
    is_async: bool
    path: Values
    imported: Place
    base: Path | None = None
    connection: str = ""

    @property
    def is_saver(self) -> bool:
        """True for LangGraph's savers and stores, and ours."""
        return self.call.removesuffix(FROM_STRING) in SAVERS


def find_uses(ev: Evaluator) -> list[Use]:
    """Every place of the application that opens a database, in the order of files and lines."""
    found: list[Use] = []
    passed_on: set[cst.CSTNode] = set()
    connections: list[tuple[cst.CSTNode, Use]] = []
    modules = [m for f in ev.tree.mentioning(SEED) if (m := ev.tree.module(f)) is not None]
    subclasses = {n for m in modules for n in _subclasses(m)}
    for module in modules:
        for node in _opening_calls(module, subclasses):
            for value in ev.ask(node, module):
                if isinstance(value, Opened) and value.node is node:
                    use = _describe(module, value, passed_on)
                    (connections.append((node, use)) if value.call in CONNECTIONS else found.append(use))
        found += _flask(ev, module)
    found += [use for node, use in connections if node not in passed_on]
    return sorted(found, key=lambda u: (u.place.file, u.place.line))


def _subclasses(module: Module) -> Iterator[str]:
    for node in module.nodes:
        if isinstance(node, cst.ClassDef):
            names = {dotted_name(a.value).rpartition(".")[2] for a in node.bases}
            if names & _LAST_NAMES:
                yield node.name.value


def _opening_calls(module: Module, subclasses: set[str]) -> Iterator[cst.Call]:
    """Calls by a name that opens something, or by what such a name was imported as."""
    wanted = _LAST_NAMES | subclasses
    imports = [n for n in module.nodes if isinstance(n, cst.ImportAlias) and n.asname is not None]
    aliases = {a.evaluated_alias for a in imports if a.evaluated_name.rpartition(".")[2] in _LAST_NAMES}
    for node in module.calls:
        func = node.func
        last = func.attr.value if isinstance(func, cst.Attribute) else dotted_name(func)
        if last in wanted or last in aliases:
            yield node


def _describe(module: Module, opened: Opened, passed_on: set[cst.CSTNode]) -> Use:
    opener = OPENERS[opened.call]
    place = Place(file=module.file, line=module.line(opened.node))
    by_string = opened.call.endswith(FROM_STRING)
    path = opened.path if by_string else _through_connections(opened.path, passed_on)
    is_saver = opened.call.removesuffix(FROM_STRING) in SAVERS
    passed = any(isinstance(v, Opened) for v in opened.path)
    how = "from_conn_string" if by_string else "connection" if passed else "unknown"
    return Use(
        place,
        opened.call,
        opener.role,
        opener.is_async,
        path,
        _imported(module, opened.node) or place,
        connection=how if is_saver else "",
    )


def _through_connections(values: Values, passed_on: set[cst.CSTNode]) -> Values:
    """Paths instead of the connections that were opened with them."""
    found: list[Value] = []
    for value in values:
        if isinstance(value, Opened):
            passed_on.add(value.node)
            found += _through_connections(value.path, passed_on)
        elif isinstance(value, Made) and value.arguments.positional:
            # A pool or a wrapper made of a connection.
            found += _through_connections(value.arguments.positional[0], passed_on)
        else:
            found.append(value)
    return few(found)


def _imported(module: Module, node: cst.Call) -> Place | None:
    """The import of the name that a call begins with."""
    root: cst.CSTNode = node.func
    while isinstance(root, cst.Attribute):
        root = root.value
    if not isinstance(root, cst.Name):
        return None
    scope = module.scope_of(node)
    while True:
        for binding in module.bindings(scope).get(root.value, ()):
            if binding.kind == "import":
                return Place(file=module.file, line=module.line(binding.node))
        if isinstance(scope, cst.Module):
            return None
        scope = module.scope_of(scope)


def _flask(ev: Evaluator, module: Module) -> Iterator[Use]:
    """Where Flask-SQLAlchemy's setting is made: an item of `app.config`, a class attribute, a keyword."""
    if _FLASK_KEY not in module.source.text:
        return
    base = instance_folder(ev, module)
    for node in module.nodes:
        value: cst.BaseExpression | None = None
        if isinstance(node, cst.Assign) and len(node.targets) == 1:
            target = node.targets[0].target
            item = isinstance(target, cst.Subscript) and f'"{_FLASK_KEY}"' in _flat(module, target)
            named = isinstance(target, cst.Name) and target.value == _FLASK_KEY
            value = node.value if item or named else None
        elif isinstance(node, (cst.AnnAssign, cst.Arg)):
            name = node.target if isinstance(node, cst.AnnAssign) else node.keyword
            value = node.value if name is not None and dotted_name(name) == _FLASK_KEY else None
        if value is not None:
            place = Place(file=module.file, line=module.line(node))
            yield Use(
                place=place,
                call=_FLASK_KEY,
                role="engine",
                is_async=False,
                path=ev.ask(value, module),
                imported=place,
                base=base,
            )


def _flat(module: Module, node: cst.CSTNode) -> str:
    return module.source.code(node).replace("'", '"')


def instance_folder(ev: Evaluator, module: Module) -> Path:
    """The folder that Flask-SQLAlchemy takes relative paths from: `instance`, beside the application.

    Older releases took the application's own folder; where a database is there and none in
    `instance`, it is theirs.
    """
    folder = PurePosixPath(module.file).parent
    while (folder / "__init__.py").as_posix() in ev.tree.files:
        folder = folder.parent
    instance: Path = ev.tree.root / folder / "instance"
    return instance


def make_evaluator(tree: Tree, cwd: Path, environment: Mapping[str, str] | None = None) -> Evaluator:
    """An evaluator that knows which dotenv files the application reads into its environment."""
    first = Evaluator(tree, Environment(tree, cwd, environment))
    loads = find_loads(first)
    first.environment.loads = loads
    # A fresh one: what the first remembers was told without the files.
    return Evaluator(tree, first.environment)


def find_loads(ev: Evaluator) -> tuple[Load, ...]:
    """Every call of the application that reads a dotenv file into the environment."""
    found: list[Load] = []
    for file in ev.tree.mentioning(_LOADERS):
        module = ev.tree.module(file)
        for node in module.calls if module is not None else ():
            assert module is not None
            func = node.func
            last = func.attr.value if isinstance(func, cst.Attribute) else dotted_name(func)
            if last in {"load_dotenv", "read_env"}:
                found += _load(ev, module, node, last)
    return tuple(dict.fromkeys(found))


def _load(ev: Evaluator, module: Module, node: cst.Call, name: str) -> Iterator[Load]:
    frame = ev.frame_of(node, module)
    callees = ev.evaluate(node.func, frame)
    if name == "load_dotenv" and not any(
        isinstance(c, External) and c.name.startswith("dotenv.") for c in callees
    ):
        return
    arguments: Arguments = calling.collect(ev, node, frame)
    path = arguments.get(0, "dotenv_path", "path")
    override = arguments.get(None, "override")
    wins = bool(override and isinstance(override[0], Const) and override[0].value is True)
    for file in _loaded_files(ev, path, module.file):
        yield Load(file, module.file, wins)


def _loaded_files(ev: Evaluator, path: Values | None, reader: str) -> Iterator[str]:
    told = [v for v in path or () if isinstance(v, Text) and v.text]
    if path and not told and any(isinstance(v, Unknown) and v.reason for v in path):
        return
    for text in told:
        file = ev.environment.file_of(text)
        if file:
            yield file
    if not told:
        # Without a path python-dotenv looks in the folder of the calling file, then above it.
        file = documents.find_upwards(ev, ".env", reader)
        if file:
            yield file
