"""Two players."""

from fastapi.testclient import TestClient

from quiz.app import app

with TestClient(app) as client:
    for player, points in (("mo", 3), ("mo", 2), ("nia", 5)):
        client.post(f"/answers/{player}", params={"points": points}).raise_for_status()
