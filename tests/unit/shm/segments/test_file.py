"""What only segments that are files of a folder do; the contract of all kinds is tests/conformance/test_segment.py."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from shm.errors import NoRoom, SegmentCorrupt, SegmentError, SegmentNotFound
from shm.segment import Segment, SegmentSpec
from shm.segments import attach, create, file
from tests.unit.shm.users import as_user

GROUP = 62000


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder that every user can enter, as those of pytest cannot be."""
    with tempfile.TemporaryDirectory(prefix="trtlab-files-", dir="/dev/shm") as made:
        Path(made).chmod(0o755)
        yield Path(made)


@pytest.fixture
def segment(shared: Path) -> Iterator[Segment]:
    with create("file", SegmentSpec("run-1", "frames", 64, 2, folder=str(shared))) as made:
        yield made


def test_its_name_is_the_path_of_its_file(segment: Segment, shared: Path) -> None:
    assert segment.address == ("file", str(shared / f"trtlab.run-1.frames.{segment.number:08x}"))
    assert os.path.getsize(segment.address.name) == segment.layout.size


@pytest.mark.parametrize("folder", ["", "shm", "./shm"])
def test_a_folder_that_is_not_absolute_is_refused(folder: str) -> None:
    with pytest.raises(SegmentError, match="expected the absolute path of a folder"):
        create("file", SegmentSpec("run-1", "frames", 64, 2, folder=folder))


def test_a_folder_that_is_not_there_is_named(shared: Path) -> None:
    with pytest.raises(SegmentError, match=r"none/trtlab.* cannot be made: No such file or directory; is the folder mounted"):
        create("file", SegmentSpec("run-1", "frames", 64, 2, folder=str(shared / "none")))
    with pytest.raises(SegmentNotFound, match=r"there is no folder .*none; mount the volume of the segments there"):
        attach(("file", str(shared / "none" / "trtlab.run-1.frames.1")))


@pytest.mark.parametrize("umask", [0, 0o777])
def test_its_permissions_do_not_depend_on_the_umask(shared: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        segment = create("file", SegmentSpec("run-1", "frames", 64, 2, folder=str(shared)))
    finally:
        os.umask(before)
    with segment:
        assert os.stat(segment.address.name).st_mode & 0o7777 in (0o600, 0o600 & ~umask)
        segment.open_to(os.getgid(), 0o640)
        assert os.stat(segment.address.name).st_mode & 0o7777 == 0o640


def test_other_kinds_cannot_be_opened_to_a_group() -> None:
    for kind in ("posix", "sysv", "local"):
        with create(kind, SegmentSpec("run-1", "frames", 64, 2)) as segment, pytest.raises(SegmentError, match="user's alone"):
            segment.open_to(os.getgid(), 0o640)


@pytest.mark.parametrize("kind", ["link", "fifo", "folder"])
def test_what_is_no_file_is_refused_and_never_waited_for(segment: Segment, shared: Path, kind: str) -> None:
    path = shared / "trtlab.other"
    if kind == "link":
        path.symlink_to(segment.address.name)
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.mkdir()
    with pytest.raises(SegmentCorrupt, match=r"trtlab\.other"):
        attach(("file", str(path)))


def test_a_group_writes_or_reads_what_is_opened_to_it_and_others_nothing(shared: Path) -> None:
    spec = SegmentSpec("run-1", "frames", 64, 2, folder=str(shared))
    code = (
        "from shm.segments import attach\n"
        "for writable in (False, True):\n"
        "    try: attach(ADDRESS, writable=writable, foreign=True).close(); print('ok')\n"
        "    except Exception as error: print(type(error).__name__, error)\n"
    )
    with create("file", spec) as segment:
        def said(groups: list[int]) -> list[str]:
            return as_user(61002, groups, code.replace("ADDRESS", repr(tuple(segment.address)))).splitlines()

        assert all("SegmentForbidden" in line for line in said([GROUP]))
        segment.open_to(GROUP, 0o640)
        reads, writes = said([GROUP])
        assert reads == "ok"
        assert writes.startswith("SegmentForbidden")
        segment.open_to(GROUP, 0o660)
        assert said([GROUP]) == ["ok", "ok"]
        (closed, _) = said([])
        assert f"and to group {GROUP}, and this process is user 61002 with the groups 61002; add group {GROUP} to it" in closed


def test_a_process_of_the_run_takes_no_segment_of_another_user(segment: Segment) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a file to another user")
    os.chown(segment.address.name, 61002, -1)
    with pytest.raises(SegmentCorrupt, match="belongs to user 61002, and this is a process of user 0: another program"):
        attach(segment.address)
    attach(segment.address, foreign=True).close()


def test_a_group_that_this_process_is_not_in_is_refused_with_what_to_do(shared: Path) -> None:
    shared.chmod(0o777)
    code = (
        "from shm.segment import SegmentSpec; from shm.segments import create; from shm.errors import NotInGroup\n"
        f"with create('file', SegmentSpec('run-1', 'frames', 64, 2, folder={str(shared)!r})) as segment:\n"
        f"    try: segment.open_to({GROUP}, 0o660)\n"
        "    except NotInGroup as error: print(error)\n"
    )
    said = as_user(61001, [], code)
    assert f"cannot be given to group {GROUP}: this process is user 61001 with the groups 61001; add the group to it" in said
    assert list(shared.iterdir()) == []


def test_a_fifo_in_the_place_of_a_segment_that_is_only_read_is_not_waited_for(shared: Path) -> None:
    path = shared / "trtlab.run-1.frames.1"
    os.mkfifo(path)
    with pytest.raises(SegmentCorrupt, match="expected a regular file"):
        attach(("file", str(path)), writable=False)


@pytest.mark.parametrize("name", ["/x/trtlab.a\0b", "trtlab.run-1.frames.1", "/x/frames.1", "\0", ""])
def test_a_name_that_is_no_path_of_a_segment_is_refused(name: str) -> None:
    with pytest.raises(SegmentNotFound, match="expected a path such as"):
        attach(("file", name))


def test_a_segment_that_could_not_be_made_leaves_no_file(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(fd: int, layout: object) -> None:
        raise OSError(errno.ENOSPC, "no room")

    monkeypatch.setattr(file, "fill", fails)
    with pytest.raises(NoRoom, match="2 slots of 64 B and a header need"):
        create("file", SegmentSpec("run-1", "frames", 64, 2, folder=str(shared)))
    assert list(shared.iterdir()) == []
