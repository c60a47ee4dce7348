"""Stages for a pipeline in a container: one whose programs lose their parent, and that is slow if it is told so."""

from __future__ import annotations

import os
import time

from stages.spec import TensorSpec


class Abandon:
    """A number in, the pid of a grandchild out, whose parent is gone by then; it ends after a moment itself."""

    inputs = (TensorSpec("seconds", "float32", (1,)),)
    outputs = (TensorSpec("orphan", "int64", (1,)),)

    def process(self, batch):
        for row, seconds in enumerate(batch.rows("seconds")):
            reader, writer = os.pipe()
            if (child := os.fork()) == 0:
                if (orphan := os.fork()) == 0:
                    time.sleep(0.3)
                else:
                    os.write(writer, str(orphan).encode())
                os._exit(0)
            os.waitpid(child, 0)
            batch.out(row, "orphan", (1,))[...] = int(os.read(reader, 16))
            os.close(reader)
            os.close(writer)
            time.sleep(float(seconds[0]))


class Late(Abandon):
    """It is never ready."""

    def setup(self, context):
        time.sleep(3600)
