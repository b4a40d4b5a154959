"""The journal of a run: intent before every act, done after it, fsynced; all that recovery trusts.

One JSON object a line, each with a running number and a checksum. A last line that was torn by a
crash is ignored (its act has an intent but no end, which is what recovery expects); damage
anywhere else is an error. Where a run stands is computed from these lines, and while it waits for a
person from what was decided: whoever decides is not the process that writes here.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import psutil  # type: ignore[import-untyped]  # it ships no types

from unified_db import files
from unified_db.errors import JournalError
from unified_db.migration.records import Decision, Question
from unified_db.migration.runs import RunFolder

StateName = Literal["running", "waiting", "closed", "switched", "archived", "rolled_back", "interrupted"]

_SUM_CHARS = 16
# Where a process's start is among what follows its name in /proc/PID/stat.
_STARTED = 19
# What the clock may have been set back by since; a number is not given out again within that.
_CLOCK_SLACK_S = 2.0


@dataclass(frozen=True)
class Entry:
    """One line of the journal.

    Attributes:
        event: What kind of line: run, phase, act, cutover, archive or rollback.
        status: begin, done, failed; for acts intent, done, started (as it is taken back), undone.
        fields: Whatever else the line holds.
    """

    number: int
    at: datetime
    event: str
    status: str
    fields: Mapping[str, Any]


@dataclass(frozen=True)
class Act:
    """One act of the cut-over as the journal knows it.

    Attributes:
        ident: Its number within the run; acts are undone from the highest down.
        name: What was done, such as "edit".
        before: What is needed to undo it, written down before it was done.
        after: What was learnt by doing it; empty where only the intent is known.
        done: True where it is known to have ended.
        undone: True where it was taken back.
    """

    ident: int
    name: str
    before: Mapping[str, Any]
    after: Mapping[str, Any] = field(default_factory=dict)
    done: bool = False
    undone: bool = False


@dataclass(frozen=True)
class RunState:
    """Where a run stands, from its journal alone.

    Attributes:
        next: What to do now: a sentence and, where there is one, a command.
        phases: The phases that ended well, in their order.
        reason: Why the run stopped, where it did; of one that waited what was decided.
    """

    run: str
    state: StateName
    next: str
    phases: tuple[str, ...]
    dry_run: bool
    reason: str = ""


class Journal:
    """Appends to a run's journal; every line is on the disk when the call returns."""

    def __init__(self, run: RunFolder) -> None:
        self.run = run
        self._path = run.journal
        self._mend()

    def write(self, event: str, status: str, **fields: Any) -> None:
        """Append one line and fsync it (and, for the first line, the folder).

        Raises:
            OSError: It could not be written; the journal is as it was before.
        """
        known = self._path.exists()
        if "pid" in fields:
            fields["born"] = _born(int(fields["pid"]))
        content = {
            "number": self._count_lines() + 1,
            "at": datetime.now(UTC).isoformat(),
            "event": event,
            "status": status,
            **fields,
        }
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            _append(descriptor, _seal(content))
        finally:
            os.close(descriptor)
        if not known:
            files.fsync_folder(self._path.parent)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Record the begin and the end of a phase, and why it failed where it did."""
        self.write("phase", "begin", phase=name)
        try:
            yield
        except BaseException as error:
            # On a full disk this line is missing, which reads as an interruption; what happened counts.
            with suppress(OSError):
                self.write("phase", "failed", phase=name, kind=type(error).__name__, reason=str(error)[:2000])
            raise
        self.write("phase", "done", phase=name)

    def _count_lines(self) -> int:
        return self._path.read_bytes().count(b"\n") if self._path.exists() else 0

    def next_act(self) -> int:
        """The number that the next act will have."""
        return 1 + max((a.ident for a in acts(read_entries(self._path))), default=0)

    @contextmanager
    def act(self, name: str, **before: Any) -> Iterator[dict[str, Any]]:
        """Record the intent of an act with all that undoing it needs, then that it was done.

        Yields:
            A dictionary for what is learnt by doing it.
        """
        ident = self.next_act()
        self.write("act", "intent", act=ident, name=name, before=before)
        after: dict[str, Any] = {}
        yield after
        self.write("act", "done", act=ident, name=name, after=after)

    def started(self, act: Act, process: Mapping[str, Any]) -> None:
        """Record which *process* is started as *act* is taken back, before it begins."""
        self.write("act", "started", act=act.ident, name=act.name, after=process)

    def undone(self, act: Act) -> None:
        """Record that *act* was taken back."""
        self.write("act", "undone", act=act.ident, name=act.name)

    def _mend(self) -> None:
        """Cut off a last line that a crash tore, so that the next one stands on its own."""
        if not self._path.exists():
            return
        raw = self._path.read_bytes()
        whole = raw.rfind(b"\n") + 1
        if whole < len(raw):
            # In place: what recovery begins with must need no room on a disk that is full.
            os.truncate(self._path, whole)
            files.fsync_file(self._path)


def read_entries(path: Path) -> list[Entry]:
    """All whole lines of the journal at *path*; empty where there is none.

    Raises:
        JournalError: A line before the last is damaged, or one is missing.
    """
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")
    torn = lines.pop()  # what follows the last line end: empty, or torn by a crash
    entries = [_read_line(path, line, number) for number, line in enumerate(lines, 1)]
    del torn
    return entries


def acts(entries: list[Entry]) -> list[Act]:
    """The acts of *entries* as they stand now, in the order they were begun."""
    known: dict[int, Act] = {}
    for entry in entries:
        if entry.event != "act":
            continue
        ident, name = int(entry.fields["act"]), str(entry.fields["name"])
        if entry.status == "intent":
            known[ident] = Act(ident, name, entry.fields["before"])
            continue
        act = known[ident]
        after = entry.fields.get("after", act.after)
        known[ident] = Act(
            ident, name, act.before, after, done=True, undone=act.undone or entry.status == "undone"
        )
    return list(known.values())


def standing_acts(run: RunFolder) -> list[Act]:
    """The acts of *run* that were begun and not taken back, in the order they were begun."""
    return [a for a in acts(read_entries(run.journal)) if not a.undone]


def read_state(run: RunFolder) -> RunState:
    """Where *run* stands and what to do next, from its journal and what a person decided."""
    entries = read_entries(run.journal)
    begun = next((e for e in entries if e.event == "run" and e.status == "begin"), None)
    dry_run = bool(begun and begun.fields.get("dry_run"))
    phases = tuple(e.fields["phase"] for e in entries if e.event == "phase" and e.status == "done")
    state, reason = _judge(entries)
    alive = bool(entries) and _alive(entries)
    if state == "switched":
        # The cut-over had a process of its own; whoever waited for it archives.
        alive = _alive([e for e in entries if e.event == "run"])
    asked = any(e.event == "run" and e.status == "waiting" for e in entries)
    waited = state == "waiting"
    if waited:
        state, reason = _judge_wait(run, alive=alive)
    rehearsed = dry_run and not reason
    told = next_step(run.name, state, dry_run=rehearsed, alive=alive, asked=asked, left=what_is_left(entries))
    if waited and state == "interrupted":
        told = f"Nothing was switched yet. `unify-db resume {run.name}` goes on with the approved evidence."
    return RunState(
        run=run.name,
        state=state,
        next=told,
        phases=tuple(dict.fromkeys(phases)),
        dry_run=dry_run,
        reason=reason,
    )


def _judge(entries: list[Entry]) -> tuple[StateName, str]:
    state: StateName = "running"
    reason = ""
    for entry in entries:
        key = (entry.event, entry.status)
        if key == ("run", "resumed") and state in {"switched", "archived"}:
            continue  # what was done stays done, whoever looks at the run again
        if key == ("run", "failed") and state in {"switched", "archived"}:
            reason = str(entry.fields.get("reason", ""))
        elif key == ("run", "failed"):
            state = "closed" if entry.fields.get("closed") else "interrupted"
            reason = str(entry.fields.get("reason", ""))
        elif key in _STATES:
            state, reason = _STATES[key], str(entry.fields.get("reason", ""))
    if state == "running" and not _alive(entries):
        return "interrupted", "its process is gone"
    return state, reason


def _judge_wait(run: RunFolder, *, alive: bool) -> tuple[StateName, str]:
    """Where a run stands that asked a person: as it will, once a process takes up what was decided."""
    question, decision = run.load("question", Question), run.load("decision", Decision)
    if decision is None:
        over = question is None or datetime.now(UTC) >= question.expires_at
        why = question.expires_since if question else "its question is gone"
        return ("closed", f"nobody decided in time: {why}") if over and not alive else ("waiting", "")
    if decision.choice != "approve":
        return "closed", decision.sentence()
    if alive:
        return "running", ""
    return "interrupted", f"{decision.sentence()}, and its process is gone"


_STATES: dict[tuple[str, str], StateName] = {
    ("run", "begin"): "running",
    ("run", "resumed"): "running",
    ("run", "waiting"): "waiting",
    ("run", "done"): "closed",
    ("cutover", "begin"): "running",
    ("cutover", "switched"): "switched",
    ("cutover", "undone"): "interrupted",
    ("archive", "done"): "archived",
    ("rollback", "begin"): "running",
    ("rollback", "failed"): "interrupted",
    ("rollback", "done"): "rolled_back",
}


def process_lives(run: RunFolder) -> bool:
    """True while the process that last worked on *run* is there, whatever it does."""
    return _alive(read_entries(run.journal))


def _alive(entries: list[Entry]) -> bool:
    """True while the process that wrote last is there; it says who it is with every begin."""
    said = [e for e in entries if "pid" in e.fields]
    if not said:
        return False
    pid, born = int(said[-1].fields["pid"]), said[-1].fields.get("born")
    if born:
        return _born(pid) == str(born)
    try:
        began = psutil.Process(pid).create_time()
    except psutil.AccessDenied:
        return True
    except psutil.Error:
        return False
    # After a restart of the machine another process has the number; it cannot have begun before it wrote.
    return bool(began <= said[-1].at.timestamp() + _CLOCK_SLACK_S)


def _born(pid: int) -> str:
    """What tells process *pid* from every other that had or will have its number, whatever clocks are set to.

    The boot and the ticks since then (proc(5), field 22); empty where the system does not tell.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        # The name before it, in parentheses, may hold spaces and parentheses.
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return ""
    return f"{boot} {stat[_STARTED]}" if stat[0] not in {"Z", "X"} else ""


Left = Literal["nothing", "switch", "rollback"]


def what_is_left(entries: list[Entry]) -> Left:
    """What of a run that goes on no more is half done."""
    marks = [(e.event, e.status) for e in entries if e.event in {"cutover", "rollback"}]
    if marks and marks[-1][0] == "rollback" and marks[-1][1] != "done":
        return "rollback"
    return "switch" if any(not a.undone for a in acts(entries)) else "nothing"


def next_step(
    name: str,
    state: StateName,
    *,
    dry_run: bool = False,
    alive: bool = True,
    asked: bool = False,
    left: Left = "switch",
) -> str:
    """What to do about a run called *name*.

    *dry_run* says that it was a rehearsal and ended as one, *alive* whether its process is still there,
    *asked* whether a person did not let it switch, and *left* what of it is half done.
    """
    if state == "interrupted" and left == "nothing":
        return f"The application uses its old files, unchanged. `unify-db resume {name}` goes on."
    if state == "interrupted" and left == "rollback":
        return f"A rollback was begun: `unify-db rollback {name}` brings it to its end; no row is lost."
    if state == "switched" and not alive:
        return (
            f"The application uses the unified file; the old files are not archived yet: `unify-db resume "
            f"{name}` does that, `unify-db rollback {name}` takes the switch back."
        )
    if state == "waiting" and not alive:
        return (
            f"The run waits for a person, and its process has ended: `unify-db approve {name}`, then "
            f"`unify-db resume {name}` goes on with the same evidence; or `unify-db reject {name}`."
        )
    if state == "closed" and asked:
        return "Nothing was switched. `unify-db run` makes new evidence and asks again."
    if state == "closed" and dry_run:
        return "This was a dry run; nothing of the application changed. `unify-db run` makes the switch."
    return {
        "running": "The run is at work. `unify-db status` shows how far it is.",
        "waiting": f"The run waits for a person: `unify-db approve {name}` or `unify-db reject {name}`.",
        "closed": "Nothing was switched. See the report, mend what closed the gate, and run again.",
        "interrupted": f"Nothing is half done for good: `unify-db resume {name}` goes on, "
        f"`unify-db rollback {name}` takes back what was begun.",
        "switched": f"The application uses the unified file. `unify-db rollback {name}` takes it back.",
        "archived": f"The application uses the unified file; the old files are in the archive. "
        f"`unify-db rollback {name}` takes it back.",
        "rolled_back": "The application uses its old files again. `unify-db run` starts over.",
    }[state]


def _append(descriptor: int, line: bytes) -> None:
    """Append *line* and fsync it, or leave the file as it was: after half a line no other can be read."""
    size_bytes = os.fstat(descriptor).st_size
    try:
        # A disk that is nearly full takes a part, and says so at the next attempt.
        while line:
            line = line[os.write(descriptor, line) :]
        os.fsync(descriptor)
    except OSError:
        os.ftruncate(descriptor, size_bytes)
        raise


def _seal(content: dict[str, Any]) -> bytes:
    text = json.dumps(content, default=str, ensure_ascii=False, separators=(",", ":"))
    checksum = files.digest_bytes(text.encode())[:_SUM_CHARS]
    return f"{checksum} {text}\n".encode()


def _read_line(path: Path, line: bytes, number: int) -> Entry:
    checksum, _, text = line.partition(b" ")
    if files.digest_bytes(text)[:_SUM_CHARS].encode() != checksum:
        raise _damaged(path, number)
    content = json.loads(text)
    if content.pop("number") != number:
        raise _damaged(path, number)
    return Entry(
        number=number,
        at=datetime.fromisoformat(content.pop("at")),
        event=content.pop("event"),
        status=content.pop("status"),
        fields=content,
    )


def _damaged(path: Path, number: int) -> JournalError:
    return JournalError(
        f"{path}: line {number} is damaged or missing",
        hint="The journal was changed by something else. The backups of the run are in the folder beside it; "
        "docs/runbook.md says how to go back by hand.",
    )
