"""deploy/image/Dockerfile, step by step: what it makes, and how that runs, as a container engine would run it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import yaml

from tests.faults.load import until
from tests.foreign.images import ROOT, Image, Running, build, context_of, instructions_of
from tests.foreign.rooted import REFUSED

pytestmark = [pytest.mark.foreign, pytest.mark.timeout(600)]

DOCKERFILE = ROOT / "deploy/image/Dockerfile"
FILES = [DOCKERFILE, ROOT / "deploy/image/gpu.Dockerfile", *sorted(ROOT.glob("examples/sidecar/*.Containerfile"))]

UNLISTED_USER = "54321:0"
"""A user that no /etc/passwd has, with the group of root, as OpenShift starts containers."""

ASK = """
import sys, numpy, pipeline
with pipeline.connect("orphans", timeout_s=60) as manager:
    runner = manager.infer_runner("orphans")
    for _ in range(int(sys.argv[2])):
        print(runner.infer(seconds=numpy.float32([sys.argv[1]])).get()["orphan"][0], flush=True)
"""

Start = Callable[..., Running]


@pytest.fixture(scope="module")
def image(environment: Callable[[Path], Path]) -> Iterator[Image]:
    wheels = environment(Path("build/image")).absolute() / "wheels"
    if os.geteuid() != 0:
        pytest.skip("needs root, to mount what a container engine mounts")
    # Not in /tmp, to which pytest's own folder is closed for other users.
    with tempfile.TemporaryDirectory(prefix="trtlab-image-", dir="/var/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        probe = subprocess.run(["unshare", "--mount", "--pid", "--ipc", "--fork", "true"], capture_output=True, text=True, check=False)
        if probe.returncode:
            pytest.skip(f"this kernel lets no user make namespaces: {probe.stderr.strip()}")
        yield build(DOCKERFILE, folder, wheels=wheels)


@pytest.fixture
def start(image: Image) -> Iterator[Start]:
    running: list[Running] = []
    with tempfile.TemporaryDirectory(prefix="trtlab-volumes-", dir="/var/tmp") as name:

        def start(*command: str, **options: object) -> Running:
            folder = Path(name) / str(len(running))
            folder.mkdir(mode=0o755)
            running.append(image.run(*command, folder=folder, **options))  # type: ignore[arg-type]
            return running[-1]

        Path(name).chmod(0o755)
        yield start
        for container in running:
            container.close()
            print(*container.lines, sep="\n")
            assert container.process.returncode != REFUSED, container.text


@pytest.fixture
def orphans(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a config of the stage that makes orphans."""
    with tempfile.TemporaryDirectory(prefix="trtlab-config-", dir="/var/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "stages_of_mine.py").write_text((Path(__file__).parent / "image_stages.py").read_text())
        document = {
            "inputs": [{"name": "seconds", "dtype": "float32", "shape": [1]}],
            "stages": [{"name": "abandon", "use": "./stages_of_mine.py:Abandon", "replicas": 1}],
        }
        (folder / "orphans.yaml").write_text(yaml.safe_dump(document))
        yield folder


def serve(start: Start, folder: Path, **options: object) -> Running:
    container = start("run", "--serve", "/config/orphans.yaml", mounts={"/config": folder}, **options)
    container.says("serving orphans in /run/trtlab/run/orphans-")
    return container


# -- the files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_hadolint_has_nothing_to_say(path: Path, environment: Callable[[Path], Path]) -> None:
    hadolint = environment(Path("build/image")) / "hadolint/bin/hadolint"
    said = subprocess.run([hadolint, path], capture_output=True, text=True, check=False)
    assert (said.returncode, said.stdout + said.stderr) == (0, "")


def test_hadolint_would_find_a_fault(environment: Callable[[Path], Path], tmp_path: Path) -> None:
    hadolint = environment(Path("build/image")) / "hadolint/bin/hadolint"
    (tmp_path / "Dockerfile").write_text(DOCKERFILE.read_text().replace("WORKDIR /src", "WORKDIR src"))
    said = subprocess.run([hadolint, tmp_path / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (said.returncode, "DL3000" in said.stdout) == (1, True)


# -- what runs ----------------------------------------------------------------------------------------


def test_as_it_is_the_image_serves_the_digits_and_its_healthcheck_says_when(image: Image, start: Start) -> None:
    # Its own command, on ports that are free here.
    ports = ["--http-port", "0", "--grpc-port", "0", "--metrics-port", "0"]
    container = start(*image.command, *ports)
    container.says("serving mnist on http://0.0.0.0:")
    healthy = container.healthcheck()
    assert (healthy.returncode, healthy.stdout) == (0, "mnist: ready\n")
    (port,) = set(re.findall(r"serving mnist on http://0\.0\.0\.0:(\d+)", container.text))
    asked = subprocess.run(["curl", "-fsS", f"http://127.0.0.1:{port}/v2/models/mnist"], capture_output=True, check=True)
    assert json.loads(asked.stdout)["inputs"][0]["shape"] == [1, 28, 28]
    assert getattr(signal, image.stop_signal) == signal.SIGTERM
    assert container.stop() == 0


def test_the_user_is_none_of_etc_passwd_and_can_write_nothing_but_the_volume(image: Image, start: Start, orphans: Path) -> None:
    container = serve(start, orphans)
    assert psutil.Process(container.first).uids() == (10001, 10001, 10001)
    for path, allowed in (("/opt/trtlab/x", 1), ("/app/x", 1), ("/models/x", 1), ("/x", 1), ("/run/trtlab/x", 0)):
        done = container.execute(["/bin/sh", "-c", f": > {path}"])
        assert bool(done.returncode) == bool(allowed), f"{path}: {done.stdout}"
    known = container.execute(["/bin/sh", "-c", "id -un; echo HOME is ${HOME-not set}"])
    assert "cannot find name for user ID 10001" in known.stdout
    assert known.stdout.endswith("HOME is not set\n")
    assert container.stop() == 0


def test_any_other_user_will_do(start: Start, orphans: Path) -> None:
    container = serve(start, orphans, user=UNLISTED_USER)
    assert container.healthcheck().stdout == "orphans: ready\n"
    assert container.execute(["python", "-c", ASK, "0", "2"]).returncode == 0
    assert container.stop() == 0


def test_it_is_process_1_without_an_init_and_collects_orphans(start: Start, orphans: Path) -> None:
    container = serve(start, orphans)
    assert container.execute(["/bin/sh", "-c", "tr '\\0' ' ' < /proc/1/cmdline"]).stdout.startswith("/opt/trtlab/bin/python")
    asked = container.execute(["python", "-c", ASK, "0", "20"])
    pids = [int(line) for line in asked.stdout.split()]
    assert len(pids) == 20
    first = psutil.Process(container.first)
    own = {"orphans] scheduler", "abandon/0"}
    until(lambda: [child for child in first.children(recursive=True) if child.status() == psutil.STATUS_ZOMBIE] == [])
    until(lambda: len(first.children(recursive=True)) == len(own))
    assert container.execute(["/bin/sh", "-c", "ls -d " + " ".join(f"/proc/{pid}" for pid in pids)]).returncode != 0
    assert container.stop() == 0


def test_sigterm_finishes_what_is_under_way(start: Start, orphans: Path) -> None:
    container = serve(start, orphans)
    answered: list[subprocess.CompletedProcess[str]] = []
    asking = threading.Thread(target=lambda: answered.append(container.execute(["python", "-c", ASK, "3", "1"])))
    asking.start()
    until(lambda: "inside: 1" in container.execute(["pipeline", "status", "orphans"]).stdout)
    assert container.stop() == 0
    asking.join()
    # It may have been killed after that: a container ends with its first process.
    assert answered[0].stdout.strip().isdigit()


def test_the_healthcheck_fails_while_it_is_not_ready_and_says_why(start: Start, orphans: Path) -> None:
    (orphans / "orphans.yaml").write_text((orphans / "orphans.yaml").read_text().replace("Abandon", "Late"))
    container = start("run", "--serve", "/config/orphans.yaml", mounts={"/config": orphans})
    container.says("info: starting orphans")
    said = container.healthcheck()
    assert (said.returncode, bool(said.stdout)) == (1, True)


def test_more_than_dev_shm_holds_is_refused_with_the_sum(start: Start) -> None:
    container = start("run", "--serve", "configs/mnist.yaml", "--set", "ingress.slots=4096", shm_mib=1)
    assert container.ended() == 3
    assert "/dev/shm" in container.text


# -- what the context is ------------------------------------------------------------------------------


def test_the_context_has_what_the_files_copy_and_neither_tests_nor_anything_untracked_that_is_large() -> None:
    context = context_of((ROOT / ".dockerignore").read_text(), ROOT)
    for path in FILES:
        for name, rest in instructions_of(path.read_text()):
            if name == "COPY" and not rest.startswith("--from="):
                for source in rest.split()[:-1]:
                    assert [found for found in context if found == Path(source) or Path(source) in found.parents], (path, source)
    kept_out = {"tests", "build", "docs", "bench", ".git", ".venv", "deploy", "Makefile"}
    assert not {found.parts[0] for found in context} & kept_out
    assert not [found for found in context if found.suffix == ".pyc"]
