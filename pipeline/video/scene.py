"""Scene: a synthetic camera: shapes that move over a ground, drawn straight into the slot. For tests and demos.

    synthetic                                          640 x 480, 25 frames a second, without an end
    synthetic:?fps=30&frames=100&seed=3&size=320x240   100 frames
"""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import parse_qsl

import numpy as np

from pipeline.video.frame import Pixels, Size

__all__ = ["Drawn", "Scene"]

_SHAPES = 3


class Scene(NamedTuple):
    """What a URL of a scene says."""

    size: Size = Size(640, 480)
    fps: float = 25.0
    frames: int = 0
    """0: without an end."""
    seed: int = 0

    @classmethod
    def of(cls, url: str) -> Scene:
        """
        Raises:
            ValueError: it is no URL of a scene.
        """
        fields: dict[str, object] = {}
        for name, value in parse_qsl(url.partition("?")[2], keep_blank_values=True):
            try:
                if name == "size":
                    width, _, height = value.partition("x")
                    fields[name] = Size(int(width), int(height))
                elif name == "fps":
                    fields[name] = float(value)
                elif name in ("frames", "seed"):
                    fields[name] = int(value)
                else:
                    raise ValueError(f"expected size, fps, frames or seed in a scene's url, found {name}")
            except ValueError as error:
                raise ValueError(f"a scene's {name}: {error}") from None
        scene = cls(**fields)  # type: ignore[arg-type]
        if not (0 < scene.size.width <= 16_384 and 0 < scene.size.height <= 16_384 and 0 < scene.fps <= 1000):
            raise ValueError("a scene's size is from 1x1 to 16384x16384, its fps above 0 and at most 1000")
        return scene

    def shapes(self, number: int) -> list[tuple[float, float, float, float, tuple[int, int, int]]]:
        """Where the shapes are in a frame: (left, top, right, bottom), each from 0 to 1, and the colour.

        Args:
            number: of the frame, from 0 on.
        """
        random = np.random.default_rng(self.seed)
        found = []
        for _ in range(_SHAPES):
            width, height = random.uniform(0.08, 0.25, 2)
            start = random.uniform(0, 1, 2)
            # A shape crosses the picture in 4 to 10 s.
            speed = random.uniform(0.1, 0.25, 2) * random.choice((-1, 1), 2)
            red, green, blue = (int(part) for part in random.integers(96, 256, 3))
            left, top = (_bounced(start + speed * number / self.fps)) * (1 - np.array([width, height]))
            found.append((float(left), float(top), float(left + width), float(top + height), (red, green, blue)))
        return found


def _bounced(at: np.ndarray[tuple[int], np.dtype[np.float64]]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Positions that run back and forth between 0 and 1."""
    return 1 - np.abs(at % 2 - 1)


class Drawn:
    """One frame of a scene.

    Args:
        number: from 0 on.
    """

    __slots__ = ("_number", "_scene")

    def __init__(self, scene: Scene, number: int) -> None:
        self._scene = scene
        self._number = number

    @property
    def size(self) -> Size:
        """That of the scene."""
        return self._scene.size

    def write(self, pixels: Pixels) -> int:
        """Draw it; nothing is copied."""
        height, width, _ = pixels.shape
        pixels[...] = np.linspace(24, 72, height, dtype=np.uint8)[:, None, None]
        for left, top, right, bottom, colour in self._scene.shapes(self._number):
            pixels[round(top * height) : round(bottom * height), round(left * width) : round(right * width)] = colour
        return 0
