"""Tables that two sources have by one name: another name for one of them, and the edits that say it.

Whether it shall be so is for a person to say; here is only told what it would take.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import libcst as cst

from unified_db.errors import EditError
from unified_db.migration.collisions import VERSION_TABLE
from unified_db.migration.config import MigrationConfig
from unified_db.migration.discovery.finds import DatabaseFind, EditProposal
from unified_db.migration.discovery.literals import scope_around
from unified_db.migration.discovery.modules import Module, dotted_name
from unified_db.migration.discovery.outcome import Rename
from unified_db.migration.discovery.proposals import make_edit
from unified_db.migration.discovery.sources_in_use import SourceChoice
from unified_db.migration.discovery.tree import Tree
from unified_db.migration.edits.names import find_names, is_sql
from unified_db.migration.langgraph import has_own_name

_LANGGRAPHS = {"checkpoints", "store"}
_TABLE_NAME = "__tablename__"
# SQLAlchemy's calls whose first argument is a table, and those whose texts are "table.column".
_TABLES = {"Table"}
_COLUMNS = {"ForeignKey", "ForeignKeyConstraint"}


def propose_renames(
    databases: Sequence[DatabaseFind], moved: Sequence[SourceChoice], tree: Tree, config: MigrationConfig
) -> Iterator[Rename]:
    """A new name for each table that two of *moved* have, with its edits.

    Args:
        databases: What was found in them.
        moved: The sources that move.
        tree: The application's texts.
        config: Says where the application's tree is.
    """
    tables = {d.path: {n.lower(): n for n in d.table_names} for d in databases}
    for one, other in combinations(moved, 2):
        for name in sorted(tables[one.path].keys() & tables[other.path].keys()):
            # LangGraph's own names cannot change: its savers write them.
            giving, keeping = (other, one) if one.kind in _LANGGRAPHS else (one, other)
            if giving.kind in _LANGGRAPHS:
                continue
            own = tables[giving.path][name]
            to = f"{giving.path.stem}_{own}".replace("-", "_")
            bare = Rename(source=giving.path, other=keeping.path, name=own, to=to)
            if name == VERSION_TABLE:
                yield bare
                continue
            beside = frozenset(tables[giving.path].keys() - tables[keeping.path].keys())
            # Two applications may both define the table, and nobody tells which of them is which.
            alone = keeping.kind in _LANGGRAPHS and has_own_name(name)
            yield _with_edits(bare, beside, tree, config, alone=alone)


def _with_edits(
    rename: Rename, beside: frozenset[str], tree: Tree, config: MigrationConfig, *, alone: bool
) -> Rename:
    """*rename* with what says it in the code, and the places that still say the old name then.

    Args:
        rename: Without edits.
        beside: Tables that its source has and the other one does not, in lower case.
        tree: The application's texts.
        config: Says where the application's tree is.
        alone: True where the application's code can only mean this table by the name.
    """
    found: list[EditProposal] = []
    texts: dict[str, str] = {}
    word = re.compile(rf"(?<!\w){re.escape(rename.name)}(?!\w)", re.IGNORECASE)
    for file in (f for f in tree.python_files if word.search(tree.text(f) or "")):
        module = tree.module(file)
        edits = list(_Names(module, rename, word, beside).edits()) if module is not None else []
        for edit in dict.fromkeys(edits):
            try:
                texts[file] = make_edit(edit, texts.get(file, tree.text(file) or ""))
            except EditError:
                continue  # the place is told as one that is left
            found.append(edit)
    edited = {(tree.root / f).resolve(): text.encode("utf-8", "surrogateescape") for f, text in texts.items()}
    left = find_names(config, rename.name, edited=edited)
    # A class may get its table's name from its own: then no text defines it.
    defines = any(e.kind == "python-constant" or e.new == rename.to for e in found)
    return rename.model_copy(
        update={"edits": tuple(found), "left": left, "sure": alone and defines and not left}
    )


@dataclass(frozen=True)
class _Names:
    """The texts of a module that name the table of *rename*."""

    module: Module
    rename: Rename
    word: re.Pattern[str]
    beside: frozenset[str]

    def edits(self) -> Iterator[EditProposal]:
        """An edit for each text that can only be the table's name, or SQL on its database."""
        found = [(node, value, self._new(node, value)) for node, value in self._texts()]
        scopes = [scope_around(self.module, node) for node, _, _ in found]
        unclear = [(s, value) for s, (_, value, new) in zip(scopes, found, strict=True) if new is None]
        for scope, (node, value, new) in zip(scopes, found, strict=True):
            # An edit changes every text of that value in its scope, so all of them have to mean the table.
            mixed = any(value == v and f"{s}.".startswith(f"{scope}.") for s, v in unclear)
            if new is not None and scope and not mixed:
                yield self._edit(scope, node, value, new)

    def _texts(self) -> Iterator[tuple[cst.CSTNode, str]]:
        for node in self.module.nodes:
            if isinstance(node, cst.SimpleString):
                value, parent = node.evaluated_value, self.module.parent(node)
                documents = isinstance(parent, (cst.Expr, cst.ConcatenatedString))
                if isinstance(value, str) and not documents and self.word.search(value):
                    yield node, value

    def _new(self, node: cst.CSTNode, value: str) -> str | None:
        """What the text has to say then; None where it may mean something else."""
        name = self.rename.name.lower()
        if value.lower() == name and self._is_table(node):
            return self.rename.to
        if value.lower().startswith(f"{name}.") and self._is_column(node):
            return self.rename.to + value[len(name) :]
        words = {w.lower() for w in re.findall(r"\w+", value)}
        # SQLite cannot join over two files, so a table of the same file says which one is meant.
        return self.word.sub(self.rename.to, value) if is_sql(value) and words & self.beside else None

    def _is_table(self, node: cst.CSTNode) -> bool:
        if _assigned(self.module, node) == _TABLE_NAME:
            return True
        above = self.module.parent(node)
        if isinstance(above, cst.Arg) and above.keyword is not None:
            return above.keyword.value == "secondary"
        call = self.module.parent(above) if isinstance(above, cst.Arg) else None
        is_first = isinstance(call, cst.Call) and call.args[0] is above
        return is_first and _called(self.module, node) in _TABLES

    def _is_column(self, node: cst.CSTNode) -> bool:
        above = self.module.parent(node)
        keyword = above.keyword.value if isinstance(above, cst.Arg) and above.keyword is not None else ""
        return keyword == "foreign_key" or _called(self.module, node) in _COLUMNS

    def _edit(self, scope: str, node: cst.CSTNode, old: str, new: str) -> EditProposal:
        file, place = self.module.file, f"{self.module.file}:{self.module.line(node)}"
        why = f"{place} names the table {self.rename.name} of {self.rename.source}"
        if _assigned(self.module, node) == _TABLE_NAME:
            return EditProposal(file=file, kind="python-constant", name=scope, value=new, why=why, sure=False)
        return EditProposal(
            file=file, kind="python-literal", name=scope, old=old, new=new, why=why, sure=False
        )


def _assigned(module: Module, node: cst.CSTNode) -> str:
    """The name that *node* itself is assigned to; empty where it is part of something else."""
    above = module.parent(node)
    if isinstance(above, cst.Assign) and len(above.targets) == 1:
        return dotted_name(above.targets[0].target)
    return dotted_name(above.target) if isinstance(above, cst.AnnAssign) else ""


def _called(module: Module, node: cst.CSTNode) -> str:
    """The last part of the name of the innermost call that *node* is in; empty outside of any."""
    call = next((a for a in module.above(node) if isinstance(a, cst.Call)), None)
    func = call.func if call is not None else None
    return func.attr.value if isinstance(func, cst.Attribute) else dotted_name(func) if func else ""
