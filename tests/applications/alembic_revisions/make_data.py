"""Brings the tables to the newest revision, and sends three parcels."""

from alembic.config import main

main(["upgrade", "head"])

from parcels.web import send  # noqa: E402

for van, address, grams in (("red", "Hill 1", 300), ("red", "Hill 2", 900), ("blue", "Dale 3", 50)):
    send(van, address, grams)
