"""Lent: the arrays of a slot that the caller writes itself, for the loans of threads and of asyncio."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pipeline.client.bindings import input_of, request_of
from pipeline.client.request import Request
from pipeline.errors import ClientMisuse
from stages.spec import TensorSpec

__all__ = ["Lent"]

Array = NDArray[Any]


class Lent(Mapping[str, Array]):
    """The arrays of one request's inputs, in a slot of the pipeline, from the beginning of a block until the request is
    sent, or until the end of the block."""

    #: The words that begin the block.
    _BLOCK: ClassVar[str]

    def __init__(self) -> None:
        self._request: Request | None = None

    def _refuse_again(self) -> None:
        """
        Raises:
            ClientMisuse: it was lent before.
        """
        if self._request is not None:
            raise ClientMisuse("a loan is for one request: call runner.loan again for the next one")

    def __getitem__(self, name: str) -> Array:
        return input_of(self._arrays, name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    @property
    def _arrays(self) -> Mapping[str, Array]:
        draft = None if self._request is None else self._request.draft
        if draft is None:
            raise ClientMisuse(
                f"this slot is not lent now: its arrays are there within `{self._BLOCK} runner.loan(...) as request`, "
                f"until request.infer()"
            )
        return draft.inputs

    def _handed_on(
        self,
        specs: Mapping[str, TensorSpec],
        deadline_ms: float | None,
        priority: int,
        name: Any,
        retries: int = 0,
    ) -> Request:
        """The request that is sent with the slot, which is not lent any more. For retries it has copies of the inputs.

        Raises:
            ClientMisuse: the slot is not lent.
            InvalidRequest: an option is not what it must be.
        """
        arrays, lent = self._arrays, self._request
        assert lent is not None
        request = request_of(specs, {}, deadline_ms, priority, name, retries)
        request.specs = lent.specs
        if retries:
            request.inputs = {key: np.array(array) for key, array in arrays.items()}
        request.draft, lent.draft = lent.draft, None
        return request

    def _state(self) -> str:
        there = self._request is not None and self._request.draft is not None
        return "lent" if there else "not lent"
