"""What the members of a run's group reach, and what they are told if they are none."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline.errors import StartError, Unavailable
from pipeline.wire.address import SCHEDULER, SUPERVISOR, Address
from pipeline.wire.group import group_of, hold_lock, socket_mode, taking_place
from pipeline.wire.home import make_home
from pipeline.wire.run_folder import RunFolder
from shm.errors import NotInGroup
from tests.unit.shm.users import as_user


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home that every user can reach."""
    with tempfile.TemporaryDirectory(prefix="trt-group-", dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        monkeypatch.setenv("TRTLAB_RUN_DIR", f"{folder}/home")
        yield Path(folder) / "home"


@pytest.fixture
def make(home: Path) -> Iterator[Callable[..., Path]]:
    """Makes the folder of a run."""
    made: list[RunFolder] = []

    def make(name: str, group: int | None = None) -> Path:
        made.append(RunFolder(name, group=group))
        return made[-1].path

    yield make
    for folder in made:
        folder.remove()


def test_of_the_sockets_the_group_reaches_the_schedulers_and_those_of_clients(home: Path, make: Callable[..., Path]) -> None:
    addresses = (SCHEDULER, Address.client(5), SUPERVISOR, Address.worker(0), Address("feeder"))
    assert {socket_mode(make("alone"), address) for address in addresses} == {(None, 0o600)}
    home.chmod(0o750)
    folder, group = make("demo", os.getgid()), os.getgid()
    assert [socket_mode(folder, address) for address in addresses] == [(group, 0o660)] * 2 + [(None, 0o600)] * 3


def test_a_folder_that_no_group_can_enter_or_that_is_gone_has_none(home: Path, make: Callable[..., Path]) -> None:
    folder = make("demo")
    assert group_of(folder) is None
    shutil.rmtree(folder)
    assert group_of(folder) is None


def test_a_folder_that_a_group_can_read_and_not_enter_has_none(home: Path, make: Callable[..., Path]) -> None:
    folder = make("demo")
    for mode, group in ((0o740, None), (0o760, None), (0o710, os.getgid())):
        folder.chmod(mode)
        assert group_of(folder) == group


def test_the_lock_of_a_process_may_be_read_by_the_group_if_there_is_one(home: Path, make: Callable[..., Path]) -> None:
    for group, mode in ((None, 0o600), (os.getgid(), 0o640)):
        folder = make(f"demo-{mode}", group)
        for address in (SCHEDULER, Address.client(5)):
            with hold_lock(folder, address) as lock:
                assert stat.S_IMODE(os.stat(lock.path).st_mode) == mode
        home.chmod(0o750)


def refusal(folder: Path, error: Exception) -> str:
    """What a client is told whose place cannot be had for this reason."""
    with pytest.raises(Unavailable) as caught, taking_place(folder):
        raise error
    return str(caught.value)


def test_a_client_whose_inbox_cannot_be_made_is_told_that_no_run_is_there_only_if_its_folder_is_gone(
    home: Path, make: Callable[..., Path]
) -> None:
    folder = make("demo")
    with pytest.raises(StartError, match="its path is too long"), taking_place(folder):
        raise StartError("its path is too long")
    shutil.rmtree(folder)
    assert "a run removes its folder when it ends" in refusal(folder, StartError("cannot bind"))


def test_a_client_without_a_place_is_told_why(home: Path, make: Callable[..., Path]) -> None:
    folder = make("demo")
    assert refusal(folder, FileNotFoundError("gone")) == f"no pipeline runs in {folder}: gone"
    said = refusal(folder, NotInGroup("the group"))
    assert said == f"the pipeline in {folder} lets no client of this user in: the group"
    if os.geteuid() == 0:
        os.chown(home, -1, 62000)
        home.chmod(0o750)
        code = f"""
from pathlib import Path
from pipeline.wire.group import taking_place
try:
    with taking_place(Path({str(folder)!r})):
        raise OSError
except Exception as error:
    print(error)
"""
        assert f"lets no client of this user in: {home} is open to user 0 and to group 62000" in as_user(61002, [], code)
        assert f"lets no client of this user in: {folder} is open to user 0 alone" in as_user(61002, [62000], code)
        home.chmod(0o755)
        folder.chmod(0o755)
        os.chown(folder / "clients", -1, 62000)
        assert f"lets no client of this user in: {folder}/clients is open to user 0 alone" in as_user(61002, [], code)


def test_a_home_that_is_not_the_groups_must_be_open_to_all(home: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a folder to a group that it is not in")
    home.mkdir(mode=0o755)
    os.chown(home, -1, 62000)
    for mode, closed in ((0o755, False), (0o750, True), (0o705, False)):
        home.chmod(mode)
        if closed:
            with pytest.raises(StartError, match="is closed to group 62001"):
                make_home(home, 62001)
        else:
            make_home(home, 62001)
