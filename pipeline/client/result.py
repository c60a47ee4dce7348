"""Result: the outputs of one request, as arrays over the pipeline's slots.

Small outputs and text are copied out of their slots, so that a label and a score hold no memory of the pipeline;
`copied_bytes` counts that. The others are views. A slot comes back when the last array on it is gone: see
`pipeline.client.leases`.
"""

from __future__ import annotations

import json
import weakref
from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipeline.client.leases import Lease, Leases
from pipeline.errors import ClientMisuse, OutputMissing
from pipeline.wire.messages import SlotRef
from shm.handle import JSON, TensorHandle
from shm.view import SegmentTable

__all__ = ["COPIED_BYTES", "Result"]

Array = NDArray[Any]

COPIED_BYTES: Final = 512
"""Outputs of up to this many bytes are copied: that takes less time than to make a view that holds its slot."""


class _Held:
    """The base of an array over a slot, so that the lease lives as long as the array."""

    __slots__ = ("__array_interface__", "_lease", "_view")

    def __init__(self, view: Array, lease: Lease) -> None:
        self.__array_interface__ = view.__array_interface__
        self._view = view
        self._lease = lease


class Result(Mapping[str, Any]):
    """The outputs of one request, by name: read-only arrays, or the value of a "json" output.

    An output whose stage was skipped (`when:`) is not among them. Also a context manager: at its end the result lets
    go of its arrays. Those that the application has kept stay as they are, and so does their slot.
    """

    def __init__(
        self,
        names: tuple[str, ...],
        handles: tuple[TensorHandle | int, ...],
        leases: Mapping[SlotRef, Lease],
        table: SegmentTable,
        borrowed: Leases,
        stages: Mapping[str, Mapping[str, float]],
        copied: int = COPIED_BYTES,
        part: int | None = None,
    ) -> None:
        """
        Args:
            names: of the outputs, in the order of `handles`.
            leases: those of the slots that `handles` name.
            copied: outputs of up to this many bytes are copied.
            part: its number, if it is one part of an answer.
        """
        self._names = names
        self._values: dict[str, Any] = {}
        self._views: dict[str, TensorHandle] = {}
        #: Set while arrays of this result are in slots: a dead scheduler's memory is not freed while this holds it.
        self._table: SegmentTable | None = None
        self._borrowed = borrowed
        self._leases: dict[SlotRef, weakref.ref[Lease]] = {}
        self._released = False
        #: Bytes that were copied out of slots.
        self.copied_bytes = 0
        #: For each stage that ran: queue_ms (the longest), compute_ms (of all runs), batch (the largest),
        #: copied_bytes, runs (more than one behind a stage that fans out).
        self.stages = stages
        #: Of one part of an answer its number from 0, or the child's, if each child is answered by itself. None: it is
        #: the whole answer.
        self.part = part
        for name, handle in zip(names, handles):
            if isinstance(handle, int):
                continue
            if handle.dtype == JSON:
                self._values[name] = json.loads(table.view(handle).tobytes())
                self.copied_bytes += handle.nbytes
            elif handle.nbytes <= copied:
                # Not `copy`, which gives an array of no dimensions as a number.
                copy = np.array(table.view(handle))
                copy.flags.writeable = False
                self._values[name] = copy
                self.copied_bytes += handle.nbytes
            else:
                lease = leases[SlotRef(*handle[:3])]
                self._leases[lease.slot] = weakref.ref(lease)
                self._views[name] = handle
                self._values[name] = np.asarray(_Held(table.view(handle), lease))
                self._table = table

    def __getitem__(self, name: str) -> Any:
        try:
            return self._values[name]
        except KeyError:
            raise OutputMissing(self._why_missing(name)) from None

    def _why_missing(self, name: str) -> str:
        if self._released and name in self._names:
            return (
                f"output {name!r}: this result was released, at the end of its `with` block or by release(); "
                f"read it before, and keep the array that it gives: that stays valid"
            )
        if name in self._names:
            return f"output {name!r}: the stage that makes it was skipped for this request (`when:`)"
        return f"output {name!r}: expected one of {', '.join(self._names)}"

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def release(self) -> None:
        """Let go of the arrays, so that their slots come back now. A second call does nothing.

        Raises:
            ClientMisuse: the application still has arrays of this result, or slices of them. Those stay as they are,
                the result keeps them, and their slots come back when the last of them is gone.
        """
        values = {name: value for name, value in self._values.items() if name not in self._views}
        table = self._table
        self._let_go()
        living = {slot: lease for slot, reference in self._leases.items() if (lease := reference()) is not None}
        if not living or table is None:
            return
        for name, handle in self._views.items():
            if (lease := living.get(SlotRef(*handle[:3]))) is not None:
                values[name] = np.asarray(_Held(table.view(handle), lease))
        self._values, self._table = values, table
        self._released = False
        names = ", ".join(name for name in self._names if name in values and name in self._views)
        raise ClientMisuse(
            f"not released: arrays of {names}, or slices of them, are still in use. Drop them first, or copy what you "
            f"keep; a slot comes back by itself when the last array on it is gone"
        )

    def _let_go(self) -> None:
        borrowed = self._borrowed
        # Several slots share one message.
        borrowed.held = True
        try:
            self._values = {}
        finally:
            borrowed.held = False
        borrowed.settle_idle()
        self._table = None
        self._released = True

    def __enter__(self) -> Result:
        return self

    def __exit__(self, *_: object) -> None:
        self._let_go()

    def __repr__(self) -> str:
        if self._released:
            return "<Result, released>"
        return f"<Result {', '.join(f'{name}: {_describe(value)}' for name, value in self._values.items())}>"


def _describe(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype}{list(value.shape)}"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
