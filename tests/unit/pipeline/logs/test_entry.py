from __future__ import annotations

import logging

import pytest

from pipeline.logs.entry import LEVELS, LONGEST_TEXT, MARK, RAW_MARK, Entry, entries_in, level_of_number

ALL = Entry(
    "warning", "two\nlines \udcff", "", "detect", ("3fa9c-17 cat.jpg",), "app", "Traceback ...", last=True, total=5
)  # fmt: skip


def test_what_a_child_says_comes_back_as_it_was_under_the_name_of_the_child() -> None:
    line = ALL.line()
    assert line.count("\n") == 1
    assert line.isascii()
    assert entries_in(line[:-1], "detect/0") == [ALL._replace(process="detect/0")]


def test_what_is_printed_is_an_entry_that_nothing_says_the_level_of() -> None:
    printed = Entry("info", "hello", "detect/0", printed=True)
    assert entries_in("hello", "detect/0") == [printed]
    assert entries_in("", "detect/0") == [printed._replace(text="")]


def test_what_was_printed_without_a_newline_is_not_lost_before_an_entry() -> None:
    said = entries_in(f"50%{ALL.line()[:-1]}", "detect/0")
    assert said == [Entry("info", "50%", "detect/0", printed=True), ALL._replace(process="detect/0")]


@pytest.mark.parametrize(
    "text",
    ['["warning", "cut of', "[]", "{}", "3", '["loud", "a", "", "", [], "", "", false, false, false, 1]',
     '["info", 7, "", "", [], "", "", false, false, false, 1]', '["info", "a", "", "", "b", "", "", false, false, false, 1]',
     '["info", "a", "", "", [1], "", "", false, false, false, 1]', '["info", "a", "", "", [], "", "", false, false, false, "1"]'],
)  # fmt: skip
def test_a_line_that_only_begins_as_an_entry_is_shown_as_it_is(text: str) -> None:
    assert entries_in(MARK + text, "detect/0") == [Entry("info", text, "detect/0", printed=True)]


def test_a_line_of_the_access_log_has_its_form_already() -> None:
    assert entries_in(RAW_MARK + '{"a": 1}', "access") == [Entry("info", '{"a": 1}', "access", raw=True)]


def test_what_another_process_prints_has_no_form_although_it_begins_as_a_line_of_the_access_log() -> None:
    assert entries_in(RAW_MARK + "binary", "detect/0") == [Entry("info", RAW_MARK + "binary", "detect/0", printed=True)]


def test_of_a_traceback_without_end_the_middle_is_left_out() -> None:
    (entry,) = entries_in(Entry("error", "", traceback="first" + "x" * 10**6 + "last").line()[:-1], "detect/0")
    assert entry.traceback.startswith("firstx")
    assert entry.traceback.endswith("xlast")
    assert len(entry.traceback) < LONGEST_TEXT + 100


def test_a_text_without_end_is_cut() -> None:
    (entry,) = entries_in(Entry("info", "x" * 10**6).line()[:-1], "detect/0")
    assert entry.text == "x" * LONGEST_TEXT + "..."


def test_any_number_of_a_level_has_a_name_that_it_reaches() -> None:
    numbers = (0, logging.DEBUG, logging.INFO, LEVELS["note"], logging.WARNING, logging.ERROR, 45, logging.CRITICAL, 99)
    assert [level_of_number(number) for number in numbers] == [
        "debug", "debug", "info", "info", "warning", "error", "error", "critical", "critical",
    ]  # fmt: skip


def test_of_many_requests_three_are_named() -> None:
    labels = ("a-1 cat.jpg", "a-2", "a-3", "a-4")
    assert Entry("info", "", "", "detect", labels, total=9).about() == "detect a-1 (cat.jpg), a-2, a-3, 6 more"
    assert Entry("info", "", "", "detect").about() == "detect"
    assert Entry("info", "", "", "", labels).about() == ""
