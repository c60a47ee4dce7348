"""The invariants are checked: each fault of the state is found, and named."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pipeline.scheduler.state import State
from pipeline.wire.messages import SlotRef
from tests.unit.pipeline.scheduler.example import Example

Make = Callable[..., Example]


def busy(make: Make) -> Example:
    """One request is ordered, one waits, and a slot is in the client's hand."""
    scheduler = make(credits=1)
    scheduler.submit(1, 2)
    scheduler.decide()
    return scheduler


def test_a_sound_state_is_valid(example: Make) -> None:
    busy(example).scheduler.validate()


def lose_a_credit(state: State) -> None:
    state.workers[0].credits += 1


def forget_an_order(state: State) -> None:
    state.workers[1].close(1, 0)


def forget_a_waiting_request(state: State) -> None:
    state.backlogs[0].pop()


def forget_the_workers_of_a_stage(state: State) -> None:
    state.stage_workers[0].clear()


def lose_a_slot(state: State) -> None:
    state.pools[2].loan()


def forget_a_grant(state: State) -> None:
    state.ingress.clients[1].granted.clear()


def hold_a_foreign_slot(state: State) -> None:
    state.ingress.clients[1].borrowed.add(SlotRef(103, 3, 1))


def count_wrongly(state: State) -> None:
    state.ingress.in_hand[100] += 1


def wait_for_no_order(state: State) -> None:
    state.requests[1].fences.add((2, 1, 7))


def keep_for_no_fence(state: State) -> None:
    request = state.requests[1]
    assert request.ingress is not None
    request.fenced_slots.append(request.ingress)


def answer_and_remember(state: State) -> None:
    state.requests[2].answered = True


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (lose_a_credit, "worker 0 has 1 credits and orders of 1 rows, of 1"),
        (forget_an_order, "waits for b of worker 1, which has no order of it"),
        (forget_a_waiting_request, "1 requests wait for a, 0 are in its backlog"),
        (forget_the_workers_of_a_stage, "worker 0 is no worker of stage 0"),
        (lose_a_slot, "2 slots of segment 102 are out, 1 are held"),
        (forget_a_grant, "3 slots of segment 100 are out, 2 are held"),
        (hold_a_foreign_slot, "1 slots of segment 103 are out, 2 are held"),
        (count_wrongly, "clients have 1 slots of segment 100 in hand, 2 are counted"),
        (wait_for_no_order, "waits for worker 2 to give up 1, attempt 7, which it has not"),
        (keep_for_no_fence, "keeps slots back for no fence"),
        (answer_and_remember, "is over and still known"),
    ],
)
def test_a_fault_is_found_and_told_with_the_stories_of_what_is_inside(
    example: Make, fault: Callable[[State], None], said: str
) -> None:
    scheduler = busy(example)
    fault(scheduler.scheduler._state)
    with pytest.raises(AssertionError) as raised:
        scheduler.scheduler.validate()
    assert said in str(raised.value)
    assert "00001-1:\n      0.0 ms  came" in str(raised.value)
