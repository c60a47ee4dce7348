from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.copies import GAPS, INPUT, OUTPUT, PADDED
from stages.errors import BadInput, BadOption, ModelError, SpecMismatch
from stages.infer import Infer
from stages.stage import Batch, StageContext
from stages.testing import MemoryBatch, run


def ready(model: Path, max_batch: int = 4, **options: Any) -> Infer:
    stage = Infer(model.name, base_dir=model.parent, **options)
    stage.setup(StageContext(max_batch=max_batch))
    return stage


def numbers(*shape: int) -> np.ndarray:
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


def test_a_batch_goes_through_the_model_without_a_copy(tiny_models: Path) -> None:
    x = numbers(4, 3)
    done = run(ready(tiny_models / "double.onnx"), x=x)
    for row in range(4):
        assert (done.result(row, "y") == 2 * x[row]).all()
    assert done.bytes_copied == 0


def test_outputs_of_a_free_shape_are_as_large_as_the_model_makes_them(tiny_models: Path) -> None:
    stage = ready(tiny_models / "double_any_length.onnx", max={"length": 9})
    done = run(stage, x=numbers(2, 5))
    assert done.result(1, "y").tolist() == [10, 12, 14, 16, 18]
    assert done.result(1, "total") == 70


def test_rows_of_different_shapes_are_not_one_batch(tiny_models: Path) -> None:
    stage = ready(tiny_models / "double_any_length.onnx", max={"length": 9})
    with pytest.raises(BadInput, match="rows of different shapes"):
        run(stage, x=[numbers(5), numbers(4)])


def test_tensors_take_the_names_of_the_graph(tiny_models: Path) -> None:
    stage = ready(tiny_models / "add.onnx", inputs={"image": "a"}, outputs={"scores": "sum"})
    assert [spec.name for spec in stage.inputs] == ["image", "b"]
    done = run(stage, image=numbers(1, 4), b=np.int64([[1, 1, 1, 1]]))
    assert done.result(0, "scores").tolist() == [1, 2, 3, 4]


def test_a_name_that_the_model_has_not_is_refused(tiny_models: Path) -> None:
    with pytest.raises(BadOption, match="inputs: the model has no 'c'; it has a, b"):
        Infer("add.onnx", inputs={"image": "c"}, base_dir=tiny_models)


def test_setup_warms_up_one_row_and_a_full_batch(tiny_models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[Any] = []
    monkeypatch.setattr("stages.engines.engine.Engine.warm_up", lambda self, given, extents: sizes.append(list(given)))
    ready(tiny_models / "double.onnx", max_batch=8)
    ready(tiny_models / "double.onnx", max_batch=1)
    assert sizes == [[1, 8], [1]]


def test_rows_that_lie_apart_are_gathered_and_scattered(tiny_models: Path) -> None:
    stage = ready(tiny_models / "double.onnx")
    x, y = numbers(2, 8), np.zeros((2, 8), np.float32)
    batch = Batch(
        2,
        {"x": [row[:3] for row in x]},
        {s.name: s for s in stage.outputs},
        lambda row, name, shape: y[row, :3],
        lambda row, name, shapes: [],
    )
    batch.finish(stage.process(batch))  # type: ignore[func-returns-value]
    assert (y[:, :3] == 2 * x[:, :3]).all()
    assert (y[:, 3:] == 0).all()
    assert batch.bytes_copied == 2 * 2 * 3 * 4


def test_a_batch_that_is_filled_up_to_the_models_size_is_copied_as_far_as_it_is_short(tiny_models: Path) -> None:
    stage = ready(tiny_models / "double_in_twos.onnx")
    assert run(stage, x=numbers(4, 3)).copies.keys() <= {(OUTPUT, "y", GAPS)}
    x = numbers(3, 3)
    done = run(stage, x=x)
    assert (done.result(2, "y") == 2 * x[2]).all()
    assert done.copies[INPUT, "x", PADDED] == done.copies[OUTPUT, "y", PADDED] == 3 * 4


def test_constructing_is_enough_for_the_specs_and_teardown_closes(tiny_models: Path) -> None:
    stage = Infer("double.onnx", base_dir=tiny_models)
    assert str(stage.inputs[0]) == "x float32[3]"
    stage.setup(StageContext())
    stage.teardown()


def test_a_model_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no file .*resnet50\.onnx, and no 'resnet50\.onnx' in the model catalogue"):
        Infer("resnet50.onnx", base_dir=tmp_path)


def apart(stage: Infer, **inputs: Any) -> MemoryBatch:
    """A batch of one row, which lies in the caller's memory from its first byte to its last."""
    return run(stage, **{name: [value] for name, value in inputs.items()})


def test_an_output_whose_dimensions_have_the_inputs_names_is_never_copied(tiny_models: Path) -> None:
    stage = ready(tiny_models / "double_any_length.onnx", max={"length": 9})
    done = apart(stage, x=numbers(5))
    assert done.result(0, "y").tolist() == [0, 2, 4, 6, 8]
    assert done.bytes_copied == 0


def test_an_output_of_unknown_shape_is_copied_once_for_each_shape(tiny_models: Path) -> None:
    stage = ready(tiny_models / "double_unnamed.onnx", max={"x.0": 9, "y.0": 9})
    for length, copied in ((5, 20), (5, 0), (7, 28), (5, 0), (9, 0)):  # the largest was run in setup
        done = apart(stage, x=numbers(length))
        assert done.result(0, "y").tolist() == (2 * numbers(length)).tolist()
        assert done.bytes_copied == copied, length


def test_what_is_warmed_up_is_not_copied_the_first_time(tiny_models: Path) -> None:
    stage = ready(tiny_models / "double_unnamed.onnx", max={"x.0": 9, "y.0": 9}, warm_up=[{"x.0": 5}])
    assert apart(stage, x=numbers(5)).bytes_copied == 0
    assert apart(stage, x=numbers(6)).bytes_copied == 24


def test_a_file_without_names_for_its_dimensions_gets_some(tiny_models: Path) -> None:
    shapes = {"x": ["length"], "y": ["length"]}
    stage = ready(tiny_models / "double_unnamed.onnx", shapes=shapes, max={"length": 9})
    assert [str(spec) for spec in (*stage.inputs, *stage.outputs)] == ["x float32[length<=9]", "y float32[length<=9]"]
    assert apart(stage, x=numbers(5)).bytes_copied == 0


def test_a_dimension_that_is_said_to_be_a_number_is_one(tiny_models: Path) -> None:
    stage = ready(tiny_models / "double_unnamed.onnx", shapes={"x": [5], "y": [5]})
    assert apart(stage, x=numbers(5)).result(0, "y").tolist() == [0, 2, 4, 6, 8]
    assert stage.outputs[0].is_static


def test_an_output_may_be_a_part_of_the_inputs_length(tiny_models: Path) -> None:
    stage = ready(tiny_models / "every_second.onnx", shapes={"x": ["W"], "y": ["W/2"]}, max={"W": 9})
    assert stage.outputs[0].max == {"W/2": 5}
    done = apart(stage, x=numbers(8))
    assert done.result(0, "y").tolist() == [0, 2, 4, 6]
    assert done.bytes_copied == 0
    # How a model rounds is its own affair: that is seen when it has run.
    for copied in (16, 0):
        done = apart(stage, x=numbers(7))
        assert done.result(0, "y").tolist() == [0, 2, 4, 6]
        assert done.bytes_copied == copied


def test_an_output_whose_shape_follows_from_the_values_is_right_all_the_same(tiny_models: Path) -> None:
    stage = ready(tiny_models / "as_many_as_not_zero.onnx", max={"found": 9})
    for x in ([0, 5, 0], [0, 5, 7], [1, 5, 7], [0, 5, 7], [0, 0, 7]):
        done = apart(stage, x=np.float32(x))
        assert done.result(0, "y").tolist() == [max(x)] * np.count_nonzero(x)


def test_a_shape_that_turns_out_otherwise_takes_back_the_memory_that_was_asked_for(tiny_models: Path) -> None:
    # Two rows: with few columns they lie apart, and go through scratch memory that must not be written back later.
    stage = ready(tiny_models / "as_many_as_not_zero.onnx", max={"found": 16})
    for x in ([[0, 5, 0], [0, 1, 0]], [[3, 5, 7], [1, 1, 1]]):
        done = run(stage, x=np.float32(x))
        for row in range(2):
            assert done.result(row, "y").tolist() == [max(x[row])] * np.count_nonzero(x)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shapes": {"z": ["W"]}}, "shapes names 'z', which is not a tensor of the model; it has: x, y"),
        ({"shapes": {"x": ["W", 3]}}, r"shapes says \['W', 3\] for x, expected one of \['free'\]"),
    ],
)
def test_shapes_that_the_model_cannot_have_are_refused(tiny_models: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        Infer("double_unnamed.onnx", base_dir=tiny_models, max={"W": 4}, **options)


def test_a_number_of_the_file_cannot_be_said_away(tiny_models: Path) -> None:
    with pytest.raises(ModelError, match=r"shapes says \[4\] for x, expected one of \[3\]"):
        Infer("double.onnx", base_dir=tiny_models, shapes={"x": [4]})


def test_rows_are_padded_to_multiples_and_that_copy_is_counted(tiny_models: Path) -> None:
    stage = ready(tiny_models / "double_any_length.onnx", max={"length": 9}, pad={"length": 4})
    assert stage.pad == {"length": 4}
    done = run(stage, x=[numbers(5), numbers(7), numbers(8)])
    assert done.result(0, "y").tolist() == [0, 2, 4, 6, 8, 0, 0, 0]
    assert done.result(1, "y").tolist() == [0, 2, 4, 6, 8, 10, 12, 0]
    assert done.result(2, "total") == 56
    assert done.copies["input", "x", PADDED] == 3 * 8 * 4


def test_padding_ends_at_the_maximum_and_a_fitting_row_is_not_copied(tiny_models: Path) -> None:
    stage = ready(tiny_models / "double_any_length.onnx", max={"length": 9}, pad={"length": 8})
    assert apart(stage, x=numbers(9)).result(0, "y").shape == (9,)
    assert apart(stage, x=numbers(8)).bytes_copied == 0


def test_rows_whose_padded_shapes_differ_are_not_one_batch(tiny_models: Path) -> None:
    stage = ready(tiny_models / "double_any_length.onnx", max={"length": 9}, pad={"length": 4})
    with pytest.raises(BadInput, match="rows of different shapes"):
        run(stage, x=[numbers(3), numbers(5)])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pad": {"W": 4}}, r"pad: the model's inputs have no free dimension 'W'; they have \['length'\]"),
        ({"pad": {"length": 0}}, "pad: length 0: expected at least 1"),
        ({"warm_up": [{"length": 10}]}, "warm_up: length 10: expected at least 1, at most 9"),
    ],
)
def test_extents_of_no_dimension_or_beyond_it_are_refused(
    tiny_models: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(BadOption, match=message):
        Infer("double_any_length.onnx", base_dir=tiny_models, max={"length": 9}, **options)


def test_a_model_of_the_catalogue_brings_names_for_its_dimensions(pulled: Callable[[str], Path]) -> None:
    pulled("ppocr-v4-rec")
    stage = Infer("ppocr-v4-rec", max={"W": 330}, inputs={"crop": "x"})
    assert [str(spec) for spec in (*stage.inputs, *stage.outputs)] == [
        "crop float32[3, 48, W<=330]",
        "softmax_11.tmp_0 float32[W/8<=42, 6625]",
    ]


# -- outputs that are no row a request -------------------------------------------------------------


def test_a_dimension_that_max_names_makes_an_output_whole(tiny_models: Path) -> None:
    stage = ready(tiny_models / "detect.onnx", max_batch=1, max={"num_dets": 4})
    assert str(stage.outputs[0]) == "found float32[num_dets<=4, 2]"
    assert stage.max_batch == 1
    assert stage.notes == (
        "detect.onnx: output found: no row for each request of a batch, so batches are of one and all of it is the "
        "answer",
    )
    assert stage._engine.known_shapes({"x": [numbers(4)]}) == {}
    for x, places in (([0, 1, 0, 1], [[0, 1], [0, 3]]), ([0, 0, 0, 0], []), ([1, 1, 1, 1], [[0, n] for n in range(4)])):
        found = apart(stage, x=np.float32(x)).result(0, "found")
        assert found.shape == (len(places), 2)
        assert found.tolist() == places


def test_a_whole_output_larger_than_its_maximum_is_not_the_requests_fault(tiny_models: Path) -> None:
    stage = ready(tiny_models / "detect.onnx", max_batch=1, max={"num_dets": 2})
    with pytest.raises(SpecMismatch, match=r"output 'found': expected at most 2 for 'num_dets' .*, found 3"):
        apart(stage, x=np.float32([1, 1, 1, 0]))


def test_shapes_of_as_many_extents_as_axes_make_an_output_whole(tiny_models: Path) -> None:
    stage = ready(tiny_models / "detect_in_ones.onnx", max_batch=1, shapes={"found": ["n", 2]}, max={"n": 4})
    assert apart(stage, x=np.float32([0, 0, 1, 1])).result(0, "found").tolist() == [[0, 2], [0, 3]]


def test_a_whole_output_is_refused_in_batches_of_several(tiny_models: Path) -> None:
    with pytest.raises(ModelError, match=r"output found: no row for each request .*; found batches of up to 2"):
        ready(tiny_models / "detect.onnx", max_batch=2, max={"num_dets": 4})
    stage = ready(tiny_models / "detect.onnx", max_batch=1, max={"num_dets": 4})
    with pytest.raises(ModelError, match="found a batch of 2"):
        run(stage, x=np.float32([[0, 1, 0, 0], [1, 0, 0, 1]]))


def test_a_loss_and_constants_are_whole_beside_rows(tiny_models: Path) -> None:
    stage = ready(tiny_models / "double_with_loss.onnx", max_batch=1)
    done = apart(stage, x=numbers(3))
    assert done.result(0, "y").tolist() == [0, 2, 4]
    assert done.result(0, "loss") == 1
    stage = ready(tiny_models / "with_anchors.onnx", max_batch=1)
    assert [str(spec) for spec in stage.outputs] == ["y float32[3]", "places float32[5, 2]"]
    done = apart(stage, x=numbers(3))
    assert done.result(0, "places").tolist() == [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]]


def test_one_row_for_a_whole_batch_is_for_batches_of_one(tiny_models: Path) -> None:
    stage = ready(tiny_models / "sum_of_batch.onnx", max_batch=1)
    assert apart(stage, x=numbers(3)).result(0, "y").tolist() == [0, 1, 2]
    with pytest.raises(ModelError, match="one row for a whole batch, so batches are of one"):
        ready(tiny_models / "sum_of_batch.onnx", max_batch=2)


def test_what_is_left_out_is_not_computed_and_need_not_be_a_tensor(tiny_models: Path) -> None:
    with pytest.raises(ModelError, match=r"output text is a tensor\(string\), .*; leave it out: leave_out: \[text\]"):
        Infer("double_with_text.onnx", base_dir=tiny_models)
    stage = ready(tiny_models / "double_with_text.onnx", leave_out=["text"])
    assert [spec.name for spec in stage.outputs] == ["y"]
    assert run(stage, x=numbers(2, 3)).result(1, "y").tolist() == [6, 8, 10]
    stage = ready(tiny_models / "double_with_loss.onnx", leave_out=["loss"])
    assert stage.max_batch is None
    assert run(stage, x=numbers(2, 3)).result(1, "y").tolist() == [6, 8, 10]


@pytest.mark.parametrize(
    ("leave_out", "error", "message"),
    [
        (["z"], ModelError, "leave_out names 'z', which is not an output of the model; it has: y, loss"),
        (["y", "loss"], ModelError, "leave_out leaves no output of the model"),
        ("loss", BadOption, r"expected a list, such as \[loss\]"),
    ],
)
def test_what_cannot_be_left_out_is_refused(
    tiny_models: Path, leave_out: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        Infer("double_with_loss.onnx", base_dir=tiny_models, leave_out=leave_out)


def test_a_tensor_has_one_name_in_the_graph(tiny_models: Path) -> None:
    with pytest.raises(BadOption, match="outputs: 'y' is given two names; it can have one"):
        Infer("double.onnx", base_dir=tiny_models, outputs={"one": "y", "two": "y"})


def test_a_data_dependent_number_of_rows_is_no_bad_input(tiny_models: Path) -> None:
    stage = ready(tiny_models / "drop_from_five.onnx")
    with pytest.raises(ModelError, match=r"output 'y' has the shape \[1, 3\] for a batch of 2"):
        run(stage, x=np.float32([[1, 2, 3], [9, 9, 9]]))
