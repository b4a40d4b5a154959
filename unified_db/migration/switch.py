"""The edits of the switch: what each file would become, as a review, as a patch, and made.

:func:`edit_text` is pure. :func:`plan_edits` reads and writes nothing; the cut-over takes what
it returns and writes it under its journal. :func:`apply_edits` writes at once, for staged copies.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from unified_db import files
from unified_db.errors import EditError
from unified_db.migration.config import EditConfig, MigrationConfig
from unified_db.migration.edits import (
    diffs,
    documents,
    dotenv,
    masking,
    patches,
    plain,
    python_imports,
    python_literals,
    python_values,
    texts,
    unused,
)
from unified_db.migration.edits.reach import credential_keys
from unified_db.migration.edits.survey import find_mentions, walk_tree
from unified_db.migration.records import EditPreview
from unified_db.migration.runs import RunFolder

__all__ = [
    "PlannedEdit",
    "apply_edits",
    "credential_keys",
    "edit_text",
    "edited_contents",
    "find_mentions",
    "find_uncommitted",
    "install_requirement",
    "plan_edits",
    "preview_edits",
    "write_patch",
]

log = logging.getLogger(__name__)

Phase = Literal["switch", "archive"]
_PHASES: tuple[Phase, ...] = ("switch", "archive")


@dataclass(frozen=True)
class PlannedEdit:
    """One file with all edits of one phase made, in memory.

    Attributes:
        file: Absolute; what is written. A link was followed, unless it leads out of a staged copy.
        name: The file relative to the tree's root, as a person knows it.
        before: The bytes that are there now; write only while they still are.
        after: The bytes to write; equal to *before* where everything is as it shall be.
        kinds: The kinds of its edits, each once.
        summaries: One line for a person for each edit, with no secret in it.
    """

    file: Path
    name: str
    when: Phase
    before: bytes = field(repr=False)
    after: bytes = field(repr=False)
    kinds: tuple[str, ...]
    summaries: tuple[str, ...]

    @property
    def changes(self) -> bool:
        """False where the file already is as the edits want it."""
        return self.before != self.after

    @property
    def summary(self) -> str:
        """All of it in one line."""
        words = "; ".join(self.summaries)
        return words if self.changes else f"already so: {words}"


def edit_text(edit: EditConfig, content: bytes, *, file: Path) -> bytes:
    """*content* as it is after *edit*; the same bytes where the edit has been made already.

    Args:
        edit: What to change.
        content: All of the file. Byte order mark, line endings, comments, quotes and order stay.
        file: For messages, and for what its suffix says of the format.

    Raises:
        EditError: The edit does not apply; the message says what was looked for and found.
    """
    decoded = texts.decode(content, file=file)
    return decoded.encode(_edit(edit, decoded.text, file))


def _edit(edit: EditConfig, text: str, file: Path) -> str:
    # The configuration has refused an edit without what its kind needs, so "" stands for nothing here.
    key, name, value = edit.key or "", edit.name or "", edit.value or ""
    old, new = edit.old or "", edit.new or ""
    match edit.kind:
        case "dotenv":
            return dotenv.set_key(text, key, value, file=file)
        case "python-constant":
            return python_values.set_constant(text, name, value, file=file)
        case "python-default":
            return python_values.set_default(text, name, value, file=file)
        case "python-import":
            return python_imports.exchange_import(text, old, new, file=file)
        case "python-literal":
            return python_literals.exchange_literal(text, old, new, file=file, within=name)
        case "toml" | "yaml" | "json" | "ini":
            return documents.set_value(edit.kind, text, key, value, file=file)
        case "requirement":
            return plain.add_requirement(text, edit.value, file=file)
        case "text":
            return plain.replace_text(text, old, new, file=file)


def plan_edits(
    config: MigrationConfig, when: Phase | str = "switch", *, root: Path | None = None
) -> tuple[PlannedEdit, ...]:
    """Every file that the edits of one phase are about, with what it is and what it would be.

    Args:
        config: The configuration with its edits.
        when: "switch" or "archive".
        root: The tree; without it the application's own.

    Raises:
        EditError: An edit does not apply, or its file is missing or outside the tree.
    """
    return _plan(config, when, root=root or config.root, known={})


def apply_edits(config: MigrationConfig, root: Path, when: Phase | str = "switch") -> tuple[Path, ...]:
    """Make all edits of one phase in the tree at *root*; the files that changed.

    Every new content is known before the first is written, and each file is replaced whole.
    Several files are not one act: the cut-over writes under its journal instead.

    Raises:
        EditError: As in :func:`plan_edits`; nothing was written then.
    """
    changed = [e for e in _plan(config, when, root=root, known={}) if e.changes]
    for each in changed:
        if each.file.is_symlink():
            each.file.unlink()  # only in a copy: the link leads to a file of the real application
        files.write_durably(each.file, each.after)
    return tuple(e.file for e in changed)


def preview_edits(config: MigrationConfig, when: Phase | str | None = None) -> tuple[EditPreview, ...]:
    """What the edits would do, for people to read: one preview per file and phase.

    Args:
        config: The configuration with its edits.
        when: One phase; without it both, the archive's on top of the switch's.

    Raises:
        EditError: As in :func:`plan_edits`.
    """
    known: dict[Path, bytes] = {}
    planned = [e for phase in _PHASES for e in _plan(config, phase, root=config.root, known=known)]
    return tuple(_preview(e) for e in planned if when in {None, e.when})


def _preview(planned: PlannedEdit) -> EditPreview:
    return EditPreview(
        file=planned.file,
        kind=", ".join(planned.kinds),
        when=planned.when,
        summary=planned.summary,
        diff=diffs.render_masked(planned.name, planned.before, planned.after),
        before_sha256=files.digest_bytes(planned.before),
    )


def edited_contents(config: MigrationConfig) -> dict[Path, bytes]:
    """What every edited file is once all edits of both phases are made, by its absolute path.

    Raises:
        EditError: As in :func:`plan_edits`.
    """
    known: dict[Path, bytes] = {}
    for phase in _PHASES:
        _plan(config, phase, root=config.root, known=known)
    return known


def write_patch(config: MigrationConfig, run: RunFolder) -> Path:
    """Write the switch as a patch for `git apply`; its path.

    It is relative to the top of the git repository that holds the application, else to the
    application's root. What git does not keep (an ignored `.env`) and what holds secrets is
    left out and named in the patch's head.

    Raises:
        EditError: As in :func:`plan_edits`.
    """
    changes = [(e.file, e.before, e.after) for e in plan_edits(config, "switch") if e.changes]
    content = patches.render_patch(changes, root=config.root, patch=run.patch)
    files.write_durably(run.patch, content, mode=0o600)
    log.info("the switch as a patch: %s", run.patch)
    return run.patch


def find_uncommitted(config: MigrationConfig, *, archived: bool = False) -> tuple[str, ...]:
    """The files whose last commit still has the old text, as the application's git repository names them.

    With *archived* the edits count that wait for the archive, too. Empty where there is no repository.
    What git does not track is none of its business.
    """
    repository = patches.find_repository(config.root)
    if repository is None:
        return ()
    edits: dict[Path, list[EditConfig]] = {}
    for each in config.edit:
        if each.when == "switch" or archived:
            file = _locate(each.file, root=config.root, is_copy=False)
            edits.setdefault(file, []).append(each)
    found = (f for f, wanted in edits.items() if not _is_committed(f, wanted, repository))
    return tuple(sorted(f.relative_to(repository).as_posix() for f in found))


def _is_committed(file: Path, edits: Sequence[EditConfig], repository: Path) -> bool:
    committed = patches.read_head(repository, file)
    if committed is None:
        return True
    after = committed
    try:
        for each in edits:
            after = edit_text(each, after, file=file)
    except EditError:
        # The file has become something else since; what is in use now is as it should be.
        return file.exists() and file.read_bytes() == committed
    return after == committed


def install_requirement() -> str:
    """What pip installs this unify-db from again, for hints: a wheel, a folder or a repository.

    Never its bare name, which on a public index may be a stranger's: where it is not known whence this
    one came, a person has to say.
    """
    try:
        requirement = plain.own_requirement(Path("pip"))
    except EditError:
        return "PATH-OR-URL-OF-ITS-WHEEL"
    return masking.mask_line(requirement) if " @ " in requirement else "PATH-OR-URL-OF-ITS-WHEEL"


def _plan(
    config: MigrationConfig, when: str, *, root: Path, known: dict[Path, bytes]
) -> tuple[PlannedEdit, ...]:
    """As :func:`plan_edits`; *known* holds contents that stand in for the disk's, and learns the new ones."""
    planned: dict[Path, PlannedEdit] = {}
    for edit in config.edit:
        if edit.when != when:
            continue
        file = _locate(edit.file, root=root, is_copy=root.resolve() != config.root)
        if file not in planned:
            content = known[file] if file in known else _read(file)
            planned[file] = PlannedEdit(file, str(edit.file), edit.when, content, content, (), ())
        planned[file] = _add(planned[file], edit)
    planned = {file: _tidy(each, config) for file, each in planned.items()}
    known.update({p.file: p.after for p in planned.values()})
    return tuple(planned.values())


def _add(planned: PlannedEdit, edit: EditConfig) -> PlannedEdit:
    return PlannedEdit(
        file=planned.file,
        name=planned.name,
        when=planned.when,
        before=planned.before,
        after=edit_text(edit, planned.after, file=Path(planned.name)),
        kinds=tuple(dict.fromkeys((*planned.kinds, edit.kind))),
        summaries=(*planned.summaries, _summarise(edit)),
    )


def _tidy(planned: PlannedEdit, config: MigrationConfig) -> PlannedEdit:
    """*planned* without the imports and constants that its edits leave unused in a Python file."""
    name = Path(planned.name)
    if name.suffix != ".py" or not planned.changes:
        return planned
    module = name.parent.name if name.stem == "__init__" else name.stem
    try:
        before, after = (texts.decode(c, file=name) for c in (planned.before, planned.after))
        text, dropped = unused.drop_unused(
            before.text,
            after.text,
            file=name,
            used_elsewhere=lambda n: _is_used_elsewhere(config, config.root / name, module, n),
        )
    except EditError:
        return planned  # no Python that could be read before either, and still what its edits made of it
    if not dropped:
        return planned
    return replace(
        planned,
        after=after.encode(text),
        summaries=(*planned.summaries, f"removes what that leaves unused: {', '.join(dropped)}"),
    )


def _is_used_elsewhere(config: MigrationConfig, file: Path, module: str, name: str) -> bool:
    # The application's own tree, whatever copy is edited: a copy may lack files.
    others = (p for p in walk_tree(config) if p.suffix in {".py", ".pyi"} and p != file)
    return any(unused.is_used_by(p.read_text("utf-8", "replace"), module, name) for p in others)


def _locate(name: Path, *, root: Path, is_copy: bool) -> Path:
    """Where the file to write is.

    Raises:
        EditError: Outside the tree, or in a copy behind a link that leads back to the original.
    """
    path = root / name
    folder = path.parent.resolve()
    if name.is_absolute() or ".." in name.parts or (is_copy and not folder.is_relative_to(root.resolve())):
        raise EditError(
            f"the edit of {name} leads out of the application's tree",
            hint="Nothing was changed. Set app.root to a folder that holds all files that are edited, "
            "and name each relative to it.",
        )
    target = path.resolve()
    # The real application's links are followed. A copy must never write through one to the original.
    return target if not is_copy or target.is_relative_to(root.resolve()) else folder / path.name


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise EditError(
            f"{file} cannot be edited: {error.strerror}",
            hint="Nothing was changed. Correct `file` of this edit in unify.toml, or remove the edit.",
        ) from error


def _summarise(edit: EditConfig) -> str:
    """The edit in a line for people, without secrets."""
    value = masking.mask_value(edit.key or edit.name or "", edit.value or "")
    match edit.kind:
        case "dotenv" | "toml" | "yaml" | "json" | "ini":
            return f"sets {edit.key} to {value}"
        case "python-constant":
            return f"sets {edit.name} to {value}"
        case "python-default":
            return f"makes {value} the default of {edit.name}"
        case "python-import":
            return f"imports {edit.new} instead of {edit.old}"
        case "python-literal":
            place = f" in {edit.name}" if edit.name else ""
            return f"sets the text {_quote(edit.old)}{place} to {_quote(edit.new)}"
        case "requirement":
            return f"requires {masking.mask_line(edit.value or 'unify-db')}"
        case "text":
            return f"replaces {_quote(edit.old)} by {_quote(edit.new)}"


def _quote(text: str | None) -> str:
    flat = " ".join((text or "").split())
    return repr(masking.mask_line(flat if len(flat) <= 60 else flat[:57] + "..."))
