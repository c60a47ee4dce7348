"""A Ray Serve deployment whose replicas embed a pipeline each: it reads the digit on a picture that is posted to it.

    pip install "ray[serve]" trtlab
    serve run --working-dir . examples.ray_serve:app       (from this project's folder)
    curl --data-binary @photos/digits/7.png http://127.0.0.1:8000/

Ray has the cluster: it chooses the host of a replica, routes and scales. Within a replica the pipeline has what Ray has
none of: tensors pass from stage to stage in shared memory, batches form, a stage that crashes is started again, and no
request is lost by that. The replica's end is the pipeline's, also if it is killed: its processes and its shared memory
go with it, and Ray starts another replica.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

from ray import serve
from starlette.requests import Request
from starlette.responses import JSONResponse

import pipeline
from pipeline import errors

CONFIG = Path(__file__).resolve().parents[1] / "configs/digits.yaml"

STATUS = {
    errors.InvalidRequest: 422,
    errors.BadInput: 422,
    errors.Overloaded: 429,
    errors.Unavailable: 503,
    errors.DeadlineExceeded: 504,
}


# What may be in a replica at one time must leave the pipeline's batcher something to choose from. The CPUs are those of
# all processes of the pipeline, which Ray does not see: give it as many as the stages take.
@serve.deployment(num_replicas=2, max_ongoing_requests=64, ray_actor_options={"num_cpus": 0.5}, health_check_period_s=1)
class Digits:
    """One replica.

    Args:
        config: of the pipeline; its stages are placed on the CPUs and GPUs of the replica's host.
    """

    def __init__(self, config: str) -> None:
        self._manager = pipeline.InferenceManager(config)
        self._digits = self._manager.infer_runner("digits")

    async def __call__(self, request: Request) -> JSONResponse:
        try:
            future = self._digits.infer(image=await request.body(), deadline_ms=5000, block=False)
            result = await asyncio.wrap_future(future)
        except errors.PipelineError as error:
            return JSONResponse({"error": str(error)}, STATUS.get(type(error), 500))
        return JSONResponse({"digit": result["labels"][0], "replica": os.getpid()})

    def check_health(self) -> None:
        """Ray asks this, and replaces a replica that raises. A pipeline that restarts a stage is not one."""
        model: dict[str, Any] = self._manager.status()["digits"]
        if model["state"] == "died":
            raise RuntimeError(f"the pipeline has ended: {model['why']}")

    def __del__(self) -> None:
        """Ray calls it when the replica is stopped."""
        if hasattr(self, "_manager"):
            self._manager.stop()


app = Digits.bind(str(CONFIG))
