"""`pipeline run`: start the pipeline of a config, run files through it, or serve until told to stop."""

from __future__ import annotations

import faulthandler
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from msgspec.structs import replace

from pipeline.cli.arguments import (
    AccessLogOption,
    ConfigArgument,
    LogFileOption,
    LogFormatOption,
    LogLevelOption,
    SetOption,
    log_settings,
    told,
)
from pipeline.config.loader import LoadedConfig, load_config
from pipeline.errors import ConfigError, StartError
from pipeline.feeding.paths import STDIN, STDOUT, expand, is_same_file, relative_to_here
from pipeline.lifeline import StarterWatch
from pipeline.logs.log import OperatorLog
from pipeline.models.pull import pull
from pipeline.prepare.broker import refuse_broker
from pipeline.prepare.cameras import refuse_cameras
from pipeline.prepare.gpu_room import shortage_beside, workers_of
from pipeline.prepare.preparation import Preparation, prepare_loaded
from pipeline.prepare.sharding import PreparedShard, prepare_shards
from pipeline.sd_notify import NotifySocket
from pipeline.streams import announce, say, settle_streams, unannounce, unheard
from pipeline.supervisor.front import supervise_shards
from pipeline.supervisor.succession import Launch
from pipeline.supervisor.successors import Root
from pipeline.supervisor.supervisor import supervise
from pipeline.topology.memory import disk_under
from pipeline.wire.run_dir import living_runs, remove_dead_runs
from shm.handle import JSON
from stages.catalogue import ASSETS, cache_dir
from stages.errors import ModelError

__all__ = ["pull_models", "register", "run_in_processes"]


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command()(run)


def run(
    config: ConfigArgument,
    inputs: Annotated[
        list[str], typer.Argument(metavar="[PATH|DIR|GLOB|-]...", help="What to run; default: the config's run.inputs.")
    ] = [],  # noqa: B006 (typer's own form of a default)
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE|DIR/|-",
            help="Write the answers: one JSON object a request to FILE, or to stdout (-); to DIR/ with the arrays as "
            ".npz files beside them.",
            show_default=False,
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what --output finds there.")] = False,
    append: Annotated[
        bool, typer.Option("--append", help="Go on behind it, and run only what is not answered in it.")
    ] = False,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, metavar="N", help="Run N requests at most.", show_default=False)
    ] = None,
    text: Annotated[bool, typer.Option("--text", help="Lines of stdin (-) are texts, not JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show failures and the summary only.")] = False,
    serve: Annotated[
        bool,
        typer.Option("--serve", help="Run no files; serve clients, and read the sources, until SIGTERM or Ctrl-C."),
    ] = False,
    lifeline: Annotated[
        bool,
        typer.Option(
            "--lifeline",
            help="With --serve: stop at once when stdin ends, which is a pipe from the program that starts this one.",
        ),
    ] = False,
    assert_zero_copy: Annotated[
        bool,
        typer.Option("--assert-zero-copy", help="Exit with 1 if the runtime copied a tensor, and say which and why."),
    ] = False,
    in_process: Annotated[
        bool,
        typer.Option(
            "--in-process", help="Run all stages in this process: for breakpoint(), print, pdb, cProfile and py-spy."
        ),
    ] = False,
    log_format: LogFormatOption = None,
    log_level: LogLevelOption = None,
    log_file: LogFileOption = None,
    access_log: AccessLogOption = False,
    assignments: SetOption = [],  # noqa: B006
) -> None:
    """Run files through a pipeline, or the config's sources, or serve it to clients."""
    if lifeline and not serve:
        raise ConfigError("--lifeline is about --serve: leave it out, or add --serve")
    # Before any child is born. If another program has started this one, that is the service.
    notify = NotifySocket.take(os.environ, own=not lifeline)
    # Nothing may be fetched or planned for a program that is gone.
    starter = StarterWatch() if lifeline else None
    loaded = load_config(config, assignments)
    if serve and (inputs or output or limit or text or quiet):
        raise ConfigError("--serve runs no files: leave out the files and --output, or leave out --serve")
    if serve and assert_zero_copy:
        raise ConfigError("--assert-zero-copy is about a run of files; while it serves, `pipeline status` shows copies")
    if serve and in_process:
        raise ConfigError("--in-process runs files and has no clients: leave out --serve, or --in-process")
    if text and not (len(loaded.inputs) == 1 and loaded.inputs[0].dtype == JSON):
        raise ConfigError("--text is about pipelines whose one input is of dtype json: leave it out")
    feeder: dict[str, Any] | None = None
    cameras = bool(loaded.config.sources) and not (serve or inputs)
    if cameras:
        _refuse_beside_cameras(output, overwrite=overwrite, append=append, rest={
            "--limit": limit, "--text": text, "--assert-zero-copy": assert_zero_copy, "--in-process": in_process,
        })  # fmt: skip
    elif not serve:
        feeder = {
            **_named(loaded, inputs, output),
            **_written(loaded, output, overwrite=overwrite, append=append),
            "limit": limit,
            "text": text,
            "quiet": quiet,
            "assert_zero_copy": assert_zero_copy,
        }
    if in_process and (log_format or log_level or log_file or access_log):
        raise ConfigError("--in-process is for debugging, and keeps no log: leave out --log-... and --access-log")
    pull_models(loaded)
    if feeder is not None and in_process:
        from pipeline.inprocess.running import run_in_process  # which no other run has to wait for

        faulthandler.enable()
        sys.exit(run_in_process(loaded, feeder))
    log = OperatorLog(
        log_settings(log_format, log_level, log_file, access=access_log),
        pipeline=loaded.config.name, least="info" if serve or cameras else "note",
    )  # fmt: skip
    if not quiet and not log.settings.format:
        # Stages may import, and load models, for seconds or minutes.
        announce(f"starting {loaded.config.name} ...")
    try:
        launch = Launch(str(config.absolute()), tuple(assignments))
        with told(log):
            code = run_in_processes(
                loaded, feeder, launch=launch, starter=starter, cameras=cameras, output=output, log=log, notify=notify
            )
    finally:
        if notify is not None:
            notify.close()
        unannounce()
        log.close()
    settle_streams()
    sys.exit(code)


def run_in_processes(
    loaded: LoadedConfig,
    feeder: dict[str, Any] | None,
    *,
    launch: Launch | None = None,
    root: Root | None = None,
    starter: StarterWatch | None = None,
    cameras: bool = False,
    output: str | None = None,
    log: OperatorLog,
    notify: NotifySocket | None = None,
) -> int:
    """Run the feeder's files, or serve if there is no feeder; the exit code.

    Args:
        loaded: the config.
        feeder: what to run.
        launch: how it was started; if it serves, a reload starts it again so.
        root: it is a new version, which that supervisor has started.
        starter: the program with which the run ends.
        cameras: it ends once all of its cameras have ended.
        output: the file into which the answers to their frames go.
        log: where it says what.
        notify: where the service manager listens.
    """
    serve = feeder is None
    # Before memory is counted: what a dead run has left may be all that there is room for, as in a pod's volume.
    segments = loaded.config.segments
    for dead in remove_dead_runs("" if isinstance(segments, str) else segments.dir):
        log("info", f"removed what {dead.name} left, a run that is dead")
    if serve and root is None and starter is None:
        _warn_of_another(loaded.config.name, log)
    # A run of files has one client, which can be in one shard only: it is not divided.
    divided = serve and loaded.config.shards > 1
    parts = prepare_shards(loaded) if divided else [PreparedShard(prepare_loaded(loaded), {})]
    prepared = parts[0].prepared
    prepared.budget.refuse()
    plan = prepared.plan
    if serve:
        refuse_cameras(plan)
        refuse_broker(plan)
    if cameras:
        plan = replace(plan, ends_with_cameras=True, camera_output=_made(output))
    _warn(prepared, log)
    if root is not None and (short := short_beside([part.prepared for part in parts], root.pid)):
        raise StartError(short)

    def on_ready(run_dir: Path) -> None:
        unannounce()
        if root is not None:
            root.ready("every stage is ready" + (", the canary was answered" if prepared.plan.canary else ""))
        elif serve:
            with unheard(1):
                print(f"serving {prepared.plan.name} in {run_dir}", flush=True)

    # A crash of the supervisor takes the run down with it: then at least the Python line is shown.
    faulthandler.enable(all_threads=False)
    if divided:
        return supervise_shards(
            [part.prepared.plan for part in parts], [part.environment for part in parts], log=log,
            on_ready=on_ready, launch=launch, root=root, starter=starter, notify=notify,
        )  # fmt: skip
    return supervise(
        plan, feeder=feeder, log=log, on_ready=on_ready, launch=launch if serve else None, root=root,
        starter=starter, notify=notify,
    )  # fmt: skip


def short_beside(parts: Sequence[Preparation], root: int) -> str:
    """Why the workers of a new version do not fit on their GPUs beside those of the old one; empty: nothing says so.

    Args:
        parts: of the pipeline: its shards, or the whole.
        root: the pid of the supervisor that was started first.
    """
    name = parts[0].plan.name
    found = [shortage_beside(workers_of(part.plan), part.machine, name, root, at_once=True) for part in parts]
    if not (short := "; ".join(filter(None, found))):
        return ""
    anew = "stop the pipeline, and start it anew"
    if len(parts) > 1:
        return f"{short}: {anew}"
    return f"{short}: replace one stage at a time, which takes room for one worker: pipeline reload {name} --stage " \
        f"STAGE; or {anew}"


def _warn_of_another(name: str, log: Callable[[str, str], None]) -> None:
    if others := living_runs(name):
        log(
            "warning",
            f"{name} runs already, in {others[0].folder}. Clients that ask for {name} will find this run, since it is "
            f"newer. To replace the one that runs: pipeline reload {name}",
        )


def _warn(prepared: Preparation, log: Callable[[str, str], None]) -> None:
    """Say what is other than the config says, or slower than it need be."""
    for level, note in prepared.of_link:
        log(level, f"link: {note}")
    segments = prepared.loaded.config.segments
    if not isinstance(segments, str) and (disk := disk_under(segments.dir)) is not None:
        why = f"{segments.dir} is on {disk}, a disk, to which the kernel writes each slot"
        log("warning", f"segments.dir: {why}; mount a tmpfs there")


def _named(loaded: LoadedConfig, inputs: list[str], output: str | None) -> dict[str, Any]:
    """What to run. Millions of files are for the feeder to find; here it is enough that there is one of each."""
    run = loaded.config.run
    named = inputs or relative_to_here(run.inputs, loaded.base_dir)
    if not named:
        raise ConfigError(f"nothing to run: name files, or give {loaded.path} a run.inputs, or use --serve")
    expansion = expand(named, run.files, first_only=True, without=output)
    if output not in (None, STDOUT) and any(is_same_file(name, os.path.realpath(output)) for name in named):
        raise ConfigError(f"--output {output}: this is one of the files to run; write to another")
    if not expansion.files:
        raise ConfigError("\n".join(expansion.empty))
    # It has a stdin of its own, on which the supervisor's life depends.
    stdin = os.dup(0) if STDIN in expansion.files else None
    return {"named": list(named), "patterns": list(run.files), "stdin": stdin}


def _refuse_beside_cameras(
    output: str | None, *, overwrite: bool, append: bool, rest: dict[str, object]
) -> None:
    """Refuse options that are about files."""
    if wrong := [name for name, value in rest.items() if value]:
        raise ConfigError(f"{wrong[0]} is about files, and this run is of the config's sources: leave it out")
    if output is None and (overwrite or append):
        raise ConfigError(f"--{'overwrite' if overwrite else 'append'} is about --output: say where the answers go")
    if overwrite and append:
        raise ConfigError("--overwrite and --append contradict each other: leave one of them out")
    if output is not None and (output == STDOUT or output.endswith("/") or Path(output).is_dir()):
        raise ConfigError(f"--output {output}: expected the name of a file, into which several sources write lines")
    if output is None:
        return
    path = Path(output)
    if overwrite:
        path.unlink(missing_ok=True)
    elif not append and path.is_file() and path.stat().st_size:
        raise ConfigError(f"--output {output}: it exists; --append goes on behind it, --overwrite replaces it")


def _made(output: str | None) -> str:
    """The path of a file that several processes append to; it is this user's alone, as pictures of a camera are."""
    if output is None:
        return ""
    try:
        os.close(os.open(output, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600))
    except OSError as error:
        raise ConfigError(f"--output {output}: cannot be written: {error.strerror}") from None
    return str(Path(output).absolute())


def _written(loaded: LoadedConfig, output: str | None, *, overwrite: bool, append: bool) -> dict[str, Any]:
    """Where the answers go."""
    if output is None and (overwrite or append):
        raise ConfigError(f"--{'overwrite' if overwrite else 'append'} is about --output: say where the answers go")
    if output is not None:
        # Here: it loads numpy, which a run that serves does without.
        from pipeline.feeding.output import refuse_output

        refuse_output(output, overwrite=overwrite, append=append)
    return {"output": output, "append": append, "pictures": list(loaded.config.run.pictures)}


def pull_models(loaded: LoadedConfig) -> None:
    """Fetch what the stages' options name out of the catalogue, if it is not here yet."""
    for stage in loaded.config.stages:
        for value in stage.options.values():
            if isinstance(value, str) and value in ASSETS and not (cache_dir() / ASSETS[value].file).exists():
                asset = ASSETS[value]
                say(f"fetching {value} ({asset.nbytes / 1e6:.1f} MB, {asset.licence}) ...")
                try:
                    pull(value)
                except ModelError as error:
                    raise StartError(str(error)) from error
