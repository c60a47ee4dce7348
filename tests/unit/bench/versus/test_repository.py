"""Models of Triton as text."""

from __future__ import annotations

from pathlib import Path

from bench.versus.relays import ENSEMBLE
from bench.versus.repository import Model, Step, Tensor, config_of, write

IN, OUT = (Tensor("IN", "UINT8"),), (Tensor("OUT", "FP32", (2, -1)),)


def test_a_python_model_has_one_instance_on_the_cpu_and_what_else_it_says() -> None:
    model = Model("m", IN, OUT, Path("x.py"), max_batch_size=4, more="dynamic_batching { }")
    assert config_of(model).splitlines() == [
        'name: "m"',
        "max_batch_size: 4",
        'input { name: "IN" data_type: TYPE_UINT8 dims: [ -1 ] }',
        'output { name: "OUT" data_type: TYPE_FP32 dims: [ 2, -1 ] }',
        'backend: "python"',
        "instance_group { kind: KIND_CPU count: 1 }",
        "dynamic_batching { }",
    ]


def test_an_ensemble_names_its_steps_and_what_goes_where() -> None:
    text = config_of(Model("e", IN, OUT, steps=(Step("a", {"X": "IN"}, {"Y": "OUT"}),)))
    assert 'platform: "ensemble"' in text
    assert (
        '  step { model_name: "a" model_version: -1 input_map { key: "X" value: "IN" } '
        'output_map { key: "Y" value: "OUT" } }'
    ) in text
    assert "backend" not in text


def test_a_model_is_written_where_triton_looks_for_it(tmp_path: Path) -> None:
    assert write(tmp_path, ENSEMBLE) == tmp_path
    assert (tmp_path / "c/1/model.py").read_text().startswith('"""A Python model of Triton')
    # An ensemble has a folder for its version, and nothing in it.
    assert list((tmp_path / "relay/1").iterdir()) == []
    assert (tmp_path / "relay/config.pbtxt").read_text() == config_of(ENSEMBLE[-1])
