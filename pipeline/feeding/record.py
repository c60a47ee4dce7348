"""Record: one request's line in `--output`, and what the summary is made of. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

__all__ = ["Record", "plain"]


def plain(value: Any) -> Any:
    """A value of plain JSON types.

    float32 and float16 have the digits that they have, not those of a float64; what JSON has no number
    for, NaN and the infinities, is null.
    """
    if isinstance(value, np.ndarray):
        return [plain(item) for item in value] if value.ndim else plain(value[()])
    if isinstance(value, (np.float32, np.float16)):
        return float(str(value)) if np.isfinite(value) else None
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


@dataclass(slots=True)
class Record:
    """What came of one file."""

    input: str
    """As it was named."""
    error: tuple[str, str] | None = None
    """(type, message) of a request that failed."""
    outputs: Mapping[str, Any] = field(default_factory=dict)
    """Plain JSON values by output name."""
    latency_ms: float = 0.0
    """From the submission to the answer."""
    stages: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """For each stage: queue_ms, compute_ms, batch, copied_bytes."""
    traceback: str = ""
    """Of the stage's exception, where there is one."""
    request: str = ""
    """Its id, as logs call it; "" where it was not sent."""

    def to_json(self) -> str:
        """The line in `--output`."""
        return json.dumps(
            {
                "input": self.input,
                "request": self.request or None,
                "status": "ok" if self.error is None else "error",
                "error": self._error(),
                "outputs": dict(self.outputs),
                "latency_ms": round(self.latency_ms, 3),
                "stages": {name: dict(values) for name, values in self.stages.items()},
            },
            ensure_ascii=False,
        )

    def _error(self) -> dict[str, str] | None:
        if self.error is None:
            return None
        error = {"type": self.error[0], "message": self.error[1]}
        return {**error, "traceback": self.traceback} if self.traceback else error

    def headline(self) -> tuple[str, str]:
        """(top label, its score) where the outputs are labels and scores; else the outputs in short, and nothing."""
        labels, scores = self.outputs.get("labels"), self.outputs.get("scores")
        if isinstance(labels, list) and isinstance(scores, list) and labels and scores:
            return str(labels[0]), f"{scores[0]:.4f}"
        text = json.dumps(dict(self.outputs), ensure_ascii=False)
        return (text if len(text) <= 80 else text[:77] + "..."), ""
