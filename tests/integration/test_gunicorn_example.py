"""examples/gunicorn_app.py under gunicorn itself, whose workers are forked from a process that has imported the app."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from pipeline.testing import RunningPipeline, running

#: It takes minutes beside the other tests: `make test-foreign`.
pytestmark = pytest.mark.foreign

ROOT = Path(__file__).parents[2]
DIGITS = sorted((ROOT / "photos/digits").glob("*.png"))


@pytest.fixture
def digits() -> Iterator[RunningPipeline]:
    with running(ROOT / "configs/digits.yaml") as pipeline:
        yield pipeline


@pytest.fixture
def gunicorn(digits: RunningPipeline) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    command = [sys.executable, "-m", "gunicorn", "--workers", "2", "--threads", "4", "--preload", "--bind", "127.0.0.1:0"]
    command += ["--no-control-socket", "--chdir", str(ROOT / "examples"), "gunicorn_app:app"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert process.stderr is not None
    try:
        yield process, address_of(process.stderr.fileno())
        process.send_signal(signal.SIGTERM)
        assert process.wait(200) == 0
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def address_of(stderr: int) -> str:
    """Where it listens, out of its log."""
    printed = b""
    while select.select([stderr], [], [], 30)[0] and (chunk := os.read(stderr, 4096)):
        printed += chunk
        if b"Listening at: " in printed and b"\n" in printed.partition(b"Listening at: ")[2]:
            return printed.partition(b"Listening at: ")[2].split()[0].decode()
    raise AssertionError(printed.decode())


def post(address: str, picture: bytes) -> dict[str, Any]:
    with urllib.request.urlopen(address, picture, timeout=200) as answer:
        document: dict[str, Any] = json.loads(answer.read())
    return document


def test_each_forked_worker_is_a_client_of_its_own(
    digits: RunningPipeline, gunicorn: tuple[subprocess.Popen[bytes], str]
) -> None:
    process, address = gunicorn
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda file: post(address, file.read_bytes()), DIGITS * 20))
    assert [answer["digit"] for answer in answers] == [file.stem for file in DIGITS] * 20
    workers = {answer["process"] for answer in answers}
    assert process.pid not in workers
    with digits.client("test") as client:
        assert len(client.status()["clients"]) == len(workers) + 1


def test_what_is_no_picture_is_an_error_of_that_request_alone(gunicorn: tuple[subprocess.Popen[bytes], str]) -> None:
    _, address = gunicorn
    with pytest.raises(urllib.error.HTTPError) as raised:
        post(address, b"no picture")
    with raised.value as answer:
        assert answer.code == 422
        assert "error" in json.loads(answer.read())
    assert post(address, DIGITS[7].read_bytes())["digit"] == "7"


def test_without_its_pipeline_the_answer_is_503_and_not_504(
    digits: RunningPipeline, gunicorn: tuple[subprocess.Popen[bytes], str]
) -> None:
    _, address = gunicorn
    assert post(address, DIGITS[7].read_bytes())["digit"] == "7"
    digits.stop()
    with pytest.raises(urllib.error.HTTPError) as raised:
        post(address, DIGITS[7].read_bytes())
    with raised.value as answer:
        assert answer.code == 503
        assert "no pipeline 'digits' is running here" in json.loads(answer.read())["error"]


def test_a_worker_that_is_killed_takes_no_slot_with_it(
    digits: RunningPipeline, gunicorn: tuple[subprocess.Popen[bytes], str]
) -> None:
    _, address = gunicorn
    killed = post(address, DIGITS[0].read_bytes())["process"]
    os.kill(killed, signal.SIGKILL)
    for file in DIGITS * 3:
        assert answered(address, file.read_bytes())["digit"] == file.stem
    with digits.client("test") as client:
        # An idle client may keep one slot of the first pool, which clients fill.
        while any(pool["free"] < pool["slots"] for pool in client.status()["pools"][1:]):
            time.sleep(0.05)
        others = [entry for entry in client.status()["clients"] if entry["name"] != "test"]
        assert 1 <= len(others) <= 2


def answered(address: str, picture: bytes) -> dict[str, Any]:
    """The answer; a connection that the dead worker had accepted is lost with it, as any browser would see."""
    for _ in range(50):
        try:
            return post(address, picture)
        except (ConnectionError, urllib.error.URLError):
            time.sleep(0.05)
    raise AssertionError("gunicorn does not answer any more")
