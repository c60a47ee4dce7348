"""OcrLoop, the plain loop beside configs/ocr.yaml: the same stages and models, one after the other, in one process.

    reader = OcrLoop()
    reader.read(file)       [{"text": ..., "score": ..., "box": ...}, ...]

It is what a person would write without a pipeline: no queue, no copy, each line recognised alone.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from bench.direct import call
from stages.loading import load_stage
from stages.stage import Stage, StageContext

__all__ = ["CONFIG", "OcrLoop"]

CONFIG = Path(__file__).resolve().parents[1] / "configs" / "ocr.yaml"


class OcrLoop:
    """The stages of configs/ocr.yaml, set up in this process.

    Args:
        threads: the number of threads that each model may keep busy.
        options: by stage name, options beside those of the config.
    """

    def __init__(self, threads: int = 1, **options: dict[str, Any]) -> None:
        self._stages: dict[str, Stage] = {}
        for stage in yaml.safe_load(CONFIG.read_text(encoding="utf-8"))["stages"]:
            given = {**stage["with"], **options.get(stage["name"], {})}
            made = self._stages[stage["name"]] = load_stage(stage["use"], given, CONFIG.parent)
            if hasattr(made, "setup"):
                made.setup(StageContext(threads=threads))

    def read(self, file: bytes) -> list[dict[str, Any]]:
        """The lines of one page.

        Raises:
            BadInput: the file is not a page, or is too large.
        """
        decoded = self._call("decode", image=np.frombuffer(file, np.uint8))
        found = self._call("detect", scaled=decoded["scaled"])
        boxes = self._call("boxes", probability=found["probability"], size=decoded["size"])["boxes"]
        crops = self._call("crop", page=decoded["page"], boxes=boxes, size=decoded["size"])["crops"]
        texts = [self._call("text", **self._call("recognise", crop=crop))["text"] for crop in crops]
        lines: list[dict[str, Any]] = json.loads(self._call("lines", texts=texts, boxes=boxes)["lines"].tobytes())
        return lines

    def _call(self, name: str, **inputs: Any) -> dict[str, Any]:
        """Run one stage over one row; its outputs by name."""
        return call(self._stages[name], **inputs)
