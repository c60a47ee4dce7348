"""A pipeline of two shards, as clients of each kind, commands and Prometheus see it."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest

import pipeline
from pipeline.client import Client
from pipeline.interpreter import python_command
from pipeline.testing import RunningPipeline, running
from pipeline.wire.address import CLIENTS
from pipeline.wire.run_dir import pipeline_of
from pipeline.wire.shards import shards_of
from tests.integration.conftest import Folder
from tests.integration.gateways import serving

#: Below the ports that the kernel gives to those who ask for any, so that no other test has it.
PORT = 20_000 + os.getpid() % 10_000


@pytest.fixture(scope="module")
def sharded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPipeline]:
    folder = Folder(tmp_path_factory.mktemp("sharded"))
    config = folder.config({"replicas": 2}, name="sharded", shards=2, metrics={"port": PORT})
    with running(config) as found:
        for port in (PORT, PORT + 1):
            # It is no condition of being ready, and may still be on its way.
            scrape(port)
        yield found


def scrape(port: int) -> str:
    """What a shard's exporter answers, once it listens."""
    end = time.monotonic() + 200
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=200)
        try:
            connection.request("GET", "/metrics")
            return connection.getresponse().read().decode()
        except ConnectionRefusedError:
            assert time.monotonic() < end
            time.sleep(0.05)
        finally:
            connection.close()


def command(*arguments: str) -> tuple[int, str]:
    done = subprocess.run(
        [*python_command("pipeline.__main__"), *arguments], capture_output=True, text=True, timeout=200, check=False
    )
    return done.returncode, done.stdout + done.stderr


def spread(sharded: RunningPipeline) -> Counter[str]:
    """How many clients are in each shard."""
    return Counter(
        {
            pipeline_of(shard): sum(entry.suffix == ".lock" for entry in (shard / CLIENTS).iterdir())
            for shard in shards_of(sharded.run_dir)
        }
    )


def await_no_client(sharded: RunningPipeline) -> None:
    end = time.monotonic() + 200
    while spread(sharded).total():
        assert time.monotonic() < end, spread(sharded)
        time.sleep(0.01)


def echo(client: Client, text: bytes) -> bytes:
    with client.submit(data=text).get(200) as result:
        return result["data"].tobytes()


def test_clients_that_come_at_once_are_shared_out_evenly(sharded: RunningPipeline) -> None:
    await_no_client(sharded)
    together = Barrier(8)

    def one(number: int) -> tuple[bytes, int, str, Counter[str]]:
        together.wait(200)
        with Client.connect("sharded") as client:
            together.wait(200)
            found = spread(sharded)
            answer, status = echo(client, bytes([number])), client.status()
            together.wait(200)
            return answer, len(status["stages"][0]["workers"]), status["pipeline"], found

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(one, range(8)))
    # Each shard has its part of the replicas.
    assert found == [(bytes([at]), 1, "sharded", {"sharded.0": 4, "sharded.1": 4}) for at in range(8)]


def test_managers_find_it_under_its_name_in_threads_and_in_asyncio(sharded: RunningPipeline) -> None:
    with pipeline.connect("sharded") as manager:
        assert manager.get_models() == ["sharded"]
        future = manager.infer_runner("sharded").infer(data=np.arange(3, dtype=np.uint8))
        assert future.get()["data"].tolist() == [0, 1, 2]
        status = manager.status()["sharded"]
        assert (status["state"], status["run"]) == ("ready", str(sharded.run_dir))
        assert sorted(name.partition("-")[0] for name in status["shards"]) == ["sharded.0", "sharded.1"]

    async def main() -> list[int]:
        async with pipeline.connect_async() as manager:
            assert manager.get_models() == ["sharded"]
            result = await manager.infer_runner("sharded").infer(data=np.arange(3, dtype=np.uint8))
            return list(result["data"])

    assert asyncio.run(main()) == [0, 1, 2]


def test_as_many_gateways_as_shards_have_one_each(sharded: RunningPipeline, tmp_path: Path) -> None:
    await_no_client(sharded)
    with serving("sharded", "--gateways", "2", errors=tmp_path / "errors"):
        end = time.monotonic() + 200
        while spread(sharded) != {"sharded.0": 1, "sharded.1": 1}:
            assert time.monotonic() < end, spread(sharded)
            time.sleep(0.05)


def test_commands_show_one_name_and_each_shard(sharded: RunningPipeline) -> None:
    code, out = command("ps", "--json")
    rows = {row["pipeline"]: row for row in json.loads(out)}
    assert (code, set(rows)) == (0, {"sharded", "sharded.0", "sharded.1"})
    assert {row["state"] for row in rows.values()} == {"ready"}
    assert rows["sharded"]["memory"] > rows["sharded.0"]["memory"] + rows["sharded.1"]["memory"]
    code, out = command("status", "sharded")
    assert (code, out.splitlines()[0]) == (0, "sharded: ready")
    assert "sharded.0: ready" in out
    assert "sharded.1: ready" in out
    assert command("status", "--probe", "alive") == (0, "sharded: alive\n")
    assert sorted(json.loads(command("status", "sharded", "--json")[1])["shards"]) == ["sharded.0", "sharded.1"]
    assert 'trtlab_ready{pipeline="sharded.1"} 1.0' in command("status", "sharded", "--prometheus")[1]
    code, out = command("top", "sharded", "--once", "--interval", "0.2")
    assert (code, "name it (sharded.0-" in out) == (1, True)
    assert command("top", "sharded.0", "--once", "--interval", "0.2")[0] == 0
    assert "shard, which is started again when it ends" in command("stop", "sharded.1")[1]
    assert "ready: 2 shards" in command("logs", "sharded")[1]


def test_the_story_of_a_request_is_found_in_whichever_shard_it_was(sharded: RunningPipeline) -> None:
    stories = []
    with Client.connect("sharded") as first, Client.connect("sharded") as second:
        for client in (first, second):
            future = client.submit(data=b"x")
            future.get(200).release()
            stories.append(command("status", "sharded", "--request", future.request)[1].splitlines()[1])
    assert sorted(stories) == ["in sharded.0", "in sharded.1"]
    assert command("status", "sharded", "--request", "3fa9c-17")[0] == 1


def test_each_shard_has_a_port_for_prometheus(sharded: RunningPipeline) -> None:
    for port in (PORT, PORT + 1):
        assert 'trtlab_ready{pipeline="sharded"} 1.0' in scrape(port)


def test_lines_of_the_log_say_which_shard_they_are_of(sharded: RunningPipeline) -> None:
    lines = sharded.log().splitlines()
    assert any(line.endswith("shard 0 | ready") for line in lines)
    assert any(line.endswith("shard 1 | ready") for line in lines)
    assert any(line.endswith("info: ready: 2 shards") for line in lines)


def test_check_shows_the_memory_of_all_and_a_run_of_files_is_not_divided(folder: Folder, tmp_path: Path) -> None:
    config = folder.config({"replicas": 2}, shards=2)
    code, out = command("check", str(config))
    assert (code, "2 shards, each a run with a part of this machine" in out) == (0, True)
    assert "in the first of 2 shards," in out
    file = tmp_path / "data.bin"
    file.write_bytes(b"abc")
    code, out = command("run", str(config), str(file))
    assert code == 0, out
    code, out = command("pod", str(config), "--app", "app:1")
    assert (code, "shards: expected 1 for a pod, found 2" in out) == (2, True)
