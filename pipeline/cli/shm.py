"""`pipeline shm`: the segments of ours on this machine, whose they are, and the removal of dead ones."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.text import Text

from pipeline.cli.tables import make_console, make_table
from pipeline.config.quantities import format_bytes
from pipeline.wire.run_dir import remove_dead_runs, segment_dirs
from shm import leftovers
from shm.owner import Dead

__all__ = ["register"]

_app = typer.Typer(help="Shared-memory segments of this machine.", no_args_is_help=True)


DirOption = Annotated[
    str | None,
    typer.Option("--dir", help="Look for segments in this folder, too; those of runs in $TRTLAB_RUN_DIR are known."),
]


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.add_typer(_app, name="shm")


@_app.command(name="ls")
def list_segments(segment_dir: DirOption = None) -> None:
    """Every segment of ours: its size, its owner, whether that is alive, its age, its slots in use."""
    console = make_console()
    right = ("size", "pid", "age", "slots in use")
    table = make_table(
        "segments", "run", "pool", "kind", "size", "pid", "owner", "age", "slots in use", right=right, console=console
    )
    found = leftovers.scan(_dirs(segment_dir))
    for segment in found:
        state = type(segment.state).__name__.lower()
        table.add_row(
            segment.run,
            segment.pool,
            segment.address.kind,
            format_bytes(segment.size),
            str(segment.owner_pid),
            Text(state, style={"dead": "red", "unknown": "yellow"}.get(state, "") if console.is_terminal else ""),
            _age(segment.age),
            f"{segment.slots_in_use} of {segment.slots}",
        )
    console.print(table)
    total = format_bytes(sum(segment.size for segment in found))
    dead = sum(isinstance(segment.state, Dead) for segment in found)
    console.print(f"{len(found)} segments, {total}" + (f"; {dead} dead: pipeline shm gc removes them" if dead else ""))


@_app.command()
def gc(segment_dir: DirOption = None) -> None:
    """Remove the segments whose owner is proven dead: the kernel has dropped its lock. No other is touched."""
    console = make_console()
    # Before the folders of dead runs go, which say where their segments are.
    places = _dirs(segment_dir)
    dead = [segment for segment in leftovers.scan(places) if isinstance(segment.state, Dead)]
    folders = remove_dead_runs(segment_dir or "")
    left = {segment.address for segment in leftovers.scan(places)}
    removed = [segment for segment in dead if segment.address not in left]
    for segment in removed:
        console.print(f"removed {segment.name}, {format_bytes(segment.size)}")
    for folder in folders:
        console.print(f"removed {folder}")
    console.print(f"{len(removed)} segments removed, {format_bytes(sum(segment.size for segment in removed))}")


def _dirs(segment_dir: str | None) -> list[str]:
    return [*segment_dirs(), *([segment_dir] if segment_dir else ())]


def _age(seconds: float) -> str:
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"
