"""What a client may fill, keeps for its next request, and gives back."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.client.draft import Draft
from pipeline.client.slots import Slots
from pipeline.errors import InvalidRequest
from pipeline.wire.messages import SlotRef

SMALL, LARGE = 1, 2


class Owner:
    def may_be_called(self) -> bool:
        return False


def slots() -> Slots:
    return Slots([(64, SMALL, 16), (1024, LARGE, 1)])


def draft_of(slot: SlotRef) -> Draft:
    owner: Any = Owner()
    return Draft(owner, slot, (), {})


def test_the_smallest_slot_that_holds_the_inputs_is_taken() -> None:
    assert [slots().segment_for(nbytes) for nbytes in (0, 64, 65, 1024)] == [SMALL, SMALL, LARGE, LARGE]
    with pytest.raises(InvalidRequest, match="the inputs take 1025 bytes; the largest slot has 1024"):
        slots().segment_for(1025)


def test_a_grant_can_be_used_once_its_message_was_taken_in_to_the_end() -> None:
    mine = slots()
    slot = SlotRef(SMALL, 0, 1)
    mine.add([slot], 5)
    assert mine.free(SMALL, seen=4) is None
    grant = mine.free(SMALL, seen=5)
    assert grant is not None
    assert grant.slot == slot
    # The same message once more, after an interruption: still one slot.
    mine.add([slot], 5)
    assert mine.unused(SMALL) == [slot]


def test_a_slot_is_free_again_when_its_draft_is_dropped() -> None:
    mine = slots()
    mine.add([SlotRef(SMALL, 0, 1)], 1)
    grant = mine.free(SMALL, 1)
    assert grant is not None
    grant.draft = draft = draft_of(grant.slot)
    assert mine.free(SMALL, 1) is None
    assert mine.drafts() == [draft]
    del draft
    assert mine.free(SMALL, 1) is grant


def test_one_slot_that_came_with_the_last_answer_is_kept_and_no_other() -> None:
    mine = slots()
    first, second, large = SlotRef(SMALL, 0, 1), SlotRef(SMALL, 1, 1), SlotRef(LARGE, 0, 1)
    mine.add([first], 3)
    assert mine.surplus(3) == []
    assert mine.surplus(4) == [first]
    mine.add([second], 4)
    assert mine.surplus(4) == [first, second]
    mine.give_back([first, second])
    assert list(mine.returned) == [first, second]
    assert mine.surplus(4) == []
    # Of few slots none is kept.
    mine.add([large], 5)
    assert mine.surplus(5) == [large]
    mine.unsettled[SMALL] = 0
    assert mine.surplus(5) == []


def test_an_ask_in_vain_is_not_repeated_at_once_unless_less_is_under_way() -> None:
    mine = slots()
    now = 1_000_000_000
    assert not mine.looks_full(SMALL, 3, now)
    mine.was_full(SMALL, 3, now)
    assert mine.looks_full(SMALL, 3, now + 19_000_000)
    assert not mine.looks_full(SMALL, 3, now + 20_000_000)
    assert not mine.looks_full(SMALL, 2, now)
    assert not mine.looks_full(LARGE, 3, now)


def test_a_request_of_several_rows_takes_a_slot_of_its_own_kind_however_small_it_is() -> None:
    assert slots().segment_for(8, rows=2) == LARGE
    assert slots().segment_for(8, rows=1) == SMALL
