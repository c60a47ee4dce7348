"""`pipeline tune`: measure arrangements of a config's stages on this machine, and write the best one down."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.arguments import ConfigArgument, InputOption, ShapeOption
from pipeline.cli.interrupts import EXIT_INTERRUPTED
from pipeline.cli.printed import expect_place
from pipeline.cli.run import pull_models
from pipeline.cli.tables import make_console, make_table
from pipeline.config.editing import edited
from pipeline.config.loader import LoadedConfig, load_config
from pipeline.errors import ConfigError
from pipeline.feeding.paths import relative_to_here
from pipeline.load.inputs import Stock, make_stock, named_files, named_shapes
from pipeline.load.samples import read_samples
from pipeline.prepare.describing import describe_stages
from pipeline.streams import announce, say, unannounce
from pipeline.topology.load import busy_seconds
from pipeline.topology.machine import Machine, read_machine
from pipeline.tuning.candidate import Goal, assignments_of
from pipeline.tuning.picture import picture_of
from pipeline.tuning.report import Report
from pipeline.tuning.search import search
from pipeline.tuning.trials import Trials

__all__ = ["register"]

#: Seconds for which it is looked what others do with the CPUs.
_LOOK_S = 0.5


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command()(tune)


def tune(
    config: ConfigArgument,
    samples: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[FILE|FOLDER|GLOB]...",
            help="Samples, as `pipeline run` takes them. Default: the config's run.inputs, otherwise random values.",
            show_default=False,
        ),
    ] = None,
    goal: Annotated[
        Goal, typer.Option("--for", help="throughput: many requests under way; latency: one at a time.")
    ] = Goal.THROUGHPUT,
    minutes: Annotated[float, typer.Option("--minutes", min=0.05, metavar="M", help="For everything.")] = 2.0,
    inputs: InputOption = [],  # noqa: B006 (typer's own form of a default)
    shapes: ShapeOption = [],  # noqa: B006
    outstanding: Annotated[
        int | None,
        typer.Option(
            "--outstanding", min=1, metavar="N", help="Requests under way, for throughput. Default: 16 for each core, "
            "at least 32.", show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE",
            help="The tuned YAML, in the config's folder. Default: NAME.tuned.yaml for NAME.yaml.", show_default=False,
        ),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option("--plot", metavar="FILE.svg", help="The picture. Default: beside the YAML.", show_default=False),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace these files if they are there.")] = False,
) -> None:  # fmt: skip
    """Find the replicas, threads, processes and batches that suit this machine, and write them down: docs/tune.md.

    Ctrl-C ends it with the best so far.
    """
    loaded = load_config(config)
    output = config.with_suffix(".tuned.yaml") if output is None else output
    plot = output.with_suffix(".svg") if plot is None else plot
    _refuse_outputs(config, output, plot, overwrite=overwrite)
    pull_models(loaded)
    try:
        announce(f"asking the stages of {config} ...")
        descriptions, machine = describe_stages(loaded), read_machine()
        stock = _stock(loaded, samples or [], inputs, shapes)
        under_way = 1 if goal is Goal.LATENCY else outstanding or _under_way(loaded, machine)
        report = Report(config.name, goal, stock.described, under_way, 0.0, _shown(machine), foreign=_foreign(machine))
        with Trials(config, loaded.config.name, stock, goal, under_way) as trials:
            report = search(loaded, descriptions, machine, trials, report, minutes, announce)
    except KeyboardInterrupt:
        say("interrupted before anything was measured")
        sys.exit(EXIT_INTERRUPTED)
    finally:
        unannounce()
    _show(report)
    if report.interrupted and report.winner is None:
        sys.exit(EXIT_INTERRUPTED)
    if report.beats:
        _write(loaded, report, output)
        say(f"wrote {output}")
    if report.winner is not None:
        _put(plot, picture_of(report))
        say(f"drew {plot}")


def _foreign(machine: Machine) -> float:
    """How many of the CPUs other programs keep busy now."""
    before = busy_seconds(machine.cpus.allowed)
    time.sleep(_LOOK_S)
    after = busy_seconds(machine.cpus.allowed)
    return 0.0 if before is None or after is None else (after - before) / _LOOK_S


def _under_way(loaded: LoadedConfig, machine: Machine) -> int:
    """Requests under way at once: enough for every core, and no more than the config takes."""
    wanted = max(32, 16 * machine.cpus.effective)
    most = loaded.config.queue.max
    return wanted if most is None else min(wanted, most)


def _refuse_outputs(config: Path, output: Path, plot: Path, *, overwrite: bool) -> None:
    """Before minutes have been spent.

    Raises:
        ConfigError: a file is there already, or has no folder; or the YAML would lie where its paths lead elsewhere.
    """
    for option, path in (("--output", output), ("--plot", plot)):
        expect_place(path, option)
        if path.exists() and not overwrite:
            raise ConfigError(f"{option} {path}: is there already; name another, or give --overwrite")
    if output.parent.resolve() != config.parent.resolve():
        raise ConfigError(
            f"--output {output}: expected a file in {config.parent}, since paths in a config are relative to its folder"
        )


def _stock(loaded: LoadedConfig, samples: Sequence[str], inputs: list[str], shapes: list[str]) -> Stock:
    """What requests carry."""
    run = loaded.config.run
    if samples and (inputs or shapes):
        raise ConfigError("samples are named as files, or by --input and --shape; not both")
    if not inputs and not shapes and (named := [*samples] or relative_to_here(run.inputs, loaded.base_dir)):
        return read_samples(loaded.inputs, named, run.files, str(loaded.path))
    return make_stock({spec.name: spec for spec in loaded.inputs}, named_files(inputs), named_shapes(shapes))


def _shown(machine: Machine) -> str:
    cpus = machine.cpus
    quota = "" if cpus.quota is None else f" with a quota of {cpus.quota:g}"
    gpus = f", {len(machine.gpus)} GPUs" if machine.gpus else ""
    return f"{len(cpus.allowed)} CPUs{quota}{gpus}"


def _show(report: Report) -> None:
    console = make_console()
    for line in report.head():
        console.print(line, soft_wrap=True)
    right = ("/s", "p50 ms", "p99 ms", "ratio")
    for step in report.steps:
        if not console.is_terminal:
            console.print()
        table = make_table(
            step.title, "candidate", *right, "quartiles", "ahead in", "", right=right, console=console
        )
        for row in report.rows(step):
            table.add_row(*row)
        console.print(table)
    if not console.is_terminal:
        console.print()
    for line in report.verdict():
        console.print(line, soft_wrap=True)


def _write(loaded: LoadedConfig, report: Report, output: Path) -> None:
    """The YAML of the winner."""
    winner = report.winner
    assert winner is not None
    text = loaded.path.read_text(encoding="utf-8-sig")
    made, kept = edited(text, assignments_of(winner.candidate.changes), str(loaded.path))
    if not kept:
        say(f"comments of {loaded.path} could not be kept: its stages are not written out one by one")
    head = "".join(f"# {line}\n" for line in report.comments(date.today().isoformat()))
    name = ""
    if ("name",) not in loaded.locations.origins:
        # Otherwise it would be called after its file.
        name = f"name: {loaded.config.name}\n"
    _put(output, f"{head}\n{name}{made}")


def _put(path: Path, text: str) -> None:
    """Write a file, all of it or nothing.

    Raises:
        ConfigError: that cannot be done.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_text(text, encoding="utf-8")
        os.replace(beside, path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from None
