"""Target: what a load generator asks, a pipeline of this host by its name or a server of KServe v2 by its URL."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from pipeline.errors import ConfigError
from pipeline.repository.connected import connect
from pipeline.wire.interface import Interface
from stages.hints import did_you_mean
from stages.spec import TensorSpec

__all__ = ["Opened", "Runner", "Target", "opened", "opened_here", "rows_over_the_wire"]

#: Connections of HTTP at most, each for one request at a time.
_CONNECTIONS = 64


class Runner(Protocol):
    """As much of a runner as a load generator needs."""

    @property
    def interface(self) -> Interface:
        """What the model takes and gives."""

    def input_specs(self) -> Mapping[str, TensorSpec]:
        """The model's inputs by name."""

    def infer(self, inputs: Mapping[str, Any], /, *, deadline_ms: float | None) -> concurrent.futures.Future[Any]:
        """Send a request, or a batch."""


class Target:
    """What the command line says of it.

    Args:
        text: the name of a pipeline, the id of its run or the path of that run's folder, or a URL.
        model: which one, if the server has several; empty: the only one.
        token_file: a file with the token that the server wants.

    Raises:
        ConfigError: `model` or `token_file` is about a server, and `text` is no URL; or the file cannot be read.
    """

    def __init__(self, text: str, model: str = "", token_file: Path | None = None) -> None:
        self.text = text
        self.model = model
        self.is_url = "://" in text
        if not self.is_url and (model or token_file is not None):
            raise ConfigError(f"--model and --token-file are about servers by their URL, and {text!r} is a name")
        self.token: str | None = None
        if token_file is not None:
            try:
                self.token = token_file.read_text().strip()
            except (OSError, UnicodeDecodeError) as error:
                raise ConfigError(f"--token-file {token_file}: expected a file with a token: {error}") from None

    def __str__(self) -> str:
        return f"{self.text} {self.model}".rstrip()


class Opened:
    """A target that can be asked.

    Args:
        runner: of its model.
        rows: how many rows one request may carry.
        route: how requests get there, for a person; empty: through shared memory.
    """

    def __init__(self, runner: Runner, rows: int = 1, route: str = "") -> None:
        self.runner = runner
        self.rows = rows
        self.route = route


@contextmanager
def opened(target: Target, name: str, pending: int) -> Iterator[Opened]:
    """What asks the target, while the block runs.

    Args:
        name: what `pipeline status` calls this program.
        pending: how many requests may wait in this program before `infer` waits.

    Raises:
        Unavailable: it does not run, or does not answer.
        ConfigError: the server has several models, or none of that name; or a library of the extra is missing.
    """
    if not target.is_url:
        with connect(target.text, name=name, pending=pending) as models:
            (model,) = models.get_models()
            yield opened_here(models.infer_runner(model))
        return
    try:
        from pipeline.remote.models import RemoteInferenceManager
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] in ("pipeline", "stages", "shm"):
            raise
        missing = f"a URL needs a library that is missing, {error.name}"
        raise ConfigError(f'{missing}: pip install "trtlab[serve]"') from None
    with RemoteInferenceManager(
        target.text, token=target.token, name=name, pending=pending, connections=min(pending, _CONNECTIONS)
    ) as server:
        runner = server.infer_runner(_model_of(target, server.get_models()))
        yield Opened(runner, rows_over_the_wire(runner.interface), runner.why())


def opened_here(runner: Runner) -> Opened:
    """A pipeline of this host, which says itself how many rows a request may carry."""
    return Opened(runner, runner.interface.rows)


def rows_over_the_wire(interface: Interface) -> int:
    """How many rows one request to a server may carry. Rows whose inputs may differ in size go one by one."""
    return max(1, interface.max_batch_size) if all(spec.is_static for spec in interface.specs.values()) else 1


def _model_of(target: Target, models: Sequence[str]) -> str:
    """Which of the server's models is meant.

    Raises:
        ConfigError: that is not clear.
    """
    if target.model:
        if models and target.model not in models:
            hint = did_you_mean(target.model, models)
            raise ConfigError(f"--model {target.model}: the server at {target.text} has no such model{hint}")
        return target.model
    if len(models) == 1:
        return models[0]
    found = f"has {', '.join(models)}" if models else "lists no models"
    raise ConfigError(f"the server at {target.text} {found}: name one with --model")
