"""The feed's own order of things, over a pipeline whose answers the test gives."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pipeline.client import Future
from pipeline.errors import ClientMisuse, NotInTime, Unavailable
from pipeline.feeding import feed as feed_module
from pipeline.feeding.feed import Feed
from pipeline.feeding.output import NoOutput, OutputBroken
from pipeline.feeding.sources import Intake, Sources
from shm.view import SegmentTable
from stages.spec import TensorSpec


class Result(dict[str, Any]):
    stages: dict[str, dict[str, float]] = {}  # noqa: RUF012

    def __init__(self, name: str, released: list[str]) -> None:
        super().__init__(count=3)
        self.name = name
        self.released = released

    def __enter__(self) -> Result:
        return self

    def __exit__(self, *_: object) -> None:
        self.released.append(self.name)


class Pipeline:
    """Takes what it is sent, and answers one request a pump, in the order that it is told."""

    def __init__(self, order: list[str]) -> None:
        spec = TensorSpec("data", "uint8", ("bytes",), {"bytes": 10})
        self.inputs: tuple[TensorSpec, ...] = (spec,)
        self.order = order
        self.sent: dict[str, Future] = {}
        self.released: list[str] = []
        self.discarded = 0
        #: How often there is no slot before there is one.
        self.without_slot = 0
        #: How many requests may be under way.
        self.slots = 100

    def draft_nowait(self, inputs: dict[str, tuple[int, ...]]) -> Any:
        if self.without_slot:
            self.without_slot -= 1
            return None
        if sum(not future.done() for future in self.sent.values()) >= self.slots:
            return None
        view = np.zeros(inputs["data"], np.uint8)
        return SimpleNamespace(
            inputs={"data": view}, submit=lambda **_: self._submit(view.tobytes().decode()), discard=self._discard
        )

    def draft(self, inputs: dict[str, tuple[int, ...]], *, timeout_s: float) -> Any:
        draft = self.draft_nowait(inputs)
        if draft is None:
            raise NotInTime
        return draft

    def _discard(self) -> None:
        self.discarded += 1

    def _submit(self, name: str) -> Future:
        owner: Any = SimpleNamespace(make_result=lambda _: Result(name, self.released))
        connection: Any = SimpleNamespace(number=1, settle_idle=lambda: None)
        interface: Any = None
        self.sent[name] = Future(len(self.sent), owner, connection, SegmentTable(), interface, 1_000_000)
        return self.sent[name]

    def flush(self) -> None:
        pass

    def pump(self, timeout_s: float) -> int:
        if self.order:
            self.sent[self.order.pop(0)].answered_ns = 2_000_000
        return 1


class Recorded(NoOutput):
    """An output that says what it was given, and does what a test says about it."""

    def __init__(self, about: Callable[[str], None] = lambda name: None, text: bytes = b"{}") -> None:
        self.taken: list[tuple[int, str]] = []
        self.about = about
        self.text = text

    def take(self, number: int, name: str, outputs: Mapping[str, Any]) -> tuple[bytes, dict[str, Counter[str]]]:
        self.taken.append((number, Path(name).name))
        self.about(Path(name).name)
        return self.text, {}


def feed_of(pipeline: Pipeline, files: list[str], output: NoOutput | None = None) -> Feed:
    intake = Intake(pipeline.inputs, config="demo.yaml")
    return Feed(pipeline, Sources(intake, files), intake, output)  # type: ignore[arg-type]


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    for name in "abcd":
        (tmp_path / name).write_text(name)
    return [str(tmp_path / name) for name in "abcd"]


def test_records_come_in_the_order_of_the_files_whatever_the_order_of_the_answers(files: list[str]) -> None:
    pipeline = Pipeline(list("dbca"))
    records = list(feed_of(pipeline, files).run())
    assert [record.input for record in records] == files
    assert all(record.error is None and record.latency_ms == 1.0 for record in records)
    assert [record.headline for record in records] == [('{"count": 3}', "")] * 4


def test_an_answer_whose_turn_has_not_come_gives_its_slot_back_at_once(files: list[str]) -> None:
    # Else the slots of answers run out, and the first file never gets the one that it needs.
    pipeline = Pipeline(list("dbca"))
    seen: list[list[str]] = []
    feed = feed_of(pipeline, files).run(lambda: seen.append(list(pipeline.released)))
    assert next(feed).input == files[0]
    assert seen == [[], ["d"], ["d", "b"], ["d", "b", "c"]]
    assert pipeline.released[:3] == ["d", "b", "c"]


def test_the_output_gets_each_answer_as_it_comes_with_its_number(files: list[str]) -> None:
    output = Recorded(text=b'{"a": 1}')
    records = list(feed_of(Pipeline(list("dbca")), files, output).run())
    assert output.taken == [(4, "d"), (2, "b"), (3, "c"), (1, "a")]
    assert {record.outputs for record in records} == {b'{"a": 1}'}


def test_a_stopped_feed_finishes_what_it_has_sent_and_takes_up_nothing_more(files: list[str]) -> None:
    pipeline = Pipeline(list("abcd"))
    feed = feed_of(pipeline, files)
    feed.stop()
    assert list(feed.run()) == []
    assert pipeline.sent == {}


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        (TypeError("no form"), "cannot be written: TypeError: no form"),
        (MemoryError(), "cannot be written: MemoryError"),
        (RecursionError("deep"), "cannot be written: RecursionError: deep"),
        (
            ClientMisuse("in parts"),
            "the answer has come in parts, but here each input has one answer; serve the pipeline with "
            "`pipeline run CONFIG --serve`, and read the parts in a program: for part in future.results()",
        ),
    ],
)
def test_an_answer_that_has_no_form_fails_alone_and_gives_its_slot_back(
    files: list[str], raised: Exception, said: str
) -> None:
    def about(name: str) -> None:
        if name == "b":
            raise raised

    pipeline = Pipeline(list("abcd"))
    records = list(feed_of(pipeline, files, Recorded(about)).run())
    assert [record.error for record in records] == [None, ("OutputError", said), None, None]
    assert sorted(pipeline.released) == list("abcd")


def test_an_output_that_takes_nothing_more_ends_the_run(files: list[str]) -> None:
    def about(name: str) -> None:
        raise OutputBroken("full")

    with pytest.raises(OutputBroken, match="full"):
        list(feed_of(Pipeline(list("abcd")), files, Recorded(about)).run())


def test_whatever_is_raised_over_one_file_fails_it_alone(files: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    load = Intake.load

    def stumble(self: Intake, source: Any) -> Any:
        if source.path == files[1]:
            raise MemoryError
        return load(self, source)

    monkeypatch.setattr(Intake, "load", stumble)
    pipeline = Pipeline(list("[{"))
    document = TensorSpec.json("data", 10)
    pipeline.inputs = (document,)
    for name, text in zip(files, ("[1]", "[2]", "{}", "no")):
        Path(name).rename(f"{name}.json").write_text(text)
    names = [f"{name}.json" for name in files]
    files[1] = names[1]
    pipeline.order = ["[1]", "{}"]
    errors = [record.error for record in feed_of(pipeline, names).run()]
    assert errors[0] is None
    assert errors[1] == ("InvalidRequest", "cannot be sent: MemoryError")
    assert errors[2] is None
    assert errors[3] is not None
    assert errors[3][0] == "InvalidRequest"


def test_a_file_that_cannot_be_read_to_its_end_gives_its_slot_back(
    files: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = feed_module._read_into

    def read(fd: int, view: Any) -> int:
        filled = real(fd, view)
        if view.tobytes() == b"b":
            raise OSError(5, "Input/output error")
        return filled - (view.tobytes() == b"c")

    monkeypatch.setattr(feed_module, "_read_into", read)
    pipeline = Pipeline(list("ad"))
    errors = [record.error for record in feed_of(pipeline, files).run()]
    assert errors == [
        None,
        ("InvalidRequest", "cannot be read: Input/output error"),
        ("InvalidRequest", "the file became shorter while it was read: 0 of 1 bytes"),
        None,
    ]
    assert pipeline.discarded == 2


def test_a_file_that_does_not_say_its_size_is_read_to_its_end() -> None:
    pipeline = Pipeline([])
    pipeline.inputs = (TensorSpec("data", "uint8", ("bytes",), {"bytes": 1000}),)
    name = "/proc/self/comm"
    text = Path(name).read_text()
    pipeline.pump = lambda _: setattr(pipeline.sent[text], "answered_ns", 2_000_000)  # type: ignore[method-assign,assignment]
    (record,) = feed_of(pipeline, [name]).run()
    assert record.error is None
    assert list(pipeline.sent) == [text]
    pipeline.inputs = (TensorSpec("data", "uint8", ("bytes",), {"bytes": 1}),)
    (record,) = feed_of(pipeline, [name]).run()
    assert record.error is not None
    assert "the file has 2 bytes, input 'data' takes at most 1" in record.error[1]


def test_arrays_that_wait_for_a_slot_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.json").write_text("[1]")
    loaded = []
    load = Intake.load
    monkeypatch.setattr(Intake, "load", lambda self, source: loaded.append(source.name) or load(self, source))
    pipeline = Pipeline([])
    pipeline.inputs = (TensorSpec.json("data", 10),)
    pipeline.without_slot = 3
    progress = []

    def on_progress() -> None:
        progress.append(None)
        pipeline.order = ["[1]"] if "[1]" in pipeline.sent else []

    assert [record.error for record in feed_of(pipeline, [str(tmp_path / "a.json")]).run(on_progress)] == [None]
    assert (len(loaded), len(progress) > 3) == (1, True)


def test_no_more_is_taken_up_while_too_much_waits_for_its_turn(files: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_module, "_MAX_KEPT_BYTES", 5)
    pipeline = Pipeline(list("bcad"))
    pipeline.slots = 2
    seen: list[list[str]] = []
    feed = feed_of(pipeline, files, Recorded(text=b'{"a": 1}')).run(lambda: seen.append(sorted(pipeline.sent)))
    assert [record.input for record in feed] == files
    # b's record is too much already: c had been taken up by then, d is only when a was handed out.
    assert seen == [["a", "b"], ["a", "b", "c"], ["a", "b", "c"], ["a", "b", "c", "d"]]


def test_a_request_whose_scheduler_died_is_sent_again(files: list[str]) -> None:
    pipeline = Pipeline([])
    died = []

    def pump(timeout_s: float) -> int:
        if not died:
            died.append(None)
            for future in pipeline.sent.values():
                future.fail(Unavailable("gone"), 1)
            raise Unavailable("gone")
        for future in pipeline.sent.values():
            future.answered_ns = future.answered_ns or 2_000_000
        return 1

    pipeline.pump = pump  # type: ignore[method-assign]
    pipeline.reconnect = lambda: None  # type: ignore[attr-defined]
    assert [record.error for record in feed_of(pipeline, files).run()] == [None] * 4
