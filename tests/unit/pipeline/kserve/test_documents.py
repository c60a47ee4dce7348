from __future__ import annotations

import dataclasses

import pytest

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
from pipeline.kserve.messages import document, filled
from pipeline.kserve.model import Model
from pipeline.wire.interface import Axis, Interface, Tensor
from tests.unit.pipeline.kserve.examples import SIMPLE

BATCHED = Model(SIMPLE, max_batch_size=8)


def test_metadata_of_a_model_is_what_triton_says_of_it() -> None:
    sixteen = [-1, 16]
    assert model_metadata(BATCHED) == {
        "name": "simple",
        "versions": ["1"],
        "platform": "trtlab",
        "inputs": [{"name": name, "datatype": "INT32", "shape": sixteen} for name in ("INPUT0", "INPUT1")],
        "outputs": [{"name": name, "datatype": "INT32", "shape": sixteen} for name in ("OUTPUT0", "OUTPUT1")],
    }
    assert model_metadata(Model(SIMPLE))["inputs"][0]["shape"] == [16]
    assert model_metadata(BATCHED, ["1", "2"])["versions"] == ["1", "2"]


def test_a_configs_dims_have_no_batch_axis() -> None:
    config = model_config(BATCHED)
    assert (config["max_batch_size"], config["input"][1]["dims"], config["output"][0]["dims"]) == (8, [16], [16])
    assert config["input"][0]["data_type"] == "TYPE_INT32"
    assert config["dynamic_batching"] == {}
    assert config["version_policy"] == {"specific": {"versions": [1]}}
    alone = model_config(Model(of_version_beta(), decoupled=True))
    assert (alone["max_batch_size"], alone["model_transaction_policy"]) == (0, {"decoupled": True})
    assert not {"dynamic_batching", "version_policy"} & set(alone)


def of_version_beta() -> Interface:
    return Interface("m", "beta", SIMPLE.inputs, SIMPLE.outputs, ())


def test_the_extensions_say_what_is_open() -> None:
    closed, opened = (server_metadata("trtlab", "1", shared_memory=each)["extensions"] for each in (False, True))
    assert set(opened) - set(closed) == {"system_shared_memory"}
    assert {"statistics", "binary_tensor_data", "model_configuration"} <= set(closed)


def test_the_index_has_what_is_known_of_each_model() -> None:
    entries = [IndexEntry("a", "1", "READY"), IndexEntry("b"), IndexEntry("c", "2", "UNAVAILABLE", "unloaded")]
    assert repository_index(entries) == [
        {"name": "a", "version": "1", "state": "READY"},
        {"name": "b"},
        {"name": "c", "version": "2", "state": "UNAVAILABLE", "reason": "unloaded"},
    ]
    assert repository_index(entries, ready=True) == [{"name": "a", "version": "1", "state": "READY"}]


COUNTS = ModelCounts(
    "m", "1", 1795916264066, 80, 25, Total(70, 5), Total(2, 6), Total(72, 7), 1, 2, 3, (BatchCounts(4, 20, 1, 2, 3),)
)


def test_the_counts_of_computing_are_equal_and_the_caches_are_there_since_perf_analyzer_needs_them() -> None:
    (model,) = statistics([COUNTS])["model_stats"]
    stats = model["inference_stats"]
    assert [stats[f"compute_{part}"] for part in ("input", "infer", "output")] == [
        {"count": 70, "ns": ns} for ns in (1, 2, 3)
    ]
    assert stats["cache_hit"] == stats["cache_miss"] == {"count": 0, "ns": 0}
    assert (stats["success"], stats["fail"], stats["queue"]) == ({"count": 70, "ns": 5}, {"count": 2, "ns": 6}, {"count": 72, "ns": 7})
    assert model["batch_stats"][0]["compute_infer"] == {"count": 20, "ns": 2}
    assert (model["inference_count"], model["execution_count"], model["last_inference"]) == (80, 25, 1795916264066)


SERVED = Model(
    Interface("m", "1", (Tensor("a", "bfloat16", (Axis("n", 4),)), Tensor("b", "json", (Axis("bytes", 9),))), (), ()), 4
)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("ServerMetadataResponse", server_metadata("trtlab", "1", True)),
        ("ModelMetadataResponse", model_metadata(BATCHED)),
        ("ModelMetadataResponse", model_metadata(SERVED)),
        ("ModelConfigResponse", {"config": model_config(BATCHED)}),
        ("ModelConfigResponse", {"config": model_config(SERVED)}),
        ("ModelConfigResponse", {"config": model_config(dataclasses.replace(SERVED, max_batch_size=0, decoupled=True))}),
        ("RepositoryIndexResponse", {"models": repository_index([IndexEntry("a", "1", "READY"), IndexEntry("b")])}),
        ("ModelStatisticsResponse", statistics([COUNTS])),
    ],
)
def test_every_document_is_a_message_too(name: str, values: dict[str, object]) -> None:
    sent = filled(name, values)
    assert document(type(sent).FromString(sent.SerializeToString())) == document(sent)
