"""`colocate: true`: the same stages, the same answers, one process, and nothing sent between them."""

from __future__ import annotations

import os
import shutil
from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from pipeline.client.future import Future
from pipeline.errors import RequestRefused, Unavailable
from pipeline.testing import RunningPipeline, running
from tests.integration.test_batches_in_flight import STAGE
from tests.integration.test_chains import WORDS, config_of

TEXTS = [" ".join(f"w{count}x{index}" for index in range(count)) for count in (0, 1, 2, 7, 60, 0, 13)] * 3


def together(stages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same stages in the workers of the first."""
    first, *others = ({key: value for key, value in stage.items() if key != "replicas"} for stage in stages)
    return [first, *({**stage, "colocate": True} for stage in others)]


def words_of(pipeline: RunningPipeline) -> list[Any]:
    with pipeline.client() as client:
        futures = [client.submit(text=text.encode()) for text in TEXTS]
        answers = []
        for future in futures:
            with future.get(200) as result:
                answers.append(result["words"])
        return answers


def data_of(future: Future) -> bytes:
    with future.get(200) as result:
        return bytes(result["data"].tobytes())


def senders(pid: int) -> Counter[str]:
    """The number of connections to each socket of a process."""
    names = (connection.laddr for connection in psutil.Process(pid).net_connections("unix") if connection.laddr)
    # One of them is the listening socket itself.
    return Counter({name: count - 1 for name, count in Counter(os.path.basename(name) for name in names).items()})


def test_a_chain_in_one_process_gives_what_it_gives_in_several(
    tmp_path: Path, children_of: Callable[[int], dict[str, psutil.Process]]
) -> None:
    with running(config_of(tmp_path, WORDS)) as pipeline:
        expected = words_of(pipeline)
        assert pipeline.stop() == 0
    assert expected[4] == {"words": TEXTS[4].upper().split(), "places": list(range(60)), "count": 60}
    with running(config_of(tmp_path, together(WORDS))) as pipeline:
        assert sorted(children_of(pipeline.pid)) == ["pipeline[words] scheduler", "pipeline[words] split+shout+join/0"]
        assert len({tuple(pipeline.worker_pids(name)) for name in ("split", "shout", "join")}) == 1
        assert words_of(pipeline) == expected
        assert pipeline.stop() == 0


def test_nothing_is_sent_from_a_stage_to_one_of_the_same_process(folder: Any) -> None:
    chain = [{}, {"use": "./sample_stages.py:louder", "with": LOUDER}, {}]
    # The supervisor has one connection to each process, at the address of its first worker.
    for stages, forwarded, told in ((chain, 1, (1, 1, 1)), (together(chain), 0, (1, 0, 0))):
        with running(folder.config(*stages)) as pipeline, pipeline.client() as client:
            for number in range(50):
                assert data_of(client.submit(data=bytes([number]))) == bytes([number + 1])
            # The scheduler has a connection to each worker that it orders from, which is the first stage's.
            connected = zip(client.status()["stages"], (1, 0, 0), (0, forwarded, forwarded), told)
            for stage, of_scheduler, from_before, of_supervisor in connected:
                (worker,) = stage["workers"]
                found = senders(worker["pid"])[f"w{worker['worker']}.sock"]
                assert found == of_scheduler + from_before + of_supervisor, stage["name"]
            assert pipeline.stop() == 0


LOUDER = {
    "inputs": [{"name": "data", "dtype": "uint8", "shape": ["bytes"], "max": {"bytes": 65536}}],
    "outputs": [{"name": "data", "dtype": "uint8", "shape": ["bytes"], "max": {"bytes": 65536}}],
}


@pytest.mark.foreign
def test_the_workers_of_a_stage_that_hosts_another_are_replicas_of_both(folder: Any) -> None:
    config = folder.config({"replicas": 2, "with": {"seconds": 0.002}}, {"colocate": True}, {})
    with running(config) as pipeline, pipeline.client() as client:
        for _ in range(3):
            futures = [client.submit(data=b"%d" % number) for number in range(12)]
            assert [data_of(future) for future in futures] == [b"%d" % n for n in range(12)]
        assert len(set(pipeline.worker_pids("s0"))) == 2
        assert pipeline.worker_pids("s0") == pipeline.worker_pids("s1")
        assert not set(pipeline.worker_pids("s0")) & set(pipeline.worker_pids("s2"))
        assert pipeline.stop() == 0


def test_a_stage_that_cannot_start_is_named_though_it_shares_its_process(folder: Any, cli: Callable[..., Any]) -> None:
    config = folder.config({}, {"colocate": True, "with": {"dies_in": "setup"}})
    finished = cli("run", config, "--serve")
    assert finished.code == 3
    assert "s0+s1/0 could not start: stage s1: RuntimeError: broken on purpose" in finished.err


def test_a_new_scheduler_finds_every_worker_of_a_process(
    folder: Any, children_of: Callable[[int], dict[str, psutil.Process]]
) -> None:
    with running(folder.config({}, {"colocate": True})) as pipeline, pipeline.client() as client:
        assert data_of(client.submit(data=b"before")) == b"before"
        pids = pipeline.worker_pids("s1")
        children_of(pipeline.pid)["pipeline[sample] scheduler"].kill()
        answer = b""
        while not answer:
            try:
                answer = data_of(client.submit(data=b"after"))
            except Unavailable:
                client.reconnect(30)
        assert answer == b"after"
        assert pipeline.worker_pids("s1") == pids
        assert pipeline.stop() == 0


@pytest.mark.foreign
def test_stages_with_several_batches_in_flight_share_a_process(tmp_path: Path) -> None:
    # By another name: Work would take a second for b"slow".
    (tmp_path / "later.py").write_text(STAGE.replace("4096", "65536").replace("slow", "tardy"))
    shutil.copy(Path(__file__).parent / "sample_stages.py", tmp_path)
    document = {
        "inputs": [{"name": "data", "dtype": "uint8", "shape": ["bytes"], "max": {"bytes": 4096}}],
        "stages": [
            {"name": "work", "use": "./sample_stages.py:Work"},
            {"name": "later", "use": "./later.py:Later", "batch": {"max_size": 2}, "colocate": True},
            {"name": "last", "use": "./later.py:Later", "inputs": ["work.data"], "colocate": True},
        ],
        "outputs": {"later": "later.said", "last": "last.said"},
    }
    config = tmp_path / "flying.yaml"
    config.write_text(yaml.safe_dump(document))
    with running(config) as pipeline, pipeline.client() as client:
        texts = [b"bad" if number % 9 == 5 else b"tardy" if number % 7 == 3 else b"%d" % number for number in range(60)]
        flying: deque[tuple[bytes, Future]] = deque()
        while texts or flying:
            while texts and len(flying) < 6:
                flying.append((texts[0], client.submit(data=texts.pop(0))))
            text, future = flying.popleft()
            if text == b"bad":
                with pytest.raises(RequestRefused):
                    future.get(200)
            else:
                with future.get(200) as result:
                    assert result["later"]["data"] == result["last"]["data"] == text.decode()
        assert pipeline.stop() == 0
