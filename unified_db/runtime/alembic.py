"""Keeps Alembic's autogenerate from dropping LangGraph's tables, which no model describes.

In `migrations/env.py`:

```python
from unified_db.runtime.alembic import include_object

context.configure(..., include_object=include_object)
```

With it `alembic check` on the unified database says "No new upgrade operations detected". An
application that has an `include_object` of its own joins the two with `and`.
"""

from __future__ import annotations

from typing import Any

__all__ = ["LANGGRAPH_TABLES", "include_name", "include_object"]

# Each with columns that tell it from a table of the application that has the same name.
LANGGRAPH_TABLES: dict[str, frozenset[str]] = {
    "checkpoints": frozenset({"thread_id", "checkpoint_ns", "checkpoint_id", "parent_checkpoint_id"}),
    "writes": frozenset({"thread_id", "checkpoint_ns", "checkpoint_id", "task_id", "channel"}),
    "store": frozenset({"prefix", "key", "value"}),
    "store_vectors": frozenset({"prefix", "key", "field_name", "embedding"}),
    "store_migrations": frozenset({"v"}),
    "vector_migrations": frozenset({"v"}),
}


def include_object(
    object_: Any,
    name: str | None,
    type_: str,
    reflected: bool,
    compare_to: Any,
) -> bool:
    """Whether Alembic is to compare something: everything but tables of LangGraph that no model has."""
    if type_ != "table" or not reflected or compare_to is not None or name not in LANGGRAPH_TABLES:
        return True
    return not LANGGRAPH_TABLES[name] <= {column.name for column in object_.columns}


def include_name(name: str | None, type_: str, _parent_names: Any) -> bool:
    """As `include_object`, by name alone, for `include_name`: those tables are not even reflected.

    Only for an application that has no table of its own with one of these names.
    """
    return type_ != "table" or name not in LANGGRAPH_TABLES
