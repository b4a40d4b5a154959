"""What all sections of `unify.toml` have in common."""

from __future__ import annotations

import re

from pydantic import BaseModel, ConfigDict

PLACEHOLDER = re.compile(r"\{(\w+)\}")
"""What is filled into a request: {uuid}, or {column} of its values."""


class Section(BaseModel):
    """Frozen, and strict about unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")
