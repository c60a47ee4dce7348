"""The bytes that were copied, by reason."""

from __future__ import annotations

import threading

import pytest

from pipeline.client.copies import KEPT, UNREAD, Copies


def test_bytes_are_summed_by_reason_and_a_reason_without_any_is_not_listed() -> None:
    copies = Copies()
    assert copies.by_reason() == {}
    copies.add(KEPT, 3)
    copies.add(UNREAD, 0)
    copies.add(KEPT, 4)
    assert copies.by_reason() == {"kept results": 7}


def test_a_reason_that_is_not_known_is_an_error() -> None:
    with pytest.raises(KeyError):
        Copies().add("because", 1)


def test_threads_may_add_at_once() -> None:
    copies = Copies()

    def add() -> None:
        for _ in range(20_000):
            copies.add(KEPT, 1)

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert copies.by_reason() == {KEPT: 80_000}
