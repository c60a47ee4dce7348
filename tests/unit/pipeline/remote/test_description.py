"""What a server says of a model, as an interface."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.errors import KserveError
from pipeline.kserve.documents import model_config, model_metadata
from pipeline.kserve.messages import document, filled
from pipeline.kserve.model import Model
from pipeline.remote.description import UNBOUNDED, described
from pipeline.wire.interface import Axis, Interface, Tensor
from shm.handle import BYTES, JSON

OURS = Interface(
    "page", "3",
    (Tensor("image", "uint8", (Axis("H", 9), Axis("", 3))), Tensor("names", BYTES, (Axis("n", 4), Axis("bytes", 99)))),
    (Tensor("text", JSON, (Axis("bytes", 50),)),),
    ("read",), 8,
)  # fmt: skip
TRITON = {
    "name": "simple", "versions": ["1", "2"], "platform": "python",
    "inputs": [{"name": "A", "datatype": "INT32", "shape": ["-1", "16"]}],
    "outputs": [{"name": "B", "datatype": "BYTES", "shape": [-1, -1]}],
}  # fmt: skip


@pytest.mark.parametrize("over", ["http", "grpc"])
def test_a_gateway_of_ours_tells_the_whole_interface(over: str) -> None:
    model = Model(OURS, 8)
    metadata, config = model_metadata(model), model_config(model)
    if over == "grpc":
        metadata = document(filled("ModelMetadataResponse", metadata))
        config = document(filled("ModelConfigResponse", {"config": config}))["config"]
    found = described("served-as", "", metadata, config)
    assert found.interface == OURS
    assert (found.name, found.max_batch_size, found.notes) == ("served-as", 8, ())


def test_of_another_server_the_batch_axis_is_hidden_and_free_axes_have_names_and_no_bound() -> None:
    config = {"max_batch_size": "8", "model_transaction_policy": {"decoupled": True}}
    found = described("simple", "", TRITON, config)
    assert {name: spec.shape for name, spec in found.specs.items()} == {"A": (16,)}
    (output,) = found.interface.outputs
    assert output.spec.shape == ("B_0",)
    assert output.spec.max == {"B_0": UNBOUNDED, "bytes": UNBOUNDED}
    assert (found.max_batch_size, found.in_parts, found.version) == (8, True, "")


def test_a_server_without_a_config_is_told_unless_the_caller_says_what_it_would_have_said() -> None:
    found = described("simple", "", TRITON, "Not Found")
    assert found.specs["A"].shape == ("A_0", 16)
    assert "tells no config (Not Found)" in found.notes[0]
    assert "max_batch_size=" in found.notes[0]
    said = described("simple", "", TRITON, "Not Found", max_batch_size=4)
    assert (said.specs["A"].shape, said.notes) == ((16,), ())


@pytest.mark.parametrize(
    "change",
    [
        {"inputs": "x"},
        {"inputs": [{"name": ""}]},
        {"inputs": [{"name": "A", "datatype": "FP13", "shape": []}]},
        {"inputs": [{"name": "A", "datatype": "FP32", "shape": ["x"]}]},
        {"inputs": [{"name": "A", "datatype": "FP32", "shape": [1.5]}]},
        {"inputs": [{"name": "A", "datatype": "FP32", "shape": [True]}]},
        {"inputs": [7]},
    ],
)
def test_garbage_is_an_error_of_ours(change: dict[str, Any]) -> None:
    with pytest.raises(KserveError, match="model 'm'"):
        described("m", "", {**TRITON, **change}, {})


@pytest.mark.parametrize("text", ["{}", "[1]", "x", '["a","1",[["t","float13",[]]],[],[],0,false]'])
def test_an_interface_that_is_none_is_left_aside(text: str) -> None:
    found = described("m", "", TRITON, {"parameters": {"trtlab": {"string_value": text}}})
    assert found.interface.name == "simple"
