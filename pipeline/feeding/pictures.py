"""Pictures: the outputs that the config's `run.pictures` names, as files of their own.

    uint8 [H, W], [H, W, 1], [H, W, 3], [H, W, 4]    becomes a .png file
    uint8 [bytes]                                    is a file already: .png, .jpg, ..., told by its first bytes
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import IO, TYPE_CHECKING, Any

from pipeline.config.findings import Findings
from pipeline.graph.plan import Plan

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["check_pictures", "is_picture", "suffix_of", "write_picture"]

_BEGINNINGS = {
    b"\x89PNG": ".png",
    b"\xff\xd8\xff": ".jpg",
    b"GIF8": ".gif",
    b"BM": ".bmp",
    b"II*\x00": ".tif",
    b"MM\x00*": ".tif",
}


def is_picture(dtype: str, shape: Sequence[int | str]) -> bool:
    """Whether arrays of this dtype and shape, free dimensions by their names, can be written as pictures."""
    last = shape[2] if len(shape) == 3 else 3
    return dtype == "uint8" and len(shape) in (1, 2, 3) and (isinstance(last, str) or last in (1, 3, 4))


def suffix_of(array: NDArray[Any]) -> str:
    """The suffix of the file that `write_picture` makes; .bin if the first bytes are of no known format."""
    if array.ndim != 1:
        return ".png"
    start = array[:12].tobytes()
    if start.startswith(b"RIFF") and start.endswith(b"WEBP"):
        return ".webp"
    return next((suffix for beginning, suffix in _BEGINNINGS.items() if start.startswith(beginning)), ".bin")


def check_pictures(pictures: Sequence[str], plan: Plan, findings: Findings) -> None:
    """Add a finding for each name in `run.pictures` that no answer has, or that can never be a picture."""
    edges = dict(plan.outputs)
    for index, name in enumerate(pictures):
        if name not in edges:
            found = f"no answer has an output {name!r}; there is {', '.join(edges)}"
        elif is_picture((spec := plan.output_spec(edges[name])).dtype, spec.shape):
            continue
        else:
            found = f"{spec} is not a picture; expected uint8 [H, W], [H, W, 3], [H, W, 4] or [bytes]"
        findings.add(("run", "pictures", index), found)


def write_picture(stream: IO[bytes], name: str, array: NDArray[Any]) -> None:
    """Write an array as PNG, or the bytes of a picture as they are.

    Raises:
        ValueError: the array is not a picture; the message calls the output `name`.
    """
    # Not loaded unless a picture is written.
    import numpy as np
    from PIL import Image

    if not is_picture(array.dtype.name, array.shape) or 0 in array.shape:
        raise ValueError(f"output {name!r} is not a picture: {array.dtype.name} {list(array.shape)}")
    if array.ndim == 1:
        stream.write(array.tobytes())
        return
    plain = array[:, :, 0] if array.ndim == 3 and array.shape[2] == 1 else array
    # Level 1: half the size of no compression, and many times as fast as the highest level.
    Image.fromarray(np.ascontiguousarray(plain)).save(stream, "PNG", compress_level=1)
