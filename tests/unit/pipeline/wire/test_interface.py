"""An interface's tensors on the wire, and as the specs that they stand for."""

from __future__ import annotations

import pytest

from pipeline.wire.interface import Axis, Interface, Tensor
from stages.errors import SpecMismatch
from stages.spec import TensorSpec


@pytest.mark.parametrize(
    "spec",
    [
        TensorSpec("t", "uint8", ()),
        TensorSpec("t", "float32", (3, 0)),
        TensorSpec("t", "uint8", ("H", 7, "W"), {"H": 48, "W": 64}),
        TensorSpec("t", "uint8", ("n", "n"), {"n": 5}),
        TensorSpec.json("t", 100),
        TensorSpec("t", "bytes", ("n", 2), {"n": 5, "bytes": 100}),
        TensorSpec("t", "bytes", (), {"bytes": 100}),
        TensorSpec("t", "bfloat16", (3,)),
    ],
    ids=str,
)
def test_a_spec_comes_back_from_its_tensor(spec: TensorSpec) -> None:
    assert Tensor.of("t", spec).spec == spec


def test_the_specs_of_an_interface_are_its_inputs_by_name_and_in_their_order() -> None:
    tensors = tuple([Tensor(name, "uint8", (Axis("", 1),)) for name in ("z", "a")])
    assert list(Interface("demo", "1", tensors, (), ()).specs.items()) == [(t.name, t.spec) for t in tensors]


def test_a_tensor_that_no_pipeline_has_is_refused() -> None:
    with pytest.raises(SpecMismatch):
        _ = Tensor("t", "no dtype", ()).spec
    with pytest.raises(SpecMismatch):
        _ = Tensor("t", "bytes", ()).spec
