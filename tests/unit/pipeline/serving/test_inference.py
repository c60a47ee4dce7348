"""What a request says of when it runs, and what it is called."""

from __future__ import annotations

import pytest

from pipeline.errors import KserveError, PipelineError
from pipeline.kserve.parameters import Scheduling
from pipeline.serving.catalogue import Catalogue, Served
from pipeline.serving.inference import Inference, deadline_of, trace_of
from pipeline.serving.regions import Regions

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize(
    ("timeout_us", "left_s", "expected"),
    [
        (0, None, None),
        (1_500_000, None, 1500.0),
        (0, 2.0, 2000.0),
        (1_500_000, 2.0, 1500.0),
        (3_000_000, 2.0, 2000.0),
        (2**63, None, None),  # longer than a pipeline takes: none
    ],
)
def test_the_sooner_of_both_limits_is_the_deadline(
    timeout_us: int, left_s: float | None, expected: float | None
) -> None:
    assert deadline_of(Scheduling(timeout_us), left_s) == expected


def test_a_deadline_that_is_over_is_told_at_once() -> None:
    with pytest.raises(KserveError) as refused:
        deadline_of(Scheduling(5), -0.1)
    assert refused.value.code == "DEADLINE_EXCEEDED"


@pytest.mark.parametrize("header", [TRACE, f" {TRACE} ", f"cc-{TRACE[3:]}-00ff"])
def test_a_sound_traceparent_is_taken(header: str) -> None:
    assert trace_of(header) == header.strip()


@pytest.mark.parametrize(
    "header",
    ["", "-", "---", TRACE[:-1], TRACE[1:], TRACE.upper(), TRACE.replace("-", "_"), f"{TRACE}-xyz", f"{TRACE}-" + "a" * 200],
)
def test_another_one_is_none(header: str) -> None:
    assert trace_of(header) == ""


def test_a_request_that_fails_is_counted_and_not_under_way_any_more() -> None:
    class Failed(PipelineError):
        pass

    inference, served = Inference(Catalogue(1), Regions(())), Served("m", None)  # type: ignore[arg-type]

    def fail(error: BaseException) -> None:
        with inference._under_way(served, 0):
            assert inference.running == 1
            raise error

    for error, expected in ((Failed("why"), KserveError), (KeyError("k"), KeyError), (GeneratorExit(), GeneratorExit)):
        with pytest.raises(expected):
            fail(error)
    assert inference.running == 0
    with inference._under_way(served, 0):
        pass
    assert served.tally.document("m", "1").fail.count == 3
