"""The switch as a patch for `git apply`, from what git itself says of each file.

Applications deploy from git, so the switch must become a commit; but a patch travels, so nothing
goes into it that git does not keep or that must not be read.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from unified_db.migration.edits import diffs, masking

_HEAD = """\
# The switch to the unified file, to be committed to the application's repository:
#   cd {top} && git apply {options}{patch}
"""
_ZERO_CONTEXT = "# --unidiff-zero is needed, since some parts come without the lines around them.\n"


@dataclass(frozen=True)
class _Part:
    """One file's part of the patch; *reason* says why there is none."""

    name: str
    diff: str = ""
    reason: str = ""
    zero_context: bool = False


def render_patch(changes: Sequence[tuple[Path, bytes, bytes]], *, root: Path, patch: Path) -> bytes:
    """The patch that makes *changes*, relative to the git repository around *root*, else to *root*.

    A dotenv file is in it only where git tracks it; a file that git ignores, or whose changed lines
    hold a secret, is left out and named in the head. Where only the lines around a change hold one,
    they are left out.

    Args:
        changes: (file, bytes before, bytes after) of each file.
        root: The application's tree.
        patch: Where the patch will lie, for the command in its head.
    """
    repository = find_repository(root)
    top = repository or root
    parts = [_make_part(change, top=top, in_git=repository is not None) for change in changes]
    zero = any(p.zero_context for p in parts)
    head = _HEAD.format(top=top, options="--unidiff-zero " if zero else "", patch=patch)
    head += _ZERO_CONTEXT if zero else ""
    head += "".join(f"# Left out: {p.name}, {p.reason}.\n" for p in parts if p.reason)
    return (head + "".join(p.diff for p in parts)).encode("utf-8", "surrogateescape")


def find_repository(folder: Path) -> Path | None:
    """The top of the git repository that *folder* lies in; None where there is none."""
    return next((p for p in (folder, *folder.parents) if (p / ".git").exists()), None)


def is_tracked(file: Path) -> bool:
    """True where git keeps *file*; False also where there is no repository, or no git."""
    top = find_repository(file.parent)
    if top is None:
        return False
    return _ask_git(top, "ls-files", "--error-unmatch", "--", file.relative_to(top).as_posix())


def _make_part(change: tuple[Path, bytes, bytes], *, top: Path, in_git: bool) -> _Part:
    file, *contents = change
    if not file.is_relative_to(top):
        return _Part(str(file), reason=f"it lies outside {top}")
    name = file.relative_to(top).as_posix()
    is_dotenv = masking.is_dotenv(name)
    if is_dotenv and not (in_git and _ask_git(top, "ls-files", "--error-unmatch", "--", name)):
        return _Part(name, reason="a dotenv file that git does not track")
    # A tracked file may match an ignore rule too; git then goes on tracking it.
    if in_git and not is_dotenv and _ask_git(top, "check-ignore", "--quiet", "--", name):
        return _Part(name, reason="git ignores it")
    return _render(name, *contents, zero_context=is_dotenv)


def _render(name: str, before: bytes, after: bytes, *, zero_context: bool) -> _Part:
    lines = diffs.split_lines(before), diffs.split_lines(after)
    masked = masking.mask_lines(name, lines[0]), masking.mask_lines(name, lines[1])
    if list(_touched(lines, lines, context=0)) != list(_touched(lines, masked, context=0)):
        return _Part(name, reason="its changed lines hold a secret, or are too long to tell")
    zero = zero_context or list(_touched(lines, lines, context=3)) != list(_touched(lines, masked, context=3))
    diff = diffs.render(name, lines, shown=lines, context=0 if zero else 3)
    return _Part(name, diff=diff, zero_context=zero)


def _touched(
    lines: tuple[list[str], list[str]], shown: tuple[list[str], list[str]], *, context: int
) -> Iterator[list[str]]:
    """What a diff of *lines* would print from *shown*, side by side."""
    for group in diffs.changed_groups(*lines, context=context):
        yield shown[0][group[0][1] : group[-1][2]]
        yield shown[1][group[0][3] : group[-1][4]]


def read_head(repository: Path, file: Path) -> bytes | None:
    """What the last commit of *repository* has for *file*.

    None where it does not have it: not tracked, no commit yet, no git, outside the repository.
    """
    if not file.is_relative_to(repository):
        return None
    done = _run_git(repository, "cat-file", "blob", f"HEAD:{file.relative_to(repository).as_posix()}")
    return done.stdout if done is not None and done.returncode == 0 else None


def _ask_git(top: Path, *arguments: str) -> bool:
    """True where git says yes; also False where git is missing or does not trust the folder."""
    done = _run_git(top, *arguments)
    return done is not None and done.returncode == 0


def _run_git(top: Path, *arguments: str) -> subprocess.CompletedProcess[bytes] | None:
    """What git answers; None where it cannot be asked."""
    # A hook's GIT_DIR would name another repository.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    try:
        return subprocess.run(
            ["git", "-C", str(top), *arguments],
            env=environment,
            capture_output=True,
            timeout=30,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
