"""The last words of several workers, as people are shown them."""

from __future__ import annotations

from pipeline.supervisor.last_words import LastWords
from pipeline.worker.failures import LAST_WORDS

EXIT = ["stage s ends its process: SystemExit: 3 (own.py:7)", "Traceback", "SystemExit: 3"]
OTHER = ["stage s ends its process: SystemExit: 4 (own.py:9)", "Traceback", "SystemExit: 4"]


def shown(words: LastWords, process: int, lines: list[str], stages: str = "s") -> list[str]:
    found = [words.shown(stages, process, LAST_WORDS + line) for line in lines]
    return [line for line in found if line is not None]


def test_the_same_last_words_are_shown_once_and_then_named() -> None:
    words = LastWords()
    assert shown(words, 1, EXIT) == EXIT
    assert shown(words, 2, EXIT) == [f"{EXIT[0]} (as before)"]
    assert shown(words, 3, EXIT) == [f"{EXIT[0]} (as before)"]


def test_other_last_words_are_shown_whole() -> None:
    words = LastWords()
    assert shown(words, 1, EXIT) == EXIT
    assert shown(words, 2, OTHER) == OTHER
    assert shown(words, 3, OTHER, stages="t") == OTHER


def test_what_is_not_said_at_the_end_is_always_shown() -> None:
    words = LastWords()
    for process in (1, 2):
        assert words.shown("s", process, EXIT[0]) == EXIT[0]
