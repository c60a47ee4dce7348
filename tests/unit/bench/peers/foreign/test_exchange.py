"""The loop that drivers share: every answer is compared, whatever its order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from bench.peers.foreign.exchange import Exchange, TornTensor, stamp_of


class Echo(Exchange):
    """A peer that answers the last request first, and with `spoil` changes what it answers."""

    spoil = staticmethod(lambda stamp: stamp)

    def __init__(self) -> None:
        self.waiting: list[bytes] = []
        self.most = 0

    def start(self, nbytes: int, window: int) -> None:
        pass

    def submit(self, number: int, place: Any) -> None:
        self.waiting.append(stamp_of(place))
        self.most = max(self.most, len(self.waiting))

    def collect(self) -> Sequence[bytes]:
        return [self.spoil(self.waiting.pop())]

    def close(self) -> None:
        pass


def ready(window: int = 4) -> Echo:
    echo = Echo()
    echo.setup(64, window)
    return echo


def test_so_many_are_in_flight_as_were_asked_for_and_all_are_answered_at_the_end() -> None:
    echo = ready()
    requests, seconds = echo.throughput(0.01, 4)
    assert (echo.most, echo.waiting) == (4, [])
    assert requests >= 4
    assert seconds >= 0.01


def test_one_after_the_other_there_is_one_in_flight() -> None:
    echo = ready()
    assert len(echo.latency(0.01)) > 1
    assert echo.most == 1


@pytest.mark.parametrize("spoil", [
    lambda stamp: stamp[:8] + bytes(8),
    lambda stamp: (99).to_bytes(8, "little") + ((1 << 64) - 1 - 99).to_bytes(8, "little"),
])  # fmt: skip
def test_an_answer_that_is_torn_or_of_no_request_in_flight_is_refused(spoil: Any) -> None:
    echo = ready()
    echo.spoil = spoil  # type: ignore[method-assign]
    with pytest.raises(TornTensor, match="expected the ends of a request in flight"):
        echo.latency(0.01)


def test_an_answer_that_comes_twice_is_refused() -> None:
    echo = ready()
    echo._send()
    echo.waiting *= 2
    echo._take()
    with pytest.raises(TornTensor):
        echo._take()
