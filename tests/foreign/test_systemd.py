"""deploy/systemd/trtlab@.service under a real systemd: a manager of this user's, in namespaces of its own."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import yaml

from bench.titles import in_role
from tests.faults.load import until
from tests.faults.versions import STAGE

pytestmark = pytest.mark.foreign

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
UNIT = ROOT / "deploy/systemd/trtlab@.service"

#: What only the manager of the system can do.
ONLY_OF_THE_SYSTEM = r"^(User|Group)=.*\n"


#: Hung ones are noticed sooner; and no mount namespace for the service within that of its manager, which a sandbox need
#: not allow. What systemd does by seccomp, and by capabilities, stays.
DROP_IN = "[Service]\nWatchdogSec=3\n" + "".join(
    f"{key}=no\n" for key in (
        "ProtectSystem", "ProtectHome", "PrivateTmp", "PrivateDevices", "ProtectControlGroups", "ProtectHostname",
        "ProtectKernelLogs", "ProtectKernelModules", "ProtectKernelTunables",
    )
)  # fmt: skip


class Manager:
    """A service manager, and the folder that is its home."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "config/trtlab"
        units = folder / "config/systemd/user"
        for made in (self.config, units / "trtlab@.service.d", folder / "state"):
            made.mkdir(parents=True)
        (units / UNIT.name).write_text(as_users(UNIT.read_text()))
        (units / "trtlab@.service.d/here.conf").write_text(DROP_IN)
        self._process = subprocess.Popen(
            ["unshare", "--mount", "--pid", "--ipc", "--fork", "--mount-proc", "bash", HERE / "user_manager.sh", folder],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        assert self._process.stdout is not None
        if (line := self._process.stdout.readline()) != "ready\n":
            self.close()
            log = folder / "log"
            pytest.skip(f"no manager starts here: {line}{log.read_text() if log.exists() else ''}")

    def write(self, version: int, setup: str = "        pass") -> None:
        stage = STAGE.format(version=version, setup=setup, process="")
        (self.config / "stamp_stage.py").write_text(stage)
        document = {
            "inputs": [{"name": "number", "dtype": "int64", "shape": [1]}],
            "stages": [{"name": "stamp", "use": "./stamp_stage.py:Stamp", "replicas": 1}],
        }
        (self.config / "stamps.yaml").write_text(yaml.safe_dump(document))

    def inside(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command beside it."""
        (first,) = psutil.Process(self._process.pid).children()
        environment = {
            **os.environ, "HOME": str(self.folder), "XDG_RUNTIME_DIR": "/run/manager",
            "XDG_CONFIG_HOME": str(self.folder / "config"), "TRTLAB_RUN_DIR": "/run/manager/trtlab/stamps",
        }  # fmt: skip
        enter = ["nsenter", f"--target={first.pid}", "--mount", "--pid", "--ipc", "--"]
        return subprocess.run([*enter, *command], env=environment, capture_output=True, text=True, check=False)

    def systemctl(self, *command: str) -> subprocess.CompletedProcess[str]:
        return self.inside("systemctl", "--user", *command)

    def shows(self, name: str) -> str:
        return self.systemctl("show", "--value", "-p", name, "trtlab@stamps").stdout.strip()

    def processes(self, role: str) -> list[psutil.Process]:
        return in_role(self._process.pid, role, recursive=True)


    def stamp(self) -> int:
        """Which version answers."""
        code = (
            "import numpy, pipeline\n"
            "with pipeline.connect('stamps', timeout_s=60) as manager:\n"
            "    print(manager.infer_runner('stamps').infer(number=numpy.int64([1]), retries=9).get()['stamp'][1])"
        )
        asked = self.inside(sys.executable, "-c", code)
        assert asked.returncode == 0, asked.stderr
        return int(asked.stdout)

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(200)
        finally:
            for process in [*psutil.Process(self._process.pid).children()] if self._process.poll() is None else []:
                process.kill()
            self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


def as_users(unit: str) -> str:
    """The unit, for the manager of a user, with the package of this environment."""
    return re.sub(ONLY_OF_THE_SYSTEM, "", unit, flags=re.MULTILINE).replace("/opt/trtlab/bin/pipeline", f"{sys.prefix}/bin/pipeline")


@pytest.fixture
def manager() -> Iterator[Manager]:
    if os.geteuid() != 0 or not all(map(shutil.which, ("systemd", "systemctl", "unshare", "nsenter"))):
        pytest.skip("needs root, systemd and util-linux")
    with tempfile.TemporaryDirectory(prefix="trtlab-systemd-", dir="/var/tmp") as name:
        made = Manager(Path(name))
        yield made
        made.close()


def test_start_returns_when_it_is_ready_reload_keeps_the_main_process_and_stop_drains(manager: Manager) -> None:
    manager.write(1)
    started = manager.systemctl("start", "trtlab@stamps")
    assert started.returncode == 0, started.stderr + (manager.folder / "log").read_text()
    assert (manager.shows("ActiveState"), manager.shows("StatusText")) == ("active", "serving")
    assert manager.stamp() == 1
    main = manager.shows("MainPID")
    manager.write(2)
    reloaded = manager.systemctl("reload", "trtlab@stamps")
    assert reloaded.returncode == 0, reloaded.stderr
    assert (manager.stamp(), manager.shows("MainPID")) == (2, main)
    assert (manager.shows("ActiveState"), manager.shows("NRestarts")) == ("active", "0")
    assert manager.shows("StatusText").startswith("serving, in stamps-")
    assert manager.systemctl("stop", "trtlab@stamps").returncode == 0
    assert (manager.shows("Result"), manager.shows("ExecMainStatus")) == ("success", "0")


def test_a_scheduler_that_hangs_is_started_again_with_all_of_it(manager: Manager) -> None:
    manager.write(1)
    assert manager.systemctl("start", "trtlab@stamps").returncode == 0
    (scheduler,) = manager.processes("scheduler")
    scheduler.suspend()
    until(lambda: manager.shows("NRestarts") == "1")
    until(lambda: manager.shows("ActiveState") == "active")
    assert manager.stamp() == 1


def test_a_worker_that_is_killed_is_the_supervisor_s_to_start_again(manager: Manager) -> None:
    manager.write(1)
    assert manager.systemctl("start", "trtlab@stamps").returncode == 0
    (worker,) = manager.processes("stamp/0")
    worker.send_signal(signal.SIGKILL)
    assert manager.stamp() == 1
    assert manager.shows("NRestarts") == "0"


def test_a_supervisor_that_is_killed_is_started_again_by_systemd(manager: Manager) -> None:
    manager.write(1)
    assert manager.systemctl("start", "trtlab@stamps").returncode == 0
    (scheduler,) = manager.processes("scheduler")
    supervisor = scheduler.parent()
    assert supervisor is not None
    supervisor.kill()
    until(lambda: manager.shows("NRestarts") == "1" and manager.shows("ActiveState") == "active")
    assert manager.stamp() == 1


def test_a_wrong_config_fails_once(manager: Manager) -> None:
    manager.write(1)
    (manager.config / "stamps.yaml").write_text("stages: []\n")
    assert manager.systemctl("start", "trtlab@stamps").returncode != 0
    assert (manager.shows("NRestarts"), manager.shows("ExecMainStatus"), manager.shows("ActiveState")) == ("0", "2", "failed")


# -- the file -------------------------------------------------------------------------------------------


@pytest.fixture
def analyzed(tmp_path: Path) -> Path:
    """The unit where systemd-analyze reads it, with a program that is there."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("there is no systemd-analyze")
    unit = tmp_path / "trtlab@demo.service"
    unit.write_text(UNIT.read_text().replace("/opt/trtlab/bin/pipeline", f"{sys.prefix}/bin/pipeline"))
    return unit


def test_systemd_finds_nothing_wrong_with_it(analyzed: Path) -> None:
    said = subprocess.run(["systemd-analyze", "verify", analyzed], capture_output=True, text=True, check=False)
    assert (said.returncode, said.stdout + said.stderr) == (0, "")


def test_it_would_find_a_key_that_it_does_not_know(analyzed: Path) -> None:
    analyzed.write_text(analyzed.read_text().replace("KillMode=", "KillMood="))
    said = subprocess.run(["systemd-analyze", "verify", analyzed], capture_output=True, text=True, check=False)
    assert "KillMood" in said.stderr


def test_it_is_exposed_as_little_as_docs_say(analyzed: Path) -> None:
    command = ["systemd-analyze", "security", "--offline=yes", "--threshold=20", "--no-pager", str(analyzed)]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stdout
    (level,) = re.findall(r"exposure level for \S+: ([\d.]+)", said.stdout)
    assert f"{level} of 10" in (ROOT / "docs/systemd.md").read_text()
