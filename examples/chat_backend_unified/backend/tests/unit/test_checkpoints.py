"""Checkpoint operations through the checkpointer the server uses."""

from chat import turns
from chat.graph import build_graph
from server import open_checkpointer


async def test_a_turn_leaves_checkpoints_newest_first(new_thread):
    config = turns.make_config(new_thread())
    async with open_checkpointer() as checkpointer:
        await turns.say(build_graph(checkpointer), "Hello", config)
        steps = [saved.metadata["step"] async for saved in checkpointer.alist(config)]
    assert steps == [2, 1, 0, -1]


async def test_the_newest_checkpoint_holds_the_whole_conversation(new_thread):
    config = turns.make_config(new_thread())
    async with open_checkpointer() as checkpointer:
        graph = build_graph(checkpointer)
        await turns.say(graph, "my name is Ada", config)
        await turns.say(graph, "what is my name?", config)
        newest = await checkpointer.aget_tuple(config)
    said = [message.content for message in newest.checkpoint["channel_values"]["messages"]]
    assert said[0] == "my name is Ada"
    assert said[-1] == "Your name is Ada."


async def test_an_earlier_checkpoint_can_be_read_by_its_id(new_thread):
    config = turns.make_config(new_thread())
    async with open_checkpointer() as checkpointer:
        await turns.say(build_graph(checkpointer), "Hello", config)
        saved = [saved async for saved in checkpointer.alist(config)]
        again = await checkpointer.aget_tuple(saved[-1].config)
    assert again.checkpoint["id"] == saved[-1].checkpoint["id"]
    assert again.metadata["step"] == -1


async def test_threads_do_not_see_each_other(new_thread):
    first, second = turns.make_config(new_thread()), turns.make_config(new_thread())
    async with open_checkpointer() as checkpointer:
        graph = build_graph(checkpointer)
        await turns.say(graph, "my name is Ada", first)
        turn = await turns.say(graph, "what is my name?", second)
    assert turn.reply == "You have not told me your name."


async def test_deleting_a_thread_leaves_the_others(new_thread):
    kept, deleted = turns.make_config(new_thread()), turns.make_config(new_thread())
    async with open_checkpointer() as checkpointer:
        graph = build_graph(checkpointer)
        await turns.say(graph, "Hello", kept)
        await turns.say(graph, "Hello", deleted)
        await checkpointer.adelete_thread(deleted["configurable"]["thread_id"])
        assert await checkpointer.aget_tuple(deleted) is None
        assert await checkpointer.aget_tuple(kept) is not None


async def test_an_interrupt_is_kept_as_a_pending_write(new_thread):
    config = turns.make_config(new_thread())
    async with open_checkpointer() as checkpointer:
        graph = build_graph(checkpointer)
        await turns.say(graph, "send email to ada@example.invalid", config)
        newest = await checkpointer.aget_tuple(config)
    assert "__interrupt__" in [channel for _, channel, _ in newest.pending_writes]


async def test_a_checkpointer_opened_later_resumes_an_interrupted_thread(new_thread):
    config = turns.make_config(new_thread())
    async with open_checkpointer() as checkpointer:
        waiting = await turns.say(build_graph(checkpointer), "send email to ada@example.invalid", config)
    assert waiting.pending["to"] == "ada@example.invalid"
    async with open_checkpointer() as checkpointer:
        turn = await turns.decide(build_graph(checkpointer), "approve", config)
    assert turn.reply == "send_email says: The email to ada@example.invalid was sent."
