"""Client of the soak: a process that sends its share of the requests, and writes down the end of each.

    python -m bench.chaos.client RUN_DIR JOURNAL JSON     the JSON: seed, numbers, rate, rates, places, name
    python -m bench.chaos.client RUN_DIR                  a leaker: takes slots and answers, and gives nothing back

The journal is a file of lines, appended to with one write each, so that it outlives a kill: "s 17"
means that request 17 was sent, "a 17 ok" that it ended that way. The client that follows a killed
client goes on with the requests that have no end yet.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from bench.chaos.requests import HEAD, Rates, Request, expected, request
from pipeline.client.client import Client
from pipeline.client.exchange import Exchange
from pipeline.client.future import Future, Pending
from pipeline.errors import Unavailable
from pipeline.wire.messages import Answers

__all__ = ["main"]

_RECONNECT_S = 60.0
_BURST = 12


class WatchingExchange(Exchange):
    """Notices if an answer comes twice; a message that the client asked for again does not count."""

    twice = 0

    def take(self, messages: Iterable[object], now: int) -> list[Pending]:
        seen: set[int] = self.__dict__.setdefault("_tags", set())
        session, finished = self.session, []
        for message in messages:
            if isinstance(message, Answers) and session.lost is None and message.number == session.there.seen + 1:
                for answer in message.answers:
                    self.twice += answer.tag in seen
                    seen.add(answer.tag)
            finished += super().take((message,), now)
        return finished


class Watching(Client):
    """A client that counts them."""

    _exchange_type = WatchingExchange

    @property
    def twice(self) -> int:
        """The number of answers that came twice."""
        assert isinstance(self._exchange, WatchingExchange)
        return self._exchange.twice


class _Sender:
    def __init__(self, client: Watching, journal: int, todo: list[Request], rate: float) -> None:
        self._client = client
        self._journal = journal
        self._todo = deque(todo)
        self._under_way: dict[int, tuple[Request, Future]] = {}
        self._rate = rate

    def run(self) -> None:
        began, sent, due = time.monotonic(), 0, _BURST
        while self._todo or self._under_way:
            try:
                # In bursts, so that every queue has requests when an event comes.
                if sent >= due and (time.monotonic() - began) * self._rate > due:
                    due += _BURST
                while self._todo and sent < due and self._send(self._todo[0]):
                    self._todo.popleft()
                    sent += 1
                self._client.pump(0.02)
            except Unavailable:
                self._client.reconnect(_RECONNECT_S)
            self._collect()
        # A second answer to anything would come now.
        self._client.pump(0.2)
        self._write(f"t {self._client.twice}")

    def _send(self, request: Request) -> bool:
        draft = self._client.draft_nowait(values=request.values.shape)
        if draft is None:
            return False
        draft.inputs["values"][...] = request.values
        future = draft.submit(deadline_ms=request.deadline_ms, priority=request.priority, flush=False)
        self._under_way[request.number] = request, future
        self._write(f"s {request.number}")
        return True

    def _collect(self) -> None:
        for number, (sent, future) in list(self._under_way.items()):
            if not future.done():
                continue
            del self._under_way[number]
            error = future.error()
            if isinstance(error, Unavailable):
                # The scheduler died: no process has the request any more, so it is sent again.
                self._write(f"r {number}")
                self._todo.appendleft(sent)
            elif error is not None:
                self._write(f"a {number} {error.code}")
            else:
                with future.get() as result:
                    right = np.array_equal(result["values"], expected(sent.values))
                self._write(f"a {number} {'ok' if right else 'wrong'}")

    def _write(self, line: str) -> None:
        os.write(self._journal, f"{line}\n".encode())


def _leak(run_dir: Path) -> None:
    client = Client.connect(run_dir, name="leaker")
    kept: list[Any] = []
    values = np.zeros(HEAD + 1, np.int64)
    while True:
        try:
            if (draft := client.draft_nowait(values=(HEAD + 1,))) is None:
                client.pump(0.2)
            elif len(kept) % 2:
                kept.append(draft)
            else:
                draft.inputs["values"][...] = values
                # Keep the slot, not only the result: small outputs are copied out of their slots.
                future = draft.submit()
                future.wait(10)
                kept.append(future)
        except (Unavailable, TimeoutError):
            kept.clear()
            client.reconnect(_RECONNECT_S)


def main() -> None:
    """Entry point of the process."""
    run_dir = Path(sys.argv[1])
    if len(sys.argv) == 2:
        _leak(run_dir)
        return
    told = json.loads(sys.argv[3])
    journal = os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    rates = Rates(**told["rates"])
    todo = [request(told["seed"], number, rates, told["places"]) for number in told["numbers"]]
    with Watching.connect(run_dir, name=told["name"]) as client:
        assert isinstance(client, Watching)
        _Sender(client, journal, todo, told["rate"]).run()
    os.close(journal)


if __name__ == "__main__":
    main()
