"""What users need to test a pipeline or a stage of their own.

    with running("configs/resnet.yaml", ["inference.replicas=2"]) as pipeline, pipeline.client() as client:
        assert client.submit(image=jpeg).get()["labels"][0] == "sfw"

    batch = batch_of(MyStage(), image=[a, b])       a stage alone, without any process

It is for authors of tests; no code of the runtime imports it.
"""

from __future__ import annotations

from pipeline.testing.running import RunningPipeline, running
from stages.testing import batch_of

__all__ = ["RunningPipeline", "batch_of", "running"]
