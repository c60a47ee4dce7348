"""If the system gives little (few descriptors, few processes, no home, a small cgroup): a message of one line, or it runs."""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from pipeline.client import Client
from pipeline.errors import Unavailable
from pipeline.testing import running
from pipeline.topology.cgroups import read_memory_kills
from tests.faults.load import until

COMMAND = [sys.executable, "-m", "pipeline"]
#: A user id that only this process uses: limits count all processes of a user.
OTHER_USER = 40_000 + os.getpid() % 20_000
AS_OTHER_USER = ["setpriv", f"--reuid={OTHER_USER}", f"--regid={OTHER_USER}", "--clear-groups", "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]  # fmt: skip
"""The capability to read lets that user reach an interpreter in another user's home."""

ROOT = Path(__file__).resolve().parents[2]


def can_be_another_user() -> bool:
    if os.getuid() != 0:
        return False
    try:
        return subprocess.run([*AS_OTHER_USER, *COMMAND, "--version"], capture_output=True, cwd=ROOT).returncode == 0
    except OSError:
        return False


as_root = pytest.mark.skipif(not can_be_another_user(), reason="needs root, and setpriv with ambient capabilities")


def run(*command: object, env: dict[str, str] | None = None, limit: tuple[int, int] | None = None) -> tuple[int, str]:
    """Exit code and stderr of a command line."""

    def lower() -> None:
        if limit is not None:
            resource.setrlimit(limit[0], (limit[1], limit[1]))

    done = subprocess.run(
        list(map(str, command)), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=200, cwd=ROOT,
        env=None if env is None else {"PATH": os.environ["PATH"], **env}, preexec_fn=lower, check=False,
    )  # fmt: skip
    return done.returncode, done.stderr


@pytest.fixture
def shared(folder: Any) -> Iterator[Path]:
    """A folder that all users may use, with a config, a file, and room for runs."""
    # Below /tmp: pytest's folders belong to one user, and their names are long.
    path = Path(os.environ["TRTLAB_RUN_DIR"]) / "shared"
    subprocess.run(["cp", "-r", folder.path, path], check=True)
    for entry in (path.parent, path):
        entry.chmod(0o777)
    folder.path = path
    folder.capsules = path / "capsules"
    yield path
    path.parent.chmod(0o700)
    subprocess.run(["rm", "-rf", path], check=True)


@pytest.mark.parametrize("files", [6, 20, 40, *[pytest.param(each, marks=pytest.mark.foreign) for each in (8, 12, 34, 64)]])
def test_with_few_descriptors_it_runs_or_names_the_limit(folder: Any, files: int) -> None:
    (folder.path / "a.bin").write_bytes(b"x")
    code, err = run(*COMMAND, "run", folder.config({}), folder.path / "a.bin", limit=(resource.RLIMIT_NOFILE, files))
    assert (code, err) == (0, "") or (code == 3 and "ulimit -n" in err and err.count("\n") == 1), (code, err)
    assert code == (0 if files >= 40 else 3)


def test_a_soft_limit_of_descriptors_is_raised(folder: Any) -> None:
    (folder.path / "a.bin").write_bytes(b"x")
    low = f"import os, resource as r, sys; r.setrlimit(r.RLIMIT_NOFILE, (20, r.getrlimit(r.RLIMIT_NOFILE)[1])); os.execv({sys.executable!r}, {COMMAND!r} + sys.argv[1:])"
    assert run(sys.executable, "-c", low, "run", folder.config({}), folder.path / "a.bin") == (0, "")


def test_a_worker_that_cannot_be_started_for_want_of_descriptors_is_started_once_there_are_some(folder: Any) -> None:
    with running(folder.config({"replicas": 2}, {})) as pipeline, pipeline.client() as client:
        before = resource.prlimit(pipeline.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pipeline.pid, resource.RLIMIT_NOFILE, (10, before[1]))
        os.kill(pipeline.worker_pids("s0")[0], signal.SIGKILL)
        until(lambda: pipeline.log().count("it could not be started: Too many open files") > 1)
        assert bytes(client.submit(data=b"x").get(200)["data"]) == b"x"
        resource.prlimit(pipeline.pid, resource.RLIMIT_NOFILE, before)
        until(lambda: len(pipeline.worker_pids("s0")) == 2)
        assert "damaged" not in pipeline.log()
        assert pipeline.stop() == 0


def test_more_clients_than_there_are_descriptors_for_wait_and_no_other_client_notices(folder: Any, started: Callable[..., Any]) -> None:
    low = f"import os, resource as r, sys; r.setrlimit(r.RLIMIT_NOFILE, (64, 64)); os.execv({sys.executable!r}, {COMMAND!r} + sys.argv[1:])"
    process = started(
        "run", folder.config({}), "--serve", command=[sys.executable, "-c", low],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip
    run_dir = Path(process.stdout.readline().strip().partition(" in ")[2])
    clients: list[Client] = []
    with suppress(Unavailable):
        while len(clients) < 30:
            clients.append(Client.connect(run_dir, timeout_s=3))
    assert 3 < len(clients) < 30
    with pytest.raises(Unavailable):
        Client.connect(run_dir, timeout_s=1)
    clients.pop().close()
    clients.append(Client.connect(run_dir, timeout_s=30))
    status = clients[0].status()
    assert len(status["clients"]) == len(clients)
    assert status["counts"].get("client_deaths", 0) == 0
    for client in clients:
        client.close()
    process.terminate()
    assert "raise the hard limit of open files (ulimit -n)" in process.communicate(timeout=200)[1]
    assert process.returncode == 0


@as_root
@pytest.mark.parametrize("processes", [1, 8, *[pytest.param(each, marks=pytest.mark.foreign) for each in (2, 4, 12)]])
def test_with_few_processes_it_names_the_limit(shared: Path, folder: Any, processes: int) -> None:
    # The limit counts all processes of that user, and does not apply to root.
    (shared / "a.bin").write_bytes(b"x")
    env = {"TRTLAB_RUN_DIR": str(shared / "run"), "HOME": str(shared)}
    limited = f"import os, resource as r, sys; r.setrlimit(r.RLIMIT_NPROC, ({processes}, {processes})); os.execvp(sys.argv[1], sys.argv[1:])"
    command = [sys.executable, "-c", limited, *AS_OTHER_USER, *COMMAND]
    code, err = run(*command, "run", folder.config({}), shared / "a.bin", env=env)
    assert code == 3, err
    assert err.count("\n") == 1, err
    assert "ulimit -u" in err


@as_root
@pytest.mark.parametrize("arguments", [["models", "list"], ["check", "labels.yaml"], ["run", "labels.yaml", "a.bin"]])
def test_a_user_without_a_home_is_told_what_to_set(shared: Path, arguments: list[str]) -> None:
    (shared / "labels.yaml").write_text(
        "name: labels\ninputs: [{name: scores, dtype: float32, shape: [1000]}]\n"
        "stages:\n  - {name: top, use: 'stages.classify:TopK', replicas: 1, with: {labels: imagenet, k: 1}}\n"
    )
    (shared / "a.bin").write_bytes(b"x")
    arguments = [str(shared / word) if "." in word else word for word in arguments]
    code, err = run(*AS_OTHER_USER, *COMMAND, *arguments, env={"TRTLAB_RUN_DIR": str(shared / "run")})
    assert code == 3, err
    assert err.count("\n") == 1, err
    assert "set TRTLAB_MODELS" in err


@as_root
def test_a_user_without_a_home_runs_what_needs_no_models(shared: Path, folder: Any) -> None:
    (shared / "a.bin").write_bytes(b"x")
    env = {"TRTLAB_RUN_DIR": str(shared / "run")}
    assert run(*AS_OTHER_USER, *COMMAND, "run", folder.config({}), shared / "a.bin", env=env) == (0, "")


@as_root
@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["run", "faulty.yaml", "a.bin"], 3), (["check", "faulty.yaml", "--pages"], 3), (["status"], 1), (["shm", "gc"], 0)],
)  # fmt: skip
@pytest.mark.parametrize(
    "home", ["of-root", *[pytest.param(each, marks=pytest.mark.foreign) for each in ("of-root/below", "a.bin/below", "/proc/none")]]
)
def test_another_users_folder_for_runs_is_refused_in_one_line(
    shared: Path, folder: Any, arguments: list[str], code: int, home: str
) -> None:
    (shared / "of-root").mkdir(mode=0o755)
    (shared / "a.bin").write_bytes(b"x")
    folder.config({})
    arguments = [str(shared / word) if "." in word else word for word in arguments]
    found, err = run(*AS_OTHER_USER, *COMMAND, *arguments, env={"TRTLAB_RUN_DIR": str(shared / home), "HOME": str(shared)})
    assert found == code, err
    assert err.count("\n") == (code > 0), err
    assert "TRTLAB_RUN_DIR" in err or code < 3


@as_root
def test_a_home_that_cannot_be_written_is_told_by_pull(shared: Path) -> None:
    (shared / "home").mkdir(mode=0o555)
    program = (
        "import sys\nfrom pipeline.models import pull\npull.fetch_member = lambda *_: b'x'\npull._verify = lambda *_: None\n"
        "sys.argv = ['pipeline', 'models', 'pull', 'imagenet']\nfrom pipeline.cli.main import main\nmain()"
    )
    code, err = run(*AS_OTHER_USER, sys.executable, "-c", program, env={"HOME": str(shared / "home")})
    assert code == 3, err
    assert err.count("\n") == 1
    assert "set TRTLAB_MODELS to a folder for models" in err


# -- a small cgroup ---------------------------------------------------------------------------------

HUNGRY = """
import numpy as np

def eat(data):
    return np.int64(np.ones(1 << 30 if bytes(data) == b"eat" else 1, np.uint8).sum())
"""


@pytest.fixture
def small_group() -> Iterator[tuple[Path, str]]:
    """A memory cgroup below that of this process, and the name of its limit's file."""
    own = dict(re.findall(r"^\d+:([^:]*):(.*)$", Path("/proc/self/cgroup").read_text(), re.MULTILINE))
    version_2 = Path("/sys/fs/cgroup/cgroup.controllers").exists()
    parent = Path("/sys/fs/cgroup", "" if version_2 else "memory", own.get("" if version_2 else "memory", "/").strip("/"))
    group = parent / f"trtlab-test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no cgroup can be made here: {error}")
    limit = group / ("memory.max" if version_2 else "memory.limit_in_bytes")
    if not limit.exists() or read_memory_kills(Path("/")) is None:
        group.rmdir()
        pytest.skip("the memory controller is not for cgroups made here")
    yield group, limit.name
    group.rmdir()


def in_group(group: Path, *command: object) -> list[object]:
    return ["sh", "-c", f'echo $$ > "{group}/cgroup.procs"; exec "$@"', "sh", *command]


def hungry(folder: Any) -> Path:
    (folder.path / "hungry.py").write_text(HUNGRY)
    specs = {
        "inputs": [{"name": "data", "dtype": "uint8", "shape": ["bytes"], "max": {"bytes": 1024}}],
        "outputs": [{"name": "n", "dtype": "int64", "shape": []}],
    }
    path = folder.config(name="hungry")
    text = path.read_text().replace("stages: []\n", "")
    path.write_text(text + "stages:\n  - {name: eat, use: './hungry.py:eat', replicas: 1, with: " + repr(specs) + "}\n")
    return path


def test_the_log_says_that_the_kernel_killed_a_worker_for_want_of_memory(
    folder: Any, small_group: tuple[Path, str]
) -> None:
    group, limit = small_group
    (group / limit).write_text("400M")
    (folder.path / "a.bin").write_bytes(b"x")
    (folder.path / "b.bin").write_bytes(b"eat")
    done = subprocess.run(
        in_group(group, *COMMAND, "run", hungry(folder), folder.path / "a.bin", folder.path / "b.bin"),  # type: ignore[arg-type]
        capture_output=True, text=True, cwd=ROOT, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert re.search(r"b\.bin +FAILED +StageCrashed: .*SIGKILL: the kernel's out-of-memory killer", done.stdout), done.stdout
    assert "eat/0 died (killed by signal 9 (SIGKILL: the kernel's out-of-memory killer; give it more memory" in done.stderr


def test_a_group_that_is_too_small_for_the_processes_is_refused(folder: Any, small_group: tuple[Path, str]) -> None:
    group, limit = small_group
    (group / limit).write_text("48M")
    code, err = run(*in_group(group, *COMMAND, "check", hungry(folder)))
    assert code == 3, err
    assert re.match(r"cgroup memory left: at least 36\.\d MiB are needed .* 18\.0 MiB for each of 2 processes", err), err
