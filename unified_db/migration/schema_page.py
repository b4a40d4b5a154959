"""unified-schema.md: every table, index, trigger and view of the unified file and where it comes from.

Pure. Definitions and names, never a row.
"""

from __future__ import annotations

import re
from collections import defaultdict

from unified_db.migration import markdown, tables, wording
from unified_db.migration.records import MigrationPlan, SchemaObject, SourceFacts


def schema_markdown(plan: MigrationPlan) -> str:
    """unified-schema.md: every table, index, trigger and view of the unified file and where it comes from."""
    names = {t.name for s in plan.sources for t in s.tables}
    contents = [_schema_contents(s) for s in plan.sources]
    size = f"{wording.count(len(plan.sources), 'file')} with {wording.count(len(names), 'table')}"
    moment = wording.format_moment(plan.created_at)
    # Nothing is cut here: the file lies in the run's folder and is no artifact.
    parts = [
        f"# Schema of {plan.target.name}",
        f"{size}; planned {moment} in run {plan.run}. Renames: {_renames(plan)}.",
        "## Contents\n\n" + "\n".join(contents),
        markdown.titled(tables.collisions(plan)),
        markdown.titled(tables.layout(plan)),
        *(_schema_source(s) for s in plan.sources),
    ]
    return "\n\n".join(p for p in parts if p) + "\n"


def _renames(plan: MigrationPlan) -> str:
    words = [f"{r.object} of {r.source} to {r.to}" for r in plan.layout.renames]
    return markdown.plain("; ".join(words)) if words else "none"


def _schema_contents(source: SourceFacts) -> str:
    links = (
        f"  - [{markdown.plain(item.name)}](#{_anchor(source, item)})"
        for item in _objects(source, "table", "view")
    )
    return "\n".join([f"- {markdown.code(source.label)} ({source.kind})", *links])


def _anchor(source: SourceFacts, item: SchemaObject) -> str:
    return re.sub(r"[^a-z0-9]+", "-", f"{item.kind}-{item.name}-{source.label}".lower()).strip("-")


def _schema_source(source: SourceFacts) -> str:
    dependents: dict[str, list[SchemaObject]] = defaultdict(list)
    for item in source.objects:
        if item.kind in {"index", "trigger"}:
            dependents[item.table].append(item)
    facts = {t.name: t for t in source.tables}
    header = (
        f"{source.kind}, {source.encoding}, pages of {source.page_size} bytes, "
        f"journal mode {source.journal_mode}, user_version {source.user_version}, "
        f"application_id {source.application_id}"
    )
    parts = [f"## From {markdown.code(source.label)}", header]
    for table in _objects(source, "table"):
        fact = facts.get(table.name)
        rows = f"{wording.count(fact.rows, 'row')}" if fact else "kept by SQLite itself"
        counter = f"; AUTOINCREMENT counter at {fact.sequence}" if fact and fact.sequence is not None else ""
        parts += [_schema_heading(source, table), f"{rows}{counter}", _definition(table)]
        parts += [_dependent(d) for d in dependents.pop(table.name, [])]
    for view in _objects(source, "view"):
        parts += [_schema_heading(source, view), "view", _definition(view)]
        parts += [_dependent(d) for d in dependents.pop(view.name, [])]
    return "\n\n".join(parts)


def _schema_heading(source: SourceFacts, item: SchemaObject) -> str:
    return f'<a id="{_anchor(source, item)}"></a>\n\n### {markdown.code(item.name)}'


def _dependent(item: SchemaObject) -> str:
    if item.sql is None:
        return f"{item.kind} {markdown.code(item.name)}: made by SQLite for a PRIMARY KEY or UNIQUE"
    return f"{item.kind} {markdown.code(item.name)}\n\n{_definition(item)}"


def _definition(item: SchemaObject) -> str:
    return markdown.fence(f"{item.sql};", "sql") if item.sql else "no definition of its own"


def _objects(source: SourceFacts, *kinds: str) -> list[SchemaObject]:
    return [o for o in source.objects if o.kind in kinds]
