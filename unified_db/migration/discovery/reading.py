"""Reads an application's tree: where the paths of its databases are set, what opens them, what wins.

Nothing of the application is run or imported. Importing this module takes LibCST with it, so it is
imported where it is needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from unified_db.migration.discovery import alembic_files, sightings, uses, working_folder
from unified_db.migration.discovery.evaluation import Evaluator
from unified_db.migration.discovery.finds import (
    Disagreement,
    EngineUse,
    PathSetting,
    SaverUse,
    TreeReading,
)
from unified_db.migration.discovery.libraries import FROM_STRING
from unified_db.migration.discovery.paths import settle
from unified_db.migration.discovery.settings import Settings, describe_way
from unified_db.migration.discovery.tree import Tree
from unified_db.migration.discovery.uses import Use
from unified_db.migration.discovery.values import describe_reason, known_texts


def read_tree(
    root: Path,
    cwd: Path | None = None,
    *,
    environment: Mapping[str, str] | None = None,
    overlay: Mapping[str, str] | None = None,
) -> TreeReading:
    """What the sources and settings below *root* say about the application's databases.

    Args:
        root: The application's tree.
        cwd: The folder that it runs in, absolute or relative to *root*; without it the folder is
            chosen by evidence, and `cwd_why` says which.
        environment: Variables that are set when the application starts.
        overlay: Texts that stand in for files, by their names in the tree: what would be read then.

    Reads each file up to 1 MB at most once, and parses those Python files that matter.
    """
    return read_texts(Tree(root, overlay), cwd, environment=environment)


def read_texts(
    tree: Tree, cwd: Path | None = None, *, environment: Mapping[str, str] | None = None
) -> TreeReading:
    """As :func:`read_tree`, of a tree whose texts may have been read and parsed before."""
    if cwd is not None:
        chosen = working_folder.Chosen((tree.root / cwd).resolve(), "as it was given")
    else:
        chosen = working_folder.choose(tree, environment or {})
    ev = uses.make_evaluator(tree, chosen.folder, environment)
    return _Reader(ev, chosen).read()


class _Reader:
    """Puts a reading together for one working folder."""

    def __init__(self, ev: Evaluator, chosen: working_folder.Chosen) -> None:
        self._ev = ev
        self._chosen = chosen
        self._settings = Settings(ev.tree.root, ev.environment.cwd)
        self._asks: list[str] = []

    def read(self) -> TreeReading:
        found = alembic_files.all_uses(self._ev)
        savers = tuple(self._saver(u) for u in found if u.is_saver)
        engines = tuple(self._engine(u) for u in found if not u.is_saver)
        disagreements = (*self._between_readers(), *_between_engines(engines, self._settings.all()))
        self._asks += sightings.add_rest(self._ev, self._settings)
        return TreeReading(
            cwd=self._label(self._chosen.folder),
            cwd_why=self._chosen.why,
            settings=self._settings.all(),
            savers=savers,
            engines=engines,
            disagreements=disagreements,
            unread=tuple(self._ev.tree.unread[f] for f in sorted(self._ev.tree.unread)),
            asks=tuple(dict.fromkeys((*self._chosen.asks, *self._asks, *self._settings.doubts))),
        )

    def _label(self, path: Path) -> str:
        root = self._ev.tree.root
        return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)

    def _saver(self, use: Use) -> SaverUse:
        resolved, why = self._settle(use)
        built = use.connection if use.connection in {"from_conn_string", "connection"} else "unknown"
        return SaverUse(
            name=use.call.removesuffix(FROM_STRING),
            place=use.place,
            imported=use.imported,
            is_async=use.is_async,
            built=built,
            resolved=resolved,
            why=why,
        )

    def _engine(self, use: Use) -> EngineUse:
        resolved, why = self._settle(use)
        return EngineUse(place=use.place, call=use.call, is_async=use.is_async, resolved=resolved, why=why)

    def _settle(self, use: Use) -> tuple[Path | None, str]:
        """(the file that a use opens, how the path comes there); its settings are noted."""
        texts = known_texts(use.path)
        settled = [s for t in texts if (s := settle(t, self._ev.environment.cwd, base=use.base))]
        for text in texts:
            self._settings.add(text, use)
        if not settled:
            return None, self._why_unknown(use)
        names = list(dict.fromkeys(self._label(s.resolved) for s in settled))
        if len(names) > 1 and not all(t.listed for t in texts):
            self._asks.append(f"{use.place} opens {' or '.join(names)}: which of them is in use?")
        return Path(names[0]), describe_way(texts[0]).strip()

    def _why_unknown(self, use: Use) -> str:
        texts = known_texts(use.path)
        if texts:
            # A database in memory, or of another kind: nothing to move, nothing to ask.
            return "no file of SQLite"
        reason = describe_reason(use.path) or "its path is computed when the application runs"
        self._asks.append(f"{use.place} calls {use.call}: which file does it open? ({reason})")
        return reason

    def _between_readers(self) -> Iterator[Disagreement]:
        for name, readers in sightings.find_readers(self._ev).items():
            by_file: dict[Path, list[sightings.Reader]] = {}
            for each in readers:
                lost = f"{each.who} reads it {each.where}; no call that opens a database was seen to get it"
                self._settings.add(each.text, each.use, wins=False, lost=lost)
                by_file.setdefault(each.resolved, []).append(each)
            if len(by_file) > 1:
                yield self._disagreement(name, by_file)

    def _disagreement(self, name: str, by_file: dict[Path, list[sightings.Reader]]) -> Disagreement:
        firsts = [(readers[0], self._label(file)) for file, readers in by_file.items()]
        clauses = [f"{r.who} reads it {r.where} and opens {file}" for r, file in firsts]
        settings = [
            s for readers in by_file.values() for r in readers for s in self._settings.of(r.text, r.use)
        ]
        return Disagreement(
            settings=tuple(dict.fromkeys(settings)),
            sentence=f"{name} leads to different files: {', but '.join(clauses)}.",
            remedy=f"Let all of them read it from one place{_example([r for r, _ in firsts])}.",
        )


def _example(readers: Sequence[sightings.Reader]) -> str:
    """How that may be done, where one reads a dotenv file that another does not load."""
    alone = next((r for r in readers if r.falls_back), None)
    if alone is None or all(r.falls_back for r in readers):
        return ""
    return f", for instance with load_dotenv() before {alone.place} asks for it"


def _between_engines(engines: Sequence[EngineUse], settings: Sequence[PathSetting]) -> Iterator[Disagreement]:
    """Alembic's database beside the application's engines, where it is none of theirs."""
    own = {
        e.resolved for e in engines if e.call not in {alembic_files.CALL, "sqlite3.connect"} and e.resolved
    }
    for each in engines:
        if each.call == alembic_files.CALL and each.resolved and own and each.resolved not in own:
            others = ", ".join(sorted(map(str, own)))
            yield Disagreement(
                settings=tuple(s for s in settings if s.resolved in {each.resolved, *own} and s.wins),
                sentence=f"Alembic ({each.place}) migrates {each.resolved}; the application opens {others}.",
                remedy="Let both name one file.",
            )
