"""The front: the supervisor of a pipeline that is divided into shards. The thin shell around `sharding`.

    front ──boot document, then the lifeline──▶ shard      its supervisor's stdin; it cannot outlive the front
          ──HandOver, Interrupted, Ping──▶ shard ──ReloadStep, Pong──▶ front    by their inboxes

To all others it is the supervisor of the pipeline: its folder has the pipeline's name, it takes signals and
reloads, and tells the service manager how it is. It has no segment and no scheduler, and touches no request. A
shard's supervisor prints to the front's own stdout and stderr.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from pipeline.errors import StartError, WireError
from pipeline.graph.outline import outline_of
from pipeline.graph.plan import Plan
from pipeline.interpreter import python_command
from pipeline.lifeline import StarterWatch
from pipeline.logs.log import OperatorLog
from pipeline.sd_notify import NotifySocket
from pipeline.streams import unannounce
from pipeline.supervisor.folder import look_after_folder
from pipeline.supervisor.instructions import Log, Report
from pipeline.supervisor.lifecycle import hear, run_to_end
from pipeline.supervisor.limits import raise_file_limit
from pipeline.supervisor.orphans import MARK, Orphans
from pipeline.supervisor.process import ChildProcess, describe_exit
from pipeline.supervisor.run_log import RunLog
from pipeline.supervisor.service import Service
from pipeline.supervisor.shard import ShardOrigin
from pipeline.supervisor.sharding import (
    HandOverShard,
    Instruction,
    KillShard,
    Lead,
    PassOnTo,
    PingShard,
    Sharding,
    StartShard,
    number_of,
)
from pipeline.supervisor.signals import StopSignals
from pipeline.supervisor.succession import OWN, Launch
from pipeline.supervisor.successors import Root, Successors, step_of
from pipeline.supervisor.supervision import Phase
from pipeline.topology.refusals import refusal_of
from pipeline.wire.address import SUPERVISOR
from pipeline.wire.links import connect, listen
from pipeline.wire.messages import HandOver, Interrupted, Message, Milestone, Ping, Pong, Reload, Reloads, ReloadStep
from pipeline.wire.run_dir import remove_dead_runs
from pipeline.wire.run_folder import RunFolder
from pipeline.wire.shards import ShardLinks
from pipeline.wire.status import ReloadsStatus

__all__ = ["supervise_shards"]

_TICK_S = 0.5
_WHOLE_S = 1.0
_LAST_WORDS_MS = 50
_SENT_MS = 1000
_LEFT_S = 5.0
"""How long after a shard was killed something of it is looked for: its children live for a moment longer."""
_REFUSED = Report(
    Milestone.FAILED,
    "it has shards, in which a stage is not replaced alone: reload the whole pipeline, without --stage",
)


def supervise_shards(
    plans: Sequence[Plan],
    environments: Sequence[Mapping[str, str]],
    *,
    log: OperatorLog,
    on_ready: Callable[[Path], None] | None = None,
    launch: Launch | None = None,
    root: Root | None = None,
    starter: StarterWatch | None = None,
    notify: NotifySocket | None = None,
) -> int:
    """Run the shards of a pipeline until they are told to stop; the exit code. As `supervise`, which has the arguments.

    Args:
        plans: of each shard.
        environments: variables that the processes of each get beside this one's own.

    Raises:
        StartError: a shard could not be started; nothing is left running or in /dev/shm.
    """
    raise_file_limit()
    first = plans[0]
    with StopSignals() as signals, RunLog(log) as kept:
        root_folder = None if root is None else root.folder
        folder = RunFolder(first.name, root_folder, first.group, first.segment_dir, is_front=True)
        kept.open(folder.path.name)
        kept("info", f"starting {len(plans)} shards, of which the first is {outline_of(first)}")
        if not log.settings.file:
            # Shards print to this terminal themselves, and know nothing of a line that waits there for its end.
            unannounce()
        try:
            links = ShardLinks(folder.path, first.group)
            if root is not None:
                root.started(folder.path)
            shell = _FrontShell(
                plans, environments, folder, links, kept, on_ready, signals, launch, root, starter, notify
            )
            try:
                return kept.ended(shell.run())
            finally:
                shell.close()
        finally:
            folder.remove()


class _FrontShell:
    def __init__(
        self,
        plans: Sequence[Plan],
        environments: Sequence[Mapping[str, str]],
        folder: RunFolder,
        links: ShardLinks,
        log: RunLog,
        on_ready: Callable[[Path], None] | None,
        signals: StopSignals,
        launch: Launch | None,
        root: Root | None,
        starter: StarterWatch | None,
        notify: NotifySocket | None,
    ) -> None:
        self._plans = plans
        self._environments = environments
        self._folder = folder
        self._links = links
        self._log = log
        self._on_ready = on_ready
        self._signals = signals
        self._root = root
        self._starter = starter
        self._sharding = Sharding(len(plans), plans[0].drain_s)
        self._processes: dict[int, ChildProcess] = {}
        self._inbox = listen(folder.path, SUPERVISOR)
        self._orphans = Orphans()
        why_not = "" if root is None else root.refusal
        own = launch if root is None else None
        self._successors = Successors(
            folder, own, why_not, log, self._orphans, self._replaced, self._let_go, self._refuse_roll
        )
        self._service = Service(notify, root, self._sharding, self._successors, self._ask)
        self._folder_is_lost = False
        self._whole_until = 0.0
        #: Until when what a killed shard has left is looked for: monotonic seconds; 0: none was killed.
        self._killed_until = 0.0
        #: What has become of reloads, as the root has told it; and what each shard was told last, by its folder.
        self._reloads: ReloadsStatus | None = None
        self._told: dict[str, ReloadsStatus] = {}
        #: Shards that could not be started, and why.
        self._unborn: list[tuple[int, str]] = []

    def run(self) -> int:
        """The loop: returns when no shard is left, nor any later version."""
        return run_to_end(self._sharding, self._successors, self._carry_out, self._step, self._kill)

    # -- what later versions ask of it ------------------------------------------------------------

    def _replaced(self) -> None:
        self._carry_out(self._sharding.replaced(self._folder.path.name, time.monotonic()))

    def _let_go(self) -> None:
        self._links.remove()
        self._folder.mark_ended()

    def _refuse_roll(self, asked: Reload) -> None:
        if self._root is not None:
            self._root.rolls(_REFUSED)
        else:
            self._successors.told(step_of(_REFUSED, OWN))

    def _ask(self, ping: Ping) -> None:
        self._carry_out(self._sharding.ask(ping.number))

    # -- the loop ---------------------------------------------------------------------------------

    def _step(self) -> None:
        sharding, now = self._sharding, time.monotonic()
        wakes = [at for each in (sharding, self._successors, self._service) if (at := each.wake_at) is not None]
        wait = max(0.0, min([_TICK_S, *[at - now for at in wakes]]))
        if self._signals.descriptor in self._inbox.wait([self._signals.descriptor], int(wait * 1000)):
            self._signals.clear()
        if self._signals.reopens():
            self._log.reopen()
            for process in self._processes.values():
                process.send_signal(signal.SIGUSR1)
            self._successors.signal(signal.SIGUSR1)
        self._log.flush()
        hear(sharding, self._successors, self._carry_out, self._signals, self._starter)
        for message in self._inbox.receive():
            self._take(message)
        self._bury()
        if time.monotonic() >= self._whole_until:
            self._whole_until = time.monotonic() + _WHOLE_S
            self._folder_is_lost = look_after_folder(self._folder, self._inbox, self._log, lost=self._folder_is_lost)
            if sharding.phase is not Phase.STOPPED:
                self._links.renew()
            if time.monotonic() < self._killed_until:
                self._remove_left()
        self._carry_out(sharding.tick(time.monotonic()))
        self._successors.tick(time.monotonic())
        # As long as one shard takes clients, the pipeline does.
        ready = sharding.phase is Phase.RUNNING and sharding.answers
        if ready is not self._folder.ready:
            self._folder.mark_ready(ready)
        self._pass_reloads_on()
        self._service.turn()

    def _pass_reloads_on(self) -> None:
        """Tell each shard that serves what has become of reloads: people and metrics ask its scheduler."""
        reloads = self._reloads if self._root is not None else self._successors.reloads
        if self._sharding.phase is not Phase.RUNNING or reloads is None:
            return
        shards = [shard for shard in self._sharding.children.values() if shard.ready]
        for shard in shards:
            if self._told.get(shard.folder) != reloads:
                self._tell(shard.number, Reloads(reloads))
        self._told = {shard.folder: reloads for shard in shards}

    def _take(self, message: object) -> None:
        sharding = self._sharding
        if isinstance(message, ReloadStep) and number_of(message.version) >= 0:
            was = sharding.phase
            self._carry_out(sharding.told(message))
            if was is Phase.STARTING and sharding.phase is Phase.RUNNING:
                self._folder.mark_ready(True)
                if self._on_ready is not None:
                    self._on_ready(self._folder.path)
        elif isinstance(message, ReloadStep):
            self._successors.told(message)
        elif isinstance(message, Reload) and message.stage and self._root is not None:
            self._refuse_roll(message)
        elif isinstance(message, Reload):
            self._successors.reload(message, able=sharding.phase is Phase.RUNNING, now=time.monotonic())
        elif isinstance(message, Interrupted):
            now = time.monotonic()
            again = message.again
            self._carry_out(sharding.interrupted_again(now) if again else sharding.interrupted(now, hangup=True))
        elif isinstance(message, HandOver):
            self._folder.replace(message.successor)
            self._carry_out(sharding.replaced(message.successor, time.monotonic()))
        elif isinstance(message, Reloads):
            self._reloads = message.status
        elif isinstance(message, Ping):
            self._service.take(message)
        elif isinstance(message, Pong):
            self._take_pong(message)
        elif isinstance(message, WireError):
            self._log.refused(f"refused a message: {message}")

    def _take_pong(self, pong: Pong) -> None:
        if self._successors.version:
            # Of the later version that serves, which was asked in place of the shards.
            self._service.take(pong)
        elif (number := self._sharding.answered(pong.number)) is not None:
            self._service.take(Pong(number))

    def _bury(self) -> None:
        while self._unborn:
            number, why = self._unborn.pop(0)
            self._carry_out(self._sharding.unborn(number, why, time.monotonic()))
        for number, process in list(self._processes.items()):
            if (status := process.exit_status()) is None:
                continue
            # One that has failed has said why before it ended.
            self._take_last_words()
            del self._processes[number]
            process.close()
            self._orphans.died(process.pid, self._mark_of(number))
            if status < 0:
                self._killed_until = time.monotonic() + _LEFT_S
                self._remove_left()
            self._carry_out(self._sharding.exited(number, status, describe_exit(status), time.monotonic()))
        self._successors.bury(self._take_last_words)
        self._orphans.sweep({process.pid for process in self._processes.values()} | self._successors.pids)

    def _take_last_words(self) -> None:
        self._inbox.wait((), _LAST_WORDS_MS)
        for message in self._inbox.receive():
            self._take(message)

    def _remove_left(self) -> None:
        with suppress(StartError):
            for dead in remove_dead_runs(self._plans[0].segment_dir):
                self._log("info", f"removed what {dead.name} left")

    # -- what is done -----------------------------------------------------------------------------

    def _carry_out(self, instructions: Sequence[Instruction]) -> None:
        # First: who sees its children end knows that they were told to.
        self._folder.mark_stopping(self._sharding.phase.ends)
        for instruction in instructions:
            if isinstance(instruction, StartShard):
                self._start(instruction.number)
            elif isinstance(instruction, PassOnTo):
                self._tell(instruction.number, Interrupted(instruction.again))
            elif isinstance(instruction, HandOverShard):
                self._tell(instruction.number, HandOver(instruction.successor))
            elif isinstance(instruction, PingShard):
                self._tell(instruction.number, Ping(instruction.ping))
            elif isinstance(instruction, KillShard):
                if (process := self._processes.get(instruction.number)) is not None:
                    process.send_signal(signal.SIGKILL)
            elif isinstance(instruction, Lead):
                self._links.lead(instruction.number, Path(instruction.folder).name)
            elif isinstance(instruction, Log):
                self._log(instruction.level, instruction.text)
        self._log.phase(self._sharding.phase.value)

    def _start(self, number: int) -> None:
        plan = self._plans[number]
        origin = ShardOrigin(
            plan, number, str(self._folder.path), os.getpid(), self._root is not None, self._log.log.settings
        )
        command = python_command("pipeline.cli.shard", folders=[plan.base_dir])
        env = {**self._environments[number], MARK: self._mark_of(number)}
        try:
            process = ChildProcess(command, origin.line(), env, own_terminal=True, own_session=True)
        except OSError as error:
            # Later, since more instructions may follow this one.
            self._unborn.append((number, refusal_of(error)))
            return
        self._processes[number] = process
        self._orphans.born(process.pid)

    def _tell(self, number: int, message: Message) -> None:
        shard = self._sharding.children.get(number)
        if shard is not None and shard.folder:
            outbox = connect(Path(shard.folder), SUPERVISOR)
            outbox.send(message)
            outbox.close(_SENT_MS)

    def _mark_of(self, number: int) -> str:
        return f"{self._folder.path.name}/shard-{number}"

    def _kill(self) -> None:
        for process in self._processes.values():
            process.send_signal(signal.SIGKILL)

    def close(self) -> None:
        """Close every descriptor; shards that still live are killed and waited for."""
        left = bool(self._processes)
        self._kill()
        for process in self._processes.values():
            process.wait()
            process.close()
        self._successors.close()
        self._orphans.close()
        # Now that no process of theirs is left to make it anew.
        self._successors.remove_left()
        if left or self._killed_until:
            self._remove_left()
        self._inbox.close()
