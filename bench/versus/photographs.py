"""Photographs: what is done to each of them, by a pipeline and by the plain loop beside it. Pure.

    a file ──▶ decode ──▶ the model on Triton ──▶ the best labels

The loop imports this in another environment: it needs nothing.
"""

from __future__ import annotations

from typing import Any

__all__ = ["DECODE", "MODEL", "TOP", "config_of"]

MODEL = "pooled"
"""What the model is called on Triton."""
DECODE: dict[str, Any] = {"size": 224, "mode": "stretch", "layout": "hwc", "mean": 127.5, "std": 127.5}
"""The options of the first stage, for both."""
TOP: dict[str, Any] = {"labels": [f"class {number}" for number in range(10)], "k": 3}
"""Those of the last one."""


def config_of(url: str, in_flight: int) -> dict[str, Any]:
    """The pipeline, as its YAML has it."""
    return {
        "name": "remote-stage",
        "inputs": [{"name": "image", "dtype": "uint8", "shape": ["bytes"], "max": {"bytes": "1MiB"}}],
        "stages": [
            {"name": "decode", "use": "stages.image:DecodeResize", "with": DECODE | {"max_bytes": 1 << 20}},
            {
                "name": "far",
                "use": "stages.remote:RemoteInfer",
                "with": {"url": url, "model": MODEL, "in_flight": in_flight},
                "batch": {"max_size": 8, "max_delay_ms": 1},
            },
            {"name": "top", "use": "stages.classify:TopK", "with": TOP},
        ],
    }
