"""TensorSpec: what a stage takes and gives, one request at a time.

Stages declare specs, `pipeline check` compares them along the graph, slots are sized from them.
A spec never has a batch axis: the runtime adds it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from shm.handle import JSON, itemsize
from stages.errors import SpecMismatch

__all__ = ["TensorSpec"]


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Name, dtype and shape of one tensor of one request.

    An extent is a number, or the name of a free dimension that `max` bounds:

        TensorSpec("image", "uint8", ("H", "W", 3), {"H": 4096, "W": 4096})

    `alias_of` (outputs only) names an input of the same stage: the stage passes that tensor on
    unchanged and without a copy; it needs no slot of its own.

    Raises:
        SpecMismatch: a free dimension without a maximum, a maximum without a dimension, an extent
            below 0, or a dtype that cannot lie in shared memory.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    max: Mapping[str, int] = field(default_factory=dict)
    alias_of: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(self.shape))
        try:
            itemsize(self.dtype)
        except TypeError as error:
            raise SpecMismatch(f"tensor {self.name!r}: {error}") from None
        free = {extent for extent in self.shape if isinstance(extent, str)}
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

    @property
    def is_static(self) -> bool:
        """True where no dimension is free."""
        return not self.max

    @property
    def max_shape(self) -> tuple[int, ...]:
        """The shape with every free dimension at its maximum."""
        return tuple(self.max[e] if isinstance(e, str) else e for e in self.shape)

    @property
    def max_nbytes(self) -> int:
        """Bytes of the largest tensor of this spec."""
        return itemsize(self.dtype) * math.prod(self.max_shape)

    def misfit(self, dtype: str, shape: tuple[int, ...]) -> str | None:
        """Why a tensor of `dtype` and `shape` is not of this spec; None where it is."""
        if dtype != self.dtype:
            return f"expected dtype {self.dtype}, found {dtype}"
        if len(shape) != len(self.shape):
            return f"expected {len(self.shape)} dimensions {self.describe()}, found {list(shape)}"
        bound: dict[str, int] = {}
        for axis, (want, found) in enumerate(zip(self.shape, shape)):
            if isinstance(want, int):
                if want != found:
                    return f"expected {want} along axis {axis} of {self.describe()}, found {found}"
            elif found > self.max[want]:
                return f"expected at most {self.max[want]} for {want!r} of {self.describe()}, found {found}"
            elif bound.setdefault(want, found) != found:
                return f"{want!r} of {self.describe()} is both {bound[want]} and {found}"
        return None

    def misfit_of_edge(self, producer: TensorSpec) -> str | None:
        """Why what `producer` may give does not always fit this input; None where it always does.

        A free dimension fits a free dimension of at least its maximum; a number fits the same
        number, or a free dimension of at least that maximum.
        """
        if producer.dtype != self.dtype:
            return f"dtype {producer.dtype} into {self.dtype}"
        if len(producer.shape) != len(self.shape):
            return f"{len(producer.shape)} dimensions {producer.describe()} into {len(self.shape)} {self.describe()}"
        for axis, (want, given) in enumerate(zip(self.shape, producer.shape)):
            most = given if isinstance(given, int) else producer.max[given]
            if isinstance(want, int):
                if isinstance(given, str) or given != want:
                    return f"axis {axis}: {given!r} of {producer.describe()} into {want} of {self.describe()}"
            elif most > self.max[want]:
                return f"axis {axis}: up to {most} of {producer.describe()} into {want}<={self.max[want]}"
        return None

    def describe(self) -> str:
        """The shape as a person writes it: `[H<=960, W<=960, 3]`."""
        return "[" + ", ".join(f"{e}<={self.max[e]}" if isinstance(e, str) else str(e) for e in self.shape) + "]"

    def __str__(self) -> str:
        return f"{self.name} {self.dtype}{self.describe()}"

    def to_dict(self) -> dict[str, Any]:
        """A value of plain containers, the reverse of `from_dict`."""
        return {
            "name": self.name,
            "dtype": self.dtype,
            "shape": list(self.shape),
            "max": dict(self.max),
            "alias_of": self.alias_of,
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> TensorSpec:
        """The reverse of `to_dict`."""
        return cls(value["name"], value["dtype"], tuple(value["shape"]), dict(value["max"]), value["alias_of"])

    @classmethod
    def json(cls, name: str, max_bytes: int) -> TensorSpec:
        """A tensor that holds one JSON document of at most `max_bytes` UTF-8 bytes."""
        return cls(name, JSON, ("bytes",), {"bytes": max_bytes})
