"""What workers say again, as people are shown it."""

from __future__ import annotations

from pipeline.logs.entry import Entry
from pipeline.supervisor.last_words import LastWords

EXIT = Entry("error", "stage s ends its process: SystemExit: 3 (own.py:7)", traceback="Traceback", last=True)
OTHER = Entry("error", "stage s ends its process: SystemExit: 4 (own.py:9)", traceback="Traceback", last=True)


def failure(text: str, line: int) -> Entry:
    frames = f"Traceback\n  File \"own.py\", line {line}, in process\n    raise\n{text}"
    return Entry("error", f"request a-1 failed: {text}", stage="s", traceback=frames)


def test_the_same_last_words_are_shown_once_and_then_named() -> None:
    words = LastWords()
    assert words.shown("s", EXIT) == EXIT
    again = EXIT._replace(text=f"{EXIT.text} (as before)", traceback="")
    assert [words.shown("s", EXIT), words.shown("s", EXIT)] == [again, again]


def test_other_last_words_are_shown_whole() -> None:
    words = LastWords()
    assert words.shown("s", EXIT) == EXIT
    assert words.shown("s", OTHER) == OTHER
    assert words.shown("t", OTHER) == OTHER


def test_the_traceback_of_a_failure_is_shown_once_for_each_stage_and_place_whatever_the_exception_says() -> None:
    words = LastWords()
    first, second = failure("no face", 3), failure("no eyes", 3)
    assert words.shown("s", first) == first
    assert words.shown("s", second) == second._replace(text=f"{second.text} (as before)", traceback="")
    for stage, entry in (("t", first), ("s", failure("no face", 4))):
        assert words.shown(stage, entry) == entry


def test_what_is_logged_by_the_stage_itself_and_what_is_printed_is_always_shown() -> None:
    words = LastWords()
    for entry in (failure("no face", 3)._replace(logger="app"), Entry("info", "printed", printed=True)):
        assert words.shown("s", entry) == entry
        assert words.shown("s", entry) == entry


def test_tracebacks_without_end_take_no_memory_without_end() -> None:
    words = LastWords()
    for line in range(1000):
        words.shown("s", failure("no face", line))
    assert len(words._tracebacks) == 256
