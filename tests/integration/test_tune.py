"""`pipeline tune` with real pipelines. What is better here does not depend on the machine: a stage that sleeps."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from pipeline.config.loader import load_config
from pipeline.testing import running
from pipeline.wire.run_dir import living_runs
from tests.faults.load import until

#: Ten pipelines start and are asked for seconds.
pytestmark = [pytest.mark.foreign, pytest.mark.timeout(600)]

HERE = Path(__file__).parent
Cli = Callable[..., tuple[int, str, str]]

CONFIG = """\
# Numbers, slowly.
inputs:
  - {name: x, dtype: float32, shape: [4]}
stages:
  - name: slow  # a remark
    use: ./tuned_stages.py:Slow
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    shutil.copy(HERE / "tuned_stages.py", tmp_path)
    np.save(tmp_path / "one.npy", np.ones(4, "float32"))
    path = tmp_path / "numbers.yaml"
    path.write_text(CONFIG)
    return path


def test_a_tuning_finds_the_better_arrangement_and_writes_it_down(config: Path, cli: Cli) -> None:
    # A busy machine needs more time until the better one has shown itself.
    for minutes in (0.3, 1, 2.5):
        code, out, err = cli("tune", config, config.parent / "one.npy", "--minutes", minutes, "--overwrite")
        assert code == 0, err
        if "wrote " in err:
            break
    tuned, picture = config.parent / "numbers.tuned.yaml", config.parent / "numbers.tuned.svg"
    assert f"wrote {tuned}" in err
    text = tuned.read_text()
    # Comments and the name stay, and what each step brought is said.
    assert text.startswith("# Tuned for throughput by `pipeline tune`")
    assert "#   arrangements: 2 workers" in text
    assert "# Numbers, slowly." in text
    assert "- name: slow  # a remark" in text
    found = load_config(tuned).config
    assert (found.name, found.stages[0].replicas) == ("numbers", 2)
    # The candidate with a third worker is told, and is not fatal.
    assert "no third worker of this" in out
    assert "of the untuned config in requests/s" in out
    assert "--set slow.replicas=2" in out
    assert ElementTree.fromstring(picture.read_text()).tag.endswith("svg")
    assert living_runs("numbers") == []
    with running(tuned) as pipeline, pipeline.client() as client:
        assert client.submit(x=np.ones(4, "float32")).get(200.0)["y"].tolist() == [-1.0] * 4

    # What is there is not replaced, and that is said before anything starts.
    code, _, err = cli("tune", config)
    assert (code, err.strip()) == (2, f"--output {tuned}: is there already; name another, or give --overwrite")
    assert config.read_text() == CONFIG


def test_samples_that_fail_and_outputs_elsewhere_are_refused(config: Path, cli: Cli, tmp_path: Path) -> None:
    np.save(tmp_path / "zeros.npy", np.zeros(4, "float32"))
    code, _, err = cli("tune", config, tmp_path / "zeros.npy", "--minutes", 0.1)
    assert code == 3
    assert "the config as it is does not run with these samples" in err
    assert "only zeros" in err
    (tmp_path / "elsewhere").mkdir()
    code, _, err = cli("tune", config, "--output", tmp_path / "elsewhere/a.yaml")
    assert code == 2
    assert "paths in a config are relative to its folder" in err
    code, _, err = cli("tune", config, "one.npy", "--input", "x=one.npy")
    assert (code, err.strip()) == (2, "samples are named as files, or by --input and --shape; not both")


def test_ctrl_c_ends_it_and_all_its_pipelines(config: Path, started: Callable[..., subprocess.Popen[str]]) -> None:
    process = started(
        "tune", config, config.parent / "one.npy", "--minutes", 10, "--plot", config.parent / "part.svg",
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    until(lambda: len(living_runs("numbers")) >= 2 or process.poll() is not None)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=200)
    # 130: it came before the first round was over.
    assert process.returncode in (0, 130), err
    assert "interrupted after" in out
    assert ("before anything was measured" in out) == (process.returncode == 130)
    assert living_runs("numbers") == []
