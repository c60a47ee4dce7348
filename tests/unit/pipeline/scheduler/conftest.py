from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.unit.pipeline.scheduler.example import Example


@pytest.fixture
def example() -> Iterator[Callable[..., Example]]:
    """Makes examples; their memory is given back at the end."""
    made: list[Example] = []

    def make(*args: Any, **more: Any) -> Example:
        made.append(Example(*args, **more))
        return made[-1]

    yield make
    for each in made:
        each.close()
