"""The real Envoy in front of several pipelines, as `pipeline deploy envoy` sets it up: replicas die and are replaced, and no call fails."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from bench.versus.environments import ENVOY
from pipeline.kserve import grpc_response
from pipeline.kserve.values import InferRequest
from tests.foreign.fleet import Envoy, Fleet, Load, Over, answer_to, array_of, envoy, fleet, request, until
from tests.integration.gateways import LARGE, Rpc

pytestmark = pytest.mark.foreign

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _there(environment: Callable[[Path], Path]) -> None:
    environment(ENVOY)


@pytest.fixture
def three() -> Iterator[Fleet]:
    with fleet(3) as found:
        yield found


def test_it_takes_the_example_of_the_repository(environment: Callable[[Path], Path]) -> None:
    done = subprocess.run(
        [environment(ENVOY) / "bin/envoy", "--mode", "validate", "-c", ROOT / "deploy/envoy/envoy.yaml"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_replicas_die_and_no_call_fails(three: Fleet, tmp_path: Path) -> None:
    with envoy(three.named, tmp_path) as front:
        with Load(front.where) as load:
            load.more(100)
            # Each replica gets a share over each front.
            for cluster in ("grpc", "http"):
                asked = front.asked(cluster)
                assert min(asked.values()) * 6 > sum(asked.values()), asked
            one, other, _ = three.replicas
            one.gateway().kill()
            load.more(150)
            other.server.kill()
            load.more(150)
            other.start()
            until(lambda: front.takes(other.grpc_port), "an Envoy that has found the replica again")
            load.more(50)
        assert load.failures == []
        # The same, with requests that Envoy would not keep by its own settings, in the replica that dies.
        with Load(front.where, callers=4, ms=150, nbytes=2_000_000) as load:
            load.more(4)
            one.server.kill()
            load.more(8)
        one.start()
        until(one.is_ready, "the replica")
        assert load.failures == []


def test_a_death_costs_calls_if_envoy_does_not_ask_again(three: Fleet, tmp_path: Path) -> None:
    def never_again(document: dict[str, Any]) -> None:
        for listener in document["static_resources"]["listeners"]:
            manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
            del manager["route_config"]["virtual_hosts"][0]["routes"][0]["route"]["retry_policy"]

    with envoy(three.named, tmp_path, change=never_again) as front:
        with Load(front.where, ms=100) as load:
            load.more(16)
            three.replicas[0].server.kill()
            load.more(16)
        three.replicas[0].start()
        until(three.replicas[0].is_ready, "the replica")
        assert load.failures


def test_replicas_are_replaced_one_after_the_other_and_no_call_fails(three: Fleet, tmp_path: Path) -> None:
    with envoy(three.named, tmp_path) as front:
        with Load(front.where) as load:
            for each in three.replicas:
                load.more(30)
                assert each.stop() == 0
                load.more(30)
                each.start()
                until(each.is_ready, "the replica")
                until(lambda port=each.grpc_port: front.takes(port), "an Envoy that has found the replica again")
        assert load.failures == []


def test_more_calls_than_it_allows_are_refused_at_once(tmp_path: Path) -> None:
    with fleet(1) as one, envoy(one.named, tmp_path, arguments=["--max-requests", "2"]) as front:
        # Of those over HTTP/1.1, two more wait for a connection.
        with Load(front.where, callers=14, ms=100) as load:
            until(lambda: len({each[:4] for each in load.failures}) == 2, "a refusal over each front")
        said = "upstream connect error or disconnect/reset before headers. reset reason: overflow"
        assert {*load.failures} == {f"grpc: KserveError: {said}", f"http: AssertionError: 503 {said}"}
        # What was refused has left nothing behind.
        for over in ("grpc", "http"):
            caller = Over(over, front.where)
            caller.infer(0)
            caller.close()


class _Stream:
    """A stream of requests that take some time, a few at a time, which its caller reads in a thread.

    Args:
        count: of them; None: until its end is waited for.
    """

    def __init__(self, front: Envoy, count: int | None, ms: int) -> None:
        self._rpc = Rpc(front.where)  # type: ignore[arg-type]
        self._count, self._ms = count, ms
        self._room = threading.Semaphore(8)
        self._is_over = threading.Event()
        self.sent = 0
        self.sums: list[int] = []
        self.error: grpc.RpcError | None = None
        self._call = self._rpc.stream(self._requests())
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _requests(self) -> Iterator[InferRequest]:
        while self.sent != self._count and not self._is_over.is_set():
            self.sent += 1
            yield request(self._ms)
            self._room.acquire()

    def _read(self) -> None:
        try:
            for frame in self._call:
                response, error = grpc_response.decode_stream(frame, LARGE)
                assert not error
                self.sums.append(int(array_of(response, "sum", "<u8")[0]))
                self._room.release()
        except grpc.RpcError as error:
            self.error = error

    def end(self) -> None:
        """Wait for its end, whichever that is."""
        if self._count is None:
            self._is_over.set()
        self._room.release()
        self._thread.join()
        self._rpc.close()


def test_streams_go_through_and_one_whose_replica_dies_says_so(three: Fleet, tmp_path: Path) -> None:
    with envoy(three.named, tmp_path) as front:
        whole = _Stream(front, 50, 5)
        whole.end()
        assert (whole.sums, whole.error) == ([answer_to(5)] * 50, None)
        # It has begun to answer, so nothing may be asked again behind the caller's back.
        streams = [_Stream(front, None, 100) for _ in range(6)]
        until(lambda: all(each.sums for each in streams), "an answer in each stream")
        # Envoy takes the less busy one of two replicas that it draws: one may have drawn no stream.
        busy = front.active("grpc")
        first = next(each for each in three.replicas if busy[each.grpc_port])
        assert busy[first.grpc_port] < len(streams)
        first.gateway().kill()
        until(lambda: any(each.error for each in streams), "a stream that is broken")
        for each in streams:
            each.end()
        broken = [each for each in streams if each.error is not None]
        # What Envoy makes of a connection that ends in the middle of an answer.
        assert {each.error.code() for each in broken if each.error} == {grpc.StatusCode.INTERNAL}
        assert all("RST_STREAM" in (each.error.details() or "") for each in broken if each.error)
        assert all(each.sums == [answer_to(100)] * each.sent for each in streams if each not in broken)
        assert len(broken) == busy[first.grpc_port]
        again = _Stream(front, 3, 5)
        again.end()
        assert (again.sums, again.error) == ([answer_to(5)] * 3, None)
