"""Host allocators over the slots of a segment, for tensors that are many and smaller than a slot.

tensorrt-laboratory's pair (its MemoryStack and CyclicAllocator), with errors and generations in the
place of aborts and blocking.
"""

from __future__ import annotations

from shm.allocators.cyclic import CyclicAllocator, CyclicLease
from shm.allocators.stack import BoundedStack

__all__ = ["BoundedStack", "CyclicAllocator", "CyclicLease"]
