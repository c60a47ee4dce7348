"""Reads the tensors of a PyTorch checkpoint without PyTorch, and without running what is in it.

A checkpoint is a pickle, which may call anything. This reader resolves the few names of which tensors are
made and refuses all others, so a hostile file is an error and not a program.

The format read is the one of PyTorch before 1.6 (`torch.save` with `_use_new_zipfile_serialization=False`):
five pickles in a row, then the numbers.

    magic | protocol | byte order | {name: tensor of storage KEY} | [KEY, ...] | n, n numbers | n, n numbers | ...
"""

from __future__ import annotations

import io
import pickle
import struct
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.errors import ModelError

__all__ = ["read_checkpoint"]

#: From torch/serialization.py.
_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
_DTYPES = {"FloatStorage": "<f4", "LongStorage": "<i8"}


@dataclass(frozen=True, slots=True)
class _Tensor:
    """A placeholder for a tensor until its numbers, which come last in the file, have been read."""

    storage: tuple[str, str]
    """Dtype and key."""
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    """In elements."""


def _rebuild_tensor(
    storage: tuple[str, str], offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_hooks: object
) -> _Tensor:
    return _Tensor(storage, offset, shape, strides)


class _Unpickler(pickle.Unpickler):
    """Knows the names that a state_dict of plain tensors uses, and no others."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild_tensor
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        raise ModelError(f"checkpoint: it asks for {module}.{name}, which is not part of a tensor; refused")

    def persistent_load(self, reference: Any) -> tuple[str, str]:
        kind, dtype, key, *_device_and_size = reference
        if kind != "storage":
            raise ModelError(f"checkpoint: expected a reference to a storage, found {kind!r}")
        return dtype, key


def read_checkpoint(content: bytes) -> dict[str, NDArray[Any]]:
    """The tensors of a state_dict, by name.

    Raises:
        ModelError: the content is not a checkpoint of this format, is truncated, or holds more than tensors.
    """
    file = io.BytesIO(content)
    try:
        magic, protocol, system = (_Unpickler(file).load() for _ in range(3))
        if (magic, protocol) != (_MAGIC, _PROTOCOL) or not system["little_endian"]:
            raise ModelError(f"checkpoint: expected magic {_MAGIC:#x} and protocol {_PROTOCOL}, little-endian")
        state = _Unpickler(file).load()
        keys = _Unpickler(file).load()
        dtypes = dict(tensor.storage[::-1] for tensor in state.values())
        storages = {key: _storage(file, dtypes[key]) for key in keys}
        return {name: _array(tensor, storages[tensor.storage[1]]) for name, tensor in state.items()}
    except ModelError:
        raise
    except Exception as error:
        # The pickle machine has no single exception for bytes that are not a pickle.
        raise ModelError(f"checkpoint: damaged, or not of the format of PyTorch before 1.6: {error!r}") from error


def _storage(file: io.BytesIO, dtype: str) -> NDArray[Any]:
    (count,) = struct.unpack("<q", file.read(8))
    return np.frombuffer(file.read(count * np.dtype(dtype).itemsize), dtype, count)


def _array(tensor: _Tensor, storage: NDArray[Any]) -> NDArray[Any]:
    size = storage.itemsize
    # By the constructor, which checks that the tensor lies inside its storage.
    return np.ndarray(
        tensor.shape, storage.dtype, storage.data, tensor.offset * size, tuple(s * size for s in tensor.strides)
    )
