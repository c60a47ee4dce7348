from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from stages.errors import BadInput, BadOption
from stages.testing import MemoryBatch, batch_of, run
from stages.video.nanodet import DecodeNanoDet, boxes_of, centres_of

#: Two grids, of 4x4 and 2x2 cells, three classes and bins for 0, 1 and 2 strides.
OPTIONS: dict[str, Any] = {"size": 32, "strides": (8, 16), "bins": 3, "classes": 3, "letterbox": False}
CELLS = 20


def output(**cells: tuple[int, float, tuple[int, int, int, int]]) -> tuple[np.ndarray, np.ndarray]:
    """Scores and sides with these cells: c5=(class, score, (left, top, right, bottom) in strides)."""
    scores, sides = np.zeros((CELLS, 3), np.float32), np.zeros((CELLS, 4, 3), np.float32)
    for name, (kind, score, distances) in cells.items():
        cell = int(name[1:])
        scores[cell, kind] = score
        for side, bin in enumerate(distances):
            sides[cell, side, bin] = 50
    return scores, sides.reshape(CELLS, 12)


def decoded(*frames: tuple[np.ndarray, np.ndarray], place: Any = None, **options: Any) -> MemoryBatch:
    stage = DecodeNanoDet(**{**OPTIONS, **options})
    places = {} if place is None else {"place": [np.float32(place)] * len(frames)}
    return run(stage, scores=[scores for scores, _ in frames], sides=[sides for _, sides in frames], **places)


def test_cells_lie_row_by_row_the_finest_grid_first() -> None:
    centres, strides = centres_of(32, (8, 16))
    assert len(centres) == CELLS
    assert centres[:5].tolist() == [[4, 4], [4, 12], [4, 20], [4, 28], [12, 4]]
    assert centres[16:].tolist() == [[8, 8], [8, 24], [24, 8], [24, 24]]
    assert strides.tolist() == [8] * 16 + [16] * 4


def test_the_models_three_grids_have_3549_cells() -> None:
    assert len(centres_of(416, (8, 16, 32))[0]) == 52**2 + 26**2 + 13**2 == 3549


def test_a_side_is_as_far_away_as_its_distribution_is_on_average() -> None:
    sides = np.log(np.array([[0.5, 0.5, 1e-30], [0.25, 0.5, 0.25], [1e-30, 1e-30, 1], [1, 1e-30, 1e-30]], np.float32))
    (box,) = boxes_of(sides.reshape(1, 12), np.array([[100.0, 200.0]]), np.array([10.0]))
    # left 0.5, top 1, right 2, bottom 0 strides
    assert box.tolist() == pytest.approx([90, 195, 100, 220], abs=1e-4)


def test_large_numbers_overflow_nothing() -> None:
    sides = np.zeros((1, 12), np.float32)
    sides[0, ::3] = 1e4
    assert boxes_of(sides, np.array([[8.0, 8.0]]), np.array([8.0])).tolist() == [[8, 8, 8, 8]]


def test_a_cell_above_the_threshold_is_a_detection() -> None:
    batch = decoded(output(c5=(2, 0.8, (1, 1, 1, 1)), c10=(1, 0.3, (1, 1, 1, 1))))
    # Cell 5 has its centre at (12, 12).
    assert batch.result(0, "count") == 1
    detections = batch.result(0, "detections")
    assert detections[0].tolist() == pytest.approx([2, 0.8, 4 / 32, 4 / 32, 20 / 32, 20 / 32])
    assert not detections[1:].any()


def test_detections_come_by_falling_score_and_no_more_than_asked_for() -> None:
    cells = {f"c{cell}": (0, 0.5 + cell / 100, (0, 0, 1, 1)) for cell in range(16)}
    batch = decoded(output(**cells), most=5)
    assert batch.result(0, "count") == 5
    assert batch.result(0, "detections")[:, 1].tolist() == pytest.approx([0.65, 0.64, 0.63, 0.62, 0.61])


def test_of_cells_that_find_the_same_thing_the_best_counts_for_each_class() -> None:
    same = (1, 1, 1, 1)
    batch = decoded(output(c5=(0, 0.8, same), c16=(0, 0.6, same), c6=(1, 0.7, (2, 1, 0, 1))), overlap=0.3)
    assert batch.result(0, "detections")[:3, 0].tolist() == [0, 1, 0]
    assert batch.result(0, "count") == 2


def test_boxes_end_at_the_edges_of_the_frame() -> None:
    batch = decoded(output(c0=(0, 0.8, (2, 2, 2, 2))))
    assert batch.result(0, "detections")[0, 2:].tolist() == pytest.approx([0, 0, 20 / 32, 20 / 32])


def test_place_moves_boxes_into_the_frame() -> None:
    batch = decoded(output(c5=(0, 0.8, (1, 1, 1, 1))), place=(0.5, 0, 0.5, 1.5), letterbox=True)
    assert batch.result(0, "detections")[0, 2:].tolist() == pytest.approx([9 / 16, 3 / 16, 13 / 16, 15 / 16])


def test_only_classes_to_keep_are_found_also_where_another_is_likelier() -> None:
    scores, sides = output(c5=(0, 0.9, (1, 1, 1, 1)), c10=(2, 0.8, (1, 1, 1, 1)))
    scores[5, 1] = 0.6
    batch = decoded((scores, sides), labels=["person", "car", "cat"], keep=["car"])
    assert batch.result(0, "count") == 1
    assert batch.result(0, "detections")[0, :2].tolist() == pytest.approx([1, 0.6])


def test_nothing_is_found_where_nothing_is_whatever_lay_in_the_slot() -> None:
    stage, (scores, sides) = DecodeNanoDet(**OPTIONS), output()
    batch = batch_of(stage, scores=[scores], sides=[sides])
    batch.out(0, "detections")[...] = 1
    batch.out(0, "count")[...] = 1
    batch.take(stage.process(batch))
    assert batch.result(0, "count") == 0
    assert not batch.result(0, "detections").any()


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
def test_scores_that_are_not_finite_fail_their_frame_alone(wrong: float) -> None:
    scores, sides = output()
    scores[3, 1] = wrong
    batch = decoded((scores, sides), output(c5=(0, 0.9, (1, 1, 1, 1))))
    with pytest.raises(BadInput, match="not finite"):
        batch.result(0, "count")
    assert batch.result(1, "count") == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"strides": ()}, "strides"),
        ({"bins": 1}, "bins 1"),
        ({"size": 8}, "size 8"),
        ({"threshold": 0}, "threshold 0"),
        ({"overlap": 1.5}, "overlap 1.5"),
        ({"keep": ["person"]}, "keep needs labels: expected 3 names, found 0"),
        ({"keep": ["preson"], "labels": ["person", "car", "cat"]}, r"no class 'preson' \(did you mean person\?\)"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(BadOption, match=said):
        DecodeNanoDet(**{**OPTIONS, **options})
