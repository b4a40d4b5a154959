"""What calls of the standard library and of other libraries give, where that says something of a path."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import libcst as cst

from unified_db.migration.discovery import calling, documents, texts_of
from unified_db.migration.discovery.libraries import OPENERS
from unified_db.migration.discovery.values import (
    UNKNOWN,
    Arguments,
    Const,
    Handle,
    Made,
    Method,
    Opened,
    Parsed,
    Table,
    Text,
    Unknown,
    Value,
    Values,
    base_name,
    concatenate,
    few,
    join_paths,
    known_texts,
    parent,
    plain,
    replaced,
)

if TYPE_CHECKING:
    from unified_db.migration.discovery.evaluation import Evaluator, Frame

Site = tuple[cst.Call, "Frame"]
Known = Callable[["Evaluator", Arguments, Site], Values]

# Whose places only the machine tells, and what is different at every run.
_AT_RUN_TIME = ("tempfile.", "platformdirs.", "appdirs.", "uuid.", "secrets.", "datetime.", "time.")
_PATHS = ("Path", "PurePath", "PosixPath", "PurePosixPath")


def function(ev: Evaluator, name: str, arguments: Arguments, site: Site) -> Values:
    """What calling the library's *name* gives."""
    if name in OPENERS:
        path = arguments.get(0, *OPENERS[name].argument)
        return (Opened(name, path or UNKNOWN, site[0]),)
    if name in _FUNCTIONS:
        return _FUNCTIONS[name](ev, arguments, site)
    if name.startswith(_AT_RUN_TIME):
        return (Unknown(f"{name}() tells it when the application runs"),)
    if name.rpartition(".")[2] in _ANYWHERE:
        return _ANYWHERE[name.rpartition(".")[2]](ev, arguments, site)
    return (Made(name, arguments, site[0], site[1].module),)


def method(ev: Evaluator, callee: Method, arguments: Arguments, site: Site) -> Values:
    """What calling a method gives."""
    owner, name = callee.owner, callee.name
    if isinstance(owner, Text):
        if name == "join":
            return _join_words(owner, arguments)
        return ev.combine_all(arguments, lambda a: texts_of.method(owner, name, a, ev.environment))
    if isinstance(owner, Table):
        return _method_of_table(owner, name, arguments)
    if isinstance(owner, Handle):
        return (owner,)
    if isinstance(owner, Made):
        return _method_of_made(ev, owner, name, arguments, site)
    if isinstance(owner, Opened):
        # `await conn.__aenter__()`, `engine.connect()`
        return (owner,)
    return UNKNOWN


def called_again(ev: Evaluator, made: Made, arguments: Arguments, site: Site) -> Values:
    """What calling the result of a library's call gives: starlette's `Config(".env")("KEY")`."""
    if made.name in {"starlette.config.Config", "environs.Env", "decouple.Config"}:
        return _read_variable(ev, made, arguments, site)
    return UNKNOWN


def _read_variable(ev: Evaluator, made: Made, arguments: Arguments, site: Site) -> Values:
    key = _word(arguments.get(0, "name", "key", "option"))
    default = arguments.get(None if made.name == "decouple.Config" else 2, "default")
    if default is None and len(arguments.positional) > 1 and made.name == "environs.Env":
        default = arguments.positional[1]
    if not key:
        return UNKNOWN
    file = made.arguments.get(0, "env_file", "repository")
    files = [f for f in map(ev.environment.file_of, known_texts(file or ())) if f]
    reader = site[1].module.file
    loaded = [x.file for x in ev.environment.loaded_for(reader)]
    return ev.environment.choose([key], ("environment", *loaded, *files), default)


def _word(values: Values | None) -> str:
    return values[0].text if values and isinstance(values[0], Text) else ""


def _join_words(separator: Text, arguments: Arguments) -> Values:
    table = arguments.positional[0][0] if arguments.positional else None
    if not isinstance(table, Table):
        return UNKNOWN
    words = [values[0] for _, values in table.items]
    texts = [w for w in words if isinstance(w, Text)]
    if len(texts) != len(words):
        return UNKNOWN
    between = [t for word in texts for t in (separator, word)][1:]
    return (concatenate(between),)


def _method_of_table(table: Table, name: str, arguments: Arguments) -> Values:
    if name == "get":
        keys = [k[0] for k in arguments.positional]
        words = [k.text if isinstance(k, Text) else k.value if isinstance(k, Const) else None for k in keys]
        section = table.get(words[0]) if words else None
        fallback = arguments.get(None, "fallback")
        # configparser's get(section, option); a dict's second argument is its default.
        inner = section[0] if section else None
        if table.document and table.document.endswith((".ini", ".cfg", ".conf")) and not table.path:
            found = inner.get(words[1]) if isinstance(inner, Table) and len(words) > 1 else None
            return found or fallback or UNKNOWN
        default = arguments.get(1, "default", "fallback")
        if section is not None:
            return few(texts_of.overrule(v, default or ()) for v in section)
        return default if default is not None else (Const(None),)
    if name in {"items", "values", "keys"}:
        if name == "items":
            return (
                Table(
                    tuple((i, (Table(((0, _as_key(k)), (1, v))),)) for i, (k, v) in enumerate(table.items))
                ),
            )
        chosen = [v if name == "values" else _as_key(k) for k, v in table.items]
        return (Table(tuple(enumerate(chosen))),)
    if name in {"copy", "model_dump", "dict"}:
        return (table,)
    return UNKNOWN


def _as_key(key: object) -> Values:
    return (plain(key),) if isinstance(key, str) else (Const(key),)


def _method_of_made(ev: Evaluator, made: Made, name: str, arguments: Arguments, site: Site) -> Values:
    if name in {"parse_args", "parse_intermixed_args"}:
        return (Parsed(made.module),)
    if name == "parse_known_args":
        return (Table(((0, (Parsed(made.module),)),)),)
    if name in {"enter_context", "enter_async_context", "run_until_complete", "run"}:
        return arguments.get(0) or UNKNOWN
    if made.name == "environs.Env" and name in {"str", "path", "db_url", "url", "__call__"}:
        return _read_variable(ev, made, arguments, site)
    if made.name.endswith("ConfigParser") and name == "get":
        whole = documents.parser_table(ev, site[0], site[1])
        return _method_of_table(whole, "get", arguments) if whole else UNKNOWN
    if made.name.endswith("YAML") and name == "load":
        return documents.load(ev, "yaml", arguments)
    return UNKNOWN


def _path(ev: Evaluator, arguments: Arguments, _site: Site) -> Values:
    if not arguments.positional:
        return (plain(".", is_path=True),)
    return ev.combine(_join, *arguments.positional)


def _join(*values: Value) -> Value:
    whole: Text | None = None
    for value in values:
        text = value if isinstance(value, Text) else None
        if text is None:
            return value if isinstance(value, Unknown) else Unknown(getattr(value, "reason", ""))
        whole = replace(text, is_path=True) if whole is None else join_paths(whole, text)
    return whole if whole is not None else Unknown()


def _same(_ev: Evaluator, arguments: Arguments, _site: Site) -> Values:
    return arguments.get(0, "url", "value", "secret_value") or UNKNOWN


def _text(ev: Evaluator, arguments: Arguments, _site: Site) -> Values:
    return ev.each(
        arguments.get(0) or UNKNOWN,
        lambda v: (texts_of.as_text(v) or v,) if not isinstance(v, Const) else (Unknown(v.reason),),
    )


def _on_text(change: Callable[[Evaluator, Text], Text]) -> Known:
    def known(ev: Evaluator, arguments: Arguments, _site: Site) -> Values:
        values = arguments.get(0, "path", "p", "filename") or UNKNOWN
        return few(change(ev, v) if isinstance(v, Text) else v for v in values)

    return known


def _normalised(_ev: Evaluator, text: Text) -> Text:
    return replaced(text, os.path.normpath(text.text))


def _getenv(ev: Evaluator, arguments: Arguments, site: Site) -> Values:
    default = arguments.get(1, "default") or (Const(None),)
    keys = arguments.get(0, "key", "varname") or UNKNOWN
    reader = site[1].module.file
    return ev.each(
        keys,
        lambda k: ev.environment.variable(k.text, reader, default) if isinstance(k, Text) else UNKNOWN,
    )


def _open(ev: Evaluator, arguments: Arguments, _site: Site) -> Values:
    def handle(value: Value) -> Values:
        file = ev.environment.file_of(value) if isinstance(value, Text) else None
        return (Handle(file),) if file else UNKNOWN

    return ev.each(arguments.get(0, "file") or UNKNOWN, handle)


def _load(kind: str) -> Known:
    return lambda ev, arguments, _site: documents.load(ev, kind, arguments)


def _dotenv_values(ev: Evaluator, arguments: Arguments, site: Site) -> Values:
    return documents.dotenv_table(ev, arguments.get(0, "dotenv_path"), site[1].module.file)


def _find_dotenv(ev: Evaluator, arguments: Arguments, site: Site) -> Values:
    name = _word(arguments.get(0, "filename")) or ".env"
    file = documents.find_upwards(ev, name, site[1].module.file)
    return (plain(str(ev.tree.root / file), "file"),) if file else (plain(""),)


def _url_create(ev: Evaluator, arguments: Arguments, _site: Site) -> Values:
    driver = arguments.get(0, "drivername") or UNKNOWN
    database = arguments.get(5, "database") or UNKNOWN
    return ev.combine(lambda a, b: _concatenated(a, plain(":///"), b), driver, database)


def _concatenated(*values: Value) -> Value:
    texts = [texts_of.as_text(v) for v in values]
    if any(t is None for t in texts):
        return next((v for v in values if isinstance(v, Unknown)), Unknown())
    return concatenate([t for t in texts if t is not None])


def _default_of(ev: Evaluator, arguments: Arguments, _site: Site) -> Values:
    factory = arguments.get(None, "default_factory", "factory")
    if factory:
        return calling.apply(ev, factory[0], Arguments(), None)
    return arguments.get(0, "default") or UNKNOWN


def _option(_ev: Evaluator, arguments: Arguments, site: Site) -> Values:
    """`typer.Option("x.db", "--db")`: its default."""
    module = site[1].module
    flags = [_word(v) for v in arguments.positional[1:]]
    flag = next((f for f in flags if f.startswith("-")), "an option")
    question = f"{module.file} takes {flag} from the command line: does the command that starts it give one?"
    return calling.doubted(arguments.get(0, "default") or UNKNOWN, question)


def _depends(ev: Evaluator, arguments: Arguments, site: Site) -> Values:
    return ev.each(
        arguments.get(0, "dependency") or UNKNOWN, lambda v: calling.apply(ev, v, Arguments(), site)
    )


def _second(_ev: Evaluator, arguments: Arguments, _site: Site) -> Values:
    return arguments.get(1, "val") or UNKNOWN


def _getattr(ev: Evaluator, arguments: Arguments, _site: Site) -> Values:
    name = _word(arguments.get(1))
    found = ev.each(arguments.get(0) or UNKNOWN, lambda v: ev.attribute(v, name)) if name else UNKNOWN
    return found if any(isinstance(v, Text) for v in found) else arguments.get(2) or found


def _decouple(ev: Evaluator, arguments: Arguments, site: Site) -> Values:
    key = _word(arguments.get(0, "option"))
    file = documents.find_upwards(ev, ".env", site[1].module.file)
    files = ("environment", *([file] if file else []))
    return ev.environment.choose([key], files, arguments.get(None, "default")) if key else UNKNOWN


_FUNCTIONS: dict[str, Known] = {
    **{f"pathlib.{name}": _path for name in _PATHS},
    "os.path.join": _path,
    "posixpath.join": _path,
    "builtins.str": _text,
    "builtins.repr": lambda *_: UNKNOWN,
    "builtins.open": _open,
    "builtins.getattr": _getattr,
    "io.open": _open,
    "os.fspath": _same,
    "os.path.abspath": _on_text(lambda ev, t: ev.environment.absolute(t)),
    "os.path.realpath": _on_text(lambda ev, t: ev.environment.absolute(t)),
    "os.path.normpath": _on_text(_normalised),
    "os.path.dirname": _on_text(lambda _ev, t: parent(t) if "/" in t.text else plain("")),
    "os.path.basename": _on_text(lambda _ev, t: base_name(t)),
    "os.path.expanduser": _on_text(lambda ev, t: ev.environment.expand_user(t)),
    "os.path.expandvars": _same,
    "os.getcwd": lambda ev, *_: (plain(str(ev.environment.cwd), "cwd"),),
    "pathlib.Path.cwd": lambda ev, *_: (plain(str(ev.environment.cwd), "cwd"),),
    "pathlib.Path.home": lambda ev, *_: (ev.environment.expand_user(plain("~/")),),
    "os.getenv": _getenv,
    "os.environ.get": _getenv,
    "os.environ.setdefault": _getenv,
    "yaml.safe_load": _load("yaml"),
    "yaml.load": _load("yaml"),
    "yaml.full_load": _load("yaml"),
    "tomllib.load": _load("toml"),
    "tomllib.loads": _load("toml"),
    "tomli.load": _load("toml"),
    "tomli.loads": _load("toml"),
    "toml.load": _load("toml"),
    "toml.loads": _load("toml"),
    "tomlkit.load": _load("toml"),
    "tomlkit.parse": _load("toml"),
    "json.load": _load("json"),
    "json.loads": _load("json"),
    "omegaconf.OmegaConf.load": _load("yaml"),
    "dotenv.dotenv_values": _dotenv_values,
    "dotenv.find_dotenv": _find_dotenv,
    "decouple.config": _decouple,
    "sqlalchemy.make_url": _same,
    "sqlalchemy.engine.make_url": _same,
    "sqlalchemy.engine.url.make_url": _same,
    "sqlalchemy.engine.URL.create": _url_create,
    "sqlalchemy.URL.create": _url_create,
    "sqlalchemy.engine.url.URL.create": _url_create,
    "pydantic.SecretStr": _same,
    "pydantic.Field": _default_of,
    "pydantic.fields.Field": _default_of,
    "sqlmodel.Field": _default_of,
    "dataclasses.field": _default_of,
    "attrs.field": _default_of,
    "attr.ib": _default_of,
    "typer.Option": _option,
    "typer.Argument": _option,
    "fastapi.Depends": _depends,
    "fastapi.params.Depends": _depends,
    "typing.cast": _second,
    "contextlib.closing": _same,
    "contextlib.aclosing": _same,
    "asyncio.run": _same,
    "builtins.next": _same,
    "builtins.tuple": _same,
    "builtins.list": _same,
    "builtins.dict": lambda _ev, a, _s: (Table(tuple((n, v) for n, v in a.named)),),
    "types.SimpleNamespace": lambda _ev, a, _s: (Table(tuple((n, v) for n, v in a.named)),),
}
# Told by their last name, wherever they come from.
_ANYWHERE: dict[str, Known] = {
    "enter_context": _same,
    "enter_async_context": _same,
    "run_until_complete": _same,
}
