"""Session: the requests under way at one server: what is sent, when it is sent again, and how it ends. Pure.

                        ┌──────── again, later ────────┐
    begin ──▶ SENT ─────┤ refused: within `patience_s`  ├──▶ SENT ...
                 │      │ lost, or the server says      │
                 │      │ UNAVAILABLE: with retries     │
                 │      └──────────────────────────────┘
                 └──▶ over: answered | failed | its deadline has passed | cancelled

Every event has the time (monotonic nanoseconds) as an argument, and gives a list of what the shell does:

    Send     now, with so many seconds left        Abort    it is not wanted any more; what comes of it is dropped
    End      tell the caller                       Probe    ask whether the server lives

A server that has said nothing for half of `silence_s` while something is under way is probed; one that has said nothing
for all of it is taken for gone, and what is under way there is lost. So no request waits for ever, with a deadline or
without one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from pipeline.errors import DeadlineExceeded, RequestError
from pipeline.remote.failures import LOST, REFUSED, TOLD, Failure, error_of

__all__ = ["UNREACHED", "Abort", "End", "Instruction", "Probe", "Send", "Session"]

UNREACHED = "not answered within its deadline; the last attempt failed: "
"""How the message of a DeadlineExceeded begins, if it was the server that could not be reached."""

_MS = 1_000_000
_S = 1_000_000_000
#: Between two attempts: twice as long each time.
_FIRST_PAUSE = 50 * _MS
_LONGEST_PAUSE = _S


class Send(NamedTuple):
    """Send this request."""

    number: int
    left_s: float | None
    """Until its deadline; None: it has none."""


class Abort(NamedTuple):
    """Break off what was sent."""

    number: int


class End(NamedTuple):
    """This request has no answer."""

    number: int
    error: RequestError


class Probe(NamedTuple):
    """Ask the server whether it lives, and call `heard` if it answers anything."""

    limit_s: float


Instruction = Send | Abort | End | Probe


@dataclass(slots=True)
class _Call:
    """A request that is not over."""

    deadline: int
    retries: int
    sent_at: int | None = None
    """None: it waits to be sent again, at `again_at`."""
    again_at: int = 0
    failed_since: int | None = None
    """When the first of its attempts failed that failed in a row; None: none has."""
    pause: int = _FIRST_PAUSE
    why: str = ""
    """Of its last attempt."""


class Session:
    """What is under way at one server.

    Args:
        patience_s: for how long a request waits for a server that cannot be reached.
        silence_s: after so many seconds without a word from the server, what is under way there is lost.
    """

    def __init__(self, patience_s: float, silence_s: float) -> None:
        self._patience = round(patience_s * _S)
        self._silence = round(silence_s * _S)
        self._calls: dict[int, _Call] = {}
        self._last = 0
        self._heard_at = -1
        self._probed_at = -1
        #: Why the last attempt failed of all; empty: it did not.
        self.trouble = ""
        #: How often a request was sent again.
        self.sent_again = 0

    @property
    def outstanding(self) -> int:
        """Requests that are not over."""
        return len(self._calls)

    # -- events ---------------------------------------------------------------------------------

    def begin(self, now: int, deadline: int = 0, retries: int = 0) -> tuple[int, list[Instruction]]:
        """One more request; its number.

        Args:
            deadline: after which its answer is not wanted; 0: none.
            retries: how often it may be sent again after it was lost.
        """
        self._last += 1
        call = self._calls[self._last] = _Call(deadline, retries)
        if deadline and now >= deadline:
            # A quick server might answer before the next tick: it would be a matter of luck.
            return self._last, self._end(self._last, _too_late(call))
        return self._last, self._send(self._last, call, now)

    def heard(self, now: int) -> None:
        """The server has said something."""
        self._heard_at = max(self._heard_at, now)
        self.trouble = ""

    def answered(self, number: int, now: int) -> bool:
        """The answer has come; False: the request was over before."""
        self.heard(now)
        return self._calls.pop(number, None) is not None

    def failed(self, number: int, failure: Failure, now: int) -> list[Instruction]:
        """An attempt has failed."""
        if failure.kind == TOLD:
            self.heard(now)
        else:
            self.trouble = failure.message
        call = self._calls.get(number)
        if call is None:
            return []
        call.why = failure.message
        if failure.kind == REFUSED:
            call.failed_since = now if call.failed_since is None else call.failed_since
            end = call.failed_since + self._patience
            if now >= end:
                return self._end(number, error_of(failure))
            return self._later(call, now, end)
        if call.retries and (failure.kind == LOST or failure.code == "UNAVAILABLE"):
            call.retries -= 1
            if call.failed_since is None or now - (call.sent_at or 0) > self._patience:
                # It was there for long, and is gone now.
                call.failed_since = now
            end = call.failed_since + self._patience
            if now < end:
                return self._later(call, now, end)
        return self._end(number, error_of(failure))

    def cancel(self, number: int) -> list[Instruction]:
        """The caller does not want it any more."""
        call = self._calls.pop(number, None)
        return [Abort(number)] if call is not None and call.sent_at is not None else []

    def tick(self, now: int) -> list[Instruction]:
        """Time has passed."""
        found: list[Instruction] = []
        for number, call in tuple(self._calls.items()):
            if call.deadline and now >= call.deadline:
                if call.sent_at is not None:
                    found.append(Abort(number))
                found += self._end(number, _too_late(call))
            elif call.sent_at is None and now >= call.again_at:
                self.sent_again += 1
                found += self._send(number, call, now)
        return found + self._listen(now)

    def close(self, error: RequestError) -> list[Instruction]:
        """End everything."""
        found: list[Instruction] = []
        for number, call in tuple(self._calls.items()):
            if call.sent_at is not None:
                found.append(Abort(number))
            found += self._end(number, error)
        return found

    def next_at(self) -> int | None:
        """When `tick` has something to do; None: nothing is under way."""
        if not self._calls:
            return None
        times = [call.again_at for call in self._calls.values() if call.sent_at is None]
        times += [call.deadline for call in self._calls.values() if call.deadline]
        if (since := self._silent_since()) is not None:
            probed = self._probed_at > since
            times.append(since + self._silence if probed else since + self._silence // 2)
        return min(times)

    # -- parts of them --------------------------------------------------------------------------

    def _send(self, number: int, call: _Call, now: int) -> list[Instruction]:
        call.sent_at, call.again_at = now, 0
        return [Send(number, (call.deadline - now) / _S if call.deadline else None)]

    def _later(self, call: _Call, now: int, end: int) -> list[Instruction]:
        call.sent_at = None
        call.again_at = min(now + call.pause, end) if end else now + call.pause
        call.pause = min(2 * call.pause, _LONGEST_PAUSE)
        return []

    def _end(self, number: int, error: RequestError) -> list[Instruction]:
        del self._calls[number]
        return [End(number, error)]

    def _silent_since(self) -> int | None:
        """Since when the server owes a word; None: nothing is under way there."""
        sent = [call.sent_at for call in self._calls.values() if call.sent_at is not None]
        return max(min(sent), self._heard_at) if sent else None

    def _listen(self, now: int) -> list[Instruction]:
        since = self._silent_since()
        if since is None or now < since + self._silence // 2:
            return []
        if now < since + self._silence:
            if self._probed_at > since:
                return []
            self._probed_at = now
            return [Probe(self._silence / 2 / _S)]
        found: list[Instruction] = []
        why = f"the server has said nothing for {self._silence / _S:g} s, and does not answer whether it lives"
        for number, call in tuple(self._calls.items()):
            # What was sent later has its own time.
            if call.sent_at is not None and now >= call.sent_at + self._silence:
                found += [Abort(number), *self.failed(number, Failure(LOST, why), now)]
        return found


def _too_late(call: _Call) -> DeadlineExceeded:
    if call.why:
        return DeadlineExceeded(f"{UNREACHED}{call.why}")
    return DeadlineExceeded("not answered within its deadline")
