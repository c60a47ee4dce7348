"""The limits that `pipeline pod` prints are enough, also while the scheduler dies and the next one makes its segments.

A control group stands for the container, and a tmpfs of the size that is printed for the volume.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import yaml

from bench.cgroups import Group, NoGroups, pod_group
from pipeline.interpreter import python_command

#: It takes minutes beside the other tests: `make test-foreign`.
pytestmark = pytest.mark.foreign

ROOT = Path(__file__).parents[2]
MOUNTED = 'mount -t tmpfs -o size="$0" tmpfs "$1" && cd "$2" && shift 2 && exec "$@"'


def in_mib(quantity: str) -> int:
    assert quantity.endswith("Mi")
    return int(quantity.removesuffix("Mi")) << 20


def printed(cli_here: Callable[..., tuple[int, str, str]], config: Path) -> tuple[int, str, list[str]]:
    """The memory limit, the size of the volume, and the words of the command that follow the config."""
    code, text, _ = cli_here("pod", config, "--app", "my-app:1")
    assert code == 0
    spec: dict[str, Any] = list(yaml.safe_load_all(text))[-1]["spec"]["template"]["spec"]
    container = spec["initContainers"][0]
    size = spec["volumes"][0]["emptyDir"]["sizeLimit"].replace("Mi", "m")
    return in_mib(container["resources"]["limits"]["memory"]), size, container["command"][4:]


def scheduler_of(group: Group, besides: int = 0) -> psutil.Process:
    """The group's scheduler, apart from the one of this pid, which may be dying still."""
    while True:
        for pid in group.processes:
            if pid == besides:
                continue
            try:
                process = psutil.Process(pid)
                if "] scheduler" in " ".join(process.cmdline()):
                    return process
            except psutil.NoSuchProcess:
                continue
        time.sleep(0.01)


def run_within(
    cli_here: Callable[..., tuple[int, str, str]], tmp_path: Path, config: Path, files: Sequence[Path]
) -> tuple[Group, int, list[dict[str, Any]]]:
    """Run files under the limits that are printed, and kill the scheduler twice; the group, the limit, the answers.

    After that there is a file `gate` beside the config.
    """
    limit, size, words = printed(cli_here, config)
    folder, output = tmp_path / "segments", tmp_path / "answers.jsonl"
    folder.mkdir()
    words = [word.replace("/run/trtlab/shm/pipeline, group: 10000", str(folder)) for word in words]
    command = ["unshare", "--mount", "--propagation=private", "sh", "-c", MOUNTED, size, folder, tmp_path]
    command += [*python_command("pipeline.__main__"), "run", config, *files, "--output", output, *words]
    with pod_group() as pod:
        group = Group(pod.path / "pipeline")
        group.limit(limit)
        process = group.start([str(word) for word in command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        killed = 0
        for part in (1, 2):
            while not output.exists() or len(output.read_text().splitlines()) < part * len(files) // 4:
                assert process.poll() is None
                time.sleep(0.02)
            killed = scheduler_of(group, besides=killed).pid
            os.kill(killed, signal.SIGKILL)
        (tmp_path / "gate").touch()
        _, errors = process.communicate()
        assert process.returncode == 0, errors.decode() + output.read_text()[-2000:]
        assert errors.decode().count("the scheduler died") == 2
        # With room for one set of segments, every worker would have to let go of it, and start again.
        assert "no room beside the old segments" not in errors.decode()
        assert group.kills == 0
    return group, limit, [json.loads(line) for line in output.read_text().splitlines()]


@pytest.fixture
def groups() -> None:
    if os.getuid() != 0:
        pytest.skip("only root can mount a tmpfs here")
    try:
        with pod_group():
            pass
    except NoGroups as error:
        pytest.skip(f"no control groups can be made here: {error}")
    done = subprocess.run(["unshare", "--mount", "true"], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no mount namespace can be made here: {done.stderr.strip()}")


@pytest.mark.usefixtures("groups")
def test_large_segments_and_their_successors_fit(cli_here: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    config = tmp_path / "relay.yaml"
    config.write_text(
        "inputs: [{name: tensor, dtype: uint8, shape: [4194304]}]\n"
        'stages: [{name: copy, use: "./copying.py:Copying"}]\n'
        "ingress: {slots: 16}\n"
    )
    (tmp_path / "copying.py").write_text(
        "import os, time\n"
        "from stages.spec import TensorSpec\n"
        "class Copying:\n"
        '    inputs = (TensorSpec("tensor", "uint8", (4194304,)),)\n'
        '    outputs = (TensorSpec("sum", "int64", (1,)),)\n'
        "    def process(self, batch):\n"
        "        time.sleep(0.01)\n"
        # Zeros are the last file: it is not answered before both kills.
        "        while not (batch.stack('tensor').any() or os.path.exists('gate')):\n"
        "            time.sleep(0.01)\n"
        '        batch.stack_out("sum")[...] = batch.stack("tensor").sum()\n'
    )
    file, last = tmp_path / "tensor.npy", tmp_path / "zeros.npy"
    np.save(file, np.ones(4194304, np.uint8))
    np.save(last, np.zeros(4194304, np.uint8))
    _, limit, answers = run_within(cli_here, tmp_path, config, [*[file] * 119, last])
    assert [answer["status"] for answer in answers] == ["ok"] * 120
    assert limit > 2 * 16 * 4194304


@pytest.mark.slow
@pytest.mark.usefixtures("groups")
@pytest.mark.parametrize(("name", "folder", "times"), [("resnet", "photos", 20), ("imagenet", "photos", 20), ("ocr", "photos/text", 6)])
def test_models_fit(
    cli_here: Callable[..., tuple[int, str, str]], pulled: Callable[[str], Path], tmp_path: Path, name: str, folder: str, times: int
) -> None:
    for model in ("open-nsfw", "efficientnet-lite0", "ppocr-v4-det", "ppocr-v4-rec", "imagenet"):
        pulled(model)
    files = sorted([*(ROOT / folder).glob("*.jpg"), *(ROOT / folder).glob("*.png")]) * times
    _, _, answers = run_within(cli_here, tmp_path, ROOT / f"configs/{name}.yaml", files)
    assert [answer["status"] for answer in answers] == ["ok"] * len(files)
