"""What a tuning says at its end, and at the head of the file that it writes."""

from __future__ import annotations

from pipeline.tuning.candidate import UNTUNED, Candidate, Goal
from pipeline.tuning.halving import Standing
from pipeline.tuning.report import Report, Step

ONE = Candidate("2 x all stages in one process", (("pre.replicas", 2), ("infer.colocate", True)))
LARGER = Candidate("infer: batches of 8", (*ONE.changes, ("infer.batch.max_size", 8)))
BROKEN = Candidate("3 workers")


def standing(candidate: Candidate, *ratios: float, why: str = "") -> Standing:
    if not ratios:
        return Standing(candidate, 0.0, 0.0, 0.0, (), why)
    return Standing(candidate, 100 * ratios[0], 0.010, 0.020, ratios, why)


def report(*duel: float, interrupted: bool = False, foreign: float = 0.0) -> Report:
    untuned = standing(UNTUNED, 1.0, 1.0)
    steps = [
        Step("arrangements", [standing(ONE, 1.2, 1.1), untuned, standing(BROKEN, why="no room")], ONE),
        Step("batches", [standing(LARGER, 1.3, 1.3), standing(ONE, 1.1, 1.1), untuned], LARGER),
    ]
    if duel:
        steps.append(Step("duel", [standing(LARGER, *duel), untuned], LARGER))
    costs = {"pre": 1.0, "infer": 3.0}
    return Report(
        "demo.yaml", Goal.THROUGHPUT, "3 of photos", 32, 61.0, "2 CPUs", costs, steps, interrupted, foreign
    )


def test_the_verdict_is_that_of_the_duel_and_names_the_changes_as_options() -> None:
    found = report(*[1.25] * 6)
    assert found.beats
    assert list(found.verdict()) == [
        "infer: batches of 8: 1.25 of the untuned config in requests/s (quartiles 1.25 to 1.25, 6 rounds)",
        "as options: --set pre.replicas=2 --set infer.colocate=true --set infer.batch.max_size=8",
    ]


def test_it_says_if_nothing_beats_the_untuned_config_beyond_noise() -> None:
    found = report(1.1, 0.9, 1.2, 0.8, 1.05)
    assert not found.beats
    (line,) = found.verdict()
    assert line.startswith("nothing beats the untuned config beyond noise: the best other one, infer: batches of 8, is")
    assert "is at 1.05 of it" in line
    assert "was ahead in 3 of 5 rounds" in line


def test_if_the_untuned_config_is_the_best_it_says_that() -> None:
    found = Report(
        "demo.yaml", Goal.LATENCY, "x", 1, 9.0, "2 CPUs",
        steps=[Step("arrangements", [standing(UNTUNED, 1.0, 1.0), standing(ONE, 0.9, 0.8)], UNTUNED)],
    )  # fmt: skip
    assert not found.beats
    assert list(found.verdict()) == ["nothing beats the untuned config"]
    assert list(Report("demo.yaml", Goal.LATENCY, "x", 1, 9.0, "2 CPUs").verdict()) == [
        "nothing was measured beside the untuned config; the tables say why"
    ]


def test_an_interruption_and_a_busy_machine_are_told() -> None:
    lines = list(report(*[1.25] * 6, interrupted=True, foreign=1.5).verdict())
    assert lines[0].startswith("other programs kept 1.5 CPUs busy")
    assert lines[1] == "interrupted after 61 s: this is the best so far"
    # Without a duel: what the last step has found, if that is more than noise; two rounds are not.
    assert not report(interrupted=True).beats


def test_a_row_has_rates_ratios_and_why_one_was_not_measured() -> None:
    found = report()
    assert list(found.rows(found.steps[0])) == [
        (ONE.label, "120.0", "10.00", "20.00", "1.15", "1.12-1.18", "2 of 2", "best"),
        ("untuned", "100.0", "10.00", "20.00", "1.00", "1.00-1.00", "-", ""),
        ("3 workers", "-", "-", "-", "-", "-", "-", "no room"),
    ]


def test_one_that_loses_its_duel_is_not_marked_as_the_best() -> None:
    duel = report(0.95, 0.9, 1.05).steps[-1]
    notes = {row[0]: row[-1] for row in report().rows(duel)}
    assert notes == {LARGER.label: "", "untuned": "best"}
    assert report(1.1, 1.2).steps[-1].best == LARGER


def test_the_head_says_what_stages_cost() -> None:
    assert list(report().head()) == [
        "tune for throughput: demo.yaml, 32 under way, on 2 CPUs",
        "inputs: 3 of photos",
        "one request alone computes: pre 1.00 ms (25 %), infer 3.00 ms (75 %)",
    ]


def test_the_files_head_says_what_each_step_brought() -> None:
    first, second, *steps = report(*[1.25] * 6).comments("2026-11-30")
    assert first == "Tuned for throughput by `pipeline tune`, 2026-11-30, on 2 CPUs, from demo.yaml."
    assert second.startswith("Samples: 3 of photos; 32 under way.")
    assert steps == [
        "  arrangements: 2 x all stages in one process: 1.15 (1.12 to 1.18)",
        "  batches: infer: batches of 8: 1.30 (1.30 to 1.30)",
        "  duel: infer: batches of 8: 1.25 (1.25 to 1.25)",
    ]
