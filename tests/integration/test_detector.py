"""`pipeline detector`: Frigate's detectors find things with a pipeline, whatever they send."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.client.aio import AsyncClient
from pipeline.detecting import desk as desks
from pipeline.detecting.boxes import COLUMNS, boxes_of, input_of
from pipeline.detecting.desk import GONE, LATE, OK, Desk
from pipeline.detecting.router import Router
from pipeline.errors import BadInput, Overloaded
from pipeline.testing import RunningPipeline, running
from tests.faults.load import until
from tests.finding import HEADER, Asker, expected, finder, picture

Served = Callable[[str], Any]


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with running(finder(tmp_path_factory.mktemp("finder"), replicas=2)) as pipeline:
        yield pipeline


def served(pipeline: RunningPipeline, ask: Served, deadline_ms: float = 60_000) -> dict[str, int]:
    """Have a thread ask at a desk's address; what has become of the frames, once it has ended."""

    async def main() -> dict[str, int]:
        async with await AsyncClient.connect(pipeline.run_dir, name="detector") as client:
            router = Router("tcp://127.0.0.1:*")
            there = client.interface
            desk = Desk(router, client, input_of(there), boxes_of(there, COLUMNS), deadline_ms)
            desk.open()
            try:
                await asyncio.to_thread(ask, router.endpoint)
                await desk.close()
            finally:
                router.close()
            return {name: count for name, count in desk.outcomes.items() if count}

    return asyncio.run(main())


def test_many_detectors_get_each_its_own_boxes(pipeline: RunningPipeline) -> None:
    def ask(endpoint: str) -> None:
        def one(number: int) -> None:
            asker = Asker(endpoint)
            assert json.loads(*asker.ask(b'{"model_request": true, "model_name": "m"}'))["model_loaded"]
            for turn in range(20):
                value = (number * 20 + turn) % 250
                assert np.array_equal(asker.found(value), expected(value))
            asker.close()

        with ThreadPoolExecutor(12) as pool:
            list(pool.map(one, range(12)))

    assert served(pipeline, ask) == {OK: 240}
    # Frames of several detectors share batches.
    with pipeline.client() as client:
        (stage,) = client.status()["stages"]
        assert sum(worker["batches"] for worker in stage["workers"]) < 240


def test_a_frame_that_is_none_fails_alone_and_with_a_reason(pipeline: RunningPipeline) -> None:
    def ask(endpoint: str) -> None:
        asker = Asker(endpoint)
        other = HEADER.replace(b"32, 32, 3", b"32, 32, 4")
        for parts, why in (
            ((b"no JSON", picture(1)), "expected a header like"),
            ((HEADER, picture(1)[1:]), "expected 3072 bytes"),
            ((other, bytes(4096)), "expected 3 along axis 2"),
            ((HEADER.replace(b"uint8", b"float32"), bytes(4 * 3072)), "set model.input_dtype"),
            ((HEADER,), "a header and a tensor"),
            ((HEADER, picture(254)), "not finite"),
        ):
            assert why in asker.error(*parts)
            assert np.array_equal(asker.found(7), expected(7))
        offered = json.loads(*asker.ask(b'{"model_data": true, "model_name": "m"}', b"a model"))
        assert (offered["model_saved"], offered["model_loaded"]) == (False, False)
        asker.close()

    assert served(pipeline, ask) == {OK: 6, "InvalidRequest": 5, "StageFailed": 1}


def test_a_frame_that_is_late_is_told_so_and_counted_and_so_is_one_whose_detector_is_gone(
    pipeline: RunningPipeline,
) -> None:
    def late(endpoint: str) -> None:
        asker = Asker(endpoint)
        assert asker.error(HEADER, picture(255)) == "not answered within 50 ms"
        asker.close()

    assert served(pipeline, late, 50) == {LATE: 1}

    def gone(endpoint: str) -> None:
        asker = Asker(endpoint)
        asker.socket.send_multipart([HEADER, picture(255)])
        with pipeline.client() as client:
            until(lambda: client.status()["inside"])
        asker.close()

    assert served(pipeline, gone) == {GONE: 1}


def test_more_questions_than_may_be_under_way_are_refused_at_once(
    pipeline: RunningPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask(endpoint: str) -> None:
        asker = Asker(endpoint)
        monkeypatch.setattr(desks, "MOST_ASKED", 0)
        assert asker.error(HEADER, picture(1)) == "0 questions are under way already"
        monkeypatch.setattr(desks, "MOST_ASKED", 2)
        assert np.array_equal(asker.found(7), expected(7))
        asker.close()

    assert served(pipeline, ask) == {Overloaded.code: 1, OK: 1}


def test_a_fault_of_the_desk_or_of_a_stage_costs_one_question(
    pipeline: RunningPipeline, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    raised: list[Exception] = [ZeroDivisionError("a fault"), BadInput("a bad picture")]
    question_of = desks.question_of

    def question(parts: Any) -> Any:
        if raised:
            raise raised.pop()
        return question_of(parts)

    monkeypatch.setattr(desks, "question_of", question)

    def ask(endpoint: str) -> None:
        asker = Asker(endpoint)
        assert asker.error(HEADER, picture(1)) == "a bad picture"
        assert "ZeroDivisionError('a fault')" in asker.error(HEADER, picture(1))
        assert np.array_equal(asker.found(7), expected(7))
        asker.close()

    assert served(pipeline, ask) == {OK: 1, desks.INTERNAL: 1, BadInput.code: 1}
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_the_command_starts_a_pipeline_serves_it_and_ends_with_it(tmp_path: Path) -> None:
    metrics = tmp_path / "found.prom"
    command = [sys.executable, "-m", "pipeline", "detector", str(finder(tmp_path)), "--zmq", "tcp://127.0.0.1:*"]
    child = subprocess.Popen(
        [*command, "--metrics", str(metrics)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ)
    )
    try:
        assert child.stdout is not None
        line = child.stdout.readline()
        assert line.startswith("detector finder on tcp://127.0.0.1:")
        asker = Asker(line.split()[-1])
        assert np.array_equal(asker.found(9), expected(9))
        asker.close()
        child.send_signal(signal.SIGTERM)
        _, said = child.communicate(timeout=200)
    finally:
        child.kill()
        child.wait()
    assert child.returncode == 0
    assert "1 frames: 1 answered, 0 late" in said
    assert 'trtlab_detector_frames_total{outcome="OK",pipeline="finder"} 1.0' in metrics.read_text()


def test_the_command_refuses_a_pipeline_without_boxes_and_an_address_that_is_none(
    pipeline: RunningPipeline, cli: Any, tmp_path: Path
) -> None:
    name = str(pipeline.run_dir)
    for arguments, code, why in (
        (["--output", "count"], 2, "--output count: expected an output of floats and shape (n, 6)"),
        (["--zmq", "5555"], 3, "cannot listen on 5555"),
        (["--columns", "class"], 2, "--columns class: expected score once"),
        (["--deadline-ms", "0"], 2, "--deadline-ms: expected more than 0"),
        (["--metrics", str(tmp_path / "none" / "file")], 2, "there is no folder"),
        (["--set", "find.replicas=1"], 2, "--set changes a config"),
    ):
        found = cli("detector", name, *arguments)
        assert found[0] == code, found
        assert why in found[2]
    missing = cli("detector", "nowhere")
    assert missing[0] == 1
    assert "nowhere" in missing[2]
