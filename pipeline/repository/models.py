"""Models: what every manager is to the code that asks, wherever its models run.

    runner = models.infer_runner("mnist")
    result = runner.infer(Input3=array).get(timeout=1.0)

`inference.InferenceManager` starts its models, and ends them; `connected.ConnectedModels` asks those that others have
started. Here is what both have: one client for each model, shared by all its runners; the rules of use; the end.

    threads     any may use it, and its runners
    fork        the child has no part in it: every call there says so
    the end     after `stop` every call says so, of the runners that were given out as well
"""

from __future__ import annotations

import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from pipeline.client.access import Place
from pipeline.client.driver import PATIENCE_S
from pipeline.client.limits import check_limits
from pipeline.client.queue import PENDING
from pipeline.client.reloading import START_S
from pipeline.client.runner import InferRunner
from pipeline.client.shared import SharedClient
from pipeline.client.status import ask_status
from pipeline.config.loader import LoadedConfig
from pipeline.errors import ClientMisuse, ConfigError, Unavailable
from pipeline.kserve.token import why_no_token
from pipeline.repository.server import Server
from pipeline.serving.boot import ModelPlace
from pipeline.serving.checked import check_settings
from pipeline.serving.configured import check_libraries, settings_of
from pipeline.wire.run_dir import serving
from pipeline.wire.shards import shards_of
from pipeline.wire.status import plain

__all__ = ["Models", "expect_path", "status_of"]

_ASK_S = 2.0
_M = TypeVar("_M", bound="Models")


class Models(ABC):
    """Models by name.

    Args:
        name: what `pipeline status` calls the clients of this program.
        pending: how many requests of one model may wait for a slot; beyond, `infer` waits or raises Overloaded.
        patience_s: seconds that a request waits for a pipeline that is not there, such as one that restarts.

    Raises:
        InvalidRequest: one of them is no such number.
    """

    def __init__(self, name: str, pending: int = PENDING, patience_s: float = PATIENCE_S) -> None:
        check_limits(pending, patience_s)
        self._name = name
        self._pending = pending
        self._patience_s = patience_s
        self._process = os.getpid()
        #: Why there is nothing to be had here any more; empty: there is.
        self._over = ""
        # Reentrant: a signal's handler may call in the middle of another call.
        self._mutex = threading.RLock()
        #: One for each model that was asked for.
        self._clients: dict[str, SharedClient] = {}
        #: What serves them over the network, or has.
        self._servers: list[Server] = []

    # -- what there is ----------------------------------------------------------------------------

    @abstractmethod
    def get_models(self) -> list[str]:
        """The names of the models that can be asked."""

    @abstractmethod
    def status(self) -> dict[str, dict[str, Any]]:
        """How each model is, by its name, as plain values (see docs/manager.md)."""

    def infer_runner(self, name: str) -> InferRunner:
        """What asks the model of this name. Any number of threads may share it.

        Raises:
            Unavailable: it does not run, or is not ready.
            ClientMisuse: there is no model of this name; the manager was stopped, or is of another process.
        """
        return InferRunner(self._client(name))

    # -- other models -----------------------------------------------------------------------------

    @abstractmethod
    def load(self, config: str | os.PathLike[str], name: str | None = None) -> str:
        """Start one more model while the others serve, and wait until it is ready; its name."""

    @abstractmethod
    def unload(self, name: str) -> None:
        """End a model while the others serve. What is under way is answered first."""

    @abstractmethod
    def reload(self, name: str, config: str | os.PathLike[str] | None = None) -> None:
        """Have a new version take over from the one that runs; no request is lost."""

    # -- over the network -------------------------------------------------------------------------

    def serve(
        self,
        port: int | None = None,
        *,
        grpc_port: int | None = None,
        metrics_port: int | None = None,
        host: str | None = None,
        gateways: int | None = None,
        token: str | None = None,
        certificate: str | os.PathLike[str] | None = None,
        key: str | os.PathLike[str] | None = None,
        client_ca: str | os.PathLike[str] | None = None,
        hosts: Sequence[str] | None = None,
        shared_memory: Sequence[str] | None = None,
        max_body: int | None = None,
        block: bool = True,
        timeout_s: float = START_S,
    ) -> Server:
        """Serve the models to callers of KServe v2, over HTTP and gRPC, as `pipeline serve` does (docs/serving.md).

        It returns once it has ended: by SIGINT or SIGTERM if this is the main thread, which are handled until then, or
        because another thread stops the manager. With `block=False` it returns once it serves. Models that are loaded
        later are served too. What is not given here is what the configs say in `serve:`, or the default.

        Args:
            port: of HTTP; 0: any that is free. Default: 8000.
            grpc_port: of gRPC. Default: 8001.
            metrics_port: of /metrics. Default: 8002.
            host: the address to listen on. Default: 127.0.0.1.
            gateways: processes that share the ports. Default: 1.
            token: that requests need, as `Authorization: Bearer TOKEN`. Default: they need none.
            certificate, key: paths of PEM files, for TLS. Default: no TLS.
            client_ca: path of a PEM file with those who sign the certificates of callers. Default: callers need none.
            hosts: names by which callers may call it, beside localhost and addresses.
            shared_memory: how the keys begin of system shared memory that callers may register. Default: none.
            max_body: bytes of the largest request. Default: 64 MiB.
            block: whether to wait until it has ended.
            timeout_s: seconds until it serves.

        Raises:
            ConfigError: a library of the extra `serve` is missing; what configs say contradicts each other; an
                argument is none, such as a key without its certificate, or a file is not what it should be.
            StartError: a port cannot be had, or no model can be served.
            Unavailable: it has died, while this waited for its end.
            ClientMisuse: the manager was stopped, or is of another process.
        """
        self._refuse_misuse()
        check_libraries()
        paths = {"certificate": certificate, "key": key, "client_ca": client_ca}
        given = {
            "http_port": port, "grpc_port": grpc_port, "metrics_port": metrics_port, "host": host, "gateways": gateways,
            "token": token, "hosts": _listed("hosts", hosts), "max_body": max_body, "control": False,
            "shared_memory": _listed("shared_memory", shared_memory),
            **{name: None if path is None else os.path.abspath(path) for name, path in paths.items()},
        }  # fmt: skip
        if token is not None and (why := why_no_token(token)):
            raise ConfigError(f"token: {why}")
        settings = settings_of(self._configs(), given)
        check_settings(settings)
        server = Server(self._places, settings)
        try:
            # From here on a manager that is stopped closes it.
            with self._mutex:
                self._refuse_misuse()
                self._servers = [*[each for each in self._servers if not each.ended], server]
            if not block:
                server.begin(timeout_s)
                return server
            with server.closed_by_signals():
                server.begin(timeout_s)
                server.wait()
        except BaseException:
            server.close_at_once()
            raise
        server.close()
        return server

    @abstractmethod
    def _places(self) -> dict[str, ModelPlace]:
        """Where the models run that are served, by name.

        Raises:
            ClientMisuse: the manager was stopped, or is of another process.
        """

    @abstractmethod
    def _configs(self) -> dict[str, LoadedConfig]:
        """What is known of the configs of the models, by their paths."""

    def _told(self) -> None:
        """The models are others now."""
        for server in self._servers:
            server.look()

    def _close_servers(self, timeout_s: float | None = None) -> None:
        """What is under way over the network is answered first: before the models end."""
        for server in self._servers:
            server.close(timeout_s)

    # -- the end ----------------------------------------------------------------------------------

    @abstractmethod
    def stop(self) -> None:
        """Leave: no call is possible any more. May be called again."""

    def __enter__(self: _M) -> _M:
        self._refuse_misuse()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def __reduce__(self) -> Any:
        raise ClientMisuse("a manager cannot be sent to another process: call pipeline.connect() there")

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self._over or self._shown()}>"

    # -- for the classes that are built on it -----------------------------------------------------

    @abstractmethod
    def _shown(self) -> str:
        """Which models there are, for a person. It looks at nothing outside this object."""

    @abstractmethod
    def _place(self, name: str) -> Place:
        """Where the model of this name runs.

        Raises:
            ClientMisuse: there is none.
            Unavailable: it does not run.
        """

    def _refuse_misuse(self) -> None:
        # First, and without the mutex, which a thread of the parent may have held at the fork.
        if os.getpid() != self._process:
            raise ClientMisuse(
                f"this manager was made by process {self._process} and is used by its child {os.getpid()}; a fork "
                f"copies no connection: call pipeline.connect() in the child"
            )
        if self._over:
            raise ClientMisuse(f"{self._over}; make another one")

    def _client(self, name: str) -> SharedClient:
        self._refuse_misuse()
        with self._mutex:
            if (client := self._clients.get(name)) is not None:
                return client
        place = self._place(name)
        # Not under the mutex: it may take as long as a model starts.
        client = SharedClient.connect(place, name=self._name, pending=self._pending, patience_s=self._patience_s)
        try:
            with self._mutex:
                self._refuse_misuse()
                # It may have been unloaded meanwhile, and another one been loaded by its name.
                if self._place(name) == place and self._clients.setdefault(name, client) is client:
                    return client
        except BaseException:
            client.close()
            raise
        # Another thread was faster, or the model is another one.
        client.close()
        return self._client(name)

    def _close(self, why: str) -> None:
        """No call is possible any more."""
        with self._mutex:
            self._over = self._over or why
            clients = list(self._clients.values())
            self._clients.clear()
        for client in clients:
            client.close()


def _listed(name: str, values: Sequence[str] | None) -> tuple[str, ...] | None:
    if isinstance(values, str):
        raise ConfigError(f"{name}: expected a list of names, found {values!r}; write [{values!r}]")
    return None if values is None else tuple(values)


def expect_path(config: object) -> None:
    """
    Raises:
        ClientMisuse: it is no path of a config.
    """
    if not isinstance(config, (str, os.PathLike)):
        raise ClientMisuse(f"config: expected the path of a YAML file, found {type(config).__name__} {config!r:.80}")


def status_of(folder: Path) -> dict[str, Any]:
    """How the run in `folder` is, or the run that has replaced it; see `Models.status`.

    Of a run with shards it is that of the first which is ready, and `shards` has each by its id.
    """
    folder = serving(folder)
    if shards := shards_of(folder):
        found = {shard.name: status_of(shard) for shard in shards}
        best = min(found.values(), key=lambda status: status["state"] != "ready")
        return {**best, "run": str(folder), "shards": found}
    try:
        document = plain(ask_status(folder, _ASK_S))
    except Unavailable as error:
        return {"state": "not ready", "why": str(error), "run": str(folder), "pipeline": None}
    why = "; ".join(f"{stage}: {reason}" if stage else reason for stage, reason in document["reasons"].items())
    return {
        "state": "ready" if document["ready"] else "not ready", "why": why, "run": str(folder), "pipeline": document
    }  # fmt: skip
