"""Which applications a fleet means, how many of them run at a time, and what its table says of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from flows import order
from flows.direct import Direct
from flows.fleet import require_all_well, run_fleet
from tests.prefect_side.tiny_application import TinyApplication
from unified_db.errors import FleetIncompleteError, GateClosedError
from unified_db.migration import fleet
from unified_db.migration.fleet import Child, FleetRow, Member
from unified_db.migration.runs import note_flow_run


@pytest.fixture
def three(tmp_path: Path) -> list[TinyApplication]:
    return [TinyApplication.create(tmp_path, name=name) for name in ("alpha", "beta", "gamma")]


def names(members: Sequence[Member]) -> list[str]:
    return [member.name for member in members]


# ---- who is meant --------------------------------------------------------------------------------


def test_a_glob_means_every_application_that_it_matches(three: list[TinyApplication], tmp_path: Path) -> None:
    found = fleet.find_members([str(tmp_path / "*" / "unify.toml")])
    assert names(found) == ["alpha", "beta", "gamma"]
    assert [m.config for m in found] == [a.toml for a in three]
    assert not any(m.trouble for m in found)


def test_a_list_is_read_line_by_line_relative_to_itself(three: list[TinyApplication], tmp_path: Path) -> None:
    listing = tmp_path / "fleet.txt"
    listing.write_text(f"# ours\n\ngamma\nalpha/unify.toml\n{tmp_path}/b*/unify.toml\n")
    assert names(fleet.find_members([str(listing)])) == ["gamma", "alpha", "beta"]


def test_the_same_configuration_named_twice_is_one_application(
    three: list[TinyApplication], tmp_path: Path
) -> None:
    found = fleet.find_members([str(three[0].toml), str(three[0].root), str(tmp_path / "al*" / "unify.toml")])
    assert names(found) == ["alpha"]


def test_a_second_configuration_of_an_application_is_told_and_not_run(three: list[TinyApplication]) -> None:
    second = three[0].root / "other.toml"
    second.write_text(three[0].toml.read_text())
    first, told = fleet.find_members([str(three[0].toml), str(second)])
    assert not first.trouble
    assert told.word == "named twice"
    assert str(three[0].toml) in told.trouble


def test_a_shared_source_is_told_across_applications(three: list[TinyApplication]) -> None:
    three[1].configure(source=[{"path": str(three[0].notes), "kind": "application"}])
    _, told = fleet.find_members([str(three[0].toml), str(three[1].toml)])
    assert told.word == "named twice"


@pytest.mark.parametrize(
    ("entry", "content", "word"),
    [
        pytest.param("nowhere/*/unify.toml", None, "not found", id="a-glob-that-matches-nothing"),
        pytest.param("nowhere/unify.toml", None, "not found", id="a-file-that-is-missing"),
        pytest.param("wrong.toml", b"[app\n", "invalid", id="a-file-that-is-no-toml"),
        pytest.param("wrong.toml", b"[apps]\nroot = '.'\n", "invalid", id="an-unknown-key"),
        pytest.param("empty.txt", b"# nobody\n", "not found", id="a-list-that-names-nobody"),
        pytest.param("binary.txt", b"\xff\xfe\x00", "not found", id="a-list-that-is-no-text"),
    ],
)
def test_a_bad_entry_is_told_and_the_rest_goes_on(
    three: list[TinyApplication], tmp_path: Path, entry: str, content: bytes | None, word: str
) -> None:
    if content is not None:
        (tmp_path / entry).write_bytes(content)
    bad, good = fleet.find_members([str(tmp_path / entry), str(three[0].toml)])
    assert (bad.word, good.name, good.trouble) == (word, "alpha", "")
    row = fleet.make_row(bad, None)
    assert (row.state, row.passed) == (word, False)
    assert row.why not in {"", "-"}


def test_applications_of_one_name_are_told_apart_by_the_folders_before_it(tmp_path: Path) -> None:
    for name in ("shop", "forum"):
        TinyApplication.create(tmp_path / name, name="backend")
    TinyApplication.create(tmp_path, name="plain")
    found = fleet.find_members([str(tmp_path / "**" / "unify.toml")])
    assert sorted(names(found)) == ["forum/backend", "plain", "shop/backend"]


# ---- how they run --------------------------------------------------------------------------------


@dataclass
class Played:
    """Runs that go through the given states, one at each look; after the last they stay there."""

    lives: dict[str, list[str]]
    unreachable: int = 0
    begun: list[str] = field(default_factory=list)
    most_at_work: int = 0
    over: list[str] = field(default_factory=list)

    def start(self, member: Member) -> Child | None:
        if self.unreachable:
            self.unreachable -= 1
            return None
        self.begun.append(member.name)
        self.over += [
            f"{name} before {member.name}" for name, states in self.lives.items() if len(states) == 1
        ]
        return Child(member.name, "SCHEDULED")

    def look(self, children: Sequence[Child]) -> dict[str, Child]:
        self.most_at_work = max(self.most_at_work, sum(c.takes_a_place for c in children))
        return {c.flow_run: Child(c.flow_run, self._next(c.flow_run), "what it said") for c in children}

    def _next(self, name: str) -> str:
        states = self.lives.setdefault(name, ["RUNNING", "COMPLETED"])
        return states.pop(0) if len(states) > 1 else states[0]


def run(members: Sequence[Member], played: Played, at_once: int = 2) -> tuple[list[str], list[str]]:
    """The states in the end, and every sentence that was shown."""
    said: list[str] = []
    rows = run_fleet(
        members, played, at_once=at_once, publish=lambda _, text: said.append(text), look_every_s=0.0
    )
    return [row.state for row in rows], said


def make_members(*found: str) -> list[Member]:
    return [Member(name, Path("/nowhere") / name / "unify.toml", Path("/nowhere") / name) for name in found]


@pytest.mark.parametrize("at_once", [1, 2, 3])
def test_no_more_are_at_work_than_asked_for(at_once: int) -> None:
    played = Played({name: ["RUNNING"] * 3 + ["COMPLETED"] for name in "abcdefg"})
    states, _ = run(make_members(*"abcdefg"), played, at_once)
    assert states == ["ended"] * 7
    assert played.begun == list("abcdefg")
    assert played.most_at_work == at_once


@pytest.mark.parametrize("kind", ["FAILED", "CRASHED", "CANCELLED", "DELETED"])
def test_one_that_does_not_end_well_stops_no_other(kind: str) -> None:
    played = Played({"b": ["RUNNING", kind]})
    states, said = run(make_members(*"abc"), played)
    assert played.begun == ["a", "b", "c"]
    assert states == ["ended", {"FAILED": "stopped"}.get(kind, kind.lower()), "ended"]
    assert said[-1] == f"2 of 3 applications ended well. Not so: b ({states[1]})."


def test_one_that_waits_for_a_person_holds_nobody_up() -> None:
    played = Played({"a": ["PAUSED"] * 20 + ["COMPLETED"]})
    states, said = run(make_members(*"abcd"), played, at_once=1)
    assert played.begun == list("abcd")
    assert "a before d" not in played.over, "it still waits while the others have their turns"
    assert states == ["ended"] * 4
    assert said[-1] == "4 applications: all ended well."


def test_what_prefect_could_not_begin_is_tried_again() -> None:
    played = Played({}, unreachable=3)
    states, _ = run(make_members(*"ab"), played)
    assert states == ["ended", "ended"]
    assert sorted(played.begun) == ["a", "b"]


def test_those_with_a_trouble_have_a_row_and_no_run() -> None:
    bad = Member("bad", None, trouble="no file matches", word="not found")
    played = Played({})
    states, _ = run([bad, *make_members("a")], played)
    assert (states, played.begun) == (["not found", "ended"], ["a"])


def test_a_fleet_of_which_nobody_can_run_ends_at_once() -> None:
    states, said = run([Member("bad", None, trouble="no file matches", word="not found")], Played({}))
    assert states == ["not found"]
    assert said == ["0 of 1 application ended well. Not so: bad (not found)."]


def test_a_fleet_fails_when_one_of_it_did_and_when_there_is_none() -> None:
    good = FleetRow(
        application="a", state="ended", gates="-", write_pause="-", report="-", why="-", passed=True
    )
    assert require_all_well([good]).rows == (good,)
    with pytest.raises(FleetIncompleteError, match="b"):
        require_all_well([good, good.model_copy(update={"application": "b", "passed": False})])
    with pytest.raises(FleetIncompleteError):
        require_all_well([])


# ---- what the table says -------------------------------------------------------------------------


def test_a_row_is_read_from_the_run_that_the_flow_run_shows(three: list[TinyApplication]) -> None:
    config = three[0].config()
    (member,) = fleet.find_members([str(three[0].toml)])
    shown, other = order.begin(config, dry_run=True), order.begin(config, dry_run=True)
    note_flow_run(shown, "flow-run-1")
    three[0].notes.write_bytes(b"not a database at all")
    with pytest.raises(Exception, match="SQLite"):
        order.migrate(Direct(), config, shown, dry_run=True)
    note_flow_run(other, "flow-run-2")

    row = fleet.make_row(member, Child("flow-run-1", "FAILED", "Prefect's own words"))
    assert (row.application, row.state, row.passed) == ("alpha", "stopped", False)
    assert "SQLite" in row.why
    assert row.report == str(shown.report)
    assert list(row.cells()) == ["application", "state", "gates", "write pause", "report", "why"]


def test_what_prefect_says_is_the_reason_where_no_run_was_left(three: list[TinyApplication]) -> None:
    (member,) = fleet.find_members([str(three[0].toml)])
    said = "Flow run encountered an exception: RunLockedError: another run holds data/notes.db (process 7)"
    row = fleet.make_row(member, Child("nobody", "FAILED", said))
    assert row.why == "another run holds data/notes.db (process 7)"
    assert fleet.make_row(member, Child("nobody", "CRASHED", "a: b")).why == "a: b"


def test_a_closed_gate_is_named_with_its_reason(
    three: list[TinyApplication], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = three[0].config()
    (member,) = fleet.find_members([str(three[0].toml)])
    closed = order.begin(config, dry_run=True)
    note_flow_run(closed, "flow-run-1")

    class Closing(Direct):
        def merge(self, *_: object) -> object:  # type: ignore[override]  # it makes nothing
            raise GateClosedError("validation: closed, as played")

    with pytest.raises(GateClosedError):
        order.migrate(Closing(), config, closed, dry_run=True)
    row = fleet.make_row(member, Child("flow-run-1", "FAILED", "said"))
    assert row.why == "validation: closed, as played"


def test_a_login_in_what_was_said_is_masked(three: list[TinyApplication]) -> None:
    (member,) = fleet.find_members([str(three[0].toml)])
    row = fleet.make_row(member, Child("nobody", "FAILED", "cannot reach https://ada:secret@example.org/"))
    assert "secret" not in row.why
