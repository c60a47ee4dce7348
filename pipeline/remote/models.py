"""RemoteInferenceManager: the models of a server of KServe v2, behind the interface of every manager.

    manager = pipeline.RemoteInferenceManager("grpc://models.example:8001")
    manager.infer_runner("mnist").infer(Input3=array).get()

It ends no model. What it asks is said in `docs/remote.md`.
"""

from __future__ import annotations

import os
import re
from types import TracebackType
from typing import Any, NoReturn

from pipeline.client.limits import check_limits, check_seconds
from pipeline.errors import ClientMisuse, InvalidRequest, KserveError, Unavailable
from pipeline.kserve.token import why_no_token
from pipeline.remote.address import Address, address_of
from pipeline.remote.checked import check_options
from pipeline.remote.description import Description
from pipeline.remote.grpc_link import GrpcLink
from pipeline.remote.http_link import HttpLink
from pipeline.remote.link import Link, Options
from pipeline.remote.model import RemoteModel
from pipeline.remote.regions import PREFIX
from pipeline.remote.runner import RemoteRunner
from pipeline.remote.server import Server

__all__ = ["PATIENCE_S", "PENDING", "SILENCE_S", "RemoteInferenceManager", "link_to"]

PENDING = 256
PATIENCE_S = 5.0
SILENCE_S = 30.0
_PREFIX = re.compile(r"/[A-Za-z0-9_.-]{1,100}")
#: How long a server may take until it answers, if the caller gives no time.
_START_S = 5.0


class RemoteInferenceManager:
    """The models of a server of KServe v2: of this project's gateway, of Triton, of KServe, of MLServer.

    Args:
        url: "grpc://HOST:PORT", "grpcs://...", "http://..." or "https://...".
        token: of the server, sent as `Authorization: Bearer TOKEN`. Without TLS everyone on the way can read it.
        ca: path of a PEM file with the authorities that have signed the server's certificate; None: the system's.
        certificate, key: paths of PEM files of this client, for servers that want them.
        timeout_s: seconds until the server must answer; None: 5.
        name: what errors and `repr` call this manager.
        pending: how many requests may be under way; beyond, `infer` waits or raises Overloaded.
        patience_s: seconds that a request waits for a server that cannot be reached, such as one that restarts.
        silence_s: seconds after which a server that says nothing at all, while it has requests, is taken for gone: they
            fail with Unavailable, or are sent again if they have retries.
        connections: of HTTP, requests under way at one time.
        shared_memory: over gRPC to a server of this host, how the names begin of the regions of shared memory in which
            large tensors travel, if the server lets clients register any; None: they travel in messages.
        binary: over HTTP, whether tensors travel as bytes (True) or as JSON (False); None: as bytes if the server takes
            them.

    Raises:
        Unavailable: no such server answers in time, or what answers is a server of something else.
        InvalidRequest: the URL or another argument is none, a file of TLS is not what it should be, or the server wants
            another token.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        ca: str | os.PathLike[str] | None = None,
        certificate: str | os.PathLike[str] | None = None,
        key: str | os.PathLike[str] | None = None,
        timeout_s: float | None = None,
        name: str = "manager",
        pending: int = PENDING,
        patience_s: float = PATIENCE_S,
        silence_s: float = SILENCE_S,
        connections: int = 16,
        shared_memory: str | None = PREFIX,
        binary: bool | None = None,
    ) -> None:
        address = address_of(url)
        check_limits(pending, patience_s)
        check_seconds("silence_s", silence_s, zero=False)
        check_seconds("timeout_s", _START_S if timeout_s is None else timeout_s)
        if token is not None and (why := why_no_token(token)):
            raise InvalidRequest(f"token: {why}")
        if shared_memory is not None and not (isinstance(shared_memory, str) and _PREFIX.fullmatch(shared_memory)):
            raise InvalidRequest(
                f"shared_memory: expected how names begin, such as {PREFIX!r}, or None, found {shared_memory!r}"
            )
        options = Options(
            token or "", os.fspath(ca or ""), os.fspath(certificate or ""), os.fspath(key or ""), shared_memory or "",
            binary, connections,
        )
        self._name = name
        self._server = Server(address, link_to(address, options), pending, patience_s, silence_s)
        #: Models that were asked for, in a server that lists none.
        self._asked: list[str] = []
        try:
            self._server.await_live(_START_S if timeout_s is None else timeout_s)
        except BaseException:
            self.stop()
            raise

    # -- what there is --------------------------------------------------------------------------

    def get_models(self) -> list[str]:
        """The names of the server's models, sorted. Of a server that lists none, those that runners were made of.

        Raises:
            Unavailable: it does not answer.
            ClientMisuse: the manager was stopped, or is of another process.
        """
        try:
            return self._server.models()
        except KserveError as error:
            if error.code in ("UNAVAILABLE", "DEADLINE_EXCEEDED"):
                raise Unavailable(f"{self._server} does not answer: {error}") from None
            note = f"the server does not list its models ({error})"
            if note not in self._server.notes:
                self._server.notes.append(note)
            return sorted(self._asked)

    def status(self) -> dict[str, dict[str, Any]]:
        """How each model is, by its name, as plain values (see docs/manager.md)."""
        found = {}
        for name in self.get_models():
            why = self._server.why_not_ready(name)
            found[name] = {"state": "not ready" if why else "ready", "why": why, "run": None, "pipeline": None,
                           "url": str(self._server.address)}  # fmt: skip
        return found

    def why(self) -> str:
        """Which transport requests take, and why not a faster one; and what the server does not say."""
        return "; ".join([f"{self._server}: {self._server.link.why()}", *self._server.notes])

    def infer_runner(self, name: str, *, version: str = "", max_batch_size: int | None = None) -> RemoteRunner:
        """What asks the model of this name. Any number of threads may share it.

        Args:
            version: of the model; empty: the server chooses.
            max_batch_size: of a server that tells no config: the rows of the largest request; 0: no batch axis.

        Raises:
            Unavailable: the server has no such model that is ready, or does not answer.
            ClientMisuse: the manager was stopped, or is of another process.
        """
        return self._runner_of(self._server.describe(name, version, max_batch_size))

    def _runner_of(self, description: Description) -> RemoteRunner:
        if description.name not in self._asked:
            self._asked.append(description.name)
        return RemoteRunner(RemoteModel(self._server, description))

    def _known_runner(self, name: str, version: str, max_batch_size: int | None) -> RemoteRunner | None:
        """As `infer_runner`, without asking the server; None: it would have to be asked."""
        self._server.exchange.refuse_child()
        description = self._server.known(name, version, max_batch_size)
        return None if description is None else self._runner_of(description)

    # -- other models ---------------------------------------------------------------------------

    def load(self, config: str | os.PathLike[str], name: str | None = None) -> str:
        """Raises ClientMisuse: a config is code, which is not sent to a server."""
        self._refuse("load", "the server's operator starts models there")

    def unload(self, name: str) -> None:
        """Raises ClientMisuse: the models belong to the server."""
        self._refuse("unload", "the server's operator ends models there")

    def reload(self, name: str, config: str | os.PathLike[str] | None = None) -> None:
        """Raises ClientMisuse: the models belong to the server."""
        self._refuse("reload", "pipeline reload NAME does it on the server's host")

    def serve(self, port: int | None = None, **options: Any) -> NoReturn:
        """Raises ClientMisuse: the models are served already."""
        self._refuse(
            "serve",
            f"callers reach them at {self._server.address}. For a gateway in front of it, serve a pipeline with a "
            f"stage `use: stages.remote:RemoteInfer`: pipeline.InferenceManager(CONFIG).serve()",
            "serves none",
        )

    def _refuse(self, call: str, instead: str, what: str = "neither starts nor ends any") -> NoReturn:
        self._server.exchange.refuse_child()
        raise ClientMisuse(
            f"{call}: this manager asks the models of a server, and {what}; {instead}"
        )

    # -- the end --------------------------------------------------------------------------------

    def stop(self) -> None:
        """Leave. The models go on; what this program has under way fails with Unavailable. May be called again."""
        self._server.close(ClientMisuse("this manager was stopped; make another one"))

    def __enter__(self) -> RemoteInferenceManager:
        self._server.exchange.refuse_child()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def __reduce__(self) -> Any:
        raise ClientMisuse("a manager cannot be sent to another process: make one there")

    def __repr__(self) -> str:
        return f"<RemoteInferenceManager: {self._server.exchange.closed or self._server.address}>"


def link_to(address: Address, options: Options) -> Link:
    """The link for a URL.

    Raises:
        InvalidRequest: as of `check_options`.
    """
    check_options(address, options)
    return GrpcLink(address, options) if address.is_grpc else HttpLink(address, options)
