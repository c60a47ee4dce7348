"""What a worker says of an exception: whose line it was, what the traceback holds, and how often it is shown."""

from __future__ import annotations

import bdb
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.logs.entry import Entry
from pipeline.worker.failures import LONGEST_TRACEBACK, Failures, Home, Story, examine, interruption, start_failure
from stages.classify import TopK
from stages.errors import BadOption, SpecMismatch
from stages.function import FunctionStage
from stages.loading import load_stage
from stages.spec import TensorSpec
from stages.stage import Batch
from stages.testing import run

X = TensorSpec("x", "uint8", (2,))
FILE = __file__.rpartition("/")[2]


class Stage:
    inputs = (X,)
    outputs = (X,)

    def __init__(self, work: Callable[[], Any] = lambda: None) -> None:
        self.work = work

    def process(self, batch: Batch) -> Any:
        return self.work()


HOME = Home.of(Stage())


def line_of(text: str) -> int:
    """The one line of this file that ends so."""
    with open(__file__) as file:
        (number,) = [number for number, line in enumerate(file, 1) if line.rstrip().endswith(text)]
    return number


def story_of(stage: Any) -> Story:
    """Of the exception that a stage raises, as the runtime sees it."""
    with pytest.raises(Exception) as caught:  # noqa: PT011
        run(stage, x=[np.zeros(2, np.uint8)])
    # Without this function's own frame: no user's code is around the runtime's.
    assert caught.tb is not None
    return examine(caught.value.with_traceback(caught.tb.tb_next), Home.of(stage))


def test_the_line_is_the_users_though_a_library_has_raised() -> None:
    story = story_of(Stage(lambda: json.loads("{")))  # in a library
    line = line_of("# in a library")
    assert story.name == f"JSONDecodeError ({FILE}:{line})"
    assert story.message.startswith("JSONDecodeError: Expecting property name")
    assert story.message.endswith(f" ({FILE}:{line})")
    # The library's own frames are shown all the same, after the user's.
    assert story.traceback.index(f"line {line}, in <lambda>") < story.traceback.index("json/decoder.py")
    assert story.traceback.splitlines()[-1].startswith("json.decoder.JSONDecodeError: ")


def test_the_runtimes_frames_are_left_out_at_both_ends() -> None:
    def ask(batch: Batch) -> None:
        batch.out(0, "x", (3,))  # too large

    class Asks(Stage):
        def process(self, batch: Batch) -> None:
            ask(batch)

    story = story_of(Asks())
    assert story.message.endswith(f"({FILE}:{line_of('# too large')})")
    frames = [line for line in story.traceback.splitlines() if line.startswith("  File ")]
    assert [frame.rpartition(" ")[2] for frame in frames] == ["process", "ask"]


def test_what_the_runtime_refuses_by_itself_names_where_process_is() -> None:
    story = story_of(Stage(lambda: 1.5))
    assert story.message.endswith(f" ({FILE}:{Stage.process.__code__.co_firstlineno})")
    assert "process returned a float" in story.message


def test_a_function_is_named_where_it_begins() -> None:
    def glue(x: Any) -> None:
        return None

    field = {"name": "x", "dtype": "uint8", "shape": [2]}
    home = Home.of(FunctionStage(glue, [field], [field]))
    assert home.place == f"{FILE}:{glue.__code__.co_firstlineno}"


def test_refusals_that_say_different_things_are_different_and_numbers_do_not_count() -> None:
    def refusal(text: str) -> Story:
        return examine(SpecMismatch(text), HOME)

    assert refusal("output 'x' of row 0").kind == refusal("output 'x' of row 12").kind
    assert refusal("output 'x' of row 0").kind != refusal("output 'y' of row 0").kind
    assert refusal("output 'x' of row 0").traceback == ""


def test_the_same_lines_are_one_kind_whatever_is_said_and_other_lines_are_another() -> None:
    def fail(word: str) -> None:
        raise ValueError(word)

    first, again = (story_of(Stage(lambda word=word: fail(word))) for word in ("one", "two"))  # type: ignore[misc]
    other = story_of(Stage(lambda: fail("one")))
    assert first.kind == again.kind
    assert "one" in first.message
    assert "two" in again.message
    assert other.kind != first.kind


def test_what_an_exception_came_of_is_shown_without_the_runtimes_frames() -> None:
    def fail() -> None:
        try:
            run(Stage(lambda: {}["missing"]), x=[np.zeros(2, np.uint8)])
        except KeyError as error:
            raise RuntimeError("no such setting") from error

    story = story_of(Stage(fail))
    assert "KeyError: 'missing'" in story.traceback
    assert "The above exception was the direct cause" in story.traceback
    assert story.traceback.endswith("RuntimeError: no such setting")


def test_a_traceback_is_never_longer_than_it_may_be_and_keeps_both_ends() -> None:
    def deep(left: int) -> None:
        # Two functions in turn, so that Python does not count the repetitions together.
        shallow(left - 1) if left else [][1]

    def shallow(left: int) -> None:
        deep(left)

    story = story_of(Stage(lambda: deep(200)))
    assert len(story.traceback) < LONGEST_TRACEBACK + 100
    assert "characters are left out here" in story.traceback
    assert story.traceback.startswith("Traceback (most recent call last):")
    assert story.traceback.endswith("IndexError: list index out of range")


def test_a_debuggers_end_says_where_a_debugger_works() -> None:
    assert "pipeline run --in-process CONFIG FILE" in examine(bdb.BdbQuit(), HOME).message


def test_an_exception_that_cannot_be_shown_is_told_all_the_same() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise ValueError("no words")

    def fail() -> None:
        raise Mute

    assert "Mute: which cannot be shown (" in story_of(Stage(fail)).message


def test_the_code_of_a_stage_of_ours_is_a_stages_and_not_the_runtimes() -> None:
    stage = TopK(labels=["a", "b"], k=1)
    with pytest.raises(AttributeError) as caught:
        stage.process(None)  # type: ignore[arg-type]
    assert "(classify.py:" in examine(caught.value, Home.of(stage)).message


def test_a_write_into_an_input_says_that_inputs_are_read_only() -> None:
    class Writes(Stage):
        def process(self, batch: Batch) -> None:
            batch.rows("x")[0][0] = 1

    assert "assignment destination is read-only; a stage's inputs are read-only" in story_of(Writes()).message


def test_what_a_stage_raises_while_it_is_made_is_told_with_its_own_frames(tmp_path: Path) -> None:
    (tmp_path / "made.py").write_text("class Made:\n    def __init__(self):\n        {}['key']\n")
    with pytest.raises(BadOption) as caught:
        load_stage("./made.py:Made", {}, tmp_path)
    message, text = start_failure(caught.value)
    assert message == "BadOption: ./made.py:Made: constructing it failed: KeyError: 'key'"
    frames = [line for line in text.splitlines() if line.startswith("  File ")]
    assert len(frames) == 1
    assert frames[0].endswith('made.py", line 3, in __init__')
    with pytest.raises(BadOption) as caught:
        load_stage("./made.py:Mode", {}, tmp_path)
    # Without this function's frame: there is no user's code that could be shown.
    assert caught.tb is not None
    assert start_failure(caught.value.with_traceback(caught.tb.tb_next))[1] == ""


# -- how often it is shown --------------------------------------------------------------------------


class Clock:
    now = 10**12

    def __call__(self) -> int:
        return self.now


def story(kind: str, traceback: str = "Traceback ...") -> Story:
    return Story(kind, f"ValueError ({kind})", f"ValueError: bad ({kind})", traceback)


def texts(failures: Failures, *, everything: bool = False) -> list[str]:
    return [entry.text for entry in failures.take(everything=everything)]


def test_each_kind_is_shown_once_and_then_counted() -> None:
    clock = Clock()
    failures = Failures(clock)
    failures.add(story("a.py:1"), "a-1", "work")
    (first,) = failures.take()
    assert first == Entry(
        "error", "request a-1 failed in stage work: ValueError: bad (a.py:1)", "", "work", ("a-1",),
        traceback="Traceback ...",
    )  # fmt: skip
    for number in range(2, 6):
        failures.add(story("a.py:1"), f"a-{number}", "work")
    failures.add(story("b.py:2", ""), "a-6", "work")
    clock.now += 1_000_000_000
    assert texts(failures) == ["request a-6 failed in stage work: ValueError: bad (b.py:2)"]
    clock.now += 5_000_000_000
    assert texts(failures) == ["again, 4 times: ValueError (a.py:1), last request a-5"]
    assert failures.take(everything=True) == []
    failures.add(story("a.py:1"), "a-7", "work")
    assert failures.take() == []
    assert texts(failures, everything=True) == ["again, once: ValueError (a.py:1), last request a-7"]
    assert failures.count == 7


def test_of_very_many_kinds_the_oldest_are_forgotten_and_none_is_uncounted() -> None:
    clock = Clock()
    failures = Failures(clock)
    for number in range(1000):
        for _ in range(2):
            failures.add(story(f"a.py:{number}"), f"a-{number}", "work")
    lines = texts(failures, everything=True)
    assert sum(line.startswith("again, once: ") for line in lines) == 1000
    assert sum(line.startswith("request ") for line in lines) == 1000
    assert len(failures._kinds) <= 64




def interrupted(module: str) -> KeyboardInterrupt:
    """Ctrl-C while a function of this module runs."""
    names: dict[str, Any] = {"__name__": module}
    exec(compile("def wait():\n    raise KeyboardInterrupt\n", f"{module}.py", "exec"), names)
    with pytest.raises(KeyboardInterrupt) as caught:
        names["wait"]()
    # Without the frame of this test.
    assert caught.value.__traceback__ is not None
    return caught.value.with_traceback(caught.value.__traceback__.tb_next)


def test_an_interruption_shows_the_users_frames_and_none_of_the_runtimes() -> None:
    assert 'File "own.py", line 2, in wait' in interruption(interrupted("own"))
    assert interruption(interrupted("pipeline.inprocess.running")) == "KeyboardInterrupt"
