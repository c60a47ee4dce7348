"""--request shows what has happened to one request."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipeline.cli.main import main
from pipeline.testing.running import running

CONFIG = """\
inputs:
  - {name: tensor, dtype: uint8, shape: [64]}
stages:
  - {name: one, use: "stages.relay:Relay", with: {shape: [64]}}
"""

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        shown = capsys.readouterr()
        return int(ended.value.code or 0), shown.out, shown.err

    return run


def test_what_has_happened_to_a_request_is_shown_by_its_id(run: Run, tmp_path: Path) -> None:
    config = tmp_path / "relay.yaml"
    config.write_text(CONFIG)
    with running(config) as started:
        with started.client() as client:
            future = client.submit(tensor=np.zeros(64, np.uint8))
            future.get(30)
            code, out, _ = run("status", started.run_dir, "--request", future.request)
        assert code == 0
        assert out.splitlines()[0] == f"request {future.request}"
        said = [line.partition(" ms  ")[2] for line in out.splitlines()[1:]]
        assert said == ["came", "ordered: one from worker 0", "one has finished", "answered"]
        code, out, error = run("status", started.run_dir, "--request", "00000-1")
    assert (code, out) == (1, "")
    assert error.startswith("no request 00000-1 is known: expected the id of one that is inside")


def test_a_request_is_shown_alone(run: Run) -> None:
    assert run("status", "--request", "3fa9c-17", "--json")[0] == 2
