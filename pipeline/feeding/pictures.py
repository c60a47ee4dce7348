"""Pictures: the outputs that the config's `run.pictures` names, as .png files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.config.findings import Findings
from pipeline.graph.plan import Plan

__all__ = ["check_pictures", "is_picture", "write_picture"]


def is_picture(dtype: str, shape: Sequence[int | str]) -> bool:
    """Whether arrays of this dtype and shape, free dimensions by their names, can be written as pictures."""
    last = shape[2] if len(shape) == 3 else 3
    return dtype == "uint8" and len(shape) in (2, 3) and (isinstance(last, str) or last in (1, 3, 4))


def check_pictures(pictures: Sequence[str], plan: Plan, findings: Findings) -> None:
    """Add a finding for each name in `run.pictures` that no answer has, or that can never be a picture."""
    edges = dict(plan.outputs)
    for index, name in enumerate(pictures):
        if name not in edges:
            found = f"no answer has an output {name!r}; there is {', '.join(edges)}"
        elif is_picture((spec := plan.output_spec(edges[name])).dtype, spec.shape):
            continue
        else:
            found = f"{spec} is no picture; expected uint8 [H, W], [H, W, 3] or [H, W, 4]"
        findings.add(("run", "pictures", index), found)


def write_picture(stream: IO[bytes], name: str, array: NDArray[Any]) -> None:
    """Write an array as PNG.

    Raises:
        ValueError: it is no picture; `name` is what the message calls it.
    """
    from PIL import Image  # where no picture is written, nothing of it is loaded

    if not is_picture(array.dtype.name, array.shape) or 0 in array.shape:
        raise ValueError(f"output {name!r} is no picture: {array.dtype.name} {list(array.shape)}")
    plain = array[:, :, 0] if array.ndim == 3 and array.shape[2] == 1 else array
    # 1: half as large as nothing, and many times as fast as the smallest.
    Image.fromarray(np.ascontiguousarray(plain)).save(stream, "PNG", compress_level=1)
