"""One process of several that write one file: `python -m benchmarks.processes SIDE FILE NAME SECONDS`.

Says "ready", waits for a line, writes for SECONDS with four writers and prints what it found.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

from benchmarks.sides import SAVERS, checkpoint, require_settings, thread

WRITERS = 4


async def write(saver: Any, name: str, end: float, found: dict[str, Any]) -> None:
    """Save checkpoints and pending writes until *end*; count what fails."""
    step = 0
    while time.monotonic() < end:
        start = time.perf_counter()
        try:
            made = await saver.aput(thread(name), checkpoint(step), {"source": "loop", "step": step}, {})
            await saver.aput_writes(made, [("step", step)], "task")
        except Exception as error:  # noqa: BLE001 - counted by what it says
            found["errors"].append(str(error)[:60])
        found["times"].append(time.perf_counter() - start)
        step += 1


async def main(side: str, path: str, name: str, seconds: float) -> None:
    """What the module says."""
    found: dict[str, Any] = {"errors": [], "times": []}
    async with SAVERS[side].from_conn_string(path) as saver:
        await saver.setup()
        await require_settings(saver)
        print("ready", flush=True)
        sys.stdin.readline()
        end = time.monotonic() + seconds
        await asyncio.gather(*(write(saver, f"{name}-{n}", end, found) for n in range(WRITERS)))
    print(json.dumps(found))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4])))
