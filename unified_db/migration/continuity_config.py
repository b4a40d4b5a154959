"""`[[continuity]]` of `unify.toml`: conversations begun before the move that have to go on."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from unified_db.migration.replies import is_pattern
from unified_db.migration.section import PLACEHOLDER, Section


class ContinuityRequestConfig(Section):
    """One request of a conversation that goes on; they are sent in order, first to last."""

    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"] = Field("GET", description="HTTP method.")
    path: str = Field(description="Path with query; {column} of `values` and {uuid} are filled in.")
    body: dict[str, Any] | None = Field(
        None,
        description="JSON body; {column} and {uuid} in its texts are filled in. "
        "A text that is nothing but {column} becomes the value with its type.",
    )
    expect_status: int = Field(200, description="The status of a right answer, on the old files already.")
    expect_text: str = Field("", description="What a right answer's text must hold.")
    expect_json: dict[str, Any] = Field({}, description="What a right answer's JSON must hold at least.")

    @field_validator("path")
    @classmethod
    def _begins_at_the_root(cls, path: str) -> str:
        if not path.startswith("/"):
            raise ValueError("a path begins with /")
        return path


class ContinuityConfig(Section):
    """A conversation begun before the move that has to go on: equal answers on both sides.

    Part of the benchmark gate, on fresh copies of the databases.
    """

    name: str = Field(description="How the conversation is called in tables.")
    values: str = Field(
        "",
        description="A SELECT on one source, as for [[benchmark.request]]; each row (the first 100) is one "
        "conversation. Without it there is one, with what the requests say.",
    )
    ignore: tuple[str, ...] = Field(
        (),
        description="What may differ in a JSON answer or event stream (a list of {event, data}): a field "
        "by name, wherever it is (created_at), or by path ([] for every position, * for every key), such "
        "as messages[].id.",
    )
    request: tuple[ContinuityRequestConfig, ...] = Field(
        min_length=1, description="What is asked of both sides."
    )

    @model_validator(mode="after")
    def _is_filled_in(self) -> ContinuityConfig:
        unknown = [n for r in self.request for n in PLACEHOLDER.findall(r.path) if n != "uuid"]
        if unknown and not self.values:
            raise ValueError(f"{{{unknown[0]}}} in a path needs `values`, a query that has this column")
        return self

    @field_validator("ignore")
    @classmethod
    def _are_fields(cls, fields: tuple[str, ...]) -> tuple[str, ...]:
        for field in fields:
            if not is_pattern(field):
                raise ValueError(f'{field!r} is no field such as "created_at" or "messages[].id"')
        return fields
