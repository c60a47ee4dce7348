"""A stage whose model runs on a gateway: decode, infer there, the best labels; and the server dies under it."""

from __future__ import annotations

import os
import signal
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml

import pipeline
from pipeline.config.loader import load_config
from pipeline.errors import DeadlineExceeded, StartError, Unavailable
from pipeline.prepare.describing import describe_stages
from tests.integration.gateways import serving

#: It takes minutes beside the other tests: `make test-foreign`.
pytestmark = pytest.mark.foreign

ROOT = Path(__file__).resolve().parents[2]
PHOTOS = sorted((ROOT / "photos/digits").glob("*.png"))


def config(folder: Path, url: str, **options: Any) -> Path:
    """configs/digits.yaml, whose model runs elsewhere."""
    document = yaml.safe_load((ROOT / "configs/digits.yaml").read_text())
    far = {"url": url, "model": "mnist", "in_flight": 3, "patience_s": 60, **options}
    document["stages"][1] |= {"use": "stages.remote:RemoteInfer", "with": far}
    document.pop("run")
    path = folder / "far.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return path


def test_photographs_are_read_by_a_model_elsewhere_while_its_server_dies_comes_back_and_ends(tmp_path: Path) -> None:
    model = ROOT / "configs/mnist.yaml"
    requests = [{"image": path.read_bytes()} for path in PHOTOS]
    expected = [path.stem for path in PHOTOS]
    with ExitStack() as stack:
        with serving(model) as first:
            url = f"grpc://{first.grpc}"
            manager = stack.enter_context(pipeline.InferenceManager(str(config(tmp_path, url))))
            runner = manager.infer_runner("digits")
            answers = [future.get(timeout=200)["labels"][0] for future in runner.infer_many(requests)]
            assert answers == expected
            futures = runner.infer_many(requests * 10)
            os.killpg(first.process.pid, signal.SIGKILL)
            first.process.wait()
        with serving(model, "--grpc-port", url.rpartition(":")[2]):
            assert [future.get(timeout=200)["labels"][0] for future in futures] == expected * 10
            assert manager.status()["digits"]["state"] == "ready"
        # Now it is gone for good: each request ends at its deadline, and the status says why.
        futures = runner.infer_many(requests, deadline_ms=300)
        assert {type(future.exception(timeout=200)) for future in futures} <= {DeadlineExceeded, Unavailable}
        end = time.monotonic() + 200
        while (status := manager.status()["digits"])["state"] == "ready":
            assert time.monotonic() < end
            time.sleep(0.05)
        assert status["why"].startswith("inference: ")
        assert url in status["why"]


def test_a_server_that_is_not_there_at_the_start_is_told_and_declared_specs_start_without_it(tmp_path: Path) -> None:
    path = config(tmp_path, "grpc://127.0.0.1:9", wait_s=0.2)
    with pytest.raises(StartError, match=r"no server of KServe v2 answers at grpc://127.0.0.1:9 within 0.2 s.*specs:"):
        describe_stages(load_config(path))
    specs = {
        "inputs": [{"name": "Input3", "dtype": "float32", "shape": [1, 28, 28]}],
        "outputs": [{"name": "Plus214_Output_0", "dtype": "float32", "shape": [10]}],
    }
    described = describe_stages(load_config(config(tmp_path, "grpc://127.0.0.1:9", specs=specs)))
    assert str(described["inference"].inputs[0]) == "Input3 float32[1, 28, 28]"
