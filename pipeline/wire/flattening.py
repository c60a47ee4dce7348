"""Flattening: the inputs of a stage, of which some are many tensors, as the two flat fields of a message. Pure.

    page = P,  crops = [A, B, C]   ◀──▶   inputs = (P, A, B, C),  lengths = (-1, 3)

`lengths` is empty if every input takes one tensor, as of most stages: then `inputs` has one entry for each input.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

__all__ = ["SINGLE", "flatten", "parts", "position_of"]

_T = TypeVar("_T")

SINGLE = -1
"""In place of a length: the input takes one tensor, not a list of one."""


def flatten(inputs: Sequence[_T | list[_T]], *, takes_many: bool) -> tuple[tuple[_T, ...], tuple[int, ...]]:
    """The fields `inputs` and `lengths`.

    Args:
        inputs: for each input of the stage its tensor, or a list of them.
        takes_many: whether any input of the stage takes many; without, there are no lengths.
    """
    flat: list[_T] = []
    lengths: list[int] = []
    for given in inputs:
        if isinstance(given, list):
            flat += given
            lengths.append(len(given))
        else:
            flat.append(given)
            lengths.append(SINGLE)
    return tuple(flat), tuple(lengths) if takes_many else ()


def parts(inputs: Sequence[_T], lengths: Sequence[int]) -> Iterator[tuple[Sequence[_T], bool]]:
    """For each input of the stage: its entries of `inputs`, and whether it takes many. The reverse of `flatten`."""
    start = 0
    for length in lengths or (SINGLE,) * len(inputs):
        end = start + (1 if length < 0 else length)
        yield inputs[start:end], length >= 0
        start = end


def position_of(index: int, lengths: Sequence[int]) -> int:
    """Where in `inputs` the entries of the input with that index begin."""
    if not lengths:
        return index
    return sum(1 if length < 0 else length for length in lengths[:index])
