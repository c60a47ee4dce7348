from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stages.errors import BadOption, SpecMismatch
from stages.function import FunctionStage
from stages.testing import run

X = {"name": "x", "dtype": "float32", "shape": ["n"], "max": {"n": 4}}
Y = {"name": "y", "dtype": "float32", "shape": ["n"], "max": {"n": 4}}
NOTE = {"name": "note", "dtype": "json", "shape": ["bytes"], "max": {"bytes": 64}}


def scale(x: Any, times: float = 2.0) -> Any:
    return x * times


def split(x: Any, note: Any) -> Any:
    return {"y": x + note["add"], "note": {"sum": float(x.sum())}}


def glue(x: Any) -> None:
    """Forgets its return."""


def test_a_function_is_called_for_each_request_with_its_options() -> None:
    done = run(FunctionStage(scale, [X], [Y], times=3.0), x=[np.float32([1, 2]), np.float32([3])])
    assert done.result(0, "y").tolist() == [3, 6]
    assert done.result(1, "y").tolist() == [9]


def test_several_outputs_are_returned_by_name_and_json_is_a_value() -> None:
    done = run(FunctionStage(split, [X, NOTE], [Y, NOTE]), x=[np.float32([1, 2])], note=[{"add": 10}])
    assert done.result(0, "y").tolist() == [11, 12]
    assert done.result(0, "note") == {"sum": 3.0}


def test_what_the_function_returns_must_fit_the_spec() -> None:
    with pytest.raises(SpecMismatch, match="output 'y': expected at most 4 for 'n'"):
        run(FunctionStage(lambda x: np.zeros(5, np.float32), [X], [Y]), x=[np.float32([1])])


def test_a_mapping_of_a_function_with_one_output_is_told_that_the_value_alone_is_expected() -> None:
    with pytest.raises(SpecMismatch, match=r"<lambda> returned a mapping with y; expected y float32.*its value alone"):
        run(FunctionStage(lambda x: {"y": x}, [X], [Y]), x=[np.float32([1])])
    # A mapping is a value of JSON.
    assert run(FunctionStage(lambda x: {"n": len(x)}, [X], [NOTE]), x=[np.float32([1])]).result(0, "note") == {"n": 1}


def test_a_function_that_returns_nothing_is_told_that_a_return_is_missing() -> None:
    with pytest.raises(SpecMismatch, match=r"glue returned None; expected .*y.*: is a `return` missing\?"):
        run(FunctionStage(glue, [X], [Y]), x=[np.float32([1])])
    with pytest.raises(SpecMismatch, match=r"glue returned None; expected .*y.*note"):
        run(FunctionStage(glue, [X], [Y, NOTE]), x=[np.float32([1])])
    # None is a value of JSON, and all there is to return where there is no output.
    assert run(FunctionStage(glue, [X], [NOTE]), x=[np.float32([1])]).result(0, "note") is None
    run(FunctionStage(glue, [X], []), x=[np.float32([1])])


@pytest.mark.parametrize(
    ("specs", "why"),
    [
        ([{"name": "x"}], "expected {name: ..., dtype: ..., shape: .*, which has no dtype$"),
        ([{"name": "x", "dtype": "float32", "shape": 3}], "expected {name: ..., .*, whose shape is no list$"),
        ([{**X, "max": 4}], "expected {name: ..., .*, whose max is no mapping, such as {n: 8}$"),
        (["x"], r"expected {name: ..., .*, found 'x'; a list of specs is \[{name: x, dtype: float32, shape: .*}\]$"),
        (X, r"expected a list of tensor specs, such as \[{name: x, dtype: float32, shape: .*}\], found {'name'"),
        (3, "expected a list of tensor specs, .*, found 3$"),
        ([{"name": "x", "dtype": "float32", "shpe": [3]}], r"x: unknown field 'shpe' \(did you mean shape\?\)$"),
    ],
)
def test_specs_that_are_none_are_refused_with_the_form_of_them_and_without_pythons_words(specs: Any, why: str) -> None:
    with pytest.raises(BadOption, match=f"^option 'inputs': {why}"):
        FunctionStage(scale, specs, [Y])


def test_a_spec_that_contradicts_itself_is_told_with_the_option_that_has_it() -> None:
    with pytest.raises(SpecMismatch, match=r"^option 'outputs': tensor 'y': dtype 'float33' cannot lie in shared memory"):
        FunctionStage(scale, [X], [{**Y, "dtype": "float33"}])


def test_a_function_that_takes_other_arguments_is_refused_before_anything_runs() -> None:
    with pytest.raises(BadOption, match=r"^unknown option 'tims' of scale\(x: .* \(did you mean times\?\)$"):
        FunctionStage(scale, [X], [Y], tims=1)
    with pytest.raises(BadOption, match=r"^option 'inputs': split.* cannot be called so: missing a required .*: 'note'"):
        FunctionStage(split, [X], [Y])
    with pytest.raises(BadOption, match=r"^option 'x': an input or the outputs of scale.* by this name already"):
        FunctionStage(scale, [X], [Y], x=1)


def test_what_is_returned_under_a_name_of_no_output_is_refused_and_not_lost() -> None:
    with pytest.raises(SpecMismatch, match=r"no output 'nte'; this stage has \['note', 'y'\]"):
        run(FunctionStage(lambda x: {"y": x, "note": {}, "nte": {}}, [X], [Y, NOTE]), x=[np.float32([1])])
