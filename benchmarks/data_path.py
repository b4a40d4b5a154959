"""What the data path costs, as ratios to `cp` + fsync of the same files, all in one run.

    make bench-data        all sizes, several repetitions; writes docs/data-path-benchmark.{md,json,svg}

All sides end with an fsync, all sources were read before (warm page cache), sides take turns, and
before every measurement the folder is emptied and written out, and memory filled. The files are
made once.
"""

from __future__ import annotations

import argparse
import compileall
import functools
import json
import os
import platform
import resource
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import psutil  # type: ignore[import-untyped]  # it ships no types

from benchmarks.data_path_report import markdown, picture
from benchmarks.data_path_sources import Sources, make_sources

ROOT = Path(__file__).resolve().parent.parent
SIZES = {"0.1": (0.015, 0.085), "1.4": (0.2, 1.2), "4": (0.57, 3.43)}
_BIN = Path(sys.executable).parent


@contextmanager
def in_use(sources: Sources) -> Iterator[None]:
    """Keep the sources open as an application would, so that they are read beside it, WAL and all."""
    with ExitStack() as stack:
        for path in sources.paths:
            conn = stack.enter_context(closing(sqlite3.connect(path, isolation_level=None)))
            conn.execute("PRAGMA user_version=0")
        yield


def prepare(folder: Path, sources: Sources) -> None:
    """The same start for everybody: an empty folder, nothing left to be written, sources in memory.

    And no memory that is free: a virtual machine gives that back to its host and pays for every page
    anew, seconds for a gigabyte; who asks for pages last, pays most. What a machine that has been up for a
    while keeps in its memory are files, whose pages cost little to take.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    os.sync()
    fill_memory(folder.parent)
    for path in sources.paths:
        with path.open("rb") as stream:
            while stream.read(1 << 24):
                pass


def fill_memory(folder: Path) -> None:
    """Have the machine's free memory hold pages of a file, which is gone with this process."""
    hole, chunk = _hole(folder), bytearray(1 << 20)
    # From where it was read last: what comes next is in no one's memory.
    for _ in range(psutil.virtual_memory().free // len(chunk)):
        if not hole.readinto(chunk):  # type: ignore[attr-defined]  # a raw file has it
            hole.seek(0)


@functools.cache
def _hole(folder: Path) -> IO[bytes]:
    """A file without content, much larger than any memory, that takes no room on the disk."""
    hole = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115  # open as long as the process
    hole.truncate(1 << 40)
    return hole


def sides(folder: Path, sources: Sources) -> dict[str, Callable[[], None]]:
    """What is compared, by name; each one leaves its result in *folder*, durable."""

    def run(*command: str | Path) -> None:
        subprocess.run(list(map(str, command)), check=True, capture_output=True, cwd=ROOT)

    def settled(*commands: Sequence[str | Path]) -> None:
        for command in commands:
            run(*command)
        for path in folder.iterdir():
            descriptor = os.open(path, os.O_RDONLY)
            os.fsync(descriptor)
            os.close(descriptor)

    outs = [folder / p.name for p in sources.paths]
    copied = [["cp", str(p), str(folder / f"{n}-{p.name}")] for n in (1, 2) for p in sources.paths]
    pairs = list(zip(sources.paths, outs, strict=True))
    target = folder / "unified.sqlite"
    child = [sys.executable, "-m", "benchmarks.data_path_child"]
    merge: list[str | Path] = [*sources.paths, "--into", target, "--json"]
    return {
        "cp + fsync": lambda: settled(["cp", *sources.paths, folder]),
        # As many bytes as a merge with its backups leaves.
        "cp + fsync of two copies": lambda: settled(*copied),
        "sqlite3 .backup": lambda: settled(*(["sqlite3", str(p), f".backup '{o}'"] for p, o in pairs)),
        "VACUUM INTO": lambda: settled(*(["sqlite3", str(p), f"VACUUM INTO '{o}'"] for p, o in pairs)),
        "row-by-row script, copying alone": lambda: settled([*child, "script", target, *sources.paths]),
        "unify-db merge, exact proof": lambda: run(*child, "merge", *merge),
        "unify-db merge, whole": lambda: run(_BIN / "unify-db", "merge", *merge),
    }


def measure(
    folder: Path, sources: Sources, repetitions: int, *, slow: int
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Seconds of every side, and of processors at work for it, in turn; the script only *slow* times."""
    seconds: dict[str, list[float]] = {}
    worked: dict[str, list[float]] = {}
    with in_use(sources):
        for number in range(repetitions):
            for name, side in sides(folder, sources).items():
                if "script" in name and number >= slow:
                    continue
                prepare(folder, sources)
                started, before = time.perf_counter(), _work_of_children()
                side()
                seconds.setdefault(name, []).append(time.perf_counter() - started)
                worked.setdefault(name, []).append(_work_of_children() - before)
                print(f"  {sources.name} GB  {name:36} {seconds[name][-1]:7.2f} s", flush=True)
    return seconds, worked


def _work_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure_writer(folder: Path, sources: Sources) -> dict[str, float]:
    """The longest commit of a writer that never rests, alone and while its file is merged; milliseconds."""
    prepare(folder, sources)
    copies = Sources("", *(Path(shutil.copy(p, folder / p.name)) for p in sources.paths))
    with closing(sqlite3.connect(copies.checkpoints)) as conn:
        conn.execute("PRAGMA journal_mode=WAL")
    os.sync()
    report, stop = folder / "report.json", folder / "stop"
    command = [sys.executable, "-m", "benchmarks.data_path_child", "writer", copies.checkpoints, report, stop]
    with subprocess.Popen(list(map(str, command)), cwd=ROOT) as writer:
        time.sleep(6)
        begun = time.time()
        merge = [_BIN / "unify-db", "merge", *copies.paths, "--into", folder / "unified.sqlite", "--json"]
        done = subprocess.run(list(map(str, merge)), check=True, capture_output=True, text=True)
        ended = time.time()
        stop.touch()
        writer.wait()
    taken = json.loads(report.read_text())
    alone = sorted(ms for moment, ms in taken if moment < begun)
    during = sorted(ms for moment, ms in taken if begun <= moment <= ended)
    return {
        "alone_max_ms": alone[-1],
        "alone_p99_ms": alone[int(len(alone) * 0.99)],
        "during_max_ms": during[-1],
        "during_p99_ms": during[int(len(during) * 0.99)],
        "commits_during": float(len(during)),
        "merge_s": ended - begun if json.loads(done.stdout)["ok"] else 0.0,
    }


def measure_memory(folder: Path, sources: Sources) -> float:
    """The most megabytes beyond mapped pages that `unify-db merge` had at a time."""
    prepare(folder, sources)
    command = [_BIN / "unify-db", "merge", *sources.paths, "--into", folder / "unified.sqlite", "--json"]
    peak = 0
    with (
        in_use(sources),
        subprocess.Popen(
            list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process,
    ):
        while process.poll() is None:
            try:
                status = Path(f"/proc/{process.pid}/status").read_text()
            except OSError:
                break
            found = [int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon")]
            peak = max([peak, *found])
            time.sleep(0.02)
    assert process.returncode == 0
    return peak / 1000


def measure_phases(folder: Path, sources: Sources) -> dict[str, Any]:
    """Our phases one after the other in one process, the comparison alone, and how well time is foretold."""
    prepare(folder, sources)
    command = [sys.executable, "-m", "benchmarks.data_path_child", "phases", folder, *sources.paths]
    done = subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True, cwd=ROOT)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def machine() -> dict[str, str]:
    """What the figures were measured on."""
    names = [line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
             if line.startswith("model name")]  # fmt: skip
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "processor": f"{len(names)} x {names[0] if names else platform.machine()}",
        "memory": f"{memory:.0f} GB",
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
    }


def main() -> None:
    """Measure, print, and write the three files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=ROOT / ".benchmarks" / "data-path")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--sizes", nargs="*", default=list(SIZES), choices=list(SIZES))
    parser.add_argument("--into", type=Path, default=ROOT / "docs")
    parser.add_argument("--note", default="", help="what else went on, for the page")
    options = parser.parse_args()
    work = options.folder / "work"
    # As an installer leaves them: else each start compiles what the environment forbids to keep.
    for name in ("unified_db", "flows", "tasks"):
        compileall.compile_dir(ROOT / name, quiet=1)
    result: dict[str, Any] = {"machine": machine() | {"note": options.note}, "sizes": {}}
    for name in options.sizes:
        application, checkpoints = SIZES[name]
        sources = make_sources(options.folder, name, application_gb=application, checkpoints_gb=checkpoints)
        times = options.repetitions if name == "1.4" else max(1, options.repetitions // 2)
        print(f"{name} GB ({sources.size_bytes:,} bytes)", flush=True)
        entry: dict[str, Any] = {"bytes": sources.size_bytes}
        entry["seconds"], entry["processor"] = measure(work, sources, times, slow=2 if name == "1.4" else 1)
        entry["phases"] = [measure_phases(work, sources) for _ in range(min(times, 3))]
        if name == "1.4":
            entry["writer"] = [measure_writer(work, sources) for _ in range(5)]
        if name == "4":
            entry["memory_mb"] = [measure_memory(work, sources) for _ in range(2)]
        result["sizes"][name] = entry
    shutil.rmtree(work, ignore_errors=True)
    page = markdown(result)
    (options.into / "data-path-benchmark.json").write_text(json.dumps(result, indent=1) + "\n")
    (options.into / "data-path-benchmark.md").write_text(page)
    (options.into / "data-path-benchmark.svg").write_text(picture(result))
    print(page)


if __name__ == "__main__":
    main()
