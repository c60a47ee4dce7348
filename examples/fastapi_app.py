"""A web service that reads handwritten digits with the pipeline `digits` of this host.

    pipeline run configs/digits.yaml --serve
    uvicorn --app-dir examples fastapi_app:app
    curl -F image=@photos/digits/7.png http://127.0.0.1:8000/digits
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from fastapi import FastAPI, HTTPException, Request, UploadFile
from fastapi.responses import JSONResponse

import pipeline
from pipeline import errors

T = TypeVar("T")

STATUS = {
    errors.InvalidRequest: 422,  # the picture does not fit the pipeline's input
    errors.BadInput: 422,  # it is no picture
    errors.Overloaded: 429,
    errors.Unavailable: 503,
    errors.DeadlineExceeded: 504,
}


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    # In each of uvicorn's workers, after the fork. A pipeline that starts at the same time is waited for, but not for
    # long: until then uvicorn does not react to Ctrl-C. One that restarts later is found again by itself. A request
    # waits for it for up to `patience_s`, which is less than its deadline: so it gets the 503 and not the 504.
    async with pipeline.connect_async("digits", timeout_s=10, name="web", pending=64, patience_s=1) as manager:
        app.state.manager = manager
        app.state.digits = manager.infer_runner("digits")
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/digits")
async def read_digit(request: Request, image: UploadFile, deadline_ms: float = 2000) -> dict[str, Any]:
    digits = request.app.state.digits
    most = digits.input_specs()["image"].max["bytes"]
    if image.size is None or image.size > most:
        raise HTTPException(413, f"a picture has at most {most} bytes")
    data = await image.read()
    # If more than `pending` requests wait, the next one is refused, and not kept: that is the 429.
    answer = digits.infer(image=data, deadline_ms=deadline_ms, name=image.filename, block=False)
    result = await unless_hung_up(request, answer)
    return {"labels": result["labels"], "scores": result["scores"].tolist()}


@app.get("/models")
async def models(request: Request) -> dict[str, Any]:
    return await request.app.state.manager.status()


@app.exception_handler(errors.PipelineError)
async def explain(request: Request, error: errors.PipelineError) -> JSONResponse:
    status = STATUS.get(type(error), 500)
    headers = {"Retry-After": "1"} if status in (429, 503) else None
    return JSONResponse({"error": type(error).__name__, "detail": str(error)}, status, headers)


async def unless_hung_up(request: Request, answer: Coroutine[Any, Any, T]) -> T:
    """The answer; if the client hangs up before, it is cancelled, and with it what the pipeline does for it."""
    asking, watching = asyncio.create_task(answer), asyncio.create_task(hung_up(request))
    try:
        await asyncio.wait((asking, watching), return_when=asyncio.FIRST_COMPLETED)
        if not asking.done():
            raise HTTPException(499, "the client has hung up")
        return asking.result()
    finally:
        asking.cancel()
        watching.cancel()


async def hung_up(request: Request) -> None:
    # The body has been read: what comes next is the end.
    while (await request.receive())["type"] != "http.disconnect":
        pass
