"""TensorSpec: the inputs and outputs of a stage, for one request.

Stages declare specs, `pipeline check` compares them along the graph, and slots are sized from them.
A spec never has a batch axis: the runtime adds it.

An output of *many* tensors fans out: each of them is a child of the request. A stage that takes one of
them runs once for each child; a stage that takes many gets all children of a request at once, in order:

    crop                    read                    join
    outputs                 inputs                  inputs
      line  many=100  ──▶     line  (once each)
                              text  ────────────▶     text  many=100   (a list, as long as there were lines)
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import index
from typing import Any

from shm.handle import BYTES, JSON, LENGTH_BYTES, itemsize, nbytes_of
from shm.layout import round_up
from stages.errors import SpecMismatch

__all__ = ["TensorSpec", "extents_of"]

#: Of dtype "bytes", the name in `max` for the bytes of all elements.
_OF_ALL = "bytes"


def extents_of(shape: Iterable[Any]) -> tuple[int, ...]:
    """The shape as plain numbers: numpy's numbers equal them, but cannot be sent.

    Raises:
        SpecMismatch: the extents are not whole numbers of at least 0.
    """
    try:
        extents = tuple([int(index(extent)) for extent in shape])
    except TypeError:
        extents = (-1,)
    if min(extents, default=0) >= 0:
        return extents
    raise SpecMismatch(f"expected a shape of whole numbers, found {shape!r}")


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Name, dtype and shape of one tensor of one request.

    An extent is a number, or the name of a free dimension, which `max` bounds:

        TensorSpec("image", "uint8", ("H", "W", 3), {"H": 4096, "W": 4096})

    A free dimension may be of any extent up to its maximum, 0 included: the tensor is empty then.

    Elements of dtype "bytes" are of any length. `max` bounds the bytes of all of them together by the name `bytes`, 4
    for the length of each included:

        TensorSpec("names", "bytes", ("n",), {"n": 16, "bytes": 4096})

    `alias_of` (outputs only) names an input of the same stage: the stage passes that tensor on
    unchanged and without a copy; it needs no slot of its own.

    `many` is the largest number of tensors of this name that one request has; None: it has one. `many_bytes`
    (outputs only) bounds the bytes of all of them together, so that a slot need not hold `many` of the largest.

    `optional` (inputs only): the tensor may be missing because its stage was skipped (`when:`).

    Raises:
        SpecMismatch: a free dimension without a maximum, a maximum without a dimension, an extent
            below 0, a dtype that cannot lie in shared memory, an alias of many, or elements of bytes without a bound.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    max: Mapping[str, int] = field(default_factory=dict)
    alias_of: str | None = None
    many: int | None = None
    many_bytes: int | None = None
    optional: bool = False
    stored_shape: tuple[int | str, ...] = field(init=False, repr=False, compare=False)
    """The shape as handles have it: of "bytes" with one free dimension more, `bytes`."""

    def __post_init__(self) -> None:
        try:
            # Plain numbers: numpy's numbers cannot be sent.
            shape = tuple(extent if isinstance(extent, str) else index(extent) for extent in self.shape)
            most = {name: index(extent) for name, extent in self.max.items()}
        except TypeError as error:
            raise SpecMismatch(f"tensor {self.name!r}: its extents are not whole numbers: {error}") from None
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "max", most)
        try:
            itemsize(self.dtype)
        except TypeError as error:
            raise SpecMismatch(f"tensor {self.name!r}: {error}") from None
        object.__setattr__(self, "stored_shape", (*shape, _OF_ALL) if self.dtype == BYTES else shape)
        free = {extent for extent in self.stored_shape if isinstance(extent, str)}
        if self.dtype == BYTES:
            self._check_elements()
        if missing := sorted(free - set(self.max)):
            raise SpecMismatch(
                f"tensor {self.name!r}: free dimension {missing[0]!r} has no maximum; "
                f"slots are sized from it, so give one: max: {{{missing[0]}: ...}}"
            )
        if unknown := sorted(set(self.max) - free):
            raise SpecMismatch(f"tensor {self.name!r}: max names {unknown[0]!r}, not in its shape {self.shape}")
        for extent in (*(e for e in self.shape if isinstance(e, int)), *self.max.values()):
            if extent < 0:
                raise SpecMismatch(f"tensor {self.name!r}: extent {extent} is below 0")
        self._check_many()

    def _check_elements(self) -> None:
        if _OF_ALL in self.shape:
            raise SpecMismatch(
                f"tensor {self.name!r}: of dtype {BYTES}, max: {{{_OF_ALL}: ...}} bounds all elements together; "
                f"give the dimension another name, such as n"
            )
        if _OF_ALL not in self.max:
            raise SpecMismatch(
                f"tensor {self.name!r}: elements of dtype {BYTES} are of any length; slots are sized from the bytes of "
                f"all of them together, {LENGTH_BYTES} for the length of each included, so give the most: "
                f"max: {{{_OF_ALL}: ...}}"
            )

    def _check_many(self) -> None:
        if self.many is not None and self.many < 1:
            raise SpecMismatch(f"tensor {self.name!r}: many={self.many}; expected how many at most, at least 1")
        if self.many_bytes is not None and (self.many is None or self.many_bytes < self.max_nbytes):
            raise SpecMismatch(
                f"tensor {self.name!r}: many_bytes={self.many_bytes}; expected many too, and room for at least one "
                f"of {self.max_nbytes} bytes"
            )
        if self.many is not None and self.alias_of is not None:
            raise SpecMismatch(f"tensor {self.name!r}: many tensors cannot be an alias of one")

    @property
    def is_static(self) -> bool:
        """True if no dimension is free: all tensors of this spec take as many bytes."""
        return not self.max

    @property
    def max_shape(self) -> tuple[int, ...]:
        """The shape with every free dimension at its maximum."""
        return tuple(self.max[e] if isinstance(e, str) else e for e in self.shape)

    @property
    def max_nbytes(self) -> int:
        """Bytes of the largest tensor of this spec; if there are many, of one of them."""
        if self.dtype == BYTES:
            return self.max[_OF_ALL]
        return itemsize(self.dtype) * math.prod(self.max_shape)

    @property
    def room(self) -> int:
        """Bytes that the largest output of this spec takes in a slot; if there are many, of all of them."""
        if self.many is None:
            return self.max_nbytes
        return self.many_bytes or self.many * round_up(self.max_nbytes)

    def offsets(self, shapes: Sequence[tuple[int, ...]]) -> list[int]:
        """The place in `room` of each of many tensors, in bytes; tensors of equal shape lie side by side.

        Args:
            shapes: as `stored_shape`.

        Raises:
            SpecMismatch: together they take more than `room`.
        """
        dtype = self.dtype
        offsets = [0] * len(shapes)
        end = 0
        for number in sorted(range(len(shapes)), key=lambda number: shapes[number]):
            offsets[number] = end
            end += round_up(nbytes_of(dtype, shapes[number]))
        if end > self.room:
            raise SpecMismatch(
                f"output {self.name!r}: {len(shapes)} tensors of {end} bytes in all, expected at most {self.room}"
                + ("; allow more with many_bytes" if self.many_bytes is not None else "")
            )
        return offsets

    def padded(self, shape: tuple[int, ...], pad: Mapping[str, int]) -> tuple[int, ...]:
        """`shape`, its free extents rounded up to multiples by the dimension's name; at most to their maximum.

        Rows with equal results may share a batch of a stage with that `pad` (see `stages.stage`).
        """
        return tuple(
            min(round_up(found, pad[want]), self.max[want]) if isinstance(want, str) and want in pad else found
            for want, found in zip(self.shape, shape)
        )

    def misfit(self, dtype: str, shape: tuple[int, ...]) -> str | None:
        """Why a tensor of `dtype` and `shape` does not fit this spec; None if it does.

        Args:
            shape: as `stored_shape`.
        """
        if dtype != self.dtype:
            return f"expected dtype {self.dtype}, found {dtype}"
        stored = self.stored_shape
        if len(shape) != len(stored):
            given = list(shape if stored is self.shape else shape[:-1])
            return f"expected {len(self.shape)} dimensions {self.describe()}, found {given}"
        bound: dict[str, int] = {}
        for axis, (want, found) in enumerate(zip(stored, shape)):
            if isinstance(want, int):
                if want != found:
                    return f"expected {want} along axis {axis} of {self.describe()}, found {found}"
            elif found > self.max[want]:
                return f"expected at most {self.max[want]} for {want!r} of {self.describe()}, found {found}"
            elif bound.setdefault(want, found) != found:
                return f"{want!r} of {self.describe()} is both {bound[want]} and {found}"
        if stored is not self.shape and (least := LENGTH_BYTES * math.prod(shape[:-1])) > shape[-1]:
            return f"{list(shape[:-1])} elements take at least {least} bytes with their lengths, found {shape[-1]}"
        return None

    def misfit_of_edge(self, producer: TensorSpec) -> str | None:
        """Why an output of `producer` does not always fit this input; None if it always does.

        A free dimension fits a free dimension of at least its maximum; a number fits the same
        number, or a free dimension of at least that maximum.
        """
        if producer.dtype != self.dtype:
            return f"dtype {producer.dtype} into {self.dtype}"
        if len(producer.shape) != len(self.shape):
            return f"{len(producer.shape)} dimensions {producer.describe()} into {len(self.shape)} {self.describe()}"
        for axis, (want, given) in enumerate(zip(self.stored_shape, producer.stored_shape)):
            most = given if isinstance(given, int) else producer.max[given]
            if isinstance(want, int):
                if isinstance(given, str) or given != want:
                    return f"axis {axis}: {given!r} of {producer.describe()} into {want} of {self.describe()}"
            elif most > self.max[want]:
                where = "" if want == _OF_ALL and self.dtype == BYTES else f"axis {axis}: "
                return f"{where}up to {most} of {producer.describe()} into {want}<={self.max[want]}"
        return None

    def describe(self) -> str:
        """The shape as a person writes it: `[H<=960, W<=960, 3]`, `100 x [48, W<=960]` if there are many,
        `[n<=16] in bytes<=4096` if elements are of any length."""
        shape = "[" + ", ".join(f"{e}<={self.max[e]}" if isinstance(e, str) else str(e) for e in self.shape) + "]"
        if self.dtype == BYTES:
            shape += f" in {_OF_ALL}<={self.max[_OF_ALL]}"
        return shape if self.many is None else f"{self.many} x {shape}"

    def __str__(self) -> str:
        return f"{self.name} {self.dtype}{self.describe()}"

    def to_dict(self) -> dict[str, Any]:
        """The spec as plain containers, the reverse of `from_dict`."""
        return {
            "name": self.name,
            "dtype": self.dtype,
            "shape": list(self.shape),
            "max": dict(self.max),
            "alias_of": self.alias_of,
            "many": self.many,
            "many_bytes": self.many_bytes,
            "optional": self.optional,
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> TensorSpec:
        """The reverse of `to_dict`."""
        return cls(**{**value, "shape": tuple(value["shape"]), "max": dict(value["max"])})

    @classmethod
    def json(cls, name: str, max_bytes: int, many: int | None = None) -> TensorSpec:
        """A tensor that holds one JSON document of at most `max_bytes` UTF-8 bytes; `many` as above."""
        return cls(name, JSON, ("bytes",), {"bytes": max_bytes}, many=many)
