"""Connection of a stage: `stages.remote:RemoteInfer` asks a model of a server through it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.errors import DeadlineExceeded, InvalidRequest, KserveError, PipelineError, Unavailable
from pipeline.remote.address import address_of
from pipeline.remote.description import UNBOUNDED, Description
from pipeline.remote.future import RemoteFuture
from pipeline.remote.link import Options
from pipeline.remote.model import RemoteModel
from pipeline.remote.models import link_to
from pipeline.remote.regions import PREFIX
from pipeline.remote.runner import RemoteRunner
from pipeline.remote.server import Server
from pipeline.remote.session import UNREACHED
from pipeline.wire.interface import Interface, Tensor
from pipeline.wire.traceparent import context_of
from stages.errors import BadInput, BadOption, ModelError, TooLate, Unreachable
from stages.remote import Connection, Sending, ServerOptions, bounded
from stages.spec import TensorSpec
from stages.stage import Array

__all__ = ["connect"]

_MOST = 512
#: As good as any number: patience and deadline end it.
_RETRIES = 1000


class _Connection(Connection):
    """See `stages.remote.Connection`."""

    def __init__(self, server: Server, description: Description, most: Mapping[str, int]) -> None:
        self._server = server
        self._runner = RemoteRunner(RemoteModel(server, description))
        interface = description.interface
        self.inputs = tuple([bounded(tensor.spec, most, UNBOUNDED) for tensor in interface.inputs])
        self.outputs = tuple([bounded(tensor.spec, most, UNBOUNDED) for tensor in interface.outputs])
        self.notes = description.notes

    def send(self, rows: Sequence[Mapping[str, Array]], deadline: int, traceparents: Sequence[str]) -> Sending:
        """See `stages.remote.Connection.send`."""
        return _Sending(self._runner, rows, deadline, traceparents)

    def why(self) -> str:
        """See `stages.remote.Connection.why`."""
        return f"{self._server}: {self._runner.why()}"

    def close(self) -> None:
        """End it."""
        self._server.close(Unavailable("the stage was stopped"))


class _Sending(Sending):
    """The rows of a batch under way. If a request of several rows fails for a reason of its own, each of its rows is
    sent again alone: then only the guilty one fails."""

    def __init__(
        self, runner: RemoteRunner, rows: Sequence[Mapping[str, Array]], deadline: int, traceparents: Sequence[str]
    ) -> None:
        self._runner = runner
        self._rows = rows
        self._deadline = deadline
        self._traceparents = traceparents
        self._found: list[Mapping[str, Any] | Exception | None] = [None] * len(rows)
        #: The rows of each request, and its future.
        self._waiting: list[tuple[list[int], RemoteFuture]] = []
        self._send(list(range(len(rows))))

    def _send(self, numbers: list[int], alone: bool = False) -> None:
        for group in self._runner.groups(self._rows, numbers, alone):
            try:
                trace = _shared([self._traceparents[n] for n in group])
                future = self._runner.infer_rows([self._rows[n] for n in group], self._deadline, _RETRIES, trace)
            except PipelineError as error:
                for number in group:
                    self._found[number] = _stage_error(error)
                continue
            self._waiting.append((group, future))

    def wait(self, timeout: float | None = None) -> bool:
        """See `stages.remote.Sending.wait`."""
        while self._waiting:
            group, future = self._waiting[0]
            if not future.wait(timeout):
                return False
            self._waiting.pop(0)
            self._take(group, future)
        return True

    def _take(self, group: list[int], future: RemoteFuture) -> None:
        error = future.exception()
        if error is None:
            for number, values in zip(group, future.rows()):
                self._found[number] = values
        elif len(group) > 1 and not isinstance(error, (Unavailable, DeadlineExceeded)):
            self._send(group, alone=True)
        else:
            for number in group:
                self._found[number] = _stage_error(error)

    def results(self) -> Sequence[Mapping[str, Any] | Exception]:
        """See `stages.remote.Sending.results`."""
        return [RuntimeError("no answer") if each is None else each for each in self._found]


def _shared(traceparents: Sequence[str]) -> str:
    """The trace context of one request for several rows, which can have one only: that of the first row whose trace is
    exported, otherwise of the first that has one."""
    contexts = [context for text in traceparents if (context := context_of(text)) is not None]
    return next((str(each) for each in contexts if each.sampled), str(contexts[0]) if contexts else "")


def _stage_error(error: PipelineError) -> Exception:
    """As `stages.errors` has it."""
    text = str(error).removeprefix("row 0 of 1: ")
    if isinstance(error, Unavailable) or text.startswith(UNREACHED):
        return Unreachable(text)
    if isinstance(error, DeadlineExceeded):
        return TooLate(text)
    if type(error).__name__ in ("BadInput", "InvalidRequest"):
        return BadInput(text)
    return RuntimeError(f"{type(error).__name__} at the server: {text}")


def connect(options: ServerOptions) -> Connection:
    """The connection of a stage.

    Raises:
        BadOption: an option is not what it must be.
        ModelError: the server does not answer in time, or has no such model.
    """
    try:
        address = address_of(options.url)
        link = link_to(address, Options(options.token, options.ca, shared_memory=PREFIX))
    except InvalidRequest as error:
        raise BadOption(str(error)) from None
    server = Server(address, link, _MOST, options.patience_s, options.silence_s)
    try:
        return _Connection(server, _description(server, options), options.max)
    except BaseException as error:
        server.close(Unavailable("the stage was not made"))
        if isinstance(error, PipelineError):
            hint = "; start it, or declare specs:, so that this pipeline starts without it"
            raise ModelError(f"{error}{hint * isinstance(error, Unavailable)}") from None
        raise


def _description(server: Server, options: ServerOptions) -> Description:
    if options.inputs is None or options.outputs is None:
        server.await_live(options.wait_s)
        return server.describe(options.model, options.version, options.max_batch_size)
    try:
        interface = Interface(
            options.model, options.version, _tensors(options.inputs), _tensors(options.outputs), (),
            options.max_batch_size or 0,
        )  # fmt: skip
        return Description(options.model, interface, options.version, (), interface.specs)
    except KserveError as error:
        raise BadOption(str(error)) from None


def _tensors(specs: Sequence[TensorSpec]) -> tuple[Tensor, ...]:
    return tuple([Tensor.of(spec.name, spec) for spec in specs])
