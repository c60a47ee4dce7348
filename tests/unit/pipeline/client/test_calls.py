"""Whether a call is made in the middle of another one of the same object."""

from __future__ import annotations

import sys

from pipeline.client.calls import CALLS, is_within


class Thing:
    def call(self, inner: object = None) -> bool:
        within = is_within(sys._getframe(), self)
        return inner() if callable(inner) else within

    def between(self, inner: object) -> bool:
        assert callable(inner)
        return bool(inner())


CALLS.add(Thing.call.__code__)


def test_a_call_is_within_another_one_of_the_same_object_only() -> None:
    thing, other = Thing(), Thing()
    assert not thing.call()
    assert not other.call(thing.call)
    assert thing.call(thing.call)
    assert thing.call(lambda: other.call(thing.call))
    # What is no call does not count.
    assert not thing.between(thing.call)
