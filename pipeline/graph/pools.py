"""How many slots of which size: credits and pools. Pure.

The rules, and why:

* **Credits** of a worker: twice what it has under way at once, so that as much gathers meanwhile: two
  batches, unless the stage has several in flight; at least 4, so that a stage without batches is
  not idle for the length of a message's way.
* **A stage's pool** has a slot for every request that can hold one at the same time: ordered from the
  stage itself, ordered from a stage that reads its bytes or stands between it and such a reader, and,
  for what is answered, one for each request that can be inside, since the client holds an answer until
  it has read it. So a stage waits for a slot only if those behind it are the slower ones.
* **Behind a stage that fans out**, orders are children: several are of one request. So a stage inside counts a
  quarter of its orders, at least 4, for a pool that is filled once a request. What the children give to a stage that
  joins them is kept until all of a request's are there: their pool has room for those of one request more than are
  being computed, of two if slots are small, and a request's children are not begun before there is room
  for what they give (see `pipeline.scheduler.progress`).
* **If each child is answered by itself** (`answer_each_child`), the client may hold the answers of all children of a
  request until the last has come, and those of other requests: there is a slot for each child of every request that
  can be inside.
* **Ingress slots** bound the requests that are inside: as many as keep every worker busy, and a third more,
  since one client alone gets three quarters; at least 8 and at most 256. With cameras, one for each frame that
  they may have inside, and one more: no camera waits for a slot that another one has.
* **Ingress pools**: inputs of up to 1 MiB, or of fixed shapes, have one pool. Larger ones are files more
  often than not, and a limit is many times the usual size: slots of that size for all would be mostly
  air. So there are
  three pools, with slots of about 1/64, 1/8 and all of the largest request. Of N slots, N/32 (at least
  one) are of the largest and N/4 of the middle size. A request takes the smallest slot that it fits.
  With 16 slots and files of up to 16 MiB these are 11 x 256 KiB + 4 x 2 MiB + 1 x 16 MiB = 27 MiB
  instead of 256: it fits a container's usual 64 MiB of /dev/shm.
* **A stage's pools**: a stage's outputs, too, are usually much smaller than they may be, if they have free dimensions
  or are many. If its largest slot is above 1 MiB, it has three pools, with slots of about 1/16, 1/4 and
  all of that. Of N slots, N/4 are of the largest, at least two, so that one is filled while the other is read, and
  N/4 of the middle size; two slots in all are of one size. There are more large ones than of the ingress, since a
  slot that is too small is found out only when the stage has run (see `pipeline.scheduler.sizes`). With 16 slots of
  up to 16 MiB these are 8 x 1 MiB + 4 x 4 MiB + 4 x 16 MiB = 88 MiB instead of 256.
* **Requests of several rows** (`pipeline.graph.rows`) have a second pool of each producer, with slots for as many rows
  as one may carry. A request takes all its slots from one of the two: so each kind counts as if the other were not
  there, and neither can wait for what only the other gives back. As many rows fit into these ingress slots as into the
  others, in four slots at least. With 16 slots of 3 KiB and 8 rows these are 4 x 24 KiB beside 48 KiB.
* **One size only** for slots that a client, a join or a request may hold while it waits for more of the same, for then
  there must be a slot for each: what is answered, since a client may want all answers before it lets go of one; what
  children give to a
  stage that joins them; and what is made in a scope with branches, where the eldest must find a slot whatever the
  others have (see `pipeline.scheduler.state`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from pipeline.config.schema import StageConfig
from pipeline.graph.branches import has_branches, needs_of
from pipeline.graph.plan import INGRESS, PoolPlan, StagePlan, pool_name
from pipeline.graph.slots import slot_bytes
from pipeline.graph.wiring import Wiring
from pipeline.wire.limits import FEW_SLOTS
from shm.layout import ALIGNMENT, ceil_div, round_up
from stages.spec import TensorSpec

__all__ = ["credits_of", "ingress_slots", "input_bytes", "pools_of", "size_classes", "sized_stages"]

ONE_CLASS_BYTES = 1 << 20
_PAGE = 4096
_MIN_CREDITS = 4
_CHILDREN = 4
_SMALL_BYTES = 64 << 10
_MIN_INGRESS, _MAX_INGRESS = 8, 256


def credits_of(stage: StageConfig, concurrency: int = 1) -> int:
    """Requests that one worker of the stage may be ordered and not have finished.

    Args:
        concurrency: batches that the worker has under way at once.
    """
    if isinstance(stage.credits, int):
        return stage.credits
    # As many rows on their way as are computed: an order takes a millisecond from the answer that makes room for
    # it, and in that time a GPU with eight contexts computes four batches.
    return max(_MIN_CREDITS, 2 * concurrency * stage.batch.max_size)


def ingress_slots(wanted: int | str, stages: Sequence[StagePlan], frames: int = 0) -> int:
    """How many requests may be inside at once.

    Args:
        frames: of all cameras that may be.
    """
    if isinstance(wanted, int):
        return wanted
    busy = sum(stage.credits * len(stage.workers) for stage in stages if not stage.scope)
    return max(frames + 1 if frames else 0, min(_MAX_INGRESS, max(_MIN_INGRESS, ceil_div(4 * busy, 3))))


def pools_of(
    inputs: Sequence[TensorSpec], stages: Sequence[StagePlan], wiring: Wiring, slots: int, rows: int = 1
) -> tuple[PoolPlan, ...]:
    """All pools: the ingress's, then those of each stage that has bytes of its own.

    Args:
        slots: of the ingress, in all, for requests of one row.
        rows: how many one request may carry.
    """
    several = max(FEW_SLOTS, ceil_div(slots, rows))
    answered = {edge.producer for _, edge in wiring.outputs}
    pools = [
        PoolPlan(pool_name(INGRESS, number), size, count)
        for number, (size, count) in enumerate(_ingress_classes(inputs, slots))
    ]
    if rows > 1:
        # Larger in any case: clients tell the two segments by the size of their slots.
        size = max(input_bytes(inputs, rows), pools[0].slot_bytes + ALIGNMENT)
        pools.append(PoolPlan(pool_name(INGRESS, 1), size, several))
    sized = sized_stages(stages, answered)
    for stage in stages:
        if stage.fields:
            size = slot_bytes(stage.fields)
            held = _orders(stages, stage, {stage.name, *_holders(stage.name, wiring)})
            if not stage.scope:
                # There are never more requests inside than that.
                held = min(held, slots)
            if stage.name in answered:
                kept = slots * (_children(stage, stages) if stage.scope else 1)
            else:
                kept = _joined(stage, stages) * (1 if size > _SMALL_BYTES else 2)
            if rows > 1:
                few = min(held, several) + (several if stage.name in answered else 0)
                pools.append(PoolPlan(pool_name(stage.name, 0), size, held + kept))
                pools.append(PoolPlan(pool_name(stage.name, 1), slot_bytes(stage.fields, rows), few))
            elif stage.name in sized and size > ONE_CLASS_BYTES and held + kept > 2:
                classes = size_classes(size, held + kept)
                pools += [PoolPlan(pool_name(stage.name, number), *of_size) for number, of_size in enumerate(classes)]
            else:
                pools.append(PoolPlan(stage.name, size, held + kept))
    return tuple(pools)


def sized_stages(stages: Sequence[StagePlan], answered: Collection[str]) -> set[str]:
    """The stages whose outputs vary in size, and whose slots may therefore be of several sizes.

    Args:
        answered: the stages whose outputs are answered.
    """
    needs = needs_of(stages)
    return {
        stage.name
        for stage in stages
        if any(field.spec.many is not None or not field.spec.is_static for field in stage.fields)
        and stage.name not in answered
        and not any(
            edge.producer == stage.name and len(other.scope) < len(stage.scope)
            for other in stages
            for edge in other.edges
        )
        and not has_branches(stages, needs, stage.scope)
    }


def size_classes(most: int, slots: int) -> list[tuple[int, int]]:
    """(bytes, count) of each size of a stage's slots, by rising size.

    Args:
        most: bytes of the largest.
        slots: how many in all, at least 3.
    """
    largest = max(2, slots // 4)
    middle = slots // 4
    classes = [
        (round_up(most // 16, _PAGE), slots - largest - middle),
        (round_up(most // 4, _PAGE), middle),
        (round_up(most, _PAGE), largest),
    ]
    return [(size, count) for size, count in classes if count]


def _joined(stage: StagePlan, stages: Sequence[StagePlan]) -> int:
    """How many slots of a stage's pool one request may keep for a stage that joins; 0: none joins them."""
    many = [
        spec.many or 0
        for other in stages
        for spec, edge in zip(other.inputs, other.edges)
        if edge.producer == stage.name and len(other.scope) < len(stage.scope)
    ]
    if not many:
        return 0
    return min(max(many), _children(stage, stages))


def _children(stage: StagePlan, stages: Sequence[StagePlan]) -> int:
    """For how many children of one request at most a stage behind one that fans out runs."""
    fan = next(other for other in stages if other.name == stage.scope[-1])
    return min(field.spec.many for field in fan.fields if field.spec.many is not None)


def input_bytes(inputs: Sequence[TensorSpec], rows: int = 1) -> int:
    """Bytes of the largest inputs of a request of so many rows."""
    return max(ALIGNMENT, sum(round_up(rows * spec.max_nbytes) for spec in inputs))


def _ingress_classes(inputs: Sequence[TensorSpec], slots: int) -> list[tuple[int, int]]:
    """(bytes, count) of each size of ingress slots, by rising size."""
    most = input_bytes(inputs)
    if most <= ONE_CLASS_BYTES or all(spec.is_static for spec in inputs):
        return [(most, slots)]
    largest = max(1, slots // 32)
    middle = slots // 4
    classes = [
        (round_up(most // 64, _PAGE), slots - largest - middle),
        (round_up(most // 8, _PAGE), middle),
        (round_up(most, _PAGE), largest),
    ]
    return [(size, count) for size, count in classes if count]


def _holders(producer: str, wiring: Wiring) -> set[str]:
    """The stages that read the producer's bytes, and those between it and them."""
    readers = {name for name in wiring.order if any(edge.producer == producer for edge in wiring.edges[name])}
    before = _before(wiring.after)
    behind = {name for name in wiring.order if producer == INGRESS or producer in before[name]}
    return readers | {name for name in behind if any(name in before[reader] for reader in readers)}


def _before(after: Mapping[str, Sequence[str]]) -> dict[str, set[str]]:
    """For each stage, all that come before it; `after` is in order of the graph."""
    before: dict[str, set[str]] = {}
    for name, first in after.items():
        before[name] = set(first).union(*(before[other] for other in first))
    return before


def _orders(stages: Sequence[StagePlan], producer: StagePlan, names: set[str]) -> int:
    """Slots of the producer's pool that the orders of all workers of the named stages together can hold."""
    total = 0
    for stage in stages:
        if stage.name in names:
            orders = stage.credits * len(stage.workers)
            inside = len(stage.scope) > len(producer.scope)
            total += min(orders, max(_MIN_CREDITS, orders // _CHILDREN)) if inside else orders
    return total
