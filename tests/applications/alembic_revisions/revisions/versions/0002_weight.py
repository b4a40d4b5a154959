"""What a parcel weighs."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade():
    with op.batch_alter_table("parcels") as parcels:
        parcels.add_column(sa.Column("grams", sa.Integer, nullable=False, server_default="0"))
        parcels.create_index("ix_parcels_grams", ["grams"])


def downgrade():
    with op.batch_alter_table("parcels") as parcels:
        parcels.drop_index("ix_parcels_grams")
        parcels.drop_column("grams")
