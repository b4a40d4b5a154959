"""LangGraph's serializer, which need not build the same value again for the same bytes.

A conversation grows: each checkpoint holds all messages of the one before it, so that most of what
is decoded was decoded a moment ago. What LangGraph makes of an extension's bytes depends on them
alone, and is remembered here for as long as little memory suffices.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

_GENERATION_BYTES = 1 << 20


def remembering_serializer() -> JsonPlusSerializer:
    """A serializer that unpickles nothing and decodes equal messages once, if they come close together.

    For values that are looked at and dropped: those that were equal are one object. Where this
    version of LangGraph offers no place for it, the serializer is the ordinary one.
    """
    plain = JsonPlusSerializer(pickle_fallback=False)
    build = getattr(plain, "_unpack_ext_hook", None)
    if build is None or "__unpack_ext_hook__" not in inspect.signature(JsonPlusSerializer).parameters:
        return plain
    return JsonPlusSerializer(pickle_fallback=False, __unpack_ext_hook__=_Memory(build))


class _Memory:
    """What was built from which bytes, in two generations of which the older one is forgotten whole."""

    def __init__(self, build: Callable[[int, bytes], Any]) -> None:
        self._build = build
        # By kind first: a pair of kind and bytes as the key would be made a million times.
        self._young: dict[int, dict[bytes, Any]] = {}
        self._old: dict[int, dict[bytes, Any]] = {}
        self._young_bytes = 0

    def __call__(self, code: int, content: bytes) -> Any:
        try:
            return self._young[code][content]
        except KeyError:
            return self._recall(code, content)

    def _recall(self, code: int, content: bytes) -> Any:
        try:
            value = self._old[code][content]
        except KeyError:
            value = self._build(code, content)
        if self._young_bytes > _GENERATION_BYTES:
            self._old, self._young, self._young_bytes = self._young, {}, 0
        self._young.setdefault(code, {})[content] = value
        self._young_bytes += len(content)
        return value
