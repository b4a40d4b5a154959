"""Fills a running server with conversations, through its HTTP API only.

The same arguments always give the same conversations. Run again, it adds turns to them.
"""

import argparse
import random
import sys
from collections.abc import Iterator

import httpx

# None of these is a key to anything.
PROVIDERS = [
    {"name": "OpenAI", "model": "gpt-demo", "api_key": "sk-demo-SECRET-openai-0001"},
    {"name": "Anthropic", "model": "claude-demo", "api_key": "sk-demo-SECRET-anthropic-0002"},
    {"name": "Local", "model": "llama-demo", "api_key": "sk-demo-SECRET-local-0003"},
]
DEFAULT_PROVIDER = "Local"

NAMES = ["Ada", "Barbara", "Edsger", "Grace", "Katherine", "Zoë"]
TOPICS = ["checkpoint", "langgraph", "sqlite", "thread", "wal", "entropy"]
REMARKS = [
    "Good morning",
    "What is my name?",
    "Please explain that again, slowly",
    "Grüße aus Köln 👋",
    'It\'s "quoted"; and -- not a comment',
]
INTERRUPTED_THREAD = "seed-interrupted"


def make_messages(choice: random.Random, turns: int) -> Iterator[str]:
    """The messages of one conversation: a name first, then remarks and requests for tools."""
    yield f"Hello, my name is {choice.choice(NAMES)}"
    for _ in range(turns - 1):
        kind = choice.randrange(3)
        if kind == 0:
            a, b, c = (choice.randint(1, 99) for _ in range(3))
            yield f"calculate {a}*({b}+{c})"
        elif kind == 1:
            yield f"look up {choice.choice(TOPICS)}"
        else:
            yield choice.choice(REMARKS)


def add_providers(client: httpx.Client) -> list[int]:
    """The ids of the demo providers; those that exist are kept."""
    for provider in PROVIDERS:
        body = {
            **provider,
            "base_url": f"https://{provider['name'].lower()}.example.invalid/v1",
            "is_default": provider["name"] == DEFAULT_PROVIDER,
        }
        answer = client.post("/api/providers", json=body)
        if answer.status_code != httpx.codes.CONFLICT:
            answer.raise_for_status()
    names = {provider["name"] for provider in PROVIDERS}
    listed = client.get("/api/providers").raise_for_status().json()
    return [provider["id"] for provider in listed if provider["name"] in names]


def say(client: httpx.Client, thread_id: str, message: str, provider_id: int) -> None:
    """One message into one conversation."""
    body = {"thread_id": thread_id, "message": message, "provider_id": provider_id}
    client.post("/api/chat", json=body).raise_for_status()


def leave_interrupted(client: httpx.Client, provider_id: int) -> None:
    """One conversation that waits for a person, unless it does already."""
    history = client.get(f"/api/history/{INTERRUPTED_THREAD}")
    if history.is_success and history.json()["state"]["interrupted"]:
        return
    say(client, INTERRUPTED_THREAD, "Hello, my name is Grace", provider_id)
    request = "send email to team@example.invalid saying the report is ready"
    say(client, INTERRUPTED_THREAD, request, provider_id)


def seed(client: httpx.Client, *, conversations: int, turns: int, choice: random.Random) -> None:
    """Providers, conversations, and one that waits for a person."""
    providers = add_providers(client)
    for number in range(1, conversations + 1):
        provider_id = choice.choice(providers)
        for message in make_messages(choice, turns):
            say(client, f"seed-{number:04}", message, provider_id)
    leave_interrupted(client, providers[0])


def main() -> int:
    """Seed, then print what the server holds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--conversations", type=int, default=40, metavar="N")
    parser.add_argument("--turns", type=int, default=4, metavar="M", help="messages of each")
    parser.add_argument("--seed", type=int, default=1, help="another number, other messages")
    options = parser.parse_args()
    with httpx.Client(base_url=options.url, timeout=30) as client:
        seed(
            client,
            conversations=options.conversations,
            turns=options.turns,
            choice=random.Random(options.seed),
        )
        providers = client.get("/api/providers").raise_for_status().json()
        conversations = client.get("/api/conversations").raise_for_status().json()
    messages = sum(conversation["message_count"] for conversation in conversations)
    print(f"providers: {len(providers)}")
    print(f"conversations: {len(conversations)}")
    print(f"messages: {messages}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
