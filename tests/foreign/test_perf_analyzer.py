"""NVIDIA's perf_analyzer 2.41 measures the gateway over each of its ways, by the concurrency and by the rate of requests."""

from __future__ import annotations

import csv
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench.versus.environments import ANALYZER
from tests.integration.gateways import Gateway, serving

pytestmark = pytest.mark.foreign

CONFIG = Path(__file__).parents[2] / "configs/mnist.yaml"
#: How it calls its regions: after the model's tensors, and some numbers.
KEYS = '["/Input3", "/Plus214_Output_0"]'
#: For all ten numbers of the output.
SHARED = ("--shared-memory", "system", "--output-shared-memory-size", "40")


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    log = tmp_path_factory.mktemp("gateway") / "log"
    with serving(CONFIG, "--set", f"serve.shared_memory={KEYS}", errors=log) as gateway:
        yield gateway
    # It leaves them if it is ended in the middle.
    left = [path for name in ("Input3", "Plus214_Output_0") for path in Path("/dev/shm").glob(f"{name}*")]
    for path in left:
        path.unlink(missing_ok=True)
    assert left == []


@pytest.mark.parametrize(
    ("front", "mode", "column"),
    [
        ("http", ("--concurrency-range", "4"), "Concurrency"),
        ("grpc", ("--concurrency-range", "4"), "Concurrency"),
        ("http", ("--concurrency-range", "4", *SHARED), "Concurrency"),
        ("grpc", ("--concurrency-range", "4", *SHARED), "Concurrency"),
        ("http", ("--request-rate-range", "10"), "Request Rate"),
        ("grpc", ("--request-rate-range", "10"), "Request Rate"),
    ],
    ids=["http", "grpc", "http and shared memory", "grpc and shared memory", "http by rate", "grpc by rate"],
)
def test_it_ends_without_an_error_and_its_figures_are_sound(
    environment: Callable[[Path], Path],
    gateway: Gateway,
    tmp_path: Path,
    front: str,
    mode: tuple[str, ...],
    column: str,
) -> None:
    folder = environment(ANALYZER)
    where = gateway.grpc if front == "grpc" else gateway.url.removeprefix("http://")
    report = tmp_path / "report.csv"
    libraries = f"{next(folder.glob('usr/lib/*'))}:{folder / 'nvidia/cuda_runtime/lib'}"
    done = subprocess.run(
        [
            str(folder / "bin/perf_analyzer"), "-m", "mnist", "-u", where, "-i", front, *mode, "-f", str(report),
            # On a busy machine latencies never settle as well as it would have them.
            "--measurement-interval", "1000", "--stability-percentage", "999", "-v",
        ],
        env={**os.environ, "LD_LIBRARY_PATH": libraries}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (row,) = csv.DictReader(report.read_text().splitlines())
    assert row[column] == mode[1]
    rate = float(row["Inferences/Second"])
    # It sends no faster than it is told to; the first and the last of a window may be counted or not.
    assert 0 < rate < 13 if column == "Request Rate" else rate > 0
    assert 0 < float(row["p50 latency"]) <= float(row["p99 latency"])
    # What it reads of the server's statistics.
    assert float(row["Server Compute Infer"]) > 0
    assert "Failed" not in done.stdout
