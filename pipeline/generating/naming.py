"""Naming: names for a model's tensors and free dimensions, and how extents of outputs follow from the inputs. Pure.

If a person chose the name in the file, it stays. If a converter made it up, or there is none, the dimension gets a
name that says what it is: H and W of pictures, the length of tokens, otherwise the tensor's name and the axis.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Collection, Iterable, Mapping, Sequence

from pipeline.generating.model import Declared
from shm.handle import numpy_dtype
from stages.engines.dimensions import is_chosen

__all__ = ["GUESSED_MAX", "Axes", "default_max", "dimensions_of", "follow", "pipeline_name", "plain_names"]

Axes = tuple[int | str, ...]

GUESSED_MAX = 128
"""The maximum of a free dimension about which nothing is known."""
_PICTURE_MAX = 640
_CHANNELS = (1, 3, 4)
_DIVISORS = (2, 4, 8, 16, 32)
#: The arguments of `Client.submit` that are never taken for an input of that name.
_TAKEN = ("deadline_ms", "priority", "timeout_s", "flush")


def pipeline_name(stem: str) -> str:
    """A name for a pipeline, made from the name of a file."""
    return re.sub(r"[^a-z0-9]+", "-", stem.lower()).strip("-")[:40].strip("-") or "model"


def plain_names(names: Iterable[str], taken: Collection[str] = ()) -> dict[str, str]:
    """For each of a model's names a name that can be a Python argument; the same one if it can.

    Args:
        taken: names that must not be used.
    """
    plain: dict[str, str] = {}
    for name in names:
        made = re.sub(r"\W+", "_", name).strip("_") or "tensor"
        if not made.isidentifier():
            made = f"tensor_{made}"
        if keyword.iskeyword(made) or made in _TAKEN:
            made += "_"
        first, number = made, 1
        while made in plain.values() or made in taken:
            number += 1
            made = f"{first}_{number}"
        plain[name] = made
    return plain


def dimensions_of(inputs: Sequence[Declared], plain: Mapping[str, str]) -> dict[str, Axes]:
    """Extents of each input without the batch axis; free extents have readable names.

    Args:
        plain: the tensors' names from `plain_names`.
    """
    renamed: dict[str, str] = {}
    return {
        tensor.name: tuple(
            axis if isinstance(axis, int) else _name(tensor, number, axis, plain[tensor.name], renamed)
            for number, axis in enumerate(tensor.axes)
            if number
        )
        for tensor in inputs
    }


def default_max(name: str) -> int:
    """The maximum of a free dimension if the user gives none."""
    return _PICTURE_MAX if name in ("H", "W", "height", "width") else GUESSED_MAX


def follow(found: Sequence[int], extents: Sequence[Mapping[str, int]], own: str) -> int | str:
    """The extent of an output, found from runs over inputs of different extents.

    Args:
        found: the extent in each run.
        extents: the inputs' free dimensions in each run, by name.
        own: the name to use if it follows from none of them.

    Returns:
        A number, if it was always the same while the inputs' extents changed; the name of a dimension of the inputs; or
        "W/8", an eighth of one; otherwise `own`.
    """
    for name in extents[0]:
        if all(count == of_run[name] for count, of_run in zip(found, extents)):
            return name
    for name in extents[0]:
        for divisor in _DIVISORS:
            if all(count * divisor == of_run[name] for count, of_run in zip(found, extents)):
                return f"{name}/{divisor}"
    if len(set(found)) == 1 and any(of_run != extents[0] for of_run in extents):
        return found[0]
    return own


def _name(tensor: Declared, number: int, axis: str | None, plain: str, renamed: dict[str, str]) -> str:
    if axis is not None and is_chosen(axis):
        return axis
    if axis is not None and axis != "?" and axis in renamed:
        # The file says that this extent equals another one.
        return renamed[axis]
    axes = tensor.axes
    made = f"{plain}_{number}"
    if len(axes) == 4 and axes[1] in _CHANNELS and number > 1:
        made = "HW"[number - 2]
    elif len(axes) == 4 and axes[3] in _CHANNELS and number < 3:
        made = "HW"[number - 1]
    elif len(axes) == 2 and numpy_dtype(tensor.dtype).kind in "iu":
        made = "length"
    if axis is not None:
        renamed[axis] = made
    return made
