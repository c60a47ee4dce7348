"""Clips: the files of a camera's recordings. A thin shell around `pipeline.video.recording` and PyAV.

    DIR/1764505805.250-door-3.mp4       the packets around events, as the camera sent them: nothing is decoded again
    DIR/1764505805.250-door-3.json      {"camera": ..., "events": [id, ...], "reason": ...}
    DIR/1764505805.250-door-3.jpg       the best picture of one event
    DIR/.1764505805.250-door-3.mp4.part     a clip that is being written

All of them are for this user alone (0600). A clip is written in fragments, each of which can be played without what
comes after it: if the process is killed, the next one gives the clip that it was writing its name, and removes what is
there of a picture or a JSON file. Each part is locked while it is written, so that this is done to no living one's.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import av
from numpy.typing import NDArray

from pipeline.video.jpeg import jpeg_of
from pipeline.video.open_events import best_shown
from pipeline.video.packets import Packet, Times, filled_times
from pipeline.video.recording import Begin, Close, Instruction, Recording, RecordOptions, Stored, expired
from pipeline.video.tracks import Told

__all__ = ["Clip", "Recorder", "file_name", "write_snapshot"]

_PART = ".part"
_KINDS = (".mp4", ".json", ".jpg")
_SAY_S = 60.0

#: A fragment for each group of pictures, the header before all of them.
_FRAGMENTED = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}


def file_name(event: str) -> str:
    """The name of an event's files, without their ends: ids contain what a camera is called."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", event).lstrip(".")


class Clip:
    """A clip that is being written.

    Args:
        path: of the whole clip.
        template: the stream of the camera from which the packets come.

    Raises:
        OSError, av.FFmpegError: it cannot be made, or cannot have the camera's codec.
    """

    def __init__(self, path: Path, template: Any) -> None:
        self._path = path
        self._part = path.with_name(f".{path.name}{_PART}")
        self._file = open(self._part, "wb", buffering=0, opener=_private)  # noqa: SIM115 - open as long as the clip
        try:
            # Until the process ends, however it does: then the next one gives the clip its name.
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._container = av.open(self._file, "w", format="mp4", options=_FRAGMENTED)
            self._stream = self._container.add_stream_from_template(template)
        except BaseException as error:
            self._file.close()
            self._part.unlink()
            if type(error) is ValueError:
                # PyAV's own word for a codec that a file of this format cannot have.
                raise OSError(errno.EOPNOTSUPP, str(error)) from None
            raise
        self._first: int | None = None
        self._last = -1
        self._written = 0
        #: Packets that are not in it, since their times do not rise.
        self.left_out = 0

    def begin(self, packets: Iterable[Any]) -> None:
        """Add the packets of PyAV that the clip begins with: their first times may be missing.

        Raises:
            OSError, av.FFmpegError: they cannot be written.
        """
        found = list(packets)
        times = filled_times([Times(packet.dts, packet.pts, packet.duration or 0) for packet in found])
        for packet, (decoded, shown, _) in zip(found, times):
            self._write(packet, decoded, shown)

    def write(self, packet: Any) -> None:
        """Add a packet of PyAV.

        Raises:
            OSError, av.FFmpegError: it cannot be written.
        """
        self._write(packet, packet.pts if packet.dts is None else packet.dts, packet.pts)

    def _write(self, packet: Any, decoded: int | None, shown: int | None) -> None:
        # The packet's own fields stay: a later clip may begin with it too.
        copy = av.Packet(bytes(packet))
        copy.is_keyframe, copy.time_base = packet.is_keyframe, packet.time_base
        if decoded is None or (self._first is not None and decoded - self._first <= self._last):
            self.left_out += 1
            return
        if self._first is None:
            self._first = decoded
        self._last = decoded - self._first
        copy.dts = self._last
        copy.pts = (decoded if shown is None else shown) - self._first
        copy.duration = packet.duration
        copy.stream = self._stream
        self._container.mux(copy)
        self._written += 1

    def close(self) -> None:
        """The clip is whole, and gets its name; one without a packet is removed.

        Raises:
            OSError, av.FFmpegError: what was left could not be written.
        """
        try:
            self._container.close()
        finally:
            self._file.close()
            if self._written:
                self._part.replace(self._path)
            else:
                self._part.unlink()


class Recorder:
    """Records one camera into a folder.

    Args:
        folder: of the clips; made if it is missing. Several cameras may share it.
        keep_s: for how long clips and snapshots are kept.
        most_bytes: of all files in the folder together; the oldest go first.
        say: for people, if something cannot be written; recording goes on. The same is said once in a minute.
    """

    def __init__(
        self,
        camera: str,
        folder: Path,
        options: RecordOptions,
        keep_s: float,
        most_bytes: int,
        say: Callable[[str], None],
    ) -> None:
        self._camera = camera
        self._folder = folder
        self._keep_s, self._most_bytes = keep_s, most_bytes
        self._say = say
        self._recording: Recording[Any] = Recording(options)
        #: Packets come in the thread that reads the camera, answers in another one.
        self._lock = threading.Lock()
        self._template: Any = None
        self._clip: tuple[Clip, Path] | None = None
        self._rules = options.rules
        self._said: dict[str, float] = {}
        #: Clips that are whole.
        self.clips = 0
        #: Clips and snapshots that could not be written, or not to their end.
        self.unwritten = 0
        try:
            self._make_folder()
            self._finish_parts()
        except OSError as error:
            # A disk that comes later, perhaps.
            self._tell(f"{folder} cannot be written to: {_why(error)}")

    def opened(self, template: Any) -> None:
        """The camera is connected: the packets that come now are of this stream of PyAV."""
        with self._lock:
            self._act(self._recording.ended(), None)
            self._template = template

    def packet(self, packet: Any, now: float) -> None:
        """Take a packet of PyAV, which nothing changes afterwards."""
        # An empty one says that there are no more.
        if packet.size:
            with self._lock:
                self._act(self._recording.packet(Packet(now, packet.is_keyframe, packet.size, packet)), now)

    def answered(self, told: Told, pixels: Callable[[], NDArray[Any]]) -> None:
        """Take what the answer to a frame tells, in the order of the frames.

        Args:
            pixels: gives the frame, uint8 [height, width, 3], RGB; called if it is the best picture of an event so far.
        """
        document, events = told.document, told.events
        if document is None or not events:
            return
        now = document["time"]
        with self._lock:
            self._act(self._recording.events(events, now), now)
        best = [
            one["id"]
            for one in best_shown(events, document)
            if self._rules is None or one["rule"] in self._rules
        ]
        if best:
            self._snapshots(best, pixels())

    def _snapshots(self, events: Iterable[str], pixels: NDArray[Any]) -> None:
        for event in events:
            try:
                self._make_folder()
                write_snapshot(self._folder / f"{file_name(event)}.jpg", pixels)
            except OSError as error:
                self.unwritten += 1
                self._tell(f"a snapshot cannot be written: {_why(error)}")

    def _make_folder(self) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def _tell(self, text: str) -> None:
        """Each snapshot of a night would say that the disk is full."""
        now = time.monotonic()
        if now - self._said.get(text, -_SAY_S) >= _SAY_S:
            self._said[text] = now
            self._say(text)

    def tick(self, now: float) -> None:
        """Time has passed, perhaps without a packet."""
        with self._lock:
            self._act(self._recording.tick(now), now)

    def ended(self) -> None:
        """The stream has ended."""
        with self._lock:
            self._act(self._recording.ended(), None)

    def _act(self, instructions: Iterable[Instruction[Any]], now: float | None) -> None:
        for instruction in instructions:
            try:
                self._carry_out(instruction)
            except (OSError, av.FFmpegError) as error:
                self.unwritten += 1
                self._tell(f"a clip cannot be written: {_why(error)}")
                # What is there of it can be played; its other packets are left out.
                if self._clip is not None:
                    (clip, _), self._clip = self._clip, None
                    with suppress(OSError, av.FFmpegError):
                        clip.close()
            if isinstance(instruction, Close) and now is not None:
                try:
                    self._delete(now)
                except FileNotFoundError:
                    # There is no folder, which was said.
                    pass
                except OSError as error:
                    self._tell(f"old clips cannot be deleted: {_why(error)}")

    def _carry_out(self, instruction: Instruction[Any]) -> None:
        if isinstance(instruction, Begin):
            self._make_folder()
            path = self._folder / f"{file_name(instruction.event)}.mp4"
            self._clip = (Clip(path, self._template), path)
            self._clip[0].begin(packet.data for packet in instruction.packets)
        elif self._clip is None:
            # It could not be begun, or not go on, which was said.
            return
        elif isinstance(instruction, Close):
            (clip, path), self._clip = self._clip, None
            clip.close()
            self.clips += 1
            about = {"camera": self._camera, "events": instruction.events, "reason": instruction.reason}
            _write(path.with_suffix(".json"), json.dumps(about).encode())
        else:
            self._clip[0].write(instruction.packet.data)

    def _delete(self, now: float) -> None:
        stored = []
        with os.scandir(self._folder) as entries:
            for entry in entries:
                # Another camera may delete it at the same time.
                with suppress(FileNotFoundError):
                    if entry.name.endswith(_KINDS) and not entry.name.startswith("."):
                        status = entry.stat(follow_symlinks=False)
                        stored.append(Stored(entry.name, status.st_size, status.st_mtime))
        for name in expired(stored, now, self._keep_s, self._most_bytes):
            (self._folder / name).unlink(missing_ok=True)

    def _finish_parts(self) -> None:
        """Give the clips that a process of this camera was writing when it was killed their names; of other files a
        part is of no use, and is removed."""
        name = re.escape(file_name(self._camera))
        known = re.compile(rf"\.[\d.]+-{name}-\d+(\.mp4|\.json|\.jpg)\{_PART}")
        for part in self._folder.glob(f".*{_PART}"):
            if (found := known.fullmatch(part.name)) is None:
                continue
            with suppress(FileNotFoundError), part.open("rb") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    # That process lives, such as the source of a version that is about to be replaced.
                    continue
                if found[1] != ".mp4":
                    # It may have been written, and have its name, since it was opened: then it is not there.
                    part.unlink()
                    continue
                part.replace(part.with_name(part.name[1 : -len(_PART)]))
                self._say(f"a clip that was cut off: {part.name[1 : -len(_PART)]}")


def write_snapshot(path: Path, pixels: NDArray[Any]) -> None:
    """Write a picture as JPEG, whole or not at all.

    Args:
        pixels: uint8 [height, width, 3], RGB.

    Raises:
        OSError: it cannot be written.
    """
    _write(path, jpeg_of(pixels))


def _write(path: Path, content: bytes) -> None:
    part = path.with_name(f".{path.name}{_PART}")
    try:
        with _locked(part) as file:
            file.write(content)
            file.flush()
            # While it is locked: a process that begins removes one that no other has locked.
            part.replace(path)
    except OSError:
        # On a full disk each would leave its first bytes, which nothing counts or deletes.
        with suppress(OSError):
            part.unlink()
        raise


def _locked(part: Path) -> BinaryIO:
    """Opened anew, and locked until it is closed."""
    while True:
        file = open(part, "wb", opener=_private)  # noqa: SIM115 - the caller closes it
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            if os.fstat(file.fileno()).st_nlink:
                return file
        except BaseException:
            file.close()
            raise
        # A process that begins has taken it for a dead one's, before it was locked.
        file.close()


def _private(path: str, flags: int) -> int:
    """Opens for this user alone; what a killed process has left under the name is removed, and no link is followed."""
    with suppress(FileNotFoundError):
        os.unlink(path)
    return os.open(path, flags | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)


def _why(error: OSError | av.FFmpegError) -> str:
    return error.strerror or type(error).__name__
