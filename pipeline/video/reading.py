"""Reading: the thread of a source that keeps its camera connected, decodes it, and leaves the frames that are wanted.

    camera ──packets──▶ decoder ──▶ wanted by `fps`? ──▶ Waiting ──▶ the source's own thread, which sends them
               └──▶ Tap, which records  └── no: dropped

It blocks where FFmpeg blocks, and decodes at the camera's rate whatever the pipeline does: packets that nothing takes
would be kept by the kernel, and each frame would be older than the one before.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from random import random
from typing import Any, Protocol

from pipeline.config.camera_urls import Kind, Target
from pipeline.graph.plan import CameraPlan
from pipeline.video.counts import Counts
from pipeline.video.frame import Frame, MediaClock, Read
from pipeline.video.pacing import Pacing
from pipeline.video.reconnection import Reconnection
from pipeline.video.scene import Drawn, Scene
from pipeline.video.waiting import Waiting
from pipeline.wire.camera import CameraCounts, Drop, State

__all__ = ["Reading", "Tap"]

_LOOK_S = 0.2
_STILL_S = 0.04
"""How long a file of a single picture lasts."""


class _Opened(Protocol):
    def __iter__(self) -> Iterator[Read]: ...

    def close(self) -> None: ...


class Tap(Protocol):
    """What is given the packets of a camera, as they came; called in the thread that reads."""

    clips: int
    """Recorded, and whole."""
    unwritten: int
    """Clips and snapshots that could not be written, or not to their end."""

    def opened(self, template: Any) -> None:
        """The camera is connected: the packets that come now are of this stream of PyAV."""

    def packet(self, packet: Any, now: float) -> None:
        """Take a packet of PyAV, which nothing changes afterwards, and when it was taken, in seconds since 1970."""

    def ended(self) -> None:
        """The stream has ended, and is about to be closed."""


class _OpenScene:
    """A scene, as an open camera."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene

    def __iter__(self) -> Iterator[Read]:
        number = 0
        while not self._scene.frames or number < self._scene.frames:
            yield Read(Drawn(self._scene, number), number / self._scene.fps)
            number += 1

    def close(self) -> None:
        pass


class Reading:
    """The frames of one camera.

    Args:
        plan: of the camera.
        stages: how many stages the pipeline has.
        target: where it is; asked at each connection, since a password may have changed. Raises KeyError, OSError or
            ValueError.
        say: for operators, a line at each change: its level, which is warning only for trouble, and the text.
        paused: whether the camera must not be looked at; asked a few times each second.
        tap: what is given its packets.
    """

    def __init__(
        self,
        plan: CameraPlan,
        stages: int,
        target: Callable[[], Target],
        say: Callable[[str, str], None],
        paused: Callable[[], bool] = lambda: False,
        tap: Tap | None = None,
    ) -> None:
        self._plan = plan
        self._target = target
        self._say = say
        self._paused = paused
        self._tap = tap
        self._clock = MediaClock()
        self._looked_at = 0.0
        #: Held for what follows, which both threads use; notified if a frame or a state has come, or one was taken.
        self.changed = threading.Condition()
        self.waiting = Waiting(plan.drop == "never")
        self.counts = Counts(plan.name, stages)
        self.connection = Reconnection(plan.timeout_s, random, time.monotonic())
        #: Why it has ended although it was not at its end; empty: it has not.
        self.broken = ""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"camera {plan.name}", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End; within `timeout_s`, if the camera gives nothing."""
        with self.changed:
            self._stop.set()
            self.changed.notify_all()
        self._thread.join()

    @property
    def ended(self) -> bool:
        """Whether no more frames will come, beside those that wait."""
        return self.connection.state == State.ENDED

    def take(self) -> Frame:
        """The frame that waits. With `changed` held."""
        frame = self.waiting.take()
        self.changed.notify_all()
        return frame

    def told(self) -> CameraCounts:
        """All that is known of the camera."""
        with self.changed:
            if self._tap is not None:
                self.counts.clips, self.counts.unwritten = self._tap.clips, self._tap.unwritten
            return self.counts.told(self.connection, self.waiting.dropped)

    # -- in its thread --------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stop.is_set():
            if self._paused():
                self._pause(held=False)
                continue
            why, over = self._read_once()
            now = time.monotonic()
            with self.changed:
                if self._stop.is_set():
                    return
                if over:
                    self.broken = why
                    self.connection.ended(now)
                    self.changed.notify_all()
                    return
                if not why:
                    continue
                was = self.connection.state, self.connection.why
                wait_s = self.connection.failed(why, now)
                self.changed.notify_all()
                if was != (self.connection.state, why):
                    # Once for each reason: a camera that is away for a night must not fill the log.
                    self._say("warning", f"{why}; it is connected again as soon as it is there")
            self._wait(wait_s, lambda: not self._paused())

    def _pause(self, *, held: bool) -> None:
        """Until the camera may be looked at again.

        Args:
            held: it stays open, as a file does.
        """
        with self.changed:
            self.connection.paused(time.monotonic())
            self.changed.notify_all()
        self._say("info", "paused")
        self._wait(float("inf"), self._paused)
        with self.changed:
            self.connection.resumed(time.monotonic(), held=held)
            self.changed.notify_all()
        self._say("info", "goes on")

    def _wait(self, seconds: float, go_on: Callable[[], bool]) -> bool:
        """Wait for as long as that holds, which is looked at a few times each second; whether to go on afterwards."""
        until = time.monotonic() + seconds
        while not self._stop.is_set() and (left := until - time.monotonic()) > 0 and go_on():
            with self.changed:
                self.changed.wait_for(self._stop.is_set, min(left, _LOOK_S))
        return not self._stop.is_set()

    def _must_pause(self) -> bool:
        now = time.monotonic()
        if now - self._looked_at < _LOOK_S:
            return False
        self._looked_at = now
        return self._paused()

    def _read_once(self) -> tuple[str, bool]:
        """Read the camera until it gives nothing more; (why, whether that was all). "", False: a file begins again."""
        try:
            target = self._target()
        except KeyError as error:
            return f"the environment variable {error.args[0]} is not set", False
        except OSError as error:
            return f"its password_file cannot be read: {error.strerror}", False
        except ValueError as error:
            return str(error), True
        if self._plan.drop == "never" and not target.kind.waits:
            return f"{target.kind.value} does not wait: say drop: oldest", True
        is_file = target.kind.waits
        frames = self.counts.frames
        opened: _Opened | None = None
        try:
            self._clock.begin()
            opened = self._open(target)
            with self.changed:
                self.connection.opened(time.monotonic())
                self.changed.notify_all()
            if not is_file:
                self._say("info", f"connected to {target.shown}")
            self._read(opened, is_file=is_file)
        except Exception as error:  # whatever a camera sends, its source lives
            return target.redacted(str(error) or type(error).__name__), is_file
        finally:
            if self._tap is not None:
                self._tap.ended()
            if opened is not None:
                opened.close()
        if not is_file:
            if self._paused():
                return "", False
            return "the stream has ended" if not self._frozen() else "it gives no frames", False
        if self.counts.frames == frames:
            return "it has no frames", True
        return "", not self._plan.loop

    def _frozen(self) -> bool:
        return self.connection.frozen(time.monotonic())

    def _open(self, target: Target) -> Any:
        if target.kind is Kind.SCENE:
            return _OpenScene(Scene.of(target.url))
        # Here: a scene does without PyAV.
        from pipeline.video.decoder import open_camera

        opened = open_camera(target, self._plan)
        if (tap := self._tap) is not None:
            tap.opened(opened.stream)
            opened.tap = lambda packet, at: tap.packet(packet, self._time(self._clock.time_of_packet, at))
        return opened

    def _time(self, of: Callable[[float, float], float], at: float) -> float:
        """When something was taken, in seconds since 1970."""
        now = time.time()
        return of(at, now) if self._plan.drop == "never" else now

    def _read(self, opened: Iterable[Read], *, is_file: bool) -> None:
        pacing = Pacing(self._plan.fps)
        began: tuple[float, float] | None = None
        last, period = -1e9, _STILL_S
        for read in opened:
            if self._must_pause():
                if not is_file:
                    # Nothing is read of it, so that nothing can be.
                    return
                self._pause(held=True)
                began = None
            if is_file and self._plan.drop != "never" and read.picture is not None:
                # A file in place of a camera gives its frames when the camera would have.
                began = began or (time.monotonic(), read.at)
                if not self._wait(began[0] + read.at - began[1] - time.monotonic(), lambda: True):
                    return
                period = read.at - last if began[1] <= last < read.at else period
                last = read.at
            if not self._add(read, pacing) or self._frozen():
                return
        if began is not None and self._plan.loop:
            # Its last frame is there as long as the one before; and a single picture comes no more often than wanted.
            wanted = 1 / self._plan.fps if self._plan.fps else 0.0
            length = max(last - began[1] + period, wanted)
            self._wait(began[0] + length - time.monotonic(), lambda: not self._paused())

    def _add(self, read: Read, pacing: Pacing) -> bool:
        """A packet was decoded; whether to go on."""
        with self.changed:
            counts = self.counts
            counts.frames += read.damaged or read.picture is not None
            counts.dropped[Drop.UNDECODABLE] += read.damaged
            if read.picture is None:
                return not self._stop.is_set()
            counts.last_frame = time.monotonic_ns()
            self.connection.frame(counts.last_frame / 1e9)
            if not pacing.wants(read.at):
                counts.dropped[Drop.RATE] += 1
                return not self._stop.is_set()
            self.changed.wait_for(lambda: self._stop.is_set() or not self.waiting.full)
            if not self._stop.is_set():
                taken = self._time(self._clock.time_of, read.at)
                self.waiting.add(Frame(counts.frames, read.picture, counts.last_frame, taken))
                self.changed.notify_all()
            return not self._stop.is_set()
