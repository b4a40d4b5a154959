"""A hot day."""

from fastapi.testclient import TestClient

from greenhouse.api import app

with TestClient(app) as client:
    for name, degrees in (("fern", 21.5), ("fern", 31.0), ("cactus", 40.0)):
        client.post(f"/api/plants/{name}", params={"degrees": degrees}).raise_for_status()
