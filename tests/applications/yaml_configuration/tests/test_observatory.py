from uuid import uuid4

from fastapi.testclient import TestClient

from observatory.app import app


def test_the_guide_remembers_and_the_brightest_comes_first():
    visitor = uuid4().hex
    with TestClient(app) as client:
        client.post(f"/visits/{visitor}", params={"body": "Sirius", "magnitude": -1.46})
        told = client.post(f"/visits/{visitor}", params={"body": "Moon", "magnitude": -12.7}).json()
        assert told == {"told": "Moon is up; you also asked for Sirius"}
        assert client.get("/sightings").json()[0] == "Moon"
