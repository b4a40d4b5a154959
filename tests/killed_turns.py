"""Kills the example application at every step of a chat turn; run by `test_killed_turns.py`.

    python killed_turns.py BACKEND SCENARIO [inside]

BACKEND is the `backend` folder of a copy of an example. Each turn is a request to the real application
in a child of this process, which has imported everything once. A turn that is left alone shows the
steps: nodes, the model's call, what the saver is given, flushes, every SQL statement that is more
than a read (seen just before it runs), commits, the answer. Then the turn is repeated once for each
of them, and the child sends itself SIGKILL there. With `inside` it is killed inside
COMMIT, at every page that it writes to the WAL: by the system, for reaching a file size limit.

Prints a JSON list of `{scenario, thread_id, point, killed}`.
"""

from __future__ import annotations

import asyncio
import functools
import json
import os
import resource
import signal
import sqlite3
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BACKEND = Path(sys.argv[1])
SCENARIO = sys.argv[2]
INSIDE = "inside" in sys.argv[3:]
sys.path.insert(0, str(BACKEND))

import httpx  # noqa: E402 - the example's own modules come after its folder is on the path
import server  # type: ignore[import-not-found]  # noqa: E402
from alembic import command  # noqa: E402
from alembic.config import Config  # noqa: E402
from sqlalchemy import event  # noqa: E402
from sqlalchemy.orm import Session  # noqa: E402

EMAIL = "send email to ada@example.invalid saying see you"
# A page and its header, as the WAL has them, behind a header of its own.
FRAME_BYTES, WAL_HEADER_BYTES = 4096 + 24, 32
COMMIT = "sql COMMIT"


# --- Steps of a turn -----------------------------------------------------------------------------


@dataclass
class Steps:
    """Counts the steps of a turn, and dies at the one that is wanted.

    Attributes:
        die_at: A step's name and how often it has to come.
        limit_bytes: Where the WAL ends from the commit on; None for no limit.
    """

    die_at: tuple[str, int] | None = None
    limit_bytes: int | None = None
    seen: list[str] = field(default_factory=list)

    def reach(self, name: str) -> None:
        self.seen.append(name)
        if (name, self.seen.count(name)) == self.die_at:
            os.kill(os.getpid(), signal.SIGKILL)
        if name == COMMIT and self.limit_bytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (self.limit_bytes, resource.RLIM_INFINITY))


def watch_connections(steps: Steps) -> None:
    """Make a step of every statement but reads, on every SQLite connection, whoever opens it."""
    plain = sqlite3.connect

    def connect(*args: Any, **kwargs: Any) -> sqlite3.Connection:
        conn = plain(*args, **kwargs)
        conn.set_trace_callback(reach)
        return conn

    def reach(sql: str) -> None:
        if not sql.startswith(("SELECT", "PRAGMA", "--")) and sql.strip():
            steps.reach("sql " + " ".join(sql.split()[:3]))

    sqlite3.connect = sqlite3.dbapi2.connect = connect  # type: ignore[attr-defined]


def around(steps: Steps, owner: Any, name: str) -> None:
    """Make the begin and the end of a function two steps."""
    plain = getattr(owner, name)

    if asyncio.iscoroutinefunction(plain):
        # LangGraph looks at the signature of its nodes.
        @functools.wraps(plain)
        async def watched(*args: Any, **kwargs: Any) -> Any:
            steps.reach(f"before {name}")
            result = await plain(*args, **kwargs)
            steps.reach(f"after {name}")
            return result
    else:

        @functools.wraps(plain)
        def watched(*args: Any, **kwargs: Any) -> Any:
            steps.reach(f"before {name}")
            result = plain(*args, **kwargs)
            steps.reach(f"after {name}")
            return result

    setattr(owner, name, watched)


def watch(steps: Steps) -> None:
    """Make steps of everything that a turn passes."""
    from chat import graph, model, tools  # type: ignore[import-not-found]

    watch_connections(steps)
    for owner, name in (
        (graph, "remember"),
        (model.OfflineChatModel, "_answer"),
        (tools, "evaluate"),
        (graph, "count_tools"),
        *((SAVER, method) for method in ("aput", "aput_writes", "adelete_thread")),
    ):
        around(steps, owner, name)
    for name in ("before_flush", "after_flush", "before_commit", "after_commit"):
        event.listen(Session, name, lambda *_args, name=name: steps.reach(f"session {name}"))


SAVER = next(v for k, v in vars(server).items() if k.endswith("AsyncSqliteSaver"))


# --- Turns ------------------------------------------------------------------------------------------

Request = tuple[str, str, dict[str, str] | None]


def say(message: str) -> Callable[[str], Request]:
    return lambda thread_id: ("POST", "/api/chat", {"thread_id": thread_id, "message": message})


def approve(thread_id: str) -> Request:
    return "POST", f"/api/chat/{thread_id}/resume", {"decision": "approve"}


def forget(thread_id: str) -> Request:
    return "DELETE", f"/api/conversations/{thread_id}", None


# What has been said before, and what is killed.
SCENARIOS: dict[str, tuple[list[Callable[[str], Request]], Callable[[str], Request]]] = {
    "begins": ([], say("calculate 2*(3+4)")),
    "goes-on": ([say("my name is Ada")], say("what is my name?")),
    "resumes": ([say(EMAIL)], approve),
    "is-deleted": ([say("my name is Ada")], forget),
}


async def send(requests: list[Request], ready: Callable[[], None] = lambda: None) -> None:
    async with server.app.router.lifespan_context(server.app):
        ready()
        transport = httpx.ASGITransport(app=server.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
            for method, path, body in requests:
                (await client.request(method, path, json=body)).raise_for_status()


def in_child(work: Callable[[], None]) -> int:
    """The signal that ended a child which does *work*; 0 if none."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        except BaseException:  # noqa: BLE001 - shown, and the parent ends with it
            import traceback

            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        return os.WTERMSIG(status)
    if os.WEXITSTATUS(status):
        sys.exit(f"a child failed with exit code {os.WEXITSTATUS(status)}")
    return 0


def turn(scenario: str, thread_id: str, steps: Steps) -> None:
    watch(steps)
    # Python ignores what ends a process that writes beyond its limit.
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    asyncio.run(send([SCENARIOS[scenario][1](thread_id)], steps.seen.clear))
    steps.reach("answered")


def prepare(scenario: str, thread_ids: list[str]) -> None:
    """Say what has been said before in each of these threads, undisturbed."""
    earlier = SCENARIOS[scenario][0]
    asyncio.run(send([make(thread_id) for thread_id in thread_ids for make in earlier]))


def steps_of(scenario: str) -> list[str]:
    """The steps of a turn that is left alone; its thread is `SCENARIO-whole`."""
    with tempfile.NamedTemporaryFile() as file:

        def work() -> None:
            steps = Steps()
            turn(scenario, f"{scenario}-whole", steps)
            Path(file.name).write_text(json.dumps(steps.seen))

        in_child(work)
        return list(json.loads(Path(file.name).read_text()))


# --- Kills ------------------------------------------------------------------------------------------


def kill_everywhere(scenario: str) -> list[dict[str, Any]]:
    in_child(lambda: prepare(scenario, [f"{scenario}-whole", f"{scenario}-untouched"]))
    points = [(name, n + 1) for name, count in Counter(steps_of(scenario)).items() for n in range(count)]
    threads = [f"{scenario}-{n}" for n in range(len(points))]
    in_child(lambda: prepare(scenario, threads))
    found = []
    for thread_id, point in zip(threads, points, strict=True):
        ended_by = in_child(lambda t=thread_id, p=point: turn(scenario, t, Steps(die_at=p)))  # type: ignore[misc]
        found.append(record(scenario, thread_id, f"{point[0]} ({point[1]})", ended_by == signal.SIGKILL))
    return found


def kill_inside_commit(scenario: str) -> list[dict[str, Any]]:
    """Kill at every page of the commit, until it fits: that one is not killed."""
    found = []
    killed = True
    while killed:
        thread_id = f"{scenario}-page-{len(found)}"
        in_child(lambda t=thread_id: prepare(scenario, [t]))  # type: ignore[misc]
        in_child(empty_wal)
        limit = WAL_HEADER_BYTES + len(found) * FRAME_BYTES + FRAME_BYTES // 2
        steps = Steps(limit_bytes=limit)
        killed = in_child(lambda t=thread_id, s=steps: turn(scenario, t, s)) == signal.SIGXFSZ  # type: ignore[misc]
        found.append(record(scenario, thread_id, f"page {len(found)} of the commit", killed))
    return found


def empty_wal() -> None:
    """Bring the WAL into the file, so that the next commit begins at its start."""
    from database import db  # type: ignore[import-not-found]

    with closing(sqlite3.connect(db.path)) as conn:
        conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def record(scenario: str, thread_id: str, point: str, killed: bool) -> dict[str, Any]:
    return {"scenario": scenario, "thread_id": thread_id, "point": point, "killed": killed}


def main() -> None:
    in_child(lambda: command.upgrade(Config(BACKEND / "alembic.ini"), "head"))
    kills = kill_inside_commit if INSIDE else kill_everywhere
    print(json.dumps(kills(SCENARIO)))


if __name__ == "__main__":
    main()
