from uuid import uuid4

from fastapi.testclient import TestClient

from quiz.app import app


def test_points_add_up():
    player = uuid4().hex
    with TestClient(app) as client:
        client.post(f"/answers/{player}", params={"points": 1})
        assert client.post(f"/answers/{player}", params={"points": 4}).json() == {"points": 5}
        assert client.get("/scores").json()[player] == 5
