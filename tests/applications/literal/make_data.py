"""Serves two tables."""

from fastapi.testclient import TestClient

from recipes import app

with TestClient(app) as client:
    for table, dish in (("1", "soup"), ("1", "pie"), ("2", "rice")):
        client.post(f"/order/{table}", params={"dish": dish}).raise_for_status()
