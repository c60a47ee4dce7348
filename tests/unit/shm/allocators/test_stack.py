from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shm.allocators import BoundedStack
from shm.errors import StackOverflow


@given(nbytes=st.integers(0, 500), requests=st.lists(st.integers(1, 200)), alignment=st.sampled_from([1, 8, 64]))
def test_allocations_are_aligned_inside_and_never_overlap(nbytes: int, requests: list[int], alignment: int) -> None:
    stack = BoundedStack(nbytes, alignment)
    end = 0
    for request in requests:
        left = stack.available
        if request > left:
            with pytest.raises(StackOverflow, match=f"{request} bytes do not fit, {left} of {nbytes} are left"):
                stack.allocate(request)
            assert stack.available == left
            continue
        offset = stack.allocate(request)
        assert offset % alignment == 0
        assert end <= offset < end + alignment
        end = offset + request
        assert end <= nbytes
    assert stack.allocated >= end


def test_reset_takes_everything_back() -> None:
    stack = BoundedStack(128)
    assert [stack.allocate(1), stack.allocate(64)] == [0, 64]
    assert (stack.available, stack.allocated) == (0, 128)
    stack.reset()
    assert (stack.available, stack.allocated) == (128, 0)
    assert stack.allocate(128) == 0


@pytest.mark.parametrize("arguments", [(-1,), (10, 0), (10, 48), (10, -64)])
def test_a_stack_that_cannot_be_is_refused(arguments: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="expected"):
        BoundedStack(*arguments)


@pytest.mark.parametrize("nbytes", [0, -1])
def test_nothing_cannot_be_allocated(nbytes: int) -> None:
    with pytest.raises(ValueError, match="at least 1 byte"):
        BoundedStack(10).allocate(nbytes)
