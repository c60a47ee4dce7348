"""The statistics and meters of the benchmark, and the order in which it measures."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import pytest

from bench.measure import (
    QUIET_CORES,
    Flow,
    Load,
    Repeat,
    SubjectDied,
    allowed_windows,
    cpu_seconds,
    measure,
    metered,
    parse_busy,
    spread,
)


def repeat(rate: float, foreign: float = 0.0, p50: float | None = None) -> Repeat:
    return Repeat(requests=100, cpu_us=1.0, foreign_cores=foreign, rate=rate, p50_us=p50)


def rate_of(repeat: Repeat) -> float:
    return repeat.rate


def test_the_spread_is_the_median_and_the_extremes_of_the_repeats() -> None:
    found = spread([repeat(30.0), repeat(10.0), repeat(90.0)], rate_of)
    assert found == (30.0, 10.0, 90.0, 3, False)


def test_a_disturbed_repeat_is_left_out_while_half_of_the_repeats_are_quiet() -> None:
    found = spread([repeat(10.0), repeat(20.0), repeat(999.0, foreign=0.6), repeat(1.0, foreign=0.6)], rate_of)
    assert found == (15.0, 10.0, 20.0, 2, False)


def test_all_repeats_count_and_the_cell_is_marked_when_most_are_disturbed() -> None:
    found = spread([repeat(10.0), repeat(30.0, foreign=0.6), repeat(50.0, foreign=0.6)], rate_of)
    assert found == (30.0, 10.0, 50.0, 3, True)


def test_the_quiet_limit_itself_is_quiet() -> None:
    assert repeat(1.0, foreign=QUIET_CORES).quiet
    assert not repeat(1.0, foreign=QUIET_CORES + 0.01).quiet


def test_a_value_that_no_repeat_has_gives_no_spread() -> None:
    assert spread([repeat(1.0)], lambda r: r.p50_us) is None
    assert spread([], rate_of) is None


def test_windows_are_cut_to_the_memory_there_is() -> None:
    assert allowed_windows((16, 64), slot_bytes=10, budget_bytes=640) == [16, 64]
    assert allowed_windows((16, 64), slot_bytes=10, budget_bytes=639) == [16, 63]
    assert allowed_windows((16, 64), slot_bytes=10, budget_bytes=100) == [10]
    assert allowed_windows((16, 64), slot_bytes=10, budget_bytes=9) == [1]


def test_busy_time_counts_stolen_but_neither_idle_nor_waiting_nor_guest_time_twice() -> None:
    #              user nice system idle iowait irq softirq steal guest guest_nice
    assert parse_busy("cpu  100 20 30 9999 8888 4 5 6 100 20\ncpu0 1 1 1 1 1 1 1 1 1 1\n", 100) == 1.65


def test_foreign_load_is_what_the_machine_did_beyond_the_subject() -> None:
    assert Load(seconds=2.0, own_s=1.0, busy_s=2.5).foreign_cores == 0.75
    assert Load(seconds=2.0, own_s=1.02, busy_s=1.0).foreign_cores == 0.0  # ticks are coarser than schedstat


def test_the_cpu_of_every_thread_of_a_process_is_counted() -> None:
    stop = threading.Event()

    def burn_then_stay() -> None:
        end = time.thread_time() + 0.05
        while time.thread_time() < end:
            pass
        burnt.set()
        stop.wait()

    burnt = threading.Event()
    before, main_before = cpu_seconds([os.getpid()]), time.thread_time()
    thread = threading.Thread(target=burn_then_stay)
    thread.start()
    burnt.wait()
    others = cpu_seconds([os.getpid()]) - before - (time.thread_time() - main_before)
    stop.set()
    thread.join()
    assert others > 0.04


def test_metering_a_process_that_is_gone_says_so() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    with pytest.raises(SubjectDied, match=str(child.pid)):
        cpu_seconds([child.pid])


def test_a_load_can_be_read_only_after_its_block() -> None:
    with metered([os.getpid()]) as load:
        with pytest.raises(RuntimeError, match="has not ended"):
            load()
        time.sleep(0.01)
    assert load().seconds >= 0.01


def test_the_cpu_of_groups_of_processes_is_told_apart() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        with metered({"mine": [os.getpid()], "its": [child.pid], "none": []}) as load:
            end = time.thread_time() + 0.05
            while time.thread_time() < end:
                pass
    finally:
        child.communicate(b"\n")
    groups = load().groups_s
    assert list(groups) == ["mine", "its", "none"]
    assert groups["mine"] > 0.04
    assert groups["none"] == 0.0
    assert sum(groups.values()) == load().own_s


class Diary:
    """A subject that writes down what it is asked, and fails where it is told to."""

    def __init__(self, name: str, diary: list[str], fails: bool = False) -> None:
        self.name = name
        self._diary = diary
        self._fails = fails

    def setup(self, nbytes: int, window: int) -> None:
        self._diary.append(f"{self.name} setup {nbytes} {window}")

    def latency(self, seconds: float) -> list[float]:
        if self._fails:
            raise SubjectDied("told to")
        return [1.0, 2.0, 3.0, 4.0, 100.0]

    def throughput(self, seconds: float, window: int) -> Flow:
        return Flow(window * 10, 0.5)

    def pids(self) -> list[int]:
        return [os.getpid()]

    def close(self) -> None:
        self._diary.append(f"{self.name} close")


def test_every_subject_runs_once_a_round_and_the_order_rotates() -> None:
    diary: list[str] = []
    cells = measure([lambda: Diary("a", diary), lambda: Diary("b", diary)], 4096, [16, 64], rounds=2, seconds=0.0)
    assert [line.split()[0] for line in diary if "setup" in line] == ["a", "b", "b", "a"]
    assert set(diary) == {"a setup 4096 64", "a close", "b setup 4096 64", "b close"}
    assert [(cell.subject, cell.window, len(cell.repeats)) for cell in cells] == [
        ("a", 1, 2), ("a", 16, 2), ("a", 64, 2), ("b", 1, 2), ("b", 16, 2), ("b", 64, 2),
    ]  # fmt: skip


def test_latency_is_percentiles_and_throughput_a_rate() -> None:
    latency, throughput = measure([lambda: Diary("a", [])], 4096, [16], rounds=1, seconds=0.0)
    assert (latency.repeats[0].p50_us, latency.repeats[0].requests) == (3.0, 5)
    assert latency.repeats[0].p99_us == pytest.approx(96.16)  # linear between the 4th and the 5th of 5 samples
    assert (throughput.repeats[0].rate, throughput.repeats[0].p50_us) == (320.0, None)


def test_a_window_of_one_is_measured_once() -> None:
    assert [cell.window for cell in measure([lambda: Diary("a", [])], 4096, [1], rounds=1, seconds=0.0)] == [1]


def test_subjects_may_have_windows_of_their_own() -> None:
    windows = {"a": [4], "b": [16, 64], "c": [1]}
    cells = measure([lambda: Diary("a", []), lambda: Diary("b", [])], 4096, windows, rounds=1, seconds=0.0)
    assert [(cell.subject, cell.window) for cell in cells] == [("a", 1), ("a", 4), ("b", 1), ("b", 16), ("b", 64)]


class Timed(Diary):
    """A subject that measures its calls, and has its processes in groups."""

    def throughput(self, seconds: float, window: int) -> Flow:
        return Flow(20, 0.5, [1.0, 2.0, 6.0])

    def pids(self) -> dict[str, list[int]]:  # type: ignore[override]
        return {"caller": super().pids(), "others": []}


def test_a_flow_whose_calls_were_measured_has_percentiles_too() -> None:
    _, flow = measure([lambda: Timed("a", [])], 4096, [16], rounds=1, seconds=0.0)
    (repeat,) = flow.repeats
    assert (repeat.rate, repeat.p50_us, repeat.p99_us) == (40.0, 2.0, pytest.approx(5.92))
    assert repeat.groups_us == {"caller": repeat.cpu_us, "others": 0.0}


def test_a_subject_that_fails_is_closed_and_ends_the_run() -> None:
    diary: list[str] = []
    with pytest.raises(SubjectDied):
        measure([lambda: Diary("a", diary, fails=True)], 4096, [16], rounds=1, seconds=0.0)
    assert diary == ["a setup 4096 16", "a close"]
