"""Names for a model's tensors and free dimensions, and how the outputs' extents follow from the inputs'. Pure.

Where a name in the file was chosen by a person it stays; where a converter made one up, or there is none, a reader gets
one that says what it is: H and W of pictures, the length of tokens, else the tensor's name and the axis.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np

from pipeline.generating.model import Declared
from stages.engines.dimensions import is_chosen

__all__ = ["GUESSED_MAX", "Axes", "default_max", "dimensions_of", "follow", "pipeline_name", "plain_names"]

Axes = tuple[int | str, ...]

GUESSED_MAX = 128
"""Of a free dimension about which nothing is known."""
_PICTURE_MAX = 640
_CHANNELS = (1, 3, 4)
_DIVISORS = (2, 4, 8, 16, 32)
#: What `Client.submit` calls its own arguments.
_TAKEN = ("deadline_ms", "priority", "timeout_s", "flush")


def pipeline_name(stem: str) -> str:
    """A pipeline's name out of a file's."""
    return re.sub(r"[^a-z0-9]+", "-", stem.lower()).strip("-")[:40].strip("-") or "model"


def plain_names(names: Iterable[str], taken: Collection[str] = ()) -> dict[str, str]:
    """For each of a model's names one that can be written as a Python argument; its own where it can.

    Args:
        taken: names that must not come out.
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
    """Extents of each input without the batch axis; free ones have names that a reader can write.

    Args:
        plain: the tensors' names, as `plain_names` gives them.
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
    """How large a free dimension may get where nothing is said."""
    return _PICTURE_MAX if name in ("H", "W", "height", "width") else GUESSED_MAX


def follow(found: Sequence[int], extents: Sequence[Mapping[str, int]], own: str) -> int | str:
    """What an output's extent is, from runs over inputs of different extents.

    Args:
        found: the extent in each run.
        extents: of the inputs' free dimensions in each run, by name.
        own: a name of its own.

    Returns:
        The number that it always is, where the inputs' extents were not always the same; the name of a dimension of
        the inputs; or "W/8", an eighth of one; else `own`.
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
        # The file says that it is the same as another one's.
        return renamed[axis]
    axes = tensor.axes
    made = f"{plain}_{number}"
    if len(axes) == 4 and axes[1] in _CHANNELS and number > 1:
        made = "HW"[number - 2]
    elif len(axes) == 4 and axes[3] in _CHANNELS and number < 3:
        made = "HW"[number - 1]
    elif len(axes) == 2 and np.dtype(tensor.dtype).kind in "iu":
        made = "length"
    if axis is not None:
        renamed[axis] = made
    return made
