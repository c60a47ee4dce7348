"""The frames between the keeper and its gateways."""

from __future__ import annotations

import msgspec
import pytest

from pipeline.errors import WireError
from pipeline.metrics.traffic import Traffic
from pipeline.serving import frames
from pipeline.serving.counts import Counts
from pipeline.serving.frames import (
    MOST,
    Call,
    Confirmed,
    Counted,
    Frame,
    Hello,
    LogTold,
    ModelTold,
    Pieces,
    RegionTold,
    SetLog,
    Settled,
    SetTrace,
    TraceTold,
    encode,
)

SOME: list[Frame] = [
    Hello(1), Confirmed(3), RegionTold(1, "r", "/k", 2**62, 2**63 - 1), ModelTold(0, "m", state="LOADING"),
    LogTold(1, {"log_info": True, "log_verbose_level": 2**32 - 1, "log_format": "default"}),
    TraceTold(2, {"trace_level": ["OFF"], "trace_rate": "5"}), Call(7, SetTrace({"trace_rate": None, "x": ["a"]})),
    Call(8, SetLog({"log_info": False})), Counted(1, {"m": (2, Counts(1, 2, (3, 4), batches={8: (0.125, 1e6)}))}, Traffic({"http": {"OK": 1}})),
    Settled(3, "INTERNAL", "why", {"m": Counts(rows=1)}),
]  # fmt: skip


def test_frames_come_out_as_they_went_in_however_the_socket_cuts_them() -> None:
    data = b"".join([encode(frame) for frame in SOME])
    for size in (1, 2, 3, 7, 100, len(data)):
        pieces, found = Pieces(), []
        for start in range(0, len(data), size):
            found += pieces.add(data[start : start + size])
        assert found == SOME
        # True is not 1 there.
        assert isinstance(found[4], LogTold)
        assert found[4].settings["log_info"] is True


def test_every_frame_has_a_number_of_its_own() -> None:
    kinds = [kind for kind in vars(frames).values() if isinstance(kind, type) and issubclass(kind, msgspec.Struct)]
    tags = [kind.__struct_config__.tag for kind in kinds if kind.__struct_config__.tag is not None]
    assert len(tags) == len(set(tags)) > 20


def test_what_is_no_frame_is_refused() -> None:
    for body in (b"\xc1", msgspec.msgpack.encode([99, 1]), msgspec.msgpack.encode([23, "x"]), b""):
        with pytest.raises(WireError):
            Pieces().add(len(body).to_bytes(4, "little") + body)


def test_a_frame_that_is_too_long_is_neither_sent_nor_taken() -> None:
    with pytest.raises(WireError, match="at most"):
        encode(ModelTold(0, "m" * MOST))
    with pytest.raises(WireError, match="at most"):
        Pieces().add((MOST + 1).to_bytes(4, "little"))
