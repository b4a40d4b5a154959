"""Two hikers on their way."""

from fastapi.testclient import TestClient

from trail import app

with TestClient(app) as client:
    for hiker, place in (("ola", "Gate"), ("ola", "Lake"), ("per", "Gate")):
        client.post(f"/hikers/{hiker}", params={"place": place}).raise_for_status()
