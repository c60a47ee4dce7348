"""From a config's path to a plan and its budget: what `check` prints and `run` starts.

The one place where reading the config, asking the stages and planning are put together; it starts no process that
outlives the call.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from pipeline.config.loader import LoadedConfig, load_config
from pipeline.config.quantities import format_bytes
from pipeline.errors import ConfigError
from pipeline.feeding.pictures import check_pictures
from pipeline.graph.budget import Budget, make_budget
from pipeline.graph.description import StageDescription
from pipeline.graph.plan import Plan
from pipeline.graph.planning import make_plan
from pipeline.graph.spinning import why_no_spinning
from pipeline.prepare.describing import describe_stages
from pipeline.prepare.exporting import check_tracing, seeded
from pipeline.prepare.weights import weights_of
from pipeline.topology.machine import Machine, read_machine
from pipeline.topology.memory import free_in
from pipeline.wire.spinning import SPIN_NS
from shm.ring import why_no_rings

__all__ = ["Preparation", "prepare", "prepare_loaded"]

#: A few lines of YAML with aliases of aliases may stand for any number of bytes.
_MOST_PLAN_BYTES = (4 << 20) - (64 << 10)


@dataclass(frozen=True, slots=True)
class Preparation:
    """A pipeline that could be started, if its budget does not refuse."""

    loaded: LoadedConfig
    machine: Machine
    plan: Plan
    budget: Budget
    spinning: str = ""
    """With rings: whether receivers look at them before they sleep, or why not; for a person. Otherwise empty."""
    notes: tuple[tuple[str, str], ...] = ()
    """(stage, what a person should know of it beside its specs); or ("link", why it is another one)."""

    @property
    def of_link(self) -> list[tuple[Literal["info", "warning"], str]]:
        """What the log of the run says of its link, and how grave it is."""
        found: list[tuple[Literal["info", "warning"], str]]
        found = [("warning", note) for name, note in self.notes if name == "link"]
        return [*found, ("info", f"ring, {self.spinning}")] if self.spinning else found


def prepare(
    config_path: Path | str, assignments: Iterable[str] = (), machine: Machine | None = None
) -> Preparation:
    """Load, describe, place and sum up the pipeline of `config_path`.

    Args:
        assignments: the texts of `--set`.
        machine: what the pipeline will run on; None: this machine.

    Raises:
        ConfigError: the config or the assignments are wrong.
        StartError: a stage cannot be described here. `budget.refuse()` says whether memory is short.
    """
    return prepare_loaded(load_config(config_path, assignments), machine)


def prepare_loaded(
    loaded: LoadedConfig,
    machine: Machine | None = None,
    descriptions: Mapping[str, StageDescription] | None = None,
    *,
    taken: int = 0,
) -> Preparation:
    """As `prepare`, for a config that has been loaded already.

    Args:
        machine: as `prepare` takes it.
        descriptions: what the stages declare; None: they are asked.
        taken: bytes that other shards will take of the folder of the segments.

    Raises:
        ConfigError, StartError: as `prepare`.
    """
    machine = machine or read_machine()
    if descriptions is None:
        descriptions = describe_stages(loaded)
    plan = make_plan(loaded, descriptions, machine)
    findings = loaded.findings()
    check_pictures(loaded.config.run.pictures, plan, findings)
    if plan.tracing is not None:
        check_tracing(plan.tracing, findings)
        plan = seeded(plan)
    findings.refuse()
    if (size := len(plan.to_json())) > _MOST_PLAN_BYTES:
        # Each process of the pipeline is given the whole plan.
        raise ConfigError(
            f"{loaded.path}: what the stages' options hold comes to {format_bytes(size)}, aliases included; expected "
            f"at most {format_bytes(_MOST_PLAN_BYTES)}. Put long lists and texts into files that the options name"
        )
    notes = tuple((name, note) for name, description in descriptions.items() for note in description.notes)
    if plan.link == "ring" and (why := why_no_rings()):
        plan = replace(plan, link="zmq")
        notes += (("link", f"zmq in place of ring: {why}"),)
    spinning = ""
    if plan.link == "ring":
        why = why_no_spinning(plan, machine.cpus)
        spinning = f"no spinning: {why}" if why else f"spinning up to {SPIN_NS // 1000} us before a wait"
        plan = replace(plan, spins=not why)
    memory = machine.memory
    if plan.segment_dir:
        free = free_in(plan.segment_dir)
        memory = replace(memory, shm_free=None if free is None else max(0, free - taken))
    budget = make_budget(plan, memory, weights_of(plan, descriptions))
    return Preparation(loaded, machine, plan, budget, spinning, notes)
