"""What is sent, when it is sent again, and how it ends."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import DeadlineExceeded, Overloaded, Unavailable
from pipeline.remote.failures import LOST, REFUSED, TOLD, Failure
from pipeline.remote.session import Abort, End, Instruction, Probe, Send, Session

S = 1_000_000_000
NO_SERVER = Failure(REFUSED, "refused")
GONE = Failure(LOST, "gone")


def session(patience_s: float = 5.0, silence_s: float = 30.0) -> Session:
    return Session(patience_s, silence_s)


def ends(instructions: list[Instruction]) -> list[type[Exception]]:
    return [type(each.error) for each in instructions if isinstance(each, End)]


def test_a_request_is_sent_at_once_with_the_time_that_is_left() -> None:
    it = session()
    number, sent = it.begin(S, deadline=3 * S)
    assert sent == [Send(number, 2.0)]
    assert it.begin(S)[1] == [Send(number + 1, None)]
    assert it.answered(number, 2 * S)
    assert not it.answered(number, 2 * S)
    assert it.outstanding == 1


def test_a_request_whose_deadline_has_passed_is_not_sent_whatever_a_quick_server_would_answer() -> None:
    it = session()
    assert ends(it.begin(2 * S, deadline=2 * S)[1]) == [DeadlineExceeded]
    assert it.outstanding == 0
    number, sent = it.begin(2 * S, deadline=2 * S + 1)
    assert sent == [Send(number, 1e-9)]


def test_what_was_refused_is_sent_again_within_the_patience_and_without_retries() -> None:
    it = session(patience_s=1.0)
    number, _ = it.begin(0)
    now, sent = 0, 0
    while True:
        found = it.failed(number, NO_SERVER, now)
        if found:
            break
        at = it.next_at()
        assert at is not None
        assert now < at <= S
        assert it.tick(at - 1) == []
        assert it.tick(at) == [Send(number, None)]
        now, sent = at, sent + 1
    assert ends(found) == [Unavailable]
    assert now == S, "the last attempt is made when the patience ends"
    assert 3 <= sent <= 10
    assert it.outstanding == 0


def test_what_was_lost_is_sent_again_as_often_as_the_caller_said() -> None:
    it = session()
    number, _ = it.begin(0, retries=1)
    assert it.failed(number, GONE, S) == []
    assert it.tick(2 * S) == [Send(number, None)]
    assert ends(it.failed(number, GONE, 3 * S)) == [Unavailable]


def test_an_unavailable_server_is_asked_again_but_one_that_is_overloaded_is_not() -> None:
    it = session()
    number, _ = it.begin(0, retries=1)
    assert it.failed(number, Failure(TOLD, "not ready", "UNAVAILABLE"), 0) == []
    other, _ = it.begin(0, retries=1)
    assert ends(it.failed(other, Failure(TOLD, "full", "RESOURCE_EXHAUSTED"), 0)) == [Overloaded]


def test_retries_without_end_end_with_the_patience() -> None:
    it = session(patience_s=2.0)
    number, _ = it.begin(0, retries=1000)
    now = 0
    while not (found := it.failed(number, Failure(TOLD, "not ready", "UNAVAILABLE"), now)):
        at = it.next_at()
        assert at is not None
        now = at
        it.tick(now)
    assert ends(found) == [Unavailable]
    assert now <= 3 * S


def test_the_deadline_ends_it_whether_it_is_sent_or_waits() -> None:
    it = session()
    sent, _ = it.begin(0, deadline=S)
    waits, _ = it.begin(0, deadline=S)
    it.failed(waits, NO_SERVER, S - 1)
    found = it.tick(S)
    assert ends(found) == [DeadlineExceeded] * 2
    assert [each for each in found if isinstance(each, Abort)] == [Abort(sent)]
    assert "the last attempt failed: refused" in str(found[-1].error)  # type: ignore[union-attr]


def test_cancelling_breaks_off_what_was_sent_and_what_comes_of_it_is_nothing() -> None:
    it = session()
    number, _ = it.begin(0)
    assert it.cancel(number) == [Abort(number)]
    assert it.cancel(number) == []
    assert it.failed(number, GONE, 1) == []
    waits, _ = it.begin(0)
    it.failed(waits, NO_SERVER, 0)
    assert it.cancel(waits) == []


def test_a_silent_server_is_probed_and_then_taken_for_gone() -> None:
    it = session(silence_s=10.0)
    old, _ = it.begin(0)
    assert it.next_at() == 5 * S
    assert it.tick(5 * S) == [Probe(5.0)]
    assert it.tick(6 * S) == []
    young, _ = it.begin(6 * S)
    found = it.tick(10 * S)
    assert ends(found) == [Unavailable]
    assert Abort(old) in found
    assert Abort(young) not in found


def test_a_server_that_answers_the_probe_may_take_its_time() -> None:
    it = session(silence_s=10.0)
    it.begin(0)
    for now in range(5, 100, 5):
        assert it.tick(now * S) == [Probe(5.0)]
        it.heard(now * S)


def test_closing_ends_everything() -> None:
    it = session()
    sent, _ = it.begin(0)
    waits, _ = it.begin(0)
    it.failed(waits, NO_SERVER, 0)
    found = it.close(Unavailable("stopped"))
    assert found[0] == Abort(sent)
    assert ends(found) == [Unavailable] * 2
    assert it.next_at() is None


@given(st.lists(st.sampled_from(["refused", "lost", "answer", "tick", "cancel", "begin"]), max_size=60))
def test_whatever_happens_each_request_ends_once_and_time_always_goes_on(events: list[str]) -> None:
    it = session(patience_s=1.0, silence_s=4.0)
    now, open_, over = 0, set(), set()

    def note(instructions: list[Instruction]) -> None:
        for each in instructions:
            if isinstance(each, End):
                assert each.number in open_
                open_.discard(each.number)
                over.add(each.number)

    for event in events:
        now += S // 10
        some = min(open_, default=0)
        if event == "begin":
            number, _ = it.begin(now, deadline=now + 2 * S, retries=1)
            open_.add(number)
        elif event == "tick":
            note(it.tick(now))
        elif event == "answer":
            open_.discard(some) if it.answered(some, now) else None
        elif event == "cancel":
            it.cancel(some)
            open_.discard(some)
        else:
            note(it.failed(some, NO_SERVER if event == "refused" else GONE, now))
        assert it.outstanding == len(open_)
    while (at := it.next_at()) is not None:
        now = max(now + 1, at)
        note(it.tick(now))
        assert now < 100 * S
    assert not open_
