"""What operators are told although no process has died, and how often."""

from __future__ import annotations

from collections.abc import Callable

from pipeline.scheduler.door import ClientGone
from pipeline.scheduler.troubles import EVERY_NS, GATHER_NS, KEPT_NS
from tests.unit.pipeline.scheduler.actors import MS
from tests.unit.pipeline.scheduler.example import Example

Make = Callable[..., Example]


def told(scheduler: Example, after_ns: int = 0) -> list[str]:
    scheduler.now += after_ns
    return scheduler.scheduler.troubles(scheduler.now)


def refuse(scheduler: Example, count: int) -> None:
    for _ in range(count):
        scheduler.scheduler.counts.refuse("Overloaded")


def refused(count: int) -> str:
    return f"{count} requests were refused at once, since too many wait (Overloaded); waiting then: 1 for a"


def test_refused_requests_are_told_a_second_after_the_first_and_then_once_a_minute(example: Make) -> None:
    scheduler = example()
    scheduler.submit(1)  # otherwise it would keep what it may have
    assert told(scheduler) == []
    refuse(scheduler, 1)
    assert told(scheduler) == []
    refuse(scheduler, 4)
    assert told(scheduler, GATHER_NS - 1) == []
    assert told(scheduler, 1) == [refused(5)]
    refuse(scheduler, 2)
    assert told(scheduler) == []
    assert told(scheduler, EVERY_NS - 1) == []
    refuse(scheduler, 1)
    assert told(scheduler, 1) == [refused(3)]
    assert told(scheduler, 2 * EVERY_NS) == []
    refuse(scheduler, 2)
    assert told(scheduler) == []
    assert told(scheduler, GATHER_NS) == [refused(2)]


def test_requests_that_are_late_are_told_with_what_waits(example: Make) -> None:
    scheduler = example()
    scheduler.dies(0)
    scheduler.submit(1, deadline=scheduler.now + 5 * MS)
    scheduler.submit(2)
    scheduler.decide(after_ms=6)
    told(scheduler)
    assert told(scheduler, GATHER_NS) == [
        "1 request was not finished in time (DeadlineExceeded); waiting then: 1 for a"
    ]


def test_clients_that_die_are_named_and_those_that_say_goodbye_are_not(example: Make) -> None:
    scheduler = example()
    scheduler.joins(2)
    scheduler.joins(3)
    scheduler.handle(ClientGone(2))
    scheduler.handle(ClientGone(9))
    told(scheduler)
    scheduler.handle(ClientGone(1))
    (line,) = told(scheduler, GATHER_NS)
    assert line.startswith("2 clients have ended without a goodbye, as one that is killed does: client 2, client 1; ")
    assert told(scheduler, 2 * EVERY_NS) == []


def test_a_client_that_keeps_all_that_it_may_have_is_told_once(example: Make) -> None:
    scheduler = example(slots=8)
    told(scheduler)
    scheduler.asks(1)
    for _ in range(8):
        scheduler.asks(1)
        scheduler.decide()
    assert scheduler.scheduler.ingress.keeps_share(scheduler.scheduler.ingress.clients[1])
    assert told(scheduler) == []
    assert told(scheduler, KEPT_NS - 1) == []
    (line,) = told(scheduler, 1)
    assert line.startswith("client client 1 (")
    assert f") has kept all slots that it may have for {KEPT_NS // 10**9} s, and sends nothing: 0 of answers" in line
    assert told(scheduler, 10 * KEPT_NS) == []
    # It sends something with one of them: from then on it counts anew.
    scheduler.submit(1)
    assert told(scheduler) == []
    assert told(scheduler, KEPT_NS) == []
