"""What a test of a pipeline or a stage of one's own needs.

    with running("configs/resnet.yaml", ["inference.replicas=2"]) as pipeline, pipeline.client() as client:
        assert client.submit(image=jpeg).get()["labels"][0] == "sfw"

    batch = batch_of(MyStage(), image=[a, b])       a stage alone, without any process

For the authors of tests; nothing of the runtime imports it.
"""

from __future__ import annotations

from pipeline.testing.running import RunningPipeline, running
from stages.testing import batch_of

__all__ = ["RunningPipeline", "batch_of", "running"]
