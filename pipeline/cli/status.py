"""`pipeline status`: whether it is ready, and if not, why; which worker runs where, what waits, what went through."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from pipeline.cli.pages import pages_of_run, pages_table
from pipeline.cli.shards import answer_of, answers_of, document_of, story_of
from pipeline.cli.tables import make_console, make_table
from pipeline.client.status import ANSWER_S, ask_status, ask_story
from pipeline.config.quantities import format_bytes
from pipeline.errors import ConfigError, Unavailable
from pipeline.metrics.processes import usage_of
from pipeline.streams import say
from pipeline.watching.reloads import reload_lines
from pipeline.wire.home import named_folder
from pipeline.wire.run_dir import READY, find_run, has_ended, pipeline_of, root_of, runs, successor_of
from pipeline.wire.shards import is_front, one_run
from pipeline.wire.status import FailureStatus, PipelineStatus, WorkerStatus, plain
from stages.copies import REASONS
from stages.request import RequestInfo

__all__ = ["given_up", "register"]

_NOT_READY = 1

_PROBE_S = 5.0
"""A probe must have its answer before the kubelet gives it up, which has started this process before, too."""


class Probe(str, Enum):
    """What a probe of Kubernetes asks."""

    READY = "ready"
    ALIVE = "alive"


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command()(status)


def status(
    run: Annotated[
        str | None, typer.Argument(help="Its name, id (detect-29227) or run folder; default: the only one.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole state as JSON.")] = False,
    pages: Annotated[
        bool, typer.Option("--pages", help="Show on which NUMA nodes its shared memory is, too.")
    ] = False,
    request: Annotated[
        str | None,
        typer.Option("--request", metavar="ID", help="Show what has happened to one request, by its id (3fa9c-17)."),
    ] = None,
    prometheus: Annotated[
        bool, typer.Option("--prometheus", help="Print metrics in Prometheus' text format, for a textfile collector.")
    ] = False,
    probe: Annotated[
        Probe | None,
        typer.Option(
            "--probe",
            help="Answer one question in one line, for a probe of Kubernetes: is it ready, or is it alive, if perhaps "
            "not ready.",
        ),
    ] = None,
    timeout: Annotated[
        float | None,
        typer.Option(
            "--timeout", min=0.1, metavar="S", show_default=False,
            help=f"Seconds that its scheduler has for its answer; default: {ANSWER_S:g}, of a probe {_PROBE_S:g}.",
        ),
    ] = None,
) -> None:
    """Show how a running pipeline is. Exit code 0: ready; 1: not ready, or not running.

    With --request, 1: the request is not known, or not any more. With --probe alive, 0: its scheduler answers, and each
    stage has workers or will get some; 1: only another start would help.
    """
    patience = timeout or (ANSWER_S if probe is None else _PROBE_S)
    _refuse_together(pages=pages, as_json=as_json, prometheus=prometheus, request=request, probe=probe)
    try:
        run_dir = _named(run)
        if others := _of_the_same_name(run, run_dir):
            name = pipeline_of(run_dir)
            commands = "; ".join(f"pipeline status {other}" for other in others)
            say(
                f"note: {len(others) + 1} runs of {name} are alive; this is {run_dir}. "
                f"To see another, name its folder: {commands}"
            )
            for other in others:
                if (told := _of_a_reload(other)) is not None:
                    say(f"note: {told}")
        if request is not None:
            sys.exit(_show_story(run_dir, request, patience))
        if is_front(run_dir):
            if pages:
                one_run(run_dir)
            sys.exit(_show_shards(run_dir, probe, patience, as_json=as_json, prometheus=prometheus))
        found = ask_status(run_dir, patience)
        if probe is not None:
            sys.exit(_answer_probe(found, probe))
    except Unavailable as error:
        print(error, file=sys.stderr)
        sys.exit(_NOT_READY)
    if prometheus:
        from pipeline.metrics.rendering import render  # prometheus_client brings a web server, which takes its time

        print(render(found), end="")
    elif as_json:
        print(json.dumps(plain(found), indent=1))
    else:
        console = make_console()
        _show(found, console)
        if pages:
            console.print(pages_table(pages_of_run(run_dir.name), console))
    sys.exit(0 if found.ready else _NOT_READY)


def _show_shards(front: Path, probe: Probe | None, patience_s: float, *, as_json: bool, prometheus: bool) -> int:
    """How a run with shards is; the exit code."""
    name, answers = pipeline_of(front), answers_of(front, patience_s)
    held, text = answer_of(name, answers, given_up, alive=probe is Probe.ALIVE)
    statuses = [found for found in answers.values() if not isinstance(found, str)]
    if prometheus:
        from pipeline.metrics.rendering import render

        print(render(*statuses), end="")
    elif as_json:
        print(document_of(name, held, answers))
    else:
        print(text, flush=True)
        if probe is None:
            console = make_console()
            for status in statuses:
                console.print()
                _show(status, console)
    return 0 if held else _NOT_READY


def _named(run: str | None) -> Path:
    """The run's folder. One that has been replaced is shown itself if its folder or id is named, until it has ended."""
    if run is not None and (folder := named_folder(run)) is not None and not has_ended(folder):
        return folder
    return find_run(run)


def _of_a_reload(folder: Path) -> str | None:
    """What a run that another one replaces, or that is about to replace one, does now; None: it is neither."""
    if successor_of(folder) is None:
        is_new = root_of(folder) != folder and not (folder / READY).exists()
        return f"a new version starts in {folder}" if is_new else None
    left = ""
    with suppress(Unavailable):
        found = ask_status(folder, _PROBE_S)
        left = f": {found.inside} requests inside, {len(found.clients)} clients"
    return f"the version in {folder} was replaced, and finishes what it has{left}"


def _refuse_together(*, pages: bool, as_json: bool, prometheus: bool, request: str | None, probe: Probe | None) -> None:
    """Refuse options that exclude each other."""
    if probe is not None and (pages or as_json or prometheus or request is not None):
        raise ConfigError("--probe answers one question: leave out --request, --pages, --json and --prometheus")
    if pages and (as_json or prometheus):
        raise ConfigError("--pages is a table: leave out --json and --prometheus")
    if as_json and prometheus:
        raise ConfigError("--json and --prometheus exclude each other")
    if request is not None and (pages or as_json or prometheus):
        raise ConfigError("--request shows one request: leave out --pages, --json and --prometheus")


def _answer_probe(found: PipelineStatus, probe: Probe) -> int:
    """Print one line; the exit code."""
    reasons = given_up(found) if probe is Probe.ALIVE else {} if found.ready else found.reasons
    failed = bool(reasons) or (probe is Probe.READY and not found.ready)
    why = "; ".join(f"{stage}: {reason}" if stage else reason for stage, reason in reasons.items())
    print(f"{found.pipeline}: {'not ' * failed}{probe.value}{': ' * bool(why)}{why}")
    return _NOT_READY if failed else 0


def given_up(found: PipelineStatus) -> dict[str, str]:
    """The stages that have no worker and get none any more, and why. Pure."""
    return {
        stage.name: stage.given_up for stage in found.stages if stage.given_up is not None and not stage.workers
    }


def _of_the_same_name(asked: str | None, found: Path) -> list[Path]:
    """The other living runs of the pipeline that was found, unless its folder was asked for."""
    if asked is not None and named_folder(asked) is not None:
        return []
    return [folder for folder in runs(pipeline_of(found)) if folder != found]


def _show_story(run_dir: Path, request: str, patience_s: float) -> int:
    """What has happened to one request; the exit code."""
    story = story_of(run_dir, request, patience_s) if is_front(run_dir) else ask_story(run_dir, request, patience_s)
    if story is None:
        print(
            f"no request {request} is known: expected the id of one that is inside, or of the last that have ended, "
            f"as logs and errors have it (3fa9c-17)",
            file=sys.stderr,
        )
        return _NOT_READY
    print(f"request {request}", *story, sep="\n")
    return 0


def _usage(pid: int, title: str) -> tuple[str, str, str]:
    """CPU seconds, resident memory and threads of a worker; dashes if its pid means nothing here."""
    if (found := usage_of(pid, title)) is None:
        return "-", "-", "-"
    return f"{found.cpu_s:.1f}", format_bytes(found.resident_bytes), str(found.threads)


def _show_failure(stage: str, failure: FailureStatus, console: Console) -> None:
    """One kind of failure, with the traceback of the last one."""
    times = "once" if failure.count == 1 else f"{failure.count} times"
    last = RequestInfo.parse(failure.request)
    when = f"{failure.last_s:.1f} s ago"
    text = f"{stage} failed {times}, the last time {when} (request {last}): {failure.message}"
    # Names and messages are not markup, and a line of code must not be broken.
    for line in [text, *failure.traceback.splitlines()]:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _cameras(status: PipelineStatus, console: Console) -> Table:
    right = ("frames", "answered", "failed", "clips", "unwritten")
    table = make_table("cameras", "camera", "state", "last frame", *right, "dropped", right=right, console=console)
    for camera in status.cameras:
        last = "never" if camera.last_frame_s is None else f"{camera.last_frame_s:.1f} s ago"
        state = camera.state if camera.state_s is None else f"{camera.state} for {camera.state_s:.0f} s"
        dropped = ", ".join(f"{reason} {count}" for reason, count in sorted(camera.dropped.items())) or "none"
        counts = (camera.frames, camera.answered, camera.failed, camera.clips, camera.unwritten)
        numbers = tuple(str(count) for count in counts)
        table.add_row(camera.name, f"{state}{': ' * bool(camera.detail)}{camera.detail}", last, *numbers, dropped)
    return table


def _titled(title: str, lines: Sequence[str]) -> list[str]:
    """Lines under a title, which stands before the first one."""
    return [f"{f'{title}: ' if at == 0 else '  '}{line}" for at, line in enumerate(lines)]


def _show(status: PipelineStatus, console: Console) -> None:
    if status.ready:
        console.print(f"{status.pipeline}: ready", style="bold green" if console.is_terminal else None)
    else:
        console.print(f"{status.pipeline}: not ready", style="bold red" if console.is_terminal else None)
        for name, reason in status.reasons.items():
            console.print(f"  {name + ': ' if name else ''}{reason}")
    right = ("waiting", "last answer")
    table = make_table("stages", "stage", "workers", *right, right=right, console=console)
    for stage in status.stages:
        last = stage.last_ok_s
        table.add_row(
            stage.name,
            f"{len(stage.workers)} of {stage.replicas}",
            str(stage.waiting),
            "never" if last is None else f"{last:.1f} s ago",
        )
    console.print(table)
    for stage in status.stages:
        if stage.given_up is not None and stage.workers:
            # With no worker left it stands above, as a reason.
            text = f"no more workers of {stage.name} are started: {stage.given_up}"
            console.print(text, markup=False, highlight=False, soft_wrap=True)
    for line in _titled("reload", reload_lines(status.reloads, time.time())):
        # Names and reasons are not markup.
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    numbers = ("pid", "ordered", "batches", "rows", "CPU s", "memory", "threads")
    workers = make_table("workers", "worker", *numbers, right=numbers, console=console)
    processes: dict[str, list[WorkerStatus]] = {}
    for stage in status.stages:
        for worker in sorted(stage.workers, key=lambda worker: worker.replica):
            # Those of colocated stages share one.
            processes.setdefault(worker.process, []).append(worker)
    for title, members in processes.items():
        pid = members[0].pid
        sums = [str(sum(getattr(worker, key) for worker in members)) for key in ("ordered", "batches", "rows")]
        workers.add_row(title, str(pid), *sums, *_usage(pid, title))
    console.print(workers)
    pools = make_table("slots", "pool", "in use", "of", right=("in use", "of"), console=console)
    for pool in status.pools:
        pools.add_row(pool.name, str(pool.slots - pool.free), str(pool.slots))
    console.print(pools)
    if status.cameras:
        console.print(_cameras(status, console))
    if copies := sorted(status.copies, key=lambda copy: -copy.bytes):
        table = make_table("copies", "edge", "bytes", "batches", "because", right=("bytes", "batches"), console=console)
        for copy in copies:
            why = f"{copy.reason}: {REASONS[copy.reason].why}"
            table.add_row(copy.edge, format_bytes(copy.bytes), str(copy.batches), why)
        console.print(table)
    else:
        console.print("copied: nothing")
    for stage in status.stages:
        for failure in stage.failures:
            _show_failure(stage.name, failure, console)
    names = ", ".join(f"{client.name} ({client.id})" for client in status.clients) or "none"
    counts = ", ".join(f"{what} {count}" for what, count in sorted(status.counts.items()) if count) or "nothing yet"
    console.print(f"inside: {status.inside}; link: {status.link}; clients: {names}")
    console.print(f"since the start: {counts}")
