"""The supervisor process, `pipeline run` itself: the thin shell around `supervision`.

It makes the run's folder and segments, spawns the children, collects their exit statuses, passes on
what they print, and leaves nothing behind. It touches no request.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.errors import StartError, WireError
from pipeline.graph.outline import outline_of
from pipeline.graph.plan import Plan
from pipeline.interpreter import python_command
from pipeline.lifeline import StarterWatch
from pipeline.logs.log import OperatorLog
from pipeline.sd_notify import NotifySocket
from pipeline.supervisor.birth import boot_of, environment_of
from pipeline.supervisor.folder import look_after_folder, make_folder
from pipeline.supervisor.instructions import Child, Instruction, Interrupt, Kill, Log, NewEpoch, Report, Spawn, Tell
from pipeline.supervisor.last_words import LastWords
from pipeline.supervisor.lifecycle import hear, run_to_end
from pipeline.supervisor.limits import raise_file_limit
from pipeline.supervisor.memory_kills import MemoryKills, out_of_memory_kills
from pipeline.supervisor.orphans import MARK, Orphans
from pipeline.supervisor.process import ChildProcess
from pipeline.supervisor.records import FlightRecords
from pipeline.supervisor.reporting import Reporting
from pipeline.supervisor.roles import ACCESS, FEEDER, ROLES, Role
from pipeline.supervisor.rolling import Rolling
from pipeline.supervisor.run_log import RunLog
from pipeline.supervisor.segments import damage_of, make_segments, make_segments_in_time, unlink_segments
from pipeline.supervisor.service import Service
from pipeline.supervisor.signals import StopSignals
from pipeline.supervisor.succession import OWN, Launch
from pipeline.supervisor.successors import Root, Successors, step_of
from pipeline.supervisor.supervision import STOPPED_EARLY, Exit, Phase, Supervision
from pipeline.topology.refusals import refusal_of
from pipeline.wire.address import SCHEDULER, SUPERVISOR, Address
from pipeline.wire.links import Outbox, connect, forget, listen
from pipeline.wire.messages import (
    Drained,
    Failed,
    HandOver,
    Interrupted,
    Keep,
    Kept,
    Message,
    Ping,
    Planned,
    Pong,
    PoolAddress,
    Ready,
    Reload,
    Reloads,
    ReloadStep,
    Reset,
)
from pipeline.wire.run_dir import remove_dead_runs
from pipeline.wire.run_folder import RunFolder
from shm.segment import Segment

__all__ = ["supervise"]

_TICK_S = 0.5
_SHORTEST_TICK_S = 0.005
_WHOLE_S = 1.0
_LAST_WORDS_MS = 50
"""How long what a process has said before its end may be on its way."""
_FILES = "it runs files: only a pipeline that serves can be reloaded"


def supervise(
    plan: Plan,
    *,
    feeder: dict[str, Any] | None = None,
    log: OperatorLog,
    on_ready: Callable[[Path], None] | None = None,
    roles: Sequence[Role] = ROLES,
    launch: Launch | None = None,
    root: Root | None = None,
    starter: StarterWatch | None = None,
    notify: NotifySocket | None = None,
) -> int:
    """Run a pipeline until its feeder is done, or until it is told to stop; the exit code.

    If new versions have taken over (`pipeline reload`), until those are told to stop, and their exit code.

    Args:
        plan: what to run.
        feeder: what the feeder must send (see `pipeline.processes.feeder`); None: serve until a signal.
        log: where it says what; the caller closes it.
        on_ready: called with the run's folder once every stage is ready.
        roles: the kinds of children that the run has.
        launch: how the run was started, so that it can be reloaded; None: it cannot.
        root: the run is a new version, which that supervisor has started.
        starter: the program whose end ends the run at once.
        notify: where the service manager listens; the caller closes it.

    Raises:
        StartError: it could not be started; nothing is left running or in /dev/shm.
    """
    raise_file_limit()
    roles = (*roles, ACCESS) if log.settings.access else roles
    with StopSignals() as signals, RunLog(log) as kept:
        for dead in remove_dead_runs(plan.segment_dir):
            kept("info", f"removed what {dead.name} left, a run that is dead")
        folder = make_folder(plan, root)
        kept.open(folder.path.name)
        kept("info", f"starting {outline_of(plan)}")
        made: list[Segment] = []
        try:
            if root is not None:
                root.started(folder.path)
            for _ in make_segments(plan, folder.path, made, recorder=True):
                if signals.received:
                    kept("info", STOPPED_EARLY)
                    return kept.ended(0 if feeder is None else 1)
            shell = _SupervisorShell(
                plan, folder, made, feeder, kept, on_ready, roles, signals, launch, root, starter, notify
            )
            try:
                return kept.ended(shell.run())
            finally:
                shell.close()
        finally:
            unlink_segments(made)
            folder.remove()


class _SupervisorShell:
    def __init__(
        self,
        plan: Plan,
        folder: RunFolder,
        made: list[Segment],
        feeder: dict[str, Any] | None,
        log: RunLog,
        on_ready: Callable[[Path], None] | None,
        roles: Sequence[Role],
        signals: StopSignals,
        launch: Launch | None,
        root: Root | None,
        starter: StarterWatch | None,
        notify: NotifySocket | None,
    ) -> None:
        self._plan = plan
        self._folder = folder
        self._run_dir = folder.path
        self._made = made  # for each pool of the plan, and the flight records as the last; the caller unlinks them
        observers = sum(len(role.places(plan, feeder is not None)) for role in roles if role.observes)
        #: Values that only children of this role are told at birth.
        self._extra = {
            FEEDER.title: feeder or {}, ACCESS.title: log.settings, SCHEDULER.kind: {"observers": observers},
        }  # fmt: skip
        self._log = log
        self._on_ready = on_ready or (lambda run_dir: None)
        succeeds = root is not None and root.succeeds
        self._supervision = Supervision(plan, feeder=feeder is not None, roles=roles, succeeds=succeeds)
        self._rolling = Rolling(self._supervision)
        self._root = root
        self._processes: dict[Address, ChildProcess] = {}
        self._outboxes: dict[Address, Outbox] = {}
        self._inbox = listen(self._run_dir, SUPERVISOR)
        self._signals = signals
        self._starter = starter
        self._orphans = Orphans()
        why_not = _FILES if root is None else root.refusal
        own, hand_over = launch if root is None else None, partial(self._hand_over, self._run_dir.name)
        ways = hand_over, self._let_go, self._roll
        self._successors = Successors(folder, own, why_not, self._log, self._orphans, *ways)
        ask = partial(self._tell, SCHEDULER)
        self._service = Service(notify, root, self._supervision, self._successors, ask)
        self._reporting = Reporting(log, self._supervision, self._successors if root is None else None, ask)
        self._last_words = LastWords()
        self._unborn: list[tuple[Address, str]] = []  # children that could not be spawned, and why
        self._outputs: dict[int, Address] = {}
        self._records = FlightRecords(plan)
        self._memory_kills = MemoryKills(out_of_memory_kills())
        timeouts = [stage.timeout_ms / 1000 for stage in plan.stages if stage.timeout_ms is not None]
        self._folder_is_lost = False  # it was removed, and could not be made anew so far
        self._whole_until = 0.0  # when the segments and the folder are looked at again
        #: A hung worker is noticed at most a quarter of its `timeout_ms` late.
        self._tick_s = min([_TICK_S, *(max(_SHORTEST_TICK_S, timeout / 4) for timeout in timeouts)])

    def run(self) -> int:
        """The loop: returns when no child is left, nor any later version."""
        return run_to_end(self._supervision, self._successors, self._carry_out, self._step, self._kill)

    def _kill(self) -> None:
        for process in self._processes.values():
            process.send_signal(signal.SIGKILL)

    def _let_go(self) -> None:
        """The own run has ended: nothing of it is kept but its folder, which leads to the versions that live."""
        unlink_segments(self._made)
        self._made.clear()
        self._folder.mark_ended()
        self._tick_s = _TICK_S

    def _hand_over(self, successor: str) -> None:
        """Another version has taken over: clients are sent to the folder of that name, and the run drains."""
        self._carry_out(self._supervision.replaced(successor, time.monotonic()))

    def _roll(self, asked: Reload) -> None:
        """A process asks for new workers of a stage of the own run."""
        self._carry_out(self._rolling.begin(asked, time.monotonic()))

    def _report(self, report: Report) -> None:
        if self._root is not None:
            self._root.rolls(report)
        else:
            self._successors.told(step_of(report, OWN))

    def _step(self) -> None:
        supervision = self._supervision
        now = time.monotonic()
        sleepers = (supervision, self._rolling, self._successors, self._service)
        wakes = [at for sleeper in sleepers if (at := sleeper.wake_at) is not None]
        wait = max(0.0, min(self._tick_s, *(at - now for at in wakes)) if wakes else self._tick_s)
        readable = self._inbox.wait([self._signals.descriptor, *self._outputs], int(wait * 1000))
        if self._signals.descriptor in readable:
            self._signals.clear()
        if self._signals.reopens():
            self._log.reopen()
            self._successors.signal(signal.SIGUSR1)
        self._log.flush()
        hear(supervision, self._successors, self._carry_out, self._signals, self._starter)
        for fd in readable & self._outputs.keys():
            self._pass_on(self._outputs[fd])
        for message in self._inbox.receive():
            self._take(message)
        self._bury()
        self._look_for_hung()
        if time.monotonic() >= self._whole_until:
            self._look_for_damage()
            self._look_after_folder()
            self._memory_kills.note(out_of_memory_kills())
        now = time.monotonic()
        self._carry_out([*supervision.tick(now), *self._rolling.tick(now)])
        self._successors.tick(time.monotonic())
        ready = supervision.phase is Phase.RUNNING
        if ready is not self._folder.ready:
            self._folder.mark_ready(ready)
        self._reporting.turn()
        self._service.turn()

    def _take(self, message: object) -> None:
        supervision = self._supervision
        if isinstance(message, Ready):
            child = self._sender_of(message)
            if child is None:
                return
            was = supervision.phase
            self._log("debug", f"{child} is ready")
            self._carry_out([*supervision.ready(child), *self._rolling.ready(child, time.monotonic())])
            # Now, while its socket is there: a child that is connected is reached even if the folder is removed.
            self._outbox_of(child)
            if was is Phase.STARTING and supervision.phase is Phase.RUNNING:
                self._folder.mark_ready(True)
                self._on_ready(self._run_dir)
        elif isinstance(message, Failed):
            # Whether the segments are whole is found out before the exit is reported: a worker that found no segments
            # must not count against its stage.
            self._look_for_damage()
            child = Address.worker(message.worker)
            why = message.error
            failed = supervision.failed(child, why, message.traceback)
            self._carry_out([*failed, *self._rolling.failed(child, why, time.monotonic())])
        elif isinstance(message, Drained):
            self._carry_out(supervision.drained(message.status.unfinished, time.monotonic()))
        elif isinstance(message, Keep):
            self._keep(message)
        elif isinstance(message, Planned):
            self._carry_out(self._rolling.planned(message, time.monotonic()))
        elif isinstance(message, Reload) and message.stage and self._root is not None:
            self._roll(message)
        elif isinstance(message, Reload):
            self._successors.reload(message, able=supervision.phase is Phase.RUNNING, now=time.monotonic())
        elif isinstance(message, ReloadStep):
            self._successors.told(message)
        elif isinstance(message, Interrupted):
            # The first of the root is never the second here, whatever has come before: as a hangup.
            now = time.monotonic()
            again = message.again
            self._carry_out(supervision.interrupted_again() if again else supervision.interrupted(now, hangup=True))
        elif isinstance(message, HandOver):
            self._folder.replace(message.successor)
            self._hand_over(message.successor)
        elif isinstance(message, Reloads):
            self._reporting.take(message)
        elif isinstance(message, (Ping, Pong)):
            self._service.take(message)
        elif isinstance(message, WireError):
            self._log.refused(f"refused a message: {message}")

    def _sender_of(self, ready: Ready) -> Address | None:
        """The child that has sent a message: a worker names its number, any other child is known by its process id."""
        if ready.worker >= 0:
            return Address.worker(ready.worker)
        return next((child for child, process in self._processes.items() if process.pid == ready.pid), None)

    def _keep(self, keep: Keep) -> None:
        """Write the capsule of a request that killed its workers; its slots wait until then."""
        # Here: it loads numpy, which a supervisor needs for nothing else.
        from pipeline.supervisor.capsule import keep_capsule

        kept = keep_capsule(self._supervision.plan, keep, self._made[:-1], self._log)
        self._tell(SCHEDULER, Kept(keep.request, kept))

    def _look_for_damage(self) -> None:
        """Whether a segment was truncated or removed from outside: no process could attach it any more."""
        self._whole_until = time.monotonic() + _WHOLE_S
        for segment in self._made:
            if (why := damage_of(segment)) is not None:
                self._carry_out(self._supervision.damaged(why))
                return

    def _look_after_folder(self) -> None:
        self._folder_is_lost = look_after_folder(self._folder, self._inbox, self._log, lost=self._folder_is_lost)

    def _look_for_hung(self) -> None:
        for overrun in self._records.overruns(time.monotonic_ns()):
            self._carry_out(self._supervision.overran(*overrun))

    def _pass_on(self, address: Address, *, dead: bool = False) -> None:
        process = self._processes[address]
        fd = process.output
        child = self._supervision.children.get(address)
        title = child.title if child else str(address)
        for entry in process.read(title, dead=dead):
            self._log.pass_on(self._last_words.shown(title.partition("/")[0], entry))
        if process.output is None and fd is not None:
            del self._outputs[fd]

    def _bury(self) -> None:
        """Collect the exit status of every child that is dead, and what it has started."""
        while self._unborn:
            address, why = self._unborn.pop(0)
            now = time.monotonic()
            self._carry_out([*self._supervision.unborn(address, why, now), *self._rolling.gone(address, why, now)])
        for address, process in list(self._processes.items()):
            status = process.exit_status()
            if status is None:
                continue
            # A failed child has said why before it died; that is read before its death is reported. One that was killed
            # has said nothing.
            self._take_last_words(_LAST_WORDS_MS if status > 0 else 0)
            if process.output is not None:
                fd = process.output
                self._pass_on(address, dead=True)
                self._outputs.pop(fd, None)
            outbox = self._outboxes.pop(address, None)
            if outbox is not None:
                outbox.close()
            del self._processes[address]
            process.close()
            self._orphans.died(process.pid, self._mark_of(address))
            child = self._supervision.children[address]
            exit, now = self._exit_of(child, process, status), time.monotonic()
            gone = self._supervision.exited(address, exit, now)
            self._carry_out([*gone, *self._rolling.gone(address, exit.how, now)])
            for post in child.posts:
                forget(self._run_dir, Address.worker(post.number))
        self._successors.bury(self._take_last_words)
        self._orphans.sweep({process.pid for process in self._processes.values()} | self._successors.pids)

    def _take_last_words(self, for_ms: int = _LAST_WORDS_MS) -> None:
        if for_ms:
            self._inbox.wait((), for_ms)
        for message in self._inbox.receive():
            self._take(message)

    def _exit_of(self, child: Child, process: ChildProcess, status: int) -> Exit:
        out_of_memory = self._memory_kills.struck(out_of_memory_kills())
        last = self._records.end(child.address)
        return Exit(process.story(out_of_memory), status, last.running, last.finished, out_of_memory, last.rows)

    def _mark_of(self, child: Address) -> str:
        return f"{self._run_dir.name}/{child.kind}-{child.number}"

    def _carry_out(self, instructions: Sequence[Instruction]) -> None:
        # First: who sees its children end knows that they were told to.
        self._folder.mark_stopping(self._supervision.phase.ends)
        for instruction in instructions:
            if isinstance(instruction, Spawn):
                self._spawn(instruction.child)
            elif isinstance(instruction, Tell):
                self._tell(instruction.receiver, instruction.message)
            elif isinstance(instruction, (Interrupt, Kill)):
                if (process := self._processes.get(instruction.child)) is not None:
                    process.send_signal(signal.SIGTERM if isinstance(instruction, Interrupt) else signal.SIGKILL)
            elif isinstance(instruction, NewEpoch):
                self._new_epoch(instruction.epoch)
            elif isinstance(instruction, Report):
                self._report(instruction)
            elif isinstance(instruction, Log):
                self._log(instruction.level, instruction.text)
        self._log.phase(self._supervision.phase.value)  # here: a run may drain and stop within one turn

    def _new_epoch(self, epoch: int) -> None:
        """Other segments in place of all, and every worker told; its Ready goes to the next scheduler."""
        *old, records = self._made
        recorder = damage_of(records) is not None
        # The old names are removed first: their memory is freed as soon as workers and clients unmap it.
        unlink_segments(self._made if recorder else old)
        fresh = make_segments_in_time(self._plan, self._run_dir, recorder=recorder, make_room=self._make_room)
        self._made[:] = fresh if recorder else [*fresh, records]
        if recorder:
            # A worker cannot be told of another flight record while it runs: the workers are started again with it.
            self._kill_workers()
        pools = tuple(PoolAddress(s.address.kind, s.address.name, p.name) for s, p in zip(fresh, self._plan.pools))
        for worker in self._records.processes:
            self._tell(worker, Reset(epoch, pools))

    def _make_room(self, error: StartError) -> None:
        self._log("warning", f"no room beside the old segments, so every worker starts again: {error}")
        # Clients let go by themselves, as soon as they learn of the scheduler's death.
        self._kill_workers()

    def _kill_workers(self) -> None:
        for worker in self._records.processes:
            self._processes[worker].send_signal(signal.SIGKILL)

    def _spawn(self, child: Child) -> None:
        # It binds its socket there.
        self._look_after_folder()
        extra = {**self._extra.get(child.role.title, {}), **child.extra}
        if child.role.gates_takeover:
            extra = {**extra, "gates": self._supervision.gates(child)}
        if child.posts:
            self._records.begin(child, self._made[-1])
        boot = boot_of(child, self._run_dir, self._made, extra, self._log.level_of_children)
        command = python_command(child.role.module, folders=[self._plan.base_dir])
        env = {**environment_of(child), MARK: self._mark_of(child.address)}
        kept = [extra["stdin"]] if extra.get("stdin") is not None else []
        try:
            process = ChildProcess(command, boot.line(), env, own_terminal=child.role.own_terminal, kept=kept)
        except OSError as error:
            why = f"it could not be started: {refusal_of(error)}"
            if self._supervision.phase is Phase.STARTING:
                raise StartError(f"{child.title}: {why}") from error
            self._records.forget(child.address)
            # Later, since more instructions may follow this one.
            self._unborn.append((child.address, why))
            return
        self._processes[child.address] = process
        self._log("debug", f"{child.title} is started as process {process.pid}")
        self._orphans.born(process.pid)
        if process.output is not None:
            self._outputs[process.output] = child.address

    def _tell(self, receiver: Address, message: Message) -> None:
        if (outbox := self._outbox_of(receiver)) is not None:
            outbox.send(message)

    def _outbox_of(self, child: Address) -> Outbox | None:
        """The connection to a child; None if it is dead, or does not listen."""
        if child not in self._processes or not self._supervision.children[child].role.listens:
            return None
        outbox = self._outboxes.get(child)
        if outbox is None:
            outbox = self._outboxes[child] = connect(self._run_dir, child)
        return outbox

    def close(self) -> None:
        """Close every descriptor; children that still live are killed and waited for."""
        self._kill()
        deadline = time.monotonic() + 10
        for process in self._processes.values():
            while process.exit_status() is None and time.monotonic() < deadline:
                time.sleep(0.01)
            process.close()
        self._successors.close()
        self._orphans.close()
        # Now that no process of theirs is left to make it anew.
        self._successors.remove_left()
        for outbox in self._outboxes.values():
            outbox.close()
        self._records.close()
        self._inbox.close()
