"""A client belongs to one thread of one process, and what it leaves behind comes back."""

from __future__ import annotations

import gc
import os
import pickle
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import ClientMisuse, PipelineError
from tests.unit.pipeline.client.loopback import Client, Pipeline, arrived, arrived_without_client
from tests.unit.pipeline.scheduler.graphs import make_plan

X = bytes(range(1, 17))


def in_thread(call: Callable[[], Any]) -> Any:
    """What a call gives, or the error that it raises, in another thread."""
    found: list[Any] = []

    def run() -> None:
        try:
            found.append(call())
        except BaseException as error:
            found.append(error)

    thread = threading.Thread(target=run, name="another")
    thread.start()
    thread.join(20)
    return found[0]


def test_every_call_of_another_thread_is_refused_and_hurts_nothing(client: Client, pipeline: Pipeline) -> None:
    future = client.submit(x=X, y=X)
    draft = client.draft(timeout_s=10, x=(16,), y=(16,))
    calls: list[Callable[[], Any]] = [
        lambda: client.submit(x=X, y=X),
        lambda: client.draft(x=(16,), y=(16,)),
        lambda: client.draft_nowait(x=(16,), y=(16,)),
        client.flush,
        client.pump,
        client.status,
        client.reconnect,
        client.close,
        draft.submit,
        draft.discard,
    ]
    for call in calls:
        error = in_thread(call)
        assert isinstance(error, ClientMisuse), call
        assert "let each thread connect for itself" in str(error)
    assert future.get(10)["z"].nbytes == 16
    assert isinstance(in_thread(lambda: client.submit(x=X, y=X)), ClientMisuse)
    draft.submit().get(10).release()


def test_the_last_array_may_be_dropped_in_any_thread(start: Callable[..., Pipeline], run_dir: Path) -> None:
    pipeline = start(make_plan("early outputs", slots=24, credits=4))
    with Client.connect(run_dir) as client:
        arrays = [client.submit(x=X, y=X).get(10)["z"] for _ in range(3)]
        arrived(client, pipeline, lambda: pipeline.in_use[-1] == 3)
        in_thread(arrays.clear)
        arrived_without_client(pipeline, lambda: pipeline.in_use[-1] == 0)


def test_a_client_that_is_dropped_without_close_gives_everything_back(run_dir: Path, pipeline: Pipeline) -> None:
    for turn in range(20):
        client = Client.connect(run_dir)
        client.submit(x=X, y=X).get(10)
        under_way = client.submit(x=X, y=X)
        draft = client.draft(timeout_s=10, x=(16,), y=(16,))
        del client, under_way, draft
        # No collector is needed for it: nothing that a client holds refers to it.
        arrived_without_client(pipeline, lambda: not pipeline.scheduler.ingress.clients and not any(pipeline.in_use))
        assert list((run_dir / "clients").iterdir()) == [], turn


def test_a_client_in_a_circle_is_closed_by_the_collector_in_whatever_thread(run_dir: Path, pipeline: Pipeline) -> None:
    client: Any = Client.connect(run_dir)
    client.itself = client
    kept = client.submit(x=X, y=X).get(10)["z"]
    del client
    in_thread(gc.collect)
    # What is still read stays, and its lock with it.
    arrived_without_client(pipeline, lambda: sum(pipeline.in_use) == 1)
    assert len(list((run_dir / "clients").glob("*.lock"))) == 1
    del kept
    arrived_without_client(pipeline, lambda: not any(pipeline.in_use))
    assert list((run_dir / "clients").iterdir()) == []


def test_a_closed_client_goes_with_the_last_of_its_answers_though_the_collector_frees_both_at_once(
    run_dir: Path, pipeline: Pipeline
) -> None:
    client = Client.connect(run_dir)
    future = client.submit(x=X, y=X)
    assert future.wait(10)
    client.close()
    circle: list[Any] = [future]
    circle.append(circle)
    gc.collect()
    # Bytes of that slot may still be read.
    assert len(pipeline.scheduler.ingress.clients) == 1
    del client, future, circle
    gc.collect()
    arrived_without_client(pipeline, lambda: not pipeline.scheduler.ingress.clients and not any(pipeline.in_use))
    assert list((run_dir / "clients").iterdir()) == []


def test_a_client_cannot_be_pickled(client: Client) -> None:
    with pytest.raises(ClientMisuse, match="cannot be sent to another process; connect there"):
        pickle.dumps(client)


def test_a_child_of_a_fork_is_told_to_connect_and_holds_no_lock(
    client: Client, pipeline: Pipeline, run_dir: Path
) -> None:
    future = client.submit(x=X, y=X)
    kept = client.submit(x=X, y=X).get(10)["z"]
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        said = []
        for call in (lambda: client.submit(x=X, y=X), client.pump, lambda: future.get(1), client.status):
            try:
                call()
            except PipelineError as error:
                said.append(f"{type(error).__name__}: {error}")
        del kept
        client.close()
        os.write(write, "\n".join(said).encode())
        os._exit(0)
    os.close(write)
    with open(read) as pipe:
        said = pipe.read().splitlines()
    assert os.waitpid(pid, 0)[1] == 0
    assert len(said) == 4
    assert all(line.startswith("ClientMisuse") and "connect in the child" in line for line in said), said
    # The parent goes on, its socket and lock are there, and nothing of it was given back.
    assert future.get(10)["z"].nbytes == kept.nbytes
    assert client.submit(x=X, y=X).get(10)["z"].tobytes() == kept.tobytes()
    assert len(list((run_dir / "clients").iterdir())) == 2


def test_what_was_held_back_goes_on_while_no_other_thread_sends(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    there, seen = client._exchange.there, []
    monkeypatch.setattr(
        there._scheduler, "proceed", lambda: seen.append((there._mutex.locked(), there._holder)), raising=True
    )
    there.proceed()
    assert seen == [(True, threading.get_ident())]
    assert not there._mutex.locked()
    assert client.submit(x=X, y=X).get(10)["z"].nbytes == 16
