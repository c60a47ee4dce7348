"""Repository: models of Triton, as the files that its server reads. Pure, apart from `write`.

    FOLDER/NAME/config.pbtxt      the text of `config_of`
    FOLDER/NAME/1/                has the source of a Python model; of an ensemble, nothing

https://github.com/triton-inference-server/common/blob/main/protobuf/model_config.proto has the fields.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

__all__ = ["Model", "Step", "Tensor", "config_of", "write"]


class Tensor(NamedTuple):
    """An input or output."""

    name: str
    datatype: str
    """Such as "UINT8"; text is "STRING"."""
    dims: tuple[int, ...] = (-1,)


class Step(NamedTuple):
    """A model of an ensemble."""

    model: str
    inputs: Mapping[str, str]
    """The ensemble's tensor for each input."""
    outputs: Mapping[str, str]


class Model(NamedTuple):
    """A model: of Python if it has a source, otherwise an ensemble of its steps. It has one instance, on the CPU."""

    name: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    source: Path | None = None
    steps: tuple[Step, ...] = ()
    max_batch_size: int = 0
    more: str = ""
    """Further fields of the config, as text."""


def config_of(model: Model) -> str:
    """The text of a model's config.pbtxt."""
    lines = [f'name: "{model.name}"', f"max_batch_size: {model.max_batch_size}"]
    for kind, tensors in (("input", model.inputs), ("output", model.outputs)):
        for tensor in tensors:
            dims = ", ".join(map(str, tensor.dims))
            lines.append(f'{kind} {{ name: "{tensor.name}" data_type: TYPE_{tensor.datatype} dims: [ {dims} ] }}')
    if model.steps:
        lines += ['platform: "ensemble"', "ensemble_scheduling {", *map(_step, model.steps), "}"]
    else:
        lines += ['backend: "python"', "instance_group { kind: KIND_CPU count: 1 }"]
    return "\n".join([*lines, *filter(None, [model.more])]) + "\n"


def _step(step: Step) -> str:
    entries = [
        f'{kind} {{ key: "{key}" value: "{value}" }}'
        for kind, names in (("input_map", step.inputs), ("output_map", step.outputs))
        for key, value in names.items()
    ]
    return f'  step {{ model_name: "{step.model}" model_version: -1 {" ".join(entries)} }}'


def write(folder: Path, models: Iterable[Model]) -> Path:
    """Write the models into a folder, and return it."""
    for model in models:
        place = folder / model.name
        (place / "1").mkdir(parents=True)
        (place / "config.pbtxt").write_text(config_of(model))
        if model.source is not None:
            shutil.copyfile(model.source, place / "1/model.py")
    return folder
