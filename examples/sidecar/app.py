"""The app: an HTTP server that asks the pipeline beside it.

    curl --data-binary @photos/digits/3.png http://127.0.0.1:8000/classify
    {"labels":["3","5","0"],"scores":[0.9995668530464172,0.00021611263218801469,5.730517295887694e-05]}

It finds the pipeline by its name, in the folder that TRTLAB_RUN_DIR names; nothing here says in which container it
runs.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, HTTPException, Request

import pipeline
from pipeline.errors import BadInput, InvalidRequest, RequestError


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with pipeline.connect_async("digits", timeout_s=60) as manager:
        app.state.digits = manager.infer_runner("digits")
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/healthz")
async def healthz() -> str:
    return "ok"


@app.post("/classify")
async def classify(request: Request) -> dict[str, Any]:
    picture = await request.body()
    try:
        # If the pipeline's container is started again meanwhile, the picture is sent once more.
        result = await request.app.state.digits.infer(image=picture, deadline_ms=10_000, retries=1)
    except (BadInput, InvalidRequest) as error:  # this picture
        raise HTTPException(400, str(error)) from None
    except RequestError as error:  # the pipeline: try again later
        raise HTTPException(503, f"{error.code}: {error}") from None
    with result:
        return {"labels": result["labels"], "scores": result["scores"].tolist()}
