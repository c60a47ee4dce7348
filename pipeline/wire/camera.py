"""Camera: what a source tells of its camera, and what of it may be true. Pure.

    source ──CameraReport(CameraCounts)──▶ scheduler ──CameraStatus──▶ status, metrics, page
"""

from __future__ import annotations

from pipeline.wire.records import Record, Spread

__all__ = ["DROPS", "STATES", "CameraCounts", "Drop", "State"]


class Drop:
    """Why a frame is dropped."""

    RATE = "rate"
    OLDER = "older"
    NO_SLOT = "no slot"
    UNAVAILABLE = "unavailable"
    UNDECODABLE = "undecodable"


DROPS = {
    Drop.RATE: "more than `fps` were not wanted",
    Drop.OLDER: "a newer one came while the pipeline had as many of this camera as it may have",
    Drop.NO_SLOT: "a newer one came while no slot was free",
    Drop.UNAVAILABLE: "a newer one came while the pipeline was not there",
    Drop.UNDECODABLE: "a packet, or the picture in it, was damaged",
}
"""Reason -> what it means, for people."""


class State:
    """How a source is with its camera."""

    CONNECTING = "connecting"
    CONNECTED = "connected"
    RECONNECTING = "reconnecting"
    PAUSED = "paused"
    ENDED = "ended"
    NO_SOURCE = "no source"


STATES = (State.CONNECTING, State.CONNECTED, State.RECONNECTING, State.PAUSED, State.ENDED, State.NO_SOURCE)
"""The last is the scheduler's word: the source's process is not there, and is about to be started again."""


class CameraCounts(Record, frozen=True):
    """One camera as its source sees it. Counts are from the start of the source's process on."""

    camera: str
    state: str
    """One of `STATES`."""
    detail: str
    """Why it is not connected; empty: it is. It holds no secret."""
    since: int
    """When the state began: monotonic nanoseconds."""
    last_frame: int
    """When the last frame came; 0: none has yet."""
    frames: int
    """Frames that have come, whole or damaged."""
    sent: int
    answered: int
    failed: int
    """Frames whose request had an error in place of an answer."""
    dropped: dict[str, int]
    """By reason, one of `DROPS`."""
    reconnects: int
    copied: int
    """Bytes that were copied on the way into slots, since the decoder cannot write into them."""
    ages: tuple[Spread, ...] = ()
    """How old frames were when each stage was done with them, in the order of the plan's stages (see
    `metrics.buckets.SECONDS`)."""
    clips: int = 0
    """Recorded, and whole."""
    unwritten: int = 0
    """Clips and snapshots that could not be written, or not to their end."""
