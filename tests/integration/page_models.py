"""Models for the page: labels and errors that a browser could take for markup, pictures in and out. Tests copy it."""

from __future__ import annotations

from stages.errors import BadInput
from stages.spec import TensorSpec

MARKUP = "<img src=x onerror=document.title='taken'>"


class Hostile:
    """Labels, scores and errors that are markup."""

    inputs = (TensorSpec("data", "uint8", ("bytes",), {"bytes": 65536}),)
    outputs = (TensorSpec.json("labels", max_bytes=4096), TensorSpec("scores", "float32", (2,)))

    def process(self, batch) -> None:  # type: ignore[no-untyped-def]
        for row, data in enumerate(batch.rows("data")):
            if data.tobytes() == b"bad":
                raise BadInput(f"refused: {MARKUP}")
            batch.write(row, "labels", [MARKUP, "</script><script>document.title='taken'</script>"])
            batch.out(row, "scores", (2,))[...] = [0.75, 0.25]


class Mirror:
    """A picture of 16 x 24 pixels as it came, and the mean of each colour."""

    inputs = (TensorSpec("pixels", "uint8", (16, 24, 3)),)
    outputs = (TensorSpec("pixels", "uint8", (16, 24, 3)), TensorSpec("means", "float32", (3,)))

    def process(self, batch) -> None:  # type: ignore[no-untyped-def]
        for row, pixels in enumerate(batch.rows("pixels")):
            batch.out(row, "pixels", pixels.shape)[...] = pixels
            batch.out(row, "means", (3,))[...] = pixels.mean(axis=(0, 1))
