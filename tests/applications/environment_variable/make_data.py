"""Reports three cases."""

from fastapi.testclient import TestClient

from server import app

with TestClient(app) as client:
    for thread, subject in (("one", "no light"), ("two", "a small fire"), ("one", "still no light")):
        client.post(f"/tickets/{thread}", params={"subject": subject}).raise_for_status()
