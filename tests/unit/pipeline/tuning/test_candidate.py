"""Candidates, as changes and as what `--set` takes."""

from __future__ import annotations

from pipeline.tuning.candidate import UNTUNED, assignments_of, merged, written


def test_changes_are_assignments_in_the_words_of_yaml() -> None:
    changes = (("a.replicas", 2), ("b.colocate", True), ("b.batch.max_delay_ms", 2.5), ("c.batch.max_delay_ms", 10.0))
    assert assignments_of(changes) == [
        "a.replicas=2", "b.colocate=true", "b.batch.max_delay_ms=2.5", "c.batch.max_delay_ms=10",
    ]  # fmt: skip
    assert assignments_of(UNTUNED.changes) == []
    assert written(False) == "false"


def test_a_later_change_of_the_same_field_wins_and_keeps_its_place() -> None:
    assert merged([("a.replicas", 1), ("b.threads", 1)], [("a.replicas", 4)]) == (("a.replicas", 4), ("b.threads", 1))
