"""A user's own file: a stage that finds one thing in each picture, which its first pixel names. Tests copy it beside their
config."""

from __future__ import annotations

import time

from stages.spec import TensorSpec

SIDE = 32


class Find:
    """A picture of which the first pixel is v has a thing of class v and score 0.5; 255 takes a second, 254 is not finite."""

    inputs = (TensorSpec("image", "uint8", (SIDE, SIDE, 3)),)
    outputs = (TensorSpec("boxes", "float32", ("n", 6), {"n": 30}), TensorSpec("count", "int32", ()))

    def process(self, batch) -> None:  # type: ignore[no-untyped-def]
        for row, image in enumerate(batch.rows("image")):
            value = int(image[0, 0, 0])
            time.sleep(1.0 if value == 255 else 0.001)
            boxes = batch.out(row, "boxes", (2, 6))
            boxes[0] = 0
            boxes[1] = value, 0.5, value / 256, 0.25, 0.75, float("nan") if value == 254 else 1.0
            batch.out(row, "count")[...] = 1
