"""The tiny application with something wrong that shows only once its two databases are one."""

from __future__ import annotations

from tests.prefect_side.tiny_application import TinyApplication
from unified_db.migration.records import BenchmarkEvidence, Latency

FAULTS = {
    "fails": 'if time.monotonic() - began > 3: return self.send_error(500, "out of order")',
    "is slow": "time.sleep(0.2)",
    "leaks": 'kept.append(b"x" * (40 << 20))',
    "logs tracebacks": 'print("Traceback (most recent call last):", file=sys.stderr, flush=True)',
    "is only as bad as before": 'kept.append(1); len(kept) == 1 and print("ERROR once", file=sys.stderr)\n'
    '        if len(kept) % 9 == 0: return self.send_error(503, "busy")',
    "dies": "threading.Timer(0.3, os._exit, [1]).start()",
}

# Each answer is preceded by a row, as an application writes what it does.
_PLANTED = """
import threading, time
began, kept, plain = time.monotonic(), [], Handler.do_GET

def faulty(self):
    if database("NOTES") == database("EVENTS"):
        with closing(sqlite3.connect(database("NOTES"), timeout=10)) as connection, connection:
            connection.execute("INSERT INTO notes (text) VALUES ('since')")
        {fault}
    plain(self)

Handler.do_GET = faulty

if __name__"""


def plant(app: TinyApplication, fault: str) -> None:
    """Have the server of *app* do what *fault* says while its databases are one."""
    server = app.root / "server.py"
    server.write_text(server.read_text().replace("\nif __name__", _PLANTED.format(fault=FAULTS[fault])))


def old_side(**figures: object) -> BenchmarkEvidence:
    """What a benchmark of the tiny application's old files shows, with *figures* of its own."""
    usual: dict[str, object] = {
        "latencies": tuple(
            Latency(
                name="counts",
                concurrency=concurrency,
                before_ms=3,
                after_ms=3,
                before_p95_ms=6,
                after_p95_ms=6,
                ratio=1,
                low=0.98,
                high=1.02,
                requests=400,
            )
            for concurrency in (1, 8)
        ),
        "operations": (),
        "blocks": 3,
        "before_rss_bytes": 30 << 20,
        "after_rss_bytes": 30 << 20,
        **dict.fromkeys(("before_errors", "after_errors", "before_log_errors", "after_log_errors"), 0),
        "sources_bytes": 1,
        "unified_bytes": 1,
        "restart_ms": 100,
    }
    return BenchmarkEvidence.model_validate({**usual, **figures})
