"""`pipeline run --in-process`: from a config to the exit code of its run, in one process and thread."""

from __future__ import annotations

import bdb
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, TypeVar, cast

from msgspec.structs import replace

from pipeline.client.client import Client
from pipeline.config.loader import LoadedConfig
from pipeline.errors import StartError
from pipeline.graph.description import StageDescription
from pipeline.graph.plan import Plan, PoolPlan, StagePlan
from pipeline.graph.planning import make_plan
from pipeline.inprocess.client import LocalClient
from pipeline.inprocess.pipeline import LocalPipeline
from pipeline.logs.entry import Entry
from pipeline.logs.forms import text_of
from pipeline.prepare.describing import refuse_wrong
from pipeline.processes.describe import description_of, refusal_of
from pipeline.processes.feeder import feed
from pipeline.topology.machine import read_machine
from pipeline.worker.failures import interruption, message_of
from pipeline.worker.logs import install
from shm.errors import SegmentError
from stages.declared import declared
from stages.errors import BadInput, StageBroken
from stages.loading import load_stage
from stages.stage import Stage, StageContext

__all__ = ["local_pipeline", "run_in_process"]

EXIT_INTERRUPTED = 130

_OURS = str(Path(__file__).resolve().parents[1]) + os.sep
_T = TypeVar("_T")


def run_in_process(loaded: LoadedConfig, extra: dict[str, Any]) -> int:
    """Run files through the stages of a config, here.

    Under a debugger (`python -m pdb -m pipeline run --in-process ...`), and with `python -i`, an exception of a stage
    is not caught: it ends the run, and post-mortem has its frames. Otherwise its traceback is shown, and the next file
    has its turn.

    Args:
        loaded: the config.
        extra: what the feeder must know of the files; see `pipeline.processes.feeder`.

    Returns:
        The exit code: 0 all answered, 1 some were not, 130 interrupted.

    Raises:
        ConfigError: the config or a stage in it is wrong.
        StartError: a stage needs a model that is not there, or its `setup` failed.
    """
    # Here Ctrl-C shows where a stage is; its meaning in a run of several processes does not apply.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    errors = _Errors()
    with local_pipeline(loaded, errors) as pipeline:
        try:
            # It has all that a feeder asks of a client.
            return feed(cast("Client", LocalClient(pipeline)), extra, loaded.path.name, plain=True)
        except KeyboardInterrupt as error:
            # The user wants to know where the stage was.
            print(interruption(error), file=sys.stderr)
            return EXIT_INTERRUPTED
        except bdb.BdbQuit:
            print("error: left in the debugger; the files from here on are not run", file=sys.stderr)
            return 1
        except SystemExit as error:
            called = f"a stage called sys.exit({error.code!r})"
            print(f"error: {called}; the files from here on are not run:", file=sys.stderr)
            traceback.print_exception(type(error), error, _users(error))
            return 1
        except StageBroken as broken:
            if errors.let_go:
                raise
            # In a run of several processes its worker would be started again. This process cannot be.
            print(f"error: {broken!r}; the files from here on are not run:", file=sys.stderr)
            traceback.print_exception(type(broken), broken, _users(broken))
            return 1


@contextmanager
def local_pipeline(loaded: LoadedConfig, raised: Callable[[str, Exception], None]) -> Iterator[LocalPipeline]:
    """The pipeline of a config in this process, its stages set up; they are torn down at the end.

    Args:
        raised: told of each exception that a stage's failure is about to become: (stage, exception).

    Raises:
        ConfigError, StartError: as `run_in_process`.
    """
    _import_as_workers_do(loaded)
    pipelines: list[LocalPipeline] = []
    packages = [stage.use.partition(":")[0].partition(".")[0] for stage in loaded.config.stages]
    install(lambda: pipelines[0].under_way if pipelines else ("", []), packages, _show)
    stages = _load(loaded)
    described = {name: StageDescription.from_dict(description_of(stage)) for name, stage in stages.items()}
    plan = _unhurried(make_plan(loaded, described, read_machine()))
    if any(worker.device != "cpu" for stage in plan.stages for worker in stage.workers):
        os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
    with ExitStack() as stack:
        try:
            pipeline = LocalPipeline(plan, [stages[stage.name] for stage in plan.stages], raised)
        except SegmentError as error:
            raise StartError(str(error)) from error
        pipelines.append(pipeline)
        stack.callback(pipeline.close)
        for mine in plan.stages:
            _set_up(stack, mine, stages[mine.name], pipeline)
        yield pipeline


def _show(entry: Entry) -> None:
    # In one piece: otherwise what another thread prints would come in between.
    sys.stderr.write("".join(f"{line}\n" for line in text_of(entry)))
    sys.stderr.flush()


class _Errors:
    """Shows the exceptions of stages, each place once; or lets them go, if a debugger waits for them."""

    def __init__(self) -> None:
        self.let_go = _is_awaited()
        self._shown: set[tuple[str, type[Exception], tuple[str, int]]] = set()

    def __call__(self, stage: str, error: Exception) -> None:
        if isinstance(error, bdb.BdbQuit):
            raise error
        if isinstance(error, BadInput):
            # The stage meant this for the sender of the request: the line of its file shows it.
            return
        if self.let_go:
            raise error
        frames = traceback.extract_tb(error.__traceback__)
        place = (frames[-1].filename, frames[-1].lineno or 0) if frames else ("", 0)
        key = stage, type(error), place
        if key not in self._shown:
            self._shown.add(key)
            sys.stdout.flush()
            print(f"stage {stage}:", file=sys.stderr)
            traceback.print_exception(type(error), error, _users(error))


def _is_awaited() -> bool:
    """Whether an exception ends at a person: in a debugger that runs this process, or at the prompt of `python -i`."""
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_code.co_filename == bdb.__file__:
            return True
        frame = frame.f_back
    return bool(sys.flags.inspect)


def _users(error: BaseException) -> TracebackType | None:
    """Its traceback from the first frame on that is not of the pipeline itself."""
    found = error.__traceback__
    while found is not None and found.tb_frame.f_code.co_filename.startswith(_OURS):
        found = found.tb_next
    return found or error.__traceback__


def _import_as_workers_do(loaded: LoadedConfig) -> None:
    """Add the config's folder and the current one after everything else, and set what stages say under `env:`."""
    sys.path += [folder for folder in (str(loaded.base_dir), os.getcwd()) if folder not in sys.path]
    said: dict[str, tuple[str, str]] = {}
    for stage in loaded.config.stages:
        for name, value in stage.env.items():
            before = said.setdefault(name, (stage.name, value))
            if before[1] != value:
                print(
                    f"warning: env {name}: stage {before[0]} says {before[1]!r}, stage {stage.name} {value!r}; in one "
                    f"process {before[1]!r} holds for both",
                    file=sys.stderr,
                )
    os.environ.update({name: value for name, (_, value) in said.items()})


def _load(loaded: LoadedConfig) -> dict[str, Stage]:
    """The stages by name, each constructed once."""
    stages: dict[str, Stage] = {}
    answers: list[dict[str, Any]] = []
    awaited = _is_awaited()
    for stage in loaded.config.stages:
        try:
            made = stages[stage.name] = load_stage(stage.use, stage.options, loaded.base_dir)
        except Exception as error:
            if awaited and error.__cause__ is not None:
                raise
            answers.append(refusal_of(error))
        else:
            answers.append(description_of(made))
    refuse_wrong(loaded, answers)
    return stages


def _unhurried(plan: Plan) -> Plan:
    """The plan without deadlines, which a breakpoint would overrun, and with room for the largest outputs in each slot.

    With slots of several sizes a stage whose outputs find no room is run again, which would stop twice in a debugger.
    Memory of this process that nothing is written to costs nothing.
    """
    largest: dict[str, PoolPlan] = {}
    for pool in plan.pools:
        if pool.producer not in largest or pool.slot_bytes > largest[pool.producer].slot_bytes:
            largest[pool.producer] = pool
    return replace(plan, deadline_ms=None, queue_max=None, rows=1, pools=tuple(largest.values()))


def _set_up(stack: ExitStack, plan: StagePlan, stage: Stage, pipeline: LocalPipeline) -> None:
    """Set the stages up as a worker does; at the end they are torn down, the last first."""
    placed = plan.workers[0]
    says = declared(stage)
    context = StageContext(stage=plan.name, threads=placed.threads, device=says.device_of(placed.device))
    _hook(plan, "setup", says.setup, context)
    says = declared(stage)
    if says.teardown is not None:
        stack.callback(says.teardown)
    _hook(plan, "attach_memory", says.attach_memory, pipeline.buffers_of(plan))


def _hook(plan: StagePlan, name: str, hook: Callable[[_T], object] | None, argument: _T) -> None:
    """Call one of the stage's hooks, if it has it.

    Raises:
        StartError: it raised; with the traceback.
    """
    if hook is None:
        return
    try:
        hook(argument)
    except Exception as error:
        if _is_awaited():
            raise
        story = "".join(traceback.format_exception(type(error), error, _users(error)))
        why = f"{type(error).__name__}: {message_of(error)}"
        raise StartError(f"stage {plan.name}: {name} failed: {why}\n{story}") from error
