import os
from uuid import uuid4

from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import text

from parcels.tables import engine
from parcels.web import parcels, send


def test_a_van_is_full_above_a_kilogram():
    van = uuid4().hex
    assert [send(van, "Road 4", grams)["full"] for grams in (600, 500)] == [False, True]
    assert parcels()[-1] == {"address": "Road 4", "grams": 500}


def test_the_tables_are_at_the_newest_revision_where_alembic_looks():
    config = Config("alembic.ini")
    assert config.get_main_option("sqlalchemy.url") == "sqlite:///" + os.environ["PARCELS_DB"]
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT version_num FROM alembic_version")) == (
            ScriptDirectory.from_config(config).get_current_head()
        )
