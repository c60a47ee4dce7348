"""Desk: takes the questions of Frigate's detectors, has the pipeline answer them, and answers each of them once.

    router ──frame──▶ a task each ──▶ AsyncInferRunner ──▶ the pipeline, which makes batches of what waits
       ◀──table, or why there is none──┘ in time, or "late" when the time is over

It is a client of the run like any other. A question that is wrong, that the pipeline refuses, or that has not been
answered in time is answered with a reason: a REQ that hears nothing can ask nothing. When the time is over, Frigate has
given up, or is about to, so the detections are not sent any more, and it is counted. Nothing that comes in ends the
desk.
"""

from __future__ import annotations

import asyncio
import sys
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from typing import Final

from pipeline.client.aio import AsyncClient
from pipeline.client.aio_runner import AsyncInferRunner
from pipeline.detecting.boxes import Boxes, Input
from pipeline.detecting.messages import (
    Frame,
    ModelOffer,
    ModelQuestion,
    loaded,
    question_of,
    refusal,
    refused_model,
    table,
)
from pipeline.detecting.router import Asked, Router
from pipeline.errors import DeadlineExceeded, Overloaded, PipelineError, RequestError

__all__ = ["GONE", "INTERNAL", "LATE", "MOST_ASKED", "OK", "Desk"]

OK: Final = "OK"
LATE: Final = "Late"
"""Not answered in time."""
GONE: Final = "Gone"
"""Answered in time, but the one that had asked was gone."""
INTERNAL: Final = "Internal"
"""A fault of the desk's own."""

MOST_ASKED = 256
"""Questions under way at one time; one more is refused. Each holds a frame."""

#: How long an answer to a question for the model may wait for the pipeline: Frigate waits for 30 s.
_MODEL_S = 25.0


class Desk:
    """
    Args:
        router: where questions come in.
        client: connected to the run.
        input, boxes: what the pipeline takes and gives.
        deadline_ms: how long an answer may take, from when the frame was here.
    """

    def __init__(self, router: Router, client: AsyncClient, input: Input, boxes: Boxes, deadline_ms: float) -> None:
        self._router = router
        self._client = client
        self._runner = AsyncInferRunner(client)
        self._input, self._boxes = input, boxes
        self._deadline_s = deadline_ms / 1000
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False
        self.outcomes: Counter[str] = Counter({OK: 0, LATE: 0, GONE: 0})
        """Frames so far, by what has become of them: these, or the code of an error."""

    def open(self) -> None:
        """Take questions from now on."""
        self._loop.add_reader(self._router.descriptor, self._receive)
        self._receive()

    async def close(self) -> None:
        """Take no more, and end once what is under way is answered."""
        self._closing = True
        self._loop.remove_reader(self._router.descriptor)
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _receive(self) -> None:
        for asked in self._router.receive():
            if len(self._tasks) >= MOST_ASKED:
                self.outcomes[Overloaded.code] += 1
                self._router.send(asked.envelope, refusal(f"{MOST_ASKED} questions are under way already"))
                continue
            task = self._loop.create_task(self._settle(asked, self._loop.time()))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _settle(self, asked: Asked, came: float) -> None:
        """Answer one question, whatever happens."""
        outcome = ""
        try:
            question = question_of(asked.parts)
            if isinstance(question, Frame):
                outcome = OK
                answer = await self._detect(question, came)
            elif isinstance(question, ModelQuestion):
                answer = await self._model()
            else:
                answer = self._offered(question)
        except DeadlineExceeded:
            outcome, answer = LATE, refusal(f"not answered within {self._deadline_s * 1000:g} ms")
        except PipelineError as error:
            outcome = error.code if isinstance(error, RequestError) else INTERNAL
            answer = refusal(str(error))
        except Exception as error:
            # A fault of ours costs this question only.
            traceback.print_exc()
            outcome, answer = INTERNAL, refusal(f"this detector has failed: {error!r}")
        self._answer(asked.envelope, answer, outcome)

    def _answer(self, envelope: Sequence[bytes], answer: Sequence[bytes], outcome: str) -> None:
        if not self._router.send(envelope, answer) and outcome == OK:
            outcome = GONE
        if outcome:
            self.outcomes[outcome] += 1
        if not self._closing:
            # What has come meanwhile is not told again.
            self._receive()

    async def _detect(self, frame: Frame, came: float) -> list[bytes]:
        """
        Raises:
            DeadlineExceeded: the time is over.
            RequestError: it cannot be answered.
        """
        pixels = frame.pixels
        self._input.check(pixels)
        left = came + self._deadline_s - self._loop.time()
        asking = self._runner.infer({self._input.name: pixels}, deadline_ms=max(left * 1000, 0.1), block=False)
        try:
            result = await asyncio.wait_for(asking, max(left, 0))
        except asyncio.TimeoutError:
            raise DeadlineExceeded("the pipeline has not answered in time") from None
        with result:
            detections = self._boxes.table(result[self._boxes.output], *self._input.size(pixels.shape))
        if self._loop.time() > came + self._deadline_s:
            raise DeadlineExceeded("the answer has come too late")
        return table(detections)

    async def _model(self) -> list[bytes]:
        """Whether the pipeline is there: a detector that is told that it is not asks no more, so this waits for it."""
        end = time.monotonic() + _MODEL_S
        ready = False
        while not ready and not self._closing and time.monotonic() < end:
            try:
                ready = (await self._client.inquire()).ready
            except (PipelineError, TimeoutError):
                ready = False
            if not ready:
                await asyncio.sleep(0.1)
        return loaded(ready)

    def _offered(self, offer: ModelOffer) -> list[bytes]:
        print(f"refused a model, {offer.name!r}: the pipeline has its own", file=sys.stderr)
        return refused_model(offer.name)
