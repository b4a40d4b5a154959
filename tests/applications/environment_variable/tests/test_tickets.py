from uuid import uuid4

from fastapi.testclient import TestClient

from server import app


def test_a_fire_is_urgent_and_a_thread_remembers_its_words():
    thread = uuid4().hex
    with TestClient(app) as client:
        answers = [
            client.post(f"/tickets/{thread}", params={"subject": s}).json() for s in ("smoke", "and fire")
        ]
        assert [a["urgent"] for a in answers] == [False, True]
        assert answers[-1]["words"] == 3
        assert "and fire" in [t["subject"] for t in client.get("/tickets").json()]
