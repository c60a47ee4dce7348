"""A log is no reason to fail: a full disk, a folder that is gone, a reader that reads nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from pipeline.client.client import Client
from tests.faults.conftest import Folder


def ask(client: Client, count: int) -> None:
    waiting = [client.submit(data=np.zeros(1, np.uint8), name="y" * 200) for _ in range(count)]
    for future in waiting:
        future.get()


def until(what: Callable[[], object]) -> None:
    while not what():
        time.sleep(0.02)


def serving(run: subprocess.Popen[str]) -> None:
    assert run.stdout is not None
    assert run.stdout.readline().startswith("serving faulty")


def test_a_log_on_a_full_disk_is_told_once_and_the_run_goes_on(
    folder: Folder, tmp_path: Path, started: Callable[..., subprocess.Popen[str]]
) -> None:
    errors = tmp_path / "stderr"
    with errors.open("w") as stderr:
        # Every write there fails with ENOSPC.
        run = started(
            "run", folder.config({}), "--serve", "--access-log", "--log-file", "/dev/full",
            stdout=subprocess.PIPE, stderr=stderr, text=True,
        )  # fmt: skip
    serving(run)
    with Client.connect("faulty") as client:
        ask(client, 20)
    run.terminate()
    assert run.wait(200) == 0
    said = errors.read_text()
    assert said.count("\n") == 1
    assert "nothing can be written to the log /dev/full: No space left on device; the run goes on without it" in said


def test_a_log_whose_folder_is_removed_is_told_once_and_goes_on_when_it_is_back(
    folder: Folder, tmp_path: Path, started: Callable[..., subprocess.Popen[str]]
) -> None:
    errors, logs = tmp_path / "stderr", tmp_path / "logs"
    logs.mkdir()
    with errors.open("w") as stderr:
        run = started(
            "run", folder.config({}), "--serve", "--access-log", "--log-file", logs / "a.log",
            stdout=subprocess.PIPE, stderr=stderr, text=True,
        )  # fmt: skip
    serving(run)
    with Client.connect("faulty") as client:
        shutil.rmtree(logs)
        until(lambda: ask(client, 1) or errors.read_text())
        logs.mkdir()
        until(lambda: ask(client, 1) or (logs / "a.log").exists())
    run.terminate()
    assert run.wait(200) == 0
    assert errors.read_text().count("\n") == 1
    first, *others = (logs / "a.log").read_text().splitlines()
    assert first.endswith(" lines are missing here: they could not be written")
    assert any(line.endswith("ended with exit code 0") for line in others)


def test_a_reader_of_the_log_that_reads_nothing_holds_no_request_up_and_no_worker_back(
    folder: Folder, started: Callable[..., subprocess.Popen[str]]
) -> None:
    reader, writer = os.pipe()
    run = started(
        "run", folder.config({"replicas": 1}), "--serve", "--access-log",
        stdout=subprocess.PIPE, stderr=writer, text=True,
    )  # fmt: skip
    os.close(writer)
    serving(run)
    with Client.connect("faulty", name="x" * 190) as client:
        # The pipe and what the supervisor keeps for it take a megabyte; a line has 480 bytes.
        for _ in range(60):
            ask(client, 50)
        os.kill(client.status()["stages"][0]["workers"][0]["pid"], 9)
        ask(client, 50)
        status = client.status()
        assert (status["stages"][0]["deaths"], status["inside"]) == (1, 0)
    run.terminate()
    found = b""
    while chunk := os.read(reader, 1 << 16):
        found += chunk
    os.close(reader)
    assert run.wait(200) == 0
    lines = found.decode().splitlines()
    assert any(" are missing here" in line for line in lines)
    assert lines[-1].endswith("ended with exit code 0")
