"""A whole pipeline in the caller's thread."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from pipeline.graph.plan import Edge, PoolPlan
from pipeline.graph.slots import fields_of, slot_bytes
from pipeline.inprocess.pipeline import LocalPipeline
from pipeline.wire.messages import MISSING, OK, SlotRef, Submission
from shm.handle import TensorHandle
from stages.pieces import Pieces
from tests.unit.pipeline.inprocess.test_client import Louder, plan_of


def test_what_the_callback_raises_ends_the_run_with_the_stages_frames() -> None:
    stage = Louder()

    def let_go(name: str, error: Exception) -> None:
        raise error

    pipeline = LocalPipeline(plan_of(stage), [stage], let_go)
    slot = pipeline.slot_for(1)
    assert slot is not None
    handle = TensorHandle(*slot, 0, "uint8", (1,))
    pipeline.table.view(handle, writable=True)[...] = 9
    with pytest.raises(ValueError, match="nine") as caught:
        pipeline.run(Submission(1, slot, (handle,), 0, 0, ""))
    assert caught.traceback[-1].name == "process"
    pipeline.close()


def test_slots_are_of_the_smallest_pool_that_holds_them_and_kept_ones_come_first() -> None:
    stage = Louder()
    pipeline = LocalPipeline(plan_of(stage), [stage], lambda *_: None)
    small, large = pipeline.slot_for(64), pipeline.slot_for(65)
    assert isinstance(small, SlotRef)
    assert isinstance(large, SlotRef)
    assert [pipeline.table.slot_bytes(slot.segment) for slot in (small, large)] == [64, 128]
    assert pipeline.slot_for(129) is None
    pipeline.keep(small)
    assert pipeline.slot_for(1) == small
    pipeline.close()


def test_an_answers_slots_come_back_when_they_are_released() -> None:
    stage = Louder()
    pipeline = LocalPipeline(plan_of(stage), [stage], lambda *_: None)
    for tag in range(1, 6):
        slot = pipeline.slot_for(1)
        assert slot is not None
        handle = TensorHandle(*slot, 0, "uint8", (1,))
        pipeline.table.view(handle, writable=True)[...] = 1
        answer = pipeline.run(Submission(tag, slot, (handle,), 0, 0, ""))
        assert answer.code == OK
        pipeline.release([SlotRef(*answer.outputs[0][:3])])  # type: ignore[index]
    pipeline.close()


def test_an_answer_in_parts_ends_with_how_many_there_were_and_gives_its_slots_back() -> None:
    stage = Pieces(size=2, max_bytes=64)
    plan = plan_of(Louder())
    fields = fields_of(stage.outputs)
    plan = replace(
        plan,
        stages=(replace(plan.stages[0], outputs=stage.outputs, fields=fields),),
        outputs=(("piece", Edge("louder", "piece")),),
        pools=(*plan.pools[:2], PoolPlan("louder", slot_bytes(fields), 2)),
    )
    pipeline = LocalPipeline(plan, [stage], lambda *_: None)
    for tag in range(1, 20):
        slot = pipeline.slot_for(5)
        assert slot is not None
        handle = TensorHandle(*slot, 0, "uint8", (5,))
        answer = pipeline.run(Submission(tag, slot, (handle,), 0, 0, ""))
        assert (answer.code, answer.part, answer.outputs) == (OK, 3, (MISSING,))
    pipeline.close()
