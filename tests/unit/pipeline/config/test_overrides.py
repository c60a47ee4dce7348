"""`--set`: where a name leads, what a value is, and what a wrong one is told."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pipeline.config.loader import LoadedConfig

Load = Callable[..., LoadedConfig]
Complaints = Callable[..., list[str]]

TEXT = """\
inputs: [{name: image, dtype: uint8, shape: [bytes], max: {bytes: 1MiB}}]
stages:
  - {name: preprocess, use: 'm:C', with: {size: 224}}
  - name: inference
    use: m:D
    batch: {max_size: 4, max_delay_ms: 1}
  - {name: last, use: 'm:E', inputs: [inference.y]}
"""


def test_a_field_of_a_stage_is_set(load: Load) -> None:
    config = load(TEXT, "inference.batch.max_size=16", "inference.replicas=3", "last.batch.max_size=2").config
    assert (config.stages[1].batch.max_size, config.stages[1].batch.max_delay_ms, config.stages[1].replicas) == (16, 1, 3)
    assert config.stages[2].batch.max_size == 2


def test_what_is_no_field_of_a_stage_is_an_option_of_its_class(load: Load) -> None:
    config = load(TEXT, "inference.engine=tensorrt", "inference.with.model=a.onnx", "preprocess.size=320").config
    assert config.stages[1].options == {"engine": "tensorrt", "model": "a.onnx"}
    assert config.stages[0].options == {"size": 320}


def test_options_are_made_on_the_way(load: Load) -> None:
    assert load(TEXT, "inference.limits.max.N=8").config.stages[1].options == {"limits": {"max": {"N": 8}}}


def test_a_field_of_the_config_is_set(load: Load) -> None:
    config = load(TEXT, "drain_s=1.5", "ingress.slots=4", "outputs=[last.y]", "inputs.0.max.bytes=2MiB").config
    assert (config.drain_s, config.ingress.slots, config.outputs) == (1.5, 4, ("last.y",))
    assert config.inputs[0].max == {"bytes": 2 << 20}


@pytest.mark.parametrize(
    ("text", "value"),
    [("1", 1), ("1.5", 1.5), ("true", True), ("no", "no"), ("", None), ("a=b", "a=b"), ("'1'", "1"), ("[1, {a: 2}]", [1, {"a": 2}])],
)
def test_a_value_is_yaml(load: Load, text: str, value: object) -> None:
    assert load(TEXT, f"preprocess.x={text}").config.stages[0].options["x"] == value


def test_an_empty_mapping_is_filled(load: Load) -> None:
    assert load(TEXT + "ingress:\n", "ingress.slots=4").config.ingress.slots == 4


def test_the_last_of_two_wins(load: Load) -> None:
    assert load(TEXT, "drain_s=1", "drain_s=2").config.drain_s == 2


@pytest.mark.parametrize(
    ("assignment", "complaint"),
    [
        ("drain_s", "--set drain_s: expected NAME=VALUE, such as inference.batch.max_size=16"),
        ("=4", "--set =4: expected NAME=VALUE, such as inference.batch.max_size=16"),
        ("inference..x=4", "--set inference..x=4: expected NAME=VALUE, such as inference.batch.max_size=16"),
        ("inference=4", "--set inference=4: say which field of the stage inference, such as inference.replicas"),
        ("inferense.replicas=4", "--set inferense.replicas=4: inferense is neither a stage nor a field of the config (did you mean inference?)"),
        ("segment=sysv", "--set segment=sysv: segment is neither a stage nor a field of the config (did you mean segments?)"),
        ("inputs.5.dtype=int8", "--set inputs.5.dtype=int8: expected the number of an item, 0 to 0, found 5"),
        ("inputs.image.dtype=int8", "--set inputs.image.dtype=int8: expected the number of an item, 0 to 0, found image"),
        ("preprocess.size.x=1", "--set preprocess.size.x=1: stages.0.with.size is a single value; it has no x"),
        ("preprocess.size=[1", "--set preprocess.size=[1: not YAML: while parsing a flow sequence, expected ',' or ']', but got '<stream end>'"),
        ("preprocess.size=!!python/name:os.system", "--set preprocess.size=!!python/name:os.system: the tag !!python/name:os.system is not allowed for ''; remove it"),
        ("inference.batch.max_sise=4", "--set inference.batch.max_sise=4: stages[1].batch.max_sise: unknown field (did you mean max_size?)"),
        ("inference.batch.max_size=many", "--set inference.batch.max_size=many: stages[1].batch.max_size: expected a whole number, found 'many'"),
        ("inference.batch={max_size: 0}", "--set inference.batch={max_size: 0}: stages[1].batch.max_size: expected at least 1, found 0"),
        ("inference.inputs=[x]", "--set inference.inputs=[x]: stages[1].inputs[0]: expected producer.tensor, such as ingress.image, found 'x'"),
    ],
)
def test_a_wrong_assignment_is_named(complaints: Complaints, assignment: str, complaint: str) -> None:
    assert complaints(TEXT, assignment) == [complaint]


def test_an_assignment_to_a_broken_document_leaves_the_document_to_complain(complaints: Complaints) -> None:
    assert complaints("stages: 5\ninputs: 6\n", "drain_s=1") == [
        "demo.yaml:2:9: inputs: expected a list, found 6",
        "demo.yaml:1:9: stages: expected a list, found 5",
    ]


@pytest.mark.parametrize(
    ("assignment", "complaint"),
    [
        ("run.inputs.0=x.npy", "--set run.inputs.0=x.npy: run.inputs: expected a list, found a mapping"),
        ("drain_s.x=1", "--set drain_s.x=1: drain_s: expected a number, found a mapping"),
    ],
)
def test_what_an_assignment_has_made_is_told_of_as_its_own(complaints: Complaints, assignment: str, complaint: str) -> None:
    assert complaints(TEXT, assignment) == [complaint]


def test_an_item_s_number_of_thousands_of_digits_is_refused(complaints: Complaints) -> None:
    assert "expected the number of an item, 0 to 0, found 99" in complaints(TEXT, f"inputs.{'9' * 5000}.name=x")[0]
