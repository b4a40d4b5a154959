"""One clear night."""

from fastapi.testclient import TestClient

from observatory.app import app

with TestClient(app) as client:
    for visitor, body, magnitude in (("ida", "Vega", 0.0), ("ida", "Mars", -1.2), ("jo", "M31", 3.4)):
        client.post(f"/visits/{visitor}", params={"body": body, "magnitude": magnitude}).raise_for_status()
