"""The gateway, its callers and the processes behind it are killed, or are gone, or are too many."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest

from bench.titles import by_role, in_role
from pipeline.errors import KserveError
from pipeline.kserve import grpc_request, http_request
from pipeline.kserve.http_body import HEADER
from pipeline.kserve.values import InferRequest
from pipeline.testing import running
from tests.faults.conftest import Folder
from tests.faults.load import until
from tests.integration.gateways import Gateway, Http, Rpc, serving, tensor


def request_of(data: bytes, **fields: Any) -> InferRequest:
    array = np.frombuffer(data, np.uint8)
    return InferRequest("faulty", "", (tensor("data", array),), binary_output=True, **fields)


class Callers:
    """Threads that send numbered requests, one after the other, and compare each answer."""

    def __init__(self, gateway: Gateway, count: int = 4) -> None:
        self.answered = 0
        self.failed: list[str] = []
        self._over = threading.Event()
        self._url = f"{gateway.url}/v2/models/faulty/infer"
        self._threads = [threading.Thread(target=self._send, args=(number,)) for number in range(count)]

    def __enter__(self) -> Callers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _send(self, caller: int) -> None:
        number = 0
        with httpx.Client(timeout=200) as client:
            while not self._over.is_set():
                data = f"{caller}-{number}".encode()
                number += 1
                body = http_request.encode(request_of(data))
                response = client.post(
                    self._url, content=b"".join(body.parts), headers={HEADER: str(body.json_length)}
                )
                if response.status_code == 200 and response.content.endswith(data):
                    self.answered += 1
                else:
                    self.failed.append(f"{response.status_code} {response.text[:200]}")


@pytest.mark.foreign
def test_no_caller_sees_an_error_while_workers_are_killed_under_load(folder: Folder) -> None:
    config = folder.config({"replicas": 2, "restart": {"max": 100}})
    with running(config) as pipeline, serving("faulty") as gateway, Callers(gateway) as callers:
        for _ in range(5):
            before = callers.answered
            until(lambda: callers.answered > before + 10)  # noqa: B023
            os.kill(pipeline.worker_pids("s0")[0], signal.SIGKILL)
        before = callers.answered
        until(lambda: callers.answered > before + 10)
    assert callers.failed == []


def test_no_caller_sees_an_error_when_the_scheduler_is_killed_under_load(
    folder: Folder, child_of: Callable[[int, str], psutil.Process | None]
) -> None:
    # Slow enough that there always is a request under way.
    config = folder.config({"with.seconds": 0.1})
    with running(config) as pipeline, serving("faulty") as gateway, Callers(gateway) as callers:
        until(lambda: callers.answered > 10)
        scheduler = child_of(pipeline.pid, "scheduler")
        assert scheduler is not None
        scheduler.kill()
        before = callers.answered
        until(lambda: callers.answered > before + 20)
    assert callers.failed == []


def test_a_gateway_that_is_killed_leaves_the_pipeline_as_it_was(folder: Folder) -> None:
    config = folder.config({"with.seconds": 0.05}, ingress={"slots": 4})
    with running(config) as pipeline:
        with serving("faulty") as gateway:
            http = Http(gateway)
            threads = [threading.Thread(target=_ignoring_errors, args=(http,)) for _ in range(8)]
            for thread in threads:
                thread.start()
            until(lambda: pipeline.status()["inside"])
            gateway.process.kill()
            for thread in threads:
                thread.join()
        until(lambda: not pipeline.status()["inside"])
        # Its slots are back: there are four, and it may have had all of them.
        with serving("faulty") as gateway:
            assert bytes(Http(gateway).infer(request_of(b"x")).outputs[0].data or b"") == b"x"


def _ignoring_errors(http: Http) -> None:
    with suppress(httpx.HTTPError):
        http.infer(request_of(b"y"))


def test_the_work_of_a_caller_that_hangs_up_is_dropped_and_nothing_else(folder: Folder) -> None:
    journal = folder.path / "journal"
    config = folder.config(
        {"with.seconds": 1.0, "with.journal": str(journal), "replicas": 1, "credits": 1, "batch": {"max_size": 1}}
    )
    with running(config) as pipeline, serving("faulty") as gateway, closing(Rpc(gateway)) as rpc:
        for front in ("http", "grpc"):
            until(lambda: not pipeline.status()["inside"])
            cancelled = pipeline.status()["answers"].get("Cancelled", 0)
            answers: list[bytes] = []
            first = threading.Thread(target=_ask_for_first, args=(gateway, answers))
            first.start()
            until(lambda: pipeline.status()["inside"] == 1)
            leave = _http_caller(gateway, b"second") if front == "http" else _grpc_caller(rpc, b"second")
            until(lambda: pipeline.status()["inside"] == 2)
            leave()
            until(lambda: pipeline.status()["answers"].get("Cancelled", 0) > cancelled)  # noqa: B023
            first.join()
            assert answers == [b"first"], front
        assert Http(gateway).infer(request_of(b"third")).outputs
    assert b"second" not in journal.read_bytes()


def _ask_for_first(gateway: Gateway, answers: list[bytes]) -> None:
    answers.append(bytes(Http(gateway).infer(request_of(b"first")).outputs[0].data or b""))


def _http_caller(gateway: Gateway, data: bytes) -> Callable[[], None]:
    """Sends a request; hangs up when it is called."""
    body = http_request.encode(request_of(data))
    content = b"".join(body.parts)
    host, port = gateway.url.removeprefix("http://").split(":")
    sender = socket.create_connection((host, int(port)))
    sender.sendall(
        f"POST /v2/models/faulty/infer HTTP/1.1\r\nHost: {host}\r\n{HEADER}: {body.json_length}\r\n"
        f"Content-Length: {len(content)}\r\n\r\n".encode() + content
    )
    return sender.close


def _grpc_caller(rpc: Rpc, data: bytes) -> Callable[[], None]:
    """Sends a request; cancels it when it is called."""
    call = rpc.channel.unary_unary("/inference.GRPCInferenceService/ModelInfer").future(
        b"".join(grpc_request.encode(request_of(data)))
    )

    def leave() -> None:
        call.cancel()

    return leave


def test_what_is_beyond_the_queue_is_refused_at_once(folder: Folder) -> None:
    config = folder.config(
        {"with.seconds": 1.0, "replicas": 1, "credits": 1, "batch": {"max_size": 1}}, queue={"max": 1}
    )
    with running(config), serving("faulty") as gateway:
        codes: list[str] = []

        def ask() -> None:
            try:
                Http(gateway).infer(request_of(b"x"))
                codes.append("OK")
            except KserveError as error:
                codes.append(error.code)

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert set(codes) == {"OK", "RESOURCE_EXHAUSTED"}


def test_ready_is_what_the_scheduler_says(folder: Folder) -> None:
    starts = folder.path / "starts"
    config = folder.config({"with.starts": str(starts), "replicas": 1, "restart": {"max": 0}})
    with running(config) as pipeline, serving("faulty") as gateway:
        http = Http(gateway)
        assert http.request("GET", "/v2/models/faulty/ready").status_code == 200
        os.kill(pipeline.worker_pids("s0")[0], signal.SIGKILL)
        until(lambda: http.request("GET", "/v2/models/faulty/ready").status_code == 400)
        until(lambda: http.request("GET", "/v2/health/ready").status_code == 400)
        assert http.request("GET", "/v2/health/live").status_code == 200
        with pytest.raises(KserveError) as refused:
            until(lambda: http.infer(request_of(b"x")) is None)
        assert refused.value.code == "UNAVAILABLE"
        (entry,) = http.post("/v2/repository/index")
        assert entry["state"] == "UNAVAILABLE"
        with closing(Rpc(gateway)) as rpc:
            assert rpc.call("Check", service="faulty").status == 2
            assert not rpc.call("ModelReady", name="faulty").ready


def test_sigterm_answers_what_is_under_way_and_ends_with_0(folder: Folder) -> None:
    config = folder.config({"with.seconds": 1.0})
    with serving(config) as gateway:
        answers: list[bytes] = []
        caller = threading.Thread(
            target=lambda: answers.append(bytes(Http(gateway).infer(request_of(b"x")).outputs[0].data or b""))
        )
        caller.start()
        until(lambda: _inside(gateway))
        gateway.process.send_signal(signal.SIGTERM)
        caller.join()
        assert answers == [b"x"]
        assert gateway.process.wait(200) == 0


def _inside(gateway: Gateway) -> bool:
    with httpx.Client(verify=False) as client:
        return 'trtlab_requests_inside{pipeline="faulty"} 1.0' in client.get(gateway.metrics).text


def test_pipelines_end_with_the_gateway_that_has_started_them(folder: Folder) -> None:
    with serving(folder.config({})) as gateway:
        children = psutil.Process(gateway.process.pid).children(recursive=True)
        assert children
        gateway.process.kill()
        gateway.process.wait()
        psutil.wait_procs(children, 30)
        assert not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children)


# -- the gateways of one keeper ------------------------------------------------------------------


def gateways_of(gateway: Gateway) -> dict[str, psutil.Process]:
    """The processes by their names."""
    return {role: child for role, child in by_role(gateway.process.pid) if role.startswith("gateway/")}


def kill_gateway(gateway: Gateway, name: str = "gateway/0") -> None:
    """Until another one is in its place, which may not serve yet."""
    victim = gateways_of(gateway)[name]
    victim.kill()
    until(lambda: name in (there := gateways_of(gateway)) and there[name].pid != victim.pid)


class Patient(Callers):
    """Callers that know that a call fails with its connection, and send it again."""

    def __init__(self, gateway: Gateway, count: int = 4) -> None:
        self.broken = 0
        super().__init__(gateway, count)

    def _send(self, caller: int) -> None:
        number = 0
        while not self._over.is_set():
            data = f"{caller}-{number}".encode()
            body = http_request.encode(request_of(data))
            # A connection for each request: with one of its own, a caller would stay with one gateway.
            with httpx.Client(timeout=200, verify=False) as client:
                try:
                    response = client.post(
                        self._url, content=b"".join(body.parts), headers={HEADER: str(body.json_length)}
                    )
                except httpx.TransportError:
                    self.broken += 1
                    time.sleep(0.02)
                    continue
            number += 1
            if response.status_code == 200 and response.content.endswith(data):
                self.answered += 1
            else:
                self.failed.append(f"{response.status_code} {response.text[:200]}")


def test_a_gateway_that_is_killed_under_load_is_back_on_its_port_and_only_its_connections_broke(
    folder: Folder,
) -> None:
    config = folder.config({"replicas": 2}, serve={"shared_memory": ["/fault_"]})
    key = Path(f"/dev/shm/fault_{os.getpid()}")
    key.write_bytes(b"before")
    errors = folder.path / "log"
    with running(config) as pipeline, serving("faulty", config_of_doors(folder), errors=errors) as gateway:
        http = Http(gateway)
        http.post("/v2/logging", {"log_format": "ISO8601"})
        http.post("/v2/systemsharedmemory/region/r/register", {"key": f"/{key.name}", "byte_size": 6})
        # From here on its name leads to nothing, and then elsewhere.
        key.unlink()
        key.write_bytes(b"another")
        with Patient(gateway) as callers:
            for _ in range(2):
                before = callers.answered
                until(lambda: callers.answered > before + 10)  # noqa: B023
                kill_gateway(gateway)
            before = callers.answered
            until(lambda: callers.answered > before + 10)
        assert callers.failed == []
        assert callers.broken > 0
        key.unlink()
        # The same settings, region and models; and of the region the same object.
        assert http.get("/v2/logging")["log_format"] == "ISO8601"
        (region,) = http.get("/v2/systemsharedmemory/status")
        assert (region["name"], region["byte_size"]) == ("r", 6)
        inputs = [{"name": "data", "datatype": "UINT8", "shape": [6], "parameters": {
            "shared_memory_region": "r", "shared_memory_byte_size": 6}}]  # fmt: skip
        answer = http.post("/v2/models/faulty/infer", {"inputs": inputs})
        assert bytes(answer["outputs"][0]["data"]) == b"before"
        assert {entry["name"]: entry["state"] for entry in http.post("/v2/repository/index")} == {
            "faulty": "READY", "doors": "READY"
        }  # fmt: skip
        # Nothing of the dead ones is left in the pipeline: all slots come back.
        until(lambda: not pipeline.status()["inside"])
        assert errors.read_text().count("it is started again") == errors.read_text().count("serves again") == 2


def config_of_doors(folder: Folder) -> Path:
    """A second model, whose config opens shared memory."""
    return folder.config({}, name="doors", serve={"shared_memory": ["/fault_"]})


@pytest.mark.foreign
def test_while_one_of_two_gateways_is_killed_the_other_one_answers(folder: Folder) -> None:
    config = folder.config({"replicas": 2}, serve={"gateways": 2})
    log = folder.path / "log"
    with serving(config, errors=log) as gateway, Patient(gateway) as callers:
        for killed, number in enumerate((0, 1, 0)):
            before = callers.answered
            until(lambda: callers.answered > before + 10)  # noqa: B023
            victim = gateways_of(gateway)[f"gateway/{number}"]
            victim.suspend()
            victim.kill()
            victim.wait(200)
            # Nothing was started in its place yet, or it is not ready: a new connection is the other one's.
            assert Http(gateway).request("GET", "/v2/health/live").status_code == 200
            # There, it may not listen yet: and the next one to be killed is the other one.
            until(lambda: log.read_text().count("serves again") == killed + 1)  # noqa: B023
    assert callers.failed == []


def test_no_caller_sees_an_error_while_workers_of_the_keeper_s_pipelines_are_killed(folder: Folder) -> None:
    config = folder.config({"replicas": 2, "restart": {"max": 100}}, serve={"gateways": 2})
    with serving(config) as gateway, Callers(gateway) as callers:
        for _ in range(4):
            before = callers.answered
            until(lambda: callers.answered > before + 10)  # noqa: B023
            for worker in in_role(gateway.process.pid, "s0/0", recursive=True):
                worker.kill()
        before = callers.answered
        until(lambda: callers.answered > before + 10)
    assert callers.failed == []


@pytest.mark.foreign
def test_a_reload_under_load_loses_no_request_at_any_gateway_and_an_unload_answers_what_is_under_way(
    folder: Folder,
) -> None:
    config = folder.config({"with.seconds": 0.05}, serve={"gateways": 2, "control": True})
    with serving(config) as gateway, Callers(gateway) as callers:
        until(lambda: callers.answered > 10)
        Http(gateway).post("/v2/repository/models/faulty/load")
        before = callers.answered
        until(lambda: callers.answered > before + 10)
        assert callers.failed == []
        Http(gateway).post("/v2/repository/models/faulty/unload")
        until(lambda: callers.failed)
        assert {failure[:3] for failure in callers.failed} == {"404"}


def test_a_change_waits_for_no_gateway_that_is_dead_and_holds_at_the_one_in_its_place(folder: Folder) -> None:
    config = folder.config({}, serve={"gateways": 2})
    with serving(config) as gateway:
        http = Http(gateway)
        gateways = gateways_of(gateway)
        # It is alive and says nothing, so that the change waits for it.
        gateways["gateway/1"].suspend()
        done: list[Any] = []
        caller = threading.Thread(target=lambda: done.append(_set_log(gateway, 1)))
        try:
            # The first connections may come to the one that is stopped; then they end with it.
            caller.start()
            time.sleep(0.5)
            assert done == []
        finally:
            gateways["gateway/1"].kill()
            caller.join()
        assert done == [1]
        until(lambda: len(gateways_of(gateway)) == 2)
        assert {http.get("/v2/logging")["log_verbose_level"] for _ in range(12)} == {1}


def _set_log(gateway: Gateway, level: int) -> Any:
    while True:
        with suppress(httpx.TransportError):
            return Http(gateway).post("/v2/logging", {"log_verbose_level": level})["log_verbose_level"]


@pytest.mark.foreign
def test_statistics_keep_what_a_gateway_had_done_that_was_killed(folder: Folder) -> None:
    with serving(folder.config({})) as gateway:
        http = Http(gateway)
        for _ in range(5):
            http.infer(request_of(b"x"))

        def answered() -> int:
            (found,) = http.get("/v2/models/faulty/stats")["model_stats"]
            return int(found["inference_stats"]["success"]["count"])

        # What it has said when it was asked is never lost.
        assert answered() == 5
        kill_gateway(gateway)
        until(lambda: _is_live(gateway))
        assert answered() == 5
        http.infer(request_of(b"x"))
        assert answered() == 6


def _is_live(gateway: Gateway) -> bool:
    with suppress(httpx.TransportError):
        return Http(gateway).request("GET", "/v2/health/live").status_code == 200
    return False


@pytest.mark.foreign
def test_a_second_signal_waits_for_nothing_and_leaves_nothing(folder: Folder) -> None:
    config = folder.config({"with.seconds": 60.0}, drain_s=60, serve={"gateways": 2})
    with serving(config) as gateway:
        children = psutil.Process(gateway.process.pid).children(recursive=True)
        caller = threading.Thread(target=_ignoring_errors, args=(Http(gateway),))
        caller.start()
        until(lambda: _inside(gateway))
        gateway.process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        assert gateway.process.poll() is None
        gateway.process.send_signal(signal.SIGTERM)
        assert gateway.process.wait(200) == 1
        caller.join()
        assert not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children)


@pytest.mark.foreign
def test_a_signal_to_every_process_is_one_request_to_the_keeper(folder: Folder) -> None:
    with serving(folder.config({"with.seconds": 0.5}, serve={"gateways": 2})) as gateway:
        answers: list[bytes] = []
        caller = threading.Thread(
            target=lambda: answers.append(bytes(Http(gateway).infer(request_of(b"x")).outputs[0].data or b""))
        )
        caller.start()
        until(lambda: _inside(gateway))
        for process in (*gateways_of(gateway).values(), psutil.Process(gateway.process.pid)):
            process.send_signal(signal.SIGTERM)
        caller.join()
        assert answers == [b"x"]
        assert gateway.process.wait(200) == 0
