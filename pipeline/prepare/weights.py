"""How large the files of the models are that a plan's workers will hold in memory."""

from __future__ import annotations

import glob
from collections.abc import Mapping
from pathlib import Path

from pipeline.graph.description import StageDescription
from pipeline.graph.plan import CUDA, Plan
from stages import catalogue
from stages.errors import ModelError

__all__ = ["weights_of"]

def weights_of(plan: Plan, descriptions: Mapping[str, StageDescription]) -> dict[str, int]:
    """Bytes of the model of each stage that runs one on the CPU, by the stage's name.

    Those of `stages.infer:Infer` and what is derived from it, with weights that lie beside the file (model.onnx.data,
    model.onnx_data). What other classes do with a file is not known: they may map it, which takes no memory of their
    own.
    """
    weights = {}
    for stage in plan.stages:
        model = stage.options.get("model")
        on_gpu = any(worker.device.startswith(CUDA) for worker in stage.workers)
        if not descriptions[stage.name].is_inference or on_gpu or not isinstance(model, str):
            continue
        try:
            path = catalogue.find(model, Path(plan.base_dir))
            beside = path.parent.glob(f"{glob.escape(path.name)}[._-]data")
            weights[stage.name] = sum(file.stat().st_size for file in (path, *beside))
        except (ModelError, OSError):
            continue  # The stage says at its own start what is wrong.
    return weights
