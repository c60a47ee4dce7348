"""What is given to a group, and what is said if it cannot be, or if this process is not of it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from shm.permissions import is_member, open_to, why_closed
from tests.unit.shm.users import as_user

GROUP = 62000


@pytest.fixture
def shared() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="trtlab-permissions-", dir="/dev/shm") as made:
        Path(made).chmod(0o777)
        yield Path(made)


def test_a_file_without_a_group_has_the_permissions_that_were_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch(mode=0)
    open_to(None, path, 0o640)
    assert path.stat().st_mode & 0o7777 == 0o640


def test_the_setgid_bit_outlives_the_change_of_the_group(shared: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a folder to a group that it is not in")
    folder = shared / "folder"
    folder.mkdir()
    open_to(GROUP, folder, 0o3730)
    assert folder.stat().st_mode & 0o7777 == 0o3730
    assert folder.stat().st_gid == GROUP
    (folder / "inside").touch()
    assert (folder / "inside").stat().st_gid == GROUP


def test_a_group_that_this_process_is_not_in_is_an_error_with_what_to_do(shared: Path) -> None:
    said = as_user(
        61001,
        [61009],
        "from shm.permissions import open_to; from shm.errors import NotInGroup; from pathlib import Path\n"
        f"path = Path({str(shared)!r}) / 'file'; path.touch()\n"
        f"try: open_to({GROUP}, path, 0o660)\n"
        "except NotInGroup as error: print(error, oct(path.stat().st_mode & 0o777))\n",
    )
    assert f"/file: cannot be given to group {GROUP}: this process is user 61001 with the groups 61001, 61009; " in said
    assert f"supplementalGroups: [{GROUP}]; docker run --group-add {GROUP}) 0o644" in said


def test_a_volume_that_gives_its_group_by_itself_needs_no_membership(shared: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a folder to a group that it is not in")
    os.chown(shared, -1, GROUP)
    shared.chmod(0o2777)
    said = as_user(
        61001, [], f"from shm.permissions import open_to\npath = {str(shared / 'file')!r}; open(path, 'w'); open_to({GROUP}, path, 0o640); print('ok')"
    )
    assert said == "ok\n"
    assert (shared / "file").stat().st_mode & 0o7777 == 0o640


def test_what_is_open_or_missing_is_not_closed(tmp_path: Path) -> None:
    assert why_closed(tmp_path) is None
    assert why_closed(tmp_path / "none") is None


@pytest.mark.parametrize(
    ("mode", "said"),
    [
        (0o750, f"is open to user 0 and to group {GROUP}, and this process is user 61002 with the groups 61002; add group {GROUP} to it"),
        (0o700, "is open to user 0 alone, and this process is user 61002 with the groups 61002"),
    ],
)
def test_why_a_folder_is_closed_names_the_group_that_it_is_open_to(shared: Path, mode: int, said: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a folder to a group that it is not in")
    os.chown(shared, -1, GROUP)
    shared.chmod(mode)
    code = f"from shm.permissions import why_closed; print(why_closed({str(shared)!r}))"
    assert said in as_user(61002, [], code)
    if mode & 0o050:
        assert as_user(61002, [GROUP], code) == "None\n"


def test_membership_is_by_the_own_group_or_a_further_one() -> None:
    assert is_member(os.getegid())
    assert not is_member(GROUP)
