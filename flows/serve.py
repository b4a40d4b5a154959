"""`make serve`: Prefect's pages, both pools with their workers, all deployments; Ctrl-C ends all of them.

So does whatever else ends this process, a kill -9 too: see :mod:`flows.tied`.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from flows import tied
from flows.through_prefect import SETTINGS, PrefectUnavailableError, wait_until_healthy

POOL = "unify-db"
FLEET_POOL = "unify-db-fleet"
_HERE = Path(__file__).resolve().parent.parent

# The command goes on without Prefect when its API is slow; a deployed run has to wait for it instead.
_FOR_THE_COMMAND = ("PREFECT_API_REQUEST_TIMEOUT", "PREFECT_CLIENT_MAX_RETRIES")


def main() -> int:
    """Serve until a signal comes; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m flows.serve", description=__doc__)
    parser.add_argument("--port", type=int, default=4200)
    parser.add_argument("--at-once", type=int, default=1, help="the limit of the pool unify-db")
    options = parser.parse_args()
    port = options.port
    env = {
        **os.environ,
        **{name: value for name, value in SETTINGS.items() if name not in _FOR_THE_COMMAND},
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        # The pages ask port 4200 otherwise, whatever port they come from.
        "PREFECT_UI_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_WORKER_QUERY_SECONDS": "2",
    }
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with running(env, "server", "start", "--host", "127.0.0.1", "--port", str(port)) as server:
            _wait(server, env["PREFECT_API_URL"])
            _make_pools(env, options.at_once)
            _prefect(env, "--no-prompt", "deploy", "--all")
            _say(f"Pages: http://127.0.0.1:{port}   (Ctrl-C ends server and worker)")
            _say(f"Now:   PREFECT_API_URL={env['PREFECT_API_URL']} prefect deployment run unify-db/dry-run")
            with _worker(env, FLEET_POOL, server), _worker(env, POOL, server) as worker:
                return worker.wait()
    except KeyboardInterrupt:
        return 0
    except PrefectUnavailableError as error:
        _say(f"Prefect: {error}")
        return 1
    except subprocess.CalledProcessError as error:
        return error.returncode


def _make_pools(env: dict[str, str], at_once: int) -> None:
    for pool in (POOL, FLEET_POOL):
        _prefect(env, "work-pool", "create", pool, "--type", "process", "--overwrite")
    # The queue of all applications. That of the fleets has no limit: they only wait.
    _prefect(env, "work-pool", "set-concurrency-limit", POOL, str(at_once))


def _worker(
    env: dict[str, str], pool: str, server: subprocess.Popen[bytes]
) -> contextlib.AbstractContextManager[subprocess.Popen[bytes]]:
    return running(env, "worker", "start", "--pool", pool, before=server)


@contextlib.contextmanager
def running(
    env: dict[str, str],
    *arguments: str,
    folder: Path = _HERE,
    output: IO[bytes] | None = None,
    before: subprocess.Popen[bytes] | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """`prefect ARGUMENTS` for the length of the block; it ends with this process, however that ends.

    Args:
        env: Its whole environment.
        arguments: A command of Prefect's that goes on until it is ended.
        folder: Where it runs.
        output: Takes what it prints; without it that goes where ours goes.
        before: What is to end after it, also where this process is killed.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "flows.tied", "prefect", *arguments],
        env=env,
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=output,
        stderr=subprocess.STDOUT if output else None,
        # A session of its own: Ctrl-C comes to us alone, and we end worker and server in that order.
        start_new_session=True,
        # It holds open what ends the other one.
        pass_fds=[_input_of(before).fileno()] if before else [],
    )
    try:
        yield process
    finally:
        # Not a SIGTERM: were we killed now there would be a second one, at which Prefect drops everything.
        _input_of(process).close()
        try:
            process.wait(timeout=tied.STOP_S + 1)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _input_of(process: subprocess.Popen[bytes]) -> IO[bytes]:
    assert process.stdin is not None
    return process.stdin


def _prefect(env: dict[str, str], *arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "prefect", *arguments], env=env, cwd=_HERE, check=True)


def _wait(server: subprocess.Popen[bytes], url: str) -> None:
    def require_running() -> None:
        if server.poll() is not None:
            raise PrefectUnavailableError("its server ended; is the port taken? (make serve SERVE_PORT=...)")

    wait_until_healthy(url, check=require_running)


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
