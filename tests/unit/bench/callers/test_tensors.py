"""The tensors that callers send differ, and an answer that is not theirs is noticed."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from bench.callers.tensors import COUNT, Tensors
from bench.floors.slots import TornTensor


def test_no_two_tensors_in_turn_are_equal_and_then_the_first_comes_again() -> None:
    tensors = Tensors(512)
    found = [tensors.next() for _ in range(COUNT + 1)]
    assert {tensor.array.shape for tensor in found} == {(512,)}
    assert len({tensor.stamp for tensor in found}) == COUNT
    assert found[-1] is found[0]


def test_a_copy_of_a_tensor_is_its_answer() -> None:
    tensor = Tensors(512).next()
    tensor.check(tensor.array.copy())


@pytest.mark.parametrize("at", [0, 7, -8, -1])
def test_an_answer_that_is_torn_at_an_end_is_refused(at: int) -> None:
    tensor = Tensors(512).next()
    answer = tensor.array.copy()
    answer[at] ^= 1
    with pytest.raises(TornTensor, match="expected"):
        tensor.check(answer)


def test_the_answer_to_another_request_is_refused() -> None:
    tensors = Tensors(512)
    first, second = tensors.next(), tensors.next()
    with pytest.raises(TornTensor):
        first.check(second.array)


def test_an_answer_of_another_length_is_refused_though_its_ends_are_right() -> None:
    tensor = Tensors(512).next()
    with pytest.raises(TornTensor):
        tensor.check(np.concatenate([tensor.array[:8], tensor.array[-8:]]))


def test_a_caller_cannot_change_what_others_send() -> None:
    with pytest.raises(ValueError, match="read-only"):
        Tensors(512).next().array[0] = 1


def test_threads_take_different_tensors() -> None:
    tensors = Tensors(512)
    with ThreadPoolExecutor(4) as threads:
        taken = list(threads.map(lambda _: [tensors.next().stamp for _ in range(COUNT // 4)], range(4)))
    assert len({stamp for each in taken for stamp in each}) == COUNT
