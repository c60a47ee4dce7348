"""Future and Result: what a client gets for a request.

A result's arrays are views into the pipeline's slots. The slot comes back when the last of them is
gone, or at `release`, whichever is first; a client that keeps results keeps slots.
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import RequestError, request_error
from pipeline.wire.labels import request_id
from pipeline.wire.messages import OK, Answer, SlotRef
from shm.handle import JSON, TensorHandle
from shm.view import SegmentTable

__all__ = ["Future", "Lease", "Result"]

Array = NDArray[Any]


class Lease:
    """One borrowed slot; says that it is free when nobody refers to it any more."""

    __slots__ = ("_ref", "_returns")

    def __init__(self, ref: SlotRef, returns: deque[SlotRef]) -> None:
        self._ref: SlotRef | None = ref
        self._returns = returns

    def release(self) -> None:
        """Give the slot back now. Again: nothing."""
        if self._ref is not None:
            # A deque's append is atomic: this may run in whatever thread drops the last view.
            self._returns.append(self._ref)
            self._ref = None

    def __del__(self) -> None:
        self.release()


class _Held:
    """What an array over a slot has as its base, so that the lease lives as long as the array."""

    __slots__ = ("__array_interface__", "_lease", "_view")

    def __init__(self, view: Array, lease: Lease) -> None:
        self.__array_interface__ = view.__array_interface__
        self._view = view
        self._lease = lease


class Result(Mapping[str, Any]):
    """The outputs of one request, by name: arrays, or the value of a "json" output.

    An output whose stage was skipped (`when:`) is not among them. Also a context manager, which releases at its end.
    """

    def __init__(
        self,
        names: tuple[str, ...],
        handles: tuple[TensorHandle | int, ...],
        leases: Mapping[SlotRef, Lease],
        view: Callable[[TensorHandle], Array],
        stages: Mapping[str, Mapping[str, float]],
    ) -> None:
        self._values: dict[str, Any] = {}
        self._leases = leases
        #: For each stage that ran: queue_ms (the longest), compute_ms (of all runs), batch (the largest),
        #: copied_bytes, runs (more than one behind a stage that fans out).
        self.stages = stages
        read = set()
        for name, handle in zip(names, handles):
            if isinstance(handle, int):
                continue
            array = view(handle)
            if handle.dtype == JSON:
                self._values[name] = json.loads(array.tobytes())
            else:
                ref = SlotRef(*handle[:3])
                read.add(ref)
                self._values[name] = np.asarray(_Held(array, leases[ref]))
        for ref, lease in leases.items():
            if ref not in read:
                # All of it has been copied out of the slot.
                lease.release()

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def release(self) -> None:
        """Give the slots back now. Arrays of this result must not be used any more."""
        self._values.clear()
        for lease in self._leases.values():
            lease.release()

    def __enter__(self) -> Result:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


class Future:
    """A request on its way. Made by `Client.submit`; belongs to the client's thread."""

    __slots__ = (
        "_client", "_error", "_make", "_pump", "_result", "answer", "answered_ns", "leases", "submitted_ns", "table",
        "tag",
    )  # fmt: skip

    def __init__(
        self,
        tag: int,
        pump: Callable[[float], int],
        make: Callable[[Future], Result],
        table: SegmentTable,
        now: int,
        client: int = 0,
    ) -> None:
        self.tag = tag
        self._client = client
        #: What its handles refer to, also after the client has connected to other segments.
        self.table = table
        self._pump = pump
        self._make = make
        self._result: Result | None = None
        self._error: RequestError | None = None
        #: The answer as it came; None before.
        self.answer: Answer | None = None
        self.leases: dict[SlotRef, Lease] = {}
        #: Monotonic nanoseconds of the submission and of the answer (0: not yet).
        self.submitted_ns = now
        self.answered_ns = 0

    @property
    def request(self) -> str:
        """The id of the request, by which logs and errors call it, also while it is under way."""
        return request_id(self._client, self.tag)

    def done(self) -> bool:
        """Whether the answer, or the failure, is here."""
        return self.answered_ns != 0

    def fail(self, error: RequestError, now: int) -> None:
        """End without an answer. Called by the client."""
        self._error = error
        self.answered_ns = now

    def error(self) -> RequestError | None:
        """Why it failed; None where it did not, or is not done."""
        if self._error is None and self.answer is not None and self.answer.code != OK:
            answer = self.answer
            self._error = request_error(answer.code, answer.message, answer.traceback, self.request)
        return self._error

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until it is done, at most `timeout_s` seconds; whether it is."""
        if timeout_s is None:
            while not self.answered_ns:
                self._pump(3600.0)
            return True
        end = time.monotonic() + timeout_s
        while not self.answered_ns and (left := end - time.monotonic()) > 0:
            self._pump(left)
        return self.answered_ns != 0

    def get(self, timeout_s: float | None = None) -> Result:
        """The result.

        Raises:
            TimeoutError: it is not done within `timeout_s` seconds; it goes on.
            RequestError: the request has no answer (see `pipeline.errors`).
        """
        if not self.wait(timeout_s):
            raise TimeoutError(f"request {self.tag} is not answered after {timeout_s} s")
        if (error := self.error()) is not None:
            raise error
        if self._result is None:
            self._result = self._make(self)
        return self._result
