"""The front over gRPC, in this process and over a real port: what needs no pipeline."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio
import pytest

from pipeline.kserve.messages import HEALTH, INFERENCE, methods
from pipeline.serving.calls import Calls
from pipeline.serving.catalogue import Catalogue
from pipeline.serving.grpc_front import GrpcFront
from pipeline.serving.inference import Inference
from pipeline.serving.journal import Journal
from pipeline.serving.regions import Regions
from pipeline.serving.settings import Settings

PATHS = {name: row.path for name, row in {**methods(INFERENCE), **methods(HEALTH)}.items()}
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def run(main: Callable[[Any, GrpcFront], Any], **settings: Any) -> None:
    async def served() -> None:
        chosen, catalogue, regions, journal = Settings(**settings), Catalogue(1), Regions(()), Journal()
        calls = Calls(chosen, catalogue, regions, None, journal)
        front = GrpcFront(chosen, catalogue, calls, Inference(catalogue, regions), journal)
        server = front.server()
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                await asyncio.wait_for(main(channel, front), 30)
        finally:
            await server.stop(None)

    asyncio.run(served())


async def ended(call: Any) -> tuple[str, str, dict[str, str]]:
    """Its code, its details and its trailing metadata."""
    code = await call.code()
    return code.name, await call.details(), dict(await call.trailing_metadata() or ())


@pytest.mark.parametrize(("method", "code"), [("ServerLive", "OK"), ("ModelInfer", "NOT_FOUND")])
def test_the_caller_gets_its_traceparent_back_whatever_comes_of_it(method: str, code: str) -> None:
    async def main(channel: Any, front: GrpcFront) -> None:
        call = channel.unary_unary(PATHS[method])(b"", metadata=(("traceparent", TRACE),))
        found, _, metadata = await ended(call)
        assert (found, metadata.get("traceparent")) == (code, TRACE)

    run(main)


def test_a_stream_has_it_too_and_an_unsound_one_is_not_given_back() -> None:
    async def main(channel: Any, front: GrpcFront) -> None:
        for sent, expected in ((TRACE, TRACE), ("nonsense", None)):
            call = channel.stream_stream(PATHS["ModelStreamInfer"])(iter([]), metadata=(("traceparent", sent),))
            code, _, metadata = await ended(call)
            assert (code, metadata.get("traceparent")) == ("OK", expected)

    run(main)


@pytest.mark.parametrize("method", ["ServerLive", "ModelInfer", "Check"])
def test_a_call_of_a_page_is_refused_unless_its_name_is_meant(method: str) -> None:
    async def main(channel: Any, front: GrpcFront) -> None:
        for origin, refused in (("http://evil.test", True), ("https://models.test", False)):
            call = channel.unary_unary(PATHS[method])(b"", metadata=(("origin", origin),))
            assert ((await ended(call))[0] == "PERMISSION_DENIED") == refused
        for path, kind in (("ModelStreamInfer", channel.stream_stream), ("Watch", channel.unary_stream)):
            call = kind(PATHS[path])(iter([]) if "Stream" in path else b"", metadata=(("origin", "http://evil.test"),))
            assert (await ended(call))[0] == "PERMISSION_DENIED"

    run(main, hosts=("models.test",))


def test_outcomes_are_counted_and_those_that_are_gone_as_well() -> None:
    async def main(channel: Any, front: GrpcFront) -> None:
        await channel.unary_unary(PATHS["ServerLive"])(b"")
        await ended(channel.unary_unary(PATHS["ModelInfer"])(b""))
        await ended(channel.unary_unary(PATHS["ModelInfer"])(b"\xff"))
        # A call is counted after it is answered.
        while sum(front._traffic.requests["grpc"].values()) < 3:
            await asyncio.sleep(0.01)
        assert front._traffic.requests == {"grpc": {"OK": 1, "NOT_FOUND": 1, "INVALID_ARGUMENT": 1}}
        assert sum(front._traffic.latencies["grpc"].buckets) == 2

        async def slow() -> bool:
            await asyncio.sleep(60)
            return True

        front._calls.server_ready = slow  # type: ignore[method-assign]
        call = channel.unary_unary(PATHS["ServerReady"])(b"")
        await asyncio.sleep(0.2)
        call.cancel()
        while "CANCELLED" not in front._traffic.requests["grpc"]:
            await asyncio.sleep(0.01)

    run(main)


def test_a_fault_of_ours_tells_nothing_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    async def main(channel: Any, front: GrpcFront) -> None:
        async def broken() -> bool:
            raise ZeroDivisionError("a secret")

        front._calls.server_ready = broken  # type: ignore[method-assign]
        code, details, _ = await ended(channel.unary_unary(PATHS["ServerReady"])(b""))
        assert (code, "secret" in details) == ("INTERNAL", False)

    run(main)
    assert "a secret" in capsys.readouterr().err


def test_calls_that_are_closed_are_refused_and_need_the_token_first() -> None:
    async def main(channel: Any, front: GrpcFront) -> None:
        load = channel.unary_unary(PATHS["RepositoryModelLoad"])
        assert (await ended(load(b"")))[0] == "UNAUTHENTICATED"
        code, details, _ = await ended(load(b"", metadata=(("authorization", "Bearer secret"),)))
        assert (code, "serve.control" in details) == ("PERMISSION_DENIED", True)
        assert (await ended(channel.stream_stream(PATHS["ModelStreamInfer"])(iter([]))))[0] == "UNAUTHENTICATED"

    run(main, token="secret")


def test_of_many_calls_at_once_those_beyond_the_limit_are_refused_and_none_is_cancelled() -> None:
    async def main(channel: Any, front: GrpcFront) -> None:
        watch = channel.unary_stream(PATHS["Watch"])(b"")
        # It has begun: from here on the one call that may run is this one.
        await watch.read()
        live = channel.unary_unary(PATHS["ServerLive"])
        found = await asyncio.gather(*[ended(live(b"")) for _ in range(4000)])
        assert {code for code, _, _ in found} == {"RESOURCE_EXHAUSTED"}
        watch.cancel()

    run(main, connections=1)
