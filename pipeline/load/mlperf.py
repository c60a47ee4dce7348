"""MLPerf: a model driven by MLPerf's LoadGen, in performance mode. A measurement, and no result of MLPerf's.

LoadGen decides when each sample is sent, by its scenario, and judges what came of it:

    server          samples at random times (Poisson), at a target rate; a percentile of latencies below a target
    offline         all samples at once: as many go together as a request may carry (see `queries`)
    singlestream    one sample after the other

It has no word for a sample that fails, and waits for ever for one that is not completed. So a failure is told to it as
an answer, and counted here: its verdict counts only if there was none.
"""

from __future__ import annotations

import importlib
import re
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from pipeline.errors import ConfigError
from pipeline.load.inputs import Stock
from pipeline.load.queries import Queries, told_of
from pipeline.load.target import Opened

__all__ = ["NO_RESULT", "Outcome", "Scenario", "Wanted", "load_loadgen", "measure", "verdict_of"]

NO_RESULT = (
    "This is a run of LoadGen in performance mode. It is no MLPerf result: none of the models, data sets, accuracy "
    "checks, durations and reviews that MLPerf demands are part of it."
)
_EXPECTED_NS = 200_000
_LOOK_S = 0.2
_SUMMARY = "mlperf_log_summary.txt"
_VERDICT = re.compile(r"^Result is\s*: (\w+)$", re.MULTILINE)


class Scenario(str, Enum):
    """What LoadGen calls the ways in which it sends samples."""

    SERVER = "server"
    OFFLINE = "offline"
    SINGLESTREAM = "singlestream"

    @property
    def name_there(self) -> str:
        """Its name in LoadGen."""
        return {"server": "Server", "offline": "Offline", "singlestream": "SingleStream"}[self.value]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What LoadGen is told to do."""

    scenario: Scenario
    target_qps: float = 100.0
    """Samples per second: the rate of server, and the rate that offline expects, which makes its number of samples."""
    target_latency_ms: float = 15.0
    """Of server: what the 99th percentile must be below."""
    min_duration_s: float = 10.0
    query_count: int = 100
    """Queries at least; of offline: samples."""
    logged_answers: int = 0
    """About how many answers LoadGen writes into its log, each with the index of its sample."""

    def settings(self, loadgen: Any) -> Any:
        """As LoadGen's `TestSettings`."""
        made = loadgen.TestSettings()
        made.scenario = getattr(loadgen.TestScenario, self.scenario.name_there)
        made.mode = loadgen.TestMode.PerformanceOnly
        made.min_duration_ms = round(self.min_duration_s * 1000)
        made.min_query_count = self.query_count
        made.accuracy_log_sampling_target = self.logged_answers
        if self.scenario is Scenario.SERVER:
            made.server_target_qps = self.target_qps
            made.server_target_latency_ns = round(self.target_latency_ms * 1e6)
            made.server_target_latency_percentile = 0.99
        elif self.scenario is Scenario.OFFLINE:
            made.offline_expected_qps = self.target_qps
        else:
            # From it follows how many queries are made beforehand; too many do not matter, too few do.
            made.single_stream_expected_latency_ns = _EXPECTED_NS
        return made


@dataclass
class Outcome:
    """What came of it."""

    summary: str = ""
    """LoadGen's own, whole."""
    verdict: str = ""
    """LoadGen's: "VALID" or "INVALID"; empty if it has written none."""
    failures: Counter[str] = field(default_factory=Counter)
    """Samples that failed, by the kind of their error; LoadGen counts them as answered."""
    requests: str = ""
    """How many there were, and of how many rows; for a person."""

    @property
    def ok(self) -> bool:
        """Whether the verdict is VALID and counts."""
        return self.verdict == "VALID" and not self.failures


def load_loadgen() -> Any:
    """The module of LoadGen.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        return importlib.import_module("mlperf_loadgen")
    except ModuleNotFoundError:
        raise ConfigError(
            'bench needs LoadGen, which is missing: pip install "trtlab[bench]" (there are wheels for x86-64 only)'
        ) from None


def verdict_of(summary: str) -> str:
    """LoadGen's verdict in its summary; empty if it has none."""
    found = _VERDICT.search(summary)
    return found[1] if found else ""


def measure(loadgen: Any, target: Opened, stock: Stock, wanted: Wanted, folder: Path) -> Outcome:
    """Let LoadGen drive the model until it has enough.

    Args:
        loadgen: of `load_loadgen`.
        stock: its samples.
        folder: where LoadGen writes its logs; it is there.

    Raises:
        KeyboardInterrupt: Ctrl-C. LoadGen goes on in a thread, so the process must end by `os._exit`.
    """

    def completed(ids: Sequence[int], answers: Sequence[NDArray[Any] | None]) -> None:
        # LoadGen has read the bytes of those that it logs when this returns.
        response = loadgen.QuerySampleResponse
        loadgen.QuerySamplesComplete(
            [response(sample, *_bytes_of(answer)) for sample, answer in zip(ids, answers, strict=True)]
        )

    def nothing(*_: Any) -> None:
        """What is asked for is there already."""

    queries = Queries(target.runner, stock, target.rows, completed)
    logs = loadgen.LogSettings()
    logs.log_output.outdir = str(folder)
    logs.log_output.copy_summary_to_stdout = False
    logs.enable_trace = False
    system = loadgen.ConstructSUT(queries.issue, nothing)
    library = loadgen.ConstructQSL(len(stock.requests), len(stock.requests), nothing, nothing)
    settings = wanted.settings(loadgen)
    # It does not return before it has enough. Ctrl-C reaches this thread, and cannot break through its code in C++.
    thread = threading.Thread(
        target=loadgen.StartTestWithLogSettings, args=(system, library, settings, logs, ""), daemon=True
    )
    thread.start()
    while thread.is_alive():
        thread.join(_LOOK_S)
    loadgen.DestroyQSL(library)
    loadgen.DestroySUT(system)
    summary = (folder / _SUMMARY).read_text()
    return Outcome(summary, verdict_of(summary), queries.failures, told_of(queries.sent, target.rows))


def _bytes_of(answer: NDArray[Any] | None) -> tuple[int, int]:
    """Where LoadGen finds an answer, and how many bytes it has."""
    return (0, 0) if answer is None else (answer.__array_interface__["data"][0], answer.nbytes)
