"""The later hops of an order, packed."""

from __future__ import annotations

from pipeline.wire.route import HOP_BYTES, first_of, hops_of, packed

FIRST, SECOND = (3, 9, 1_000_000, (1 << 32) - 1, 77, (1 << 63) + 1), (65_535, 65_535, 0, 0, 0, 0)


def test_a_route_is_its_hops_one_after_the_other() -> None:
    route = packed(*FIRST) + packed(*SECOND)
    assert hops_of(route) == [FIRST, SECOND]
    assert hops_of(b"") == []


def test_a_worker_takes_the_first_hop_and_leaves_the_rest_as_it_is() -> None:
    route = packed(*FIRST) + packed(*SECOND)
    assert first_of(route) == FIRST
    assert route[HOP_BYTES:] == packed(*SECOND)
