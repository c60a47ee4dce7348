"""`pipeline client sync` and `pipeline client async`: requests in a closed loop, one or many at a time."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from pipeline.cli.arguments import (
    BatchSizeOption,
    DeadlineOption,
    InputOption,
    JsonReportOption,
    MaxOutstandingOption,
    ModelOption,
    ShapeOption,
    TargetArgument,
    TimeoutOption,
    TokenOption,
)
from pipeline.cli.measured import asking, expect_deadline, live_line, show_report
from pipeline.load.driving import drive, drive_one_by_one
from pipeline.load.inputs import make_stock, named_files, named_shapes
from pipeline.load.loops import ClosedLoop
from pipeline.load.report import Report
from pipeline.load.target import Target, opened

__all__ = ["register"]

_FAILED = 1

CountOption = Annotated[int, typer.Option("--count", min=1, metavar="N", help="Requests.")]


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    client = typer.Typer(help="Ask a model again and again, as fast as it answers.", no_args_is_help=True)
    client.command("sync")(ask_one_by_one)
    client.command("async")(ask_many)
    app.add_typer(client, name="client")


def ask_one_by_one(
    target: TargetArgument,
    count: CountOption = 1000,
    batch_size: BatchSizeOption = 1,
    inputs: InputOption = [],  # noqa: B006 (typer's own form of a default)
    shapes: ShapeOption = [],  # noqa: B006
    model: ModelOption = "",
    token_file: TokenOption = None,
    deadline_ms: DeadlineOption = None,
    timeout: TimeoutOption = 30.0,
    as_json: JsonReportOption = False,
) -> None:
    """Send a request when the one before it is answered."""
    asked = Target(target, model, token_file)
    _ask("sync", asked, count, 1, batch_size, inputs, shapes, deadline_ms, timeout, as_json)


def ask_many(
    target: TargetArgument,
    count: CountOption = 500,
    batch_size: BatchSizeOption = 1,
    max_outstanding: MaxOutstandingOption = 950,
    inputs: InputOption = [],  # noqa: B006 (typer's own form of a default)
    shapes: ShapeOption = [],  # noqa: B006
    model: ModelOption = "",
    token_file: TokenOption = None,
    deadline_ms: DeadlineOption = None,
    timeout: TimeoutOption = 30.0,
    as_json: JsonReportOption = False,
) -> None:
    """Send all requests, at most so many at a time, and count the answers as they come."""
    asked = Target(target, model, token_file)
    _ask("async", asked, count, max_outstanding, batch_size, inputs, shapes, deadline_ms, timeout, as_json)


def _ask(
    how: str,
    target: Target,
    count: int,
    max_outstanding: int,
    batch_size: int,
    inputs: Sequence[str],
    shapes: Sequence[str],
    deadline_ms: float | None,
    timeout: float,
    as_json: bool,
) -> None:
    expect_deadline(deadline_ms)
    with asking(), opened(target, f"client {how}", max_outstanding) as found:
        stock = make_stock(found.runner.input_specs(), named_files(inputs), named_shapes(shapes), batch_size)
        loop, show = ClosedLoop(max_outstanding, count), live_line()
        if how == "sync":
            driven = drive_one_by_one(
                loop, found.runner, stock, timeout_s=timeout, deadline_ms=deadline_ms, show=show
            )  # fmt: skip
        else:
            driven = drive(
                loop, found.runner, stock, end_s=math.inf, timeout_s=timeout, deadline_ms=deadline_ms, show=show
            )  # fmt: skip
    report = Report(
        str(target), f"client {how}", stock.described, batch_size, max_outstanding, driven.seconds, loop.tally,
        unanswered=loop.outstanding, oldest_s=loop.oldest_s(driven.now), interrupted=driven.interrupted,
        route=found.route,
    )  # fmt: skip
    show_report(report, as_json=as_json)
    sys.exit(0 if report.ok else _FAILED)
