from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pipeline.wire.messages import Hop, Order
from pipeline.worker.candidates import NEVER, Candidates, Place, Waiting

MOST = 4

NOWHERE = Hop(0, 0, 0, 0, 0, False, (), ())


def place(order: Order) -> Place:
    """Orders are named after their slot."""
    return Place((order.request,), (order.request + 1,))


def peers_of(slots: list[int], *, deadlines: dict[int, int] | None = None) -> Candidates:
    candidates = Candidates(place)
    for number, slot in enumerate(slots):
        candidates.add(number, Waiting(Order(slot, 0, (deadlines or {}).get(slot, 0), 0, NOWHERE, b"", ""), 0))
    return candidates


def slots_of(rows: list[Waiting]) -> list[int]:
    return [row.order.request for row in rows]


def run_of(slot: int, among: list[int]) -> list[int]:
    """The orders that lie side by side with a slot: those behind it, then those before it; by searching."""
    run = [slot]
    while len(run) < MOST and run[-1] + 1 in among:
        run.append(run[-1] + 1)
    before = slot - 1
    while len(run) < MOST and before in among:
        run.append(before)
        before -= 1
    return run


slots = st.lists(st.integers(0, 24), unique=True, min_size=1, max_size=20)


@given(slots)
def test_a_batch_is_the_oldest_its_neighbours_and_the_next_oldest(left: list[int]) -> None:
    candidates = peers_of(left)
    while left:
        wanted = left[:MOST]
        if len(left) > MOST:
            wanted = run_of(left[0], left)
            wanted += [slot for slot in left if slot not in wanted][: MOST - len(wanted)]
        assert slots_of(candidates.take(MOST)) == wanted
        left = [slot for slot in left if slot not in wanted]
        assert len(candidates) == len(left)


@given(slots)
def test_runs_are_all_of_them_in_rows_that_lie_side_by_side(left: list[int]) -> None:
    candidates = peers_of(left)
    runs = candidates.runs(MOST)
    found = [slots_of(run.take(MOST)) for run in runs]
    for run in found:
        assert run == run_of(run[0], [slot for slot in left if slot in run])
        assert sorted(run) == list(range(min(run), max(run) + 1))
        assert run[0] == next(slot for slot in left if slot in run)
    assert sorted(slot for run in found for slot in run) == sorted(left)
    assert not candidates


def test_if_the_stage_does_not_care_for_places_it_is_first_come_first_served() -> None:
    candidates = Candidates(None)
    for number in range(6):
        candidates.add(number, Waiting(Order(number, 0, 0, 0, NOWHERE, b"", ""), 0))
    assert [slots_of(candidates.take(MOST)), slots_of(candidates.take(MOST))] == [[0, 1, 2, 3], [4, 5]]


def test_one_is_urgent_halfway_to_its_deadline_and_none_any_more_once_it_has_gone() -> None:
    candidates = peers_of([1, 5, 9], deadlines={5: 100, 9: 300})
    assert [candidates.is_urgent(now) for now in (49, 50)] == [False, True]
    candidates.remove([1])
    assert [candidates.is_urgent(now) for now in (50, 149, 150)] == [False, False, True]
    candidates.remove([2])
    assert not candidates.is_urgent(NEVER - 1)
    assert candidates.hurry_at == NEVER


def test_of_two_in_one_place_both_are_taken() -> None:
    candidates = Candidates(lambda order: Place((0,), (1,)))
    for number in range(6):
        candidates.add(number, Waiting(Order(number, 0, 0, 0, NOWHERE, b"", ""), 0))
    taken = [*slots_of(candidates.take(MOST)), *slots_of(candidates.take(MOST))]
    assert sorted(taken) == list(range(6))
