"""What is new on the wire of a running pipeline: versions, parts of answers, streams, cancellations, retirement, reasons."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import BadInput, Cancelled, ClientMisuse, ConfigError
from pipeline.prepare.preparation import prepare
from pipeline.testing import running
from pipeline.wire.messages import PROTOCOL, Cancel, Loan, Refused, Retire
from tests.integration.raw_client import RawClient

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

STAGES = '''
"""A user's own stages: one that says who was asked and what for, and one that takes its time."""

import os
import time

from stages.spec import TensorSpec

BYTES = TensorSpec("data", "uint8", ("bytes",), {"bytes": 65536})


class Count:
    """Counts the requests of each stream: an answer is the process, the stream's sequence number, and the count."""

    inputs = (BYTES,)
    outputs = (TensorSpec.json("said", 1024),)
    scales_with_cores = True

    def setup(self, context):
        self.counts = {}

    def process(self, batch):
        for row, request in enumerate(batch.requests):
            if bytes(batch.rows("data")[row]) == b"die":
                os.kill(os.getpid(), 11)
            self.counts[request.stream] = self.counts.get(request.stream, 0) + 1
            batch.write(row, "said", [os.getpid(), request.stream, request.sequence, self.counts[request.stream]])


class Slow:
    """Writes to a file which requests it has computed."""

    inputs = outputs = (BYTES,)

    def __init__(self, path, wait_s=0.0):
        self._path, self._wait_s = path, wait_s

    def process(self, batch):
        for row, data in enumerate(batch.rows("data")):
            with open(self._path, "a") as file:
                file.write(bytes(data).decode() + " ")
            time.sleep(self._wait_s)
            batch.out(row, "data", data.shape)[...] = data


class Split:
    """One child for each byte."""

    inputs = (BYTES,)
    outputs = (TensorSpec("one", "uint8", (1,), many=50),)

    def process(self, batch):
        return {"one": [[data[at:at + 1] for at in range(len(data))] for data in batch.rows("data")]}


class Wait:
    """Passes a child on, as soon as there is a file of its name. A child named x fails, and so does its request."""

    inputs = outputs = (TensorSpec("one", "uint8", (1,)),)

    def __init__(self, folder):
        self._folder = folder

    def process(self, batch):
        for row, one in enumerate(batch.rows("one")):
            name = bytes(one).decode()
            if name == "x":
                batch.fail(row, "an x")
                continue
            while not os.path.exists(os.path.join(self._folder, name)):
                time.sleep(0.01)
            batch.out(row, "one", (1,))[...] = one


class Pieces:
    """Three parts, and then it dies if it is told to."""

    inputs = (BYTES,)
    outputs = (TensorSpec.json("part", 4096),)

    def process(self, batch):
        (data,) = batch.rows("data")
        for number in range(3):
            yield {"part": [number]}
        if bytes(data) == b"die":
            time.sleep(0.3)
            os.kill(os.getpid(), 11)
'''


@pytest.fixture
def config(folder: Any) -> Callable[..., Path]:
    (folder.path / "own_stages.py").write_text(STAGES)

    def make(*stages: dict[str, Any], **fields: Any) -> Path:
        for stage in stages:
            stage["use"] = f"./own_stages.py:{stage.pop('own')}" if "own" in stage else stage["use"]
        path: Path = folder.config(*stages, **fields)
        return path

    return make


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 200
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def said(client: RawClient, tag: int) -> Any:
    answer = client.answer(tag)
    assert answer.code == "", answer
    return json.loads(client.bytes_of(answer))


# -- versions ---------------------------------------------------------------------------------------


def hello_of(protocol: int, client: int) -> bytes:
    """As version 4 and 5 sent it, byte by byte: an array of four, two small numbers, a number of 64 bits, a text."""
    return bytes([0x94, protocol, 0x01, 0xCF]) + client.to_bytes(8, "big") + b"\xa6client"


@pytest.mark.parametrize("protocol", [4, 5])
def test_a_client_of_an_old_version_is_told_both_versions_and_that_it_must_be_upgraded(
    folder: Any, protocol: int
) -> None:
    with running(folder.config({})) as pipeline, RawClient(pipeline.run_dir) as client:
        client.send_frame(hello_of(protocol, client.number))
        # In the form of its own version, for it knows no refusal: [protocol, Welcome, epoch, plan, pools].
        spoken, kind, _, plan, pools = client.document(1.0)
        assert (spoken, kind, pools) == (protocol, 2, [])
        assert f"the client speaks protocol {protocol}, the pipeline speaks protocol {PROTOCOL}: upgrade the client" in plan
        wait_until(lambda: f"refused a message: protocol {protocol};" in pipeline.log())


def test_a_client_of_a_later_version_is_told_that_the_pipeline_must_be_upgraded(folder: Any) -> None:
    later = PROTOCOL + 1
    with running(folder.config({})) as pipeline, RawClient(pipeline.run_dir) as client:
        client.send_frame(hello_of(later, client.number))
        spoken, kind, protocol, reason, *_ = client.document(1.0)
        assert (spoken, kind, protocol) == (PROTOCOL, 11, PROTOCOL)
        assert f"the client speaks protocol {later}, the pipeline speaks protocol {PROTOCOL}: upgrade the pipeline" in reason


def test_a_client_is_told_what_of_its_is_refused(folder: Any) -> None:
    with running(folder.config({})) as pipeline, RawClient(pipeline.run_dir) as client:
        client.join()
        client.send(Loan(client.number, 4711, 33, True))
        why = "no slot of segment 4711 is granted: segment 4711 is not one that clients fill"
        assert client.message(Refused) == Refused(PROTOCOL, why, 33)
        client.send_frame(bytes([0x92, 0xCD, PROTOCOL, 0x03, 0xCF]) + client.number.to_bytes(8, "big"))
        refused = client.message(Refused)
        assert refused.reason == "a message of this client cannot be read: Loan: expected array of length 4, found 1"
        tag = client.submit(b"x", traceparent="nonsense")
        answer = client.answer(tag)
        assert (answer.code, answer.message[:30]) == ("InvalidRequest", "expected a traceparent 00-<32 ")
        assert client.answer(client.submit(b"x", traceparent=TRACE, started=time.monotonic_ns())).code == ""


# -- answers in parts -------------------------------------------------------------------------------


def test_each_part_is_answered_while_the_stage_is_still_at_it(config: Any, tmp_path: Path) -> None:
    pieces = {"use": "stages.pieces:Pieces", "with": {"size": 2, "max_bytes": 65536, "pause_ms": 200.0}}
    with running(config({"own": "Slow", "with": {"path": str(tmp_path / "seen.txt")}}, pieces)) as pipeline:
        with RawClient(pipeline.run_dir) as client:
            client.join()
            tag = client.submit(b"abcde")
            parts, when = [], []
            while not (answer := client.answer(tag)).last:
                parts.append((answer.part, client.bytes_of(answer)))
                when.append(time.monotonic())
            assert parts == [(0, b"ab"), (1, b"cd"), (2, b"e")]
            assert (answer.code, answer.part, answer.outputs) == ("", 3, (-1,))
            # Each when it was made, 200 ms after the one before, and not all at the end.
            assert when[2] - when[0] > 0.2
        assert pipeline.stop() == 0


def test_an_answer_whose_worker_dies_after_some_parts_ends_with_an_error_that_says_so(config: Any) -> None:
    with running(config({"own": "Pieces"})) as pipeline, RawClient(pipeline.run_dir) as client:
        client.join()
        tag = client.submit(b"die")
        answers = [client.answer(tag) for _ in range(4)]
        assert [answer.last for answer in answers] == [False, False, False, True]
        assert answers[-1].code == "StreamBroken"
        assert "after 3 parts of the answer; send it again" in answers[-1].message
        assert [client.answer(client.submit(b"x")).part for _ in range(1)] == [0]


def test_a_stage_that_answers_in_parts_may_not_be_followed_by_another(config: Any) -> None:
    pieces = {"use": "stages.pieces:Pieces", "with": {"max_bytes": 65536}}
    follower = {"use": "stages.relay:Relay", "with": {"name": "piece", "shape": ["bytes"], "max": {"bytes": 65536}}}
    why = r"process is a generator, which answers in parts; but its outputs go to other"
    with pytest.raises(ConfigError, match=rf"\.yaml:\d+:\d+: .*{why}"):
        prepare(config(pieces, follower))


# -- streams ----------------------------------------------------------------------------------------


def test_the_requests_of_a_stream_come_to_one_worker_in_their_order(config: Any) -> None:
    with running(config({"own": "Count", "replicas": 2})) as pipeline, RawClient(pipeline.run_dir) as client:
        client.join()
        tags = {name: [client.submit(b"x", stream=name, sequence=1 + n) for n in range(4)] for name in (7, 8)}
        found = {name: [said(client, tag) for tag in tags[name]] for name in tags}
        for name in tags:
            assert len({(pid, stream) for pid, stream, _, _ in found[name]}) == 1
            assert [(sequence, count) for _, _, sequence, count in found[name]] == [(n, n) for n in range(1, 5)]
        assert found[7][0][1] != found[8][0][1]


@pytest.mark.foreign
def test_the_stream_of_a_dead_worker_fails_and_another_one_can_be_begun(config: Any) -> None:
    with running(config({"own": "Count"})) as pipeline, RawClient(pipeline.run_dir) as client:
        client.join()
        said(client, client.submit(b"x", stream=7, sequence=1))
        answer = client.answer(client.submit(b"die", stream=7, sequence=2))
        assert answer.code == "StreamBroken"
        assert re.match(r"stream 7 cannot go on: its worker in stage s0, w[01], killed by signal 11", answer.message)
        assert client.answer(client.submit(b"x", stream=7, sequence=3)).code == "StreamBroken"
        assert said(client, client.submit(b"x", stream=8, sequence=1))[2:] == [1, 1]


# -- cancellation and retirement ----------------------------------------------------------------------


def test_a_cancelled_request_is_answered_at_once_and_never_reaches_the_next_stage(config: Any, tmp_path: Path) -> None:
    first = {"own": "Slow", "with": {"path": str(tmp_path / "first.txt"), "wait_s": 0.5}}
    second = {"own": "Slow", "with": {"path": str(tmp_path / "second.txt")}}
    with running(config(first, second)) as pipeline, RawClient(pipeline.run_dir) as client:
        client.join()
        cancelled, other = client.submit(b"cancelled"), client.submit(b"other")
        while not (tmp_path / "first.txt").exists():
            time.sleep(0.01)
        client.send(Cancel(client.number, (cancelled,)))
        answer = client.answer(cancelled)
        assert (answer.code, answer.message) == ("Cancelled", "cancelled by its client")
        assert client.answer(other).code == ""
        assert (tmp_path / "second.txt").read_text() == "other "


def test_a_worker_that_is_retired_finishes_what_it_has_and_leaves(config: Any, tmp_path: Path) -> None:
    slow = {"own": "Slow", "with": {"path": str(tmp_path / "seen.txt"), "wait_s": 0.3}, "replicas": 2}
    with running(config(slow)) as pipeline, RawClient(pipeline.run_dir) as client:
        client.join()
        tags = [client.submit(b"x") for _ in range(4)]
        client.send(Retire(0))
        assert [client.answer(tag).code for tag in tags] == ["", "", "", ""]
        wait_until(lambda: pipeline.status()["counts"].get("retired_workers") == 1)
        assert "retries" not in pipeline.status()["counts"]


# -- the client ---------------------------------------------------------------------------------------


@pytest.mark.foreign
def test_the_parts_of_an_answer_are_read_one_by_one_and_get_says_how(config: Any) -> None:
    pieces = {"use": "stages.pieces:Pieces", "with": {"size": 2, "max_bytes": 65536}}
    with running(config(pieces)) as pipeline, pipeline.client() as client:
        future = client.submit(data=b"abcde")
        assert [bytes(part["piece"]) for part in future.results(10)] == [b"ab", b"cd", b"e"]
        with pytest.raises(ClientMisuse, match=r"has come in 3 parts.*for part in future\.results\(\)"):
            future.get(200)
        assert list(client.submit(data=b"").results(10)) == []
        # A future that is dropped in the middle gives everything back.
        for _ in range(40):
            client.submit(data=b"abcde")
        assert [bytes(part["piece"]) for part in client.submit(data=b"x").results(10)] == [b"x"]


@pytest.mark.foreign
def test_a_future_that_is_cancelled_fails_with_cancelled(config: Any, tmp_path: Path) -> None:
    slow = {"own": "Slow", "with": {"path": str(tmp_path / "seen.txt"), "wait_s": 0.5}}
    with running(config(slow)) as pipeline, pipeline.client() as client:
        futures = [client.submit(data=bytes([letter])) for letter in b"abc"]
        futures[2].cancel()
        with pytest.raises(Cancelled, match="cancelled by its client"):
            futures[2].get(200)
        assert [bytes(future.get(200)["data"]) for future in futures[:2]] == [b"a", b"b"]
        futures[0].cancel()
        assert bytes(futures[0].get()["data"]) == b"a"


@pytest.mark.foreign
def test_children_are_read_as_they_are_done_and_their_parts_say_which_they_are(config: Any, tmp_path: Path) -> None:
    wait = {"own": "Wait", "with": {"folder": str(tmp_path)}, "replicas": 2}
    with running(config({"own": "Split"}, wait, answer_each_child=True)) as pipeline, pipeline.client() as client:
        (tmp_path / "b").touch()
        (tmp_path / "c").touch()
        found = []
        for part in client.submit(data=b"ab").results(20):
            found.append((part.part, bytes(part["one"])))
            # The first child waits for this until the second one has come.
            (tmp_path / "a").touch()
        assert found == [(1, b"b"), (0, b"a")]
        assert list(client.submit(data=b"").results(20)) == []
        with pytest.raises(BadInput, match="child 0 of s0: an x"):
            list(client.submit(data=b"xa").results(20))
        # As many as one client may have inside, none of which is read before all are sent.
        kept = [client.submit(data=b"ab" * 24) for _ in range(6)]
        for future in kept:
            assert sorted(part.part for part in future.results(20)) == list(range(48))
