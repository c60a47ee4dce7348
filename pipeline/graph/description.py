"""StageDescription: what a stage's class declares, known without importing it here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stages.declared import Attributes
from stages.spec import TensorSpec

__all__ = ["INFERENCE_CLASS", "StageDescription"]

#: Stages of this class, or derived from it, are the ones that keep many cores busy.
INFERENCE_CLASS = "stages.infer:Infer"


@dataclass(frozen=True, slots=True)
class StageDescription(Attributes):
    """What one stage takes and gives, with the options of the config."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    classes: tuple[str, ...] = ()
    """The class and its bases, as `module:Class`."""

    @property
    def is_inference(self) -> bool:
        """True if the stage runs a model through an engine."""
        return INFERENCE_CLASS in self.classes

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> StageDescription:
        """Made of what `pipeline.processes.describe` answers."""
        return cls(
            inputs=tuple(TensorSpec.from_dict(spec) for spec in value["inputs"]),
            outputs=tuple(TensorSpec.from_dict(spec) for spec in value["outputs"]),
            classes=tuple(value["classes"]),
            **{**value["attributes"], "notes": tuple(value["attributes"]["notes"])},
        )
