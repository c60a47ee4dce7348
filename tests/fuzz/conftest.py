"""A gateway that the cases of a module are sent to, and what must be as it was when they are over."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from multiprocessing import resource_tracker, shared_memory
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import yaml

from shm import leftovers
from tests.integration.gateways import MODELS, Gateway, Http, array_of, serving, simple

_NAMES = ("simple", "identity_string", "repeat_int32")
#: How much more the gateway may hold after any number of cases: connections that have not ended yet, caches.
MORE_DESCRIPTORS = 32
MORE_BYTES = 96 << 20
#: Slots of a pool that the gateway's client may keep for its next request.
KEPT_SLOTS = 4
_LIMIT_S = 200.0
_OURS = re.compile(r'File "[^"]*/(pipeline|stages|shm|uvicorn|starlette|h11|asyncio)/|Fatal error')
_FREE = re.compile(r"^trtlab_slots_free(\{.*\}) (\S+)", re.MULTILINE)


class Target:
    """A gateway, and what it had before the first case."""

    def __init__(self, gateway: Gateway, log: Path) -> None:
        self.gateway = gateway
        self._log = log
        self._process = psutil.Process(gateway.process.pid)
        self.before = self._held()
        self._descriptors = self._process.num_fds()
        self._bytes = self._process.memory_info().rss

    @property
    def address(self) -> tuple[str, int]:
        host, port = self.gateway.url.removeprefix("http://").split(":")
        return host, int(port)

    def _held(self) -> dict[str, Any]:
        """What must come back: processes, segments, slots that are free, requests inside."""
        processes = {each.pid: each.create_time() for each in (self._process, *self._process.children(recursive=True))}
        with httpx.Client() as client:
            text = client.get(self.gateway.metrics).text
        return {
            "processes": processes,
            "segments": sorted(found.name for found in leftovers.scan() if found.owner_pid in processes),
            "slots": {pool: float(free) for pool, free in _FREE.findall(text)},
            "inside": sorted(re.findall(r"^trtlab_requests_inside.*", text, re.MULTILINE)),
        }

    def check_unharmed(self) -> None:
        """That all of it is as it was, and that a sound request is answered."""
        assert array_of(Http(self.gateway).infer(simple()), "OUTPUT0", "<i4")[0, 1] == 2
        end = time.monotonic() + _LIMIT_S
        while True:
            found = self._held()
            more = self._process.num_fds() - self._descriptors
            slots = found["slots"]
            found["slots"] = {
                pool: free if slots[pool] >= free - KEPT_SLOTS else slots[pool]
                for pool, free in self.before["slots"].items()
            }
            if found == self.before and more <= MORE_DESCRIPTORS:
                break
            other = {name: (self.before[name], there) for name, there in found.items() if there != self.before[name]}
            assert time.monotonic() < end, f"was, and is: {other}; {more} descriptors more"
            time.sleep(0.1)
        grown = self._process.memory_info().rss - self._bytes
        assert grown < MORE_BYTES, f"{grown >> 20} MiB more"
        text = self._log.read_text(errors="replace")
        # grpcio tells of each caller that is gone before its status; what is ours has our files in it.
        assert _OURS.search(text) is None, text[-3000:]


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    folder = tmp_path_factory.mktemp("fuzz")
    # A request may ask this model to wait: for hours, once its numbers are odd.
    stages = (MODELS / "model_stages.py").read_text()
    assert "time.sleep(" in stages
    (folder / "model_stages.py").write_text(stages.replace("time.sleep(", "min(0.001, "))
    prefix = f"/fuzz_{os.getpid()}"
    for name in _NAMES:
        config = yaml.safe_load((MODELS / f"{name}.yaml").read_text())
        # Closed: loading starts processes. `max_body` bounds what a bomb costs.
        config["serve"] = {**config.get("serve", {}), "control": False, "shared_memory": [prefix], "max_body": 1 << 20}
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(config))
    region = shared_memory.SharedMemory(prefix[1:], create=True, size=64)
    resource_tracker.unregister(f"/{region.name}", "shared_memory")
    try:
        with serving(*[folder / f"{name}.yaml" for name in _NAMES], errors=folder / "log") as gateway:
            http = Http(gateway)
            http.post("/v2/systemsharedmemory/region/fuzz/register", {"key": prefix, "byte_size": 64})
            for _ in range(20):
                http.infer(simple())
            yield Target(gateway, folder / "log")
    finally:
        region.close()
        os.unlink(f"/dev/shm{prefix}")
