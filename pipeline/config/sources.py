"""Sources: the part of a pipeline's YAML that names cameras: where frames come from, and which of them are wanted."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from pipeline.config.node import Node, PlainText
from pipeline.config.recording import SourceRecordConfig

__all__ = ["SourceConfig"]

_DEVICES = "FFmpeg's name of a kind of device, such as cuda, vaapi or qsv"


def _name(value: str) -> str:
    if not re.fullmatch(r"[a-z][a-z0-9_-]{0,39}", value):
        raise ValueError("expected a letter, then up to 39 characters of a-z, 0-9, _ and -")
    return value


def _decoder(value: str) -> str:
    if not re.fullmatch(r"[a-z0-9_]{1,20}", value):
        raise ValueError(f"expected software, or {_DEVICES}")
    return value


def _size(value: tuple[int, ...]) -> tuple[int, ...]:
    if len(value) != 2:
        raise ValueError("expected [width, height]")
    return value


Extent = Annotated[int, Field(ge=1, le=16_384)]


class SourceConfig(Node):
    """One camera, which a process of its own reads: its frames are the requests of one stream (docs/edge.md)."""

    name: Annotated[str, AfterValidator(_name)] = Field(
        description="What the camera is called in status, metrics, logs and events."
    )
    url: PlainText = Field(
        min_length=1,
        description="rtsp://, rtsps://, http:// or https:// of a camera; /dev/video0 or another device of V4L2; a "
        "file, relative to this one; or synthetic: a scene that is drawn, such as synthetic:?fps=25&frames=100&seed=1. "
        "`${NAME}` is replaced by that environment variable in the source's process alone. A password must come so, or "
        "from `password_file`.",
    )
    password_file: PlainText | None = Field(
        default=None,
        description="A file, relative to this one, whose first line is the password of the user that `url` names. It "
        "is read at each connection.",
    )
    fps: float | None = Field(
        default=None,
        gt=0,
        le=1000,
        description="Frames wanted each second, at most, by their presentation time. Default: all.",
    )
    size: Annotated[tuple[Extent, ...], Field(strict=False), AfterValidator(_size)] | None = Field(
        default=None,
        description="[width, height] of the frames, where the pipeline's input leaves it open. Default: the camera's "
        "own, or the input's `max` if that is smaller.",
    )
    drop: Literal["oldest", "never"] | None = Field(
        default=None,
        description="What happens if the pipeline is slower than the camera. oldest: the newest frame wins, and each "
        "that is dropped is counted with its reason. never: the source waits, and nothing is lost; for files and "
        "scenes only, which then end by themselves. Default: never for a file, oldest for all else.",
    )
    in_flight: int | None = Field(
        default=None,
        ge=1,
        le=64,
        description="Frames of this camera inside the pipeline at one time, at most; so no camera takes more than its "
        "share. Default: 2, and with `drop: never` 8.",
    )
    loop: bool = Field(default=False, description="Begin a file again at its end.")
    transport: Literal["tcp", "udp"] = Field(default="tcp", description="What carries the frames of RTSP.")
    decoder: Annotated[str, AfterValidator(_decoder)] = Field(
        default="software",
        description=f"software, or {_DEVICES}: frames are decoded there, and by software if that cannot be.",
    )
    decode: Literal["all", "unfiltered", "keys"] = Field(
        default="all",
        description="all: each frame is decoded as its codec says. unfiltered: without the loop filter of H.264 and "
        "H.265, which takes about a fifth of the CPU time; frames then differ from what was sent, more with each frame "
        "up to the next key frame. keys: key frames only, which most cameras send every 1 to 5 s; it costs next to "
        "nothing. Recordings have all packets, whatever is decoded.",
    )
    timeout_s: float = Field(
        default=10.0,
        gt=0,
        le=3600,
        description="A camera that gives no frame for so long is frozen, and is connected again.",
    )
    record: bool | SourceRecordConfig = Field(
        default=True,
        description="Whether the file's `record` is about this source, and what is other for it. Scenes have "
        "nothing to record: they need `false` if the file has `record`.",
    )
