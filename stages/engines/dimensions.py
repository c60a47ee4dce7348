"""Dimensions: names of a model's free dimensions, chosen by a person or made up by a converter. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

__all__ = ["is_chosen", "unbounded"]

#: tf2onnx's unk__653, Paddle's p2o.DynamicDimension.1, torch.export's s0 and s77, torch.onnx's and onnxruntime's
#: Reshapeboxes_dim_0.
_GENERATED = re.compile(r"unk__\d+|.*DynamicDimension.*|s\d+|.*_dim_\d+|\?")


def is_chosen(name: str | None) -> bool:
    """Whether a person would write this name: an identifier, and not one that converters make up.

    `batch`, `H` and `sequence_length` are; None, `floor(floor(H/2 - 1/2)/2)` and `unk__653` are not.
    """
    return name is not None and name.isidentifier() and _GENERATED.fullmatch(name) is None


def unbounded(tensor: str, shape: Sequence[int | str], axis: str, number: int) -> str:
    """The message that a free dimension has no maximum, and what to write.

    Args:
        shape: the tensor's shape, without the batch.
        axis: the dimension's name.
        number: the number of the axis; the batch is 0.
    """
    if is_chosen(axis):
        return (
            f"dimension {number} of {tensor} is free, and called {axis}; slots are sized from its maximum, so give "
            f"one: with: {{max: {{{axis}: ...}}}}"
        )
    names: dict[str, str] = {}
    for extent in shape:
        if isinstance(extent, str):
            names.setdefault(extent, extent if is_chosen(extent) else f"D{len(names) + 1}")
    named = ", ".join(str(extent) if isinstance(extent, int) else names[extent] for extent in shape)
    return (
        f"dimension {number} of {tensor} is free, and the file has no proper name for it; slots are sized from its "
        f"maximum, so give it a name and one: with: {{shapes: {{{tensor}: [{named}]}}, max: {{{names[axis]}: ...}}}}"
    )
