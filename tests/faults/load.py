"""Load: numbered requests through one client, as many under way as there are slots; each answer is compared."""

from __future__ import annotations

import time
from collections.abc import Callable

import psutil

from pipeline.client import Client
from pipeline.client.future import Future
from pipeline.errors import Unavailable

__all__ = ["Load", "until"]


def until(condition: Callable[[], object]) -> None:
    """Wait; if it never happens, the test's own timeout ends the wait."""
    while not condition():
        time.sleep(0.01)


class Load:
    """Requests 0, 1, 2 ... whose bytes are their number; sent again if the scheduler died, as the feeder does."""

    def __init__(self, client: Client, most: int = 64) -> None:
        self.client = client
        self.most = most
        self.sent = self.answered = self.resent = 0
        self._again: list[int] = []
        self._under_way: dict[int, Future] = {}

    def step(self, *, new: bool = True) -> None:
        """Send as many requests as possible, and take in the answers that have come."""
        try:
            while (self._again or new) and len(self._under_way) < self.most:
                draft = self.client.draft_nowait(data=(8,))
                if draft is None:
                    break
                if self._again:
                    number = self._again.pop()
                else:
                    number, self.sent = self.sent, self.sent + 1
                draft.inputs["data"][:] = memoryview(number.to_bytes(8, "little"))
                self._under_way[number] = draft.submit(flush=False)
            self.client.pump(0.02)
        except Unavailable:
            self.client.reconnect(30)
        self._settle()

    def kill(self, scheduler: psutil.Process) -> None:
        """Kill the scheduler while requests are under way: it is stopped first, and its answers are taken in.

        Without the stop, a quick pipeline has answered all of them before the signal arrives.
        """
        while True:
            self.step()
            scheduler.suspend()
            while self.client.pump(0.1):
                self._settle()
            if self._under_way:
                scheduler.kill()
                return
            scheduler.resume()

    def _settle(self) -> None:
        for number, future in list(self._under_way.items()):
            if not future.done():
                continue
            del self._under_way[number]
            if isinstance(future.error(), Unavailable):
                self._again.append(number)
                self.resent += 1
                continue
            with future.get() as result:
                assert int.from_bytes(result["data"].tobytes(), "little") == number
            self.answered += 1

    def until(self, condition: Callable[[], object]) -> None:
        """Keep up the load until `condition()` is true."""
        while not condition():
            self.step()

    def more(self, count: int) -> None:
        """Keep up the load for so many more answers."""
        enough = self.answered + count
        self.until(lambda: self.answered >= enough)

    def finish(self) -> None:
        """Wait until all requests are answered, and check that no answer comes twice."""
        while self._under_way or self._again:
            self.step(new=False)
        assert self.answered == self.sent
        assert self.client.pump(0.1) == 0
