"""Graphs whose state is a chain of writes: pruning, copying and deleting runs never empty it."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest
from langgraph.graph import END, START, StateGraph

from tests.runtime.support import config
from unified_db import UnifiedAsyncSqliteSaver, UnifiedDatabase

delta = pytest.importorskip("langgraph.channels.delta")


def append(said: list[str], more: Any) -> list[str]:
    """A reducer of batches: *more* holds what each task wrote."""
    return [*said, *(word for words in more for word in words)]


def build(saver: Any, frequency: int) -> Any:
    channel = delta.DeltaChannel(append, snapshot_frequency=frequency)
    # In this form, since annotations of a class are looked up outside of this function.
    graph = StateGraph(TypedDict("State", {"said": Annotated[list[str], channel]}))
    for name in ("one", "two", "three"):
        graph.add_node(name, lambda _state, name=name: {"said": [name]})
    graph.add_edge(START, "one")
    graph.add_edge("one", "two")
    graph.add_edge("one", "three")
    graph.add_edge(["two", "three"], END)
    return graph.compile(checkpointer=saver)


async def said(graph: Any, thread_id: str) -> list[str]:
    return list((await graph.aget_state(config(thread_id))).values["said"])


@pytest.mark.parametrize("inside", [False, True], ids=["by itself", "in a transaction"])
@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
@pytest.mark.parametrize("frequency", [1, 4, 1000])
async def test_a_chain_of_writes_survives_upkeep(
    path: Path, frequency: int, durability: str, inside: bool
) -> None:
    async with UnifiedDatabase(path) as db:
        saver = UnifiedAsyncSqliteSaver(db)
        await saver.setup()
        graph = build(saver, frequency)
        async with db.transaction() if inside else contextlib.nullcontext():
            for turn in range(4):
                about = {**config("t"), "metadata": {"run_id": f"run-{turn}"}}
                await graph.ainvoke({"said": [f"turn {turn}"]}, about, durability=durability)
            whole = await said(graph, "t")
            assert [word for word in whole if word.startswith("turn")] == [f"turn {n}" for n in range(4)]
            assert len(whole) == 16
            await saver.acopy_thread("t", "copy")
            await saver.aprune(["t"])
            assert await said(graph, "t") == whole
            await saver.adelete_for_runs(["run-0", "run-1"])
            assert await said(graph, "t") == whole
            assert await said(graph, "copy") == whole
            await graph.ainvoke({"said": ["later"]}, config("copy"), durability=durability)
            await saver.aprune(["copy"])
        assert await said(graph, "t") == whole
        assert (await said(graph, "copy"))[:17] == [*whole, "later"]
