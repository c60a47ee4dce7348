"""The schemas of bodies: the front's own documents fit them, and so does what each model's example sends."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from jsonschema import Draft202012Validator

from pipeline.errors import KserveError
from pipeline.kserve.admission import admit
from pipeline.kserve.documents import (
    BatchCounts,
    IndexEntry,
    ModelCounts,
    Total,
    model_config,
    model_metadata,
    repository_index,
    server_metadata,
    statistics,
)
from pipeline.kserve.http_request import decode
from pipeline.kserve.model import Model
from pipeline.kserve.settings import LOG_SETTINGS, TRACE_SETTINGS, RegionEntry, region_list
from pipeline.kserve.statuses import error_body
from pipeline.serving.openapi_schemas import SCHEMAS, example_of, model_request
from pipeline.wire.interface import Axis, Interface, Tensor
from tests.unit.pipeline.serving.test_openapi import MODELS

COUNTS = ModelCounts("m", "1", 5, 3, 2, Total(2, 9), Total(1, 3), Total(2, 4), 1, 2, 3, (BatchCounts(2, 1, 0, 5, 0),))
PAIRS = MODELS[1]


def misfits(schema: dict[str, Any], document: Any) -> list[str]:
    whole = {**schema, "components": {"schemas": SCHEMAS}}
    return [error.message for error in Draft202012Validator(whole).iter_errors(document)]


@pytest.mark.parametrize(
    ("name", "documents"),
    [
        ("Error", [msgspec.json.decode(error_body(KserveError("no")))]),
        ("Server", [server_metadata("trtlab", "1", True)]),
        ("Model", [model_metadata(each) for each in MODELS]),
        ("ModelConfig", [model_config(each) for each in MODELS]),
        ("Statistics", [statistics([COUNTS]), statistics([])]),
        ("Index", [repository_index([IndexEntry("m", "1", "READY"), IndexEntry("n"), IndexEntry("o", "1", "UNAVAILABLE", "x")])]),
        ("Regions", [region_list([RegionEntry("r", "/k", 0, 4)])]),
        ("TraceSettings", [dict(TRACE_SETTINGS)]),
        ("LogSettings", [dict(LOG_SETTINGS)]),
    ],
)
def test_what_the_front_answers_fits_its_schema(name: str, documents: list[Any]) -> None:
    for document in documents:
        assert misfits(SCHEMAS[name], document) == []
    # A schema that takes anything says nothing.
    assert misfits(SCHEMAS[name], 3) != []


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_the_example_of_a_model_fits_its_schema_and_the_model(model: Model) -> None:
    example = example_of(model)
    assert misfits(model_request(model), example) == []
    sizes = [each.get("parameters", {}).get("binary_data_size", 0) for each in example["inputs"]]
    text = msgspec.json.encode(example)
    request = decode(model.name, "", text + bytes(sum(sizes)), str(len(text)) if sum(sizes) else None)
    assert admit(request, model, streams=True).rows == 1


@pytest.mark.parametrize(
    "change",
    [
        {"name": "c"},
        {"datatype": "FP64"},
        {"shape": [1, 6, 3]},
        {"shape": [5, 1, 3]},
        {"shape": [1, 1, 4]},
        {"shape": [1, 3]},
        {"shape": [0, 1, 3]},
    ],
)
def test_a_request_of_another_name_datatype_or_shape_does_not_fit_a_model(change: dict[str, Any]) -> None:
    example = example_of(PAIRS)
    assert misfits(model_request(PAIRS), example) == []
    example["inputs"][0] = {**example["inputs"][0], **change}
    assert misfits(model_request(PAIRS), example) != []


def test_an_input_too_many_or_too_few_does_not_fit_a_model() -> None:
    example = example_of(PAIRS)
    first = example["inputs"][0]
    for inputs in ([first], [*example["inputs"], first], []):
        assert misfits(model_request(PAIRS), {"inputs": inputs}) != []


def test_large_inputs_and_those_that_json_does_not_carry_go_behind_the_json() -> None:
    large = Model(Interface("m", "1", (Tensor("x", "float32", (Axis("", 65),)),), (), ("s",)))
    for model in (large, MODELS[3]):
        (tensor,) = example_of(model)["inputs"]
        assert "data" not in tensor
        assert tensor["parameters"]["binary_data_size"] in (260, 4)
