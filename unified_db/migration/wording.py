"""How numbers and moments read to people, and what no reader may see.

Shared by the report, the artifacts and the command's summary, so that a size or a
time reads the same everywhere. Knows no record.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from datetime import UTC, datetime

MASK = "•••"
UNKNOWN = "not known"

# A single block bounds a ratio by a factor of millions.
_SAYS_NOTHING = 1000
_SIZES = ("KiB", "MiB", "GiB", "TiB")

# A password may hold "/" and "@" (SQLAlchemy accepts them raw), so everything up to the last "@" of the
# word goes: a masked port is ugly, a shown password is a leak.
# Anchored at "://", since a pattern that begins with the scheme takes quadratic time on a long word.
_URL_LOGIN = re.compile(r"://[^\s:/@\"'<>`]*:[^\s\"'<>`]*@")
_URL_TOKEN = re.compile(r"://(?!git@)[^\s:/@\"'<>`]+@")
_QUERY = re.compile(
    r"(?P<key>[?&](?:[\w-]*(?:password|passwd|token|secret|key))=)[^\s&#\"'<>`]+", re.IGNORECASE
)
_TOKEN = re.compile(
    r"\b(?:sk-[\w-]{8,}|sk_(?:live|test)_\w+|gh[oprsu]_\w{20,}|github_pat_\w{20,}|glpat-[\w-]{12,}"
    r"|xox[abprs]-[\w-]{8,}|hf_[A-Za-z0-9]{20,}|AKIA[0-9A-Z]{16}|AIza[\w-]{30,}"
    r"|eyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]*)"
)
_BEARER = re.compile(r"(?P<key>\b(?:Bearer|Basic)\s+)[A-Za-z0-9._~+/=-]{8,}")

_ASSIGNMENT = re.compile(
    r"^(?P<sign>[ +-]?)(?P<key>\s*(?:#\s*)?(?:export\s+)?(?P<name>[\w.-]+)\s*=)(?P<value>.*)$"
)
_SECRET_NAME = re.compile(r"key|token|secret|passw|passphrase|pwd|credential|auth|dsn", re.IGNORECASE)

_QUOTED = re.compile(
    r"\"\"\".*?(?:\"\"\"|$)|'''.*?(?:'''|$)|\"(?:[^\"\\\n]|\\.)*\"|'(?:[^'\\\n]|\\.)*'", re.DOTALL
)
_PARAMETERS = re.compile(r"\[parameters:.*?(?:\)\]|\}\]|\]\]|$)", re.DOTALL)
_COMPARISON = re.compile(
    r"^(?:E\s+|\s+)(?:[-+?](?:\s|$)|Full diff|Omitting|Use -v|At index|Left contains|Right contains)"
)
_FAILURE_LINES = 12
_FAILURE_CHARS = 1200


def format_bytes(count: float) -> str:
    """A size with three digits in binary units, such as '12.3 MiB'."""
    if abs(count) < 1024:
        return f"{count:.0f} bytes"
    size = float(count)
    for unit in _SIZES:
        size /= 1024
        if abs(size) < 999.5 or unit == _SIZES[-1]:
            break
    return f"{_three_digits(size)} {unit}"


def format_ms(milliseconds: float) -> str:
    """A short time, such as '0.84 ms', '340 ms' or '2.1 s'."""
    if not math.isfinite(milliseconds):
        return UNKNOWN
    if abs(milliseconds) >= 999.5:
        return format_seconds(milliseconds / 1000)
    return f"{_three_digits(milliseconds)} ms"


def format_seconds(seconds: float) -> str:
    """A duration, such as '0.4 s', '12 s' or '2 min 5 s'."""
    if not math.isfinite(seconds):
        return UNKNOWN
    if 0 < abs(seconds) < 0.0995:
        return f"{_three_digits(seconds * 1000)} ms"
    if abs(seconds) < 9.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def format_ratio(ratio: float) -> str:
    """A ratio after/before with two decimals, such as '1.03'."""
    return f"{ratio:.2f}" if math.isfinite(ratio) else UNKNOWN


def format_bounds(low: float, high: float) -> str:
    """The bounds of a ratio, such as '0.97 to 1.05'; not known from so few blocks that they say nothing."""
    return (
        f"{format_ratio(low)} to {format_ratio(high)}" if _say_something(low, high) else f"bounds {UNKNOWN}"
    )


def format_noise(ratio: float, low: float, high: float) -> str:
    """How far the upper bound of a ratio lies above it, such as 'noise of 15 %'."""
    return f"noise of {(high / ratio - 1) * 100:.0f} %" if _say_something(low, high) else f"noise {UNKNOWN}"


def _say_something(low: float, high: float) -> bool:
    return high < low * _SAYS_NOTHING


def format_change(ratio: float) -> str:
    """A ratio after/before of times in words, such as '3 % slower'."""
    if not math.isfinite(ratio):
        return UNKNOWN
    percent = abs(ratio - 1) * 100
    if percent < 0.5:
        return "the same"
    return f"{percent:.0f} % {'slower' if ratio > 1 else 'faster'}"


def format_moment(moment: datetime) -> str:
    """A moment in UTC to the second."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def format_number(number: float) -> str:
    """A whole number with thousands set apart."""
    return f"{number:,.0f}"


def count(number: int, noun: str, plural: str = "") -> str:
    """A number with its noun, such as '1 row' or '4,812 rows'."""
    return f"{format_number(number)} {noun if number == 1 else plural or noun + 's'}"


def join_words(words: Iterable[str]) -> str:
    """'a', 'a and b' or 'a, b and c'."""
    *first, last = list(words) or [""]
    return f"{', '.join(first)} and {last}" if first else last


def shorten(text: str, limit: int) -> str:
    """*text* cut to *limit* characters with an ellipsis."""
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"


def mask(text: str) -> str:
    """*text* without logins in URLs, bearer tokens and what is shaped like an API key."""
    text = _URL_LOGIN.sub(f"://{MASK}@", text)
    text = _URL_TOKEN.sub(f"://{MASK}@", text)
    text = _QUERY.sub(rf"\g<key>{MASK}", text)
    text = _BEARER.sub(rf"\g<key>{MASK}", text)
    return _TOKEN.sub(MASK, text)


def mask_dotenv_diff(diff: str) -> str:
    """A diff of a dotenv file with the values of unchanged keys and of secrets hidden."""
    return "\n".join(_mask_dotenv_line(line) for line in diff.splitlines())


def _mask_dotenv_line(line: str) -> str:
    found = _ASSIGNMENT.match(line)
    if found is None or line.startswith(("---", "+++", "@@")):
        return mask(line)
    changed = found["sign"] in {"+", "-"}
    if changed and not _SECRET_NAME.search(found["name"]):
        return mask(line)
    return f"{found['sign']}{found['key']}{MASK}" if found["value"].strip() else line


def mask_failure(detail: str) -> str:
    """The first lines of a failed test without the values that it compared.

    Quoted text, SQL parameters and pytest's comparison lines can all be rows of the database,
    so only the code's own words stay: exception, message, file and line.
    """
    return shorten("\n".join(mask_output(detail).splitlines()[:_FAILURE_LINES]), _FAILURE_CHARS)


def mask_output(text: str) -> str:
    """All lines of what a process printed, masked as those of a failed test."""
    shown = _PARAMETERS.sub("[parameters hidden]", text.strip("\n"))
    lines = [line for line in shown.splitlines() if not _COMPARISON.match(line)]
    hidden = _QUOTED.sub(f"'{MASK}'", "\n".join(lines))
    return "\n".join(shorten(mask(line), 240) for line in hidden.splitlines())


def _three_digits(number: float) -> str:
    size = abs(number)
    if size >= 99.5 or number == 0:
        return f"{number:.0f}"
    return f"{number:.1f}" if size >= 9.95 else f"{number:.2f}"
