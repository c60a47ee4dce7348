"""`pipeline siege`: requests at a rate that is wanted, in an open loop, and the percentiles of their latencies."""

from __future__ import annotations

import math
import sys
from pathlib import Path
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
from pipeline.cli.printed import expect_place, put
from pipeline.errors import ConfigError
from pipeline.load.driving import Driven, drive
from pipeline.load.inputs import make_stock, named_files, named_shapes
from pipeline.load.loops import OpenLoop
from pipeline.load.picture import picture_of
from pipeline.load.report import Report
from pipeline.load.schedule import Func, Rate
from pipeline.load.target import Opened, Target, opened

__all__ = ["register"]

_FAILED = 1


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command()(siege)


def siege(
    target: TargetArgument,
    count: Annotated[int, typer.Option("--count", min=1, metavar="N", help="Requests at most.")] = 1_000_000,
    seconds: Annotated[
        float | None,
        typer.Option("--seconds", metavar="S", help="Send those due in the first S seconds.", show_default=False),
    ] = None,
    batch_size: BatchSizeOption = 1,
    rate: Annotated[float, typer.Option("--rate", metavar="R", help="Requests per second, at the beginning.")] = 1.0,
    max_rate: Annotated[
        float, typer.Option("--max-rate", "--max_rate", metavar="R", help="Requests per second at most.")
    ] = 100_000.0,
    func: Annotated[
        Func,
        typer.Option(
            "--func",
            help="The rate at t seconds: constant: rate; linear: rate + alpha/60 t; "
            "cyclic: rate + alpha sin(2 pi beta/60 t).",
        ),
    ] = Func.CONSTANT,
    alpha: Annotated[
        float, typer.Option("--alpha", help="Requests per second: added each minute (linear), or amplitude (cyclic).")
    ] = 0.0,
    beta: Annotated[float, typer.Option("--beta", help="Cycles per minute (cyclic).")] = 1.0,
    max_outstanding: MaxOutstandingOption = 950,
    inputs: InputOption = [],  # noqa: B006 (typer's own form of a default)
    shapes: ShapeOption = [],  # noqa: B006
    model: ModelOption = "",
    token_file: TokenOption = None,
    deadline_ms: DeadlineOption = None,
    timeout: TimeoutOption = 30.0,
    as_json: JsonReportOption = False,
    plot: Annotated[
        Path | None,
        typer.Option("--plot", metavar="FILE.svg", help="Draw latencies and rates.", show_default=False),
    ] = None,
) -> None:
    """Send requests at a rate, whatever the answers do, and measure each from when it was due: docs/load.md.

    Ctrl-C ends it, and shows what was measured until then.
    """
    wanted = Rate(func, rate, alpha, beta, max_rate)
    if seconds is not None and not 0 < seconds < math.inf:
        raise ConfigError(f"--seconds: expected more than 0, found {seconds:g}")
    expect_deadline(deadline_ms)
    if plot is not None:
        expect_place(plot, "--plot")
    asked = Target(target, model, token_file)
    with asking(), opened(asked, "siege", max_outstanding) as found:
        stock = make_stock(found.runner.input_specs(), named_files(inputs), named_shapes(shapes), batch_size)
        loop = OpenLoop(wanted.times(seconds), max_outstanding, count)
        show = live_line(wanted.at)
        driven = drive(
            loop, found.runner, stock, end_s=math.inf if seconds is None else seconds, timeout_s=timeout,
            deadline_ms=deadline_ms, show=show,
        )  # fmt: skip
    load = f"siege, {wanted.describe()}"
    report = _report(str(asked), found, load, stock.described, batch_size, loop, driven, seconds)
    show_report(report, as_json=as_json)
    if plot is not None:
        put(picture_of(report), plot, "--plot")
    sys.exit(0 if report.ok else _FAILED)


def _report(
    target: str,
    found: Opened,
    load: str,
    inputs: str,
    batch_size: int,
    loop: OpenLoop,
    driven: Driven,
    seconds: float | None,
) -> Report:
    unsent = loop.unsent(driven.now)
    due = loop.tally.sent + unsent
    if seconds is not None and not driven.interrupted and due < loop.count:
        wanted = due / seconds
    else:
        # The first is due at 0 s: as many gaps as requests behind it.
        wanted = (due - 1) / loop.last_due if loop.last_due else 0.0
    return Report(
        target, load, inputs, batch_size, loop.max_outstanding, driven.seconds, loop.tally, wanted_rate=wanted,
        unanswered=loop.outstanding, oldest_s=loop.oldest_s(driven.now), unsent=unsent, interrupted=driven.interrupted,
        route=found.route,
    )  # fmt: skip
