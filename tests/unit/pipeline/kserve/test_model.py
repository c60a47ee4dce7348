from __future__ import annotations

import pytest

from pipeline.errors import KserveError
from pipeline.kserve.model import Model, axes_of, datatype_of, dims_of, model_of, shape_of
from pipeline.kserve.statuses import status_of
from pipeline.wire.interface import Axis, Interface, Tensor
from stages.spec import TensorSpec
from tests.unit.pipeline.kserve.examples import SIMPLE

IMAGE = Tensor("image", "uint8", (Axis("H", 960), Axis("W", 960), Axis("", 3)))
PAGE = Tensor("page", "json", (Axis("bytes", 100),))
NAMES = Tensor("names", "bytes", (Axis("n", 16), Axis("bytes", 4096)))


@pytest.mark.parametrize(
    ("tensor", "datatype", "dims"),
    [(IMAGE, "UINT8", (-1, -1, 3)), (PAGE, "BYTES", (1,)), (NAMES, "BYTES", (-1,)), (Tensor("s", "bfloat16", ()), "BF16", ())],
)
def test_a_free_dimension_is_minus_one_and_a_batch_axis_comes_first(tensor: Tensor, datatype: str, dims: tuple[int, ...]) -> None:
    assert (datatype_of(tensor).name, dims_of(tensor)) == (datatype, dims)
    assert shape_of(Model(SIMPLE), tensor) == dims
    assert shape_of(Model(SIMPLE, 8), tensor) == (-1, *dims)


def test_the_bytes_of_all_elements_are_no_axis_to_kserve() -> None:
    assert Tensor.of("names", TensorSpec("names", "bytes", ("n",), {"n": 16, "bytes": 4096})) == NAMES
    assert axes_of(NAMES) == NAMES.axes[:1]
    assert axes_of(IMAGE) == IMAGE.axes


@pytest.mark.parametrize("dtype", ["complex64", "longdouble", "object"])
def test_a_pipeline_whose_tensor_has_no_datatype_is_refused_before_any_request(dtype: str) -> None:
    with pytest.raises(KserveError, match=f"tensor 'a': KServe has no datatype for {dtype}") as caught:
        Model(Interface("m", "1", (), (Tensor("a", dtype, ()),), ()))
    assert status_of(caught.value).http == 501


def test_a_batch_size_below_0_is_refused() -> None:
    with pytest.raises(KserveError, match="max_batch_size of at least 0, found -1"):
        Model(SIMPLE, -1)


def test_a_request_gets_the_version_that_it_names_and_otherwise_the_highest() -> None:
    versions = {version: Model(Interface("m", version, (), (), ())) for version in ("2", "10", "beta", "9" * 5000)}
    assert model_of({"m": versions}, "m").version == "10"
    assert model_of({"m": versions}, "m", "2").version == "2"


@pytest.mark.parametrize(
    ("name", "version", "part"),
    [
        # Triton 2.51: 404 and NOT_FOUND, in these words.
        ("nope", "", "Request for unknown model: 'nope' is not found"),
        ("simple", "7", "Request for unknown model: 'simple' version 7 is not found"),
        ("unloaded", "", "Request for unknown model: 'unloaded' has no available versions"),
    ],
)
def test_a_model_that_is_not_there_is_not_found(name: str, version: str, part: str) -> None:
    with pytest.raises(KserveError, match=part) as caught:
        model_of({"simple": {"1": Model(SIMPLE)}, "unloaded": {}}, name, version)
    assert status_of(caught.value)[1:] == (404, 5)
