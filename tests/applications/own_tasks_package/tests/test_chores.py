from uuid import uuid4

from fastapi.testclient import TestClient

from flows.serve import app


def test_the_first_by_the_alphabet_comes_next():
    hand = uuid4().hex
    with TestClient(app) as client:
        client.post(f"/hands/{hand}", params={"title": "mop"})
        given = client.post(f"/hands/{hand}", params={"title": "dust"}).json()
        assert given == {"titles": ["mop", "dust"], "next": "dust"}
        assert client.get("/tasks").json()[-2:] == ["mop", "dust"]
