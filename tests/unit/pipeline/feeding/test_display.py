"""What a person sees, rendered to a recorded console."""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Sequence

import pytest
from rich.console import Console

from pipeline.feeding.display import PlainDisplay, TerminalDisplay, make_display
from pipeline.feeding.record import Record
from pipeline.feeding.summary import EdgeCopy, Summary
from stages.copies import GATHERED, REASONS, RETURNED

STAGE = {"queue_ms": 1.0, "compute_ms": 2.0, "batch": 2, "copied_bytes": 2048}


def ok(name: str, label: str = "cat", score: float = 0.9) -> Record:
    return Record(name, headline=(label, f"{score:.4f}"), latency_ms=10.0, stages={"infer": STAGE})


def bad(name: str) -> Record:
    return Record(name, ("BadInput", "no picture [bold]at all[/bold]"))


def summary_of(records: list[Record], not_sent: int = 0, copies: Sequence[EdgeCopy] = ()) -> Summary:
    summary = Summary.of(["infer"])
    for record in records:
        summary.add(record)
    summary.seconds = 2.0
    summary.not_sent = not_sent
    summary.copies = list(copies)
    summary.closed = {"infer": {"full": 1, "delay": 2, "drained": 0}}
    return summary


def on_terminal(
    records: list[Record], not_sent: int = 0, width: int = 100, copies: Sequence[EdgeCopy] = ()
) -> str:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=width, markup=False, highlight=False, emoji=False, legacy_windows=False)
    with TerminalDisplay(console, "pets", len(records) + not_sent) as display:
        for record in records:
            display.add(record)
        display.finish(summary_of(records, not_sent, copies))
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue())


def in_pipe(
    records: list[Record], *, quiet: bool = False, not_sent: int = 0, copies: Sequence[EdgeCopy] = ()
) -> str:
    stream = io.StringIO()
    with PlainDisplay(Console(file=stream, width=1000, markup=False, highlight=False, emoji=False), quiet) as display:
        for record in records:
            display.add(record)
        display.tick()
        display.finish(summary_of(records, not_sent, copies))
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines())


def test_a_pipe_gets_one_line_a_request_then_the_summary() -> None:
    text = in_pipe([ok("a.jpg"), bad("b.jpg"), ok("c.jpg", "dog", 0.12345)])
    assert text.splitlines()[:3] == [
        "a.jpg  cat  0.9000",
        "b.jpg  FAILED  BadInput: no picture [bold]at all[/bold]",
        "c.jpg  dog  0.1235",
    ]
    assert "3 requests, 1 failed in 2.00 s: 1.0/s" in text
    assert re.search(r"latency ms: p50 (9\.9|10\.[01]), p90 \S+, p99 \S+ +copied: 2\.0 KiB per request", text)
    assert re.search(r"^infer +1\.00 +2\.00 +2\.00 +2\.0 KiB +full 1, delay 2$", text, re.MULTILINE)
    assert "\x1b" not in text


@pytest.mark.parametrize("rich", [True, False])
def test_if_no_stage_has_run_there_is_no_table(rich: bool) -> None:
    summary = Summary.of(["infer"])
    summary.add(bad("nope.jpg"))
    stream = io.StringIO()
    console = Console(file=stream, width=100, force_terminal=rich)
    with (TerminalDisplay(console, "pets", 1) if rich else PlainDisplay(console, False)) as display:
        display.finish(summary)
    assert "1 request, 1 failed" in stream.getvalue()
    assert "infer" not in stream.getvalue()
    # A stage that has only failed has run.
    summary.closed = {"infer": {"full": 1, "delay": 0}}
    with PlainDisplay(console, False) as plain:
        plain.finish(summary)
    assert "full 1" in stream.getvalue()


def test_what_was_copied_is_a_table_by_edge_and_without_copies_one_word() -> None:
    still = Record("a.jpg", latency_ms=1.0, stages={"infer": {**STAGE, "copied_bytes": 0}})
    assert re.search(r"p99 \S+ +copied: nothing$", in_pipe([still]), re.MULTILINE)
    assert "copied on" not in in_pipe([still])
    copies = [EdgeCopy("decode.x -> infer.x", GATHERED, 4096, 2), EdgeCopy("infer.y", RETURNED, 10, 1)]
    for text in (in_pipe([ok("a.jpg")], copies=copies), on_terminal([ok("a.jpg")], copies=copies)):
        assert re.search(r"copied on +bytes +batches +because", text)
        assert re.search(rf"^ ?decode\.x -> infer\.x +4\.0 KiB +2 +gathered: {REASONS[GATHERED].why} *$", text, re.MULTILINE)
        assert re.search(r"^ ?infer\.y +10 B +1 +returned: the stage gave a value", text, re.MULTILINE)


def test_a_quiet_pipe_gets_failures_and_the_summary_only() -> None:
    text = in_pipe([ok("a.jpg"), bad("b.jpg")], quiet=True)
    assert "a.jpg" not in text
    assert text.startswith("b.jpg  FAILED  BadInput: ")
    assert "2 requests, 1 failed" in text


def test_a_long_name_is_never_cut_in_a_pipe() -> None:
    name = "x" * 3000 + ".jpg"
    assert f"{name}  cat  0.9000" in in_pipe([ok(name)]).splitlines()


def test_a_request_is_one_line_whatever_its_file_is_called() -> None:
    strange = ok("a\nb\x1b[31m\\.jpg", "x\ty")
    assert "a\\nb\\x1b[31m\\.jpg  x\\ty  0.9000" in in_pipe([strange]).splitlines()
    assert "\\x1b[31m" in on_terminal([strange, bad("c\x1b.jpg")])
    assert "c\\x1b.jpg  FAILED" in on_terminal([bad("c\x1b.jpg")])


def test_what_a_worker_printed_last_is_not_shown_again() -> None:
    crashed = Record("a.jpg", ("StageCrashed", "stage s: exit code 3; it printed last:\n    Traceback\n    SystemExit: 3"))
    for text in (in_pipe([crashed]), on_terminal([crashed])):
        assert "a.jpg  FAILED  StageCrashed: stage s: exit code 3\n" in text
        assert "SystemExit" not in text


def test_what_a_stage_says_of_a_failure_moves_no_cursor() -> None:
    failed = Record("a.jpg", ("StageFailed", "first\x1b[2J\nsecond\x07"))
    for text in (in_pipe([failed]), on_terminal([failed])):
        assert re.search(r"a\.jpg  FAILED  StageFailed: first\\x1b\[2J *\nsecond\\x07", text)


def test_what_was_answered_before_and_what_is_not_known_are_told() -> None:
    summary = summary_of([ok("a")])
    summary.skipped, summary.stopped = 5, True
    stream = io.StringIO()
    PlainDisplay(Console(file=stream, width=1000), quiet=False).finish(summary)
    assert "1 request, 0 failed, 5 answered before, the rest not sent in" in stream.getvalue()


def test_how_many_there_will_be_need_not_be_known() -> None:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=100, legacy_windows=False)
    with TerminalDisplay(console, "pets", None) as display:
        display.add(ok("a.jpg"))
        display.finish(summary_of([ok("a.jpg")]))
    assert "a.jpg" in stream.getvalue()


def test_what_was_not_sent_is_counted() -> None:
    assert "1 request, 0 failed, 7 not sent in" in in_pipe([ok("a")], not_sent=7)
    assert "1 request, 0 failed, 7 not sent in" in on_terminal([ok("a")], not_sent=7)


def test_a_terminal_gets_a_table_then_the_failures_then_the_summary() -> None:
    text = on_terminal([ok("a.jpg"), bad("b.jpg"), ok("c.jpg", "dog", 0.5)])
    parts = [
        r"file +top label +probability",
        r"a\.jpg +cat +0\.9000",
        r"c\.jpg +dog +0\.5000",
        r"b\.jpg  FAILED  BadInput: no picture \[bold\]at all\[/bold\]",
        r"3 requests, 1 failed in 2\.00 s",
        r"infer +1\.00 +2\.00 +2\.00 +2\.0 KiB +full 1, delay 2",
    ]
    assert re.search(r"[\s\S]*".join(parts), text)


def test_a_terminal_shows_the_first_rows_and_says_how_many_more_there_are() -> None:
    text = on_terminal([ok(f"{number}.jpg") for number in range(100)])
    assert len(re.findall(r"^ ?\d+\.jpg +cat", text, re.MULTILINE)) == 40
    assert "... and 60 more; --output FILE.jsonl writes all of them" in text
    text = on_terminal([bad(f"{number}.jpg") for number in range(100)])
    assert "... and 60 more failures" in text
    assert "top label" not in text


def test_outputs_that_are_no_scores_are_shown_in_short() -> None:
    text = on_terminal([Record("a.bin", headline=('{"count": 3}', ""), stages={"infer": STAGE})])
    assert re.search(r"file +outputs", text)
    assert "probability" not in text
    assert re.search(r'a\.bin +\{"count": 3\}', text)


@pytest.mark.parametrize("width", [60, 80])
def test_no_name_and_no_number_of_the_summary_is_broken_on_a_narrow_terminal(width: int) -> None:
    text = on_terminal([ok("a.jpg")], width=width)
    for word in ("infer", "2.0 KiB"):
        assert word in text


def test_a_reader_that_has_gone_is_told_as_that_and_ends_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    os.close(read)
    with open(write, "w", encoding="utf-8") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        display = make_display("pets", 1)
        with pytest.raises(BrokenPipeError):
            display.finish(summary_of([ok("a.jpg")]))
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, write)
        os.close(null)


def test_a_display_fits_what_stdout_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert isinstance(make_display("pets", 1), PlainDisplay)
    with make_display("pets", 1, stderr=True) as display:
        display.add(ok("a.jpg"))
        display.finish(summary_of([ok("a.jpg")]))
    said = capsys.readouterr()
    assert (said.out, "a.jpg  cat" in said.err) == ("", True)
