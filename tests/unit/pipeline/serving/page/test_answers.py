"""What the page's endpoints answer, called as the ASGI application that they are part of."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from pipeline.serving.calls import Calls
from pipeline.serving.catalogue import Catalogue
from pipeline.serving.http_front import HttpFront
from pipeline.serving.inference import Inference
from pipeline.serving.journal import Journal
from pipeline.serving.page.assets import HEADERS, assets
from pipeline.serving.regions import Regions
from pipeline.serving.settings import Settings

HTML = "text/html,*/*;q=0.8"


def get(path: str, token: str = "", method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body."""
    settings, catalogue, regions, journal = Settings(token=token), Catalogue(1), Regions(()), Journal()
    calls = Calls(settings, catalogue, regions, None, journal)
    app = HttpFront(settings, catalogue, calls, Inference(catalogue, regions), journal).app
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    names = {"host": "localhost", **headers}
    scope = {
        "type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": b"",
        "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in names.items()],
        "server": ("localhost", 80), "scheme": "http", "http_version": "1.1", "root_path": "",
    }  # fmt: skip
    asyncio.run(app(scope, receive, send))
    found = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], found, b"".join([message.get("body", b"") for message in sent[1:]])


def test_a_browser_gets_the_page_and_another_caller_where_things_are() -> None:
    status, headers, body = get("/", accept=HTML)
    assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert body == assets()["index.html"].content
    status, headers, body = get("/", accept="*/*")
    assert (status, headers["content-type"]) == (200, "application/json")
    assert json.loads(body)["openapi"] == "/openapi.json"
    # So that a cache does not give one the other's.
    assert {get("/", accept=accept)[1]["vary"] for accept in (HTML, "*/*")} == {"Accept"}


@pytest.mark.parametrize("name", sorted(assets()))
def test_each_file_comes_with_its_type_and_what_a_browser_may_do(name: str) -> None:
    status, headers, body = get(f"/page/{name}")
    assert (status, headers["content-type"], body) == (200, assets()[name].media_type, assets()[name].content)
    assert HEADERS.items() <= headers.items()


@pytest.mark.parametrize("path", ["/", "/page/main.js", "/openapi.json"])
def test_who_has_the_content_already_is_told_so(path: str) -> None:
    first = get(path, accept=HTML)[1]
    assert first["cache-control"] == "no-cache"
    status, headers, body = get(path, accept=HTML, if_none_match=first["etag"])
    assert (status, headers["etag"], body) == (304, first["etag"], b"")
    assert get(path, accept=HTML, if_none_match='"another"')[0] == 200


@pytest.mark.parametrize("path", ["/", "/page/main.js", "/openapi.json"])
def test_head_says_the_same_as_get(path: str) -> None:
    status, headers, _ = get(path, accept=HTML)
    assert get(path, accept=HTML, method="HEAD")[:2] == (status, headers)


def test_the_files_need_no_token_and_the_document_that_names_models_does() -> None:
    assert get("/", "a-token", accept=HTML)[0] == 200
    assert get("/page/main.js", "a-token")[0] == 200
    status, headers, _ = get("/openapi.json", "a-token")
    assert (status, headers["www-authenticate"]) == (401, "Bearer")
    assert get("/openapi.json", "a-token", authorization="Bearer a-token")[0] == 200


def test_what_a_caller_without_the_token_gets_names_neither_models_nor_the_version() -> None:
    assert set(json.loads(get("/", "a-token", accept="*/*")[2])) == {"name", "page", "openapi", "v2"}


@pytest.mark.parametrize("name", ["nope.js", "assets.py", "__init__.py", "..", "%2e%2e"])
def test_nothing_else_of_the_package_is_there(name: str) -> None:
    status, _, body = get(f"/page/{name}")
    assert (status, list(json.loads(body))) == (404, ["error"])


def test_a_name_that_leads_elsewhere_gets_no_page() -> None:
    assert get("/", accept=HTML, host="evil.test")[0] == 403
    assert get("/page/main.js", host="evil.test")[0] == 403


def test_the_document_says_bearer_only_if_there_is_a_token() -> None:
    assert "securitySchemes" not in json.loads(get("/openapi.json")[2])["components"]
    found = json.loads(get("/openapi.json", "a-token", authorization="Bearer a-token")[2])
    assert found["components"]["securitySchemes"]["token"]["scheme"] == "bearer"
