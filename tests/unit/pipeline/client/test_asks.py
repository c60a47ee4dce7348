"""How a session comes to a slot, and keeps none that others could use."""

from __future__ import annotations

import pytest

from pipeline.client.leases import Lease
from pipeline.errors import Overloaded
from pipeline.wire.messages import Loan, Submit
from tests.unit.pipeline.client.talk import ME, SECOND, SMALL, Talk, ok, slot, submission


@pytest.fixture
def talk() -> Talk:
    """A client that is let in."""
    talk = Talk()
    talk.attach()
    talk.join()
    return talk


def test_an_ask_waits_for_its_grant_behind_what_was_kept_back(talk: Talk) -> None:
    kept = talk.submit(slot(0), flush=False)
    ask = talk.ask()
    assert talk.said() == [Submit(ME, 1, (submission(1, slot(0)),), ()), Loan(ME, SMALL, 2, True)]
    talk.answered(ok(1))
    assert kept.done()
    assert not ask.done
    talk.answered(grants=(slot(3),))
    grant = ask.take()
    assert grant is not None
    assert grant.slot == slot(3)
    # It stays the caller's, which may make a draft of it, for as long as the ask lives.
    assert talk.session.grant(SMALL) is None
    del ask
    assert talk.session.grant(SMALL) is grant
    assert talk.session.slots.unsettled == {}


def test_an_ask_that_is_late_has_the_scheduler_s_last_word(talk: Talk) -> None:
    ask = talk.ask(0.2)
    assert talk.said() == [Loan(ME, SMALL, 1, True)]
    # First it is seen whether slots are short.
    assert talk.session.next_at == talk.now + SECOND // 500
    talk.after(0.002)
    assert talk.said() == []
    assert talk.session.next_at == talk.now + round(0.198 * SECOND)
    talk.after(0.198)
    assert talk.said() == [Loan(ME, SMALL, 2, False)]
    talk.answered(settled=1)
    assert not ask.done
    talk.answered(settled=2)
    assert ask.done
    assert ask.take() is None
    assert talk.session.slots.unsettled == {}


def test_a_grant_that_comes_with_the_last_word_is_taken(talk: Talk) -> None:
    ask = talk.ask(0.0)
    talk.after(0.0)
    talk.said()
    talk.answered(grants=(slot(4),), settled=2)
    grant = ask.take()
    assert grant is not None
    assert grant.slot == slot(4)


def test_a_scheduler_that_gives_no_last_word_is_waited_for_a_second_and_its_grants_go_back(talk: Talk) -> None:
    ask = talk.ask(0.0)
    talk.after(0.0)
    talk.after(0.9)
    assert not ask.done
    talk.after(0.1)
    assert ask.done
    talk.said()
    # What was asked may still be answered.
    talk.answered(grants=(slot(0), slot(1)))
    assert talk.said() == []
    talk.answered(settled=2)
    assert talk.said() == [Submit(ME, 2, (), (slot(0), slot(1)))]


def test_a_client_that_holds_the_slots_itself_is_told_so_and_keeps_none_of_what_comes(talk: Talk) -> None:
    draft = talk.draft(slot(0))
    ask = talk.ask()
    talk.after(5.0)
    assert not ask.settles_at
    talk.said()
    talk.after(0.1)
    assert talk.said() == [Loan(ME, SMALL, 3, False)]
    talk.answered(grants=(slot(1),), settled=3)
    with pytest.raises(Overloaded, match="this client keeps 0 slots of earlier results and 1 drafts or loans"):
        ask.take()
    assert talk.said() == [Submit(ME, 2, (), (slot(1),))]
    assert draft.open


def test_a_client_that_holds_nothing_waits_on_for_what_others_hold(talk: Talk) -> None:
    ask = talk.ask()
    talk.said()
    for _ in range(20):
        talk.after(1.0)
        assert not any(isinstance(message, Loan) for message in talk.said())
    talk.answered(grants=(slot(0),))
    assert ask.take() is not None


def test_a_client_with_a_request_under_way_waits_on(talk: Talk) -> None:
    draft, pending = talk.draft(slot(1)), talk.submit(slot(0))
    ask = talk.ask()
    for _ in range(20):
        talk.after(1.0)
        assert talk.session.next_at is not None
        assert talk.session.next_at > talk.now
    assert not ask.settles_at
    assert not pending.done()
    assert draft.open


def test_an_ask_for_a_slot_that_is_free_now_is_over_when_it_is_settled(talk: Talk) -> None:
    ask = talk.session.ask_now(SMALL, talk.now)
    assert ask is not None
    assert talk.said() == [Loan(ME, SMALL, 1, False)]
    talk.answered(settled=1)
    assert ask.done
    assert ask.take() is None
    ask = talk.session.ask_now(SMALL, talk.now)
    assert ask is not None
    talk.answered(grants=(slot(0),), settled=2)
    grant = ask.take()
    assert grant is not None
    assert grant.slot == slot(0)


def test_an_ask_for_a_slot_that_is_free_now_tells_first_which_slots_were_read(talk: Talk) -> None:
    talk.submit(slot(1), flush=False)
    talk.session.there.arm(Lease(slot(7), talk.session.there))
    ask = talk.session.ask_now(SMALL, talk.now)
    assert ask is not None
    assert talk.said() == [Submit(ME, 1, (submission(1, slot(1)),), (slot(7),)), Loan(ME, SMALL, 2, False)]


def test_an_ask_that_is_repeated_tells_first_which_slots_have_come_back_by_then(talk: Talk) -> None:
    futures = [talk.submit(slot(1)), talk.submit(slot(0))]
    talk.said()
    ask = talk.session.ask_now(SMALL, talk.now)
    assert ask is not None
    talk.said()
    talk.session.there.arm(Lease(slot(7), talk.session.there))
    talk.answered(ok(1), settled=3)
    assert talk.said() == [Submit(ME, 3, (), (slot(7),)), Loan(ME, SMALL, 4, False)]
    assert len(futures) == 2


def test_what_is_answered_while_it_is_settled_may_have_made_room(talk: Talk) -> None:
    futures = [talk.submit(slot(1)), talk.submit(slot(0))]
    talk.said()
    ask = talk.session.ask_now(SMALL, talk.now)
    assert ask is not None
    assert talk.said() == [Loan(ME, SMALL, 3, False)]
    talk.answered(ok(1), settled=3)
    assert not ask.done
    assert talk.said() == [Loan(ME, SMALL, 4, False)]
    talk.answered(settled=4)
    assert ask.done
    assert ask.take() is None
    # As much is under way as then: another message would be in vain, for a moment.
    assert talk.session.ask_now(SMALL, talk.now) is None
    assert talk.session.ask_now(SMALL, talk.now + SECOND // 50) is not None
    assert len(futures) == 2


def test_a_caller_that_gives_up_keeps_no_slot_that_comes(talk: Talk) -> None:
    ask = talk.ask()
    talk.said()
    last = talk.session.give_up(SMALL, talk.now)
    assert ask.done
    assert talk.said() == [Loan(ME, SMALL, 2, False)]
    talk.answered(grants=(slot(0),), settled=2)
    assert last.done
    assert last.take() is None
    assert talk.said() == [Submit(ME, 1, (), (slot(0),))]


def test_two_that_wait_for_one_segment_are_served_in_turn(talk: Talk) -> None:
    first, second = talk.ask(), talk.ask()
    assert talk.said() == [Loan(ME, SMALL, 1, True), Loan(ME, SMALL, 2, True)]
    talk.answered(grants=(slot(0),))
    assert (first.done, second.done) == (True, False)
    # The scheduler knows of one wait for each segment, and has served it.
    assert talk.said() == [Loan(ME, SMALL, 3, True)]
    # A caller that gives up ends the wait of the other one too, as far as the scheduler knows.
    third = talk.ask()
    talk.said()
    talk.session.give_up(SMALL, talk.now, third)
    assert talk.said() == [Loan(ME, SMALL, 5, False)]
    talk.answered(settled=5)
    assert talk.said() == [Loan(ME, SMALL, 6, True)]
    talk.answered(grants=(slot(1),))
    assert second.done
    assert not third.grant


def test_nothing_is_given_back_while_a_caller_is_about_to_use_what_it_was_granted(talk: Talk) -> None:
    ask = talk.ask()
    talk.said()
    talk.answered(grants=(slot(0),))
    talk.answered(grants=(slot(1), slot(2)))
    assert ask.grant is not None
    assert talk.said() == []
    del ask
    talk.answered()
    assert talk.said() == [Submit(ME, 3, (), (slot(0), slot(1), slot(2)))]


def test_an_idle_client_keeps_one_slot_for_its_next_request_and_gives_the_others_back(talk: Talk) -> None:
    pending = talk.submit(slot(2))
    talk.said()
    talk.answered(grants=(slot(0),))
    assert talk.said() == []
    talk.answered(ok(1), grants=(slot(3),))
    assert talk.said() == [Submit(ME, 3, (), (slot(0), slot(3)))]
    talk.session.flush()
    assert talk.said() == []
    pending = talk.submit(slot(2))
    talk.said()
    talk.answered(ok(2), grants=(slot(4),))
    assert talk.said() == []
    assert talk.session.grant(SMALL) is not None
    assert pending.done()


def test_the_grant_that_comes_for_a_caller_that_gave_up_goes_to_one_that_waits(talk: Talk) -> None:
    first = talk.ask()
    talk.session.give_up(SMALL, talk.now, first)
    second = talk.ask()
    assert talk.said() == [Loan(ME, SMALL, 1, True), Loan(ME, SMALL, 2, False), Loan(ME, SMALL, 3, True)]
    talk.answered(grants=(slot(0),), settled=2)
    grant = second.take()
    assert grant is not None
    assert grant.slot == slot(0)
    assert talk.said() == []
