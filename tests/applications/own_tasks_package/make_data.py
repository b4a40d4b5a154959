"""Three chores for two hands."""

from fastapi.testclient import TestClient

from flows.serve import app

with TestClient(app) as client:
    for hand, title in (("uma", "sweep"), ("uma", "cook"), ("vic", "iron")):
        client.post(f"/hands/{hand}", params={"title": title}).raise_for_status()
