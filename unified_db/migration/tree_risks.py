"""Risks that stand in the files around an application's code: containers, units, scripts, git, Alembic.

Read line by line, after the configured edits; no value of a setting is kept.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from unified_db.migration.config import MigrationConfig
from unified_db.migration.edits import masking, patches
from unified_db.migration.edits.survey import Mention, read_lines, read_mentions, walk_tree
from unified_db.migration.records import Risk

_CONTAINER = re.compile(r"(?:docker-)?compose.*\.ya?ml|(?:.*\.)?(?:Dockerfile|Containerfile)(?:\..*)?", re.I)
_UNIT = re.compile(r".*\.(?:service|timer|path|socket|mount)(?:\.d)?", re.I)
_SCRIPT = re.compile(r".*\.(?:sh|bash|zsh|fish|ps1|bat|mk)|Makefile|justfile|Procfile|crontab|.*\.cron", re.I)
_NOTEBOOK = re.compile(r".*\.ipynb", re.I)
_DOCUMENT = re.compile(r".*\.(?:md|rst|txt|adoc)|README|LICENSE", re.I)
_BACKUP_NAME = re.compile(r"backup|back_up|snapshot|dump|archiv", re.I)
_COPIES = re.compile(
    r"(?:^|[\s;&|(`@])(?:cp|rsync|scp|tar|zip|rclone|restic|borg)\s"
    r"|shutil\.(?:copy|make_archive)|copyfile\(|copy2\("
)
_ALEMBIC = re.compile(r"\bcontext\.configure\s*\(")

# Kind of file: what its mention of an old path leads to, and what to do.
_SPOKEN: dict[str, tuple[str, str]] = {
    "containers": (
        "Container files name an old path. A container that mounts or opens it finds a fence there.",
        (
            "Mount the folder that the unified file is in, not the file: its WAL lies beside it. "
            "Edit these lines with the switch."
        ),
    ),
    "units": (
        "systemd units name an old path. They go on in the fence that is there after the switch, and fail.",
        "Edit them with the switch, and run `systemctl daemon-reload`.",
    ),
    "scripts": (
        'Scripts name an old path. After the switch they fail with "file is not a database".',
        'Edit them, with when = "archive" where they are still wanted until then.',
    ),
    "notebooks": (
        'Notebooks name an old path. After the switch they fail with "file is not a database".',
        "Change them by hand, or with an [[edit]] of kind text.",
    ),
    "code": (
        "Code or settings still name an old path after all edits.",
        (
            "Where one of them is used by the application, add an [[edit]]; the rehearsal closes the gate "
            "if a staged process opens an old file."
        ),
    ),
    "documents": ("Documents name an old path.", "They are listed after the move; nothing reads them."),
}


def find_tree_risks(
    config: MigrationConfig, paths: Sequence[str], edited: Mapping[Path, bytes]
) -> Iterator[Risk]:
    """What the tree around the code makes risky.

    Args:
        config: Says where the tree is and what is edited.
        paths: The sources, by their paths.
        edited: What edited files are after all edits, by their absolute paths.
    """
    yield from _of_alembic(config, edited)
    yield from _of_environment(config)
    yield from _of_deployment(config, edited)
    yield from _of_git(config)
    yield from _of_copies(config, paths)
    yield from _of_mentions(config, paths, edited)


# ---- what still names an old path ----------------------------------------------------------------


def _of_mentions(
    config: MigrationConfig, paths: Sequence[str], edited: Mapping[Path, bytes]
) -> Iterator[Risk]:
    groups: dict[str, list[str]] = {kind: [] for kind in _SPOKEN}
    for mention in read_mentions(config, paths, edited=edited):
        if not _is_ignored(mention):
            groups[_kind_of(mention.file)].append(str(mention))
    for kind, places in groups.items():
        sentence, remedy = _SPOKEN[kind]
        if places:
            yield Risk(name=f"old-path-in-{kind}", sentence=sentence, where=tuple(places), remedy=remedy)


def _kind_of(file: str) -> str:
    path = PurePosixPath(file)
    kinds = {"containers": _CONTAINER, "units": _UNIT, "scripts": _SCRIPT, "notebooks": _NOTEBOOK}
    kinds["documents"] = _DOCUMENT
    return next((kind for kind, names in kinds.items() if names.fullmatch(path.name)), "code")


def _is_ignored(mention: Mention) -> bool:
    """True for lists of what is left out (git, Docker), which no process opens."""
    return PurePosixPath(mention.file).name in {".gitignore", ".dockerignore", ".gitattributes"}


def _of_copies(config: MigrationConfig, paths: Sequence[str]) -> Iterator[Risk]:
    """Scripts that copy a database as a file: a copy of one in WAL mode lacks what is in the WAL."""
    naming = {m.file for m in read_mentions(config, paths)}
    places: list[str] = []
    for name in sorted(naming):
        kind = _kind_of(name)
        if kind in {"scripts", "units"} or (kind == "code" and _BACKUP_NAME.search(name)):
            lines = enumerate(read_lines(config.root / name), 1)
            places += [f"{name}:{n}" for n, line in lines if _copies(line)]
    if places:
        yield Risk(
            name="copied-as-a-file",
            sentence="A script copies a database as a file. The unified file is in WAL mode, and what is in "
            "its WAL is not in such a copy: the newest rows are missing, and nothing says so.",
            where=tuple(places),
            remedy="Copy with `unify-db backup FILE --into DIR`, or SQLite's `.backup`.",
        )


def _copies(line: str) -> bool:
    return not line.lstrip().startswith("#") and bool(_COPIES.search(line))


# ---- Alembic -------------------------------------------------------------------------------------


def _of_alembic(config: MigrationConfig, edited: Mapping[Path, bytes]) -> Iterator[Risk]:
    for file in walk_tree(config):
        if file.name != "env.py":
            continue
        lines = read_lines(file, edited)
        found = [n for n, line in enumerate(lines, 1) if _ALEMBIC.search(line)]
        if found:
            yield _judge_alembic(f"{config.label(file)}:{found[0]}", "\n".join(lines))


def _judge_alembic(place: str, text: str) -> Risk:
    handled = "unified_db.runtime.alembic" in text and "include_object" in text
    own = "include_object" in text and not handled
    remedy = "Its env.py leaves them alone after the edits."
    if own:
        remedy = (
            "It has an include_object of its own: join it with the one of unified_db.runtime.alembic "
            "by `and`."
        )
    elif not handled:
        remedy = (
            "Edit it: `from unified_db.runtime.alembic import include_object`, and "
            "`include_object=include_object` in context.configure."
        )
    return Risk(
        name="alembic",
        sentence="After the move `alembic revision --autogenerate` finds LangGraph's tables, which no model "
        "describes, and proposes to drop them.",
        where=(place,),
        remedy=remedy,
        handled=handled,
    )


# ---- dotenv files, git and the environment -------------------------------------------------------


def _of_git(config: MigrationConfig) -> Iterator[Risk]:
    dotenvs = dict.fromkeys(
        config.resolve(e.file) for e in config.edit if e.kind == "dotenv" and masking.is_dotenv(e.file.name)
    )
    if patches.find_repository(config.root) is None:
        return
    own = [f for f in dotenvs if not _is_template(f)]
    tracked = [config.label(f) for f in own if patches.is_tracked(f)]
    untracked = [config.label(f) for f in own if not patches.is_tracked(f)]
    if tracked:
        yield Risk(
            name="dotenv-in-git",
            sentence="A dotenv file is kept in git, with whatever it holds. A deploy from git puts the old "
            "path back until the switch is committed.",
            where=tuple(tracked),
            remedy="Commit switch.patch with the switch; better, take the file out of git.",
        )
    if untracked:
        yield Risk(
            name="dotenv-not-in-git",
            sentence="A dotenv file is edited that git does not keep, so switch.patch leaves it out.",
            where=tuple(untracked),
            remedy="Change it by hand wherever else the application is deployed.",
        )


def _is_template(file: Path) -> bool:
    return file.name.endswith(("example", "sample", "template", "dist", "tmpl"))


def _of_environment(config: MigrationConfig) -> Iterator[Risk]:
    """A variable goes before the dotenv file for nearly everyone who reads both."""
    wanted = {e.key: e.value for e in config.edit if e.kind == "dotenv" and e.key}
    set_to = {**os.environ, **config.app.env}
    keys = sorted(k for k, value in wanted.items() if k in set_to and set_to[k] != value)
    if keys:
        yield Risk(
            name="environment-wins",
            sentence=f"The environment sets {', '.join(keys)}, which goes before the dotenv file that is "
            "edited: the application would go on with the old path.",
            where=tuple(f"environment: {key}" for key in keys),
            remedy="Take it out of the environment and of [app] env, or set it to the unified file there.",
        )


def _of_deployment(config: MigrationConfig, edited: Mapping[Path, bytes]) -> Iterator[Risk]:
    keys = sorted({re.escape(e.key) for e in config.edit if e.kind == "dotenv" and e.key})
    pattern = re.compile(rf"(?<!\w)(?:{'|'.join(keys)})\s*[=:]")
    places = [
        f"{config.label(file)}:{n}"
        for file in (walk_tree(config) if keys else ())
        if _kind_of(file.name) in {"containers", "units"} and file.resolve() not in edited
        for n, line in enumerate(read_lines(file), 1)
        if pattern.search(line)
    ]
    if places:
        yield Risk(
            name="deployment-sets-the-path",
            sentence="A container file or a systemd unit sets a variable that the edits change in a dotenv "
            "file, and goes before it.",
            where=tuple(sorted(places)),
            remedy="Change it there too, with an [[edit]] of kind yaml, ini or text.",
        )
