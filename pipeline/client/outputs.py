"""Outputs: what an answer's handles become: views of its slots that hold their leases, or copies.

`pipeline.client.result` has what an application sees of them.
"""

from __future__ import annotations

import json
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.client.leases import Lease, Leases
from pipeline.errors import InvalidRequest
from pipeline.wire.messages import SlotRef
from shm.elements import Elements
from shm.errors import MalformedElements
from shm.handle import BFLOAT16, ENCODED, JSON, TensorHandle, nbytes_of
from shm.view import SegmentTable

__all__ = ["Outputs", "decoded_output", "held"]

Array = NDArray[Any]


class _Held:
    """In the base of an array over a slot, so that the lease lives as long as the array."""

    __slots__ = ("__array_struct__", "_lease", "_view")

    def __init__(self, view: Array, lease: Lease) -> None:
        # The same as `__array_interface__`, made without Python: 1 us in place of 6.
        self.__array_struct__ = view.__array_struct__
        self._view = view
        self._lease = lease


def held(table: SegmentTable, handle: TensorHandle, lease: Lease) -> Array:
    """The array of a handle, which keeps its lease."""
    view = table.view(handle)
    array = np.asarray(_Held(view, lease))
    # numpy's interfaces have no name for bfloat16.
    return array.view(view.dtype) if handle.dtype == BFLOAT16 else array


def decoded_output(name: str, handle: TensorHandle, table: SegmentTable) -> Any:
    """The value of an output of dtype "json", or the elements of one of dtype "bytes".

    Raises:
        InvalidRequest: it is no such encoding, and no stage has read it. It is an input that was passed on, and the
            application has written something else into its draft.
        HandleRefused: the slot is not what the handle says.
    """
    raw = table.view(handle)
    try:
        return json.loads(raw.tobytes()) if handle.dtype == JSON else Elements(raw, handle.shape[:-1]).decode()
    except (ValueError, RecursionError, MalformedElements) as error:
        raise InvalidRequest(
            f"output {name!r}: expected {handle.dtype}, and no stage has looked at it: {error}; check what "
            f"was written into the draft, or by a stage into `batch.out`"
        ) from None


class Outputs:
    """The outputs of an answer.

    Args:
        names: of the outputs, in the order of `handles`.
        handles: those of the answer; an int: the stage that makes it was skipped.
        leases: those of the slots that `handles` name.
        copied: outputs of up to this many bytes are copied.
        reason: why all outputs are copied; None: they are not.

    Raises:
        InvalidRequest, HandleRefused: see `decoded_output`.
    """

    def __init__(
        self,
        names: Sequence[str],
        handles: Sequence[TensorHandle | int],
        leases: Mapping[SlotRef, Lease],
        table: SegmentTable,
        borrowed: Leases,
        copied: int,
        reason: str | None,
    ) -> None:
        self.values: dict[str, Any] = {}
        #: Those of them that are arrays over slots, and the leases of these.
        self.views: dict[str, TensorHandle] = {}
        self.leases: dict[SlotRef, weakref.ref[Lease]] = {}
        #: Bytes that were copied since there are few of them, and for the other reason.
        self.small = 0
        self.large = 0
        for name, handle in zip(names, handles):
            if isinstance(handle, int):
                continue
            nbytes = nbytes_of(handle.dtype, handle.shape)
            if handle.dtype in ENCODED:
                self.values[name] = decoded_output(name, handle, table)
                self.small += nbytes
            elif nbytes <= copied or reason is not None:
                # Not `copy`, which gives an array of no dimensions as a number.
                copy = np.array(table.view(handle))
                copy.setflags(write=False)
                self.values[name] = copy
                if nbytes <= copied:
                    self.small += nbytes
                else:
                    self.large += nbytes
            else:
                lease = leases[SlotRef(handle.segment, handle.slot, handle.generation)]
                borrowed.reads(lease)
                self.leases[lease.slot] = weakref.ref(lease)
                self.views[name] = handle
                self.values[name] = held(table, handle, lease)
