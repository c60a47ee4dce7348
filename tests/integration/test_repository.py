"""The models of a folder, behind two gateways: one truth, whichever of them is asked."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.errors import KserveError
from pipeline.interpreter import python_command
from pipeline.kserve.values import InferRequest
from tests.integration.conftest import Folder
from tests.integration.gateways import Gateway, Http, serving, tensor

#: It takes minutes beside the other tests: `make test-foreign`.
pytestmark = pytest.mark.foreign


def request(model: str, data: bytes = b"abc") -> InferRequest:
    return InferRequest(model, "", (tensor("data", np.frombuffer(data, np.uint8)),), binary_output=True)


def answer(http: Http, model: str) -> bytes:
    return bytes(http.infer(request(model)).outputs[0].data or b"")


def states(http: Http, **document: Any) -> dict[str, tuple[str, str]]:
    entries = http.post("/v2/repository/index", document)
    return {entry["name"]: (entry.get("state", ""), entry.get("reason", "")) for entry in entries}


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    folder = Folder(tmp_path_factory.mktemp("shelf"))
    folder.config({}, name="first", serve={"control": True, "gateways": 2, "shared_memory": ["/shelf_"]})
    folder.config({}, name="second")
    (folder.path / "broken.yaml").write_text("inputs: [")
    return folder


@pytest.fixture(scope="module")
def log(shelf: Folder) -> Path:
    return shelf.path / "log"


@pytest.fixture(scope="module")
def gateway(shelf: Folder, log: Path) -> Iterator[Gateway]:
    with serving("--repository", shelf.path, "--load", "first", errors=log) as gateway:
        yield gateway


@pytest.fixture
def http(gateway: Gateway) -> Http:
    """Each call is a connection of its own, which the kernel gives to either gateway."""
    return Http(gateway)


def test_with_control_only_what_is_named_is_loaded_and_the_index_has_all(
    http: Http, gateway: Gateway, log: Path
) -> None:
    found = states(http)
    assert found["first"] == ("READY", "")
    # Never loaded: only its name, as there.
    assert found["second"] == ("", "")
    assert found["broken"][0] == "UNAVAILABLE"
    assert "broken.yaml" in found["broken"][1]
    assert states(http, ready=True) == {"first": ("READY", "")}
    assert "broken.yaml" in log.read_text()
    assert "serving first on" in gateway.line
    assert "by 2 gateways" in gateway.line
    assert answer(http, "first") == b"abc"
    with pytest.raises(KserveError) as refused:
        answer(http, "second")
    assert refused.value.code == "NOT_FOUND"


def test_a_model_is_loaded_and_unloaded_by_its_name_for_every_gateway(http: Http) -> None:
    http.post("/v2/repository/models/second/load")
    assert [answer(http, "second") for _ in range(8)] == [b"abc"] * 8
    http.post("/v2/repository/models/second/unload")
    for _ in range(8):
        with pytest.raises(KserveError):
            answer(http, "second")
        assert states(http)["second"] == ("UNAVAILABLE", "unloaded")


def test_a_file_that_was_added_since_the_start_is_served_and_one_that_was_removed_is_not(
    http: Http, shelf: Folder
) -> None:
    path = shelf.config({}, name="later")
    assert states(http)["later"] == ("", "")
    http.post("/v2/repository/models/later/load")
    assert answer(http, "later") == b"abc"
    path.unlink()
    with pytest.raises(KserveError, match="failed to poll"):
        http.post("/v2/repository/models/later/load")
    assert answer(http, "later") == b"abc"
    http.post("/v2/repository/models/later/unload")
    assert "later" not in states(http)


def test_a_file_that_was_changed_is_read_anew_and_a_wrong_one_leaves_the_old_version_serving(folder: Folder) -> None:
    folder.config({}, name="one")
    with serving("--repository", folder.path, "--control", "--load", "*", "--gateways", 2) as gateway:
        http = Http(gateway)
        assert http.get("/v2/models/one")["inputs"][0]["shape"] == [-1]
        folder.config({"with": {"no_such_option": 1}}, name="one")
        with pytest.raises(KserveError, match="no_such_option") as refused:
            http.post("/v2/repository/models/one/load")
        assert refused.value.code == "INTERNAL"
        assert answer(http, "one") == b"abc"
        folder.config({}, name="one", serve={"batched": True, "max_batch_size": 2})
        http.post("/v2/repository/models/one/load")
        # No gateway shows the old version once it is answered, and each asks the new one: a batch of two rows.
        for _ in range(8):
            assert http.get("/v2/models/one")["inputs"][0]["shape"] == [-1, -1]
            rows = tensor("data", np.frombuffer(b"abcdef", np.uint8).reshape(2, 3))
            answered = http.infer(InferRequest("one", "", (rows,), binary_output=True))
            assert bytes(answered.outputs[0].data or b"") == b"abcdef"
        # The same of `pipeline reload`, of which the keeper knows nothing: each gateway sees it for itself.
        folder.config({}, name="one")
        command = [*python_command("pipeline.__main__"), "reload", "one"]
        subprocess.run(command, check=True, capture_output=True, timeout=120)
        for _ in range(8):
            assert http.get("/v2/models/one")["inputs"][0]["shape"] == [-1]
            assert answer(http, "one") == b"abc"


@pytest.mark.parametrize("name", ["broken", "nope", "first.yaml", "..%2Ffirst", "%2Fetc%2Fpasswd", "a" * 5000])
def test_what_is_no_sound_model_is_refused_with_its_reason(http: Http, name: str) -> None:
    # A slash is in no name: there is no such path.
    with pytest.raises(KserveError, match=r"failed to load|Not Found"):
        http.post(f"/v2/repository/models/{name}/load")


def test_settings_and_regions_hold_at_every_gateway_as_soon_as_they_are_answered(http: Http) -> None:
    key = Path(f"/dev/shm/shelf_{os.getpid()}")
    key.write_bytes(bytes(64))
    try:
        for round in range(5):
            http.post("/v2/systemsharedmemory/region/r/register", {"key": f"/{key.name}", "byte_size": 64})
            http.post("/v2/logging", {"log_info": bool(round % 2)})
            http.post("/v2/trace/setting", {"trace_rate": str(round)})
            for _ in range(6):
                assert [each["name"] for each in http.get("/v2/systemsharedmemory/status")] == ["r"]
                assert http.get("/v2/logging")["log_info"] is bool(round % 2)
                assert http.get("/v2/trace/setting")["trace_rate"] == str(round)
            with pytest.raises(KserveError, match="already in manager"):
                http.post("/v2/systemsharedmemory/region/r/register", {"key": f"/{key.name}", "byte_size": 64})
            http.post("/v2/systemsharedmemory/region/r/unregister")
            assert [http.get("/v2/systemsharedmemory/status") for _ in range(6)] == [[]] * 6
        with pytest.raises(KserveError, match="takes keys that begin with"):
            http.post("/v2/systemsharedmemory/region/r/register", {"key": "/other", "byte_size": 64})
    finally:
        key.unlink()
        http.post("/v2/logging", {"log_info": True})


def test_statistics_are_of_all_gateways_together(http: Http) -> None:
    def answered() -> int:
        (found,) = http.get("/v2/models/first/stats")["model_stats"]
        return int(found["inference_stats"]["success"]["count"])

    before = answered()
    for _ in range(12):
        answer(http, "first")
    assert [answered() for _ in range(6)] == [before + 12] * 6


def refusal(*arguments: Any) -> tuple[int, str]:
    done = subprocess.run(
        [*python_command("pipeline.__main__"), "serve", *map(str, arguments)], capture_output=True, text=True, timeout=120
    )
    return done.returncode, done.stderr


def test_what_makes_no_sense_is_refused_before_anything_starts(tmp_path: Path, shelf: Folder) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    for arguments, text in (
        ((), "--repository DIR"),
        (("--repository", empty), "at least one file"),
        (("--repository", tmp_path / "nope"), "expected a folder of YAML files"),
        (("--repository", shelf.path, "--load", "frist"), "did you mean"),
        (("--load", "first", shelf.path / "first.yaml"), "--repository DIR beside it"),
        (("--repository", shelf.path, shelf.path / "first.yaml"), "also named on the command line"),
    ):
        code, errors = refusal(*arguments)
        assert (code, text in errors) == (2, True), errors


def test_a_port_that_another_pipeline_serve_has_is_refused(gateway: Gateway, shelf: Folder) -> None:
    port = gateway.url.rpartition(":")[2]
    code, errors = refusal(shelf.path / "second.yaml", "--http-port", port, "--grpc-port", 0, "--metrics-port", 0)
    assert (code, f"127.0.0.1:{port} cannot be had" in errors) == (3, True), errors


def test_without_control_all_models_are_loaded_and_those_that_do_not_start_are_listed(folder: Folder) -> None:
    folder.config({}, name="good")
    folder.config({"use": "./sample_stages.py:NoSuchClass"}, name="bad")
    errors = folder.path / "log"
    with serving("--repository", folder.path, errors=errors) as gateway:
        http = Http(gateway)
        found = states(http)
        assert found["good"] == ("READY", "")
        assert found["bad"][0] == "UNAVAILABLE"
        assert "NoSuchClass" in found["bad"][1]
        assert "bad is not served" in errors.read_text()
        assert http.request("GET", "/v2/health/ready").status_code == 200
        assert http.request("POST", "/v2/repository/models/good/unload").status_code == 403
