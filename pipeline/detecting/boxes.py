"""Boxes: from an output of a pipeline to the table that Frigate takes; and whether a pipeline fits. Pure.

    a pipeline's output (n, columns)                              the table (20, 6)
      score  class  x_min  y_min  x_max  y_max                      class  score  y_min  x_min  y_max  x_max
       0.4     2      ..     ..     ..     ..       ───────▶          0     0.9     ..     ..     ..     ..
       0.9     0      ..     ..     ..     ..                         2     0.4     ..     ..     ..     ..
       0       0      0      0      0      0                          0      0      0      0      0      0   ...
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.detecting.messages import ROWS
from pipeline.errors import ConfigError, InvalidRequest, StageFailed
from pipeline.wire.interface import Interface, Tensor
from stages.hints import did_you_mean

__all__ = ["COLUMNS", "IGNORED", "Boxes", "Input", "boxes_of", "columns_of", "input_of"]

COLUMNS = ("class", "score", "y_min", "x_min", "y_max", "x_max")
"""What a row of the table has, in this order."""

IGNORED = "-"
"""The name of a column that is not needed."""

_FLOATS = ("float16", "float32", "float64")
_PIXELS = ("uint8", "float32")


class Input(NamedTuple):
    """The input of a pipeline that takes a frame."""

    name: str
    dtype: str
    channels_first: bool
    """Whether its axes are (3, height, width); otherwise (height, width, 3)."""

    def size(self, shape: Sequence[int]) -> tuple[int, int]:
        """Height and width of a frame of that shape, in pixels."""
        height, width = shape[1:] if self.channels_first else shape[:2]
        return height, width

    def check(self, pixels: NDArray[Any]) -> None:
        """
        Raises:
            InvalidRequest: a frame is of another dtype. (Its shape is the pipeline's to check.)
        """
        if pixels.dtype.name != self.dtype:
            wanted = "int" if self.dtype == "uint8" else "float or float_denorm"
            raise InvalidRequest(
                f"expected a frame of dtype {self.dtype}, found {pixels.dtype.name}; set model.input_dtype of Frigate "
                f"to {wanted}"
            )


def input_of(interface: Interface) -> Input:
    """The one input, if it takes a frame.

    Raises:
        ConfigError: it does not, or there are several.
    """
    if len(interface.inputs) != 1:
        names = ", ".join(tensor.name for tensor in interface.inputs)
        raise ConfigError(f"{interface.name}: expected one input, a picture, found {len(interface.inputs)}: {names}")
    (tensor,) = interface.inputs
    axes = tensor.axes
    fixed = [0 if axis.name else axis.most for axis in axes]
    if tensor.dtype not in _PIXELS or len(axes) != 3 or 3 not in (fixed[0], fixed[2]):
        raise ConfigError(
            f"{interface.name}: expected an input of dtype {' or '.join(_PIXELS)} and shape (height, width, 3) or "
            f"(3, height, width), found {_described(tensor)}"
        )
    return Input(tensor.name, tensor.dtype, channels_first=fixed[2] != 3)


def columns_of(text: str) -> tuple[str, ...]:
    """The names of columns, comma-separated.

    Raises:
        ConfigError: one of COLUMNS is missing, comes twice, or a name means nothing.
    """
    columns = tuple(part.strip() for part in text.split(","))
    for column in columns:
        if column not in (*COLUMNS, IGNORED):
            hint = did_you_mean(column, COLUMNS)
            expected = f"{', '.join(COLUMNS)}, and {IGNORED} for others"
            raise ConfigError(f"--columns: expected {expected}; found {column!r}{hint}")
    for column in COLUMNS:
        if (count := columns.count(column)) != 1:
            raise ConfigError(f"--columns {text}: expected {column} once, found it {count} times")
    return columns


class Boxes:
    """How an output of a pipeline becomes the table.

    Args:
        output: its name.
        columns: as `columns_of` gives them.
        pixels: whether the corners are in pixels of the frame; otherwise they are from 0 to 1 within it.
    """

    def __init__(self, output: str, columns: Sequence[str], *, pixels: bool = False) -> None:
        self.output = output
        self._columns = len(columns)
        self._order = [columns.index(column) for column in COLUMNS]
        self._pixels = pixels

    def table(self, found: NDArray[Any], height: int, width: int) -> NDArray[np.float32]:
        """The best rows of an output, float32 of shape (ROWS, 6), by falling score; those without a thing are 0.

        Args:
            found: of shape (n, columns). Rows whose score is 0 or less have no thing.
            height, width: of the frame, in pixels.

        Raises:
            StageFailed: the output is of another shape, as after a reload, or it has a number that is none.
        """
        if found.ndim != 2 or found.shape[1] != self._columns:
            raise StageFailed(f"expected {self.output} of shape (n, {self._columns}), found {found.shape}")
        rows = found[:, self._order].astype(np.float32)
        if not np.isfinite(rows).all():
            raise StageFailed(f"{self.output} has values that are not finite")
        rows = rows[rows[:, 1] > 0]
        # Frigate stops at the first row below its threshold.
        rows = rows[np.argsort(-rows[:, 1], kind="stable")][:ROWS]
        if self._pixels:
            rows[:, 2:] /= np.array([height, width, height, width], np.float32)
        rows[:, 2:] = rows[:, 2:].clip(0, 1)
        made = np.zeros((ROWS, len(COLUMNS)), np.float32)
        made[: len(rows)] = rows
        return made


def boxes_of(interface: Interface, columns: Sequence[str], output: str = "", *, pixels: bool = False) -> Boxes:
    """How this pipeline's output becomes the table.

    Args:
        interface: the pipeline's.
        columns, pixels: see `Boxes`.
        output: its name; empty: the only one that can be meant.

    Raises:
        ConfigError: there is no such output, or several, or it has other columns.
    """
    outputs = interface.outputs
    fitting = [tensor.name for tensor in outputs if _fits(tensor, len(columns))]
    described = "; ".join(_described(tensor) for tensor in outputs)
    wanted = f"of floats and shape (n, {len(columns)}), as --columns says"
    if output and output not in (names := [tensor.name for tensor in outputs]):
        raise ConfigError(f"--output: {interface.name} has no output {output!r}{did_you_mean(output, names)}")
    if output and output not in fitting:
        raise ConfigError(f"--output {output}: expected an output {wanted}, found {described}")
    if not output and len(fitting) != 1:
        raise ConfigError(f"{interface.name}: expected one output {wanted}, found {described}; name one with --output")
    return Boxes(output or fitting[0], columns, pixels=pixels)


def _fits(tensor: Tensor, columns: int) -> bool:
    axes = tensor.axes
    return tensor.dtype in _FLOATS and len(axes) == 2 and not axes[1].name and axes[1].most == columns


def _described(tensor: Tensor) -> str:
    shape = ", ".join(axis.name or str(axis.most) for axis in tensor.axes)
    return f"{tensor.name}: {tensor.dtype} ({shape})"
