"""Servers of others for `test_remote_managers.py`, each with its models: Triton, MLServer, KServe."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from bench.versus import repository
from bench.versus.environments import KSERVE, MLSERVER, required
from bench.versus.process import ServerProcess, free_ports, says_ready
from bench.versus.repository import Model, Tensor
from bench.versus.triton import Triton

__all__ = ["SOURCES", "Where", "in_python", "triton", "triton_models"]

SOURCES = Path(__file__).parent / "models"
_LARGE = (128, 256)

_MODELS = (
    Model(
        "twice",
        (Tensor("x", "FP32", _LARGE), Tensor("names", "STRING")),
        (Tensor("y", "FP32", _LARGE), Tensor("echo", "STRING")),
        SOURCES / "twice.py",
        max_batch_size=4,
    ),
    Model(
        "mnist",
        (Tensor("Input3", "FP32", (1, 28, 28)),),
        (Tensor("Plus214_Output_0", "FP32", (10,)),),
        SOURCES / "columns.py",
        # So many go through shared memory.
        max_batch_size=32,
    ),
)


class Where(NamedTuple):
    """Where a server listens: HOST:PORT."""

    http: str
    grpc: str


def triton_models(folder: Path) -> Path:
    """The repository with `twice` and `mnist`, in a folder."""
    return repository.write(folder / "models", _MODELS)


@contextmanager
def triton(models: Path, *, ports: Sequence[int] | None = None) -> Iterator[Triton]:
    """A Triton that serves them."""
    server = Triton(models, models.parent / "log", ports=ports)
    try:
        yield server
    finally:
        server.close()


@contextmanager
def in_python(kind: str, folder: Path) -> Iterator[Where]:
    """MLServer or KServe, which serves `twice`."""
    home = required({"mlserver": MLSERVER, "kserve": KSERVE}[kind])
    http, grpc, metrics = free_ports(3)
    (folder / "model.py").write_text((SOURCES / f"{kind}_twice.py").read_text())
    if kind == "mlserver":
        tensor = {"datatype": "FP32", "shape": [-1, 4]}
        settings = {
            "host": "127.0.0.1", "http_port": http, "grpc_port": grpc, "metrics_port": metrics, "parallel_workers": 0,
        }  # fmt: skip
        model = {
            "name": "twice", "implementation": "model.Twice", "inputs": [{"name": "x", **tensor}],
            "outputs": [{"name": "y", **tensor}],
        }  # fmt: skip
        (folder / "settings.json").write_text(json.dumps(settings))
        (folder / "model-settings.json").write_text(json.dumps(model))
        command = [str(home / "bin/mlserver"), "start", "."]
    else:
        command = [str(home / "bin/python"), "model.py", str(http), str(grpc)]
    where = Where(f"127.0.0.1:{http}", f"127.0.0.1:{grpc}")
    server = ServerProcess(kind, command, folder / "log", lambda: says_ready(where.http))
    try:
        yield where
    finally:
        server.close()
