"""Logs of `pipeline run` and of `pipeline serve`: every line is an object, whichever process has said it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.client.client import Client
from pipeline.errors import StageFailed
from pipeline.kserve.values import InferRequest
from pipeline.wire.run_dir import runs
from tests.integration.conftest import Folder
from tests.integration.gateways import Http, serving, tensor

LOGS = """\
import logging

from stages.spec import TensorSpec

class Speaks:
    inputs = (TensorSpec("data", "uint8", ("bytes",), {"bytes": 65536}),)
    outputs = (TensorSpec("data", "uint8", ("bytes",), {"bytes": 65536}),)

    def process(self, batch):
        for row, data in enumerate(batch.rows("data")):
            text = data.tobytes().decode()
            if text == "warn":
                logging.getLogger("faces").warning("no face")
            if text == "raise":
                raise ValueError("no face at all")
            if text == "print":
                print("printed by the stage", flush=True)
            batch.out(row, "data", data.shape)[...] = data
"""


def until(what: Callable[[], object]) -> None:
    while not what():
        time.sleep(0.02)


def objects(path: Path) -> list[dict[str, Any]]:
    """Each line of a log must be one."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def asked(client: Client, text: str, name: str = "") -> None:
    client.submit(data=np.frombuffer(text.encode(), np.uint8), name=name).get()


@pytest.fixture
def speaking(folder: Folder) -> Path:
    (folder.path / "speaks.py").write_text(LOGS)
    return folder.config({"use": "./speaks.py:Speaks"}, name="speaking")


def test_a_run_says_all_in_its_file_as_json_and_goes_on_in_a_new_one(
    speaking: Path, tmp_path: Path, started: Callable[..., subprocess.Popen[str]]
) -> None:
    path, old, errors = tmp_path / "a.log", tmp_path / "a.log.1", tmp_path / "stderr"
    with errors.open("w") as stderr:
        run = started(
            "run", speaking, "--serve", "--log-format", "json", "--log-file", path, "--log-level", "debug",
            "--access-log", stdout=subprocess.PIPE, stderr=stderr, text=True,
        )  # fmt: skip
    assert run.stdout is not None
    assert run.stdout.readline().startswith("serving speaking in ")
    (folder,) = runs("speaking")
    with Client.connect("speaking", name="app.py") as client:
        # Until the process of the access log watches.
        until(lambda: asked(client, "fine", "1.jpg") or any(found["process"] == "access" for found in objects(path)))
        for text in ("warn", "print"):
            asked(client, text, f"{text}.jpg")
        with pytest.raises(StageFailed):
            asked(client, "raise", "raise.jpg")
        until(lambda: any(found.get("name") == "raise.jpg" for found in objects(path)))
        os.rename(path, old)
        run.send_signal(signal.SIGUSR1)
        until(path.exists)
        os.kill(client.status()["stages"][0]["workers"][0]["pid"], signal.SIGKILL)
        until(lambda: any("died" in found.get("message", "") for found in objects(path)))
        # The answer may be here before the supervisor has heard that the new worker is ready.
        until(lambda: any(found.get("message") == "worker 1 is ready" for found in objects(path)))
        asked(client, "fine", "last.jpg")
        run.send_signal(signal.SIGTERM)
        assert run.wait(200) == 0
    before, after = objects(old), objects(path)
    assert {found["run"] for found in [*before, *after]} == {folder.name}
    assert {found["pipeline"] for found in [*before, *after]} == {"speaking"}

    def of(text: str, entries: list[dict[str, Any]] = before) -> dict[str, Any]:
        return next(found for found in entries if text in found.get("message", ""))

    assert of("starting speaking: s0 x1; 1 worker in 1 process; ")["process"] == "supervisor"
    assert (of("is started as process")["level"], of("ready")["level"]) == ("debug", "debug")
    logged, printed = of("no face"), of("printed by the stage")
    assert (logged["level"], logged["process"], logged["stage"], logged["logger"]) == ("warning", "s0/0", "s0", "faces")
    assert (printed["level"], printed["printed"]) == ("info", True)
    failed = of("failed in stage s0: ValueError: no face at all")
    assert (failed["level"], failed["traceback"].splitlines()[-1]) == ("error", "ValueError: no face at all")
    lines = {found["name"]: found for found in before if found["process"] == "access"}
    assert lines["raise.jpg"]["code"] == "StageFailed"
    assert lines["raise.jpg"]["request"] == failed["requests"][0]
    assert logged["requests"] == [lines["warn.jpg"]["request"]]
    fine = lines["1.jpg"]
    assert (fine["client"], fine["code"], list(fine["stages"])) == ("app.py", "OK", ["s0"])
    assert fine["total_ms"] > fine["stages"]["s0"]["compute_us"] / 1000
    assert of("s0/0 died (killed by signal 9", after)["level"] == "warning"
    assert [found["message"].partition(":")[0] for found in after if found["process"] == "supervisor"][-3:] == [
        "draining", "stopping", "ended with exit code 0",
    ]  # fmt: skip
    # What was answered a moment before the end is there too.
    assert "last.jpg" in [found.get("name") for found in after]
    assert errors.read_text() == ""


def test_a_run_of_files_has_a_line_for_each_request_too(
    speaking: Path, folder: Folder, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    path = tmp_path / "a.log"
    asked = cli("run", speaking, *folder.files(30), "--quiet", "--access-log", "--log-file", path)
    assert asked.code == 0, asked.err
    lines = path.read_text().splitlines()
    assert len([line for line in lines if " access | " in line and ": OK in " in line]) == 30
    # Less of the rest is shown of a run of files.
    assert len(lines) == 30


def test_a_server_its_gateways_and_its_runs_say_all_in_one_form(speaking: Path, tmp_path: Path) -> None:
    errors, path = tmp_path / "stderr", tmp_path / "a.log"
    options = ("--log-format", "json", "--log-file", path, "--access-log", "--gateways", 2)
    with serving(speaking, *options, errors=errors) as gateway:
        http = Http(gateway)
        http.post("/v2/logging", {"log_verbose_level": 1})
        request = InferRequest("speaking", "", (tensor("data", np.frombuffer(b"warn", np.uint8)),))
        until(lambda: http.infer(request) and any(found["process"] == "access" for found in objects(path)))
        os.rename(path, tmp_path / "a.log.1")
        gateway.process.send_signal(signal.SIGUSR1)
        until(path.exists)
        http.get("/v2")
    found = [*objects(tmp_path / "a.log.1"), *objects(path)]
    said = {(each.get("pipeline"), each["process"].partition("/")[0], each.get("message", "")[:8]) for each in found}
    assert ("speaking", "supervisor", "starting") in said
    assert ("speaking", "s0", "no face") in said
    assert (None, "serve", "starting") in said
    assert (None, "serve", "draining") in said
    assert (None, "gateway", "GET /v2:") in said
    assert ("speaking", "access", "") in said
    assert errors.read_text() == ""


@pytest.mark.parametrize("arguments", [("--log-format", "xml"), ("--log-level", "loud"), ("--log-file", "/no/a.log")])
def test_what_a_log_cannot_be_is_refused_before_anything_starts(
    speaking: Path, arguments: tuple[str, str], cli: Callable[..., Any]
) -> None:
    done = cli("run", speaking, "--serve", *arguments)
    assert done.code == 2
    assert arguments[0] in done.err
    assert cli("run", speaking, "a", "--in-process", "--access-log").code == 2


def test_a_config_that_is_wrong_is_an_object_too(folder: Folder, cli: Callable[..., Any]) -> None:
    config = folder.config({"with": {"dies_in": "setup"}}, name="broken")
    done = cli("run", config, "--serve", "--log-format", "json")
    assert done.code == 3
    last = [json.loads(line) for line in done.err.splitlines()][-1]
    assert (last["level"], last["process"]) == ("error", "supervisor")
    assert "broken on purpose" in last["message"]
