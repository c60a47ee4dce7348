"""Node: what every mapping of a pipeline's YAML has in common."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainValidator, WithJsonSchema

from pipeline.config.quantities import parse_bytes

__all__ = ["PLAIN_TEXT", "ByteCount", "Node", "PlainText", "Port", "is_plain_text"]

ByteCount = Annotated[
    int,
    PlainValidator(parse_bytes),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "examples": ["16MiB", "10MB"]}]}),
]

Port = Annotated[int, Field(ge=0, le=65_535)]
"""A port to listen on; 0: any that is free."""


PLAIN_TEXT = "text without NUL and halves of surrogate pairs"
"""What `is_plain_text` takes, for messages."""


def is_plain_text(value: str) -> bool:
    """Whether paths and variables of a process may be so: without NUL, and without halves of surrogate pairs."""
    return not any(letter == "\0" or "\ud800" <= letter <= "\udfff" for letter in value)


def _plain_text(value: str) -> str:
    if not is_plain_text(value):
        raise ValueError(f"expected {PLAIN_TEXT}")
    return value


PlainText = Annotated[str, AfterValidator(_plain_text)]
"""A path, or a name that the system looks up, such as a host's."""


class Node(BaseModel):
    """A mapping: other fields than its own are refused, and values are taken as they are written."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
