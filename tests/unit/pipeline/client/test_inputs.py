"""A request's inputs by their names, by keyword and in a mapping."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from pipeline.client.inputs import Layouts, arrays_of, fill_in, lay_out, lay_out_arrays, stored_shapes
from pipeline.errors import InvalidRequest
from pipeline.graph.plan import Plan
from shm.elements import Elements
from stages.spec import TensorSpec
from tests.unit.pipeline.client.loopback import Client, Pipeline
from tests.unit.pipeline.scheduler.evaluation import expected_answer
from tests.unit.pipeline.scheduler.graphs import make_plan

X = bytes(range(1, 17))
Y = bytes(range(101, 117))


def renamed(**names: str) -> Plan:
    """A plan whose inputs have other names."""
    text = make_plan("early outputs", slots=8, credits=4).to_json()
    for name, other in names.items():
        text = text.replace(f'"{name}"', f'"{other}"')
    return msgspec.convert(json.loads(text), Plan)


def test_an_input_that_is_called_name_is_that_input(start: Callable[..., Pipeline], run_dir: Path) -> None:
    plan = renamed(x="name")
    start(plan)
    with Client.connect(run_dir) as client:
        with client.submit(name=X, y=Y).get(10) as result:
            assert result["z"].tobytes() == expected_answer(plan, {"name": X, "y": Y})["z"]
        with pytest.raises(InvalidRequest, match="expected the inputs name, y; found y"):
            client.submit(y=Y)


@pytest.mark.parametrize("name", ["priority", "deadline_ms", "timeout_s", "flush", "name", "inputs", "self", "not a word"])
def test_an_input_may_have_any_name_in_a_mapping(
    start: Callable[..., Pipeline], run_dir: Path, name: str
) -> None:
    plan = renamed(x=name)
    start(plan)
    expected = expected_answer(plan, {name: X, "y": Y})["z"]
    with Client.connect(run_dir) as client:
        with client.submit({name: X, "y": Y}, priority=3, timeout_s=10, name="cat.jpg").get(10) as result:
            assert result["z"].tobytes() == expected
        with client.submit({name: X}, y=Y).get(10) as result:
            assert result["z"].tobytes() == expected
        for draft in (
            client.draft({name: (16,), "y": (16,)}, timeout_s=10),
            client.draft_nowait({name: (16,), "y": (16,)}),
            client.draft({name: (16,)}, y=(16,)),
        ):
            assert draft is not None
            assert [*draft.inputs] == [name, "y"]
            draft.discard()


def test_the_mapping_may_be_given_by_keyword_unless_an_input_is_called_that(
    start: Callable[..., Pipeline], run_dir: Path
) -> None:
    plan = renamed()
    start(plan)
    with Client.connect(run_dir) as client:
        client.submit(inputs={"x": X, "y": Y}).get(10).release()
        client.draft(inputs={"x": (16,)}, y=(16,)).discard()
        with pytest.raises(InvalidRequest, match="two mappings of inputs were given, one of them by `inputs=`"):
            client.submit({"x": X}, inputs={"y": Y})
        with pytest.raises(InvalidRequest, match=r"inputs: expected a mapping such as \{'x': ...\}, found bytes"):
            client.submit(inputs=X, y=Y)
    start(renamed(x="inputs"), epoch=1)
    with Client.connect(run_dir) as client:
        client.submit(inputs=X, y=Y).get(10).release()


@pytest.mark.parametrize("call", ["submit", "draft", "draft_nowait"])
def test_an_input_that_is_given_both_ways_is_refused(client: Client, pipeline: Pipeline, call: str) -> None:
    with pytest.raises(InvalidRequest, match="input 'y' was given twice, in the mapping `inputs` and by keyword"):
        getattr(client, call)({"x": X, "y": Y}, y=Y)
    assert pipeline.in_use == [0] * len(pipeline.pools)


def test_a_name_that_is_no_text_is_an_unknown_input(client: Client) -> None:
    with pytest.raises(InvalidRequest, match="expected the inputs x, y; found 1"):
        client.submit({1: X})  # type: ignore[dict-item]


def test_an_unknown_input_is_named_before_its_value_is_looked_at(client: Client) -> None:
    with pytest.raises(InvalidRequest, match="expected the inputs x, y; found x, z"):
        client.submit({"x": X, "z": "no array"})


NAMES = TensorSpec("names", "bytes", ("n",), {"n": 3, "bytes": 64})
X16 = TensorSpec("x", "bfloat16", (2,))


def test_elements_and_bfloat16_are_laid_out_by_what_they_take_and_written_there() -> None:
    specs = {"names": NAMES, "x": X16}
    arrays = arrays_of(specs, {"names": ["ü", b"a\0"], "x": np.ones(2, "bfloat16")})
    shapes = stored_shapes(arrays)
    assert shapes == {"names": (2, 12), "x": (2,)}
    assert lay_out(specs, shapes) == ([(0, "bytes", (2, 12)), (64, "bfloat16", (2,))], 128, 0)
    views = {"names": np.zeros(12, np.uint8), "x": np.zeros(2, "bfloat16")}
    fill_in(views, arrays)
    assert Elements(views["names"], (2,)).decode().tolist() == [b"\xc3\xbc", b"a\0"]
    assert views["x"].tolist() == [1, 1]


def test_numbers_in_the_other_order_of_bytes_are_taken_and_others_are_not() -> None:
    specs = {"x": TensorSpec("x", "float32", (2,))}
    assert arrays_of(specs, {"x": np.ones(2, ">f4")})["x"].tolist() == [1, 1]
    with pytest.raises(InvalidRequest, match="expected dtype float32, found int32"):
        arrays_of(specs, {"x": np.ones(2, np.int32)})


@pytest.mark.parametrize("shape", [(2, 4), (2, 3, 1), (3, 2)])
def test_another_shape_than_that_of_a_static_input_is_refused(shape: tuple[int, ...]) -> None:
    specs = {"x": TensorSpec("x", "float32", (2, 3))}
    assert lay_out_arrays(specs, {"x": np.ones((2, 3), np.float32)}) == ([(0, "float32", (2, 3))], 64, 0)
    with pytest.raises(InvalidRequest, match="input 'x': expected"):
        lay_out_arrays(specs, {"x": np.ones(shape, np.float32)})


def test_empty_inputs_take_no_bytes() -> None:
    specs = {"names": NAMES, "x": TensorSpec("x", "float32", ("n", 3), {"n": 2})}
    arrays = arrays_of(specs, {"names": [], "x": np.zeros((0, 3), np.float32)})
    assert lay_out(specs, stored_shapes(arrays)) == ([(0, "bytes", (0, 0)), (0, "float32", (0, 3))], 0, 0)


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"names": [1], "x": np.ones(2, "bfloat16")}, "input 'names': expected elements of bytes, or texts, found int"),
        ({"names": np.ones(2), "x": np.ones(2, "bfloat16")}, "input 'names': expected elements of bytes, found float64"),
        ({"names": [], "x": np.ones(2, np.float32)}, "input 'x': expected dtype bfloat16, found float32"),
        ({"names": [], "x": np.ones(2, np.uint16)}, "input 'x': expected dtype bfloat16, found uint16"),
    ],
)
def test_what_would_have_to_be_converted_is_refused(values: dict[str, Any], why: str) -> None:
    with pytest.raises(InvalidRequest, match=why):
        arrays_of({"names": NAMES, "x": X16}, values)


@pytest.mark.parametrize("shape", [(4, 32), (2, 65), (2, 7), (64,)], ids=str)
def test_a_draft_of_elements_has_the_shape_and_all_bytes(shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidRequest, match="input 'names': "):
        lay_out({"names": NAMES}, {"names": shape})


# -- values and names -------------------------------------------------------------------------------


IMAGE = TensorSpec("image", "float32", (2,))


@pytest.mark.parametrize(
    ("dtype", "end"),
    [
        ("float64", '; write .astype("float32")'),
        ("float16", '; write .astype("float32")'),
        ("int64", '; write .astype("float32")'),
        ("complex64", '; if its values fit, write .astype("float32")'),
        ("U3", ""),
    ],
)
def test_another_dtype_is_refused_with_the_line_to_write(dtype: str, end: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        arrays_of({"image": IMAGE}, {"image": np.zeros(2, dtype)})
    assert str(raised.value) == f"input 'image': expected dtype float32, found {np.dtype(dtype).name}{end}"


def test_what_has_no_astype_is_converted_by_numpy() -> None:
    with pytest.raises(InvalidRequest, match=r'found float64; write np\.asarray\(\.\.\.\)\.astype\("float32"\)$'):
        arrays_of({"image": IMAGE}, {"image": [0.5, 1.0]})


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("cat.jpg", r"found str; of a file that is Path\(...\).read_bytes\(\)$"),
        (Path("cat.jpg"), r"found PosixPath; of a file that is Path\(...\).read_bytes\(\)$"),
        (io.BytesIO(b"1"), r'found BytesIO; of a file that was opened with "rb" that is its read\(\)$'),
        (None, "found NoneType$"),
    ],
)
def test_what_only_names_the_data_is_refused_with_what_to_give(value: object, why: str) -> None:
    with pytest.raises(InvalidRequest, match=f"input 'image': expected bytes or an array, {why}"):
        arrays_of({"image": IMAGE}, {"image": value})


def test_bytes_are_not_taken_for_the_numbers_of_another_dtype() -> None:
    with pytest.raises(InvalidRequest, match=r'found uint8; if .* write np\.frombuffer\(\.\.\., "float32"\)\.reshape'):
        arrays_of({"image": IMAGE}, {"image": bytes(8)})


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("deadline", "; 'deadline' may be meant for 'deadline_ms', an argument of infer"),
        ("timeout", "; 'timeout' may be meant for get, which waits for the answer, or for deadline_ms, "
         "which ends the request"),
        ("retries", "; 'retries' is an argument of infer, and not of this call"),
        ("colour", ""),
    ],
)  # fmt: skip
def test_a_misspelt_argument_is_not_only_an_unknown_input(name: str, hint: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        arrays_of({"image": IMAGE}, {"image": 1, name: 1})
    assert str(raised.value) == f"expected the inputs image; found image, {name}{hint}"


def test_a_wrong_name_is_refused_with_the_nearest_that_is_missing() -> None:
    with pytest.raises(InvalidRequest) as raised:
        arrays_of({"Input3": IMAGE, "scale": IMAGE}, {"Imput3": 1, "scale": 1, "zzz": 1})
    assert str(raised.value) == (
        "expected the inputs Input3, scale; found Imput3, scale, zzz; 'Imput3' may be meant for 'Input3'"
    )


class OnlyDLPack:
    """As an array of a library that knows nothing of numpy."""

    def __init__(self, array: np.ndarray) -> None:
        self._array = array

    def __dlpack__(self, **options: Any) -> Any:
        return self._array.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._array.__dlpack_device__()


class OnlyArray:
    def __init__(self, array: np.ndarray) -> None:
        self._array = array

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return self._array


@pytest.mark.parametrize("kind", [OnlyDLPack, OnlyArray])
def test_what_speaks_dlpack_or_array_is_taken_without_a_copy(kind: Callable[[Any], Any]) -> None:
    array = np.arange(2, dtype=np.float32)
    taken = arrays_of({"image": IMAGE}, {"image": kind(array)})["image"]
    assert np.shares_memory(taken, array)


def test_an_array_that_is_not_in_this_memory_is_refused_with_its_own_words() -> None:
    class OnGpu:
        def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
            raise RuntimeError("call .cpu() first")

    with pytest.raises(InvalidRequest, match=r"input 'image': no array: call \.cpu\(\) first"):
        arrays_of({"image": IMAGE}, {"image": OnGpu()})


def test_a_memoryview_of_any_layout_is_taken_or_refused() -> None:
    specs = {"data": TensorSpec("data", "uint8", ("n",), {"n": 100}), "x": TensorSpec("x", "float32", (2,))}
    memory = memoryview(bytearray(b"12345678"))
    x = np.zeros(2, np.float32)
    for view in (memory, memory[::-1], memory[::2]):
        assert arrays_of(specs, {"data": view, "x": x})["data"].tobytes() == view.tobytes()
    assert arrays_of(specs, {"data": memory.cast("I"), "x": x})["data"].tobytes() == b"12345678"
    with pytest.raises(InvalidRequest, match="expected dtype uint8, found uint32"):
        arrays_of(specs, {"data": memory.cast("I")[::-1], "x": x})
    memory.release()
    with pytest.raises(InvalidRequest, match="'data': expected dtype uint8, found object"):
        arrays_of(specs, {"data": memory, "x": x})


ROW = TensorSpec("x", "float32", (2, 3))
OTHER = TensorSpec("n", "int64", ())


def test_the_rows_of_each_input_lie_one_after_the_other_if_a_request_may_carry_several() -> None:
    specs = {"x": ROW, "n": OTHER}
    layout = lay_out(specs, {"x": (5, 2, 3), "n": (5,)}, 8)
    assert layout == ([(0, "float32", (5, 2, 3)), (128, "int64", (5,))], 192, 5)
    assert lay_out(specs, {"x": (2, 3), "n": ()}, 8).rows == 0
    # A batch of one row has the axis all the same.
    assert lay_out(specs, {"x": (1, 2, 3), "n": (1,)}, 8).rows == 1


@pytest.mark.parametrize(
    ("shapes", "most", "why"),
    [
        ({"x": (9, 2, 3), "n": (9,)}, 8, "expected 1 to 8 rows, which one request of this pipeline may carry, found 9"),
        ({"x": (0, 2, 3), "n": (0,)}, 8, "expected 1 to 8 rows, .* found 0"),
        ({"x": (4, 2, 3), "n": (5,)}, 8, "same number of rows, and 'x' has 4, 'n' has 5"),
        ({"x": (4, 3, 2), "n": (4,)}, 8, "input 'x': in each row, expected "),
        ({"x": (4, 2, 3), "n": ()}, 8, "input 'x': expected 2 dimensions"),
        ({"x": (4, 2, 3), "n": (4,)}, 1, "input 'x': expected 2 dimensions"),
    ],
)
def test_rows_that_do_not_fit_are_refused(shapes: dict[str, tuple[int, ...]], most: int, why: str) -> None:
    with pytest.raises(InvalidRequest, match=why):
        lay_out({"x": ROW, "n": OTHER}, shapes, most)


def test_layouts_that_are_remembered_are_those_of_the_shapes_and_refuse_what_was_refused() -> None:
    specs = {"x": TensorSpec("x", "uint8", ("n",), {"n": 100}), "y": TensorSpec("y", "float32", (2,))}
    layouts = Layouts(specs, 4)
    for shapes in ({"x": (5,), "y": (2,)}, {"x": (100,), "y": (2,)}, {"y": (2,), "x": (5,)}, {"x": (3, 5), "y": (3, 2)}):
        assert layouts.of(shapes) == layouts.of(shapes) == lay_out(specs, shapes, 4)
        assert layouts.of(shapes) is layouts.of(dict(shapes))
    # Numbers of other types may equal what was known.
    for extent in (5.0, "5", -5):
        with pytest.raises(InvalidRequest, match="x"):
            layouts.of({"x": (extent,), "y": (2,)})
    assert layouts.of({"x": [np.int64(5)], "y": (2,)}) == lay_out(specs, {"x": (5,), "y": (2,)}, 4)
    with pytest.raises(InvalidRequest, match="expected the inputs x, y; found x"):
        layouts.of({"x": (5,)})


def test_ever_new_shapes_fill_no_memory() -> None:
    layouts = Layouts({"x": TensorSpec("x", "uint8", ("n",), {"n": 100_000})}, 1)
    for extent in range(3000):
        layouts.of({"x": (extent,)})
    assert len(layouts._known) <= 1024
