from uuid import uuid4

import pytest
from fastapi.testclient import TestClient

from room.main import app


@pytest.fixture
def client():
    with TestClient(app) as client:
        yield client


def test_what_is_lent_is_listed(client):
    thread = uuid4().hex
    assert client.post(f"/loans/{thread}", params={"book": "Ulysses"}).status_code == 200
    assert {"book": "Ulysses", "thread": thread} in client.get("/loans").json()


def test_a_conversation_goes_on(client):
    thread = uuid4().hex
    answers = [client.post(f"/loans/{thread}", params={"book": b}).json()["answer"] for b in "ab"]
    assert answers == ["you have said 1 things", "you have said 2 things"]
