"""Result: the outputs of one request, as arrays over the pipeline's slots.

Small outputs, text and elements of bytes are copied out of their slots, so that a label and a score hold no memory of
the pipeline. The others are views, unless there is a reason to copy them too (see `pipeline.client.copies`);
`copied_bytes` counts all of it. A slot comes back when the last array on it is gone: see `pipeline.client.leases`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Any, Final

import numpy as np

from pipeline.client.copies import SMALL
from pipeline.client.leases import Lease, Leases
from pipeline.client.outputs import Outputs, held
from pipeline.errors import ClientMisuse, OutputMissing
from pipeline.wire.messages import SlotRef
from shm.handle import BYTES, TensorHandle
from shm.view import SegmentTable

__all__ = ["COPIED_BYTES", "Result"]

COPIED_BYTES: Final = 512
"""Outputs of up to this many bytes are copied: that takes less time than to make a view that holds its slot."""


class Result(Mapping[str, Any]):
    """The outputs of one request, by name: read-only arrays, or the value of a "json" output. An output of dtype
    "bytes" is an array of objects, each of them a `bytes`.

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
        stages: Callable[[], Mapping[str, Mapping[str, float]]],
        copied: int = COPIED_BYTES,
        part: int | None = None,
        reason: str | None = None,
    ) -> None:
        """
        Args:
            names: of the outputs, in the order of `handles`.
            leases: those of the slots that `handles` name.
            stages: gives the property of that name; called once, if that is asked for.
            copied: outputs of up to this many bytes are copied.
            part: its number, if it is one part of an answer.
            reason: why all outputs are copied; None: they are not.
        """
        made = Outputs(names, handles, leases, table, borrowed, copied, reason)
        self._names = names
        self._values = made.values
        self._views = made.views
        #: Set while arrays of this result are in slots: a dead scheduler's memory is not freed while this holds it.
        self._table = table if made.views else None
        self._borrowed = borrowed
        self._leases = made.leases
        self._released = False
        #: Bytes that were copied out of slots, and why the larger outputs were; None: those are views.
        self.copied_bytes = made.small + made.large
        self.copied_since = reason
        self._stages = stages
        #: Of one part of an answer its number from 0, or the child's, if each child is answered by itself. None: it is
        #: the whole answer.
        self.part = part
        borrowed.copies.add(SMALL, made.small)
        if reason is not None:
            borrowed.copies.add(reason, made.large)

    @classmethod
    def of_batch(
        cls,
        names: tuple[str, ...],
        values: dict[str, Any],
        stages: Mapping[str, Mapping[str, float]],
        copied_bytes: int,
    ) -> Result:
        """The answers to the requests of a batch, as one; it holds no slot.

        Args:
            names: of all outputs.
            values: as `batches.stacked` makes them.
        """
        result = cls(names, (), {}, SegmentTable(), Leases(0), lambda: stages)
        result._values = values
        result.copied_bytes = copied_bytes
        return result

    @cached_property
    def stages(self) -> Mapping[str, Mapping[str, float]]:
        """For each stage that ran: queue_ms (the longest), compute_ms (of all runs), batch (the largest),
        copied_bytes, runs (more than one behind a stage that fans out)."""
        return self._stages()

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
            return (
                f"output {name!r}: the stage that makes it was skipped for this request (`when:`), or it answers in "
                f"parts, and has given none"
            )
        return f"output {name!r}: expected one of {', '.join(self._names)}"

    def __reduce__(self) -> Any:
        raise ClientMisuse(
            "a result can be neither pickled nor copied as a whole, since its arrays lie in the pipeline's slots: send "
            "or keep copies of them, result[NAME].copy()"
        )

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
                values[name] = held(table, handle, lease)
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
        return f"{BYTES if value.dtype.hasobject else value.dtype}{list(value.shape)}"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
