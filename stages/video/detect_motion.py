"""DetectMotion: the stage that says which frames the detector should look at."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from stages.errors import BadInput, BadOption
from stages.spec import TensorSpec
from stages.stage import Batch
from stages.video.frame import frame_of
from stages.video.motion import MotionDetector, MotionOptions, cells_of
from stages.video.options import fraction, mapping_of, number, polygons_of
from stages.video.streams import Streams

__all__ = ["DetectMotion"]


class DetectMotion:
    """Compares each frame with those before it, at a low resolution.

    With `when: motion.look` the stages of the detector are skipped while nothing moves; stages.video.track goes on
    without them. A camera is a stream of requests that are called by the camera's name (stages.video.frame).

    Input `image`: RGB, uint8 of shape (H, W, 3).
    Output `look`: uint8 of shape (), 1 if the detector should look at the frame, otherwise 0: something moves, or did
    so a moment ago; or it is the first frame of a stream, or of another size.
    Output `share`: float32 of shape (), the share of the picture, without its masks, that differs from the background.

    A frame without pixels, or of no stream, fails with BadInput.

    Args:
        max_height, max_width: of the largest frame, in pixels.
        columns: how many cells a picture is divided into, across; a cell is as tall as wide.
        threshold: by how much the brightness of a cell must differ from the background, of 255.
        area: the share of the cells that must differ.
        linger_s: seconds for which frames are looked at after the last movement. If it is not longer than `patience_s`
            of stages.video.track, things that are gone are taken to be there.
        every_s: after so many seconds without a look, frames are looked at as if something had moved.
        settle_s: seconds in which the background takes over about two thirds of what is new and stays.
        masks: {camera: [polygon, ...]}, each a list of corners [x, y] in fractions of the picture: movement in them
            does not count, such as that of trees, or of a clock that the camera draws.
        off: cameras of which each frame is looked at.

    Raises:
        BadOption: an option makes no sense.
    """

    def __init__(
        self,
        max_height: int = 1080,
        max_width: int = 1920,
        columns: int = 64,
        threshold: float = 12.0,
        area: float = 0.002,
        linger_s: float = 3.0,
        every_s: float = 60.0,
        settle_s: float = 1.0,
        masks: Mapping[str, Any] | None = None,
        off: tuple[str, ...] | list[str] = (),
    ) -> None:
        if columns < 1:
            raise BadOption(f"columns {columns}: expected at least 1")
        self._columns, self._off = columns, frozenset(off)
        self._masks = {
            camera: polygons_of(f"masks.{camera}", value) for camera, value in mapping_of("masks", masks).items()
        }
        self._options = {
            "threshold": number("threshold", threshold, above=0),
            "area": fraction("area", area),
            "linger_s": number("linger_s", linger_s, at_least=0),
            "every_s": number("every_s", every_s, above=0),
            "settle_s": number("settle_s", settle_s, above=0),
        }
        self._motions = Streams(self._begun)
        self._now: Callable[[], float] = time.time
        self.ragged = True
        self.inputs = (TensorSpec("image", "uint8", ("H", "W", 3), {"H": max_height, "W": max_width}),)
        self.outputs = (TensorSpec("look", "uint8", ()), TensorSpec("share", "float32", ()))

    def process(self, batch: Batch) -> None:
        rows = zip(batch.requests, batch.rows("image"))
        # Rows are in no promised order, frames of a stream are.
        for row, (request, frame) in sorted(enumerate(rows), key=lambda one: one[1][0].sequence):
            camera, taken = frame_of(request.name)
            if not frame.size:
                batch.fail(row, f"a frame without pixels: {frame.shape[0]}x{frame.shape[1]}")
                continue
            try:
                motion, _ = self._motions.of(request, camera)
            except BadInput as error:
                batch.fail(row, error)
                continue
            look, share = motion.step(cells_of(frame, self._columns), self._now() if taken is None else taken)
            batch.out(row, "look")[...] = look or camera in self._off
            batch.out(row, "share")[...] = share

    def _begun(self, camera: str) -> MotionDetector:
        return MotionDetector(MotionOptions(**self._options, masks=self._masks.get(camera, ())))
