"""Texts that reach a database, as the settings that they come from: which counts, and why."""

from __future__ import annotations

from pathlib import Path

from unified_db.migration.discovery.finds import PathSetting, Place, Role
from unified_db.migration.discovery.libraries import FROM_STRING
from unified_db.migration.discovery.paths import Settled, read_name, settle
from unified_db.migration.discovery.uses import Use
from unified_db.migration.discovery.values import Origin, Text

_COMPOSED = "derived"
Key = tuple[str, int, str, str]


class Settings:
    """Collects settings, each place once; what wins for one use wins.

    Attributes:
        doubts: Questions that stay with settings that count.
    """

    def __init__(self, root: Path, cwd: Path) -> None:
        self._root = root
        self._cwd = cwd
        self._found: dict[Key, PathSetting] = {}
        self.doubts: list[str] = []

    def all(self) -> tuple[PathSetting, ...]:
        """All of them: those that win first, then by file and line."""
        return tuple(
            sorted(self._found.values(), key=lambda s: (not s.wins, s.place.file, s.place.line, s.key))
        )

    def has(self, origin: Origin) -> bool:
        """True where the place is noted already."""
        return _key(origin) in self._found

    def add(self, text: Text, use: Use, *, wins: bool = True, lost: str = "") -> None:
        """Note the place that decides which file *text* names for *use*, and what it overrules."""
        settled = settle(text, self._cwd, base=use.base)
        if settled is not None and settled.origin is not None:
            why = lost or f"{_called(use)} opens it{describe_way(text)}"
            self.put(settled, len(text.pieces) > 1, use=use, wins=wins, why=why)
            self._doubt(text, wins=wins)
        for other in text.overruled:
            self.add(other.text, use, wins=False, lost=f"it does not count: {other.reason}")

    def give_role(self, origin: Origin, role: Role) -> None:
        """Say what the application does with a place that nothing was seen to use."""
        self._found[_key(origin)] = self._found[_key(origin)].model_copy(update={"role": role})

    def of(self, text: Text, use: Use) -> list[PathSetting]:
        """The noted setting that decides for *text*."""
        settled = settle(text, self._cwd, base=use.base)
        found = self._found.get(_key(settled.origin)) if settled and settled.origin else None
        return [found] if found is not None else []

    def put(
        self,
        settled: Settled,
        composed: bool,
        *,
        use: Use | None,
        wins: bool,
        why: str,
        commented: bool = False,
    ) -> None:
        """Note one place, unless the same is noted already and counts for more."""
        assert settled.origin is not None
        key = _key(settled.origin)
        known = self._found.get(key)
        made = self._make(settled, composed=composed, use=use, wins=wins, why=why, commented=commented)
        if (
            known is None
            or (wins and not known.wins)
            or (known.role == "unknown" and made.role != "unknown" and wins == known.wins)
        ):
            self._found[key] = made

    def _make(
        self, settled: Settled, *, composed: bool, use: Use | None, wins: bool, why: str, commented: bool
    ) -> PathSetting:
        origin = settled.origin
        assert origin is not None
        literal = origin.kind == "python-literal" and composed
        name = read_name(origin.raw)
        replaceable = settled.base is not None and settled.part in origin.raw
        return PathSetting(
            kind=_COMPOSED if literal else origin.kind,
            place=Place(file=origin.file, line=origin.line),
            key=origin.key,
            raw=origin.raw,
            style=name.style if name else "path",
            relative_to=settled.relative_to,
            resolved=self._label(settled.resolved),
            base=self._label(settled.base) if replaceable and settled.base else None,
            part=settled.part if replaceable else "",
            wins=wins,
            role=use.role if use else "unknown",
            why=why,
            commented=commented,
        )

    def _label(self, path: Path) -> Path:
        return path.relative_to(self._root) if path.is_relative_to(self._root) else path

    def _doubt(self, text: Text, *, wins: bool) -> None:
        for piece in text.pieces if wins else ():
            doubt = piece.origin.doubt if piece.origin else ""
            if doubt and doubt not in self.doubts:
                self.doubts.append(doubt)


def _key(origin: Origin) -> Key:
    return origin.file, origin.line, origin.key, origin.raw


def _called(use: Use) -> str:
    call = use.call.removesuffix(FROM_STRING).rpartition(".")[2] or use.call
    call += FROM_STRING if use.call.endswith(FROM_STRING) else ""
    return f"{use.place} ({call})"


def describe_way(text: Text) -> str:
    """` through A and b()`: the names that a text came through; empty where there are none."""
    if not text.steps:
        return ""
    return f" through {', '.join(text.steps)}"
