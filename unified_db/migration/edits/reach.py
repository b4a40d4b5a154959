"""Which settings let a staged copy of an application act on the world: credentials and addresses.

Names alone, never a value. Looked for in dotenv files, in the environment, and in settings: TOML, YAML,
JSON and INI files, and constants of Python files. A guess by name and shape, to be read by a person.
"""

from __future__ import annotations

import ast
import configparser
import json
import os
import re
import tomllib
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import yaml

from unified_db.migration.config import MigrationConfig
from unified_db.migration.edits import dotenv, masking, survey

ENVIRONMENT = "environment"

_MAX_BYTES = 200_000
_TEMPLATE_ENDS = ("example", "sample", "template", "dist", "tmpl")
# Names of keys that let a process act for somebody, or say whom it talks to.
_REACHING_NAME = re.compile(
    r"key(?:s|id)?\b|_key_|secret|token|passw|passphrase|pwd|credential|auth|dsn|"
    r"ur[il]s?\b|host|server|endpoint|address|smtp|mail|webhook|broker|proxy|bucket|account",
    re.IGNORECASE,
)
_ADDRESS = re.compile(r"^[a-zA-Z][\w+.-]*://|[^\s@]+@[^\s@]+\.\w+")
_HARMLESS = re.compile(r"(?:true|false|yes|no|on|off|none|null|\d+)?|sqlite[\w+]*:.*|file:.*", re.IGNORECASE)
_PASSWORD = re.compile(r"://[^\s:/@]*:([^\s\"'<>]+)@")
_PATH = re.compile(r"(?:\.{0,2}/)?(?:[\w.-]+/)*[\w-]+\.(?:db|sqlite3?|sqlite-?\w*)", re.IGNORECASE)
# What is shorter occurs in other words, which nobody could read any more.
_SHORTEST_SECRET = 5
# Set by every login, desktop and installation; they say nothing about the application.
_OF_THE_SYSTEM = re.compile(
    r"(?:OLD)?PWD|HOSTNAME|HOSTTYPE|SSH_.*|GPG_.*|DBUS_.*|XDG_.*|XAUTHORITY|SESSION_MANAGER|LS_COLORS|MAIL|KEYTIMEOUT"
)
# A line that sets a name to a text. Parsing takes most of the time, so a module is parsed only where the name
# or the text of one of them may count.
_TEXT_SET = re.compile(
    r"""(?:^|;)[ \t]*(?P<name>[A-Za-z_][\w \t=,]*(?::[^\n]*?)?)=(?:[\s(\\]|\#[^\n]*\n)*[rRuU]?
        (?=(?P<text>\"{3}|'{3}|["'][^\n]*))""",
    re.MULTILINE | re.VERBOSE,
)
# Of tools, not of the application that runs.
_NO_SETTINGS = re.compile(
    r".*lock.*\.(?:json|ya?ml|toml)|package(?:-lock)?\.json|pyproject\.toml|tsconfig.*\.json|\.pre-commit.*"
    r"|(?:tox|setup|pytest|mypy)\.(?:ini|cfg)",
    re.IGNORECASE,
)


def credential_keys(config: MigrationConfig) -> tuple[str, ...]:
    """`FILE: KEY` or `environment: KEY` of what looks like a credential or an address, sorted.

    A staged copy of the application runs with them. Templates such as `.env.example` are left out, and
    so are constants of tests, SQLite's own addresses and what tools keep for themselves. What
    `[staging.env]` overlays is marked so.
    """
    found: dict[str, None] = {}
    for file in survey.walk_tree(config):
        left_out = file.name.endswith(_TEMPLATE_ENDS) or _is_test_code(config, file)
        if file.resolve() != config.file and not left_out:
            names = dict.fromkeys(n for n, value in _settings_of(file) if n and _reaches_out(n, value))
            found |= dict.fromkeys(_told(config, config.label(file), name) for name in names)
    for name, value in {**os.environ, **config.app.env}.items():
        if not _OF_THE_SYSTEM.fullmatch(name) and _reaches_out(name, value):
            found[_told(config, ENVIRONMENT, name)] = None
    return tuple(sorted(found))


def secret_values(config: MigrationConfig) -> frozenset[str]:
    """Values that must not be shown: those of telling names, and the passwords in addresses.

    Of dotenv files every value counts, but for numbers, switches and the places of SQLite files.
    """
    found: set[str] = set()
    for file in survey.walk_tree(config):
        for name, value in _settings_of(file):
            if masking.is_dotenv(file.name) and not _HARMLESS.fullmatch(value) and not _PATH.fullmatch(value):
                found.add(value)
            found |= _secrets_in(name, value)
    for name, value in {**os.environ, **config.app.env, **config.staging.env}.items():
        if not _OF_THE_SYSTEM.fullmatch(name):
            found |= _secrets_in(name, value)
    return frozenset(v for v in found if len(v) > _SHORTEST_SECRET)


def _is_test_code(config: MigrationConfig, file: Path) -> bool:
    # Not so a dotenv file of tests: they may load it, and reach out with it.
    return file.suffix == ".py" and survey.is_test(file.relative_to(config.root))


def _secrets_in(name: str, value: str) -> set[str]:
    found = {value} if masking.is_secret_name(name) and not _HARMLESS.fullmatch(value) else set()
    return found | {match[1] for match in _PASSWORD.finditer(value)}


def _told(config: MigrationConfig, where: str, name: str) -> str:
    return f"{where}: {name}{' (overlaid)' if name in config.staging.env else ''}"


def _reaches_out(name: str, value: str) -> bool:
    if _HARMLESS.fullmatch(value.strip()):
        return False
    return bool(_REACHING_NAME.search(name) or _ADDRESS.search(value))


def _settings_of(file: Path) -> Iterator[tuple[str, str]]:
    """Names with their values as text; nothing of a file that is none or cannot be read as what it is."""
    if masking.is_dotenv(file.name):
        text = file.read_text(encoding="utf-8-sig", errors="surrogateescape")
        yield from ((name or "", value or "") for name, value, _ in dotenv.read(text))
        return
    read = _READERS.get(file.suffix.lower())
    if read is None or _NO_SETTINGS.fullmatch(file.name) or file.stat().st_size > _MAX_BYTES:
        return
    try:
        yield from list(read(file.read_text(encoding="utf-8-sig")))
    except (OSError, ValueError, SyntaxError, RecursionError, yaml.YAMLError, configparser.Error):
        return  # the application cannot read it either, or it is none of its settings


def _flatten(value: object, place: tuple[str, ...] = ()) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flatten(inner, (*place, str(key)))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _flatten(inner, (*place, str(number)))
    elif isinstance(value, str):
        yield ".".join(place), value


def _read_yaml(text: str) -> Iterator[tuple[str, str]]:
    for document in yaml.safe_load_all(text):
        yield from _flatten(document)


def _read_ini(text: str) -> Iterator[tuple[str, str]]:
    parser = configparser.RawConfigParser(strict=False, allow_no_value=True)
    parser.read_string(text)
    for section in (parser.default_section, *parser.sections()):
        yield from ((f"{section}.{k}", v or "") for k, v in parser[section].items())


def _read_python(text: str) -> Iterator[tuple[str, str]]:
    """Constants of the module, its classes and functions that may count here."""
    if not any(_may_count(match) for match in _TEXT_SET.finditer(text)):
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tree = ast.parse(text)
    for node in _statements(tree):
        if isinstance(node, ast.Assign | ast.AnnAssign):
            names = node.targets if isinstance(node, ast.Assign) else [node.target]
            value = node.value.value if isinstance(node.value, ast.Constant) else None
            if isinstance(value, str):
                yield from ((n.id, value) for n in names if isinstance(n, ast.Name) and _is_constant(n.id))


def _may_count(match: re.Match[str]) -> bool:
    """True where the line sets a telling name, or a text that may be an address or goes on below."""
    name, text = match["name"], match["text"]
    telling = bool(_REACHING_NAME.search(name)) or masking.is_secret_name(name)
    return telling or "://" in text or "@" in text or len(text) == 3


def _statements(tree: ast.Module) -> Iterator[ast.AST]:
    """Every statement of a module; those in others too."""
    waiting: list[ast.AST] = [*tree.body]
    while waiting:
        node = waiting.pop()
        yield node
        for part in ("body", "orelse", "handlers", "finalbody", "cases"):
            waiting += getattr(node, part, ())


def _is_constant(name: str) -> bool:
    return name.isupper() or "_" in name


_READERS: dict[str, Callable[[str], Iterator[tuple[str, str]]]] = {
    ".toml": lambda text: _flatten(tomllib.loads(text)),
    ".json": lambda text: _flatten(json.loads(text)),
    ".yaml": _read_yaml,
    ".yml": _read_yaml,
    ".ini": _read_ini,
    ".cfg": _read_ini,
    ".conf": _read_ini,
    ".py": _read_python,
}
