from __future__ import annotations

from typing import Any

import pytest

from pipeline.errors import KserveError
from pipeline.serving.calls import Calls
from pipeline.serving.catalogue import Catalogue
from pipeline.serving.endpoints import ENDPOINTS, Endpoint
from pipeline.serving.front import Front
from pipeline.serving.inference import Inference
from pipeline.serving.journal import Journal
from pipeline.serving.regions import Regions
from pipeline.serving.settings import Settings


class Some(Front):
    NAME = "some"


def front(**settings: Any) -> tuple[Some, Inference]:
    chosen, catalogue, regions, journal = Settings(**settings), Catalogue(1), Regions(()), Journal()
    inference = Inference(catalogue, regions)
    return Some(chosen, catalogue, Calls(chosen, catalogue, regions, None, journal), inference, journal), inference


def row(name: str) -> Endpoint:
    return next(each for each in ENDPOINTS if each.name == name)


@pytest.mark.parametrize(
    ("name", "key", "value"), [("load", "control", True), ("region_register", "shared_memory", ("/x",))]
)
def test_what_changes_something_is_closed_until_its_key_opens_it(name: str, key: str, value: Any) -> None:
    with pytest.raises(KserveError, match=f"serve.{key}") as refused:
        front()[0]._check_open(row(name), "the call")
    assert refused.value.code == "PERMISSION_DENIED"
    front(**{key: value})[0]._check_open(row(name), "the call")
    front()[0]._check_open(row("infer"), "the call")


def test_every_call_is_counted_and_inference_has_its_time() -> None:
    made, inference = front()
    for name in ("infer", "stream", "index", "metrics"):
        made._over(row(name), "OK", 0)
    assert inference.traffic.requests == {"some": {"OK": 3}}
    assert sum(inference.traffic.latencies["some"].buckets) == 2


def test_limits_are_those_of_the_settings() -> None:
    assert front(max_body=7)[0]._limits.body == front(max_body=7)[0]._limits.json == 7


def test_a_fault_is_told_to_the_operator_and_not_to_the_caller(capsys: pytest.CaptureFixture[str]) -> None:
    error = front()[0]._failed("a call", ZeroDivisionError("a secret"))
    assert (error.code, "secret" in str(error)) == ("INTERNAL", False)
    assert "a secret" in capsys.readouterr().err
