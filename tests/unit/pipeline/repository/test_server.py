"""The server of a manager, before a process that stands in for the keeper: what that is told, and all the ways to end."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from pipeline.errors import ClientMisuse, StartError, Unavailable
from pipeline.repository import server as module
from pipeline.repository.server import Server
from pipeline.serving.boot import KeeperBoot, ModelPlace
from pipeline.serving.settings import Settings
from tests.faults.load import until

#: It notes each line of its stdin. HOW is what it does then: serve, die, serve and not end by SIGTERM, or never be
#: ready.
KEEPER = """
import signal, sys
told, how = sys.argv[1:]
if how == "hang":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    how = "serve"
for line in sys.stdin:
    with open(told, "a") as file:
        file.write(line)
    if how == "die":
        sys.exit("error: 127.0.0.1:1 cannot be had")
    if how == "serve":
        print('{"http": 11, "grpc": 12, "metrics": 13}', flush=True)
        how = ""
"""
MNIST = ModelPlace("/run/mnist-1", 30.0)
Make = Callable[[str], Server]


@pytest.fixture
def models() -> dict[str, ModelPlace]:
    return {"mnist": MNIST}


@pytest.fixture
def told(tmp_path: Path) -> Path:
    path = tmp_path / "told"
    path.touch()
    return path


@pytest.fixture
def make(models: dict[str, ModelPlace], told: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    def make(how: str) -> Server:
        command = [sys.executable, "-c", KEEPER, str(told), how]
        monkeypatch.setattr(module, "python_command", lambda name: command)
        return Server(lambda: models, Settings(token="secret", certificate="a.pem", host="::1"))

    return make


def test_it_is_told_the_settings_and_the_models_and_tells_its_ports(
    make: Make, told: Path, models: dict[str, ModelPlace]
) -> None:
    server = make("serve")
    assert not server.serves
    with server:
        server.begin(30)
        assert server.serves
        assert (server.port, server.grpc_port, server.metrics_port) == (11, 12, 13)
        assert (server.url, server.grpc_url) == ("https://[::1]:11", "grpcs://[::1]:12")
        assert repr(server) == "<Server: mnist on https://[::1]:11, grpcs://[::1]:12>"
        boot = KeeperBoot.read(told.read_bytes().splitlines()[0])
        assert (boot.settings.token, boot.models) == ("secret", models)
        models["other"] = ModelPlace("other")
        server.look()
        until(lambda: len(told.read_bytes().splitlines()) == 2)
        assert msgspec.json.decode(told.read_bytes().splitlines()[1], type=dict[str, ModelPlace]) == models
        server.look()
    assert server.ended
    server.close()
    server.close_at_once()
    server.wait()
    assert len(told.read_bytes().splitlines()) == 2, "nothing was new"


def test_why_it_does_not_begin_is_told(make: Make) -> None:
    with pytest.raises(StartError, match=r"(?s)the gateway: it did not start \(exit code 1\).*1 cannot be had"):
        make("die").begin(30)
    server = make("wait")
    with pytest.raises(StartError, match=r"the gateway: not ready within 0.1 s"):
        server.begin(0.1)
    assert server.ended


def test_if_it_dies_whatever_waits_is_told_and_if_it_is_closed_it_is_not(make: Make) -> None:
    server = make("serve")
    server.begin(30)
    server._process._process.kill()
    with pytest.raises(Unavailable, match=r"the gateway has died \(killed by signal 9"):
        server.wait(30)
    other = make("serve")
    other.begin(30)
    threading.Timer(0.1, other.close).start()
    other.wait(30)
    assert other.ended


def test_a_signal_ends_it_while_it_starts_too_and_is_as_before_then(make: Make) -> None:
    before = signal.getsignal(signal.SIGTERM)
    server = make("wait")
    with server.closed_by_signals():
        threading.Timer(0.1, signal.pthread_kill, (threading.get_ident(), signal.SIGTERM)).start()
        server.begin(30)
        server.wait(30)
    assert server.ended
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("signals", [1, 2])
def test_one_that_hangs_is_ended_after_what_its_models_may_take(
    make: Make, models: dict[str, ModelPlace], monkeypatch: pytest.MonkeyPatch, signals: int
) -> None:
    # The second signal waits for less: not for what is under way.
    models["mnist"] = ModelPlace("/run/mnist-1", 0.1 if signals == 1 else 3600.0)
    monkeypatch.setattr(module, "_GRACE_S", 0.1)
    server = make("hang")
    server.begin(30)
    with server.closed_by_signals():
        for _ in range(signals):
            signal.raise_signal(signal.SIGTERM)
        server.wait()
    assert server.ended


def test_close_ends_one_that_hangs_as_well(
    make: Make, models: dict[str, ModelPlace], monkeypatch: pytest.MonkeyPatch
) -> None:
    models["mnist"] = ModelPlace("/run/mnist-1", 0.1)
    monkeypatch.setattr(module, "_GRACE_S", 0.1)
    server = make("hang")
    server.begin(30)
    server.close()
    assert server.ended


def test_the_child_of_a_fork_cannot_wait_for_it(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    with make("serve") as server:
        server.begin(30)
        with monkeypatch.context() as child:
            child.setattr(server, "_process_id", -1)
            with pytest.raises(ClientMisuse, match="this server is of process -1, which alone can wait for it"):
                server.wait(0)
        with pytest.raises(TimeoutError, match="the gateway still runs after 0 s"):
            server.wait(0)
