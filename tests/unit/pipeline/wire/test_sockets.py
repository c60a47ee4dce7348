"""The files of sockets: their paths, whose they are, and who may send to them."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from pipeline.errors import StartError, WireError
from pipeline.wire.address import RING_SUFFIX, SCHEDULER, SUPERVISOR, Address
from pipeline.wire.codec import encode
from pipeline.wire.messages import Stop
from pipeline.wire.peers import Peers, SchedulersOnly
from pipeline.wire.sockets import decoded, made_for_this_user, path_of, peers_of, socket_of, user_of

CLIENT = Address.client(0x1F)


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    (tmp_path / "clients").mkdir()
    return tmp_path


def test_a_path_is_that_of_the_address_and_at_most_107_bytes_long(run_dir: Path) -> None:
    assert path_of(run_dir, CLIENT, RING_SUFFIX) == f"{run_dir}/clients/1f.ring"
    with pytest.raises(StartError, match=r"unix sockets allow 107\. Set TRTLAB_RUN_DIR to a shorter folder"):
        path_of(run_dir / ("x" * 100), CLIENT, RING_SUFFIX)


def test_what_a_process_of_the_run_makes_is_its_users_and_a_client_leaves_the_umask_alone(run_dir: Path) -> None:
    before = os.umask(0o022)
    try:
        for address, mode in ((SCHEDULER, 0o600), (CLIENT, 0o644)):
            with made_for_this_user(address):
                os.close(os.open(run_dir / str(address), os.O_CREAT | os.O_WRONLY, 0o666))
            assert stat.S_IMODE((run_dir / str(address)).stat().st_mode) == mode
        assert os.umask(0o022) == 0o022
    finally:
        os.umask(before)


def test_a_client_is_of_the_user_that_holds_its_lock(run_dir: Path) -> None:
    assert user_of(run_dir, 0x1F) is None
    (run_dir / "clients/1f.lock").touch()
    assert user_of(run_dir, 0x1F) == os.geteuid()


def test_only_runs_with_a_group_ask_who_sends(run_dir: Path) -> None:
    assert peers_of(run_dir, [SCHEDULER]) is None
    run_dir.chmod(0o710)
    assert isinstance(peers_of(run_dir, [SCHEDULER]), Peers)
    assert isinstance(peers_of(run_dir, [CLIENT]), SchedulersOnly)
    assert peers_of(run_dir, [SUPERVISOR, Address.worker(1)]) is None


def test_the_socket_of_a_client_is_a_socket_of_its_own_user_and_no_link(run_dir: Path) -> None:
    path, other = run_dir / "clients/1f.ring", run_dir / "clients/2f.ring"
    assert socket_of(run_dir, 0x1F, RING_SUFFIX) == -1
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    bound.bind(str(other))
    bound.close()
    (run_dir / "clients/1f.lock").touch()
    path.symlink_to(other)
    assert socket_of(run_dir, 0x1F, RING_SUFFIX) == -1
    path.unlink()
    path.touch()
    assert socket_of(run_dir, 0x1F, RING_SUFFIX) == -1
    path.unlink()
    other.rename(path)
    fd = socket_of(run_dir, 0x1F, RING_SUFFIX)
    assert stat.S_ISSOCK(os.fstat(fd).st_mode)
    os.close(fd)
    (run_dir / "clients/1f.lock").unlink()
    assert socket_of(run_dir, 0x1F, RING_SUFFIX) == -1


def test_a_frame_that_is_no_message_is_its_error() -> None:
    assert decoded(encode(Stop())) == Stop()
    assert isinstance(decoded(b"nonsense"), WireError)
