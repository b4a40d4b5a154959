"""Alembic's entry point: which database, and which tables it should have."""

from alembic import context
from sqlalchemy import create_engine, pool
from unified_db.runtime.alembic import include_object

from core.env_loader import get_database_url
from database import Base


def run_online() -> None:
    """Bring the database to the wanted revision."""
    # An engine of its own, not the application's: that one switches foreign keys on, and a
    # batch migration drops and recreates tables, which would cascade to the messages.
    engine = create_engine(get_database_url(), poolclass=pool.NullPool)
    with engine.connect() as connection:
        context.configure(
            connection=connection,
            target_metadata=Base.metadata,
            render_as_batch=True,
            include_object=include_object,
        )
        with context.begin_transaction():
            context.run_migrations()
    engine.dispose()


if context.is_offline_mode():
    # Batch migrations read the table they change, so there is no SQL to print without a database.
    raise SystemExit("--sql is not supported: run `alembic upgrade head` on a copy instead")
run_online()
