"""A pipeline in the client's own thread."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline.client.shared import SharedClient
from pipeline.graph.plan import Plan
from tests.unit.pipeline.client.direct import Direct
from tests.unit.pipeline.client.loopback import Client, ClientInbox, Pipeline, owner_lock
from tests.unit.pipeline.client.served import Served
from tests.unit.pipeline.scheduler.graphs import make_plan


@pytest.fixture
def run_dir() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=os.environ["TRTLAB_RUN_DIR"]) as folder:
        (Path(folder) / "clients").mkdir()
        with owner_lock(Path(folder)):
            yield Path(folder)


@pytest.fixture
def start(run_dir: Path) -> Iterator[Callable[..., Pipeline]]:
    """Start a pipeline; one that runs already is dead from then on."""
    def die() -> None:
        if ClientInbox.running is not None:
            ClientInbox.running.die()
        ClientInbox.running = None

    def start(plan: Plan | None = None, epoch: int = 0) -> Pipeline:
        die()
        ClientInbox.running = Pipeline(run_dir, plan or make_plan("early outputs", slots=8, credits=4), epoch)
        return ClientInbox.running

    yield start
    die()


@pytest.fixture
def pipeline(start: Callable[..., Pipeline]) -> Pipeline:
    return start()


@pytest.fixture
def client(pipeline: Pipeline, run_dir: Path) -> Iterator[Client]:
    with Client.connect(run_dir) as client:
        yield client


@pytest.fixture
def direct() -> Iterator[Direct]:
    """A client that is let in."""
    direct = Direct()
    direct.start()
    direct.connect()
    yield direct
    direct.close()


@pytest.fixture
def served(pipeline: Pipeline) -> Iterator[Served]:
    """A pipeline that works by itself."""
    # Otherwise it works when an inbox of a client is looked at.
    ClientInbox.running = None
    with Served(pipeline) as served:
        yield served
    pipeline.die()


@pytest.fixture
def shared(served: Served, run_dir: Path, request: pytest.FixtureRequest) -> Iterator[SharedClient]:
    """A client of it that threads share."""
    with SharedClient.connect(run_dir, name="shared", pending=4) as client:
        yield client
    # pytest keeps it until the test is over; the descriptor of its bell is closed when it is gone.
    request.node.funcargs.clear()
