"""Model: a pipeline as KServe sees it. Pure.

    pipeline                        without a batch axis          batched, at most 8 rows a request
    image uint8[H<=960, W, 3]       UINT8 [-1, -1, 3]             UINT8 [-1, -1, -1, 3]; config: dims [-1, -1, 3]
    page json                       BYTES [1]                     BYTES [-1, 1]
    names bytes[n<=16]              BYTES [-1]                    BYTES [-1, -1]

A free dimension is -1, and so is the batch axis in metadata. A config's dims leave the batch axis out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.errors import KserveError
from pipeline.kserve.datatypes import OF_DTYPE, Datatype
from pipeline.wire.interface import Axis, Interface, Tensor
from shm.handle import BYTES, JSON

__all__ = ["Model", "axes_of", "datatype_of", "dims_of", "model_of", "shape_of"]


@dataclass(frozen=True, slots=True)
class Model:
    """A pipeline with what the front says of it.

    Raises:
        KserveError: a tensor has no datatype of KServe (UNIMPLEMENTED), or the batch a size below 0.
    """

    interface: Interface
    max_batch_size: int = 0
    """Rows of the largest request; 0: tensors have no batch axis."""
    decoupled: bool = False
    """Whether a request may have several responses."""

    def __post_init__(self) -> None:
        # So a front refuses a pipeline that it cannot serve when it starts, and not request by request.
        for tensor in (*self.interface.inputs, *self.interface.outputs):
            datatype_of(tensor)
        if self.max_batch_size < 0:
            raise KserveError(
                f"model {self.name!r}: expected a max_batch_size of at least 0, found {self.max_batch_size}", "INTERNAL"
            )

    @property
    def name(self) -> str:
        return self.interface.name

    @property
    def version(self) -> str:
        return self.interface.version


def datatype_of(tensor: Tensor) -> Datatype:
    """KServe's datatype of a tensor.

    Raises:
        KserveError: it has none, such as a complex number.
    """
    found = OF_DTYPE.get(tensor.dtype)
    if found is None:
        raise KserveError(
            f"tensor {tensor.name!r}: KServe has no datatype for {tensor.dtype}; expected one of {', '.join(OF_DTYPE)}",
            "UNIMPLEMENTED",
        )
    return found


def dims_of(tensor: Tensor) -> tuple[int, ...]:
    """Its shape without a batch axis; -1: free."""
    if tensor.dtype == JSON:
        return (1,)
    return tuple([-1 if axis.name else axis.most for axis in axes_of(tensor)])


def axes_of(tensor: Tensor) -> tuple[Axis, ...]:
    """Its axes to KServe: of bytes without the last, which is how many bytes all elements take."""
    return tensor.axes[:-1] if tensor.dtype == BYTES else tensor.axes


def shape_of(model: Model, tensor: Tensor) -> tuple[int, ...]:
    """Its shape as metadata has it, with the batch axis if there is one."""
    return (-1, *dims_of(tensor)) if model.max_batch_size else dims_of(tensor)


def model_of(models: Mapping[str, Mapping[str, Model]], name: str, version: str = "") -> Model:
    """The model that a request names.

    Args:
        models: by name and version.
        version: empty: the highest.

    Raises:
        KserveError: there is none (NOT_FOUND).
    """
    versions = models.get(name)
    if versions is None:
        raise KserveError(f"Request for unknown model: {name[:200]!r} is not found", "NOT_FOUND")
    if not versions:
        raise KserveError(f"Request for unknown model: {name[:200]!r} has no available versions", "NOT_FOUND")
    if not version:
        return versions[max(versions, key=_order)]
    found = versions.get(version)
    if found is None:
        raise KserveError(
            f"Request for unknown model: {name[:200]!r} version {version[:100]} is not found; expected one of "
            f"{', '.join(sorted(versions))}",
            "NOT_FOUND",
        )
    return found


def _order(version: str) -> tuple[int, str]:
    """Versions are numbers to Triton; others come before them."""
    return (int(version) if version.isdecimal() and len(version) < 20 else -1, version)
