"""Folder: what `pipeline init` writes for one model. It reads the model, runs it, and makes the files' contents."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import ConfigError, StartError
from pipeline.feeding.sources import Intake
from pipeline.generating.files import Project, stages_file, test_file, yaml_file
from pipeline.generating.model import Declared, ProbedModel, numbers_for
from pipeline.generating.naming import GUESSED_MAX, Axes, default_max, dimensions_of, follow, pipeline_name, plain_names
from stages import catalogue
from stages.declared import declared
from stages.engines.dimensions import is_chosen
from stages.engines.signature import batch_axis
from stages.errors import StageError
from stages.infer import Infer
from stages.stage import Array

__all__ = ["contents"]

_BATCH = 4


def contents(model: str, folder: Path, maxima: Mapping[str, int]) -> dict[str, bytes]:
    """The files by name, the YAML first and the sample second.

    Args:
        model: a file, or a name of the catalogue.
        folder: the files will be there; the YAML names the model relative to it.
        maxima: maximum of each free dimension, by name.

    Raises:
        StartError: the model is missing, or no pipeline can run it; the message says what to do.
        ConfigError: `maxima` names a dimension that the model does not have.
    """
    known = _known(model)
    path = _find(model)
    probed = ProbedModel(path)
    shapes = {} if known is None else known.shapes
    probed.inputs = [_reshaped(tensor, shapes) for tensor in probed.inputs]
    # Inputs and outputs of one stage may share a name, as they may in a model.
    takes = plain_names(tensor.name for tensor in probed.inputs)
    gives = plain_names(tensor.name for tensor in probed.outputs)
    axes = dimensions_of(probed.inputs, takes)
    chosen = {name: maxima.get(name, default_max(name)) for name in _free(axes)}
    batch = _batch_of(probed)
    extents, ran, fill = _probe(probed, axes, chosen, batch)
    given = _news(probed.inputs, axes, shapes)
    for tensor in probed.outputs:
        found = [shapes_of[tensor.name] for shapes_of in ran]
        own, most = _output_axes(tensor, gives[tensor.name], extents, found, batch or 1)
        for axis, count in most.items():
            chosen[axis] = maxima.get(axis, count)
        if tensor.name not in shapes and _is_news(probed.outputs, tensor.name, own, {}):
            given[tensor.name] = own
    _check_maxima(maxima, chosen)
    options = _options(model if known is not None else str(path.resolve()), given, chosen, takes, gives)
    try:
        # --max has the last word.
        infer = Infer(**options, engine="onnxruntime")
    except StageError as error:
        raise StartError(str(error)) from error
    if known is None:
        options["model"] = _seen_from(folder.resolve(), path.resolve())
    if declared(infer).max_batch == 1:
        size = 1
    else:
        size = batch or _free_batch(probed, axes, extents[0], fill)
    name = pipeline_name(model if known is not None else path.stem)
    takes_bytes = Intake(infer.inputs).bytes_of is not None
    project = Project(name, options, tuple(infer.inputs), tuple(infer.outputs), size, takes_bytes)
    numbers = _numbers(probed, axes, extents[0], batch or 1, fill)
    sample = {takes[name]: array[0] for name, array in numbers.items()}
    return {
        project.config: yaml_file(project).encode(),
        project.sample: _sample(sample, project),
        project.stages: stages_file(project).encode(),
        project.test: test_file(project).encode(),
    }


def _known(model: str) -> catalogue.Asset | None:
    """What the catalogue has of that name; None: it is a file.

    Raises:
        ConfigError: it is no model.
    """
    known = catalogue.ASSETS.get(model)
    if known is not None and known.kind != "model":
        raise ConfigError(f"{model!r} is a set of labels; expected a model")
    return known


def _news(
    tensors: list[Declared], axes: Mapping[str, Axes], known: Mapping[str, tuple[int | str, ...]]
) -> dict[str, Axes]:
    """The shapes that must be said, since the model's file does not."""
    return {name: shape for name, shape in axes.items() if _is_news(tensors, name, shape, known)}


def _free(axes: Mapping[str, tuple[int | str, ...]]) -> list[str]:
    """The names of the free dimensions, sorted."""
    return sorted({axis for shape in axes.values() for axis in shape if isinstance(axis, str)})


def _check_maxima(maxima: Mapping[str, int], chosen: Mapping[str, int]) -> None:
    """Refuse a maximum of a dimension that is not free.

    Raises:
        ConfigError: with its name, and those that are.
    """
    if unknown := sorted(set(maxima) - set(chosen)):
        names = ", ".join(sorted(chosen)) or "none"
        raise ConfigError(f"--max {unknown[0]}: no free dimension of the model; it has: {names}")


def _options(
    model: str,
    shapes: Mapping[str, Sequence[int | str]],
    most: Mapping[str, int],
    takes: Mapping[str, str],
    gives: Mapping[str, str],
) -> dict[str, Any]:
    """The options of the stage that runs the model; what would say nothing is left out.

    Args:
        takes, gives: the names of its inputs and outputs in the pipeline, by those in the model.
    """
    options: dict[str, Any] = {
        "model": model,
        "shapes": {name: list(shape) for name, shape in shapes.items()},
        "max": dict(most),
        "inputs": {plain: name for name, plain in takes.items() if name != plain},
        "outputs": {plain: name for name, plain in gives.items() if name != plain},
    }
    return {name: value for name, value in options.items() if value}


def _find(model: str) -> Path:
    try:
        return catalogue.find(model, Path())
    except StageError as error:
        raise StartError(str(error)) from error


def _seen_from(folder: Path, path: Path) -> str:
    """The relative path, unless the two have only the root in common."""
    return str(path) if os.path.commonpath([folder, path]) == os.sep else os.path.relpath(path, folder)


def _reshaped(tensor: Declared, shapes: Mapping[str, tuple[int | str, ...]]) -> Declared:
    """The tensors with the extents that the catalogue knows."""
    known = shapes.get(tensor.name)
    return tensor if known is None else Declared(tensor.name, tensor.dtype, (*tensor.axes[:1], *known))


def _batch_of(model: ProbedModel) -> int | None:
    """The one batch size for which the model was saved; None if it takes any.

    Raises:
        StartError: its inputs have no batch axis.
    """
    found = batch_axis(tensor.axes for tensor in model.inputs)
    if found is None:
        inputs = ", ".join(map(str, model.inputs))
        raise StartError(
            f"{model.path}: expected the batch as first axis of each input, free, or one number in all; "
            f"found {inputs}. "
            f"Export the model with a batch axis (torch.onnx.export: dynamic_axes={{name: {{0: 'batch'}}}})"
        )
    return found[0]


def _probe(
    model: ProbedModel, axes: Mapping[str, Axes], most: Mapping[str, int], batch: int | None
) -> tuple[list[dict[str, int]], list[dict[str, tuple[int, ...]]], int]:
    """Run the model over inputs of medium size and of the largest size.

    If it fails with those of medium size, such as a picture of one channel, only the largest are run; and if it fails
    with ones, such as indices into a table of one row, zeros are used.

    Returns:
        The extents, the shapes of the outputs, and the value of whole numbers in the inputs.

    Raises:
        StartError: the model computes none of these.
    """
    # Halves, quarters, ...: all dimensions differ, which shows the one that an output follows.
    medium = {name: max(1, count >> number) for number, (name, count) in enumerate(most.items(), 1)}
    failure: tuple[str, str] | None = None
    for fill in (1, 0):
        for extents in ([medium, dict(most)], [dict(most)]) if most else ([medium],):
            ran = []
            try:
                for of_run in extents:
                    ran.append(model.run(_numbers(model, axes, of_run, batch or 1, fill)))
            except ValueError as error:
                failure = failure or (", ".join(f"{name}={count}" for name, count in of_run.items()), str(error))
            else:
                return extents, ran, fill
    assert failure is not None
    sizes, said = failure
    where = f" at {sizes}; say how large they may be: --max {next(iter(most))}=..." if most else ""
    raise StartError(f"{model.path}: the model does not compute a sample{where}: {said}")


def _free_batch(model: ProbedModel, axes: Mapping[str, Axes], extents: Mapping[str, int], fill: int) -> int:
    """The batch of a model that takes any: 1, unless each output has a row for each of two requests."""
    try:
        made = model.run(_numbers(model, axes, extents, 2, fill))
    except ValueError:
        return 1
    return _BATCH if all(shape[:1] == (2,) for shape in made.values()) else 1


def _numbers(
    model: ProbedModel, axes: Mapping[str, Axes], extents: Mapping[str, int], batch: int, fill: int
) -> dict[str, Array]:
    return {
        tensor.name: numbers_for(
            tensor.name,
            tensor.dtype,
            (batch, *(extents[axis] if isinstance(axis, str) else axis for axis in axes[tensor.name])),
            fill,
        )
        for tensor in model.inputs
    }


def _output_axes(
    tensor: Declared, plain: str, extents: list[dict[str, int]], ran: list[tuple[int, ...]], batch: int
) -> tuple[Axes, dict[str, int]]:
    """Extents of an output without the batch axis, and the maxima of those that follow from no extent of the inputs.

    The first axis is kept if it is not the batch, such as a number of detections.
    """
    shape: list[int | str] = []
    most: dict[str, int] = {}
    is_whole = any(of_run[:1] != (batch,) for of_run in ran)
    for number, axis in enumerate(tensor.axes):
        if not number and not is_whole:
            continue
        if isinstance(axis, int):
            shape.append(axis)
            continue
        found = [of_run[number] for of_run in ran]
        own = axis if axis is not None and is_chosen(axis) and number else f"{plain}_{number}"
        shape.append(follow(found, extents, own))
        if shape[-1] == own and own not in extents[0]:
            # If it does not change with the inputs' extents, it depends on their numbers: there may be more.
            most[own] = max(found) if len(set(found)) > 1 else max(GUESSED_MAX, *found)
    return tuple(shape), most


def _is_news(
    tensors: list[Declared], name: str, shape: Axes, known: Mapping[str, tuple[int | str, ...]]
) -> bool:
    """Whether neither the file nor the catalogue gives the extent."""
    declared = next(tensor for tensor in tensors if tensor.name == name)
    return name not in known and declared.axes[1:] != shape


def _sample(arrays: Mapping[str, Array], project: Project) -> bytes:
    if project.takes_bytes:
        return next(iter(arrays.values())).tobytes()
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()
