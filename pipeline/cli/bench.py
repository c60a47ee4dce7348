"""`pipeline bench`: a pipeline driven by MLPerf's LoadGen."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.arguments import InputOption, SetOption, ShapeOption, is_config
from pipeline.cli.interrupts import EXIT_INTERRUPTED
from pipeline.cli.run import pull_models
from pipeline.config.loader import load_config
from pipeline.errors import ClientMisuse, ConfigError, Unavailable
from pipeline.load.inputs import make_stock, named_files, named_shapes
from pipeline.load.mlperf import NO_RESULT, Scenario, Wanted, load_loadgen, measure
from pipeline.load.target import Opened, Target, opened, opened_here
from pipeline.repository.inference import InferenceManager
from pipeline.streams import announce, say, unannounce

__all__ = ["register"]

_FAILED = 1
#: What LoadGen may send before it waits for answers: offline sends all samples at once.
_PENDING = 1024


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command()(bench)


def bench(
    target: Annotated[
        str,
        typer.Argument(
            metavar="CONFIG|NAME",
            help="The YAML file of a pipeline to start, which ends with this command; or the name of one that runs.",
            show_default=False,
        ),
    ],
    mlperf: Annotated[Scenario, typer.Option("--mlperf", help="LoadGen's scenario.", show_default=False)],
    target_qps: Annotated[
        float,
        typer.Option("--target-qps", min=0.001, metavar="R", help="Samples per second; offline: expected ones."),
    ] = 100.0,
    target_latency_ms: Annotated[
        float,
        typer.Option(
            "--target-latency-ms", min=0.001, metavar="MS", help="server: the 99th percentile must be below it."
        ),
    ] = 15.0,
    min_duration: Annotated[
        float, typer.Option("--min-duration", min=0.0, metavar="S", help="Seconds that it takes at least.")
    ] = 10.0,
    query_count: Annotated[
        int, typer.Option("--query-count", min=1, metavar="N", help="Queries at least; offline: samples.")
    ] = 100,
    inputs: InputOption = [],  # noqa: B006 (typer's own form of a default)
    shapes: ShapeOption = [],  # noqa: B006
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", help="Keep LoadGen's logs there.", show_default=False),
    ] = None,
    log_answers: Annotated[
        int,
        typer.Option(
            "--log-answers", min=0, metavar="N", help="Of --output: have it log about N answers, with their samples."
        ),
    ] = 0,
    assignments: SetOption = [],  # noqa: B006
) -> None:
    """Let MLPerf's LoadGen measure a pipeline: docs/load.md. Needs the extra `bench` of the package trtlab.

    It is no MLPerf result.
    """
    loadgen = load_loadgen()
    if log_answers and output is None:
        raise ConfigError("--log-answers: the log goes with this command; --output DIR keeps it")
    wanted = Wanted(mlperf, target_qps, target_latency_ms, min_duration, query_count, log_answers)
    try:
        with ExitStack() as stack:
            model = stack.enter_context(_opened(target, assignments))
            stock = make_stock(model.runner.input_specs(), named_files(inputs), named_shapes(shapes))
            if output is None:
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="trtlab-")))
            else:
                folder = output
                folder.mkdir(parents=True, exist_ok=True)
            announce(f"LoadGen: {mlperf.name_there}, at least {min_duration:g} s ...")
            outcome = measure(loadgen, model, stock, wanted, folder)
    except (Unavailable, ClientMisuse) as error:
        say(f"error: {error}")
        sys.exit(_FAILED)
    except KeyboardInterrupt:
        unannounce()
        say("interrupted: LoadGen gives no verdict on a part")
        os._exit(EXIT_INTERRUPTED)
    finally:
        unannounce()
    print(outcome.summary.rstrip())
    print()
    print(f"inputs: {stock.described}")
    print(f"requests: {outcome.requests}")
    print(NO_RESULT)
    for kind, count in outcome.failures.most_common():
        say(f"failed: {count} x {kind}; LoadGen counts them as answered, so its verdict does not count")
    if not outcome.verdict:
        say("error: LoadGen has given no verdict")
    sys.exit(0 if outcome.ok else _FAILED)


@contextmanager
def _opened(target: str, assignments: list[str]) -> Iterator[Opened]:
    """The pipeline, which can be asked while the block runs."""
    if not is_config(target):
        if assignments:
            raise ConfigError("--set changes a config, and the pipeline that is named here runs already")
        with opened(Target(target), "bench", _PENDING) as found:
            yield found
        return
    loaded = load_config(target, assignments)
    pull_models(loaded)
    announce(f"starting {target} ...")
    try:
        manager = InferenceManager(target, assignments=assignments, name="bench")
    finally:
        unannounce()
    with manager:
        yield opened_here(manager.infer_runner(loaded.config.name))
