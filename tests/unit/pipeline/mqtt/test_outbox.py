"""What waits for the broker: the newest of each state, events up to a bound."""

from __future__ import annotations

from pipeline.mqtt.outbox import Outbox
from pipeline.mqtt.topics import Publication


def state(topic: str, payload: str = "1") -> Publication:
    return Publication(topic, payload)


def event(number: int) -> Publication:
    return Publication("events", str(number), retain=False)


def taken(outbox: Outbox) -> list[Publication]:
    """All that it has to send; the broker has it at once."""
    found = []
    while (one := outbox.take()) is not None:
        found.append(one)
        outbox.told(one)
    return found


def test_of_a_state_only_the_newest_is_sent_and_events_in_their_order() -> None:
    outbox = Outbox("last")
    for one in (event(1), state("a", "1"), state("b"), state("a", "2"), event(2)):
        outbox.put(one)
    assert taken(outbox) == [state("a", "2"), state("b"), event(1), event(2)]
    assert outbox.empty


def test_the_last_is_told_after_the_broker_has_all_other_states() -> None:
    outbox = Outbox("last")
    for topic in ("last", "a", "b"):
        outbox.put(state(topic))
    a, b = outbox.take(), outbox.take()
    assert (a, b) == (state("a"), state("b"))
    assert outbox.take() is None
    outbox.told(state("a"))
    assert outbox.take() is None
    outbox.told(state("b"))
    assert outbox.take() == state("last")


def test_a_state_waits_while_an_earlier_one_of_its_topic_is_on_its_way() -> None:
    outbox = Outbox("last")
    outbox.put(state("a", "1"))
    assert outbox.take() == state("a", "1")
    outbox.put(state("a", "2"))
    outbox.put(state("a", "3"))
    assert outbox.take() is None
    outbox.told(state("a", "1"))
    assert outbox.take() == state("a", "3")


def test_after_a_loss_all_states_are_told_again_and_the_events_that_may_not_have_come() -> None:
    outbox = Outbox("last")
    for one in (state("last"), state("a"), event(1), event(2)):
        outbox.put(one)
    assert [outbox.take(), outbox.take(), outbox.take()] == [state("a"), event(1), event(2)]
    outbox.told(event(1))
    outbox.put(event(3))
    outbox.lost()
    assert taken(outbox) == [state("a"), state("last"), event(2), event(3)]
    outbox.lost()
    assert taken(outbox) == [state("a"), state("last")]


def test_events_are_bounded_the_eldest_go_and_are_counted() -> None:
    outbox = Outbox("last", most=3)
    for number in range(5):
        outbox.put(event(number))
    assert outbox.dropped == 2
    assert taken(outbox) == [event(2), event(3), event(4)]
    # Those that were on their way count as well.
    for number in range(3):
        outbox.put(event(number))
    outbox.take()
    outbox.put(event(3))
    outbox.lost()
    assert outbox.dropped == 3
    assert taken(outbox) == [event(1), event(2), event(3)]


def test_no_more_is_on_its_way_than_a_broker_that_takes_nothing_may_have() -> None:
    outbox = Outbox("last")
    for number in range(100):
        outbox.put(event(number))
    on_the_way = 0
    while outbox.take() is not None:
        on_the_way += 1
    assert on_the_way == 16


def test_what_another_process_has_said_of_ours_is_said_again() -> None:
    outbox = Outbox("last")
    outbox.put(state("last", "online"))
    assert taken(outbox) == [state("last", "online")]
    outbox.again("last")
    outbox.again("of no state")
    assert taken(outbox) == [state("last", "online")]


def test_a_removal_is_said_once_and_not_after_a_loss() -> None:
    outbox = Outbox("last")
    outbox.put(state("gone", ""))
    assert outbox.take() == state("gone", "")
    outbox.lost()
    assert taken(outbox) == [state("gone", "")]
    outbox.lost()
    assert outbox.empty
    # Unless it has a state again by then.
    outbox.put(state("gone", ""))
    assert outbox.take() == state("gone", "")
    outbox.put(state("gone", "back"))
    outbox.told(state("gone", ""))
    assert taken(outbox) == [state("gone", "back")]
