"""Lends three books, as readers would."""

from fastapi.testclient import TestClient

from room.main import app

with TestClient(app) as client:
    for thread, book in (("ada", "Middlemarch"), ("ada", "Emma"), ("bo", "Walden")):
        client.post(f"/loans/{thread}", params={"book": book}).raise_for_status()
