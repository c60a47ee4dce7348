"""What a stage says of itself beside its inputs and outputs: the attributes and hooks that it may leave out.

`stages.stage` says what each of them means to the author of a stage. Here alone they are looked up, with what holds
for a stage that leaves one out.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

__all__ = ["CPU", "Attributes", "Declaration", "declared"]

CPU = "cpu"
"""The device of a stage that names none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attributes:
    """The attributes of a stage that planning asks for; plain values, so that they can be sent."""

    device: str = CPU
    """What kind of device it runs on: "cpu" or "cuda"."""
    concurrency: int = 1
    """Batches that one worker of it computes at once."""
    scales_with_cores: bool = False
    """Whether it is worth as many workers as there are cores for it."""
    ragged: bool = False
    """Whether rows of different shapes may share a batch."""
    pad: Mapping[str, int] = field(default_factory=dict)
    """Free dimension -> multiple, up to which rows of different shapes are padded."""
    max_batch: int | None = None
    """The largest batch that it takes; None: any."""
    notes: tuple[str, ...] = ()
    """What a person should know of it beside its specs."""
    parted: bool = False
    """Whether it gives its outputs in parts: its `process` is a generator."""

    def attributes(self) -> dict[str, Any]:
        """The attributes alone, by name."""
        return {each.name: getattr(self, each.name) for each in fields(Attributes)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Declaration(Attributes):
    """All that a stage may leave out."""

    setup: Callable[[Any], object] | None = None
    """Called once with a `StageContext` before the first batch."""
    teardown: Callable[[], object] | None = None
    """Called once after the last batch."""
    attach_memory: Callable[[Sequence[memoryview]], object] | None = None
    """Called with the memory that all views will lie in, after `setup` and whenever it is other memory."""

    def device_of(self, placed: str) -> str:
        """The device that a worker which was placed on `placed` names to the stage.

        A stage for the CPU may share the process of one that has a GPU.
        """
        return CPU if self.device == CPU else placed


def declared(stage: object) -> Declaration:
    """What `stage` declares; of an attribute that is something of the stage's own, what holds without it."""
    max_batch = getattr(stage, "max_batch", None)
    notes = getattr(stage, "notes", ())
    return Declaration(
        device=getattr(stage, "device", CPU),
        concurrency=getattr(stage, "concurrency", 1),
        scales_with_cores=bool(getattr(stage, "scales_with_cores", False)),
        ragged=bool(getattr(stage, "ragged", False)),
        pad=dict(getattr(stage, "pad", {})),
        max_batch=max_batch if type(max_batch) is int and max_batch >= 1 else None,
        notes=tuple(text for text in notes if isinstance(text, str)) if isinstance(notes, (list, tuple)) else (),
        parted=inspect.isgeneratorfunction(getattr(stage, "process", None)),
        setup=getattr(stage, "setup", None),
        teardown=getattr(stage, "teardown", None),
        attach_memory=getattr(stage, "attach_memory", None),
    )
