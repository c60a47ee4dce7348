"""Decoder: pictures of a camera by PyAV, which carries FFmpeg. A thin shell: it opens, reads, decodes and scales.

Only this module imports PyAV, and only a source's process does so. What FFmpeg says may hold the URL with its password,
so of its errors nothing is passed on but what the number of the error means.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from fractions import Fraction
from typing import Any

import av
import av.logging
import numpy as np
from av.codec.hwaccel import HWAccel, hwdevices_available
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter

from pipeline.config.camera_urls import Kind, Target
from pipeline.graph.plan import CameraPlan
from pipeline.video.frame import Pixels, Read, Size

__all__ = ["CameraFailed", "Decoded", "Decoder", "open_camera"]

#: FFmpeg opens nothing else, whatever a camera's answer or a playlist names: a server of another one, or a file here.
_PROTOCOLS = {
    Kind.RTSP: "rtsp,rtsps,rtp,srtp,udp,tcp,tls,crypto",
    Kind.HTTP: "http,https,tcp,tls,crypto",
    Kind.FILE: "file",
    Kind.DEVICE: "file",
}

#: Each camera has a process, and the cores are the stages'. Before PyAV 17 there is no such argument, and one thread.
_ONE_THREAD: dict[str, Any] = {"threads": 1} if "threads" in (VideoReformatter.reformat.__doc__ or "") else {}


#: Of the times that packets get which have none.
_TIME_BASE = Fraction(1, 90_000)


#: Frames a second of a stream that says nothing of it.
_RATE = 25


class CameraFailed(Exception):
    """A camera cannot be opened, or read any more. The message holds no secret."""


class Decoded:
    """A picture as the decoder gives it: in whatever format the camera sends, and in a buffer of the decoder's."""

    __slots__ = ("_frame", "_scaler")

    def __init__(self, frame: VideoFrame, scaler: _Scaler) -> None:
        self._frame = frame
        self._scaler = scaler

    @property
    def size(self) -> Size:
        """Of the picture itself."""
        return Size(self._frame.width, self._frame.height)

    def write(self, pixels: Pixels) -> int:
        """Scale it, and copy it into the slot: FFmpeg's scaler makes a frame of its own, and takes no array."""
        height, width = pixels.shape[:2]
        plane = self._scaler.rgb(self._frame, width, height).planes[0]
        # Lines may be longer than the picture is wide.
        pixels[...] = np.ndarray((height, width, 3), np.uint8, memoryview(plane), strides=(plane.line_size, 3, 1))
        return pixels.nbytes


class _Scaler:
    """To RGB, of another size if need be. What becomes half as large or less takes half the time in two steps: the mean
    of what becomes one pixel in a plane for each colour, then RGB of these (bench/NOTES.md)."""

    def __init__(self) -> None:
        self._to_planes = VideoReformatter()
        self._to_pixels = VideoReformatter()

    def rgb(self, frame: VideoFrame, width: int, height: int) -> VideoFrame:
        """The frame as rgb24."""
        if 2 * width > frame.width or 2 * height > frame.height:
            return self._to_pixels.reformat(frame, width, height, "rgb24", **_ONE_THREAD)
        small = self._to_planes.reformat(
            frame, width, height, "gbrp", interpolation=Interpolation.AREA, **_ONE_THREAD
        )
        return self._to_pixels.reformat(small, format="rgb24", **_ONE_THREAD)


class Decoder:
    """An open camera. Iterating gives something for each packet, so that it is looked at whether it goes on."""

    def __init__(self, container: Any, stream: Any, kind: Kind) -> None:
        self._container = container
        #: The stream of PyAV, which a recorder makes its clips by.
        self.stream = stream
        #: Called with each packet of PyAV before it is decoded, and its time in seconds, by the stream's own clock.
        self.tap: Callable[[Any, float], None] | None = None
        #: JPEGs over HTTP and many devices have no times of their own, or wrong ones.
        self._has_times = kind in (Kind.FILE, Kind.RTSP)
        self._period = 1 / float(stream.guessed_rate or stream.average_rate or _RATE)
        self._scaler = _Scaler()

    def __iter__(self) -> Iterator[Read]:
        """
        Raises:
            CameraFailed: it gives nothing more, for another reason than its end.
        """
        last = 0.0
        try:
            # The packets first, then an empty one that has the decoder give out what it has kept.
            for packet in self._container.demux(self.stream):
                if self.tap is not None and packet.size:
                    self.tap(packet, self._time_of(packet))
                try:
                    frames = packet.decode()
                except av.FFmpegError:
                    # This packet alone; the next key frame is whole again.
                    yield Read(damaged=True)
                    continue
                if not frames:
                    yield Read()
                for frame in frames:
                    if frame.is_corrupt:
                        yield Read(damaged=True)
                    else:
                        if not self._has_times:
                            last = time.monotonic()
                        elif frame.time is not None:
                            last = frame.time
                        else:
                            # A raw stream in a file has no times: each frame comes a period after the one before.
                            last += self._period
                        yield Read(Decoded(frame, self._scaler), last)
        except Exception as error:  # of a camera that sends anything at all
            raise _failure(error) from None

    def _time_of(self, packet: Any) -> float:
        if not self._has_times:
            # A clip is played at the speed at which the frames came.
            packet.time_base = _TIME_BASE
            packet.pts = packet.dts = round(time.monotonic() / _TIME_BASE)
        decoded = packet.pts if packet.dts is None else packet.dts
        return 0.0 if decoded is None else float(decoded * packet.time_base)

    def close(self) -> None:
        """Let go of the camera."""
        with suppress(Exception):
            self._container.close()


def open_camera(target: Target, plan: CameraPlan) -> Decoder:
    """Connect to a camera, or open a file or device.

    Raises:
        CameraFailed: it cannot be, or has no video.
    """
    # Nothing to stderr: the lines would hold the URL. And no level of PyAV: with one, FFmpeg's threads wait for Python
    # whenever they say something, while Python waits for them to close a camera.
    av.logging.set_level(None)
    options = {"protocol_whitelist": _PROTOCOLS[target.kind]}
    if target.kind is Kind.RTSP:
        options |= {"rtsp_transport": plan.transport, "allowed_media_types": "video"}
    asked: dict[str, Any] = {}
    if target.kind is Kind.DEVICE:
        asked["format"] = "v4l2"
    if plan.decoder != "software":
        if plan.decoder not in hwdevices_available():
            found = ", ".join(hwdevices_available()) or "none"
            raise CameraFailed(f"decoder: {plan.decoder} is no kind of device of this FFmpeg, which has: {found}")
        asked["hwaccel"] = HWAccel(plan.decoder, allow_software_fallback=True)
    try:
        container = av.open(
            target.url, options=options, timeout=(plan.timeout_s, plan.timeout_s), metadata_errors="replace", **asked
        )
    except Exception as error:  # of a camera that answers anything at all
        raise _failure(error) from None
    try:
        stream = container.streams.best("video")
        if stream is None:
            raise CameraFailed("it has no video")
        # Threads that each decode a frame would hold as many frames back; a file can wait for that.
        stream.thread_type = "AUTO" if target.kind is Kind.FILE else "SLICE"
        if plan.decode == "unfiltered":
            stream.codec_context.options = {"skip_loop_filter": "all"}
        elif plan.decode == "keys":
            stream.codec_context.skip_frame = "NONKEY"
    except BaseException as error:
        container.close()
        raise error if isinstance(error, CameraFailed) else _failure(error) from None
    return Decoder(container, stream, target.kind)


def _failure(error: BaseException) -> CameraFailed:
    """What FFmpeg says, without the name of what it was about."""
    if isinstance(error, av.error.ExitError):
        return CameraFailed("nothing came in time")
    text = getattr(error, "strerror", None) or type(error).__name__
    return CameraFailed(text)
