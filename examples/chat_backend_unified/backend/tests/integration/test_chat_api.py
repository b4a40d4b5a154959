import asyncio


async def test_ping_names_the_schema_the_tables_are_at(client):
    answer = await client.get("/api/ping")
    assert answer.status_code == 200
    assert answer.json()["status"] == "ok"
    assert answer.json()["schema"]


async def test_a_conversation_remembers_what_was_said(client, new_thread):
    thread_id = new_thread()
    for message in ["Hello, my name is Ada", "Good morning", "What is my name?"]:
        answer = await client.post("/api/chat", json={"thread_id": thread_id, "message": message})
        assert answer.status_code == 200
    assert answer.json()["reply"] == "Your name is Ada."


async def test_a_tools_result_is_in_the_reply_and_in_the_state(client, new_thread):
    thread_id = new_thread()
    body = {"thread_id": thread_id, "message": "calculate (2+3)*4"}
    assert (await client.post("/api/chat", json=body)).json()["reply"] == "calculator says: 20"
    state = (await client.get(f"/api/history/{thread_id}")).json()["state"]
    assert [message["type"] for message in state["messages"]] == ["human", "ai", "tool", "ai"]
    assert state["tool_runs"] == 1


async def test_tables_and_checkpoint_tell_the_same_history(client, new_thread):
    thread_id = new_thread()
    for message in ["first 👋", "second"]:
        await client.post("/api/chat", json={"thread_id": thread_id, "message": message})
    history = (await client.get(f"/api/history/{thread_id}")).json()
    in_tables = [message["content"] for message in history["messages"]]
    in_checkpoint = [message["content"] for message in history["state"]["messages"]]
    assert in_tables == in_checkpoint
    assert history["title"] == "first 👋"


async def test_the_chosen_providers_model_answers(client, post_provider, new_thread, unique_name):
    provider = (await post_provider(unique_name)).json()
    body = {"thread_id": new_thread(), "message": "Hello", "provider_id": provider["id"]}
    assert (await client.post("/api/chat", json=body)).json()["model"] == "demo-model"


async def test_an_unknown_provider_starts_no_conversation(client, new_thread):
    thread_id = new_thread()
    body = {"thread_id": thread_id, "message": "Hello", "provider_id": 2**31 - 1}
    assert (await client.post("/api/chat", json=body)).status_code == 404
    assert (await client.get(f"/api/history/{thread_id}")).status_code == 404


async def test_conversations_at_the_same_time_do_not_disturb_each_other(client, new_thread):
    async def talk(thread_id: str, name: str) -> str:
        for message in [f"my name is {name}", "calculate 1+1", "what is my name?"]:
            answer = await client.post("/api/chat", json={"thread_id": thread_id, "message": message})
            assert answer.status_code == 200, answer.text
        return answer.json()["reply"]

    names = [f"Person{number}" for number in range(8)]
    replies = await asyncio.gather(*(talk(new_thread(), name) for name in names))
    assert replies == [f"Your name is {name}." for name in names]
