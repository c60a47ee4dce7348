"""Node: what every mapping of a pipeline's YAML has in common."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, WithJsonSchema

from pipeline.config.quantities import parse_bytes

__all__ = ["ByteCount", "Node", "Port"]

ByteCount = Annotated[
    int,
    PlainValidator(parse_bytes),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "examples": ["16MiB", "10MB"]}]}),
]

Port = Annotated[int, Field(ge=0, le=65_535)]
"""A port to listen on; 0: any that is free."""


class Node(BaseModel):
    """A mapping: other fields than its own are refused, and values are taken as they are written."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
