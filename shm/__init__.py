"""Bytes between processes: shared-memory segments, their slots, and handles that name tensors in them.

Knows no model, no socket and no YAML; imports nothing from the packages above it. Only processes that look at tensors
load numpy, which takes longer than all else that the scheduler and the supervisor import.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shm.handle import TensorHandle
from shm.pool import SlotPool
from shm.segment import Segment, SegmentAddress, SegmentSpec

if TYPE_CHECKING:
    from shm.view import SegmentTable, side_by_side

__all__ = ["Segment", "SegmentAddress", "SegmentSpec", "SegmentTable", "SlotPool", "TensorHandle", "side_by_side"]


def __getattr__(name: str) -> Any:
    if name in ("SegmentTable", "side_by_side"):
        from shm import view

        return getattr(view, name)
    raise AttributeError(f"module 'shm' has no attribute {name!r}")
