"""A pipeline that works in a thread of the test, for clients that threads share."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType

from tests.unit.pipeline.client.loopback import Pipeline
from tests.unit.pipeline.scheduler.evaluation import expected_answer

__all__ = ["Served", "x_and_y"]

_LIMIT_S = 200


class Served:
    """Takes in what clients send, and answers, until the end of the block. While it is `paused`, it does nothing."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        #: The thread that has it may look at the scheduler.
        self.mutex = threading.Lock()
        self.paused = False
        self._over = False
        self._thread = threading.Thread(target=self._run, name="served")

    def _run(self) -> None:
        while not self._over:
            with self.mutex:
                if not self.paused:
                    self.pipeline.step()
            time.sleep(0.001)

    def until(self, condition: Callable[[], object]) -> None:
        """Wait until this is so of the scheduler."""
        end = time.monotonic() + _LIMIT_S
        while True:
            with self.mutex:
                if condition():
                    return
            assert time.monotonic() < end, f"it never came; slots in use: {self.pipeline.in_use}"
            time.sleep(0.002)

    @property
    def inside(self) -> int:
        """Requests that are not answered."""
        return len(self.pipeline.scheduler.requests)

    def until_free(self) -> None:
        """Wait until every slot is back."""
        self.until(lambda: not any(self.pipeline.in_use))

    def expected(self, number: int) -> dict[str, bytes]:
        """The answer to a request with `x_and_y(number)`."""
        answer = expected_answer(self.pipeline.plan, x_and_y(number))
        return {name: value for name, value in answer.items() if isinstance(value, bytes)}

    def __enter__(self) -> Served:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._over = True
        self._thread.join()


def x_and_y(number: int) -> dict[str, bytes]:
    """The inputs of requests differ."""
    return {"x": number.to_bytes(2, "big").rjust(16, b"x"), "y": b"y" * 16}
