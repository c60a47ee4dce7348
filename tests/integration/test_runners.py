"""Runners that threads share: batches, parts and loans."""

from __future__ import annotations

import copy
import pickle
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.client.copies import RETRIES, STACKED, WAITING
from pipeline.client.runner import InferRunner
from pipeline.client.shared import SharedClient
from pipeline.errors import (
    BadInput,
    ClientMisuse,
    InvalidRequest,
    NotInTime,
)
from pipeline.testing import RunningPipeline, running
from tests.integration.sharing import LARGE, data_of, quiet

ROOT = Path(__file__).parents[2]

# -- batches, parts, loans --------------------------------------------------------------------------


def test_a_batch_is_one_future_with_stacked_answers(runner: InferRunner) -> None:
    rows = np.arange(7 * 1000, dtype=np.uint16).view(np.uint8).reshape(7, 2000)
    result = runner.infer(data=rows).get(200)
    # An output with a free dimension is a list.
    assert [row.tobytes() for row in result["data"]] == [row.tobytes() for row in rows]
    assert result.copied_bytes == rows.nbytes
    assert runner.copied[STACKED] == rows.nbytes
    assert result.stages["s0"]["runs"] == 7


def test_a_batch_of_any_length_is_answered(runner: InferRunner, client: SharedClient) -> None:
    rows = np.random.default_rng(0).integers(0, 255, (200, LARGE), np.uint8)
    result = runner.infer(data=rows).get(200)
    assert (np.stack(result["data"]) == rows).all()
    quiet(client)


def test_the_failure_of_one_row_is_the_batch_s_and_names_it(runner: InferRunner, client: SharedClient) -> None:
    rows = np.stack([np.frombuffer(b"poison" if number == 3 else b"fine..", np.uint8) for number in range(9)])
    future = runner.infer(data=rows)
    with pytest.raises(BadInput, match=r"^row 3 of 9: refused on purpose"):
        future.get(200)
    quiet(client)


def test_the_digits_answers_are_stacked() -> None:
    with running(ROOT / "configs/mnist.yaml") as pipeline, SharedClient.connect(pipeline.run_dir) as client:
        runner = InferRunner(client)
        assert runner.input_bindings() == {"Input3": (1, 28, 28)}
        assert runner.output_bindings() == {"Plus214_Output_0": (10,)}
        rng = np.random.RandomState(0)
        array = rng.random_sample((5, 1, 28, 28))
        with pytest.raises(InvalidRequest, match=r'expected dtype float32, found float64; write .astype\("float32"\)'):
            runner.infer(Input3=array)
        batch = runner.infer(Input3=array.astype("float32")).get(200)["Plus214_Output_0"]
        assert (batch.shape, batch.dtype) == ((5, 10), np.float32)
        singles = [runner.infer(Input3=row.astype("float32")).get(200)["Plus214_Output_0"] for row in array]
        assert np.allclose(batch, singles, atol=1e-4)
        for name in ("Imput3", "Input3x"):
            with pytest.raises(InvalidRequest, match=f"'{name}' may be meant for 'Input3'"):
                runner.infer({name: array})
        assert pipeline.stop() == 0


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[RunningPipeline]:
    """Answers with as many parts as the first byte says, 20 ms after each other; the last of 9 cannot be made."""
    (tmp_path / "stages.py").write_text(
        "import time\n"
        "from stages.errors import BadInput\n"
        "from stages.spec import TensorSpec\n"
        "class Count:\n"
        "    inputs = (TensorSpec('data', 'uint8', ('bytes',), {'bytes': 16}),)\n"
        "    outputs = (TensorSpec('number', 'uint8', ('bytes',), {'bytes': 65536}),)\n"
        "    def process(self, batch):\n"
        "        for number in range(int(batch.rows('data')[0][0])):\n"
        "            time.sleep(0.02)\n"
        "            if number == 8:\n"
        "                raise BadInput('too many')\n"
        "            batch.out(0, 'number', (1000,))[...] = number\n"
        "            yield\n"
    )
    (tmp_path / "parts.yaml").write_text(
        "name: parts\n"
        "inputs: [{name: data, dtype: uint8, shape: [bytes], max: {bytes: 16}}]\n"
        "stages: [{name: count, use: './stages.py:Count'}]\n"
    )
    with running(tmp_path / "parts.yaml") as pipeline:
        yield pipeline


def test_parts_are_iterated_as_they_come(parts: RunningPipeline) -> None:
    with SharedClient.connect(parts.run_dir, name="me") as client:
        runner = InferRunner(client)
        for count in (0, 1, 5):
            came = [int(part["number"][0]) for part in runner.stream(data=bytes([count]))]
            assert came == [*range(count)]

        def came_alone() -> bool:
            stream = runner.stream(data=bytes([3]))
            assert next(iter(stream)).part == 0
            alone = not stream._more()
            assert [part.part for part in stream] == [1, 2]
            return alone

        # On a busy machine the others may be there by the time that this thread goes on.
        while not came_alone():
            pass
        first = next(iter(stream := runner.stream(data=bytes([7]))))
        kept = [first, *stream]
        assert [int(part["number"][-1]) for part in kept] == [*range(7)]
        with pytest.raises(StopIteration):
            next(stream)
        del first, kept, stream
        with pytest.raises(ClientMisuse, match=r"has come in 2 parts, .*runner\.stream"):
            runner.infer(data=bytes([2])).get(200)
        with pytest.raises(BadInput, match="too many"):
            for _ in (broken := runner.stream(data=bytes([9]))):
                pass
        del broken
        quiet(client)


def test_threads_that_iterate_over_one_answer_share_its_parts(parts: RunningPipeline) -> None:
    with SharedClient.connect(parts.run_dir, name="me") as client:
        stream = InferRunner(client).stream(data=bytes([8]))
        # Two threads see the same part, unless one takes it alone.
        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        try:
            with ThreadPoolExecutor(4) as threads:
                took = [*threads.map(lambda _: [int(part["number"][0]) for part in stream], range(4))]
        finally:
            sys.setswitchinterval(interval)
        assert sorted(number for numbers in took for number in numbers) == [*range(8)]


def test_an_answer_that_comes_whole_goes_to_one_of_the_threads_that_iterate_over_it(runner: InferRunner) -> None:
    stream = runner.stream(data=b"slow")
    with ThreadPoolExecutor(4) as threads:
        took = [*threads.map(lambda _: [part["data"].tobytes() for part in stream], range(4))]
    assert [data for each in took for data in each] == [b"slow"]


@pytest.mark.parametrize("how", ["dropped", "closed"])
def test_leaving_a_stream_early_cancels_its_request(parts: RunningPipeline, how: str) -> None:
    with SharedClient.connect(parts.run_dir, name="me") as client:
        runner = InferRunner(client)
        stream = runner.stream(data=bytes([255]))
        assert int(next(stream)["number"][0]) == 0
        if how == "closed":
            with stream:
                pass
            assert [*stream] == []
        del stream
        assert client.wait_until_idle(60)
        quiet(client)
        # The worker had more than two seconds of it left.
        assert [int(part["number"][0]) for part in runner.stream(data=bytes([1]))] == [0]


def test_a_result_says_that_it_cannot_be_pickled_and_its_arrays_can_be_copied(runner: InferRunner) -> None:
    result = runner.infer(data=bytes(LARGE)).get(200)
    with pytest.raises(ClientMisuse, match=r"send or keep copies of them, result\[NAME\]\.copy\(\)"):
        pickle.dumps(result)
    assert pickle.loads(pickle.dumps(result["data"].copy())).nbytes == LARGE


def test_a_loan_is_written_in_place_and_sent_once(runner: InferRunner, client: SharedClient) -> None:
    with runner.loan(data=(LARGE,)) as request:
        assert [*request] == ["data"]
        assert "other" not in request
        with pytest.raises(KeyError, match="input 'other': expected one of data"):
            request["other"]
        slot = request["data"]
        slot[...] = np.frombuffer(data_of(5, LARGE), np.uint8)
        future = request.infer(name="lent")
        # It is the pipeline's now.
        assert not slot.flags.writeable
        with pytest.raises(ClientMisuse, match="not lent now"):
            request.infer()
    assert future.get(200)["data"].tobytes() == data_of(5, LARGE)
    assert not {WAITING, RETRIES} & {*runner.copied}
    with pytest.raises(ClientMisuse, match="not lent now"):
        request["data"]
    with pytest.raises(ClientMisuse, match="for one request"):
        request.__enter__()
    with runner.loan(data=(LARGE,)) as request:
        request["data"][...] = 1
        future = request.infer(retries=1)
    assert future.get(200)["data"].sum() == LARGE
    assert runner.copied[RETRIES] == LARGE
    del slot, future
    quiet(client)


@pytest.mark.parametrize("shape", [(65537,), (3, 3), 7])
def test_a_loan_of_a_wrong_shape_is_refused_before_it_takes_a_slot(runner: InferRunner, shape: Any) -> None:
    with pytest.raises(InvalidRequest, match="input 'data': expected"):
        runner.loan(data=shape)


def test_a_loan_that_is_not_sent_gives_its_slot_back(runner: InferRunner, client: SharedClient) -> None:
    for _ in range(50):
        with pytest.raises(RuntimeError, match="the caller's"), runner.loan(data=(LARGE,)):
            raise RuntimeError("the caller's")
    quiet(client)
    assert client.status()["clients"][0]["granted"] == 0


def test_an_array_of_a_loan_that_was_dropped_is_read_only(runner: InferRunner) -> None:
    kept = runner.loan(data=(LARGE,)).__enter__()["data"]
    # Its slot is another request's by now.
    with pytest.raises(ValueError, match="read-only"):
        kept[...] = 7


def test_a_result_that_is_copied_as_a_whole_says_what_to_copy(runner: InferRunner) -> None:
    with pytest.raises(ClientMisuse, match="send or keep copies of them"):
        copy.deepcopy(runner.infer(data=data_of(1, LARGE)).get(200))


def test_a_loan_waits_for_a_slot_no_longer_than_it_is_told(runner: InferRunner, client: SharedClient) -> None:
    loans = []

    def take_all() -> None:
        while True:
            loans.append(runner.loan(data=(LARGE,), timeout_s=0.2))
            loans[-1].__enter__()

    with pytest.raises(NotInTime, match=r"no slot became free within 0\.2 s"):
        take_all()
    assert len(loans) > 1
    # Dropping a loan is enough.
    loans.clear()
    assert runner.infer(data=b"next").get(200)["data"].tobytes() == b"next"
    quiet(client)
