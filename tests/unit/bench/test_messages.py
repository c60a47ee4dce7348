"""How many messages requests cost a scheduler and three workers that forward to each other: exactly, since no clock and
no other process has a part in it. What they cost processes is in `tests/integration/test_counts.py`."""

from __future__ import annotations

import pytest

from bench.messages import Requests


@pytest.mark.parametrize("count", [1, 64])
def test_requests_that_come_together_cost_the_messages_of_one(count: int) -> None:
    requests = Requests(count)
    # The first ones are loaned their slots; later ones use those that came back.
    requests.go(count)
    for _ in range(3):
        # Orders go to the first worker alone, and the answers come with the next slots.
        assert requests.go(count) == {"Submit": 1, "Orders": 1, "Notices": 3, "Answers": 1}


def test_requests_that_come_one_by_one_cost_as_many_messages_each() -> None:
    requests = Requests(64)
    requests.go(64)
    for _ in range(64):
        assert requests.go(1).total() == 6
