"""Films in place of cameras: photographs that slide through a picture, as H.264; and a server of RTSP that sends them.

The server is aio-rtsp-toolkit, in an environment of its own: `make build/rtsp-server/.there`.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
from PIL import Image

from bench.versus.process import free_ports

__all__ = ["SERVER", "Actor", "RtspServer", "make_film", "repeat_film"]

_ROOT = Path(__file__).parents[1]
SERVER = _ROOT / "build" / "rtsp-server"

FPS = 25
_KEY_S = 2
"""From one key frame to the next, as cameras have it."""
_NOISE = 6
_NOISES = 8


class Actor(NamedTuple):
    """A photograph that comes from the left, stands for a while, and leaves to the right."""

    photo: Path
    at: float
    """Seconds of the film at which it comes."""
    moves: float
    """Seconds that it takes to the middle, and from there."""
    stands: float
    height: float
    """Of the picture's."""
    foot: float
    """Where its lower edge is, from the top of the picture."""

    def place(self, seconds: float) -> float | None:
        """Where its middle is at a time, from the left edge (0) to the right one (1); None: it is not there."""
        since = seconds - self.at
        if 0 <= since < self.moves:
            return -0.25 + 0.75 * since / self.moves
        if self.moves <= since < self.moves + self.stands:
            return 0.5
        if 0 <= since - self.moves - self.stands < self.moves:
            return 0.5 + 0.75 * (since - self.moves - self.stands) / self.moves
        return None


def make_film(
    path: Path, size: tuple[int, int], seconds: float, actors: Sequence[Actor], bit_rate: int | None = None
) -> Path:
    """Write a film; one that is there stays.

    Args:
        size: (width, height).
        bit_rate: bits each second; None: as few as the picture needs, which is far less than cameras send.
    """
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    width, height = size
    random = np.random.default_rng(1)
    # A wall and a floor, and the noise of a sensor: of a picture without any, a codec makes nothing.
    ground = np.linspace(150, 90, height, dtype=np.float32)[:, None, None] * np.array([1.0, 0.98, 0.92], np.float32)
    ground = np.broadcast_to(ground, (height, width, 3)).astype(np.uint8)
    grounds = [ground + random.integers(0, _NOISE, (height, width, 1), np.uint8) for _ in range(_NOISES)]
    pictures = [_picture(actor, height) for actor in actors]
    part = path.with_name(f".{path.name}")
    # Without sc_threshold a codec takes the noise for cuts, and each picture becomes a key frame.
    options = {
        "preset": "veryfast", "g": str(_KEY_S * FPS), "bf": "0", "tune": "zerolatency", "sc_threshold": "0",
    }  # fmt: skip
    with av.open(str(part), "w", format="mp4") as container:
        stream: Any = container.add_stream("libx264", rate=FPS, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        if bit_rate is not None:
            stream.bit_rate = bit_rate
        for number in range(round(seconds * FPS)):
            frame = grounds[number % _NOISES].copy()
            for actor, picture in zip(actors, pictures):
                if (middle := actor.place(number / FPS)) is not None:
                    _paste(frame, picture, round(middle * width), round(actor.foot * height))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
        container.mux(stream.encode(None))
    part.replace(path)
    return path


def repeat_film(path: Path, film: Path, times: int) -> Path:
    """Write a film that shows another one so many times; nothing is encoded again. One that is there stays."""
    if path.exists():
        return path
    part = path.with_name(f".{path.name}")
    with av.open(str(film)) as source, av.open(str(part), "w", format="mp4") as container:
        taken: Any = source.streams.video[0]
        stream = container.add_stream_from_template(taken)
        packets: list[Any] = [packet for packet in source.demux(taken) if packet.size]
        length = round(len(packets) / FPS / taken.time_base)
        for number in range(times):
            for packet in packets:
                copy: Any = av.Packet(bytes(packet))
                copy.time_base, copy.is_keyframe = packet.time_base, packet.is_keyframe
                copy.pts, copy.dts = packet.pts + number * length, packet.dts + number * length
                copy.stream = stream
                container.mux(copy)
    part.replace(path)
    return path


def _picture(actor: Actor, height: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    with Image.open(actor.photo) as photo:
        wanted = round(actor.height * height)
        scaled = photo.convert("RGB").resize((round(photo.width * wanted / photo.height), wanted))
    return np.asarray(scaled)


def _paste(frame: np.ndarray[Any, Any], picture: np.ndarray[Any, Any], middle: int, foot: int) -> None:
    height, width = picture.shape[:2]
    left, top = middle - width // 2, foot - height
    first, last = max(0, -left), min(width, frame.shape[1] - left)
    above = max(0, -top)
    if first < last:
        frame[top + above : foot, left + first : left + last] = picture[above : foot - top, first:last]


class RtspServer:
    """Sends the films of a folder, each from its beginning to each client.

    Raises:
        RuntimeError: it is not installed, or does not start.
    """

    def __init__(self, folder: Path, least_s: float = 30.0) -> None:
        program = SERVER / "bin" / "rtsp-server"
        if not program.is_file():
            raise RuntimeError("no server of RTSP: make build/rtsp-server/.there")
        self.port, control = free_ports(2)
        arguments = ["-d", str(folder), "-H", "127.0.0.1", "-p", str(self.port), "-cp", str(control)]
        # PyAV, which it needs, may be on the caller's path.
        path = os.pathsep.join([str(SERVER), *filter(None, [os.environ.get("PYTHONPATH")])])
        env = {**os.environ, "PYTHONPATH": path, "PYTHONWARNINGS": "ignore"}
        null = subprocess.DEVNULL
        # A session of its own: Ctrl-C is for the program that shows something.
        command = [sys.executable, str(program), *arguments]
        self._process = subprocess.Popen(
            command, env=env, start_new_session=True, stdin=null, stdout=null, stderr=null
        )
        end = time.monotonic() + least_s
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > end:
                self.close()
                raise RuntimeError("the server of RTSP does not start")
            time.sleep(0.05)

    @property
    def pid(self) -> int:
        """Of its process."""
        pid: int = self._process.pid
        return pid

    def url(self, name: str) -> str:
        """Of a film of the folder."""
        return f"rtsp://127.0.0.1:{self.port}/{name}"

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()

    def _answers(self) -> bool:
        with socket.socket() as tried:
            return bool(tried.connect_ex(("127.0.0.1", self.port)) == 0)
