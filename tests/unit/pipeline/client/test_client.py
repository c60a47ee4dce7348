from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from pipeline.client.result import Result
from pipeline.errors import (
    ClientMisuse,
    InvalidRequest,
    NotInTime,
    OutputMissing,
    Overloaded,
    RequestRefused,
    Unavailable,
)
from stages.request import RequestInfo
from stages.spec import TensorSpec
from tests.unit.pipeline.client.loopback import (
    Client,
    ClientInbox,
    CopyingClient,
    ImpatientClient,
    Pipeline,
    arrived,
    arrived_without_client,
)
from tests.unit.pipeline.scheduler.evaluation import expected_answer
from tests.unit.pipeline.scheduler.graphs import BAD, make_plan

X = bytes(range(1, 17))
Y = bytes(range(101, 117))


# -- requests and answers ---------------------------------------------------------------------------


def test_a_request_is_answered_with_the_outputs_by_name(client: Client, pipeline: Pipeline) -> None:
    future = client.submit(x=np.frombuffer(X, np.uint8), y=Y)
    assert client.outstanding == 1
    assert not future.done()
    result = future.get(10)
    assert {name: array.tobytes() for name, array in result.items()} == expected_answer(pipeline.plan, {"x": X, "y": Y})
    assert list(result) == ["z", "q", "y"]
    assert len(result) == 3
    assert list(result.stages) == ["a", "b", "c"]
    assert future.done()
    assert future.error() is None
    assert future.get() is result
    assert client.outstanding == 0


def test_an_answer_that_comes_whole_is_the_only_one_of_the_results(client: Client) -> None:
    future = client.submit(x=X, y=Y)
    results = list(future.results(10))
    assert results == [future.get()]
    assert results[0]["y"].tobytes() == Y


def test_many_requests_share_a_message_and_slots(client: Client, pipeline: Pipeline) -> None:
    futures = []
    for number in range(40):
        futures.append(client.submit(x=bytes([1, number] * 8), y=Y, flush=False))
        if len(futures) > 2:
            futures.pop(0).get(10).release()
    for future in futures:
        future.get(10)
    assert pipeline.scheduler.counts["answered"] == 40


def test_a_draft_is_written_in_place_and_sent_once(client: Client, pipeline: Pipeline) -> None:
    draft = client.draft(timeout_s=10, x=(16,), y=(16,))
    draft.inputs["x"][...] = np.frombuffer(X, np.uint8)
    draft.inputs["y"][...] = np.frombuffer(Y, np.uint8)
    future = draft.submit()
    with pytest.raises(InvalidRequest, match="submitted or discarded before"):
        draft.submit()
    draft.discard()
    assert future.get(10)["z"].tobytes() == expected_answer(pipeline.plan, {"x": X, "y": Y})["z"]


@pytest.mark.parametrize("how", ["discarded", "dropped"])
def test_the_slot_of_a_draft_that_is_not_sent_comes_back(client: Client, pipeline: Pipeline, how: str) -> None:
    draft = client.draft(timeout_s=10, x=(16,), y=(16,))
    assert pipeline.in_use[0] == 1
    if how == "discarded":
        draft.discard()
    del draft
    arrived(client, pipeline, lambda: pipeline.in_use[0] == 0)


@pytest.mark.parametrize("how", ["submit", "discard"])
def test_the_arrays_of_a_draft_can_be_written_until_it_is_sent(client: Client, how: str) -> None:
    draft = client.draft(timeout_s=10, x=(16,), y=(16,))
    x = draft.inputs["x"]
    x[...] = 1
    getattr(draft, how)()
    with pytest.raises(ValueError, match="read-only"):
        x[...] = 2
    # The next draft of the slot has arrays of its own.
    again = client.draft(timeout_s=10, x=(16,), y=(16,))
    again.inputs["x"][...] = 3
    with pytest.raises(ValueError, match="read-only"):
        x[...] = 4


def test_an_error_of_a_stage_is_an_exception_of_its_kind(client: Client) -> None:
    future = client.submit(x=bytes([BAD]) + bytes(15), y=Y)
    with pytest.raises(RequestRefused, match="a bad one"):
        future.get(10)
    error = future.error()
    assert isinstance(error, RequestRefused)
    assert (error.request, error.traceback) == (future.request, "")
    assert future.leases == {}


def test_a_request_has_one_id_at_both_ends_and_the_name_that_its_client_gave_it(
    client: Client, pipeline: Pipeline
) -> None:
    drafts = [client.draft(timeout_s=10, x=(16,), y=(16,)) for _ in range(3)]
    pipeline.held = True
    futures = [
        draft.submit(name=name)
        for draft, name in zip(drafts, ("cat.jpg", Path("folder") / ("dog.jpg" * 40), ""))
    ]
    arrived(client, pipeline, lambda: len(pipeline.scheduler.requests) == 3)
    labels = [RequestInfo.parse(request.label) for request in pipeline.scheduler.requests.values()]
    assert [label.id for label in labels] == [future.request for future in futures]
    assert [label.name for label in labels] == ["cat.jpg", "..." + ("dog.jpg" * 40)[-197:], ""]
    pipeline.held = False
    for future in futures:
        future.get(10).release()
    future = client.submit(x=X, y=Y, name="cat.jpg")
    assert future.request in repr(future)
    future.get(10).release()


def test_no_answer_in_time_is_a_timeout_and_the_request_goes_on(client: Client, pipeline: Pipeline) -> None:
    draft = client.draft(timeout_s=10, x=(16,), y=(16,))
    pipeline.held = True
    future = draft.submit()
    assert not future.wait(0.02)
    with pytest.raises(NotInTime, match=f"request {future.request} is not answered after"):
        future.get(0.02)
    pipeline.held = False
    assert future.wait()


def test_no_slot_in_time_is_a_timeout(client: Client, pipeline: Pipeline) -> None:
    pipeline.held = True
    with pytest.raises(NotInTime, match=r"no slot became free within 0\.02 s"):
        client.submit(x=X, y=Y, timeout_s=0.02)
    # It is a TimeoutError too, which is what many catch.
    assert issubclass(NotInTime, TimeoutError)
    pipeline.held = False
    # What it asked for is not kept for a client that does not look any more.
    arrived(client, pipeline, lambda: pipeline.in_use[0] == 0)


def test_a_status_is_a_document(client: Client) -> None:
    assert client.status(10)["pipeline"] == "demo"


@pytest.mark.parametrize(
    ("inputs", "why"),
    [
        ({"x": X}, "expected the inputs x, y; found x"),
        ({}, "expected the inputs x, y; found none"),
        ({"x": X, "y": Y, "z": X}, "expected the inputs x, y; found x, y, z"),
        ({"x": X, "y": np.zeros(16, np.float32)}, "input 'y': expected dtype uint8, found float32"),
        ({"x": X, "y": "text"}, "input 'y': expected bytes or an array, found str; of a file that is Path(...)"),
        ({"x": X, "y": Path("y.bin")}, "input 'y': expected bytes or an array, found PosixPath"),
        ({"x": X, "y": object()}, "input 'y': expected dtype uint8, found object"),
        ({"x": X, "y": Y[:15]}, "input 'y': expected 16 along axis 0"),
        ({"x": X, "y": np.zeros((1, 16), np.uint8)}, "input 'y': expected 1 dimensions"),
    ],
)
def test_what_does_not_fit_is_refused_before_it_takes_a_slot(
    client: Client, pipeline: Pipeline, inputs: dict[str, Any], why: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        client.submit(**inputs)
    assert why in str(refused.value)
    assert pipeline.in_use == [0] * len(pipeline.pools)


@pytest.mark.parametrize("extent", [16.0, "16", None])
def test_a_shape_that_is_none_is_refused_before_it_takes_a_slot(client: Client, pipeline: Pipeline, extent: Any) -> None:
    for _ in range(2 * pipeline.pools[0].slots):
        with pytest.raises(InvalidRequest, match="input 'x': expected a shape of whole numbers, found"):
            client.draft(timeout_s=10, x=(extent,), y=(16,))
    client.draft(timeout_s=10, x=(16,), y=(16,)).discard()


def test_a_shape_may_be_of_numpys_numbers(client: Client) -> None:
    shape: Any = np.array([16])
    draft = client.draft(timeout_s=10, x=shape, y=(np.int64(16),))  # type: ignore[arg-type]
    for name in ("x", "y"):
        draft.inputs[name][...] = 1
    draft.submit().get(10).release()


def test_a_value_that_is_no_json_is_refused(start: Callable[..., Pipeline], run_dir: Path) -> None:
    plan = make_plan("relays", slots=2)
    start(replace(plan, inputs=(TensorSpec.json("x", 16),)))
    with Client.connect(run_dir) as client:
        with pytest.raises(InvalidRequest, match="input 'x': no JSON value"):
            client.submit(x=object())
        with pytest.raises(InvalidRequest, match="input 'x': no JSON value: Out of range float values"):
            client.submit(x=[float("nan")])
        with pytest.raises(InvalidRequest, match="input 'x': expected at most 16"):
            client.submit(x="a long text in quotes")
        assert client.submit(x=["é", 1]).get(10)["t"] == ["é", 1]


def test_who_only_polls_sees_the_death_too(client: Client, pipeline: Pipeline) -> None:
    pipeline.die()
    ClientInbox.running = None

    def poll() -> None:
        while True:
            client.pump()

    with pytest.raises(Unavailable, match="has died"):
        poll()


@pytest.mark.parametrize("priority", [-1, 10, 2**63, 2**70, 1.0, True, None, "high"])
def test_a_priority_that_is_none_of_ten_is_refused_and_spoils_nothing(
    client: Client, pipeline: Pipeline, priority: Any
) -> None:
    neighbour = client.submit(x=X, y=Y, flush=False)
    with pytest.raises(InvalidRequest, match=r"expected a priority 0\.\.9"):
        client.submit(x=X, y=Y, priority=priority)
    neighbour.get(10).release()
    client.submit(x=X, y=Y, priority=np.int64(9)).get(10).release()  # type: ignore[arg-type]
    assert pipeline.scheduler.counts["requests"] == 2


@pytest.mark.parametrize("deadline_ms", [0, -1.0, float("nan"), float("inf"), "5", True])
def test_a_deadline_that_is_no_time_is_refused(client: Client, deadline_ms: Any) -> None:
    with pytest.raises(InvalidRequest, match="deadline_ms: expected a number of milliseconds above 0 and at most 8"):
        client.submit(x=X, y=Y, deadline_ms=deadline_ms)


@pytest.mark.parametrize("name", [5, 0, b"a", ["a"]])
def test_a_name_that_is_no_text_is_refused_and_keeps_no_slot(client: Client, name: Any) -> None:
    for _ in range(20):
        with pytest.raises(InvalidRequest, match="name: expected a text, which logs and stages call the request by, or No"):
            client.submit(x=X, y=Y, name=name)
    client.submit(x=X, y=Y, name=Path("a.png")).get(10).release()


def test_a_time_limit_may_be_of_any_size_and_must_be_a_number(client: Client) -> None:
    client.submit(x=X, y=Y, timeout_s=float("inf")).get(float("inf")).release()
    assert client.submit(x=X, y=Y).wait(-5.0) in (False, True)
    for limit in (float("nan"), "5", True):
        with pytest.raises(InvalidRequest, match="timeout_s: expected a number of seconds"):
            client.pump(limit)  # type: ignore[arg-type]


def test_who_holds_its_own_drafts_is_told_so(pipeline: Pipeline, run_dir: Path) -> None:
    with ImpatientClient.connect(run_dir) as client:
        drafts = [client.draft(timeout_s=10, x=(16,), y=(16,)) for _ in range(6)]
        with pytest.raises(Overloaded, match="this client keeps 0 slots of earlier results and 6 drafts or loans"):
            client.draft(x=(16,), y=(16,))
        drafts.clear()
        client.draft(timeout_s=10, x=(16,), y=(16,)).discard()


# -- slots ------------------------------------------------------------------------------------------


def _held_by_answers(pipeline: Pipeline) -> int:
    return pipeline.in_use[-1]


def test_a_slot_comes_back_with_the_last_array_of_its_result(client: Client, pipeline: Pipeline) -> None:
    result = client.submit(x=X, y=Y).get(10)
    z = result["z"]
    row = z[3:5]
    expected = row.tobytes()
    del result, z
    gc.collect()
    client.pump(0.01)
    assert _held_by_answers(pipeline) == 1
    assert row.tobytes() == expected
    del row
    arrived(client, pipeline, lambda: _held_by_answers(pipeline) == 0)


def test_an_array_of_a_result_stays_as_it_is_beyond_the_block_and_the_client(
    client: Client, pipeline: Pipeline, run_dir: Path
) -> None:
    with client.submit(x=X, y=Y).get(10) as result:
        kept = result["z"]
        row = result["q"][2:4]
    bytes_of = kept.tobytes(), row.tobytes()
    for number in range(40):
        client.submit(x=bytes([1, number] * 8), y=Y).get(10).release()
    assert (kept.tobytes(), row.tobytes()) == bytes_of
    client.close()
    with Client.connect(run_dir) as other:
        for number in range(40):
            other.submit(x=bytes([1, number] * 8), y=Y).get(10).release()
        assert (kept.tobytes(), row.tobytes()) == bytes_of
        arrived(other, pipeline, lambda: _held_by_answers(pipeline) == 1)
        # The last one of a closed client gives its slot and the client's lock back.
        del kept, row
        gc.collect()
        arrived(other, pipeline, lambda: _held_by_answers(pipeline) == 0)
    arrived_without_client(pipeline, lambda: not pipeline.scheduler.ingress.clients)
    assert list((run_dir / "clients").iterdir()) == []


def test_release_gives_the_slots_back_at_once_and_again_changes_nothing(client: Client, pipeline: Pipeline) -> None:
    result = client.submit(x=X, y=Y).get(10)
    assert _held_by_answers(pipeline) == 1
    result.release()
    # Nothing else is about to be sent, so it is sent by itself: an idle client keeps nothing.
    arrived_without_client(pipeline, lambda: _held_by_answers(pipeline) == 0)
    assert len(result) == 0
    result.release()
    client.pump(0.01)
    assert pipeline.scheduler.counts["refused_releases"] == 0


def test_release_refuses_while_arrays_are_in_use_and_the_result_stays(client: Client, pipeline: Pipeline) -> None:
    result = client.submit(x=X, y=Y).get(10)
    row = result["z"][3:5]
    with pytest.raises(ClientMisuse, match=r"not released: arrays of z, .*, are still in use"):
        result.release()
    assert result["z"][3:5].tobytes() == row.tobytes()
    del row
    result.release()
    arrived(client, pipeline, lambda: _held_by_answers(pipeline) == 0)


def test_what_a_result_does_not_have_is_told_by_its_reason(client: Client) -> None:
    with client.submit(x=X, y=Y).get(10) as result:
        with pytest.raises(OutputMissing, match="output 'w': expected one of z, q, y"):
            result["w"]
        assert result.get("w") is None
        assert "w" not in result
    with pytest.raises(OutputMissing, match="output 'z': this result was released"):
        result["z"]


def test_small_outputs_are_copied_hold_no_slot_and_are_counted(pipeline: Pipeline, run_dir: Path) -> None:
    with CopyingClient.connect(run_dir) as client:
        result = client.submit(x=X, y=Y).get(10)
        arrived_without_client(pipeline, lambda: _held_by_answers(pipeline) == 0)
        expected = expected_answer(pipeline.plan, {"x": X, "y": Y})
        assert {name: array.tobytes() for name, array in result.items()} == expected
        assert result.copied_bytes == 48
        with pytest.raises(ValueError, match="read-only"):
            result["z"][0] = 1


def test_an_answer_that_is_not_looked_at_gives_its_slots_back(client: Client, pipeline: Pipeline) -> None:
    future = client.submit(x=X, y=Y)
    assert future.wait(10)
    del future
    arrived(client, pipeline, lambda: _held_by_answers(pipeline) == 0)


def test_results_are_read_only(client: Client) -> None:
    result = client.submit(x=X, y=Y).get(10)
    with pytest.raises(ValueError, match="read-only"):
        result["z"][0] = 1


def test_a_client_that_leaves_leaves_nothing(client: Client, pipeline: Pipeline, run_dir: Path) -> None:
    client.submit(x=X, y=Y).get(10).release()
    answered = client.submit(x=X, y=Y)
    assert answered.wait(10)
    draft = client.draft(timeout_s=10, x=(16,), y=(16,))
    unsent = client.submit(x=X, y=Y, flush=False)
    client.close()
    client.close()
    with pytest.raises(Unavailable, match="closed before the request was answered"):
        unsent.get()
    with pytest.raises(ValueError, match="read-only"):
        draft.inputs["x"][...] = 1
    del draft
    # What was answered can still be read.
    assert answered.get()["z"].tobytes() == expected_answer(pipeline.plan, {"x": X, "y": Y})["z"]
    del answered
    arrived_without_client(pipeline, lambda: not pipeline.scheduler.ingress.clients and not any(pipeline.in_use))
    assert list((run_dir / "clients").iterdir()) == []
    for call in (lambda: client.submit(x=X, y=Y), client.pump, client.status, lambda: client.draft(x=(16,), y=(16,))):
        with pytest.raises(ClientMisuse, match="this client is closed; connect again"):
            call()


def test_a_slot_that_another_thread_still_writes_is_no_other_clients_after_the_end(
    client: Client, pipeline: Pipeline, run_dir: Path
) -> None:
    draft = client.draft(x=(16,), y=(16,))
    part = draft.inputs["x"][:8]  # what a thread writes, such as a decoder
    client.close()
    del draft
    arrived_without_client(pipeline, lambda: sum(pipeline.in_use) == 1)
    with Client.connect(run_dir) as other:
        drafts = [other.draft(x=(16,), y=(16,)) for _ in range(3)]
        for each in drafts:
            each.inputs["x"][...] = 7
        part[...] = 1
        assert all((each.inputs["x"] == 7).all() for each in drafts)
        del each, drafts
    del part
    arrived_without_client(pipeline, lambda: sum(pipeline.in_use) == 0)


# -- the scheduler's death --------------------------------------------------------------------------


@pytest.mark.parametrize("alive", [True, False])
def test_a_closing_client_waits_for_its_last_message_to_leave_only_if_a_scheduler_hears_it(
    client: Client, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, alive: bool
) -> None:
    waits = []
    scheduler = client._exchange.there._scheduler
    close = scheduler.close

    def closed(linger_ms: int = 0) -> None:
        waits.append(linger_ms)
        close(linger_ms)

    monkeypatch.setattr(scheduler, "close", closed)
    if not alive:
        pipeline.die()
    client.close()
    (wait,) = waits
    assert (wait > 0) == alive


def test_a_dead_scheduler_fails_everything_under_way(client: Client, pipeline: Pipeline) -> None:
    drafts = [client.draft(timeout_s=10, x=(16,), y=(16,)) for _ in range(2)]
    pipeline.held = True
    futures = [draft.submit(flush=flush) for draft, flush in zip(drafts, (True, False))]
    pipeline.die()
    ClientInbox.running = None
    with pytest.raises(Unavailable, match="has died"):
        futures[0].get(10)
    assert all(isinstance(future.error(), Unavailable) for future in futures)
    assert client.outstanding == 0
    with pytest.raises(Unavailable):
        client.submit(x=X, y=Y)
    with pytest.raises(Unavailable):
        client.pump()


def test_a_client_goes_on_with_the_next_scheduler(
    client: Client, pipeline: Pipeline, start: Callable[..., Pipeline]
) -> None:
    before = client.submit(x=X, y=Y).get(10)
    bytes_before = before["z"].tobytes()
    draft = client.draft(timeout_s=10, x=(16,), y=(16,))
    unsent = client.draft(timeout_s=10, x=(16,), y=(16,))
    under_way = client.submit(x=X, y=Y)
    start(epoch=1)
    with pytest.raises(Unavailable, match="has died"):
        under_way.get(10)
    with pytest.raises(Unavailable, match="has died"):
        draft.submit()
    client.reconnect(10)
    with pytest.raises(Unavailable, match="make another draft"):
        unsent.submit()
    unsent.discard()
    assert client.submit(x=X, y=Y).get(10)["z"].tobytes() == bytes_before
    assert before["z"].tobytes() == bytes_before


def test_a_pipeline_that_is_not_there_cannot_be_connected_to(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="no pipeline runs in"):
        Client.connect(tmp_path)


def test_a_pipeline_that_stopped_or_never_gets_ready_is_not_waited_for(
    start: Callable[..., Pipeline], run_dir: Path
) -> None:
    with pytest.raises(Unavailable, match="is not ready; waited until the time was over"):
        Client.connect(run_dir, timeout_s=0.05)
    (run_dir / "owner.lock").unlink()
    with pytest.raises(Unavailable, match="no pipeline runs in"):
        Client.connect(run_dir, timeout_s=0.1)
    assert list((run_dir / "clients").iterdir()) == []


def test_an_output_that_no_part_has_is_not_said_to_be_skipped_for_certain() -> None:
    with pytest.raises(OutputMissing, match=r"skipped for this request .* or it answers in parts, and has given none"):
        Result.of_batch(("y",), {}, {}, 0)["y"]
