"""The front over HTTP, called as the ASGI application that it is: what needs no pipeline."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest

from pipeline.serving.calls import Calls
from pipeline.serving.catalogue import Catalogue
from pipeline.serving.http_front import HttpFront
from pipeline.serving.inference import Inference
from pipeline.serving.journal import Journal
from pipeline.serving.regions import Regions
from pipeline.serving.settings import Settings


def front(**settings: Any) -> HttpFront:
    chosen, catalogue, regions, journal = Settings(**settings), Catalogue(1), Regions(()), Journal()
    calls = Calls(chosen, catalogue, regions, None, journal)
    return HttpFront(chosen, catalogue, calls, Inference(catalogue, regions), journal)


def ask(app: Any, method: str, path: str, messages: list[dict[str, Any]], **headers: str) -> tuple[int, Any]:
    """The status and the document that come for these messages; after them, nothing more comes."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        if messages:
            return messages.pop(0)
        await asyncio.Event().wait()
        raise AssertionError("it never is set")

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    names = {"host": "localhost", **headers}
    scope = {
        "type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": b"",
        "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in names.items()],
        "server": ("localhost", 80), "scheme": "http", "http_version": "1.1", "root_path": "",
    }  # fmt: skip
    asyncio.run(app(scope, receive, send))
    body = b"".join([message.get("body", b"") for message in sent])
    return sent[0]["status"], json.loads(body) if body else None


def body(data: bytes, more: bool = False) -> dict[str, Any]:
    return {"type": "http.request", "body": data, "more_body": more}


def test_a_body_of_which_no_more_comes_is_given_up() -> None:
    status, document = ask(front(idle_s=0.02).app, "POST", "/v2/repository/index", [body(b"{", more=True)])
    assert (status, "within 0.02 s" in document["error"]) == (504, True)


def test_a_body_in_pieces_is_read_whole() -> None:
    status, document = ask(front().app, "POST", "/v2/repository/index", [body(b'{"re', more=True), body(b'ady": true}')])
    assert (status, document) == (200, [])


def test_a_body_in_pieces_that_is_too_long_is_refused_where_the_limit_is() -> None:
    pieces = [body(b" " * (512 << 10), more=True) for _ in range(2)] + [body(b" ", more=True), body(b"{}")]
    status, document = ask(front().app, "POST", "/v2/repository/index", pieces)
    assert (status, "at most 1048576" in document["error"]) == (413, True)
    assert len(pieces) == 1


def test_a_body_may_be_missing() -> None:
    assert ask(front().app, "POST", "/v2/repository/index", [body(b"")]) == (200, [])


@pytest.mark.parametrize("text", [b"[]", b"{", b'{"ready": 1}', b"\xff"])
def test_a_body_that_is_no_such_document_is_refused(text: bytes) -> None:
    status, document = ask(front().app, "POST", "/v2/repository/index", [body(text)])
    assert (status, list(document)) == (400, ["error"])


def test_a_caller_that_is_gone_before_its_body_was_there_is_no_fault(capsys: pytest.CaptureFixture[str]) -> None:
    messages = [body(b"{", more=True), {"type": "http.disconnect"}]
    assert ask(front().app, "POST", "/v2/repository/index", messages)[0] == 499
    assert capsys.readouterr().err == ""


def test_a_fault_of_ours_is_an_answer_and_a_line_for_the_operator(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Calls) -> Any:
        raise ZeroDivisionError("a secret")

    monkeypatch.setattr(Calls, "server_metadata", broken)
    status, document = ask(front().app, "GET", "/v2", [body(b"")])
    assert status == 500
    assert "secret" not in document["error"]
    assert "ZeroDivisionError: a secret" in capsys.readouterr().err


def test_an_unknown_path_and_another_method_have_an_error_in_their_body() -> None:
    for method, path, expected in (("GET", "/nope", 404), ("DELETE", "/v2", 405), ("GET", "/v2/models/m/infer", 405)):
        status, document = ask(front().app, method, path, [body(b"")])
        assert (status, list(document)) == (expected, ["error"])


def test_another_method_is_told_all_those_of_its_path_though_they_are_several_endpoints() -> None:
    async def main() -> str:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(front().app), base_url="http://localhost") as client:
            return (await client.request("OPTIONS", "/cameras/m/door/zones")).headers["allow"]

    assert asyncio.run(main()) == "GET, HEAD, POST"


def test_a_path_of_a_region_refuses_what_is_no_number() -> None:
    app = front(shared_memory=("/x",)).app
    path = "/v2/systemsharedmemory/region/r/register"
    for wrong in ('{"key": 3}', '{"key": "/x", "byte_size": -1}', '{"key": "/x", "byte_size": 1, "offset": true}'):
        assert ask(app, "POST", path, [body(wrong.encode())])[0] == 400


def test_what_is_closed_is_refused_before_its_body_is_read() -> None:
    messages = [body(b"x", more=True)]
    assert ask(front().app, "POST", "/v2/repository/models/m/load", messages)[0] == 403
    assert messages


def test_an_unknown_model_is_refused_before_its_body_is_read() -> None:
    messages = [body(b"x", more=True)]
    assert ask(front().app, "POST", "/v2/models/m/infer", messages)[0] == 404
    assert messages


@pytest.mark.parametrize("call", ["load", "unload"])
def test_parameters_that_are_no_object_are_refused(call: str) -> None:
    messages = [body(b'{"parameters": [null]}')]
    status, document = ask(front(control=True).app, "POST", f"/v2/repository/models/m/{call}", messages)
    assert (status, "found list" in document["error"]) == (400, True)


@pytest.mark.parametrize("host", ["[::1", "[" + ":" * 50, "a@b:c@d", "\xff"])
@pytest.mark.parametrize("path", ["/v2", "/nope"])
def test_a_host_that_is_no_name_is_no_fault_of_ours(host: str, path: str, capsys: pytest.CaptureFixture[str]) -> None:
    made = front()
    made._journal.settings = {**made._journal.settings, "log_verbose_level": 1}
    status, document = ask(made.app, "GET", path, [body(b"")], host=host)
    assert status in (200, 403, 404)
    assert status == 200 or list(document) == ["error"]
    assert "Traceback" not in capsys.readouterr().err


def test_a_fault_outside_of_an_endpoint_is_an_answer_too(capsys: pytest.CaptureFixture[str]) -> None:
    made = front()

    async def broken(*_: Any) -> None:
        raise ZeroDivisionError("a secret")

    made.app.router.app = broken  # type: ignore[attr-defined]
    made.app.router.middleware_stack = broken
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http", "method": "GET", "path": "/", "raw_path": b"/", "query_string": b"", "headers": [], "root_path": "",
        "server": ("localhost", 80), "scheme": "http", "http_version": "1.1",
    }  # fmt: skip
    with pytest.raises(ZeroDivisionError):
        asyncio.run(made.app(scope, None, send))  # type: ignore[arg-type]
    assert (sent[0]["status"], list(json.loads(sent[1]["body"]))) == (500, ["error"])
    assert "secret" not in sent[1]["body"].decode()
    assert "ZeroDivisionError: a secret" in capsys.readouterr().err


def test_a_body_that_trickles_is_given_up_although_no_pause_is_long() -> None:
    async def main() -> tuple[int, int]:
        sent: list[dict[str, Any]] = []
        pieces = 0

        async def receive() -> dict[str, Any]:
            nonlocal pieces
            pieces += 1
            await asyncio.sleep(0.05)
            return body(b" ", more=True)

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        scope = {
            "type": "http", "method": "POST", "path": "/v2/repository/index", "raw_path": b"/", "query_string": b"",
            "headers": [(b"host", b"localhost")], "root_path": "", "server": ("localhost", 80), "scheme": "http",
            "http_version": "1.1",
        }  # fmt: skip
        await asyncio.wait_for(front(idle_s=0.3).app(scope, receive, send), 20)
        return sent[0]["status"], pieces

    status, pieces = asyncio.run(main())
    assert (status, pieces > 2) == (504, True)


def test_what_is_answered_is_counted_by_its_outcome() -> None:
    made = front()
    for path in ("/v2", "/v2", "/v2/models/m", "/nope"):
        ask(made.app, "GET", path, [body(b"")])
    ask(made.app, "DELETE", "/v2", [body(b"")])
    assert made._traffic.requests == {"http": {"OK": 2, "NOT_FOUND": 2, "METHOD_NOT_ALLOWED": 1}}
    ask(made.app, "POST", "/v2/repository/index", [body(b"{", more=True), body(b"}")])
    assert made._traffic.copied == {"bodies in pieces": 2}
