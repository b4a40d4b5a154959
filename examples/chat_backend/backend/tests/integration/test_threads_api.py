"""Decisions, restarts and deletion: what rests on the checkpoints."""

from server import app

EMAIL = "send email to ada@example.invalid saying see you"


async def test_an_approved_email_is_sent(client, new_thread):
    thread_id = new_thread()
    asked = await client.post("/api/chat", json={"thread_id": thread_id, "message": EMAIL})
    assert asked.json()["interrupted"] is True
    assert asked.json()["pending"]["body"] == "see you"
    path = f"/api/chat/{thread_id}/resume"
    decided = await client.post(path, json={"decision": "approve"})
    assert decided.json()["interrupted"] is False
    assert decided.json()["reply"].endswith("was sent.")


async def test_nothing_else_is_said_until_a_decision_is_made(client, new_thread):
    body = {"thread_id": new_thread(), "message": EMAIL}
    path = f"/api/chat/{body['thread_id']}/resume"
    await client.post("/api/chat", json=body)
    assert (await client.post("/api/chat", json=body)).status_code == 409
    rejected = await client.post(path, json={"decision": "reject"})
    assert rejected.json()["reply"].endswith("was rejected and not sent.")
    assert (await client.post(path, json={"decision": "reject"})).status_code == 409


async def test_a_conversation_goes_on_after_a_restart(start_app, new_thread):
    thread_id = new_thread()
    async with start_app() as client:
        body = {"thread_id": thread_id, "message": "my name is Ada"}
        await client.post("/api/chat", json=body)
        await client.post("/api/chat", json={"thread_id": thread_id, "message": EMAIL})
        before = (await client.get(f"/api/history/{thread_id}")).json()
    async with start_app() as client:
        assert (await client.get(f"/api/history/{thread_id}")).json() == before
        await client.post(f"/api/chat/{thread_id}/resume", json={"decision": "approve"})
        body = {"thread_id": thread_id, "message": "what is my name?"}
        assert (await client.post("/api/chat", json=body)).json()["reply"] == "Your name is Ada."


async def test_a_deleted_conversation_leaves_no_checkpoints(client, new_thread):
    thread_id = new_thread()
    config = {"configurable": {"thread_id": thread_id}}
    checkpointer = app.state.checkpointer
    await client.post("/api/chat", json={"thread_id": thread_id, "message": "Hello"})
    assert len([saved async for saved in checkpointer.alist(config)]) == 4
    assert (await client.delete(f"/api/conversations/{thread_id}")).status_code == 204
    assert await checkpointer.aget_tuple(config) is None
    listed = (await client.get("/api/conversations")).json()
    assert thread_id not in [conversation["thread_id"] for conversation in listed]
