"""Whose CPU time is whose, by the titles of processes."""

from __future__ import annotations

import pytest

from bench.versus.gateway import group_of


@pytest.mark.parametrize(
    ("title", "group"),
    [
        ("pipeline gateway/0", "server"),
        ("pipeline[relay] scheduler", "scheduler"),
        ("pipeline[relay] b/0", "workers"),
        # A stage of that name is none.
        ("pipeline[relay] scheduler/0", "workers"),
        ("/usr/bin/python3", "supervisor"),
    ],
)
def test_a_process_belongs_to_the_group_that_its_title_says(title: str, group: str) -> None:
    assert group_of(title) == group
