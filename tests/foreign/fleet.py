"""Several `pipeline serve` behind a real Envoy, and callers of it, for `test_envoy.py`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import numpy as np
import psutil
import yaml

from bench.titles import in_role
from bench.versus.environments import ENVOY, required
from bench.versus.process import ServerProcess, free_ports, says_ready
from pipeline.interpreter import python_command
from pipeline.kserve import http_request, http_response
from pipeline.kserve.http_body import HEADER
from pipeline.kserve.values import InferRequest
from tests.integration.gateways import LARGE, Rpc, array_of, tensor

__all__ = [
    "CONFIG", "Envoy", "Fleet", "Load", "Over", "Where", "answer_to", "array_of", "envoy", "fleet", "request", "until",
]  # fmt: skip

CONFIG = Path(__file__).parent / "models/waiting.yaml"
_START_S = 200.0


class Where(NamedTuple):
    """Where callers find a server: a URL, and HOST:PORT of gRPC."""

    url: str
    grpc: str


def request(ms: int, nbytes: int = 64) -> InferRequest:
    """One that takes `ms` milliseconds (below 256)."""
    x = np.full(nbytes, 3, np.uint8)
    x[0] = ms
    return InferRequest("waiting", "", inputs=(tensor("x", x),), binary_output=True)


def answer_to(ms: int, nbytes: int = 64) -> int:
    return ms + 3 * (nbytes - 1)


def until(is_so: Callable[[], bool], what: str) -> None:
    """Wait for it; a test that waits for ever fails by its own time limit, and says for what."""
    end = time.monotonic() + _START_S
    while not is_so():
        assert time.monotonic() < end, f"waited for {what}"
        time.sleep(0.05)


class Replica:
    """One `pipeline serve`, on ports that stay its own over its restarts."""

    def __init__(self, folder: Path) -> None:
        self.http_port, self.grpc_port, self._metrics_port = free_ports(3)
        folder.mkdir(mode=0o700)
        self._folder = folder
        self.start()

    def start(self) -> None:
        """Begin to start it."""
        command = [*python_command("pipeline.__main__"), "serve", str(CONFIG)]
        for name, port in (("http", self.http_port), ("grpc", self.grpc_port), ("metrics", self._metrics_port)):
            command += [f"--{name}-port", str(port)]
        self.server = ServerProcess(
            "pipeline serve", command, self._folder / "log", lambda: True,
            environment={"TRTLAB_RUN_DIR": str(self._folder)},
        )  # fmt: skip

    def is_ready(self) -> bool:
        return says_ready(f"127.0.0.1:{self.http_port}")

    def gateway(self) -> psutil.Process:
        """The process that answers on its ports."""
        (found,) = in_role(self.server.process.pid, "gateway/0", recursive=True)
        return found

    def stop(self) -> int:
        """SIGTERM, as Kubernetes does; its exit code."""
        self.server.process.send_signal(signal.SIGTERM)
        return self.server.process.wait(200)


class Fleet:
    """Some replicas, and where they are."""

    def __init__(self, folder: Path, count: int, stack: ExitStack) -> None:
        self.replicas: list[Replica] = []
        stack.callback(self.close)
        for number in range(count):
            self.replicas.append(Replica(folder / str(number)))
        for each in self.replicas:
            until(each.is_ready, "a replica that is ready")

    @property
    def named(self) -> str:
        """As `--replicas` takes them."""
        return ",".join(f"127.0.0.1:{each.http_port}:{each.grpc_port}" for each in self.replicas)

    def close(self) -> None:
        for each in self.replicas:
            each.server.process.send_signal(signal.SIGTERM)
        for each in self.replicas:
            each.server.close()


@contextmanager
def fleet(count: int) -> Iterator[Fleet]:
    # Short: the path of a unix socket has at most 107 bytes.
    with tempfile.TemporaryDirectory(prefix="trt-", dir="/tmp") as folder, ExitStack() as stack:
        yield Fleet(Path(folder), count, stack)


class Envoy:
    """An Envoy that has found its replicas."""

    def __init__(self, config: Path, ports: Sequence[int]) -> None:
        http, grpc, admin = ports
        self.where = Where(f"http://127.0.0.1:{http}", f"127.0.0.1:{grpc}")
        self._admin = f"http://127.0.0.1:{admin}"
        command = [str(required(ENVOY) / "bin/envoy"), "-c", str(config), "--disable-hot-restart", "--concurrency", "2"]
        self.server = ServerProcess("envoy", command, config.with_suffix(".log"), self._is_ready)

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self._admin}/ready", timeout=60) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def hosts(self, cluster: str) -> dict[int, dict[str, Any]]:
        """What it says of each replica, by port."""
        with urllib.request.urlopen(f"{self._admin}/clusters?format=json", timeout=60) as answer:
            found = json.load(answer)["cluster_statuses"]
        (status,) = [each for each in found if each["name"] == cluster]
        return {each["address"]["socket_address"]["port_value"]: each for each in status["host_statuses"]}

    def takes(self, port: int) -> bool:
        """Whether it sends requests to the replica with this port of gRPC."""
        health = self.hosts("grpc")[port]["health_status"]
        return health == {"eds_health_status": "HEALTHY"}

    def asked(self, cluster: str) -> dict[int, int]:
        """How many requests each replica was sent."""
        return self._counted(cluster, "rq_total")

    def active(self, cluster: str) -> dict[int, int]:
        """How many requests, or streams of them, each replica has now."""
        return self._counted(cluster, "rq_active")

    def _counted(self, cluster: str, name: str) -> dict[int, int]:
        found = {}
        for port, host in self.hosts(cluster).items():
            found[port] = int(next(s.get("value", 0) for s in host["stats"] if s["name"] == name))
        return found


@contextmanager
def envoy(
    replicas: str, folder: Path, *, change: Callable[[dict[str, Any]], None] | None = None, arguments: Sequence[str] = ()
) -> Iterator[Envoy]:
    """The Envoy that `pipeline deploy envoy` makes, with its configuration changed or not."""
    ports = free_ports(3)
    command = [*python_command("pipeline.__main__"), "deploy", "envoy", "--replicas", replicas, "--listen", "127.0.0.1"]
    for name, port in zip(("http", "grpc", "admin"), ports, strict=True):
        command += [f"--{name}-port", str(port)]
    text = subprocess.run([*command, *arguments], check=True, capture_output=True, text=True, env=os.environ).stdout
    config = folder / f"envoy-{ports[0]}.yaml"
    if change is not None:
        document = yaml.safe_load(text)
        change(document)
        text = yaml.safe_dump(document)
    config.write_text(text)
    found = Envoy(config, ports)
    try:
        yield found
    finally:
        found.server.close()


class Over:
    """Calls over one of the two fronts, in one connection that stays."""

    def __init__(self, front: str, where: Where) -> None:
        self._front = front
        if front == "grpc":
            self._rpc = Rpc(where)  # type: ignore[arg-type]
        else:
            self._client = httpx.Client(timeout=200, verify=False)
            self._url = f"{where.url}/v2/models/waiting/infer"

    def infer(self, ms: int, nbytes: int = 64) -> None:
        """Ask, and look at the answer."""
        asked = request(ms, nbytes)
        if self._front == "grpc":
            response = self._rpc.infer(asked)
        else:
            body = http_request.encode(asked, True)
            answer = self._client.post(
                self._url, content=b"".join(body.parts), headers={HEADER: str(body.json_length)}
            )
            assert answer.status_code == 200, f"{answer.status_code} {answer.text[:200]}"
            response = http_response.decode(answer.content, answer.headers.get(HEADER), LARGE, {})
        assert array_of(response, "sum", np.uint64)[0] == answer_to(ms, nbytes)

    def close(self) -> None:
        (self._rpc if self._front == "grpc" else self._client).close()


class Load:
    """Callers that ask one request after the other, half of them over each front, until the block ends."""

    def __init__(self, where: Where, *, callers: int = 8, ms: int = 20, nbytes: int = 64) -> None:
        self.answered = 0
        self.failures: list[str] = []
        self._size = (ms, nbytes)
        self._end = threading.Event()
        self._lock = threading.Lock()
        self._threads = [
            threading.Thread(target=self._ask, args=(("grpc", "http")[number % 2], where)) for number in range(callers)
        ]

    def _ask(self, front: str, where: Where) -> None:
        over = Over(front, where)
        try:
            while not self._end.is_set():
                try:
                    over.infer(*self._size)
                except Exception as error:
                    with self._lock:
                        self.failures.append(f"{front}: {type(error).__name__}: {error}")
                else:
                    with self._lock:
                        self.answered += 1
        finally:
            over.close()

    def more(self, count: int) -> None:
        """Wait until so many more were answered."""
        before = self.answered
        until(lambda: self.answered >= before + count or len(self.failures) > 100, f"{count} more answers")

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()
