from uuid import uuid4

from fastapi.testclient import TestClient

from trail import app


def test_a_hiker_passes_places_one_by_one():
    hiker, place = uuid4().hex, uuid4().hex
    with TestClient(app) as client:
        client.post(f"/hikers/{hiker}", params={"place": "Gate"})
        assert client.post(f"/hikers/{hiker}", params={"place": place}).json() == {
            "places": ["Gate", place],
            "last": place,
        }
        assert client.get("/places").json()[place] == 1
