from __future__ import annotations

import pytest

from stages.video.event import Best, Event


def best(box: tuple[float, float, float, float], score: float = 0.6) -> Best:
    return Best(1.0, 1, score, box)


def test_a_larger_and_a_surer_picture_is_worth_more() -> None:
    small = best((0.4, 0.4, 0.5, 0.5))
    assert best((0.3, 0.3, 0.6, 0.6)).worth > small.worth
    assert best((0.4, 0.4, 0.5, 0.5), 0.7).worth > small.worth


@pytest.mark.parametrize("edge", [(0, 0.3, 0.5, 0.6), (0.3, 0, 0.6, 0.5), (0.5, 0.3, 1, 0.6), (0.3, 0.5, 0.6, 1)])
def test_a_thing_that_an_edge_cuts_off_is_worth_less(edge: tuple[float, float, float, float]) -> None:
    height, width = edge[2] - edge[0], edge[3] - edge[1]
    inside = (0.1, 0.1, 0.1 + height, 0.1 + width)
    assert best(edge).worth == pytest.approx(best(inside).worth - 0.2)


def test_an_event_that_goes_on_has_lasted_until_now() -> None:
    document = Event("1.000-door-1", "object", 1.0, label="cat", track=3, box=(0, 0, 1 / 3, 1)).document("door", 2.5)
    assert document["duration"] == 1.5
    assert (document["end"], document["reason"], document["best"]) == (None, None, None)
    assert document["box"] == [0, 0, 0.3333, 1]


def test_an_event_that_is_over_has_lasted_until_its_end() -> None:
    event = Event("1.000-door-1", "count", 1.0, end=3.0, count=4, reason="over", best=best((0, 0, 1, 1)))
    document = event.document("door", 100.0)
    assert (document["duration"], document["count"], document["camera"]) == (2, 4, "door")
    assert document["best"] == {"time": 1.0, "sequence": 1, "score": 0.6, "box": [0, 0, 1, 1]}
