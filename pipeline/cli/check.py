"""`pipeline check`: load, describe, place and sum up; print what would be started; start nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.cli.arguments import ConfigArgument, SetOption
from pipeline.cli.pages import pages_of_plan, pages_table
from pipeline.cli.tables import make_console, make_table
from pipeline.config.camera_urls import Kind, kind_of
from pipeline.config.loader import load_config
from pipeline.config.quantities import format_bytes
from pipeline.errors import StartError
from pipeline.graph.budget import Budget
from pipeline.graph.compiled import CompiledPlan
from pipeline.graph.copying import possible_copies
from pipeline.graph.plan import Plan
from pipeline.prepare.preparation import Preparation, prepare_loaded
from pipeline.prepare.sharding import prepare_shards
from pipeline.topology.cpulist import format_cpu_list
from pipeline.topology.machine import Machine

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command()(check)


def check(
    config: ConfigArgument,
    pages: Annotated[
        bool,
        typer.Option("--pages", help="Make the shared memory for a moment too, and show on which NUMA nodes it is."),
    ] = False,
    measure: Annotated[
        bool,
        typer.Option(
            "--measure/--no-measure",
            help="If there are cameras: have the stages look at drawn frames for some seconds, and say what they take.",
        ),
    ] = True,
    assignments: SetOption = [],  # noqa: B006 (typer's own form of a default)
) -> None:
    """Check a config against its stages and this machine. No run is started; with cameras, its stages are tried."""
    loaded = load_config(config, assignments)
    shards = loaded.config.shards
    divided = [shard.prepared for shard in prepare_shards(loaded)] if shards > 1 else [prepare_loaded(loaded)]
    prepared = divided[0]
    console = make_console()
    if shards > 1:
        console.print(f"{shards} shards, each a run with a part of this machine; this is the first of them:")
    _show(prepared, console)
    prepared.budget.refuse()
    plan = prepared.plan
    if plan.cameras and measure:
        _show_tried(prepared, config, assignments, console)
    if pages:
        console.print(pages_table(pages_of_plan(plan), console))
        if not console.is_terminal:
            console.print()
    workers = sum(len(plan.stages[stages[0]].workers) for stages in plan.processes)
    console.print(
        f"ok: {len(plan.stages)} stage{'s' * (len(plan.stages) > 1)}, {workers} worker{'s' * (workers > 1)}, "
        f"{format_bytes(prepared.budget.nbytes)} of shared memory" + _in_all(divided) * (shards > 1)
    )


def _in_all(shards: list[Preparation]) -> str:
    nbytes = format_bytes(sum(shard.budget.nbytes for shard in shards))
    return f" in the first of {len(shards)} shards, {nbytes} in all"


_DECODING = 7.2e-3 / (1920 * 1080)
"""Seconds of a core that a source takes for each pixel of H.264, as bench/NOTES.md has measured it on one machine."""
_SIZES = ((640, 360, 15), (1280, 720, 25), (1920, 1080, 25), (3840, 2160, 25))


def _show(prepared: Preparation, console: Console) -> None:
    plan = prepared.plan
    console.print(Text(f"{plan.name}  {plan.config_path}", style="bold" if console.is_terminal else ""))
    console.print(_machine(prepared.machine))
    console.print(f"link: {plan.link}{', ' * bool(prepared.spinning)}{prepared.spinning}")
    if rings := prepared.budget.rings:
        nbytes = format_bytes(prepared.budget.ring_bytes)
        console.print(f"rings: up to {rings} with one client, {nbytes} of memory beside the segments")
    for table in (
        *([_cameras(plan, prepared.machine, console)] if _decoded(plan) else []),
        _stages(plan, console),
        _edges(plan, console),
        _copies(plan, console),
        _workers(plan, console),
        _pools(prepared.budget, plan.segment_dir or plan.segment_kind, console),
        _rows(plan),
        _limits(prepared.budget, console),
    ):
        if not console.is_terminal:  # there, the table's own box keeps its distance
            console.print()
        console.print(table)
    if prepared.notes and not console.is_terminal:
        console.print()
    for stage, note in prepared.notes:
        console.print(Text(f"{stage}: {note}"))
    if not console.is_terminal:
        console.print()


def _decoded(plan: Plan) -> int:
    """How many cameras send frames that must be decoded."""
    return sum(kind_of(camera.url) is not Kind.SCENE for camera in plan.cameras)


def _cameras(plan: Plan, machine: Machine, console: Console) -> Table:
    """What decoding may take. How large a camera's pictures are, it says only when it is connected."""
    count, cpus = _decoded(plan), len(machine.cpus.allowed)
    title = "decoding, in cores: an estimate for H.264, whatever fps says; without the stages"
    columns = ("a camera", f"all {count}")
    table = make_table(title, f"if each of the {count} sends", *columns, "", right=columns, console=console)
    for width, height, fps in _SIZES:
        cores = width * height * fps * _DECODING
        verdict = "" if cores * count <= cpus else f"more than the {cpus} CPUs of this machine"
        table.add_row(f"{width}x{height}, {fps} frames/s", f"{cores:.2f}", f"{cores * count:.2f}", verdict)
    return table


def _show_tried(prepared: Preparation, config: Path, assignments: list[str], console: Console) -> None:
    # Here, since it needs numpy: half of what this process takes, and where memory is short a check must still end.
    from pipeline.prepare.trying import frames_wanted, most_frames, try_stages

    plan, cpus = prepared.plan, prepared.machine.cpus
    try:
        tried = try_stages(plan, config, assignments)
    except StartError as error:
        console.print(Text(f"what the stages take was not measured: {error}"))
        return
    wanted, count = frames_wanted(plan.cameras), len(plan.cameras)
    cameras = f"{count} camera{'s' * (count > 1)}, {wanted:g} frames/s"
    title = f"stages, tried here with drawn frames of {tried.size.width}x{tried.size.height}: {cameras} wanted"
    columns = ("CPU a frame", "cores for all", "frames/s at most")
    table = make_table(title, "", *columns, "because of", right=columns, console=console)
    looks = {"something moves in all of them": tried.moving}
    if tried.is_gated:
        looks["nothing moves"] = tried.still
    for name, look in looks.items():
        most, slowest = most_frames(plan, look)
        cost = f"{1000 * look.cpu_s:.1f} ms"
        table.add_row(name, cost, f"{wanted * look.cpu_s:.2f}", f"{most:.0f}" if slowest else "", slowest)
    console.print(table)
    if wanted * tried.moving.cpu_s > cpus.effective:
        console.print(Text(f"while something moves in all of them, that is more than {cpus.effective} CPUs have"))
    if (most := most_frames(plan, tried.moving)[0]) < wanted:
        console.print(Text(f"while something moves in all of them, {wanted - most:.0f} frames/s of these are dropped"))
    if not console.is_terminal:
        console.print()


def _copies(plan: Plan, console: Console) -> Table | Text:
    """Which tensors may be copied; every edge that is not named is passed as a view, whatever comes."""
    copies = possible_copies(plan)
    if not copies:
        return Text("copies: none possible, every edge is passed as a view")
    table = make_table("copies that are possible", "edge", "reason", "when", console=console)
    for copy in copies:
        table.add_row(*copy)
    return table


def _machine(machine: Machine) -> str:
    cpus = machine.cpus
    text = f"this machine: {len(cpus.allowed)} CPUs ({format_cpu_list(cpus.allowed)})"
    if cpus.quota is not None:
        text += f", a quota of {cpus.quota:g}"
    text += f", {len(machine.nodes)} NUMA node{'s' if len(machine.nodes) > 1 else ''}"
    return text + (f", {len(machine.gpus)} NVIDIA GPUs" if machine.gpus else "")


def _stages(plan: Plan, console: Console) -> Table:
    table = make_table("stages", "stage", "class", "batch", "credits", "after", right=("credits",), console=console)
    for stage in plan.stages:
        table.add_row(
            stage.name,
            stage.use,
            f"{stage.batch.max_size} in {stage.batch.max_delay_ms:g} ms" if stage.batch.max_size > 1 else "1",
            str(stage.credits),
            ", ".join(stage.after) or "-",
        )
    return table


def _edges(plan: Plan, console: Console) -> Table:
    table = make_table("edges", "from", "to", "tensor", "up to", right=("up to",), console=console)
    rows = [
        (edge, f"{stage.name}.{spec.name}") for stage in plan.stages for spec, edge in zip(stage.inputs, stage.edges)
    ]
    rows += [(edge, f"answer.{name}") for name, edge in plan.outputs]
    for edge, target in rows:
        spec = plan.output_spec(edge)
        tensor = f"{spec.dtype} {spec.describe()}"
        table.add_row(f"{edge.producer}.{edge.tensor}", target, tensor, format_bytes(spec.max_nbytes))
    return table


def _workers(plan: Plan, console: Console) -> Table:
    right = ("NUMA node", "threads")
    table = make_table("placement", "worker", "CPUs", *right, "device", "why so many", right=right, console=console)
    for stages in plan.processes:
        for worker in plan.stages[stages[0]].workers:
            table.add_row(
                worker.title,
                format_cpu_list(worker.cpus) or "any",
                "any" if worker.numa_node is None else str(worker.numa_node),
                str(worker.threads),
                worker.device,
                worker.why if worker.replica == 0 else "",
            )
    return table


def _pools(budget: Budget, kind: str, console: Console) -> Table:
    right = ("slots", "slot", "segment")
    table = make_table(f"shared memory ({kind})", "pool", *right, right=right, console=console)
    for line in budget.lines:
        table.add_row(line.pool, str(line.slots), format_bytes(line.slot_bytes), format_bytes(line.nbytes))
    table.add_section()
    table.add_row("all", str(sum(line.slots for line in budget.lines)), "", format_bytes(budget.nbytes))
    return table


def _rows(plan: Plan) -> Text:
    """How many rows a request may carry, what memory that takes, and why not more."""
    if plan.rows == 1:
        return Text(f"rows: a request carries one ({plan.why_rows}); a batch of n is n requests")
    several = CompiledPlan.of(plan).several_pools
    nbytes = sum(plan.pools[at].nbytes for at in several)
    return Text(
        f"rows: a request carries up to {plan.rows} ({plan.why_rows}); the slots of those with several take "
        f"{format_bytes(nbytes)} of {format_bytes(plan.nbytes)}"
    )


def _limits(budget: Budget, console: Console) -> Table:
    right = ("needed", "allowed")
    table = make_table("limits", "limit", *right, "", right=right, console=console)
    for limit in budget.limits:
        verdict = Text("fits") if limit.holds else Text("too small", style="bold red")
        least = "at least " if limit.why else ""
        table.add_row(limit.name, least + limit.shown(limit.needed), limit.shown(limit.allowed), verdict)
    return table
