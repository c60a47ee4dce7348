"""Search: the steps of a tuning, one after the other, over pipelines that run.

    the config as it is starts, and stays          what its stages cost
    arrangements                                   halved; the best one is the base of
    batches                                        halved
    duel                                           the best one beside the untuned config, to make sure

What is tried comes from `space`, which turn is next from `halving`; `trials` starts pipelines and asks them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from pipeline.config.loader import LoadedConfig, load_config
from pipeline.errors import ConfigError, StartError
from pipeline.graph.budget import Budget, make_budget
from pipeline.graph.description import StageDescription
from pipeline.graph.plan import Plan
from pipeline.graph.planning import make_plan
from pipeline.load.loops import Loop
from pipeline.prepare.weights import weights_of
from pipeline.topology.machine import Machine
from pipeline.tuning.candidate import UNTUNED, Candidate, assignments_of
from pipeline.tuning.halving import Halving
from pipeline.tuning.report import Report, Step
from pipeline.tuning.room import with_room
from pipeline.tuning.space import Ground, arrangements, batches
from pipeline.tuning.trials import RequestsFail, Trials

__all__ = ["search"]

#: Parts of the time, by which each step is over.
_ARRANGED, _BATCHED = 0.45, 0.75
#: Of a step's time, what its starts may take. They share the machine, so they take as long as one after the other.
_STARTING = 0.4
_FEWEST = 2
#: What a step must bring, or the config stays as it is: the fewer changes, the easier to read.
_WORTH = 1.02
_NO_TIME = "no time for it: more --minutes"

Tell = Callable[[str], None]


class _Search:
    def __init__(
        self, loaded: LoadedConfig, descriptions: dict[str, StageDescription], machine: Machine, trials: Trials,
        report: Report, ends: float, tell: Tell,
    ) -> None:  # fmt: skip
        self._loaded, self._descriptions, self._machine = loaded, descriptions, machine
        self._trials, self._goal, self._tell = trials, report.goal, tell
        self._began, self._ends = time.monotonic(), ends
        self._report = report
        #: Of what runs now.
        self._budgets: dict[Candidate, Budget] = {}
        #: How long the config as it is took to start.
        self._start_s = 0.0

    def report(self, *, interrupted: bool) -> Report:
        """What was found until now."""
        return replace(self._report, seconds=time.monotonic() - self._began, interrupted=interrupted)

    def run(self) -> None:
        """All steps.

        Raises:
            StartError: the config as it is does not start, or does not answer its samples.
            KeyboardInterrupt: Ctrl-C.
        """
        ground = self._profile()
        best = self._step("arrangements", arrangements(ground, self._goal), UNTUNED, _ARRANGED)
        best = self._step("batches", batches(ground, best, self._goal), best, _BATCHED)
        if best != UNTUNED:
            self._step("duel", [best], best, 1.0)

    def _profile(self) -> Ground:
        """Start the config as it is, and find out what its stages cost."""
        plan, self._budgets[UNTUNED] = self._planned(UNTUNED)
        began = time.monotonic()
        why = self._trials.start([UNTUNED], self._tell).get(UNTUNED)
        self._start_s = time.monotonic() - began
        if why:
            raise StartError(f"{self._loaded.path}: the config as it is does not run with these samples: {why}")
        try:
            costs = self._trials.costs(UNTUNED)
        except RequestsFail as error:
            raise StartError(f"{self._loaded.path}: no answer to a sample: {error}") from None
        self._report = replace(self._report, costs=costs)
        wide = {stage.name: stage.workers[0].threads for stage in plan.stages}
        threads = {name: wide[name] if self._descriptions[name].is_inference else 1 for name in wide}
        by_thread = {name: cost * threads.get(name, 1) for name, cost in costs.items()}
        cpus = self._machine.cpus
        cores = min(cpus.effective, len({cpus.core(cpu) for cpu in cpus.allowed}))
        return Ground(self._loaded.config.stages, self._descriptions, plan, by_thread, cores)

    def _planned(self, candidate: Candidate) -> tuple[Plan, Budget]:
        """Raises ConfigError: the changes do not fit each other or the machine."""
        loaded = load_config(self._loaded.path, assignments_of(candidate.changes))
        plan = make_plan(loaded, self._descriptions, self._machine)
        return plan, make_budget(plan, self._machine.memory, weights_of(plan, self._descriptions))

    def _step(self, title: str, wanted: Sequence[Candidate], base: Candidate, until: float) -> Candidate:
        """One step; its best, which is `base` if nothing is better.

        Args:
            until: the part of all the time by which it is over.
        """
        now = time.monotonic()
        ends = self._began + until * (self._ends - self._began)
        if not wanted or (now >= ends and until < 1.0):
            return base
        most = max(_FEWEST, int(_STARTING * (ends - now) / max(self._start_s, 1e-3)))
        late = dict.fromkeys(wanted[most:], _NO_TIME)
        wanted = wanted[:most]
        challengers, left_out = self._start([*([base] if base != UNTUNED and base not in wanted else []), *wanted])
        left_out |= late
        now = time.monotonic()
        halving = Halving(self._goal, challengers, now, max(ends, now))
        for candidate, why in left_out.items():
            halving.drop(candidate, why)
        try:
            self._play(title, halving)
        finally:
            self._conclude(title, halving, base)
        won = self._report.steps[-1].won
        self._stop([one for one in self._budgets if one not in (UNTUNED, won)])
        return won

    def _start(self, wanted: Sequence[Candidate]) -> tuple[list[Candidate], dict[Candidate, str]]:
        """Those of them that run; and why the others do not."""
        left_out: dict[Candidate, str] = {}
        planned: list[tuple[Candidate, Budget]] = []
        for candidate in wanted:
            if candidate in self._budgets:
                continue
            try:
                planned.append((candidate, self._planned(candidate)[1]))
            except ConfigError as error:
                left_out[candidate] = str(error).splitlines()[0]
        kept, full = with_room(planned, self._budgets.values())
        budgets = dict(planned)
        self._budgets |= {candidate: budgets[candidate] for candidate in kept}
        failed = self._trials.start(kept, self._tell)
        for candidate in failed:
            del self._budgets[candidate]
        left_out |= full | failed
        return [candidate for candidate in wanted if candidate not in left_out], left_out

    def _play(self, title: str, halving: Halving) -> None:
        while (turn := halving.next(time.monotonic())) is not None:
            best = halving.best()
            so_far = f"; best {best.ratio:.2f}: {best.candidate.label}" if best is not None else ""
            left_s = max(0.0, self._ends - time.monotonic())
            line = f"{left_s:.0f} s left; {title}, round {turn.round + 1}, {turn.left - 1} beside the untuned{so_far}"
            self._tell(line)

            def show(now: float, loop: Loop, line: str = line) -> None:
                self._tell(line)

            try:
                halving.measured(turn, self._trials.turn(turn.candidate, turn.seconds, show))
            except RequestsFail as error:
                if turn.candidate == UNTUNED:
                    raise StartError(f"{self._loaded.path}: the config as it is fails its samples: {error}") from None
                halving.drop(turn.candidate, str(error))
            self._stop([one for one in self._budgets if one not in halving.living])

    def _conclude(self, title: str, halving: Halving, base: Candidate) -> None:
        best = halving.best()
        base_ratio = 1.0 if base == UNTUNED else halving.of(base).ratio
        won = best.candidate if best is not None and best.ratio > _WORTH * max(1.0, base_ratio) else base
        if title == "duel":
            won = base
        elif won != UNTUNED and not halving.of(won).ratios:
            won = UNTUNED
        self._report = replace(self._report, steps=(*self._report.steps, Step(title, halving.standings(), won)))

    def _stop(self, candidates: Sequence[Candidate]) -> None:
        self._trials.stop(candidates)
        for candidate in candidates:
            self._budgets.pop(candidate, None)


def search(
    loaded: LoadedConfig,
    descriptions: dict[str, StageDescription],
    machine: Machine,
    trials: Trials,
    report: Report,
    minutes: float,
    tell: Tell,
) -> Report:
    """Tune a config; what was found until the time was over, or Ctrl-C came.

    Args:
        report: what is known before: the config, the goal, the samples.
        minutes: for everything, starts included.
        tell: shows a line of how it is.

    Raises:
        StartError: the config as it is does not start, or does not answer its samples.
    """
    found = _Search(loaded, descriptions, machine, trials, report, time.monotonic() + 60 * minutes, tell)
    try:
        found.run()
    except KeyboardInterrupt:
        return found.report(interrupted=True)
    return found.report(interrupted=False)
