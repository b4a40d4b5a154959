"""TOML, YAML, JSON and INI: one value changes, every other character stays."""

from __future__ import annotations

import configparser
import copy
import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from unified_db.errors import EditError
from unified_db.migration.edits.documents import set_value

TOML = """\
# c
title = 'x.db'   # keep
[db]
path = "x.db"  # inline
size = 1
on = true
a.b = "x.db"
long = \"\"\"
x
\"\"\"
"q.r" = "x.db"
old = { path = "x.db" }
[[server]]
url = 'sqlite:///x.db'
"""
JSON = """\
{
  "a": {"path": "x.db", "x.db": 1},
\t"l": ["x.db", "x\\u0041"],
  "on": true, "no": null, "é": "é"
}
"""
YAML = """\
# c
services:
  app:
    environment:
      - DATABASE_URL=sqlite:///x.db   # keep
      - B=x
    path: x.db # c
    single: 'x.db'
    double: "x.db"
    size: 1
    empty:
    alone: &b x.db
    anchor: &a x.db
    alias: *a
    tag: !env X
    block: |
      foo
    flow: {k: x.db, l: [x.db]}
---
other: 1
"""
INI = """\
; c
[alembic]
script_location = migrations
sqlalchemy.url = sqlite:///x.db
Multi: a
   b

   c
# z
[a.b]
x=1
[DEFAULT]
d = 1
"""


def _set(kind: str, text: str, key: str, value: str) -> str:
    return set_value(kind, text, key, value, file=Path(f"settings.{kind}"))


CASES = [
    ("toml", TOML, "title", "new.db", "title = 'x.db'   #", "title = 'new.db'   #"),
    ("toml", TOML, "title", "it's", "title = 'x.db'", 'title = "it\'s"'),
    ("toml", TOML, "db.path", "new.db", 'path = "x.db"  #', 'path = "new.db"  #'),
    ("toml", TOML, "db.size", "2", "size = 1", "size = 2"),
    ("toml", TOML, "db.on", "false", "on = true", "on = false"),
    ("toml", TOML, "db.a.b", "C:\\new", 'a.b = "x.db"', 'a.b = "C:\\\\new"'),
    ("toml", TOML, "db.long", "y", 'long = """\nx\n"""', 'long = "y"'),
    ("toml", TOML, 'db."q.r"', "y", '"q.r" = "x.db"', '"q.r" = "y"'),
    ("toml", TOML, "db.old.path", "y", '{ path = "x.db" }', '{ path = "y" }'),
    ("toml", TOML, "server.0.url", "y", "url = 'sqlite:///x.db'", "url = 'y'"),
    ("json", JSON, "a.path", "new.db", '"path": "x.db"', '"path": "new.db"'),
    ("json", JSON, "l.0", "ü", '["x.db"', '["ü"'),
    ("json", JSON, "l.1", "y", '"x\\u0041"', '"y"'),
    ("json", JSON, "on", "false", "true", "false"),
    ("json", JSON, "no", "y", "null", '"y"'),
    ("json", JSON, 'a."x.db"', "2", '"x.db": 1', '"x.db": 2'),
    ("yaml", YAML, "services.app.environment.0", "D=y", "DATABASE_URL=sqlite:///x.db ", "D=y "),
    ("yaml", YAML, "services.app.path", "new: x", "path: x.db", "path: 'new: x'"),
    ("yaml", YAML, "services.app.path", "8080", "path: x.db", "path: '8080'"),
    ("yaml", YAML, "services.app.single", "it's", "'x.db'", "'it''s'"),
    ("yaml", YAML, "services.app.double", 'ü"', '"x.db"', '"ü\\""'),
    ("yaml", YAML, "services.app.size", "2", "size: 1", "size: 2"),
    ("yaml", YAML, "services.app.empty", "y", "empty:", "empty: y"),
    ("yaml", YAML, "services.app.alone", "y", "&b x.db", "&b y"),
    ("yaml", YAML, "services.app.tag", "Y", "!env X", "!env Y"),
    ("yaml", YAML, "services.app.flow.l.0", "a, b", "l: [x.db]", "l: ['a, b']"),
    ("yaml", YAML, "other", "2", "other: 1", "other: 2"),
    ("ini", INI, "alembic.sqlalchemy.url", "sqlite:///%(here)s/y", "sqlite:///x.db", "sqlite:///%(here)s/y"),
    ("ini", INI, "alembic.multi", "y", "Multi: a\n   b\n\n   c\n", "Multi: y\n"),
    ("ini", INI, "a.b.x", "2", "x=1", "x=2"),
    ("ini", INI, "DEFAULT.d", "2", "d = 1", "d = 2"),
]


@pytest.mark.parametrize("newline", ["\n", "\r\n"], ids=["unix", "windows"])
@pytest.mark.parametrize(
    ("kind", "text", "key", "value", "old", "new"), CASES, ids=[f"{c[0]}-{c[2]}-{c[3]}" for c in CASES]
)
def test_one_value_changes_in_place(
    kind: str, text: str, key: str, value: str, old: str, new: str, newline: str
) -> None:
    text, old, new = (part.replace("\n", newline) for part in (text, old, new))
    after = _set(kind, text, key, value)
    assert after == text.replace(old, new, 1)
    assert _set(kind, after, key, value) == after


@pytest.mark.parametrize(
    ("kind", "text", "key", "value", "found"),
    [
        pytest.param("toml", TOML, "db.pth", "y", "path in db", id="toml-missing-names-similar-ones"),
        pytest.param("toml", TOML, "db.size", "y", "int", id="toml-a-text-for-a-number"),
        pytest.param("toml", TOML, "server", "y", "a table or a list", id="toml-a-list"),
        pytest.param("toml", "a = \n", "a", "y", "cannot be read", id="toml-broken"),
        pytest.param("json", JSON, "a.c", "y", "in a", id="json-missing"),
        pytest.param("json", "{// c\n}", "a", "y", "cannot be read", id="json-with-comments"),
        pytest.param("json", "3", "", "y", "a table or a list", id="json-without-a-key"),
        pytest.param("yaml", YAML, "services.app.alias", "y", "alias", id="yaml-alias"),
        pytest.param("yaml", YAML, "services.app.anchor", "y", "alias", id="yaml-anchor-used-elsewhere"),
        pytest.param("yaml", YAML, "services.app.size", "y", "another type", id="yaml-a-text-for-a-number"),
        pytest.param("yaml", YAML, "services.app.block", "y", "block of text", id="yaml-block"),
        pytest.param("yaml", YAML, "service.app", "y", "services", id="yaml-missing"),
        pytest.param("yaml", "a: [", "a", "y", "cannot be read on line", id="yaml-broken"),
        pytest.param("ini", INI, "alembic.url", "y", "sqlalchemy.url", id="ini-missing"),
        pytest.param("ini", INI, "a.b.x", "y\nz", "none on one line", id="ini-two-lines"),
        pytest.param("ini", "x=1\n", "a.x", "y", "cannot be read", id="ini-broken"),
    ],
)
def test_what_cannot_be_set_is_refused(kind: str, text: str, key: str, value: str, found: str) -> None:
    with pytest.raises(EditError) as caught:
        _set(kind, text, key, value)
    assert found in caught.value.message
    assert f"settings.{kind}" in caught.value.message


_VALUES = st.text(st.characters(codec="utf-8", exclude_characters="\0"))
_KEYS = st.sampled_from(["a", "b", "c d", "e.f"])
_SCALARS = st.one_of(st.sampled_from(["x.db", "", "1"]), st.integers(), st.booleans())
_DOCUMENTS = st.dictionaries(
    _KEYS, st.one_of(_SCALARS, st.lists(_SCALARS), st.dictionaries(_KEYS, _SCALARS)), max_size=4
)


@settings(max_examples=60, deadline=None)
@given(document=_DOCUMENTS, value=_VALUES, indent=st.sampled_from([None, 2]))
def test_json_says_what_was_asked_whatever_it_holds(
    document: dict[str, Any], value: str, indent: int | None
) -> None:
    document = {**document, "deep": {"path": "x.db"}}
    after = _set("json", json.dumps(document, indent=indent), "deep.path", value)
    assert json.loads(after) == _changed(document, value)


@settings(max_examples=60, deadline=None)
@given(document=_DOCUMENTS, value=_VALUES)
def test_yaml_says_what_was_asked_whatever_it_holds(document: dict[str, Any], value: str) -> None:
    document = {**document, "deep": {"path": "x.db"}}
    after = _set("yaml", yaml.safe_dump(document), "deep.path", value)
    assert yaml.safe_load(after) == _changed(document, value)


@settings(max_examples=60, deadline=None)
@given(value=_VALUES, quote=st.sampled_from(['"', "'", '"""', "'''"]))
def test_toml_says_what_was_asked_whatever_it_is(value: str, quote: str) -> None:
    after = _set("toml", f'a = "x.db"\n[deep]\npath = {quote}x.db{quote} # "x.db"\n', "deep.path", value)
    assert tomllib.loads(after) == {"a": "x.db", "deep": {"path": value}}
    assert after.endswith(' # "x.db"\n')


@given(value=st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1))
def test_ini_says_what_was_asked_whatever_it_is(value: str) -> None:
    after = _set("ini", "[a]\npath = x.db\n[b]\npath = x.db\n", "b.path", value)
    parser = configparser.RawConfigParser()
    parser.read_string(after)
    assert (parser["a"]["path"], parser["b"]["path"]) == ("x.db", value)


def _changed(document: dict[str, Any], value: str) -> dict[str, Any]:
    changed = copy.deepcopy(document)
    changed["deep"]["path"] = value
    return changed
