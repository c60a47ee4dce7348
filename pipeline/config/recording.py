"""Recording: the part of a pipeline's YAML that says which clips of its sources are kept, and where."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, PlainValidator, WithJsonSchema

from pipeline.config.node import ByteCount, Node, PlainText
from pipeline.config.quantities import parse_seconds

__all__ = ["RecordConfig", "SourceRecordConfig"]

Length = Annotated[
    float,
    PlainValidator(parse_seconds),
    WithJsonSchema({"anyOf": [{"type": "number", "minimum": 0}, {"type": "string", "examples": ["7d", "12h"]}]}),
]
Rules = Annotated[tuple[str, ...], Field(strict=False, min_length=1)]


class SourceRecordConfig(Node):
    """What is recorded of one source in another way than `record` says."""

    before_s: float | None = Field(default=None, ge=0, le=600, description="As in `record`.")
    after_s: float | None = Field(default=None, ge=0, le=600, description="As in `record`.")
    longest_s: float | None = Field(default=None, gt=0, le=86_400, description="As in `record`.")
    rules: Rules | None = Field(default=None, description="As in `record`.")


class RecordConfig(Node):
    """Clips and snapshots of the events that the answers' output `tracks` tells (docs/edge-events.md)."""

    dir: PlainText = Field(
        default="recordings",
        min_length=1,
        description="The folder, relative to this file; it is made, for this user alone, and is for recordings only.",
    )
    before_s: float = Field(default=5.0, ge=0, le=600, description="Seconds before an event that its clip shows.")
    after_s: float = Field(default=10.0, ge=0, le=600, description="Seconds after it.")
    longest_s: float = Field(
        default=300.0, gt=0, le=86_400, description="Seconds of a clip, at most; the rest of an event is not kept."
    )
    rules: Rules | None = Field(
        default=None, description="The rules whose events are kept, such as enter. Default: all, object included."
    )
    keep: Length = Field(
        default=7 * 86_400.0,
        description="How long files are kept: seconds, or a text such as 12h or 7d. They are deleted when a clip ends.",
    )
    most: ByteCount = Field(
        default=10_000_000_000, description="Bytes of all files in the folder, at most; the oldest go first."
    )
    memory: ByteCount = Field(
        default=32 << 20,
        description="Bytes of each source's packets that are kept in memory for the seconds before an event, at most.",
    )
