"""The OpenAPI document: the calls of the table and no others, valid, and true of what the front answers."""

from __future__ import annotations

from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from pipeline.kserve.model import Model
from pipeline.kserve.statuses import STATUSES
from pipeline.serving.endpoints import ENDPOINTS
from pipeline.serving.openapi import _CALLS, document
from pipeline.wire.interface import Axis, Interface, Tensor

PICTURE = Tensor("image", "uint8", (Axis("bytes", 1000),))
PAIR = (Tensor("a", "float32", (Axis("n", 5), Axis("", 3))), Tensor("b", "int32", ()))
SCORES = Tensor("scores", "float32", (Axis("", 3),))


def model(name: str, *inputs: Tensor, **fields: Any) -> Model:
    return Model(Interface(name, "1", inputs, (SCORES,), ("s",)), **fields)


MODELS = (
    model("pictures", PICTURE),
    model("pairs", *PAIR, max_batch_size=4),
    model("texts", Tensor("text", "bytes", (Axis("n", 3), Axis("bytes", 99))), Tensor("page", "json", (Axis("bytes", 9),))),
    model("halves", Tensor("x", "float16", (Axis("", 2),))),
    model("parts", PICTURE, decoupled=True),
    model("none"),
)
OWN = {f"/v2/models/{each.name}/infer" for each in MODELS if not each.decoupled}


def operations(found: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {
        (method.upper(), path): operation
        for path, item in found["paths"].items()
        for method, operation in item.items()
        if method != "parameters"
    }


@pytest.mark.parametrize(("models", "token"), [((), False), (MODELS, True)], ids=["empty", "loaded"])
def test_the_document_is_openapi(models: tuple[Model, ...], token: bool) -> None:
    assert [error.message for error in OpenAPIV31SpecValidator(document(models, "1.0", token=token)).iter_errors()] == []


def test_it_has_the_calls_of_the_table_and_no_other() -> None:
    expected = {
        (method, path) for row in ENDPOINTS if row.port == "http" for path in row.paths for method in row.http
    }
    found = operations(document(MODELS, "1.0", token=False))
    assert {key for key in found if key[1] not in OWN} == expected
    assert {key for key in found if key[1] in OWN} == {("POST", path) for path in OWN}


def test_each_call_that_is_described_is_in_the_table() -> None:
    assert set(_CALLS) == {row.name for row in ENDPOINTS if row.http and row.port == "http"}


def test_the_token_is_needed_where_the_table_says() -> None:
    found = operations(document(MODELS, "1.0", token=True))
    for row in ENDPOINTS:
        for method in row.http if row.port == "http" else ():
            for path in row.paths:
                assert found[method, path]["security"] == ([{"token": []}] if row.token else [])
                assert ("401" in found[method, path]["responses"]) == row.token
    assert all(found["POST", path]["security"] == [{"token": []}] for path in OWN)


def test_without_a_token_none_is_named() -> None:
    found = document(MODELS, "1.0", token=False)
    assert "securitySchemes" not in found["components"]
    assert not any("security" in each or "401" in each["responses"] for each in operations(found).values())


def test_what_is_closed_says_which_key_opens_it() -> None:
    found = operations(document((), "1.0", token=False))
    for row in ENDPOINTS:
        if row.opened_by:
            assert f"serve: {{{row.opened_by}: " in found["POST", row.paths[0]]["description"]


def test_every_refusal_is_of_the_table_of_statuses_and_has_the_body_of_errors() -> None:
    numbers = {str(row.http) for row in STATUSES.values()}
    for operation in operations(document(MODELS, "1.0", token=True)).values():
        for status, response in operation["responses"].items():
            if status not in ("200", "304"):
                assert status in numbers
                # Of the server below as well: no front answers an error in plain text.
                assert response["content"] == {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}


def test_nothing_is_documented_that_no_call_answers() -> None:
    found = operations(document((), "1.0", token=False))

    def has(method: str, path: str) -> set[str]:
        # Beside those of every call.
        return set(found[method, path]["responses"]) - {"403", "500", "503"}

    # A name can be unknown only where there is one.
    assert has("GET", "/v2/trace/setting") == has("GET", "/v2/logging") == {"200"}
    assert has("GET", "/v2/models/{model}/trace/setting") == {"200", "404"}
    assert has("POST", "/v2/trace/setting") == {"200", "400", "413", "501", "504"}
    assert has("POST", "/v2/models/{model}/trace/setting") == {"200", "400", "404", "413", "501", "504"}
    assert has("POST", "/v2/logging") == {"200", "400", "413", "504"}
    for kind in ("system", "cuda"):
        assert has("GET", f"/v2/{kind}sharedmemory/status") == {"200"}
        assert has("GET", f"/v2/{kind}sharedmemory/region/{{region}}/status") == {"200", "404"}
    # There may be too many regions; those of CUDA are always refused.
    assert "429" in has("POST", "/v2/systemsharedmemory/region/{region}/register")
    assert has("POST", "/v2/cudasharedmemory/region/{region}/register") == {"501"}
    # What a caller that has hung up is told is read by none.
    assert "499" not in has("POST", "/v2/models/{model}/infer")


def test_inference_takes_bytes_behind_the_json_and_says_where_they_begin() -> None:
    found = operations(document(MODELS, "1.0", token=False))
    for path in ("/v2/models/{model}/infer", "/v2/models/{model}/versions/{version}/infer", *OWN):
        operation = found["POST", path]
        assert set(operation["requestBody"]["content"]) == {"application/json", "application/octet-stream"}
        assert [each["name"] for each in operation["parameters"]] == ["Inference-Header-Content-Length"]
        assert set(operation["responses"]["200"]["content"]) == {"application/json", "application/octet-stream"}
        assert "Inference-Header-Content-Length" in operation["responses"]["200"]["headers"]


def test_a_model_that_answers_in_parts_has_no_path_of_its_own() -> None:
    assert "/v2/models/parts/infer" not in document(MODELS, "1.0", token=False)["paths"]


def test_names_become_parts_of_paths_and_of_schemas() -> None:
    found = document((model("a b/c", PICTURE),), "1.0", token=False)
    assert "/v2/models/a%20b%2Fc/infer" in found["paths"]
    assert "InferRequest.a_b_c" in found["components"]["schemas"]
