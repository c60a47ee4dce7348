"""The command line that benchmarks have in common: what it measures, what it writes, and how it fails."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench.benchmark import Benchmark
from bench.floors.slots import TornTensor
from bench.measure import Flow, SubjectDied
from pipeline.errors import Unavailable

asked: list[tuple[str, int, int]] = []


class Subject:
    """A subject that does nothing, or fails."""

    def __init__(self, name: str, error: Exception | None = None) -> None:
        self.name = name
        self._error = error

    def setup(self, nbytes: int, window: int) -> None:
        asked.append((self.name, nbytes, window))

    def latency(self, seconds: float) -> list[float]:
        if self._error is not None:
            raise self._error
        return [1.0]

    def throughput(self, seconds: float, window: int) -> Flow:
        return Flow(window, 0.5)

    def pids(self) -> list[int]:
        return [os.getpid()]

    def close(self) -> None:
        asked.append((self.name, 0, 0))


def benchmark(windows: dict[str, tuple[int, ...]] | tuple[int, ...], error: Exception | None = None) -> Benchmark:
    subjects: dict[str, Callable[[], Subject]] = {"a": lambda: Subject("a"), "b": lambda: Subject("b", error)}
    return Benchmark("bench.it", "It.", subjects, (4096, 8192), windows, "a")  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    asked.clear()
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGALRM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_every_subject_is_measured_at_every_size_and_written_down(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written = tmp_path / "new" / "it.json"
    assert benchmark((4,)).main(["--rounds", "1", "--seconds", "0", "--json", str(written)]) == 0
    assert asked == [("a", 4096, 4), ("a", 0, 0), ("b", 4096, 4), ("b", 0, 0), ("a", 8192, 4), ("a", 0, 0),
                     ("b", 8192, 4), ("b", 0, 0)]  # fmt: skip
    document = json.loads(written.read_text())
    assert (document["reference"], document["rounds"], document["seconds"]) == ("a", 1, 0.0)
    assert [(cell["subject"], cell["nbytes"], cell["window"]) for cell in document["cells"]] == [
        (name, nbytes, window) for nbytes in (4096, 8192) for name in "ab" for window in (1, 4)
    ]
    assert {"4,096 B", "8,192 B"} <= set(capsys.readouterr().out.splitlines())


def test_windows_that_all_subjects_have_are_an_option_and_cut_to_the_memory(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--rounds", "1", "--seconds", "0", "--sizes", "1048576", "--subjects", "b", "--reference", "b"]
    assert benchmark((4,)).main([*options, "--windows", "2,64", "--slots-mib", "16"]) == 0
    assert asked == [("b", 1048576, 16), ("b", 0, 0)]
    assert "at most W = 16, not 64: 16 MiB of slots" in capsys.readouterr().out


def test_windows_of_subjects_are_their_own_and_no_option(capsys: pytest.CaptureFixture[str]) -> None:
    its = benchmark({"a": (4,), "b": (16,)})
    assert its.main(["--rounds", "1", "--seconds", "0", "--sizes", "64"]) == 0
    assert [entry for entry in asked if entry[1]] == [("a", 64, 4), ("b", 64, 16)]
    with pytest.raises(SystemExit):
        its.main(["--windows", "2"])
    assert "unrecognized arguments: --windows 2" in capsys.readouterr().err


@pytest.mark.parametrize("error", [TornTensor("torn"), SubjectDied("died"), Unavailable("gone")])
def test_a_run_whose_numbers_mean_nothing_fails_and_writes_nothing(
    error: Exception, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written = tmp_path / "it.json"
    assert benchmark((4,), error).main(["--rounds", "1", "--seconds", "0", "--json", str(written)]) == 1
    assert capsys.readouterr().err == f"benchmark failed: {error}\n"
    assert not written.exists()
    assert asked[-1] == ("b", 0, 0)


@pytest.mark.parametrize("arguments", [["--subjects", "c"], ["--sizes", "0"], ["--rounds", "-1"], ["--reference", "c"]])
def test_what_cannot_be_measured_is_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        benchmark((4,)).main(arguments)
    assert ended.value.code == 2
    assert arguments[1] in capsys.readouterr().err
