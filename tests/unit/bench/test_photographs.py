"""The figures of the photographs, and that the loops written by hand do what the pipeline does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bench.measure import Load
from bench.photographs import report_of
from bench.photographs_loop import BATCH, Ahead, PhotoLoop, Processes

PHOTOS = Path(__file__).resolve().parents[3] / "photos"


def loads(*seconds: float, own: float = 1.0) -> list[Load]:
    return [Load(each, own * each, 2 * each) for each in seconds]


def test_ratios_are_of_the_same_round_and_the_best_loop_is_the_one_with_the_highest_median() -> None:
    report = report_of(
        {
            "loop": loads(2.0, 4.0, 2.0),
            "loop-ahead": loads(1.0, 4.0, 1.0),
            "processes": loads(2.0, 1.0, 4.0, own=2.0),
            "untuned": loads(1.0, 2.0, 1.0, own=0.5),
        },
        100,
    )
    assert report["loop"]["rate"]["median"] == 50
    assert {row["best"] for row in report.values()} == {"loop-ahead"}
    assert report["untuned"]["x"]["median"] == 2.0
    # 1, 2 and 1 times that of the loop with decoders.
    assert (report["untuned"]["x_best"]["median"], report["untuned"]["x_best"]["high"]) == (1.0, 1.5)
    assert report["untuned"]["x_cpu"] == 0.5
    assert report["untuned"]["cpu_ms"] == 5.0


@pytest.mark.foreign
def test_every_loop_finds_the_same_in_the_order_of_the_files(pulled: Callable[[str], Path]) -> None:
    pulled("open-nsfw")
    paths = sorted(PHOTOS.glob("*.jpg"))
    files = [np.fromfile(path, np.uint8) for path in paths]
    assert len(files) % BATCH  # the last batch is not full
    truth = PhotoLoop(1).classify(files)
    assert [len(scores) for scores in truth] == [2] * len(files)
    ahead, processes = Ahead(2), Processes(2, paths)
    try:
        for found in (ahead.classify(files), processes.classify(files), processes.classify(files[:3])):
            assert np.allclose(found, truth[: len(found)], atol=1e-4)
    finally:
        ahead.close()
        processes.close()
