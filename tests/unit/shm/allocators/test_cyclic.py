from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from shm.allocators import CyclicAllocator, CyclicLease
from shm.errors import IllegalTransition, PoolExhausted, StackOverflow, StaleHandle
from shm.handle import TensorHandle
from shm.pool import SlotPool
from shm.segment import Segment, SegmentSpec
from shm.segments import attach, create
from shm.view import SegmentTable

SLOTS, SLOT_BYTES = 3, 256


@pytest.fixture
def segment() -> Iterator[Segment]:
    with create("local", SegmentSpec("run", "ring", SLOT_BYTES, SLOTS)) as made:
        yield made


@pytest.fixture
def allocator(segment: Segment) -> CyclicAllocator:
    return CyclicAllocator(SlotPool(segment), SLOT_BYTES)


def test_small_requests_share_a_stack(allocator: CyclicAllocator) -> None:
    leases = [allocator.allocate(10) for _ in range(4)]
    assert [(lease.slot, lease.offset, lease.nbytes) for lease in leases] == [(0, n * 64, 10) for n in range(4)]
    assert allocator.available_stacks == 2


def test_what_does_not_fit_any_more_goes_to_the_next_stack(allocator: CyclicAllocator) -> None:
    first, second = allocator.allocate(200), allocator.allocate(200)
    assert (first.slot, second.slot) == (0, 1)
    assert allocator.available_bytes == SLOT_BYTES


def test_a_stack_comes_back_with_the_last_of_its_allocations(allocator: CyclicAllocator) -> None:
    a, b, c = allocator.allocate(128), allocator.allocate(128), allocator.allocate(10)
    assert (a.slot, b.slot, c.slot) == (0, 0, 1)
    b.release()
    assert allocator.available_stacks == 1
    a.release()
    assert allocator.available_stacks == 2


def test_the_current_stack_comes_back_too_and_its_handles_are_stale(
    segment: Segment, allocator: CyclicAllocator
) -> None:
    table = SegmentTable()
    table.add(attach(segment.address))
    with allocator.allocate(10) as lease:
        handle = TensorHandle(segment.number, lease.slot, lease.generation, lease.offset, "uint8", (lease.nbytes,))
        assert table.view(handle).nbytes == 10
    assert allocator.available_stacks == SLOTS
    again = allocator.allocate(10)
    assert (again.slot, again.offset) == (lease.slot, lease.offset)
    with pytest.raises(StaleHandle):
        table.view(handle)
    table.close()


def test_it_never_blocks_and_what_is_left_of_the_last_stack_still_serves(allocator: CyclicAllocator) -> None:
    leases = [allocator.allocate(190) for _ in range(SLOTS)]
    with pytest.raises(PoolExhausted):
        allocator.allocate(65)
    assert allocator.allocate(64).slot == leases[-1].slot
    with pytest.raises(PoolExhausted):
        allocator.allocate(1)
    leases[0].release()
    assert allocator.allocate(65).slot == leases[0].slot


def test_what_never_fits_is_another_error_than_what_does_not_fit_now(allocator: CyclicAllocator) -> None:
    assert allocator.max_allocation == SLOT_BYTES
    with pytest.raises(StackOverflow, match="257 bytes never fit: a slot holds 256"):
        allocator.allocate(SLOT_BYTES + 1)
    with pytest.raises(ValueError, match="at least 1 byte"):
        allocator.allocate(0)
    assert allocator.available_stacks == SLOTS
    assert allocator.allocate(SLOT_BYTES).nbytes == SLOT_BYTES


def test_releasing_twice_is_a_bug_and_frees_nothing(allocator: CyclicAllocator) -> None:
    kept, lease = allocator.allocate(10), allocator.allocate(10)
    lease.release()
    with pytest.raises(IllegalTransition, match=r"<lease of slot 0@1 \[64:74\]>: released twice"):
        lease.release()
    assert allocator.available_stacks == SLOTS - 1
    kept.release()
    assert allocator.available_stacks == SLOTS


class CyclicAllocatorMachine(RuleBasedStateMachine):
    """The allocator against a list of what is out."""

    def __init__(self) -> None:
        super().__init__()
        self.segment = create("local", SegmentSpec("run", "machine", SLOT_BYTES, SLOTS))
        self.pool = SlotPool(self.segment)
        self.allocator = CyclicAllocator(self.pool, SLOT_BYTES)
        self.leases: list[CyclicLease] = []

    def teardown(self) -> None:
        self.segment.close()
        self.segment.unlink()

    @rule(nbytes=st.integers(1, SLOT_BYTES))
    def allocate(self, nbytes: int) -> None:
        free, available = self.allocator.available_stacks, self.allocator.available_bytes
        try:
            lease = self.allocator.allocate(nbytes)
        except PoolExhausted:
            assert free == 0
            assert available < nbytes
            return
        assert lease.nbytes == nbytes
        self.leases.append(lease)

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        self.leases.pop(data.draw(st.integers(0, len(self.leases) - 1))).release()

    @invariant()
    def leases_lie_inside_their_slots_and_never_overlap(self) -> None:
        taken: dict[int, int] = {}
        for lease in sorted(self.leases, key=lambda lease: (lease.slot, lease.offset, lease.nbytes)):
            assert lease.offset % 64 == 0
            assert lease.offset >= taken.get(lease.slot, 0)
            taken[lease.slot] = lease.offset + lease.nbytes
            assert taken[lease.slot] <= SLOT_BYTES
            assert self.segment.generations[lease.slot] == lease.generation

    @invariant()
    def exactly_the_slots_with_leases_are_out(self) -> None:
        assert self.pool.in_use == len({lease.slot for lease in self.leases})


TestCyclicAllocatorMachine = CyclicAllocatorMachine.TestCase
