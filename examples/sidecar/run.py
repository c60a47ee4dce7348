"""Runs the two containers of pod.yaml on this machine, without Kubernetes: `make sidecar`.

    run.py ──┬── pipeline    mount, PID, IPC and UTS namespaces, user 10001   ┐ a root of their own, read-only; shared
             └── app         the same, user 10002                             ┘ are the network and the two volumes

Command, variables, users, the group, mounts, sizes and probes are those of pod.yaml; an image is this checkout with its
Python. As another user than root, both sides are that user in a user namespace. Nothing is left when it ends: the
mounts are those of namespaces.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parents[1]
INSIDE = "SIDECAR_INSIDE"
#: What both images have of this machine, beside Python and the checkout.
SYSTEM = ("bin", "etc", "lib", "lib32", "lib64", "sbin", "usr")
DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
PATIENCE_S = 60


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    photo = CHECKOUT / "photos/digits/3.png"
    parser.add_argument("picture", nargs="?", default=str(photo), help="what is sent to the app")
    parser.add_argument("--once", action="store_true", help="end after the answer; otherwise Ctrl-C ends it")
    parser.add_argument("--port", type=int, default=8000, help="of the app, on 127.0.0.1")
    options = parser.parse_args()
    if INSIDE not in os.environ:
        return run_inside()
    for number in (signal.SIGINT, signal.SIGTERM):  # also where a script without a terminal starts this
        signal.signal(number, signal.default_int_handler)
    base = Path(os.environ["SIDECAR_BASE"])
    # All that follows lies in it, and is gone with this process's namespace: there is nothing to remove.
    mount("-t", "tmpfs", "-o", "mode=755", "sidecar", base)
    pod = Pod(base, options.port)
    try:
        return pod.run(options.picture, once=options.once)
    except KeyboardInterrupt:
        return 0
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)  # the end has its time limit
        pod.end()


def run_inside() -> int:
    """Run this command line again, in a mount namespace around both sides: the volumes are theirs alone."""
    missing = [tool for tool in ("unshare", "nsenter", "setpriv", "mount") if shutil.which(tool) is None]
    if missing:
        raise SystemExit(f"missing: {', '.join(missing)}; on Debian and Ubuntu: sudo apt install util-linux mount")
    root = os.getuid() == 0
    user = [] if root else ["--user", "--map-root-user"]
    base = tempfile.mkdtemp(prefix="sidecar-")
    try:
        environment = {**os.environ, INSIDE: "root" if root else "user", "SIDECAR_BASE": base}
        command = ["setpriv", "--pdeathsig=TERM", "unshare", *user, "--mount", "--propagation=private", "--"]
        process = subprocess.Popen([*command, sys.executable, *sys.argv], env=environment)
        # Ctrl-C comes to both; what stops the sides, in order, is the process inside.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, lambda number, frame: process.terminate())
        return process.wait()
    finally:
        os.rmdir(base)


class Pod:
    """The pod of pod.yaml."""

    def __init__(self, base: Path, port: int) -> None:
        documents = list(yaml.safe_load_all((HERE / "pod.yaml").read_text()))
        self._config = next(document["data"] for document in documents if document["kind"] == "ConfigMap")
        deployment = next(document["spec"] for document in documents if document["kind"] == "Deployment")
        self._spec = deployment["template"]["spec"]
        self._base = base
        self._port = port
        self._group = self._spec["securityContext"]["fsGroup"] if os.environ[INSIDE] == "root" else 0
        self._sides: list[Side] = []

    def run(self, picture: str, *, once: bool) -> int:
        volumes = self._make_volumes()
        sidecar, app = self._spec["initContainers"][0], self._spec["containers"][0]
        pipeline = self._start(sidecar, volumes, [self._own(word) for word in sidecar["command"]])
        # The kubelet starts the app when this has passed.
        pipeline.wait_for(sidecar["startupProbe"]["exec"]["command"])
        print("the pipeline is ready", flush=True)
        listen = ["--port", str(self._port), "--no-access-log", "--log-level", "warning"]
        server = ["python", "-m", "uvicorn", "--app-dir", "/app/examples/sidecar", *listen, "app:app"]
        self._start(app, volumes, server)
        url = f"http://127.0.0.1:{self._port}"
        self._wait_for(f"{url}/healthz")
        print(f"$ curl --data-binary @{picture} {url}/classify", flush=True)
        with urllib.request.urlopen(f"{url}/classify", Path(picture).read_bytes(), timeout=PATIENCE_S) as answer:
            print(json.dumps(json.load(answer)), flush=True)
        if not once:
            print("serving; Ctrl-C ends it", flush=True)
            while all(side.lives for side in self._sides):
                time.sleep(0.2)
            raise SystemExit("one of the two has ended")
        return 0

    def end(self) -> None:
        """As the kubelet does: the app first, then the sidecar, each with SIGTERM; after the grace period SIGKILL."""
        end = time.monotonic() + self._spec["terminationGracePeriodSeconds"]
        for side in reversed(self._sides):
            side.stop(end)

    def _own(self, word: str) -> str:
        """A word of a command with the group that there is here."""
        group = self._spec["securityContext"]["fsGroup"]
        return word.replace("$$", "$").replace(f"group: {group}", f"group: {self._group}")

    def _make_volumes(self) -> dict[str, Path]:
        """The folders of the volumes, as the kubelet makes them: of root and the group, open to it."""
        volumes = {}
        for volume in self._spec["volumes"]:
            folder = self._base / "volumes" / volume["name"]
            folder.mkdir(parents=True)
            if "configMap" in volume:
                for name, text in self._config.items():
                    (folder / name).write_text(text)
            else:
                size = volume["emptyDir"].get("sizeLimit", "64Mi").replace("Mi", "m")
                mount("-t", "tmpfs", "-o", f"size={size},mode=2777,gid={self._group}", volume["name"], folder)
            volumes[volume["name"]] = folder
        return volumes

    def _start(self, container: dict[str, Any], volumes: dict[str, Path], command: list[str]) -> Side:
        root = self._base / container["name"]
        root.mkdir()
        self._sides.append(Side(container, root, volumes, self._group, command))
        return self._sides[-1]

    def _wait_for(self, url: str) -> None:
        end = time.monotonic() + PATIENCE_S
        while all(side.lives for side in self._sides) and time.monotonic() < end:
            with suppress(urllib.error.URLError, ConnectionError), urllib.request.urlopen(url, timeout=5):
                return
            time.sleep(0.1)
        raise SystemExit(f"{url} does not answer")


class Side:
    """A container: a process in namespaces of its own."""

    def __init__(
        self, container: dict[str, Any], root: Path, volumes: dict[str, Path], group: int, command: list[str]
    ) -> None:
        self._name = container["name"]
        places = [
            (volumes[one["name"]] / one.get("subPath", ""), one["mountPath"]) for one in container["volumeMounts"]
        ]
        user = container["securityContext"]["runAsUser"] if os.environ[INSIDE] == "root" else 0
        self._identity = []
        if user != 0:
            ids = [f"--reuid={user}", f"--regid={user}", f"--groups={group}"]
            self._identity = ["setpriv", *ids, "--no-new-privs", "--bounding-set=-all"]
        self._environment = {
            **{one["name"]: one["value"].replace("$$", "$") for one in container["env"]},
            "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
            "PYTHONPATH": str(CHECKOUT),
        }
        make_root(root, places)
        namespaces = ["--mount", "--pid", "--ipc", "--uts", "--fork", "--kill-child", f"--root={root}", "--mount-proc"]
        self._process = subprocess.Popen(
            ["setpriv", "--pdeathsig=KILL", "unshare", *namespaces, "--", *self._identity, *command],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for this process: what it stops, it stops in order
        )

    @property
    def lives(self) -> bool:
        return self._process.poll() is None

    def wait_for(self, probe: list[str]) -> None:
        """Wait until a command within the container succeeds."""
        end = time.monotonic() + PATIENCE_S
        while self.lives and time.monotonic() < end:
            if self._pid and not self._run(probe).returncode:
                return
            time.sleep(0.2)
        said = self._run(probe).stdout if self.lives else "it has ended"
        raise SystemExit(f"{self._name}: {said}")

    def stop(self, end: float) -> None:
        """SIGTERM, and SIGKILL at `end`."""
        if self._pid:
            os.kill(self._pid, signal.SIGTERM)
        try:
            self._process.wait(max(0, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            os.kill(self._pid or self._process.pid, signal.SIGKILL)
            self._process.wait()

    @property
    def _pid(self) -> int:
        """Of the first process in the namespace; 0: it is not there yet, or not any more."""
        pid = self._process.pid
        with suppress(OSError, IndexError):
            return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])
        return 0

    def _run(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        enter = ["nsenter", f"--target={self._pid}", "--mount", "--pid", "--ipc", "--uts", "--root", "--wd=/"]
        done = [*enter, *self._identity, *command]
        return subprocess.run(
            done, env=self._environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
        )


def make_root(root: Path, places: list[tuple[Path, str]]) -> None:
    """Make the root of a container: the system, Python and the checkout, read-only, and the volumes."""
    mount("-t", "tmpfs", "-o", "mode=755", "root", root)
    for name in SYSTEM:
        source = Path("/", name)
        if source.is_symlink():
            (root / name).symlink_to(os.readlink(source))
        elif source.is_dir():
            bind(source, root / name)
    bind(CHECKOUT, root / "app")  # where the image has it
    for name in DEVICES:
        bind(Path("/dev", name), root / "dev" / name, read_only=False)
    for name in ("proc", "dev/shm"):
        (root / name).mkdir()
    for source, target in places:
        bind(source, root / target.lstrip("/"), read_only=source.is_file())
    # Where Python knows them; after the volumes, since they may lie in /tmp.
    for folder in sorted({Path(sys.base_prefix), Path(sys.prefix), CHECKOUT}):  # a folder before what is in it
        if not (root / str(folder).lstrip("/")).exists():
            bind(folder, root / str(folder).lstrip("/"))
    make_read_only(root)


def bind(source: Path, target: Path, *, read_only: bool = True) -> None:
    """Show a folder or file at another place."""
    if source.is_dir():
        target.mkdir(parents=True, exist_ok=True)
    elif not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()
    mount("--rbind", source, target)
    if read_only:
        make_read_only(target)


def make_read_only(target: Path) -> None:
    # In a user namespace, some mounts of the machine keep their flags.
    done = subprocess.run(["mount", "-o", "remount,bind,ro", target], stderr=subprocess.DEVNULL, check=False)
    if done.returncode and os.environ[INSIDE] == "root":
        raise SystemExit(f"{target} cannot be made read-only")


def mount(*arguments: object) -> None:
    subprocess.run(["mount", *map(str, arguments)], check=True)


if __name__ == "__main__":
    sys.exit(main())
