"""The feeder process: the client that `pipeline run CONFIG FILE...` is.

It sends the requests, shows the answers, and ends with the exit code of the run: 0 all answered, 1 some were not, or a
tensor was copied though `--assert-zero-copy` forbids it. On SIGTERM it sends nothing more and finishes what is under
way. It uses nothing that an application could not.
"""

from __future__ import annotations

import gc
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from pipeline.client.client import Client
from pipeline.errors import Unavailable
from pipeline.feeding.display import Display, make_display
from pipeline.feeding.feed import Feed
from pipeline.feeding.output import Output, OutputBroken, open_output
from pipeline.feeding.paths import STDOUT, expand
from pipeline.feeding.record import Record
from pipeline.feeding.sources import Intake, Sources
from pipeline.feeding.summary import Summary, describe_copies
from pipeline.processes.child import Boot, boot
from pipeline.streams import say, settle_streams, silence, take_over_line

__all__ = ["feed", "main"]

_REPORTS_WAIT_S = 0.5
#: Workers report within 0.2 s of their last batch.
_SETTLED_S = 0.5
#: Records are in `--output` after this time at most.
_FLUSH_S = 0.5


class _Gone(Exception):
    """The reader of the answers has gone: `| head` has seen enough."""


class _Presenter:
    """What becomes of each record: a line in the output, and something for a person to see."""

    def __init__(self, output: Output, display: Display, *, shown_on: int, only_shown: bool, flush_s: float) -> None:
        self._output = output
        self._display = display
        #: The descriptor that the display writes to.
        self._shown_on = shown_on
        #: Whether the answers are shown nowhere else.
        self._only_shown = only_shown
        #: For how long records may be kept back.
        self._flush_s = flush_s
        self._flushed = time.monotonic()
        #: Whether drawing has failed. What a display draws next depends on what it has drawn.
        self._unheard = False

    @contextmanager
    def showing(self) -> Iterator[None]:
        """Within the block the display is shown. A terminal draws at its begin and at its end too."""
        self._show(self._display.__enter__)
        try:
            yield
        finally:
            self._show(lambda: self._display.__exit__(None, None, None))

    def add(self, record: Record) -> None:
        self._output.add(record)
        self._show(lambda: self._display.add(record))

    def tick(self) -> None:
        now = time.monotonic()
        if now - self._flushed >= self._flush_s:
            self._flushed = now
            self._output.flush()
        self._show(self._display.tick)

    def finish(self, summary: Summary) -> None:
        self._show(lambda: self._display.finish(summary))

    def _show(self, draw: Callable[[], object]) -> None:
        """If nothing can be shown any more, the run ends if that was its purpose; otherwise nothing is drawn again."""
        if self._unheard:
            return
        try:
            draw()
        except BrokenPipeError:
            self._silence()
            if self._only_shown:
                raise _Gone from None
        except OSError as error:
            self._silence()
            if self._only_shown:
                raise OutputBroken(f"stdout: {error.strerror or error}") from error
            say(f"warning: stdout: {error.strerror or error}; nothing more is shown")

    def _silence(self) -> None:
        self._unheard = True
        silence(self._shown_on)


def _run(boot: Boot) -> int:
    with Client.connect(boot.run_dir, name="feeder") as client:
        if not boot.extra["quiet"]:
            # The supervisor takes "starting ..." away when it learns that the pipeline is ready, which may be later.
            take_over_line()
        return feed(client, boot.extra, Path(boot.plan.config_path).name)


def feed(client: Client, wanted: dict[str, Any], config: str, *, plain: bool = False) -> int:
    """Send what is `wanted` through a connected client and show the answers; the run's exit code.

    Args:
        config: what messages call the YAML file of the pipeline.
        plain: lines, also on a terminal: what stages print, or a debugger, must not meet a progress bar.
    """
    interface = client.interface
    expansion = expand(wanted["named"], wanted["patterns"], without=wanted["output"])
    for empty in expansion.empty:
        say(f"error: {empty}")
    summary = Summary.of(interface.stages)
    stopped_by = ""
    with ExitStack() as stack:
        # Not before the pipeline is ready: if it cannot start, the last run's file stays as it is.
        target: str | None = wanted["output"]
        output, done = open_output(target, append=wanted["append"], pictures=wanted["pictures"])
        stack.callback(output.close)
        intake = Intake([tensor.spec for tensor in interface.inputs], config=config, text=wanted["text"])
        sources = Sources(intake, expansion.files, stdin=wanted["stdin"], limit=wanted["limit"], done=done)
        feed = Feed(client, sources, intake, output)
        signal.signal(signal.SIGTERM, lambda *_: feed.stop())
        # Blocked since its birth, so that none is lost.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        to_stdout = target == STDOUT
        total = sources.total
        quiet = wanted["quiet"] or to_stdout
        # The reader of stdout may wait for an answer before it sends more.
        presenter = _Presenter(
            output,
            make_display(interface.name, total, quiet=quiet, plain=plain, stderr=to_stdout),
            shown_on=2 if to_stdout else 1,
            only_shown=target is None,
            flush_s=0.0 if to_stdout else _FLUSH_S,
        )
        stack.enter_context(presenter.showing())
        began = time.monotonic()
        try:
            for record in feed.run(presenter.tick):
                summary.add(record)
                presenter.add(record)
            output.flush()
        except (Unavailable, OutputBroken) as error:
            stopped_by = str(error)
        except BrokenPipeError:
            raise _Gone from None
        summary.seconds = time.monotonic() - began
        summary.skipped = sources.skipped
        summary.stopped = total is None and not sources.exhausted
        summary.not_sent = 0 if total is None else total - summary.requests
        reported = not stopped_by and _take_reports(client, summary, _SETTLED_S if wanted["assert_zero_copy"] else 0.0)
        presenter.finish(summary)
    copied = wanted["assert_zero_copy"] and (bool(summary.copies) or not reported)
    settle_streams()
    if stopped_by:
        say(f"error: {stopped_by}")
    if copied and reported:
        say(f"error: {describe_copies(summary.copies)}")
    failed = summary.failures or summary.not_sent or summary.stopped or stopped_by or expansion.empty
    return 1 if failed or copied else 0


def _take_reports(client: Client, summary: Summary, settle_s: float) -> bool:
    """Take the workers' reports into the summary, and say whether they came: a moment after the last batch.

    Args:
        settle_s: seconds for which nothing new must have come.
    """
    rows = sum(stage.requests for stage in summary.stages.values())
    now = since = time.monotonic()
    end = now + _REPORTS_WAIT_S + settle_s
    last = -1
    while True:
        try:
            status = client.status()
        except (TimeoutError, Unavailable) as error:
            # All requests are answered; what is missing is how batches closed, and what was copied.
            say(f"warning: the pipeline has not reported how it ran: {error}")
            return False
        now = time.monotonic()
        found = sum(stage["rows"] for stage in status["stages"])
        if found != last:
            last, since = found, now
        if now > end or (found >= rows and now - since >= settle_s):
            break
        time.sleep(0.02)
    summary.add_status(status)
    return True


def main() -> None:
    """Entry point of the process."""
    boot_ = boot()
    try:
        status = _run(boot_)
    except _Gone:
        status = 1
    except (Unavailable, OutputBroken) as error:
        say(f"error: {error}")
        status = 1
    except OSError as error:
        say(f"cannot write the output: {error}")
        status = 2
    settle_streams()
    # The supervisor waits for the end: what has been imported is not searched for garbage once more.
    gc.freeze()
    sys.exit(status)


if __name__ == "__main__":
    main()
