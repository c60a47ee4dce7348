"""Pixels in the form that PP-OCR's models take."""

from __future__ import annotations

import numpy as np

from stages.stage import Array

__all__ = ["normalise"]

def normalise(pixels: Array, out: Array) -> None:
    """Write RGB pixels, uint8 (h, w, 3), as float32 (3, h, w): blue first, x / 127.5 - 1.

    Mean and deviation of 0.5 and the order of the channels are those of rapidocr-onnxruntime 1.4.4 (`config.yaml`,
    pictures out of OpenCV).
    """
    np.divide(pixels[..., ::-1].transpose(2, 0, 1), np.float32(127.5), out=out, dtype=np.float32)
    out -= 1
