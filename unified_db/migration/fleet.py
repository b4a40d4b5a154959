"""Many applications at once: which configurations are meant, and one row of a table for each of them.

Reads configurations and what their runs left; changes nothing. Who runs them is the business of
`flows/fleet.py`.
"""

from __future__ import annotations

import glob
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from unified_db.errors import ConfigError
from unified_db.migration import account as accounts
from unified_db.migration import standings, wording
from unified_db.migration.account import Account
from unified_db.migration.config import MigrationConfig, load_config
from unified_db.migration.records import Record
from unified_db.migration.runs import RunFolder, flow_runs_of, list_runs
from unified_db.migration.standings import Standing

_NOTHING = "-"
_WHY_CHARS = 400
# What Prefect puts before the message of an exception.
_LEADS = ("Flow run encountered an exception: ", "Task run encountered an exception: ")

# Where a run stands outranks what Prefect says of the process, once it stands there for good.
_WORDS = {
    Standing.CLOSED: "closed",
    Standing.REJECTED: "rejected",
    Standing.UNDONE: "taken back",
    Standing.INTERRUPTED: "interrupted",
    Standing.SWITCHED: "switched",
    Standing.ARCHIVED: "switched, archived",
    Standing.ROLLED_BACK: "rolled back",
}
_ENDED_WELL = {Standing.OPEN: "rehearsed, all gates open"}


@dataclass(frozen=True)
class Member:
    """One application of a fleet, or an entry that none could be made of.

    Attributes:
        name: What tells it from the others: the name of its root, with folders before it where needed.
        config: Its `unify.toml`, absolute; None for a pattern that nothing matches.
        root: Where it lies.
        trouble: Why it is not run; empty where it is.
        word: The trouble in a word or two, for the column of states.
    """

    name: str
    config: Path | None
    root: Path | None = None
    trouble: str = ""
    word: str = ""


@dataclass(frozen=True)
class Child:
    """The flow run of one application, as Prefect last told of it.

    Attributes:
        flow_run: Its id.
        kind: Prefect's type of its state, in capitals: SCHEDULED, RUNNING, COMPLETED and so on.
        said: The message of that state.
    """

    flow_run: str
    kind: str
    said: str = ""

    @property
    def is_over(self) -> bool:
        """True once nothing more will come of it."""
        return self.kind in {"COMPLETED", "FAILED", "CRASHED", "CANCELLED", "DELETED"}

    @property
    def takes_a_place(self) -> bool:
        """True while it works or is about to; one that waits for a person holds nobody up."""
        return not self.is_over and self.kind != "PAUSED"


class FleetRow(Record):
    """One application in the fleet's table, in words."""

    application: str
    state: str
    gates: str
    write_pause: str
    report: str
    why: str
    passed: bool

    def cells(self) -> dict[str, str]:
        """The row by the names of its columns."""
        return {
            "application": self.application,
            "state": self.state,
            "gates": self.gates,
            "write pause": self.write_pause,
            "report": self.report,
            "why": self.why,
        }


# ---- who is meant --------------------------------------------------------------------------------


def find_members(configs: Sequence[str]) -> list[Member]:
    """The applications that *configs* mean, each once, in the order in which they are named.

    Args:
        configs: Each a `unify.toml`, the folder of one, a glob (`**` for folders below folders), or a file
            that lists such entries, one a line, relative to itself; `#` begins a comment.

    Returns:
        A member for every entry: one that is missing, invalid, or of an application that is named
        already has a trouble and is not to be run. The same file named twice is one member.
    """
    places: dict[Path | str, str] = {}
    for text in configs:
        for place, trouble in _expand(text, Path()):
            places.setdefault(place, trouble)
    members: list[Member] = []
    taken: dict[Path, Path] = {}
    for place, trouble in places.items():
        members.append(_member(place, trouble, taken))
    return _named_apart(members)


def _expand(text: str, base: Path, *, in_list: bool = False) -> Iterator[tuple[Path | str, str]]:
    """What one entry means: files that should be a configuration, or the entry with its trouble."""
    path = base / Path(text).expanduser()
    if glob.has_magic(text) and not _is_there(path):
        # Not Path.glob, which takes no absolute pattern.
        found = sorted(glob.glob(str(path), recursive=True))  # noqa: PTH207 -- see above
        yield from ((_configuration(Path(f)), "") for f in found)
        if not found:
            yield text, "no file matches"
    elif _is_list(path) and not in_list:
        yield from _read_list(path)
    else:
        yield _configuration(path), ""


def _read_list(path: Path) -> Iterator[tuple[Path | str, str]]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        yield str(path), f"the list cannot be read: {type(error).__name__}"
        return
    entries = [entry for line in lines if (entry := line.strip()) and not entry.startswith("#")]
    for entry in entries:
        yield from _expand(entry, path.parent, in_list=True)
    if not entries:
        yield str(path), "the list names no configuration"


def _is_list(path: Path) -> bool:
    return path.suffix != ".toml" and _is_there(path) and path.is_file()


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return False


def _configuration(path: Path) -> Path:
    path = path.absolute()
    return (path / "unify.toml" if path.is_dir() else path).resolve()


def _member(place: Path | str, trouble: str, taken: dict[Path, Path]) -> Member:
    """The member at *place*; notes in *taken* which files it uses, and who uses them already."""
    if isinstance(place, str):
        return Member(name=place, config=None, trouble=trouble, word="not found")
    try:
        config = load_config(place)
    except (ConfigError, OSError) as error:
        word = "invalid" if _is_there(place) else "not found"
        said = error.message if isinstance(error, ConfigError) else f"{place}: {type(error).__name__}"
        return Member(name="", config=place, root=place.parent, trouble=said, word=word)
    used = _files_of(config)
    first = next((path for path in used if path in taken), None)
    if first is not None:
        said = f"{config.label(first)} is moved by {taken[first]} already, which is named before it"
        return Member(name="", config=place, root=config.root, trouble=said, word="named twice")
    taken.update(dict.fromkeys(used, place))
    return Member(name="", config=place, root=config.root)


def _files_of(config: MigrationConfig) -> list[Path]:
    return [*(config.resolve(s.path) for s in config.source), config.target_path]


def _named_apart(members: Sequence[Member]) -> list[Member]:
    """The members, each called by its root's name and as many folders before it as tell it apart."""
    roots = {m.root for m in members if m.root is not None}
    return [
        m if m.root is None else Member(_short_name(m.root, roots), m.config, m.root, m.trouble, m.word)
        for m in members
    ]


def _short_name(root: Path, roots: Iterable[Path]) -> str:
    others = [r.parts for r in roots if r != root]
    for length in range(1, len(root.parts)):
        own = root.parts[-length:]
        if all(parts[-length:] != own for parts in others):
            return "/".join(own)
    return str(root)


# ---- what became of them -------------------------------------------------------------------------


def make_row(member: Member, child: Child | None) -> FleetRow:
    """What is known of *member* by now: from its run's folder, and from Prefect where there is none.

    *child* is None where it was not started, because of its trouble or because its turn has not come.
    """
    if member.trouble:
        return _row(member, member.word, why=member.trouble)
    if child is None:
        return _row(member, "waits for its turn")
    run = find_run(member, child.flow_run)
    account = accounts.load_account(run) if run is not None else None
    where = standings.standing(account) if account is not None else None
    return _row(
        member,
        _state(child, where),
        account=account,
        why="" if child.kind == "COMPLETED" else _reason(child, account),
        passed=child.kind == "COMPLETED",
    )


def find_run(member: Member, flow_run: str) -> RunFolder | None:
    """The run of *member* that *flow_run* of Prefect shows; the newest, where it was begun again."""
    if member.config is None:
        return None
    for run in reversed(list_runs(member.config.parent / ".unify-db")):
        try:
            if flow_run in flow_runs_of(run):
                return run
        except OSError:
            continue
    return None


def sentence(rows: Sequence[FleetRow]) -> str:
    """The fleet in one sentence."""
    if not rows:
        return "No configuration was named."
    good = sum(r.passed for r in rows)
    if good == len(rows):
        return f"{wording.count(good, 'application')}: all ended well."
    others = ", ".join(f"{r.application} ({r.state})" for r in rows if not r.passed)
    return f"{good} of {wording.count(len(rows), 'application')} ended well. Not so: {others}."


def _state(child: Child, where: Standing | None) -> str:
    if not child.is_over:
        return "waits for a person" if child.kind == "PAUSED" else child.kind.lower()
    if child.kind == "COMPLETED" and where in _ENDED_WELL:
        return _ENDED_WELL[where]
    if where in _WORDS:
        return _WORDS[where]
    return {"COMPLETED": "ended", "FAILED": "stopped"}.get(child.kind, child.kind.lower())


def _reason(child: Child, account: Account | None) -> str:
    """Why it did not end well; what its own journal says where it says something."""
    if not child.is_over:
        return ""
    told = child.kind in {"CRASHED", "CANCELLED", "DELETED"}
    own = account.reason if account is not None and not told else ""
    return own or _without_lead(child.said)


def _without_lead(message: str) -> str:
    for lead in _LEADS:
        if message.startswith(lead):
            kind, _, said = message.removeprefix(lead).partition(": ")
            return said if said and kind.endswith("Error") else message.removeprefix(lead)
    return message


def _row(
    member: Member, state: str, *, account: Account | None = None, why: str = "", passed: bool = False
) -> FleetRow:
    cutover = account.cutover if account is not None else None
    report = account.run.report if account is not None and account.run.report.exists() else None
    return FleetRow(
        application=member.name,
        state=state,
        gates=_gates(account),
        write_pause=wording.format_ms(cutover.write_pause_ms) if cutover else _NOTHING,
        report=str(report) if report else _NOTHING,
        why=wording.shorten(wording.mask(" ".join(why.split())), _WHY_CHARS) or _NOTHING,
        passed=passed,
    )


def _gates(account: Account | None) -> str:
    verdicts = account.verdicts.values() if account is not None else ()
    return ", ".join(f"{v.gate.value} {'open' if v.passed else 'closed'}" for v in verdicts) or _NOTHING
