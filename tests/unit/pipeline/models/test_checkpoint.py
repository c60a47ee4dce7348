from __future__ import annotations

import io
import os
import pickle
import struct
import sys
import types
from collections import OrderedDict
from typing import Any

import numpy as np
import pytest

from pipeline.models.checkpoint import read_checkpoint
from stages.errors import ModelError

DTYPES = {"FloatStorage": "<f4", "LongStorage": "<i8", "HalfStorage": "<f2"}


class Reference:
    """Pickled as a reference to a storage."""

    def __init__(self, kind: str, key: str, count: int) -> None:
        self.fields = ("storage", getattr(sys.modules["torch"], kind), key, "cpu", count)


class Rebuilt:
    """Pickled as the call that rebuilds a tensor."""

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return sys.modules["torch._utils"]._rebuild_tensor_v2, self.arguments


class Pickler(pickle.Pickler):
    def persistent_id(self, value: Any) -> Any:
        return value.fields if isinstance(value, Reference) else None


@pytest.fixture(autouse=True)
def torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """As much of torch as a pickle names: it writes what the real one writes."""
    root, inner = types.ModuleType("torch"), types.ModuleType("torch._utils")
    for name in DTYPES:
        setattr(root, name, type(name, (), {"__module__": "torch", "__qualname__": name}))

    def _rebuild_tensor_v2() -> None: ...

    _rebuild_tensor_v2.__module__, _rebuild_tensor_v2.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    inner._rebuild_tensor_v2 = _rebuild_tensor_v2  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch", root)
    monkeypatch.setitem(sys.modules, "torch._utils", inner)


def checkpoint(state: Any, storages: dict[str, np.ndarray], magic: int = 0x1950A86A20F9469CFC6C) -> bytes:
    file = io.BytesIO()
    for value in (magic, 1001, {"protocol_version": 1001, "little_endian": True}, state, list(storages)):
        Pickler(file, 2).dump(value)
    for numbers in storages.values():
        file.write(struct.pack("<q", numbers.size) + numbers.tobytes())
    return file.getvalue()


def tensor(kind: str, key: str, count: int, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> Rebuilt:
    return Rebuilt(Reference(kind, key, count), offset, shape, strides, False, OrderedDict())


NUMBERS = np.arange(12, dtype="<f4")


def test_tensors_are_read_with_their_shape_and_strides() -> None:
    state = OrderedDict(
        whole=tensor("FloatStorage", "a", 12, 0, (3, 4), (4, 1)),
        turned=tensor("FloatStorage", "a", 12, 0, (4, 3), (1, 4)),
        part=tensor("FloatStorage", "a", 12, 5, (2,), (1,)),
        count=tensor("LongStorage", "b", 1, 0, (), ()),
    )
    found = read_checkpoint(checkpoint(state, {"a": NUMBERS, "b": np.array([7], "<i8")}))
    assert list(found) == ["whole", "turned", "part", "count"]
    assert (found["whole"] == NUMBERS.reshape(3, 4)).all()
    assert (found["turned"] == NUMBERS.reshape(3, 4).T).all()
    assert found["part"].tolist() == [5, 6]
    assert found["count"].dtype == np.int64
    assert found["count"] == 7


class Hostile:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("pwned",)


@pytest.mark.parametrize("value", [Hostile(), OrderedDict(a=Hostile())])
def test_a_checkpoint_that_calls_anything_else_is_refused_and_does_not_run(
    value: object, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match=r"it asks for posix\.mkdir, which is not part of a tensor; refused"):
        read_checkpoint(checkpoint(value, {}))
    assert os.listdir(tmp_path) == []


def test_a_pickle_of_this_project_is_refused_like_any_other() -> None:
    with pytest.raises(ModelError, match=r"it asks for builtins\.eval"):
        read_checkpoint(b"cbuiltins\neval\n(S'1'\ntR.")


def test_a_dtype_that_is_not_known_is_refused() -> None:
    state = OrderedDict(a=tensor("HalfStorage", "a", 12, 0, (12,), (1,)))
    with pytest.raises(ModelError, match=r"it asks for torch\.HalfStorage"):
        read_checkpoint(checkpoint(state, {"a": NUMBERS}))


@pytest.mark.parametrize(("offset", "shape", "strides"), [(1, (12,), (1,)), (0, (4, 4), (4, 1)), (0, (2,), (-1,))])
def test_a_tensor_outside_its_storage_is_refused(offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> None:
    state = OrderedDict(a=tensor("FloatStorage", "a", 12, offset, shape, strides))
    with pytest.raises(ModelError, match="damaged"):
        read_checkpoint(checkpoint(state, {"a": NUMBERS}))


def test_every_cut_of_a_checkpoint_is_refused() -> None:
    whole = checkpoint(OrderedDict(a=tensor("FloatStorage", "a", 12, 0, (12,), (1,))), {"a": NUMBERS})
    for length in range(len(whole)):
        with pytest.raises(ModelError):
            read_checkpoint(whole[:length])
    assert (read_checkpoint(whole)["a"] == NUMBERS).all()


def test_another_format_is_named() -> None:
    with pytest.raises(ModelError, match="expected magic 0x1950a86a20f9469cfc6c and protocol 1001"):
        read_checkpoint(checkpoint({}, {}, magic=7))
    with pytest.raises(ModelError, match=r"damaged, or not of the format of PyTorch before 1\.6"):
        read_checkpoint(b"PK\x03\x04 a zip file, as later versions write")


def test_a_reference_to_anything_but_a_storage_is_refused() -> None:
    reference = Reference("FloatStorage", "a", 12)
    reference.fields = ("module", *reference.fields[1:])
    with pytest.raises(ModelError, match="expected a reference to a storage, found 'module'"):
        read_checkpoint(checkpoint(OrderedDict(a=reference), {}))
