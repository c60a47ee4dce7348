"""StageDescription: what a stage's class declares, known without importing it here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from stages.spec import TensorSpec

__all__ = ["INFERENCE_CLASS", "StageDescription"]

#: Stages of this class, or derived from it, are the ones that keep many cores busy.
INFERENCE_CLASS = "stages.infer:Infer"


@dataclass(frozen=True, slots=True)
class StageDescription:
    """What one stage takes and gives, with the options of the config."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    classes: tuple[str, ...] = ()
    """The class and its bases, as `module:Class`."""
    device: str = "cpu"
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

    @property
    def is_inference(self) -> bool:
        """True where the stage runs a model through an engine."""
        return INFERENCE_CLASS in self.classes

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> StageDescription:
        """Out of what `pipeline.processes.describe` answers."""
        return cls(
            inputs=tuple(TensorSpec.from_dict(spec) for spec in value["inputs"]),
            outputs=tuple(TensorSpec.from_dict(spec) for spec in value["outputs"]),
            classes=tuple(value["classes"]),
            device=value["device"],
            concurrency=value["concurrency"],
            scales_with_cores=value["scales_with_cores"],
            ragged=value["ragged"],
            pad=value["pad"],
            max_batch=value["max_batch"],
            notes=tuple(value["notes"]),
        )
