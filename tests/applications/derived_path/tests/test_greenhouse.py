from uuid import uuid4

from fastapi.testclient import TestClient

from greenhouse.api import app


def test_advice_follows_from_all_readings_of_a_plant():
    name = uuid4().hex
    with TestClient(app) as client:
        first, second = (client.post(f"/api/plants/{name}", params={"degrees": d}).json() for d in (20, 40))
        assert (first["advice"], second) == ("wait", {"advice": "water", "readings": 2})
        assert client.get("/api/plants").json()[name] == 2
