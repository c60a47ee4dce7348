from __future__ import annotations

import numpy as np

from stages.relay import Relay
from stages.testing import run


def test_a_relays_output_is_an_alias_of_its_input() -> None:
    stage = Relay("frame", "float32", ["h", 4], {"h": 8})
    (given,), (made,) = stage.inputs, stage.outputs
    assert made.alias_of == given.name == "frame"
    assert (made.dtype, made.shape, made.max) == (given.dtype, given.shape, given.max) == ("float32", ("h", 4), {"h": 8})


def test_a_relay_copies_nothing() -> None:
    done = run(Relay(shape=[16]), tensor=np.zeros((3, 16), np.uint8))
    assert done.bytes_copied == 0
    assert not done.failed
