"""A developer at work: what a run says about a stage that fails, and what a stage can know and log."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import StageCrashed, StageFailed
from pipeline.testing import RunningPipeline, running
from tests.faults.load import until

HERE = Path(__file__).parent
LINE = {
    text: number
    for number, line in enumerate((HERE / "told_stages.py").read_text().splitlines(), 1)
    for text in ("json.loads(text)", "breakpoint()", 'print("never reached', "def process(self, batch):  #")
    if line.strip().startswith(text)
}


@pytest.fixture
def told(folder: Any) -> Any:
    """The folder, with told_stages.py in it."""
    shutil.copy(HERE / "told_stages.py", folder.path)
    return folder


def stage(name: str = "Told", **fields: Any) -> dict[str, Any]:
    return {"use": f"./told_stages.py:{name}", **fields}


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_failure_is_printed_once_with_the_users_frames_and_stands_in_the_output(
    cli: Callable[..., Any], told: Any, tmp_path: Path
) -> None:
    bad = [told.file(f"bad{number}.bin", b"bad" * number) for number in range(1, 5)]
    config = told.config(stage(batch={"max_size": 2, "max_delay_ms": 5}))
    code, out, err = cli("run", config, *bad, told.file("good.bin"), "--output", tmp_path / "out.jsonl")
    assert code == 1
    where = f"(told_stages.py:{LINE['json.loads(text)']})"
    assert out.count(where) == 4
    assert err.count("Traceback (most recent call last):") == 1
    assert re.search(r"s0/0 \| error: request \w{5}-\d \(\S*bad\d.bin\) failed in stage s0: JSONDecodeError: ", err)
    files = re.findall(r'File "[^"]*?([^/"]+)", line', err)
    assert files[:2] == ["told_stages.py", "told_stages.py"]
    assert "execution.py" not in files
    assert re.search(rf"s0/0 \| error: again, 3 times: JSONDecodeError {re.escape(where)}, last request", err)
    *failed, good = records(tmp_path / "out.jsonl")
    assert good["status"] == "ok"
    for record in failed:
        assert record["error"]["traceback"].splitlines()[-1].startswith("json.decoder.JSONDecodeError: ")
        assert where in record["error"]["message"]


def test_a_stage_knows_its_requests_and_the_log_names_them(
    cli: Callable[..., Any], told: Any, tmp_path: Path
) -> None:
    files = [told.file(f"{word}.bin", word.encode()) for word in ("one", "two", "three")]
    code, _, err = cli("run", told.config(stage()), *files, "--output", tmp_path / "out.jsonl")
    assert code == 0
    for file, record in zip(files, records(tmp_path / "out.jsonl")):
        assert record["outputs"]["who"] == {"id": record["request"], "name": str(file), "child": []}
        assert f"s0/0 | INFO told_stages [s0 {record['request']} ({file})]: at {file.stem}\n" in err


@pytest.mark.foreign
def test_a_child_knows_its_request_and_its_place_also_in_a_shared_process(
    cli: Callable[..., Any], told: Any, tmp_path: Path
) -> None:
    for colocate in (False, True):
        config = told.config(stage("Words"), stage(colocate=colocate), stage("All", colocate=colocate))
        page = told.file("page.bin", b"one two three")
        code, _, err = cli("run", config, page, "--overwrite", "--output", tmp_path / "out.jsonl")
        assert code == 0
        (record,) = records(tmp_path / "out.jsonl")
        expected = {"id": record["request"], "name": str(page)}
        assert record["outputs"]["all"] == [{**expected, "child": [number]} for number in range(3)]
        assert f"INFO told_stages [s1 {record['request']}/2 ({page})]: at three\n" in err


@pytest.mark.foreign
def test_the_traceback_of_a_child_comes_with_the_failure_of_its_request(
    cli: Callable[..., Any], told: Any, tmp_path: Path
) -> None:
    config = told.config(stage("Words"), stage(), stage("All"))
    code, _, err = cli("run", config, told.file("page.bin", b"one bad three"), "--output", tmp_path / "out.jsonl")
    assert code == 1
    (record,) = records(tmp_path / "out.jsonl")
    assert record["error"]["message"].startswith("child 1 of s0: stage s1: JSONDecodeError: ")
    assert record["error"]["traceback"].splitlines()[-1].startswith("json.decoder.JSONDecodeError: ")
    assert f"request {record['request']}/1 (" in err


@pytest.mark.foreign
@pytest.mark.parametrize(("word", "line"), [("breakpoint", "breakpoint()"), ("pdb", 'print("never reached')])
def test_a_breakpoint_in_a_worker_says_where_one_works(
    cli: Callable[..., Any], told: Any, word: str, line: str
) -> None:
    code, out, _ = cli("run", told.config(stage()), told.file("a.bin", word.encode()), told.file("b.bin"))
    assert code == 1
    assert "pipeline run --in-process CONFIG FILE" in out
    assert f"(told_stages.py:{LINE[line]})" in out
    assert "2 requests, 1 failed" in out


@pytest.mark.foreign
def test_the_traceback_of_a_stage_that_exits_is_shown_once(
    cli: Callable[..., Any], told: Any, tmp_path: Path
) -> None:
    told.file("exits.py", b"import sys\nfrom sample_stages import Work\n\n\n"
                          b"class Exits(Work):\n    def process(self, batch):\n        sys.exit(3)\n")  # fmt: skip
    output = tmp_path / "out.jsonl"
    code, out, err = cli("run", told.config({"use": "./exits.py:Exits"}), told.file("a.bin"), "--output", output)
    assert code == 1
    assert (out + err).count("Traceback (most recent call last):") == 1
    assert err.count("SystemExit: 3 (exits.py:7)") == 2, "two workers have tried it, and the second one is named"
    assert "FAILED  StageCrashed: stage s0: exit code 3\n" in out
    # The answer itself has all of it.
    (record,) = records(output)
    assert "Traceback (most recent call last):" in record["error"]["message"]


def test_a_stage_that_returns_an_array_is_told_what_to_return(cli: Callable[..., Any], told: Any) -> None:
    code, out, _ = cli("run", told.config(stage(**{"with": {"returns": True}})), told.file("a.bin"))
    assert code == 1
    assert "process returned an array of float64 [1]; expected None" in out
    assert "batch.write(row, 'who', value)" in out
    assert f"(told_stages.py:{LINE['def process(self, batch):  #']})" in out


def test_a_client_gets_the_traceback_and_the_id_that_stands_in_the_log(told: Any) -> None:
    with running(told.config(stage())) as pipeline, pipeline.client() as client:
        future = client.submit(data=b"bad", name="from a test")
        with pytest.raises(StageFailed) as failed:
            future.get(200)
        assert failed.value.request == future.request
        assert "json.decoder.JSONDecodeError" in failed.value.traceback
        until(lambda: f"request {future.request} (from a test) failed in stage s0" in pipeline.log())
        (kind,) = pipeline.status()["stages"][0]["failures"]
        assert kind["request"] == f"{future.request} from a test"
        assert (kind["count"], kind["traceback"]) == (1, failed.value.traceback)


def rows_of(pipeline: RunningPipeline) -> list[tuple[int, int]]:
    return [(worker["replica"], worker["rows"]) for worker in pipeline.status()["stages"][0]["workers"]]


@pytest.mark.foreign
def test_status_counts_what_each_worker_has_done_since_it_started(told: Any, cli: Callable[..., Any]) -> None:
    with running(told.config(stage())) as pipeline, pipeline.client() as client:
        for _ in range(5):
            client.submit(data=b"fine").get(200).release()
        until(lambda: rows_of(pipeline) == [(0, 5)])
        assert "5" in next(line for line in cli("status", pipeline.run_dir).out.splitlines() if line.startswith("s0/0"))
        os.kill(pipeline.worker_pids("s0")[0], signal.SIGKILL)
        until(lambda: rows_of(pipeline) == [(0, 0)])
        client.submit(data=b"again").get(200).release()
        until(lambda: rows_of(pipeline) == [(0, 1)])
        assert pipeline.status()["stages"][0]["rows"] == 6


def test_a_request_keeps_its_name_when_it_runs_again(told: Any) -> None:
    with running(told.config(stage())) as pipeline, pipeline.client() as client:
        future = client.submit(data=b"slow", name="the slow one")
        line = f"s0/0 | INFO told_stages [s0 {future.request} (the slow one)]: at slow"
        for attempt in range(1, 4):
            until(lambda attempt=attempt: pipeline.log().count(line) == attempt)  # type: ignore[misc]
            os.kill(pipeline.worker_pids("s0")[0], signal.SIGKILL)
        assert isinstance(future.error() if future.wait(200) else None, StageCrashed)


def test_a_request_that_kills_its_workers_is_named_in_the_log_and_by_replay(
    told: Any, cli: Callable[..., Any]
) -> None:
    with running(told.config(stage(), capsules={"folder": str(told.path / "capsules")})) as pipeline:
        with pipeline.client() as client:
            future = client.submit(data=b"die", name="deadly.bin")
            future.wait(200)
        until(lambda: f"request {future.request} (deadly.bin) killed its workers in stage s0" in pipeline.log())
    (capsule,) = (told.path / "capsules").glob("*.cap")
    assert f"request {future.request} (deadly.bin)\n" in cli("replay", capsule).out
