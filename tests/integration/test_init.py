"""`pipeline init`: the files that it writes run as they are."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import yaml
from onnx import TensorProto, helper, numpy_helper

#: It takes minutes beside the other tests: `make test-foreign`.
pytestmark = pytest.mark.foreign

ROOT = Path(__file__).resolve().parents[2]
TINY = ROOT / "tests/data/models"
FLOAT, INT = TensorProto.FLOAT, TensorProto.INT64

Node = tuple[str, list[str], list[str], dict[str, Any]]
Tensor = tuple[str, int, list[Any]]


def save(path: Path, nodes: Sequence[Node], takes: Sequence[Tensor], gives: Sequence[Tensor], **constants: Any) -> Path:
    graph = helper.make_graph(
        [helper.make_node(kind, ins, outs, **attributes) for kind, ins, outs, attributes in nodes],
        "graph",
        [helper.make_tensor_value_info(*tensor) for tensor in takes],
        [helper.make_tensor_value_info(*tensor) for tensor in gives],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


def tokens(path: Path) -> Path:
    """Two inputs of tokens and masks; an output for each token, and one for the whole text."""
    nodes: list[Node] = [
        ("Gather", ["table", "input_ids"], ["embedded"], {}),
        ("Cast", ["attention_mask"], ["mask"], {"to": FLOAT}),
        ("Unsqueeze", ["mask", "last"], ["column"], {}),
        ("Mul", ["embedded", "column"], ["hidden"], {}),
        ("ReduceMean", ["hidden"], ["pooled"], {"axes": [1], "keepdims": 0}),
    ]
    takes: list[Tensor] = [(name, INT, ["batch", "sequence"]) for name in ("input_ids", "attention_mask")]
    gives: list[Tensor] = [("hidden", FLOAT, ["batch", "sequence", 4]), ("pooled", FLOAT, ["batch", 4])]
    return save(path, nodes, takes, gives, table=np.ones((30, 4), np.float32), last=np.array([2]))


def halved(path: Path) -> Path:
    """A picture of any size to one of a quarter of it, with the names that converters make."""
    pool = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}
    quarter = [f"floor(floor({side}/2 - 1/2)/2) + 1" for side in ("unk__2", "unk__3")]
    nodes: list[Node] = [("MaxPool", ["x:0"], ["p"], pool), ("MaxPool", ["p"], ["y:0"], pool)]
    takes: list[Tensor] = [("x:0", FLOAT, ["unk__1", 3, "unk__2", "unk__3"])]
    return save(path, nodes, takes, [("y:0", FLOAT, ["unk__1", 3, *quarter])])


def of_bytes(path: Path) -> Path:
    """A file's bytes, as they lie on disk."""
    nodes: list[Node] = [("Cast", ["data"], ["f"], {"to": FLOAT}), ("ReduceSum", ["f", "last"], ["sum"], {"keepdims": 0})]
    takes: list[Tensor] = [("data", TensorProto.UINT8, ["N", "length"])]
    return save(path, nodes, takes, [("sum", FLOAT, ["N"])], last=np.array([1]))


def follow(
    cli: Callable[..., Any], model: object, folder: Path, *options: str, tests: bool = False
) -> dict[str, Any]:
    """Make the folder and run its sample; its YAML.

    Args:
        tests: run its tests, too, of which one runs the pipeline in its own processes. They are the same for all models.
    """
    code, out, err = cli("init", model, folder, *options)
    assert (code, err) == (0, ""), err
    files = [Path(line) for line in out.partition("\n\n")[0].splitlines()]
    assert sorted(files) == sorted(folder.iterdir())
    config, sample = files[:2]
    code, out, err = cli("run", config, sample, "--in-process")
    assert (code, err) == (0, ""), err
    assert out.startswith(f"{sample}  {{")
    if tests:
        pass_tests(folder)
    document: dict[str, Any] = yaml.safe_load(config.read_text())
    return document


def pass_tests(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(folder)],
        capture_output=True, text=True, timeout=200, check=False, cwd=folder,
        # What else is installed beside pytest, such as hypothesis, takes longer to import than the tests to run.
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert "3 passed" in done.stdout


def inference(document: dict[str, Any]) -> dict[str, Any]:
    stage: dict[str, Any] = document["stages"][1]
    return stage


def test_the_models_file_is_named_relative_to_the_yaml(cli: Callable[..., Any], tmp_path: Path) -> None:
    tmp_path.joinpath("mnist.onnx").write_bytes((ROOT / "models/mnist.onnx").read_bytes())
    document = follow(cli, tmp_path / "mnist.onnx", tmp_path / "deep/folder", tests=True)
    assert inference(document)["with"] == {"model": "../../mnist.onnx"}
    assert inference(document)["batch"]["max_size"] == 4
    assert document["inputs"] == [{"name": "Input3", "dtype": "float32", "shape": [1, 28, 28]}]


def test_the_commands_that_it_names_work(cli: Callable[..., Any], tmp_path: Path) -> None:
    _, out, _ = cli("init", ROOT / "models/mnist.onnx", tmp_path / "made")
    config, sample = out.splitlines()[:2]
    code, _, err = cli("check", config)
    assert code == 0, err
    code, out, err = cli("run", config, sample)
    assert (code, err) == (0, ""), err
    assert out.startswith(f"{sample}  {{")


def test_several_tensors_and_tokens_of_any_length(cli: Callable[..., Any], tmp_path: Path) -> None:
    document = follow(cli, tokens(tmp_path / "tokens.onnx"), tmp_path / "made", "--max", "sequence=40", tests=True)
    assert [tensor["name"] for tensor in document["inputs"]] == ["input_ids", "attention_mask"]
    assert inference(document)["with"] == {"model": "../tokens.onnx", "max": {"sequence": 40}}


def test_dimensions_with_names_of_a_converter_get_others(cli: Callable[..., Any], tmp_path: Path) -> None:
    options = inference(follow(cli, halved(tmp_path / "Halved.onnx"), tmp_path / "made"))["with"]
    assert options == {
        "model": "../Halved.onnx",
        "shapes": {"x:0": [3, "H", "W"], "y:0": [3, "H/4", "W/4"]},
        "max": {"H": 640, "W": 640},
        "inputs": {"x_0": "x:0"},
        "outputs": {"y_0": "y:0"},
    }


def test_a_model_of_bytes_runs_a_file_as_it_lies_on_disk(cli: Callable[..., Any], tmp_path: Path) -> None:
    follow(cli, of_bytes(tmp_path / "bytes.onnx"), tmp_path / "made", tests=True)
    assert tmp_path.joinpath("made/bytes-sample.bin").read_bytes() == b"\1" * 64


@pytest.mark.parametrize(
    ("model", "batch"), [("add", 4), ("look_up", 4), ("double_in_twos", 2), ("every_second", 4)]
)
def test_the_batch_axis_is_found(cli: Callable[..., Any], tmp_path: Path, model: str, batch: int) -> None:
    assert inference(follow(cli, TINY / f"{model}.onnx", tmp_path / "made"))["batch"]["max_size"] == batch


@pytest.mark.parametrize("model", ["open-nsfw", "ppocr-v4-rec"])
def test_a_model_of_the_catalogue_is_named(
    cli: Callable[..., Any], pulled: Callable[[str], Path], tmp_path: Path, model: str
) -> None:
    pulled(model)
    assert inference(follow(cli, model, tmp_path / "made", tests=True))["with"]["model"] == model


def test_without_a_folder_it_is_one_of_the_models_name_here(cli: Callable[..., Any], tmp_path: Path) -> None:
    code, out, _ = cli("init", TINY / "double_in_twos.onnx", cwd=tmp_path)
    assert code == 0
    assert out.splitlines()[0] == "double-in-twos/double-in-twos.yaml"


def test_existing_files_are_never_overwritten_and_nothing_is_written_beside_them(
    cli_here: Callable[..., Any], tmp_path: Path
) -> None:
    tmp_path.joinpath("add_stages.py").write_text("mine")
    code, out, err = cli_here("init", TINY / "add.onnx", tmp_path)
    assert (code, out) == (2, "")
    assert f"there is already {tmp_path}/add_stages.py" in err
    assert [path.name for path in tmp_path.iterdir()] == ["add_stages.py"]
    assert tmp_path.joinpath("add_stages.py").read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([TINY / "strings.onnx"], 3, "input 'x' is a tensor(string): engines take numbers"),
        ([TINY / "nothing.onnx"], 3, "no file"),
        (["imagenet"], 2, "a set of labels"),
        ([TINY / "add.onnx", "--max", "H=3"], 2, "--max H: no free dimension of the model; it has: none"),
        ([TINY / "add.onnx", "--max", "H"], 2, "expected NAME=N"),
        ([TINY / "add.onnx", ROOT / "README.md"], 2, "expected a folder"),
    ],
)
def test_models_that_cannot_run_are_refused_with_a_reason(
    cli_here: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[object],
    code: int,
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    ended, out, err = cli_here("init", *arguments)
    assert (ended, out) == (code, "")
    assert said in err
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def test_a_model_without_a_batch_axis_is_told_how_to_get_one(cli: Callable[..., Any], tmp_path: Path) -> None:
    model = save(tmp_path / "m.onnx", [("MatMul", ["a", "b"], ["c"], {})], [("a", FLOAT, [2, 3]), ("b", FLOAT, [3, 4])], [("c", FLOAT, [2, 4])])
    code, _, err = cli("init", model, tmp_path / "made")
    assert code == 3
    assert "found a float32[2, 3], b float32[3, 4]. Export the model with a batch axis" in err


def test_a_dimension_that_is_free_on_paper_alone_is_kept_at_its_maximum(cli: Callable[..., Any], tmp_path: Path) -> None:
    nodes: list[Node] = [("Conv", ["x", "kernel"], ["y"], {})]
    axes = ["N", "channels", "height", "width"]
    takes: list[Tensor] = [("x", FLOAT, axes)]
    model = save(tmp_path / "m.onnx", nodes, takes, [("y", FLOAT, axes)], kernel=np.ones((1, 3, 1, 1), np.float32))
    follow(cli, model, tmp_path / "made", "--max", "channels=3", "--max", "height=8", "--max", "width=4")


def test_if_ones_are_not_valid_indices_zeros_are_used(cli: Callable[..., Any], tmp_path: Path) -> None:
    nodes: list[Node] = [("Gather", ["table", "kind"], ["y"], {})]
    model = save(tmp_path / "m.onnx", nodes, [("kind", INT, ["N"])], [("y", FLOAT, ["N", 4])], table=np.ones((1, 4), np.float32))
    follow(cli, model, tmp_path / "made")


def test_extents_that_the_model_refuses_are_told_with_the_option_to_change_them(
    cli: Callable[..., Any], tmp_path: Path
) -> None:
    nodes: list[Node] = [("Reshape", ["x", "form"], ["y"], {})]
    model = save(tmp_path / "m.onnx", nodes, [("x", FLOAT, ["N", "width"])], [("y", FLOAT, ["N", "parts", 48])], form=np.array([0, -1, 48]))
    code, _, err = cli("init", model, tmp_path / "made")
    assert code == 3
    assert "does not compute a sample at width=320; say how large they may be: --max width=..." in err
    follow(cli, model, tmp_path / "made", "--max", "width=192")
