from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from shm.errors import HandleOutOfBounds, IllegalTransition, PoolExhausted, StaleHandle
from shm.pool import RING, STACK, TRANSITIONS, SlotPool, SlotState
from shm.segment import Segment, SegmentSpec
from shm.segments import create

ROOT = Path(__file__).parents[3]
SLOTS = 3


@pytest.fixture
def segment():  # type: ignore[no-untyped-def]
    with create("local", SegmentSpec("run", "pool", 64, SLOTS)) as made:
        yield made


@pytest.fixture
def pool(segment: Segment) -> SlotPool:
    return SlotPool(segment)


#: How to bring a slot of a fresh pool into each state.
REACH: dict[SlotState, Callable[[SlotPool, int, int], None]] = {
    SlotState.LOANED: lambda pool, slot, generation: None,
    SlotState.COMMITTED: lambda pool, slot, generation: pool.commit(slot, generation),
    SlotState.BORROWED: lambda pool, slot, generation: (pool.commit(slot, generation), pool.borrow(slot, generation))[0],
}


@pytest.mark.parametrize("verb", ["commit", "borrow", "release", "abandon"])
@pytest.mark.parametrize("state", REACH, ids=lambda state: state.name)
def test_each_verb_does_in_each_state_what_the_table_says(pool: SlotPool, state: SlotState, verb: str) -> None:
    slot, generation = pool.loan()
    REACH[state](pool, slot, generation)
    assert pool.state(slot) is state
    act = getattr(pool, verb)
    if (targets := TRANSITIONS.get((state, verb))) is not None:
        act(slot, generation)
        assert pool.state(slot) in targets
    else:
        with pytest.raises(IllegalTransition, match=rf"{verb} of slot 0 at generation 1: the slot is {state.name} "):
            act(slot, generation)
        assert pool.state(slot) is state


def test_the_drawing_names_every_state_and_every_verb() -> None:
    # Out of the source: a compiled module has no docstring.
    drawing = str(ast.get_docstring(ast.parse((ROOT / "shm/pool.py").read_text())))
    for state, verb in TRANSITIONS:
        assert state.name in drawing
        assert verb in drawing


def test_slots_go_out_in_order_and_the_last_back_is_the_first_out(pool: SlotPool) -> None:
    assert [pool.loan() for _ in range(SLOTS)] == [(0, 1), (1, 1), (2, 1)]
    pool.abandon(0, 1)
    pool.abandon(2, 1)
    assert [pool.loan(), pool.loan()] == [(2, 3), (0, 3)]


def test_a_ring_gives_the_next_free_slot_and_begins_anew_at_its_end() -> None:
    with create("local", SegmentSpec("run", "ring", 64, 5)) as segment:
        pool = SlotPool(segment, RING)
        assert [pool.loan()[0] for _ in range(4)] == [0, 1, 2, 3]
        for slot in (3, 0, 2):
            pool.abandon(slot, 1)
        assert [pool.loan()[0] for _ in range(4)] == [4, 0, 2, 3]
        pool.abandon(3, 3)
        assert pool.loan() == (3, 5)
        with pytest.raises(PoolExhausted, match="all 5 slots are out"):
            pool.loan()


def test_in_a_ring_requests_one_after_the_other_get_neighbours_whatever_order_slots_come_back_in() -> None:
    def runs(order: str) -> int:
        """Of 100 groups of 4 loans: how many were neighbours, where each group comes back in a mixed order."""
        with create("local", SegmentSpec("run", "runs", 64, 16)) as segment:
            pool = SlotPool(segment, order)
            out: list[list[tuple[int, int]]] = []
            found = 0
            for _ in range(100):
                out.append([pool.loan() for _ in range(4)])
                slots = [slot for slot, _ in out[-1]]
                found += slots == list(range(slots[0], slots[0] + 4))
                if len(out) == 3:
                    for number in (2, 0, 3, 1):
                        pool.abandon(*out[0][number])
                    del out[0]
            return found

    assert runs(RING) == 100
    assert runs(STACK) < 50


def test_an_unknown_order_is_refused(segment: Segment) -> None:
    with pytest.raises(ValueError, match="expected the order 'stack' or 'ring', found 'heap'"):
        SlotPool(segment, "heap")


def test_an_exhausted_pool_says_so_and_recovers(pool: SlotPool) -> None:
    for _ in range(SLOTS):
        pool.loan()
    with pytest.raises(PoolExhausted, match=r"pool run\.pool: all 3 slots are out"):
        pool.loan()
    pool.abandon(1, 1)
    assert pool.loan() == (1, 3)


def test_the_slot_comes_back_with_its_last_reader(pool: SlotPool, segment: Segment) -> None:
    slot, generation = pool.loan()
    pool.commit(slot, generation)
    pool.borrow(slot, generation, 2)
    pool.borrow(slot, generation)
    for readers in (2, 1):
        pool.release(slot, generation)
        assert pool.readers(slot) == readers
        assert segment.generations[slot] == generation
    pool.release(slot, generation)
    assert segment.generations[slot] == generation + 1
    assert pool.state(slot) is SlotState.FREE


@pytest.mark.parametrize("readers", [0, -1])
def test_no_readers_cannot_borrow(pool: SlotPool, readers: int) -> None:
    slot, generation = pool.loan()
    pool.commit(slot, generation)
    with pytest.raises(ValueError, match="at least one reader"):
        pool.borrow(slot, generation, readers)
    assert pool.state(slot) is SlotState.COMMITTED


@pytest.mark.parametrize("verb", ["commit", "borrow", "release", "abandon"])
def test_a_verb_of_an_earlier_loan_is_stale(pool: SlotPool, verb: str) -> None:
    slot, generation = pool.loan()
    pool.abandon(slot, generation)
    for _ in range(2):  # while the slot is free, and while another writer has it
        with pytest.raises(StaleHandle, match=f"{verb} of slot 0 at generation 1: the slot is at generation [23]"):
            getattr(pool, verb)(slot, generation)
        if not pool.in_use:
            pool.loan()
    assert pool.state(slot) is SlotState.LOANED


def test_a_generation_that_was_never_given_out_is_a_bug(pool: SlotPool) -> None:
    slot, generation = pool.loan()
    with pytest.raises(IllegalTransition):
        pool.commit(slot, generation + 2)


@pytest.mark.parametrize("slot", [-1, SLOTS, 2**70])
@pytest.mark.parametrize("verb", ["commit", "borrow", "release", "abandon"])
def test_a_slot_that_is_not_there_is_refused(pool: SlotPool, verb: str, slot: int) -> None:
    for _ in range(SLOTS):
        pool.loan()
    with pytest.raises(HandleOutOfBounds, match=r"expected a slot 0\.\.2"):
        getattr(pool, verb)(slot, 1)


def test_an_illegal_verb_tells_the_story_of_that_slot_only(pool: SlotPool) -> None:
    slot, generation = pool.loan()
    pool.commit(slot, generation)
    pool.loan()
    pool.borrow(slot, generation)
    with pytest.raises(IllegalTransition) as refusal:
        pool.commit(slot, generation)
    assert str(refusal.value) == (
        "pool run.pool: commit of slot 0 at generation 1: the slot is BORROWED with 1 readers at generation 1, "
        "which allows: borrow, release; its story: loan@1 commit@1 borrow@1"
    )


def test_the_record_of_events_is_bounded(pool: SlotPool) -> None:
    slot, _ = pool.loan()
    for _ in range(1000):
        pool.abandon(*pool.loan())
    assert pool.story(slot) == []
    assert len(pool.story(1)) == 256


def test_a_pool_that_takes_over_makes_every_earlier_handle_stale(segment: Segment) -> None:
    earlier = SlotPool(segment)
    slot, generation = earlier.loan()
    earlier.commit(*earlier.loan())
    later = SlotPool(segment)
    assert later.free == SLOTS
    assert segment.generations.tolist() == [2, 2, 0]
    with pytest.raises(StaleHandle):
        later.commit(slot, generation)


def test_what_is_free_and_what_is_in_use_is_counted(pool: SlotPool) -> None:
    loans = [pool.loan() for _ in range(3)]
    pool.abandon(*loans[0])
    assert (pool.free, pool.in_use, pool.slots) == (1, 2, 3)


class SlotPoolMachine(RuleBasedStateMachine):
    """The pool against a dictionary: slot -> (state, generation, readers)."""

    order = STACK

    def __init__(self) -> None:
        super().__init__()
        self.segment = create("local", SegmentSpec("run", "machine", 64, SLOTS))
        self.pool = SlotPool(self.segment, self.order)
        self.model = dict.fromkeys(range(SLOTS), (SlotState.FREE, 0, 0))
        #: Free slots in the order in which they came back.
        self.returned = list(reversed(range(SLOTS)))
        self.last = -1

    def expected(self) -> int:
        """The slot that the next loan takes."""
        if self.order == STACK:
            return self.returned[-1]
        return min(self.returned, key=lambda slot: (slot - self.last - 1) % SLOTS)

    def teardown(self) -> None:
        self.segment.close()
        self.segment.unlink()

    def taken(self) -> list[int]:
        return [slot for slot, (state, _, _) in self.model.items() if state is not SlotState.FREE]

    @rule()
    def loan(self) -> None:
        if len(self.taken()) == SLOTS:
            with pytest.raises(PoolExhausted):
                self.pool.loan()
            return
        expected = self.expected()
        slot, generation = self.pool.loan()
        assert slot == expected
        self.last = slot
        self.returned.remove(slot)
        state, before, _ = self.model[slot]
        assert state is SlotState.FREE
        assert generation == before + 1
        self.model[slot] = (SlotState.LOANED, generation, 0)

    @precondition(lambda self: self.taken())
    @rule(
        data=st.data(),
        verb=st.sampled_from(["commit", "commit_to", "borrow", "release", "abandon"]),
        readers=st.integers(1, 3),
    )
    def act(self, data: st.DataObject, verb: str, readers: int) -> None:
        slot = data.draw(st.sampled_from(self.taken()))
        state, generation, now = self.model[slot]
        arguments = (slot, generation, readers) if verb in ("borrow", "commit_to") else (slot, generation)
        method = getattr(self.pool, verb.partition("_")[0])
        if (state, verb.partition("_")[0]) not in TRANSITIONS:
            with pytest.raises(IllegalTransition):
                method(*arguments)
            return
        method(*arguments)
        if verb == "commit":
            self.model[slot] = (SlotState.COMMITTED, generation, 0)
        elif verb == "commit_to":
            self.model[slot] = (SlotState.BORROWED, generation, readers)
        elif verb == "borrow":
            self.model[slot] = (SlotState.BORROWED, generation, now + readers)
        elif verb == "release" and now > 1:
            self.model[slot] = (SlotState.BORROWED, generation, now - 1)
        else:
            self.model[slot] = (SlotState.FREE, generation + 1, 0)
            self.returned.append(slot)

    @rule(slot=st.integers(0, SLOTS - 1), verb=st.sampled_from(["commit", "borrow", "release", "abandon"]), age=st.integers(1, 9))
    def act_late(self, slot: int, verb: str, age: int) -> None:
        with pytest.raises(StaleHandle):
            getattr(self.pool, verb)(slot, self.model[slot][1] - age)

    @invariant()
    def pool_and_table_agree_with_the_model(self) -> None:
        for slot, (state, generation, readers) in self.model.items():
            assert self.pool.state(slot) is state
            assert self.pool.readers(slot) == readers
            assert self.segment.generations[slot] == generation
            assert generation % 2 == (state is not SlotState.FREE)
        assert self.pool.in_use == len(self.taken())
        assert self.pool.free == SLOTS - len(self.taken())


class RingMachine(SlotPoolMachine):
    order = RING


TestSlotPoolMachine = SlotPoolMachine.TestCase
TestRingMachine = RingMachine.TestCase
