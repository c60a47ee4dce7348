from __future__ import annotations

import numpy as np
import pytest

from stages.errors import BadOption
from stages.pieces import Pieces
from stages.stage import Stage
from stages.testing import run


def test_each_row_is_answered_piece_by_piece_and_an_empty_one_not_at_all() -> None:
    stage = Pieces(size=4)
    assert isinstance(stage, Stage)
    rows = [np.arange(n, dtype=np.uint8) for n in (10, 0, 4)]
    done = run(stage, data=rows)
    assert [[part["piece"].tolist() for part in parts] for parts in done.parts] == [
        [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]],
        [],
        [[0, 1, 2, 3]],
    ]


def test_the_output_has_room_for_all_pieces_each_at_a_multiple_of_64_bytes() -> None:
    (output,) = Pieces(size=4, max_bytes=10).outputs
    assert output.max_shape == (3 * 64,)


def test_a_piece_of_no_bytes_is_refused() -> None:
    with pytest.raises(BadOption, match="size: expected at least 1 byte, found 0"):
        Pieces(size=0)
