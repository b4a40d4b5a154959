"""When a conversation was last used, and an index for reading its messages in order.

Revision ID: 0004
Revises: 0003
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("conversations", sa.Column("updated_at", sa.DateTime(), nullable=True))
    op.execute("UPDATE conversations SET updated_at = created_at")
    op.create_index("ix_conversations_updated_at", "conversations", ["updated_at"])
    op.create_index("ix_messages_conversation_id_id", "messages", ["conversation_id", "id"])


def downgrade() -> None:
    op.drop_index("ix_messages_conversation_id_id", table_name="messages")
    op.drop_index("ix_conversations_updated_at", table_name="conversations")
    op.drop_column("conversations", "updated_at")
