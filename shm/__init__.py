"""Bytes between processes: shared-memory segments, their slots, and handles that name tensors in them.

Knows no model, no socket and no YAML; imports nothing from the packages above it.
"""

from __future__ import annotations

from shm.handle import TensorHandle
from shm.pool import SlotPool
from shm.segment import Segment, SegmentAddress, SegmentSpec
from shm.view import SegmentTable, side_by_side

__all__ = ["Segment", "SegmentAddress", "SegmentSpec", "SegmentTable", "SlotPool", "TensorHandle", "side_by_side"]
