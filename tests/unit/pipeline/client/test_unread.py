"""Answers that were not read, and results that are kept: no request waits for what its own client holds of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipeline.client.copies import KEPT, SMALL
from pipeline.client.future import Future
from pipeline.errors import BadInput, Unavailable
from pipeline.graph.plan import Plan
from pipeline.wire.messages import Submit
from tests.unit.pipeline.client.direct import Direct, x_of
from tests.unit.pipeline.client.loopback import Client, Pipeline, arrived, arrived_without_client
from tests.unit.pipeline.scheduler.evaluation import expected_answer
from tests.unit.pipeline.scheduler.graphs import BAD, make_plan

MANY = 60


def z_of(plan: Plan, number: int) -> dict[str, bytes]:
    return expected_answer(plan, {"x": x_of(number), "y": x_of(number + 1)})  # type: ignore[return-value]


def submit(client: Client, number: int) -> Future:
    return client.submit(x=x_of(number), y=x_of(number + 1), timeout_s=10)


def bytes_of(result: object) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in result.items()}  # type: ignore[attr-defined]


def test_any_number_of_requests_is_sent_before_the_first_answer_is_read(client: Client, pipeline: Pipeline) -> None:
    futures = [submit(client, number) for number in range(MANY)]
    for number, future in enumerate(futures):
        assert bytes_of(future.get(10)) == z_of(pipeline.plan, number)
        assert future.get() is future.get()


def test_any_number_of_results_is_kept(client: Client, pipeline: Pipeline) -> None:
    results = [submit(client, number).get(10) for number in range(MANY)]
    for number, result in enumerate(results):
        assert bytes_of(result) == z_of(pipeline.plan, number)
        assert not any(array.flags.writeable for array in result.values())
    # An eighth of eight slots, of this one and of what its answer passes on.
    assert [result.copied_since for result in results] == [None] + [KEPT] * (MANY - 1)
    arrived(client, pipeline, lambda: sum(pipeline.in_use) <= 4)
    results.clear()
    arrived_without_client(pipeline, lambda: sum(pipeline.in_use) <= 1)


def test_results_are_views_again_when_the_kept_ones_are_gone(client: Client) -> None:
    kept = submit(client, 1).get(10)
    assert submit(client, 2).get(10).copied_since == KEPT
    del kept
    assert submit(client, 3).get(10).copied_since is None


def test_a_slot_is_had_without_waiting_although_unread_answers_hold_all(client: Client, pipeline: Pipeline) -> None:
    futures = [submit(client, number) for number in range(3)]
    for future in futures:
        assert future.wait(10)
    while (draft := client.draft_nowait(x=(16,), y=(16,))) is not None:
        for name, view in draft.inputs.items():
            view[...] = np.frombuffer(x_of(len(futures) + (name == "y")), np.uint8)
        futures.append(draft.submit())
        if len(futures) == MANY:
            break
    assert len(futures) == MANY
    for number, future in enumerate(futures):
        assert bytes_of(future.get(10)) == z_of(pipeline.plan, number)


def test_a_failed_request_that_was_not_read_keeps_its_error(client: Client, pipeline: Pipeline) -> None:
    bad = client.submit(x=bytes([BAD]) * 16, y=x_of(0))
    futures = [submit(client, number) for number in range(MANY)]
    with pytest.raises(BadInput):
        bad.get(10)
    assert bytes_of(futures[-1].get(10)) == z_of(pipeline.plan, MANY - 1)


def test_unread_answers_outlive_their_scheduler(client: Client, pipeline: Pipeline, start: Callable[..., Pipeline]) -> None:
    futures = [submit(client, number) for number in range(30)]
    read = [future for future in futures if future.wait(10)]
    plan = pipeline.plan
    start(plan, epoch=1)
    for number, future in enumerate(read):
        assert bytes_of(future.get(10)) == z_of(plan, number)
    with pytest.raises(Unavailable):
        client.submit(x=x_of(1), y=x_of(2), timeout_s=10).get(10)


@pytest.mark.parametrize("graph", ["parts", "each child"])
def test_parts_that_were_not_read_are_all_there(start: Callable[..., Pipeline], run_dir: Path, graph: str) -> None:
    plan = make_plan(graph, slots=8, credits=4)
    start(plan)
    with Client.connect(run_dir) as client:
        alone = []
        for number in range(20):
            alone.append([bytes_of(part) for part in client.submit(x=x_of(number)).results(10)])
        futures = [client.submit(x=x_of(number), timeout_s=10) for number in range(20)]
        assert sum(map(len, alone)) > 0
        for future, expected in zip(futures, alone):
            assert [bytes_of(part) for part in future.results(10)] == expected


# -- when -------------------------------------------------------------------------------------------


def test_an_unread_answer_keeps_its_slots_until_a_request_has_waited_for_one(direct: Direct) -> None:
    direct.stop_clock()
    request = direct.infer(1)
    for _ in range(3):
        direct.step()
    pending = request.pending
    assert pending is not None
    assert pending.leases != {}
    segment = direct.session.slots._pools[0][1]
    kept = [direct.request(number) for number in range(30)]
    kept = [other for other in kept if direct.queue.reserve(other)]
    ask = direct.session.ask(segment, direct.now)
    direct.send()
    direct.after(0.0)
    assert (pending.moved, direct.session.to_send()) == ({}, [])
    direct.after(0.002)
    assert pending.leases == {}
    # It is said at once, though an ask is all that is under way.
    (message,) = direct.session.to_send()
    assert isinstance(message, Submit)
    assert message.releases
    assert not ask.done
    (result,) = pending.moved.values()
    assert bytes_of(result) == expected_answer(direct.plan, {"x": x_of(1)})
    assert direct.session.copies.by_reason() == {SMALL: 16}


def test_an_answer_that_came_a_moment_ago_is_left_to_the_caller_who_is_about_to_read_it(direct: Direct) -> None:
    direct.stop_clock()
    before, just_now = direct.infer(1), direct.infer(2)
    for _ in range(3):
        direct.step()
    assert before.pending is not None
    assert just_now.pending is not None
    segment = direct.session.slots._pools[0][1]
    kept = [direct.request(number) for number in range(30)]
    kept = [other for other in kept if direct.queue.reserve(other)]
    ask = direct.session.ask(segment, direct.now)
    came = just_now.pending.answered_ns = direct.now + 2_000_000
    direct.session.unread.take(just_now.pending)
    direct.session.unread.add(just_now.pending)
    direct.after(0.002)
    assert (before.pending.leases, ask.done) == ({}, False)
    assert just_now.pending.leases != {}
    # It is looked at again when it was not read in time.
    assert direct.session.next_at == came + 1_000_000
    direct.after(0.001)
    assert just_now.pending.leases == {}
    assert direct.session.next_at is not None
    assert direct.session.next_at > direct.now
