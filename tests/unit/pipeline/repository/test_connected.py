"""What a connected manager finds in the folders of runs: without processes, by the locks of this one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline.errors import ClientMisuse, Unavailable
from pipeline.repository.connected import ConnectedModels, connect
from pipeline.wire.run_dir import LOCK, READY
from shm.owner import OwnerLock


@pytest.fixture
def home() -> Path:
    """That of this session, whose path is short enough for sockets; no run is in it."""
    return Path(os.environ["TRTLAB_RUN_DIR"])


@pytest.fixture
def run(home: Path) -> Iterator[Callable[..., Path]]:
    """A folder as a living run has it."""
    locks = []

    def run(name: str, *, ready: bool = True, home: Path = home) -> Path:
        folder = home / name
        folder.mkdir(parents=True)
        locks.append(OwnerLock.acquire(folder / LOCK))
        if ready:
            (folder / READY).touch()
        return folder

    yield run
    for lock in locks:
        lock.release()
    for folder in home.iterdir():
        shutil.rmtree(folder)


def test_it_lists_what_lives_now_of_its_name_folder_or_all(run: Callable[..., Path], home: Path, tmp_path: Path) -> None:
    mnist, _ = run("mnist-1"), run("resnet-2", ready=False)
    run("mnist-3")
    (home / "dead-4").mkdir()
    elsewhere = run("other-5", home=tmp_path)
    assert ConnectedModels(None, "x").get_models() == ["mnist", "resnet"]
    assert ConnectedModels("mnist", "x").get_models() == ["mnist"]
    assert ConnectedModels("dead", "x").get_models() == []
    # By its folder, also one that lies elsewhere.
    assert ConnectedModels(mnist, "x").get_models() == ["mnist"]
    assert ConnectedModels(str(elsewhere), "x").get_models() == ["other"]
    models = ConnectedModels(None, "x")
    assert repr(models) == f"<ConnectedModels: all in {home}>"
    assert repr(ConnectedModels("mnist", "x")) == "<ConnectedModels: mnist>"
    run("aaa-6")
    assert models.get_models() == ["aaa", "mnist", "resnet"]


def test_to_connect_takes_one_that_is_ready(run: Callable[..., Path]) -> None:
    with pytest.raises(Unavailable, match=r"no pipeline is running .*start one with: pipeline run CONFIG --serve"):
        connect()
    run("resnet-2", ready=False)
    with pytest.raises(Unavailable, match=r"not ready yet: .*resnet-2; see pipeline status"):
        connect(timeout_s=0.01)
    with pytest.raises(Unavailable, match=r"no pipeline 'resnt' is running here .* \(did you mean resnet\?\)"):
        connect("resnt")
    with pytest.raises(Unavailable, match=r"no pipeline runs in .*/mnist-1: there is no such folder"):
        connect(Path(os.environ["TRTLAB_RUN_DIR"]) / "mnist-1")
    run("mnist-1")
    assert connect().get_models() == ["mnist", "resnet"]


def test_a_run_that_this_process_may_not_see_is_told_and_not_that_none_runs(
    home: Path, run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "mnist-1").mkdir()
    monkeypatch.setattr("pipeline.wire.run_dir.why_closed", lambda path: "not in group 7" if path != home else None)
    with pytest.raises(Unavailable, match=r"cannot see whether the run in .*/mnist-1 is alive: not in group 7"):
        connect("mnist")


def test_a_model_is_asked_by_its_name_or_in_its_folder(run: Callable[..., Path]) -> None:
    folder = run("mnist-1")
    assert ConnectedModels("mnist", "x")._place("mnist") == "mnist"
    assert ConnectedModels(folder, "x")._place("mnist") == folder
    with pytest.raises(Unavailable, match=r"no model 'mnits' runs here \(did you mean mnist\?\)"):
        ConnectedModels(None, "x").infer_runner("mnits")


def test_a_run_without_a_scheduler_is_not_ready_and_says_why(run: Callable[..., Path]) -> None:
    folder = run("mnist-1")
    (folder / "clients").mkdir()
    status = ConnectedModels("mnist", "x").status()
    assert list(status) == ["mnist"]
    assert (status["mnist"]["state"], status["mnist"]["pipeline"]) == ("not ready", None)
    assert "the scheduler of mnist-1 is dead" in status["mnist"]["why"]


def test_what_is_no_path_of_a_config_is_refused(run: Callable[..., Path]) -> None:
    run("mnist-1")
    with connect() as models:
        with pytest.raises(ClientMisuse, match="neither starts nor ends any"):
            models.load(5)  # type: ignore[arg-type]
        with pytest.raises(ClientMisuse, match="config: expected the path of a YAML file, found int 5"):
            models.reload("mnist", 5)  # type: ignore[arg-type]


def test_after_stop_every_call_says_so(run: Callable[..., Path]) -> None:
    run("mnist-1")
    with connect() as models:
        pass
    for call in (models.get_models, models.status, models.__enter__, lambda: models.infer_runner("mnist"),
                 lambda: models.load("a.yaml"), lambda: models.unload("mnist")):  # fmt: skip
        with pytest.raises(ClientMisuse, match="this manager was stopped; make another one"):
            call()
    models.stop()
