"""A stage that keeps something of each camera: how much of its picture has changed since the frame before."""

import numpy as np

from stages.spec import TensorSpec

_STEP = 8
_SEEN = 12
_MOST_STREAMS = 1024


class FrameChange:
    """Compares every eighth pixel of a frame with the same camera's frame before.

    A camera's requests are a stream: they run in order, and in this stage all at one worker.
    """

    inputs = (TensorSpec("frame", "uint8", ("H", "W", 3), {"H": 2160, "W": 3840}),)
    outputs = (TensorSpec.json("change", 256),)

    def setup(self, context):
        self._before = {}

    def process(self, batch):
        for row, request in enumerate(batch.requests):
            now = np.asarray(batch.rows("frame")[row])[::_STEP, ::_STEP].mean(axis=2).astype(np.int16)
            before = self._before.pop(request.stream, None)
            part = 0.0 if before is None or before.shape != now.shape else float((abs(now - before) > _SEEN).mean())
            # The camera that was seen last stands last: one that came back has another stream, and this one ages out.
            self._before[request.stream] = now
            if len(self._before) > _MOST_STREAMS:
                del self._before[next(iter(self._before))]
            batch.write(row, "change", {"frame": request.name, "changed": round(part, 4)})
