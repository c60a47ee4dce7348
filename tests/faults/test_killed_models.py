"""The supervisor of a pipeline that `pipeline serve` has started is killed: the keeper starts it again."""

from __future__ import annotations

import time
from contextlib import suppress

import psutil
import pytest

from pipeline.errors import KserveError
from tests.faults.conftest import Folder
from tests.faults.load import until
from tests.faults.test_gateway import request_of
from tests.integration.gateways import Gateway, Http, serving

#: It takes minutes beside the other tests: `make test-foreign`.
pytestmark = pytest.mark.foreign


def test_a_pipeline_whose_supervisor_is_killed_is_started_again_and_meanwhile_is_unavailable(folder: Folder) -> None:
    errors = folder.path / "log"
    config = folder.config({}, serve={"gateways": 2})
    moved = config.with_suffix(".moved")
    with serving(config, errors=errors) as gateway:
        http = Http(gateway)
        # As long as it is not there, the pipeline cannot be started again.
        config.rename(moved)
        supervisor_of(gateway).kill()
        until(lambda: "could not be started again" in errors.read_text())
        assert "has died (killed by signal 9 (SIGKILL)); it is started again" in errors.read_text()
        until(lambda: "could not be started again" in why_not_ready(http))
        assert http.request("GET", "/v2/health/ready").status_code == 400
        with pytest.raises(KserveError) as refused:
            http.infer(request_of(b"x"))
        assert refused.value.code == "UNAVAILABLE"
        moved.rename(config)
        until(lambda: http.request("GET", "/v2/health/ready").status_code == 200)
        assert [bytes(http.infer(request_of(b"x")).outputs[0].data or b"") for _ in range(6)] == [b"x"] * 6
        assert "started anew" in errors.read_text()
        # By itself, at once: a call that is sent meanwhile waits for it, or is refused as above.
        before = supervisor_of(gateway)
        before.kill()
        until(lambda: supervisor_of(gateway).pid != before.pid)
        until(lambda: http.request("GET", "/v2/health/ready").status_code == 200)
        assert bytes(http.infer(request_of(b"y")).outputs[0].data or b"") == b"y"


def supervisor_of(gateway: Gateway) -> psutil.Process:
    """Of the one pipeline that the keeper has started, once it is there."""
    while True:
        for child in psutil.Process(gateway.process.pid).children():
            with suppress(psutil.NoSuchProcess):  # a zombie, too: it has not been waited for
                if "--lifeline" in child.cmdline():
                    return child
        time.sleep(0.01)


def why_not_ready(http: Http) -> str:
    response = http.request("GET", "/v2/models/faulty/ready")
    return "" if response.status_code == 200 else str(response.json()["error"])
