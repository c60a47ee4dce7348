"""Description: what a server says of a model, as the interface that our runners check calls against. Pure.

    metadata  names, datatypes, shapes (-1 free), with the batch axis if there is one
    config    max_batch_size: whether there is one; decoupled: whether answers come in parts. Not every server has it

A gateway of this project also gives its interface itself, as the parameter `trtlab` of the config: so names and maxima
of free dimensions, and documents of JSON, are the same as for a client of the same host. Of another server a free
dimension is called by its tensor's axis, `INPUT0_1`, and has no maximum.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from pipeline.errors import KserveError
from pipeline.kserve.datatypes import BYTES, datatype
from pipeline.kserve.documents import INTERFACE
from pipeline.wire.interface import Axis, Interface, Tensor
from shm import handle
from stages.errors import SpecMismatch
from stages.spec import TensorSpec

__all__ = ["UNBOUNDED", "Description", "described"]

UNBOUNDED = 2**31 - 1
"""In place of the maximum of a free dimension, which only our own gateways tell."""

_MOST_TENSORS = 1024


@dataclass(frozen=True, slots=True)
class Description:
    """A model of a server."""

    name: str
    """That requests name; a pipeline may be served under another name than its own."""
    interface: Interface
    """Without the batch axis."""
    version: str
    """That requests name; empty: the server chooses."""
    notes: tuple[str, ...] = ()
    """What the server did not say, and what follows from that."""
    specs: dict[str, TensorSpec] = field(default_factory=dict)
    """Of the inputs, by name."""

    @property
    def max_batch_size(self) -> int:
        """Rows of the largest request; 0: tensors have no batch axis."""
        return self.interface.max_batch_size

    @property
    def in_parts(self) -> bool:
        """Whether an answer may come in parts."""
        return self.interface.in_parts


def described(
    name: str,
    version: str,
    metadata: Mapping[str, Any],
    config: Mapping[str, Any] | str,
    max_batch_size: int | None = None,
) -> Description:
    """The model that these documents describe.

    Args:
        version: that requests shall name; empty: the server chooses.
        metadata, config: as over HTTP; or why there is no config.
        max_batch_size: what the caller knows of it; None: what the config says.

    Raises:
        KserveError: they are no such documents (INTERNAL), or a datatype is none of ours.
    """
    notes: list[str] = []
    if isinstance(config, str):
        if max_batch_size is None:
            notes.append(
                f"the server tells no config ({config}), so whether the first axis is a batch is not known, and arrays "
                f"are sent as they are; if it is, say so: infer_runner({name!r}, max_batch_size=...)"
            )
        config = {}
    try:
        own = _own_interface(config)
        if own is not None:
            return _checked(Description(name, own, version, tuple(notes)))
        most = _whole(config.get("max_batch_size", 0)) if max_batch_size is None else max_batch_size
        interface = Interface(
            str(metadata.get("name") or name),
            version or _version(metadata),
            _tensors(metadata, "inputs", most),
            _tensors(metadata, "outputs", most),
            (),
            most,
            bool((config.get("model_transaction_policy") or {}).get("decoupled", False)),
        )
    except (KserveError, SpecMismatch, TypeError, ValueError, AttributeError, KeyError) as error:
        raise KserveError(f"model {name!r}: its metadata cannot be read: {error}", "INTERNAL") from None
    return _checked(Description(name, interface, version, tuple(notes)))


def _checked(description: Description) -> Description:
    """With its specs; raises SpecMismatch if a tensor can be none of ours."""
    interface = description.interface
    for tensor in interface.outputs:
        assert tensor.spec
    return Description(description.name, interface, description.version, description.notes, interface.specs)


def _own_interface(config: Mapping[str, Any]) -> Interface | None:
    """What a gateway of this project says; None: it is none, or of a version that says something else."""
    said = (config.get("parameters") or {}).get(INTERFACE) or {}
    text = said.get("string_value") if isinstance(said, Mapping) else None
    if not isinstance(text, str):
        return None
    try:
        found = msgspec.json.decode(text, type=Interface)
        for tensor in (*found.inputs, *found.outputs):
            assert tensor.spec
    except (msgspec.MsgspecError, SpecMismatch, RecursionError, ValueError):
        return None
    return found


def _version(metadata: Mapping[str, Any]) -> str:
    versions = metadata.get("versions") or ()
    return str(versions[-1]) if versions else ""


def _whole(value: Any) -> int:
    # Over gRPC 64-bit numbers are text.
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise ValueError(f"expected a whole number, found {value!r:.50}")
    return int(value)


def _tensors(metadata: Mapping[str, Any], key: str, most: int) -> tuple[Tensor, ...]:
    rows = metadata.get(key) or ()
    if len(rows) > _MOST_TENSORS:
        raise ValueError(f"expected at most {_MOST_TENSORS} {key}, found {len(rows)}")
    return tuple([_tensor(row, most) for row in rows])


def _tensor(row: Mapping[str, Any], most: int) -> Tensor:
    name = row["name"]
    if not isinstance(name, str) or not name:
        raise ValueError("expected a tensor with a name")
    kind = datatype(str(row.get("datatype", "")), f"tensor {name!r}")
    extents = [_whole(extent) for extent in row.get("shape") or ()]
    if most:
        if not extents:
            raise ValueError(f"tensor {name!r} has no axes, though the model has a batch axis")
        extents = extents[1:]
    axes = [
        Axis("", extent) if extent >= 0 else Axis(f"{name}_{number}", UNBOUNDED)
        for number, extent in enumerate(extents)
    ]
    if kind.name == BYTES:
        axes.append(Axis("bytes", UNBOUNDED))
        return Tensor(name, handle.BYTES, tuple(axes))
    return Tensor(name, kind.dtype, tuple(axes))
