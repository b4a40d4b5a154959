"""The edits that make an application use the unified file, each tried on its text and read again.

An edit is proposed where a setting names a file that moves; its value keeps the setting's own style. Nothing
is written.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from unified_db.errors import EditError
from unified_db.migration.config import EditConfig
from unified_db.migration.discovery import support_edits
from unified_db.migration.discovery.finds import EditProposal, PathSetting, SaverUse, TreeReading
from unified_db.migration.discovery.libraries import REPLACEMENTS
from unified_db.migration.discovery.literals import line_edit, scope_name
from unified_db.migration.discovery.paths import read_name
from unified_db.migration.discovery.reading import read_texts
from unified_db.migration.discovery.tree import Tree
from unified_db.migration.switch import edit_text

_KEYED = {"dotenv", "toml", "yaml", "json", "ini"}
_CONSTANTS = {"python-constant", "settings-field"}


def propose_edits(
    root: Path, reading: TreeReading, target: Path, sources: Sequence[Path], *, tree: Tree | None = None
) -> tuple[EditProposal, ...]:
    """The entries of `[[edit]]` that move *sources* to *target*.

    Args:
        root: The application's tree.
        reading: What was read of it.
        target: Where the unified file will be, relative to *root* or absolute.
        sources: The files that move, relative to *root* or absolute.
        tree: The texts that *reading* was read from, so that they are not read again.

    Returns:
        Settings that count first, then their twins, imports, requirements and Alembic. An edit that was
        tried and after which the tree reads as it shall is sure; any other is for a person to decide. So
        is one of a place that leads to a file of a split brain.
    """
    return _Proposer(tree or Tree(root), reading, target, sources).propose()


def make_edit(edit: EditProposal, text: str) -> str:
    """*text*, all of a file, as it is after *edit*.

    Raises:
        EditError: The edit does not fit.
    """
    fields = edit.model_dump(exclude={"why", "sure"}, exclude_none=True)
    content = text.encode("utf-8", "surrogateescape")
    after = edit_text(EditConfig.model_validate(fields), content, file=Path(edit.file))
    return after.decode("utf-8", "surrogateescape")


class _Proposer:
    def __init__(self, tree: Tree, reading: TreeReading, target: Path, sources: Sequence[Path]) -> None:
        self._tree = tree
        self._root = root = tree.root
        self._reading = reading
        self._target = Path(os.path.normpath(root / target))
        self._moving = {Path(os.path.normpath(root / s)) for s in sources}
        # Files that the application does not agree with itself on.
        self._at_issue = {s.resolved for d in reading.disagreements for s in d.settings if s.resolved}

    def propose(self) -> tuple[EditProposal, ...]:
        settings = [s for s in self._reading.settings if self._moves(s.resolved) and not s.commented]
        tried = [(s, self._of_setting(s)) for s in settings]
        merged = self._merged(tried)
        after = read_texts(self._tree.with_texts(self._apply(merged.values())), Path(self._reading.cwd))
        proposals = [self._judged(s, merged[_same_line(e)], after) for s, e in tried]
        proposals += self._imports()
        if any(p.kind == "python-import" for p in proposals):
            proposals += support_edits.requirements(self._tree)
        proposals += support_edits.alembic(self._tree)
        return tuple(dict.fromkeys(proposals))

    def _moves(self, resolved: Path | None) -> bool:
        return resolved is not None and Path(os.path.normpath(self._root / resolved)) in self._moving

    def _of_setting(self, setting: PathSetting) -> EditProposal:
        value = self._new_value(setting)
        ways = self._ways(setting, value) if value is not None else ()
        return next((e for e in ways if self._changes(e)), self._by_hand(setting))

    def _merged(
        self, tried: Sequence[tuple[PathSetting, EditProposal]]
    ) -> dict[tuple[str, ...], EditProposal]:
        """The edits, those of one line made into one: each alone would not find the line any more."""
        merged: dict[tuple[str, ...], EditProposal] = {}
        for setting, edit in tried:
            key = _same_line(edit)
            known = merged.get(key)
            value = self._new_value(setting)
            if known is not None and edit.kind == "text" and value is not None and known.new:
                quoted = setting.kind != "environment"
                both = line_edit(known.new, 1, setting.raw, value, quoted=quoted)
                merged[key] = known.model_copy(update={"new": both[1]}) if both else known
            else:
                merged.setdefault(key, edit)
        return merged

    def _new_value(self, setting: PathSetting) -> str | None:
        """What *setting* has to say to name the target, in its own style; None where nothing would do."""
        if setting.base is None or not setting.part:
            return None
        base = Path(os.path.normpath(self._root / setting.base))
        part = setting.part
        if setting.relative_to == "absolute" and part.startswith("/") and part == _path_of(setting.raw):
            new = str(self._target)
        elif not base.is_relative_to(self._root) and not part.startswith("/"):
            new = str(self._target)  # from a home folder no relative path would lead into the tree for long
        else:
            head = "/" if part.startswith("/") else "./" if part.startswith("./") else ""
            new = head + os.path.relpath(self._target, base)
        at = setting.raw.rindex(part)
        return setting.raw[:at] + new + setting.raw[at + len(part) :]

    def _ways(self, setting: PathSetting, value: str) -> Iterator[EditProposal]:
        """Edits that may do it, the plainest first."""
        file, kind = setting.place.file, setting.kind
        why = _reason(setting)
        if kind in _KEYED:
            yield EditProposal(file=file, kind=kind, key=setting.key, value=value, why=why, sure=True)
        if kind in _CONSTANTS:
            yield EditProposal(
                file=file, kind="python-constant", name=setting.key, value=value, why=why, sure=True
            )
        if kind == "python-default":
            yield EditProposal(
                file=file, kind="python-default", name=setting.key, value=value, why=why, sure=True
            )
        text = self._tree.text(file)
        yield from self._literal(setting, value)
        shell = kind == "environment"
        line = setting.place.line
        found = line_edit(text, line, setting.raw, value, quoted=not shell) if text is not None else None
        if found is not None and kind not in _KEYED:
            yield EditProposal(file=file, kind="text", old=found[0], new=found[1], why=why, sure=not shell)

    def _literal(self, setting: PathSetting, value: str) -> Iterator[EditProposal]:
        """An edit of the literal by its value, for those that no constant and no parameter has alone."""
        file = setting.place.file
        module = self._tree.module(file) if file.endswith(".py") else None
        name = scope_name(module, setting.place.line, setting.raw) if module is not None else None
        if name is not None:
            yield EditProposal(
                file=file,
                kind="python-literal",
                name=name or None,
                old=setting.raw,
                new=value,
                why=_reason(setting),
                sure=True,
            )

    def _changes(self, edit: EditProposal) -> bool:
        """True where the edit applies to the file as it is, and changes it."""
        try:
            return make_edit(edit, self._tree.text(edit.file) or "") != self._tree.text(edit.file)
        except EditError:
            return False

    def _by_hand(self, setting: PathSetting) -> EditProposal:
        """An edit that a person has to finish: the line stands there as it is."""
        lines = (self._tree.text(setting.place.file) or "").split("\n")
        line = lines[setting.place.line - 1].strip() if setting.place.line <= len(lines) else setting.raw
        why = f"{setting.place} names {setting.resolved} in a way that is not edited by itself: write `new`"
        return EditProposal(file=setting.place.file, kind="text", old=line, new=line, why=why, sure=False)

    def _apply(self, edits: Iterable[EditProposal]) -> Mapping[str, str]:
        """The files that the edits change, as they are then."""
        overlay: dict[str, str] = {}
        for edit in edits:
            text = overlay.get(edit.file, self._tree.text(edit.file) or "")
            try:
                overlay[edit.file] = make_edit(edit, text)
            except EditError:
                continue  # judged by what is read afterwards
        return overlay

    def _judged(self, setting: PathSetting, edit: EditProposal, after: TreeReading) -> EditProposal:
        """*edit*, sure where the place names the target once all edits are made."""
        if setting.resolved in self._at_issue:
            why = f"it leads to {setting.resolved}, a file of the split brain, and which one counts is open"
            return edit.model_copy(update={"sure": False, "why": why})
        reached = edit.sure and any(
            s.place == setting.place
            and s.key == setting.key
            and s.raw == self._new_value(setting)
            and s.resolved is not None
            and Path(os.path.normpath(self._root / s.resolved)) == self._target
            for s in after.settings
        )
        seen = setting.wins or setting.role != "unknown" or setting.kind == "dotenv"
        return edit.model_copy(update={"sure": reached and seen})

    def _imports(self) -> Iterator[EditProposal]:
        """The saver's import, exchanged in each file that builds one on a file that moves."""
        done: set[tuple[str, str]] = set()
        for saver in self._reading.savers:
            key = (saver.imported.file, saver.name)
            concerned = self._moves(saver.resolved) or saver.resolved is None
            if saver.name in REPLACEMENTS and concerned and key not in done:
                done.add(key)
                yield self._import(saver)

    def _import(self, saver: SaverUse) -> EditProposal:
        new = REPLACEMENTS[saver.name]
        edit = EditProposal(
            file=saver.imported.file,
            kind="python-import",
            old=saver.name,
            new=new,
            why=f"{saver.place} builds the saver; ours keeps a shared file from locking up",
            sure=True,
        )
        if self._changes(edit) and saver.resolved is not None:
            return edit
        why = f"{saver.place} builds {saver.name.rpartition('.')[2]}, but its file or its import is not clear"
        return edit.model_copy(update={"sure": False, "why": why})


def _same_line(edit: EditProposal) -> tuple[str, ...]:
    """The same for edits of kind `text` that are about one line, for any others where they are equal."""
    if edit.kind == "text":
        return edit.file, edit.kind, edit.old or ""
    return edit.file, edit.kind, edit.key or edit.name or "", edit.value or "", edit.old or ""


def _path_of(raw: str) -> str:
    """The path in a text that is a path or a URL."""
    name = read_name(raw)
    return name.path if name is not None else raw


def _reason(setting: PathSetting) -> str:
    if setting.wins:
        return f"it says where {setting.resolved} is: {setting.why}"
    return f"a twin that names {setting.resolved} too: {setting.why}"
