"""`pipeline siege` and `pipeline client` against real pipelines, by name and through a gateway."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from pipeline.client.status import ask_status
from pipeline.testing import running
from pipeline.wire.run_dir import find_run
from tests.integration.conftest import Folder
from tests.integration.gateways import Gateway, Http, serving

#: It takes minutes beside the other tests: `make test-foreign`.
pytestmark = pytest.mark.foreign

ROOT = Path(__file__).resolve().parents[2]
SEVEN = f"image={ROOT}/photos/digits/7.png"
Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def digits() -> Iterator[Gateway]:
    with serving(ROOT / "configs/digits.yaml") as gateway:
        yield gateway


def counts(gateway: Gateway) -> dict[str, Any]:
    """How many requests have succeeded and failed by the server's statistics, and the nanoseconds of each kind."""
    (stats,) = Http(gateway).get("/v2/models/digits/stats")["model_stats"]
    found: dict[str, Any] = stats["inference_stats"]
    return {kind: (int(found[kind]["count"]), int(found[kind]["ns"])) for kind in ("success", "fail")}


def test_a_siege_of_a_gateway_agrees_with_the_servers_statistics(digits: Gateway, cli: Cli, tmp_path: Path) -> None:
    before = counts(digits)
    code, out, err = cli(
        "siege", f"grpc://{digits.grpc}", "--rate", 40, "--seconds", 2, "--json", "--input", SEVEN,
        "--plot", tmp_path / "siege.svg",
    )  # fmt: skip
    after = counts(digits)
    report = json.loads(out)
    assert code == 0, err
    assert (report["sent"], report["answered"], report["failed"]) == (80, 80, 0)
    assert report["rate_per_s"]["wanted"] == 40
    assert after["success"][0] - before["success"][0] == 80
    assert after["fail"] == before["fail"]
    # The server measures a part of what the generator does.
    mean_ms = (after["success"][1] - before["success"][1]) / 80 / 1e6
    assert mean_ms < report["from_sending_ms"]["mean"] <= report["latency_ms"]["mean"]
    rows = report["timeline"]["rows"]
    assert [row["wanted"] for row in rows][:2] == [40, 40]
    assert sum(row["answered"] for row in rows) == 80
    assert ElementTree.parse(tmp_path / "siege.svg").getroot().tag.endswith("svg")
    assert "\r" not in err


def test_failures_are_counted_as_the_server_counts_them_and_each_kind_is_told(digits: Gateway, cli: Cli) -> None:
    before = counts(digits)
    # Random bytes are no picture.
    code, out, err = cli("siege", f"grpc://{digits.grpc}", "--rate", 50, "--count", 25)
    after = counts(digits)
    assert code == 1
    assert "25 requests sent, 0 answered, 25 failed" in out
    assert "failed: 25 x BadInput; the first: " in err
    assert after["fail"][0] - before["fail"][0] == 25
    assert after["success"] == before["success"]


def test_by_its_name_the_same_pipeline_is_asked_without_the_gateway(digits: Gateway, cli: Cli) -> None:
    before = counts(digits)
    code, out, _ = cli("siege", "digits", "--rate", 50, "--count", 25, "--input", SEVEN, "--batch_size", 2)
    assert code == 0
    assert "25 requests of 2 rows sent, 25 answered, 0 failed" in out
    assert "over:" not in out
    assert counts(digits) == before


@pytest.mark.parametrize("how", ["sync", "async"])
def test_a_client_asks_so_many_times(digits: Gateway, cli: Cli, how: str) -> None:
    before = counts(digits)
    code, out, err = cli(
        "client", how, f"grpc://{digits.grpc}", "--count", 30, "--json", "--input", SEVEN, "--model", "digits"
    )
    assert code == 0, err
    report = json.loads(out)
    assert (report["sent"], report["answered"]) == (30, 30)
    assert "wanted" not in report["rate_per_s"]
    assert counts(digits)["success"][0] - before["success"][0] == 30


def test_ctrl_c_shows_what_was_measured_until_then(digits: Gateway, started: Callable[..., subprocess.Popen[str]]) -> None:
    run, ended = find_run("digits"), time.monotonic() + 200

    def answered() -> int:
        return ask_status(run).answers.get("OK", 0)

    # What a siege of another test has left is over: the answers that are counted are this one's.
    while ask_status(run).inside:
        time.sleep(0.05)
    before = answered()
    process = started(
        "siege", "digits", "--rate", 100, "--input", SEVEN, "--json",
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while answered() < before + 20:
        assert process.poll() is None
        assert time.monotonic() < ended
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    report = json.loads(out)
    assert report["interrupted"]
    assert 0 < report["answered"] <= report["sent"]


def test_on_a_terminal_a_line_shows_how_it_is(digits: Gateway, started: Callable[..., subprocess.Popen[str]]) -> None:
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    process = started(
        "siege", "digits", "--rate", 20, "--seconds", 2.5, "--input", SEVEN, stdout=subprocess.PIPE, stderr=slave,
        env={**os.environ, "TERM": "xterm"},
    )  # fmt: skip
    os.close(slave)
    screen = b""
    try:
        while part := os.read(master, 4096):
            screen += part
    except OSError:  # its end
        pass
    finally:
        os.close(master)
    process.communicate(timeout=200)
    assert process.returncode == 0
    assert re.search(rb"1 s: 20/s wanted, \d+ sent, \d+ answered; \d+ outstanding; p99 [\d.]+ ms", screen)


def test_a_rate_that_the_pipeline_cannot_hold_is_in_the_percentiles(folder: Folder, cli: Cli) -> None:
    # 20 ms each, one at a time: 50 a second at most, and 200 are wanted. The last of 100 has to wait for 1.5 s.
    with running(folder.config({"with": {"seconds": 0.02}, "replicas": 1}, name="slow")) as pipeline:
        code, out, err = cli(
            "siege", pipeline.run_dir, "--rate", 200, "--count", 100, "--max_outstanding", 4, "--json"
        )
    assert code == 0, err
    report = json.loads(out)
    assert report["rate_per_s"]["wanted"] == pytest.approx(200)
    assert report["rate_per_s"]["answered"] <= 50
    assert report["latency_ms"]["p99"] > 1400
    # What a generator that waits for answers would have told.
    assert report["from_sending_ms"]["p50"] < report["latency_ms"]["p50"] / 2
    assert report["held_ms"]["p99"] > 1000


def test_what_is_not_answered_in_time_is_told_and_fails(folder: Folder, cli: Cli) -> None:
    with running(folder.config({"with": {"seconds": 0.5}, "replicas": 1}, name="slow")) as pipeline:
        code, out, err = cli(
            "siege", pipeline.run_dir, "--rate", 20, "--seconds", 1, "--max-outstanding", 2, "--timeout", 0.2
        )
    assert code == 1
    assert re.search(r"requests had no answer at the end, and are in no percentile; the oldest", err)
    assert re.search(r"\d+ requests were due and never sent", err)
    assert re.search(r"\d unanswered, \d+ never sent", out)


def test_a_wrong_command_line_is_told_before_anything_is_sent(digits: Gateway, cli: Cli, cli_here: Cli) -> None:
    for arguments, says in (
        (("--rate", 0), "no request would ever be due"),
        (("--seconds", 0), "--seconds: expected more than 0"),
        (("--input", "picture=x.png"), "the model has no such input"),
        (("--plot", "no-folder/x.svg"), "there is no folder no-folder"),
        (("--plot", "/"), "--plot /: expected a file, found a folder"),
        (("--model", "digits"), "are about servers by their URL"),
    ):
        ended = cli_here("siege", "digits", *arguments)
        assert (ended[0], says in ended[2]) == (2, True), ended
    code, _, err = cli_here("client", "sync", "digit")
    assert (code, "digits" in err) == (1, True)
    for target, model, says in (
        (f"grpc://{digits.grpc}", "digit", "no such model (did you mean digits?)"),
        ("grpx://127.0.0.1:1", "digits", "expected grpc://HOST:PORT"),
    ):
        code, _, err = cli("siege", target, "--model", model)
        assert (code, says in err) == (2, True), err
