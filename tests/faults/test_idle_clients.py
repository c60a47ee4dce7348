"""Clients that are idle, stopped or interrupted: the others are served meanwhile."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from pipeline.client import Client
from pipeline.errors import Unavailable
from pipeline.testing import running
from tests.faults.load import Load, until

#: Holds one granted slot, and one into which it writes; then it waits for its user.
HOLDER = """\
import sys, time
from pathlib import Path
from pipeline.client import Client
client = Client.connect(Path(sys.argv[1]), name="holder")
client.submit(data=b"x").get()
draft = client.draft(data=(5,))
print("holding", flush=True)
while True:
    draft.inputs["data"][:] = 7
    time.sleep(0.001)
"""


LARGE = {"name": "data", "dtype": "uint8", "shape": ["bytes"], "max": {"bytes": "2MiB"}}


def ask(client: Client, data: bytes) -> None:
    with client.submit(data=data, timeout_s=20).get(200) as result:
        assert result["data"].tobytes() == data


@pytest.mark.parametrize("slots", [1, 2, 8])
def test_each_of_many_idle_clients_can_send_at_any_time(folder: Any, slots: int) -> None:
    with running(folder.config({}, ingress={"slots": slots})) as pipeline, ExitStack() as stack:
        clients = [stack.enter_context(pipeline.client(f"web{number}")) for number in range(20)]
        for turn in range(3):
            for number, client in enumerate(clients):
                ask(client, b"%d %d" % (turn, number))
        # A large request too, of a size with one slot.
        status = clients[0].status()
        assert sum(pool["free"] for pool in status["pools"]) >= sum(pool["slots"] for pool in status["pools"]) // 2


def test_no_idle_client_keeps_the_only_slot_of_a_size(folder: Any) -> None:
    # 16 slots of up to 2 MiB: one of them has 2 MiB.
    config = folder.config({"use": "./deadly_stages.py:Large"}, inputs=[LARGE])
    with running(config) as pipeline, ExitStack() as stack:
        clients = [stack.enter_context(pipeline.client(f"web{number}")) for number in range(4)]
        for turn in range(2):
            for client in clients:
                draft = client.draft(data=(2_000_000,), timeout_s=20)
                draft.inputs["data"][:] = turn
                with draft.submit().get(200) as result:
                    assert int(result["last"]) == turn


def test_while_a_client_that_holds_slots_is_stopped_others_are_served_from_their_own(
    folder: Any, started: Callable[..., subprocess.Popen[Any]]
) -> None:
    with running(folder.config({}, ingress={"slots": 4})) as pipeline, ExitStack() as stack:
        holders = [
            started(pipeline.run_dir, command=[sys.executable, "-c", HOLDER], stdout=subprocess.PIPE, text=True)
            for _ in range(2)
        ]
        for holder in holders:
            assert holder.stdout.readline() == "holding\n"
        for holder in holders:
            holder.send_signal(signal.SIGSTOP)
        client = stack.enter_context(pipeline.client())
        load = Load(client)
        load.more(50)
        # They go on writing into the slots that they were granted, which they still hold.
        for holder in holders:
            holder.send_signal(signal.SIGCONT)
        load.more(50)
        load.finish()
        granted = {entry["name"]: entry["granted"] for entry in client.status()["clients"]}
        assert granted["holder"] >= 1
        for holder in holders:
            holder.kill()
        until(lambda: client.status()["counts"].get("client_deaths") == 2)
        assert all(pool["free"] >= pool["slots"] - 1 for pool in client.status()["pools"])


class Cut(BaseException):
    pass


@pytest.mark.timeout(300, method="thread")  # the test has the signal of the other method
def test_an_answer_is_not_lost_to_a_signal_whose_handler_raises(folder: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def cut(*_: object) -> None:
        raise Cut

    # If it is raised in a finaliser, Python prints and drops it; pytest would keep it, and with its frames results.
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)
    before = signal.signal(signal.SIGALRM, cut)
    cuts = 0
    try:
        with running(folder.config({"with.seconds": 0.002})) as pipeline, pipeline.client() as client:
            for number in range(200):
                data = b"%d" % number
                future = client.submit(data=data, timeout_s=20)
                soon = 0.0001 * (1 + number % 20)
                while True:
                    # Later each time it was too soon, so that the test ends.
                    try:
                        signal.setitimer(signal.ITIMER_REAL, soon)
                        result = future.get(200)
                        signal.setitimer(signal.ITIMER_REAL, 0)
                        break
                    except Cut:
                        cuts += 1
                        soon *= 1.3
                    finally:
                        signal.setitimer(signal.ITIMER_REAL, 0)
                assert result["data"].tobytes() == data
                result.release()
            assert client.outstanding == 0
            until(lambda: all(pool["free"] >= pool["slots"] - 1 for pool in client.status()["pools"]))
    finally:
        signal.signal(signal.SIGALRM, before)
    assert cuts > 20


@pytest.mark.foreign
def test_the_slots_of_a_client_come_back_although_its_forked_child_lives(
    folder: Any, started: Callable[..., subprocess.Popen[Any]]
) -> None:
    code = """\
import os, sys, time
from pathlib import Path
from pipeline.client import Client
client = Client.connect(Path(sys.argv[1]), name="parent")
drafts = [client.draft(data=(5,)) for _ in range(3)]
read, write = os.pipe()
if not os.fork():
    os.write(write, b"!")
    time.sleep(600)
os.read(read, 1)
print("forked", flush=True)
time.sleep(600)
"""
    with running(folder.config({}, ingress={"slots": 8})) as pipeline, pipeline.client() as client:
        parent = started(pipeline.run_dir, command=[sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        assert parent.stdout.readline() == "forked\n"
        children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
        try:
            assert len(children) == 1
            assert client.status()["pools"][0]["free"] <= 5
            parent.kill()
            until(lambda: client.status()["pools"][0]["free"] >= 7)
            os.kill(int(children[0]), 0)  # it lives
        finally:
            for child in children:
                os.kill(int(child), signal.SIGKILL)


@pytest.mark.foreign
def test_connect_waits_for_a_pipeline_that_is_not_there_yet(
    folder: Any, started: Callable[..., subprocess.Popen[Any]]
) -> None:
    config = folder.config({}, name="late")
    with pytest.raises(Unavailable, match="no pipeline 'late' is running here"):
        Client.connect("late")
    began = time.monotonic()
    with pytest.raises(Unavailable, match="no pipeline 'late' is running here"):
        Client.connect("late", timeout_s=0.3)
    assert time.monotonic() - began >= 0.3
    process = started("run", config, "--serve")
    with Client.connect("late", timeout_s=60) as client:
        ask(client, b"early")
    process.terminate()
    assert process.wait(200) == 0


def test_a_client_by_name_follows_its_pipeline_through_a_restart(
    folder: Any, started: Callable[..., subprocess.Popen[Any]]
) -> None:
    config = folder.config({}, name="again")
    first = started("run", config, "--serve")
    with Client.connect("again", timeout_s=60) as client:
        large = bytes(range(250)) * 4
        kept = client.submit(data=large).get(200)["data"]
        first.terminate()
        assert first.wait(200) == 0
        second = started("run", config, "--serve")
        client.reconnect(60)
        ask(client, b"after")
        assert kept.tobytes() == large
        # A request finds the new run too, without any call of the application.
        second.terminate()
        assert second.wait(200) == 0
        third = started("run", config, "--serve")
        end = time.monotonic() + 200
        while True:
            try:
                ask(client, b"third")
                break
            except Unavailable:
                assert time.monotonic() < end
                time.sleep(0.05)
    third.terminate()
    assert third.wait(200) == 0
