"""Which client may fill which slot: asks are served in turn, and what is granted unasked keeps no client waiting."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from pipeline.scheduler.ingress import RIDE_NS, Client, Ingress
from pipeline.scheduler.reception import LOST
from pipeline.wire.address import Address
from pipeline.wire.messages import Again, Answers, Gone, Hello, Loan, SlotRef
from shm import segments
from shm.pool import SlotPool
from shm.segment import Segment, SegmentSpec
from tests.unit.pipeline.scheduler.graphs import make_plan
from tests.unit.pipeline.scheduler.simulation import Simulation

SEGMENT = 7


@pytest.fixture
def ingress_of() -> Iterator[Callable[[int], Ingress]]:
    made: list[Segment] = []

    def make(slots: int) -> Ingress:
        made.append(segments.create("local", SegmentSpec("run", "ingress", 64, slots)))
        return Ingress({SEGMENT: SlotPool(made[-1])}, leases_per_answer=1)

    yield make
    for segment in made:
        segment.close()
        segment.unlink()


def granted(ingress: Ingress) -> list[tuple[str, SlotRef]]:
    """What is granted if every client is sent a message anyway."""
    return [(client.name, lease) for client, lease in ingress.grants(0, ingress.clients)]


def names(ingress: Ingress) -> list[str]:
    return [name for name, _ in granted(ingress)]


def ask(ingress: Ingress, client: Client, *, wait: bool = True) -> list[SlotRef]:
    """What a client gets for one ask."""
    assert ingress.ask(client, SEGMENT, 1, wait)
    return [lease for name, lease in granted(ingress) if name == client.name]


def submit(ingress: Ingress, client: Client, lease: SlotRef, number: int) -> None:
    ingress.submitted(client, lease)
    pool = ingress._pools[SEGMENT]
    pool.commit(lease.slot, lease.generation, readers=1)
    client.requests.add(number)


def read(ingress: Ingress, client: Client, lease: SlotRef) -> None:
    """The stages have read the slot."""
    ingress._pools[SEGMENT].release(lease.slot, lease.generation)
    ingress.came_back(client, lease)


def answer(ingress: Ingress, client: Client, number: int) -> None:
    client.requests.discard(number)
    if not client.requests:
        ingress.finished(client)


def test_an_ask_is_answered_by_one_slot_and_asks_that_wait_in_turn(ingress_of: Callable[[int], Ingress]) -> None:
    ingress = ingress_of(2)
    a, b, c = (ingress.join(number, name) for number, name in enumerate("abc"))
    for client in (a, b, c):
        ingress.ask(client, SEGMENT, 1, True)
    first = granted(ingress)
    assert [name for name, _ in first] == ["a", "b"]
    ingress.ask(a, SEGMENT, 2, True)
    assert names(ingress) == []
    for client, (_, lease) in zip((a, b), first):
        submit(ingress, client, lease, client.number)
        read(ingress, client, lease)
        answer(ingress, client, client.number)
    # `a` has asked again, after `c`.
    assert names(ingress) == ["c", "a"]


def test_an_ask_that_does_not_wait_is_settled_at_once_and_ends_the_wait(ingress_of: Callable[[int], Ingress]) -> None:
    ingress = ingress_of(1)
    a, b = ingress.join(1, "a"), ingress.join(2, "b")
    (lease,) = ask(ingress, a)
    ingress.ask(b, SEGMENT, 1, True)
    ingress.ask(b, SEGMENT, 2, False)
    assert names(ingress) == []
    assert ingress.settled() == [b]
    assert (b.settled, b.asks) == (2, set())
    submit(ingress, a, lease, 1)
    read(ingress, a, lease)
    assert names(ingress) == []
    # If a slot is free, the ask brings one.
    ingress.ask(b, SEGMENT, 3, False)
    assert names(ingress) == ["b"]


def test_who_is_at_its_quota_is_overtaken(ingress_of: Callable[[int], Ingress]) -> None:
    ingress = ingress_of(4)
    greedy, modest = ingress.join(1, "greedy"), ingress.join(2, "modest")
    leases = [lease for _ in range(3) for lease in ask(ingress, greedy)]
    assert len(leases) == 3
    assert ask(ingress, greedy) == []
    assert len(ask(ingress, modest)) == 1


def test_what_a_client_works_with_doubles_up_to_a_quarter_in_hand(ingress_of: Callable[[int], Ingress]) -> None:
    ingress = ingress_of(32)
    client = ingress.join(1, "feeder")
    counts = []
    for number in range(6):
        leases = ask(ingress, client)
        counts.append(len(leases))
        for at, lease in enumerate(leases):
            submit(ingress, client, lease, 100 * number + at)
    # One, then as many more as it has out; at most 8 in hand, and 24 of 32 out.
    assert counts == [1, 2, 4, 8, 8, 1]


def test_a_client_with_more_under_way_has_its_slot_renewed_as_soon_as_it_is_read(
    ingress_of: Callable[[int], Ingress],
) -> None:
    ingress = ingress_of(16)
    client = ingress.join(1, "feeder")
    leases = [lease for _ in range(2) for lease in ask(ingress, client)]
    for number, lease in enumerate(leases):
        submit(ingress, client, lease, number)
    read(ingress, client, leases[0])
    assert names(ingress) == ["feeder"]


def test_what_is_granted_unasked_rides_with_the_next_message_and_waits_for_it_no_longer_than_a_tick(
    ingress_of: Callable[[int], Ingress],
) -> None:
    ingress = ingress_of(16)
    client, other = ingress.join(1, "feeder"), ingress.join(2, "other")
    leases = [lease for _ in range(3) for lease in ask(ingress, client)]
    for number, lease in enumerate(leases):
        submit(ingress, client, lease, number)
    read(ingress, client, leases[0])
    assert ingress.grants(1000) == []
    # A message to another client carries nothing of it.
    assert ingress.grants(1001, {other.number}) == []
    read(ingress, client, leases[1])
    assert [to.name for to, _ in ingress.grants(1002, {client.number})] == ["feeder", "feeder"]
    read(ingress, client, leases[2])
    assert ingress.grants(2000) == ingress.grants(2000 + RIDE_NS - 1) == []
    # A client that waits for its user, say, gets it all the same.
    assert [to.name for to, _ in ingress.grants(2000 + RIDE_NS)] == ["feeder"]
    assert ingress.grants(3000 + 2 * RIDE_NS) == []


def test_what_is_granted_unasked_rides_with_what_is_asked_for(ingress_of: Callable[[int], Ingress]) -> None:
    ingress = ingress_of(16)
    client = ingress.join(1, "feeder")
    leases = [lease for _ in range(2) for lease in ask(ingress, client)]
    for number, lease in enumerate(leases):
        submit(ingress, client, lease, number)
    read(ingress, client, leases[0])
    assert ingress.grants(1000) == []
    assert ingress.ask(client, SEGMENT, 1, True)
    assert len(ingress.grants(1001)) > 1


def test_after_its_last_answer_a_client_has_one_slot_in_hand_however_many_it_has_read(
    ingress_of: Callable[[int], Ingress],
) -> None:
    ingress = ingress_of(32)
    client = ingress.join(1, "feeder")
    leases = [lease for _ in range(3) for lease in ask(ingress, client)]
    for number, lease in enumerate(leases):
        submit(ingress, client, lease, number)
    for lease in leases[:2]:
        read(ingress, client, lease)
    assert ingress.grants(1000) == []
    for number in range(len(leases)):
        answer(ingress, client, number)
    assert names(ingress) == ["feeder"]


def test_one_request_after_the_other_gets_the_next_slot_with_the_answer(ingress_of: Callable[[int], Ingress]) -> None:
    ingress = ingress_of(16)
    client = ingress.join(1, "loop")
    (lease,) = ask(ingress, client)
    for number in range(5):
        submit(ingress, client, lease, number)
        read(ingress, client, lease)
        # Not before the answer: a grant would wake the client for nothing.
        assert granted(ingress) == []
        answer(ingress, client, number)
        ((_, lease),) = granted(ingress)


@pytest.mark.parametrize(("slots", "idle"), [(1, 0), (3, 0), (4, 1), (8, 1), (16, 2), (64, 8)])
def test_however_many_clients_are_idle_most_slots_are_there_for_others(
    ingress_of: Callable[[int], Ingress], slots: int, idle: int
) -> None:
    ingress = ingress_of(slots)
    for number in range(3 * slots):
        client = ingress.join(number, f"web{number}")
        (lease,) = ask(ingress, client)
        submit(ingress, client, lease, number)
        read(ingress, client, lease)
        answer(ingress, client, number)
        ingress.grants(0, ingress.clients)
    assert sum(len(client.granted) for client in ingress.clients.values()) == idle == ingress.in_hand[SEGMENT]
    # A busy client then has as much as if it was alone.
    busy = ingress.join(-1, "busy")
    assert ingress.quota(SEGMENT) == max(1, slots - slots // 4)
    got = [lease for _ in range(slots) for lease in ask(ingress, busy)]
    assert len(got) == min(max(1, slots - slots // 4), slots - idle)


def test_a_client_that_has_left_gets_nothing_and_its_turn_is_the_next_ones(ingress_of: Callable[[int], Ingress]) -> None:
    ingress = ingress_of(1)
    a, b, c = (ingress.join(number, name) for number, name in enumerate("abc"))
    (lease,) = ask(ingress, a)
    ingress.ask(b, SEGMENT, 1, True)
    ingress.ask(c, SEGMENT, 1, True)
    ingress.leave(b.number)
    submit(ingress, a, lease, 1)
    read(ingress, a, lease)
    assert names(ingress) == ["c"]


def test_who_reads_its_last_answers_is_granted_nothing(ingress_of: Callable[[int], Ingress]) -> None:
    ingress = ingress_of(8)
    client = ingress.join(1, "leaving")
    ingress.ask(client, SEGMENT, 1, True)
    ingress.lingers(client)
    assert names(ingress) == []
    assert not ingress.ask(client, SEGMENT, 2, True)


def test_no_slot_of_another_segment_can_be_asked_for(ingress_of: Callable[[int], Ingress]) -> None:
    ingress = ingress_of(8)
    assert not ingress.ask(ingress.join(1, "a"), SEGMENT + 1, 1, True)


def test_what_is_confirmed_is_kept_no_longer() -> None:
    client = Client(1, "a")
    client.unread.extend(Answers(number, (), (), 0) for number in (1, 2, 3))
    client.confirm(2)
    assert [letter.number for letter in client.unread] == [3]


def test_a_client_that_lost_what_it_has_confirmed_or_confirms_nothing_is_let_go_of() -> None:
    simulation = Simulation(make_plan("chain"), lambda count: 0)
    scheduler, now = simulation.scheduler, simulation.now
    let_go = [(Address.client(666), Gone(-1, LOST))]

    def letters() -> list[int]:
        return [message.number for _, message in scheduler.decide(now) if isinstance(message, Answers)]

    scheduler.handle(Hello(666, "confused"), now)
    for ask in range(1, 4):
        scheduler.handle(Loan(666, simulation.ingress_segments[0], ask, False), now)
        assert letters() == [ask]
    # Many asks for the same messages are answered once.
    for _ in range(5):
        scheduler.handle(Again(666, 1), now)
    assert letters() == [2, 3]
    assert scheduler.decide(now) == []
    # It has confirmed number 1, which is not kept any more.
    scheduler.handle(Again(666, 0), now)
    assert scheduler.decide(now)[-1:] == let_go
    scheduler.handle(Hello(666, "confused"), now)
    for number in range(5000):
        scheduler.handle(Loan(666, simulation.ingress_segments[0], 10 + number, False), now)
        if scheduler.decide(now)[-1:] == let_go:
            break
    assert number == 4096
    simulation.close()


def test_a_client_that_is_alone_leaves_a_quarter_of_each_segment(ingress_of: Callable[[int], Ingress]) -> None:
    ingress = ingress_of(16)
    alone = ingress.join(1, "alone")
    # Also if it has nothing inside any more, and has released every answer: only the segment's quota bounds it then.
    taken = [lease for _ in range(20) for lease in ask(ingress, alone)]
    assert len(taken) == 12 == ingress.quota(SEGMENT)
    for lease in taken:
        submit(ingress, alone, lease, 1)
    alone.requests.clear()
    assert ask(ingress, alone) == []


def test_a_client_that_is_alone_leaves_a_quarter_of_the_requests_that_may_be_inside(
    ingress_of: Callable[[int], Ingress],
) -> None:
    ingress = ingress_of(16)
    alone = ingress.join(1, "alone")
    # The stages have read their slots: all are free, but the requests are still inside.
    for number in range(20):
        for at, lease in enumerate(ask(ingress, alone)):
            submit(ingress, alone, lease, 100 * number + at)
            read(ingress, alone, lease)
    assert len(alone.requests) == 12 == ingress.share()
    assert alone.out == {SEGMENT: 0}


def test_active_clients_have_equal_parts_of_the_requests_that_may_be_inside(ingress_of: Callable[[int], Ingress]) -> None:
    ingress = ingress_of(16)
    a, b = ingress.join(1, "a"), ingress.join(2, "b")
    b.requests.add(99)
    for number in range(20):
        for at, lease in enumerate(ask(ingress, a)):
            submit(ingress, a, lease, 100 * number + at)
            read(ingress, a, lease)
    assert len(a.requests) == 8 == ingress.share()


def test_active_clients_have_equal_parts_of_a_segment_also_of_what_is_granted_unasked(
    ingress_of: Callable[[int], Ingress],
) -> None:
    ingress = ingress_of(16)
    a, b = ingress.join(1, "a"), ingress.join(2, "b")
    b.requests.add(99)
    leases = [lease for _ in range(20) for lease in ask(ingress, a)]
    assert len(leases) == 8 == ingress.quota(SEGMENT)
    for number, lease in enumerate(leases):
        submit(ingress, a, lease, number)
    # A slot would go with its last answer, but all of its part are still out: the stages read them.
    for number in range(len(leases)):
        answer(ingress, a, number)
    assert names(ingress) == []


def test_answers_that_a_client_keeps_count_as_requests_that_are_inside(ingress_of: Callable[[int], Ingress]) -> None:
    ingress = ingress_of(16)
    hoarder = ingress.join(1, "hoarder")
    hoarder.borrowed.update(SlotRef(9, slot, 1) for slot in range(11))
    assert len(ask(ingress, hoarder)) == 1
    assert ask(ingress, hoarder) == []
