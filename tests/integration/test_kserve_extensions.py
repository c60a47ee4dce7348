"""The protocol's extensions, as Triton's clients use them: shared memory, statistics, the repository, settings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.kserve.values import InferRequest, Region, RequestedOutput
from tests.integration.gateways import MODELS, A, B, Gateway, Http, Rpc, refused, serving, simple

KEY = "/conf_"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    models = [MODELS / "simple.yaml", MODELS / "identity_uint8.yaml"]
    with serving(*models, errors=tmp_path_factory.mktemp("gateway") / "log") as gateway:
        yield gateway


@pytest.fixture(scope="module")
def http(gateway: Gateway) -> Http:
    return Http(gateway)


@pytest.fixture(scope="module")
def rpc(gateway: Gateway) -> Iterator[Rpc]:
    rpc = Rpc(gateway)
    yield rpc
    rpc.close()


# -- shared memory --------------------------------------------------------------------------------


class RegionCalls:
    """The same calls over either front."""

    def __init__(self, front: Http | Rpc) -> None:
        self._front = front
        self.infer = front.infer

    def register(self, name: str, key: str, nbytes: int) -> None:
        if isinstance(self._front, Http):
            self._front.post(
                f"/v2/systemsharedmemory/region/{name}/register", {"key": key, "offset": 0, "byte_size": nbytes}
            )
        else:
            self._front.call("SystemSharedMemoryRegister", name=name, key=key, offset=0, byte_size=nbytes)

    def unregister(self, name: str = "") -> None:
        if isinstance(self._front, Http):
            self._front.post(f"/v2/systemsharedmemory{f'/region/{name}' if name else ''}/unregister")
        else:
            self._front.call("SystemSharedMemoryUnregister", name=name)

    def status(self, name: str = "") -> set[str]:
        if isinstance(self._front, Http):
            found = self._front.get(f"/v2/systemsharedmemory{f'/region/{name}' if name else ''}/status")
            return {region["name"] for region in found}
        return set(self._front.call("SystemSharedMemoryStatus", name=name).regions)


@pytest.fixture(params=["http", "grpc"])
def regions(request: pytest.FixtureRequest, http: Http, rpc: Rpc) -> RegionCalls:
    return RegionCalls(http if request.param == "http" else rpc)


@pytest.fixture
def memory() -> Iterator[tuple[Path, Path]]:
    paths = Path(f"/dev/shm{KEY}in"), Path(f"/dev/shm{KEY}out")
    paths[0].write_bytes(A.tobytes() + B.tobytes())
    paths[1].write_bytes(bytes(2 * A.nbytes))
    yield paths
    for path in paths:
        path.unlink()


def in_regions(source: Region, **fields: Any) -> InferRequest:
    inputs = tuple(
        type(each)(each.name, each.datatype, each.shape, region=region)
        for each, region in zip(simple().inputs, (source, Region("in", A.nbytes, A.nbytes)))
    )
    outputs = (
        RequestedOutput("OUTPUT0", region=Region("out", 0, A.nbytes)),
        RequestedOutput("OUTPUT1", region=Region("out", A.nbytes, A.nbytes)),
    )
    return simple(inputs=inputs, outputs=outputs, **fields)


def test_tensors_go_and_come_in_shared_memory(regions: RegionCalls, memory: tuple[Path, Path]) -> None:
    regions.unregister()
    regions.register("in", f"{KEY}in", 2 * A.nbytes)
    regions.register("out", f"{KEY}out", 2 * A.nbytes)
    response = regions.infer(in_regions(Region("in", 0, A.nbytes)))
    assert memory[1].read_bytes() == (A + B).tobytes() + (A - B).tobytes()
    assert [output.region for output in response.outputs] == [
        Region("out", 0, A.nbytes),
        Region("out", A.nbytes, A.nbytes),
    ]
    assert regions.status() == {"in", "out"}
    assert refused(regions.register, "in", f"{KEY}in", 1).code in ("ALREADY_EXISTS", "INVALID_ARGUMENT")
    assert refused(regions.register, "big", f"{KEY}in", 1 << 30).code == "INVALID_ARGUMENT"
    assert refused(regions.register, "no", f"{KEY}none", 10).code == "INTERNAL"
    assert refused(regions.register, "ours", "/trtlab.x", 10).code == "PERMISSION_DENIED"
    beyond = in_regions(Region("in", 2 * A.nbytes - 4, A.nbytes))
    assert refused(regions.infer, beyond).code == "INVALID_ARGUMENT"
    assert refused(regions.infer, in_regions(Region("gone", 0, A.nbytes))).code == "NOT_FOUND"
    assert refused(regions.status, "gone").code == "NOT_FOUND"
    regions.unregister("in")
    regions.unregister("in")
    regions.unregister()
    assert regions.status() == set()


def test_there_is_no_cuda_shared_memory(http: Http, rpc: Rpc) -> None:
    assert http.get("/v2/cudasharedmemory/status") == []
    assert not rpc.call("CudaSharedMemoryStatus").regions
    http.post("/v2/cudasharedmemory/unregister")
    rpc.call("CudaSharedMemoryUnregister")
    assert refused(http.post, "/v2/cudasharedmemory/region/x/register", {}).code == "UNIMPLEMENTED"
    assert refused(lambda: rpc.call("CudaSharedMemoryRegister", name="x")).code == "UNIMPLEMENTED"


# -- statistics, repository, settings -------------------------------------------------------------


def test_statistics_count_requests_and_have_what_perf_analyzer_needs(http: Http, rpc: Rpc) -> None:
    before = http.get("/v2/models/simple/stats")["model_stats"][0]
    http.infer(simple(np.tile(A, (2, 1)), np.tile(B, (2, 1))))
    after = http.get("/v2/models/simple/stats")["model_stats"][0]
    assert after["inference_count"] - before["inference_count"] == 2
    stats = after["inference_stats"]
    assert len({stats[name]["count"] for name in ("success", "compute_input", "compute_infer", "compute_output")}) == 1
    assert stats["cache_hit"] == stats["cache_miss"] == {"count": 0, "ns": 0}
    assert after["last_inference"] >= before["last_inference"]
    everything = http.get("/v2/models/stats")["model_stats"]
    assert len(everything) == len(rpc.call("ModelStatistics").model_stats) == 2
    assert refused(http.get, "/v2/models/nope/stats").code == "INVALID_ARGUMENT"


def test_the_index_names_every_model(http: Http, rpc: Rpc) -> None:
    found = http.post("/v2/repository/index", {"ready": True})
    assert {"name": "simple", "version": "1", "state": "READY"} in found
    assert {entry.name for entry in rpc.call("RepositoryIndex").models} >= {entry["name"] for entry in found}


@pytest.mark.foreign
def test_a_model_is_unloaded_and_loaded_again() -> None:
    with serving(MODELS / "simple.yaml") as gateway:
        http = Http(gateway)
        http.infer(simple())
        http.post("/v2/repository/models/simple/unload", {})
        assert http.request("GET", "/v2/models/simple/ready").status_code == 400
        assert refused(http.infer, simple()).code == "NOT_FOUND"
        (entry,) = http.post("/v2/repository/index")
        assert (entry["name"], entry["state"], entry["reason"]) == ("simple", "UNAVAILABLE", "unloaded")
        http.post("/v2/repository/models/simple/load", {})
        http.get("/v2/models/simple/ready")
        http.infer(simple())
        # One that is loaded is replaced by its new version, without a gap.
        http.post("/v2/repository/models/simple/load")
        http.infer(simple())


def test_an_unknown_model_is_not_loaded_and_is_unloaded_already(http: Http, rpc: Rpc) -> None:
    assert refused(http.post, "/v2/repository/models/nope/load", {}).code == "INTERNAL"
    assert refused(lambda: rpc.call("RepositoryModelLoad", model_name="nope")).code == "INTERNAL"
    http.post("/v2/repository/models/nope/unload", {})


@pytest.mark.parametrize("parameter", ["config", "file:1/model.py"])
def test_no_code_is_taken_over_the_network(http: Http, parameter: str) -> None:
    error = refused(http.post, "/v2/repository/models/simple/load", {"parameters": {parameter: "x"}})
    assert error.code == "PERMISSION_DENIED"


def test_settings_are_told_and_changed_but_no_file_is_set(http: Http, rpc: Rpc) -> None:
    assert http.get("/v2/trace/setting")["trace_level"] == ["OFF"]
    assert http.post("/v2/logging", {"log_verbose_level": 0})["log_info"] is True
    assert refused(http.post, "/v2/logging", {"log_file": "/tmp/x"}).code == "INVALID_ARGUMENT"
    assert refused(http.post, "/v2/trace/setting", {"trace_level": ["TIMESTAMPS"]}).code == "UNIMPLEMENTED"
    assert rpc.call("TraceSetting").settings["trace_rate"].value[:] == ["1000"]
    assert rpc.call("LogSettings").settings["log_format"].string_param == "default"
