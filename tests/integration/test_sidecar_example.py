"""examples/sidecar: what it renders, and the two containers of its pod run in namespaces of this machine."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

#: It takes minutes beside the other tests: `make test-foreign`.
pytestmark = pytest.mark.foreign

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples/sidecar"


def pod() -> dict[str, Any]:
    (_, deployment) = yaml.safe_load_all((EXAMPLE / "pod.yaml").read_text())
    spec: dict[str, Any] = deployment["spec"]["template"]["spec"]
    return spec


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def namespaces() -> None:
    """Skip where a process cannot make those that the example needs."""
    user = [] if os.getuid() == 0 else ["--user", "--map-root-user"]
    command = ["unshare", *user, "--mount", "--pid", "--ipc", "--uts", "--fork", "--mount-proc", "true"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        pytest.skip(f"no namespaces can be made here: {error}")
    if done.returncode:
        pytest.skip(f"no namespaces can be made here: {done.stderr.strip()}")


@contextmanager
def sidecar(folder: Path, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """The command of `make sidecar`, in a group of processes of its own, as a terminal has it."""
    process = subprocess.Popen(
        [sys.executable, str(EXAMPLE / "run.py"), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "TMPDIR": str(folder)},
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
        process.communicate()
        assert os.listdir(folder) == []
        assert str(folder) not in Path("/proc/self/mountinfo").read_text()


def until(process: subprocess.Popen[str], line: str) -> str:
    """What it prints up to a line."""
    assert process.stdout is not None
    said = ""
    for got in process.stdout:
        said += got
        if got.startswith(line):
            return said
    raise AssertionError(f"it has ended:\n{said}")


def classify(port: int, content: bytes) -> Any:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/classify", content, timeout=200) as answer:
        return json.load(answer)


# -- what it renders ------------------------------------------------------------------------------


def test_the_yaml_is_what_the_command_in_its_readme_prints(
    cli_here: Callable[..., tuple[int, str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    (text,) = re.findall(r"^```sh\n(.*?)^```$", (EXAMPLE / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    program, *words = shlex.split(text.replace("\\\n", " "))
    assert (program, words[-2:]) == ("pipeline", ["--output", "examples/sidecar/pod.yaml"])
    assert cli_here(*words[:-1], tmp_path / "pod.yaml") == (0, "", "")
    assert (EXAMPLE / "pod.yaml").read_text() == (tmp_path / "pod.yaml").read_text()


@pytest.mark.parametrize(("name", "container"), [("pipeline", "initContainers"), ("app", "containers")])
def test_an_image_has_what_it_copies_and_the_user_of_the_pod(name: str, container: str) -> None:
    text = (EXAMPLE / f"{name}.Containerfile").read_text()
    copied = [word for line in re.findall(r"^COPY (.*) \S+$", text, re.MULTILINE) for word in line.split()]
    assert {"shm", "stages", "pipeline", "pyproject.toml"} <= set(copied)
    assert [word for word in copied if not (ROOT / word).exists()] == []
    (user,) = re.findall(r"^USER (\d+)$", text, re.MULTILINE)
    assert int(user) == pod()[container][0]["securityContext"]["runAsUser"] != 0


# -- what it runs ---------------------------------------------------------------------------------


@pytest.mark.usefixtures("namespaces")
def test_the_app_answers_with_what_its_sidecar_says(tmp_path: Path) -> None:
    with sidecar(tmp_path, "--once", "--port", free_port()) as process:
        out, _ = process.communicate(timeout=200)
    assert process.returncode == 0, out
    # Beside it stands what the run says, in any order.
    (answer,) = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
    assert answer["labels"][0] == "3"
    assert answer["scores"][0] > 0.9


@pytest.mark.usefixtures("namespaces")
def test_the_two_sides_share_the_two_volumes_and_ctrl_c_ends_both(tmp_path: Path) -> None:
    with sidecar(tmp_path, "--port", port := free_port()) as process:
        until(process, "serving;")
        assert classify(port, (ROOT / "photos/digits/7.png").read_bytes())["labels"][0] == "7"
        with pytest.raises(urllib.error.HTTPError) as refused:
            classify(port, b"no picture")
        assert refused.value.code == 400
        assert_apart(process)
        os.killpg(process.pid, signal.SIGINT)
        out, _ = process.communicate(timeout=200)
        assert process.returncode == 0, out
        assert "Traceback" not in out


def assert_apart(process: subprocess.Popen[str]) -> None:
    """Each side is in namespaces of its own, as its own user, without privileges, and sees the volumes alone."""
    children = psutil.Process(process.pid).children(recursive=True)
    firsts = [child for child in children if child.parent().name() == "unshare" and child.name() != "unshare"]  # type: ignore[union-attr]
    assert len(firsts) == 2
    for space in ("mnt", "pid", "ipc", "uts"):
        assert len({os.readlink(f"/proc/{pid}/ns/{space}") for pid in (os.getpid(), *(one.pid for one in firsts))}) == 3
    for child in firsts:
        status = Path(f"/proc/{child.pid}/status").read_text()
        mounted = {line.split()[4]: line.split()[5] for line in Path(f"/proc/{child.pid}/mountinfo").read_text().splitlines()}
        shared = [point for point in mounted if point.endswith(("/run/trtlab/shm", "/run/trtlab/run"))]
        assert len(shared) == 2
        if os.getuid() == 0:
            assert re.search(r"^NoNewPrivs:\s+1$", status, re.MULTILINE)
            assert re.search(r"^CapEff:\s+0+$", status, re.MULTILINE)
            assert mounted["/"].startswith("ro")
    if os.getuid() == 0:
        expected = {pod()[key][0]["securityContext"]["runAsUser"] for key in ("initContainers", "containers")}
        assert {child.uids().real for child in firsts} == expected


@pytest.mark.usefixtures("namespaces")
def test_if_one_side_ends_so_does_the_other(tmp_path: Path) -> None:
    with sidecar(tmp_path, "--port", free_port()) as process:
        until(process, "serving;")
        children = psutil.Process(process.pid).children(recursive=True)
        (server,) = (child for child in children if "uvicorn" in child.cmdline() and child.name() != "unshare")
        server.kill()
        out, _ = process.communicate(timeout=200)
    assert process.returncode == 1
    assert out.endswith("one of the two has ended\n")


@pytest.mark.usefixtures("namespaces")
def test_if_it_is_killed_both_sides_end(tmp_path: Path) -> None:
    with sidecar(tmp_path, "--port", free_port()) as process:
        until(process, "serving;")
        children = psutil.Process(process.pid).children(recursive=True)
        assert len(children) > 4
        process.kill()
        while any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children):
            time.sleep(0.05)
        # It is empty, and the process that was killed would have removed it.
        (folder,) = tmp_path.iterdir()
        folder.rmdir()
