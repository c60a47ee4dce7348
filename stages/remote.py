"""RemoteInfer: a stage whose model runs on a server of KServe v2: Triton, KServe, MLServer, a gateway of this project.

    batch ──▶ requests, as many rows in each as the server takes ──▶ the server
              `in_flight` batches at one time                    ◀── its answers, into the outputs' slots

What speaks to the server is a `Connection`, which the floor above has (`pipeline.remote`); it is found by its name when
a stage is made, so that all other stages need neither it nor its packages.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from stages.errors import BadOption
from stages.renaming import renamed
from stages.spec import TensorSpec
from stages.stage import Array, Batch, StageContext

__all__ = ["Connection", "RemoteInfer", "Sending", "ServerOptions", "bounded"]

_CONNECT = "pipeline.remote.stage_connection"
_PROCESS_LOOK_S = 0.05


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """Which model of which server, and how it is asked."""

    url: str
    model: str
    version: str
    token: str
    ca: str
    max_batch_size: int | None
    max: Mapping[str, int]
    inputs: tuple[TensorSpec, ...] | None
    """None: the server is asked, as for the outputs."""
    outputs: tuple[TensorSpec, ...] | None
    wait_s: float
    patience_s: float
    silence_s: float


class Sending(Protocol):
    """The rows of a batch, under way."""

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until all are answered; whether they are."""

    def results(self) -> Sequence[Mapping[str, Any] | Exception]:
        """For each row its outputs by name, or why it has none: one of `stages.errors`. Once all are answered."""


class Connection(Protocol):
    """A model of a server."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    notes: tuple[str, ...]

    def send(self, rows: Sequence[Mapping[str, Array]], deadline: int, traceparents: Sequence[str]) -> Sending:
        """Send rows, whose arrays may change when this returns.

        Args:
            deadline: monotonic nanoseconds; 0: none.
            traceparents: of each row the trace that it is part of; empty: of none.
        """

    def why(self) -> str:
        """Which transport it is, and why not a faster one."""

    def close(self) -> None:
        """End it."""


class RemoteInfer:
    """Has a model of a server of KServe v2 compute. Inputs and outputs are those that the server tells, without the
    batch axis; if `specs` has them, the pipeline starts without the server.

    Rows go as one request if the model has a batch axis, up to its `max_batch_size`, and otherwise as requests side by
    side. While the server cannot be reached or says that it is unavailable, a request is sent again, within its
    deadline, and for `patience_s` seconds at most; then it fails with `Unavailable`, and `pipeline status` says why the
    stage is not ready. The deadline of a request is passed on.

    Args:
        url: of the server: grpc://HOST:PORT, grpcs://, http:// or https://.
        model: its name there.
        version: of it; empty: the server chooses.
        in_flight: batches at one time.
        max: maximum of each free dimension, by its name; the message of an error has the names.
        max_batch_size: rows of the largest request, for a server that tells no config; 0: no batch axis.
        inputs, outputs: other names for the model's tensors: {name in the graph: name in the model}.
        specs: {inputs: [{name: x, dtype: float32, shape: [3, H], max: {H: 9}}], outputs: [...]}, in place of what the
            server tells; under the model's names.
        token_file: a file with the server's token, relative to the config's folder.
        ca: a PEM file with the authorities that have signed the server's certificate.
        wait_s: seconds that the start waits for a server that is not there.
        patience_s: seconds that a request waits for a server that is not there.
        silence_s: seconds after which a server that says nothing at all is taken for gone.
        base_dir: folder to which files are relative.

    Raises:
        BadOption: an option is not what it must be, or a free dimension has no maximum.
        ModelError: the server does not answer within `wait_s`, or has no such model.
    """

    def __init__(
        self,
        url: str,
        model: str,
        version: str = "",
        in_flight: int = 4,
        max: Mapping[str, int] | None = None,
        max_batch_size: int | None = None,
        inputs: Mapping[str, str] | None = None,
        outputs: Mapping[str, str] | None = None,
        specs: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
        token_file: str | None = None,
        ca: str | None = None,
        wait_s: float = 10.0,
        patience_s: float = 10.0,
        silence_s: float = 30.0,
        base_dir: str | Path = ".",
    ) -> None:
        if type(in_flight) is not int or in_flight < 1:
            raise BadOption(f"in_flight {in_flight!r}: expected how many batches at one time, at least 1")
        if specs is not None and (not isinstance(specs, Mapping) or set(specs) != {"inputs", "outputs"}):
            raise BadOption(f"specs {specs!r}: expected {{inputs: [...], outputs: [...]}}")
        for name, seconds in (("wait_s", wait_s), ("patience_s", patience_s), ("silence_s", silence_s)):
            if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not seconds >= 0:
                raise BadOption(f"{name} {seconds!r}: expected seconds")
        #: Batches that it has under way.
        self.concurrency = in_flight
        folder = Path(base_dir)
        self._options = ServerOptions(
            url, model, str(version), _token(token_file, folder), str(folder / ca) if ca else "", max_batch_size,
            max or {}, _declared("inputs", specs), _declared("outputs", specs), wait_s, patience_s, silence_s,
        )  # fmt: skip
        self._connection = _connect(self._options)
        self.inputs, self._inputs = renamed("inputs", self._connection.inputs, inputs or {})
        self.outputs, self._outputs = renamed("outputs", self._connection.outputs, outputs or {})
        #: What `pipeline check` prints beside the specs.
        self.notes = self._connection.notes

    def setup(self, context: StageContext) -> None:
        print(f"{self._options.model}: {self._connection.why()}", flush=True)

    def start(self, batch: Batch) -> tuple[Batch, Sending]:
        columns = {self._inputs[spec.name]: batch.rows(spec.name) for spec in self.inputs}
        rows = [{name: column[row] for name, column in columns.items()} for row in range(len(batch))]
        # That of the row that has most time: the scheduler itself answers the others in time.
        deadlines = [request.deadline for request in batch.requests]
        traceparents = [request.traceparent for request in batch.requests]
        return batch, self._connection.send(rows, 0 if 0 in deadlines else _latest(deadlines), traceparents)

    def done(self, token: tuple[Batch, Sending]) -> bool:
        batch, sending = token
        if not sending.wait(0):
            return False
        for row, result in enumerate(sending.results()):
            if isinstance(result, Exception):
                batch.fail(row, result)
            elif missing := [name for name in self._outputs.values() if name not in result]:
                batch.fail(row, RuntimeError(f"the server's answer lacks output {missing[0]!r}"))
            else:
                for name, of_model in self._outputs.items():
                    batch.write(row, name, result[of_model])
        return True

    def process(self, batch: Batch) -> None:
        token = self.start(batch)
        while not self.done(token):
            token[1].wait(_PROCESS_LOOK_S)

    def teardown(self) -> None:
        self._connection.close()


def _latest(deadlines: Sequence[int]) -> int:
    return sorted(deadlines)[-1]


def _connect(options: ServerOptions) -> Connection:
    try:
        module = importlib.import_module(_CONNECT)
    except ModuleNotFoundError as error:
        raise BadOption(f'a stage that asks a server needs {error.name!r}: pip install "trtlab[serve]"') from None
    connection: Connection = module.connect(options)
    return connection


def _token(file: str | None, folder: Path) -> str:
    if file is None:
        return ""
    try:
        return (folder / file).read_text().strip()
    except OSError as error:
        raise BadOption(f"token_file {file}: {error.strerror}") from None


def _declared(
    which: str, said: Mapping[str, Sequence[Mapping[str, Any]]] | None
) -> tuple[TensorSpec, ...] | None:
    if said is None:
        return None
    specs = []
    for row in said[which]:
        needed = {"name", "dtype", "shape"}
        if not isinstance(row, Mapping) or not needed <= set(row) <= needed | {"max"}:
            form = "{name: ..., dtype: ..., shape: [...], max: {...}}"
            raise BadOption(f"specs.{which}: expected {form}, found {row!r}")
        specs.append(TensorSpec(row["name"], row["dtype"], tuple(row["shape"]), dict(row.get("max") or {})))
    return tuple(specs)


def bounded(spec: TensorSpec, most: Mapping[str, int], unbounded: int) -> TensorSpec:
    """The spec with the maxima that the options give.

    Raises:
        BadOption: a free dimension has none.
    """
    maxima = {name: most.get(name, extent) for name, extent in spec.max.items()}
    if missing := [name for name, extent in maxima.items() if extent >= unbounded]:
        raise BadOption(
            f"tensor {spec.name!r}: the server does not say how large {missing[0]!r} gets, and slots are sized from "
            f"it; give it: max: {{{missing[0]}: ...}}"
        )
    return replace(spec, max=maxima)
