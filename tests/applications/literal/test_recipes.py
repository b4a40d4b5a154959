from uuid import uuid4

from fastapi.testclient import TestClient

from recipes import app


def test_a_table_is_served_in_order_and_its_dishes_are_listed():
    table = uuid4().hex
    with TestClient(app) as client:
        client.post(f"/order/{table}", params={"dish": "leek"})
        served = client.post(f"/order/{table}", params={"dish": "fig", "minutes": 3}).json()
        assert served == ["leek", "leek, done", "fig", "fig, done"]
        assert client.get("/").json()["fig"] == 3
