"""Reading: the thread of a source that keeps its camera connected, decodes it, and leaves the frames that are wanted.

    camera ──packets──▶ decoder ──▶ wanted by `fps`? ──▶ Waiting ──▶ the source's own thread, which sends them
                                        └── no: dropped

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
from pipeline.video.frame import Frame, Read
from pipeline.video.pacing import Pacing
from pipeline.video.reconnection import Reconnection
from pipeline.video.scene import Drawn, Scene
from pipeline.video.waiting import Waiting
from pipeline.wire.camera import CameraCounts, Drop, State

__all__ = ["Reading"]

_LOOK_S = 0.2


class _Opened(Protocol):
    def __iter__(self) -> Iterator[Read]: ...

    def close(self) -> None: ...


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
        say: for people, a line at each change.
    """

    def __init__(
        self, plan: CameraPlan, stages: int, target: Callable[[], Target], say: Callable[[str], None]
    ) -> None:
        self._plan = plan
        self._target = target
        self._say = say
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
            return self.counts.told(self.connection, self.waiting.dropped)

    # -- in its thread --------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stop.is_set():
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
                    self._say(f"{why}; it is connected again as soon as it is there")
                self.changed.wait_for(lambda: self._stop.is_set(), wait_s)

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
            opened = _open(target, self._plan)
            with self.changed:
                self.connection.opened(time.monotonic())
                self.changed.notify_all()
            if not is_file:
                self._say(f"connected to {target.shown}")
            self._read(opened, paced=is_file and self._plan.drop != "never")
        except Exception as error:  # whatever a camera sends, its source lives
            return target.redacted(str(error) or type(error).__name__), is_file
        finally:
            if opened is not None:
                opened.close()
        if not is_file:
            return "the stream has ended" if not self._frozen() else "it gives no frames", False
        if self.counts.frames == frames:
            return "it has no frames", True
        return "", not self._plan.loop

    def _frozen(self) -> bool:
        return self.connection.frozen(time.monotonic())

    def _read(self, opened: Iterable[Read], *, paced: bool) -> None:
        pacing = Pacing(self._plan.fps)
        began: tuple[float, float] | None = None
        for read in opened:
            if paced and read.picture is not None:
                # A file in place of a camera gives its frames when the camera would have.
                began = began or (time.monotonic(), read.at)
                if not self._sleep_until(began[0] + read.at - began[1]):
                    return
            if not self._add(read, pacing) or self._frozen():
                return

    def _sleep_until(self, when: float) -> bool:
        """Whether to go on."""
        with self.changed:
            while not self._stop.is_set() and (left := when - time.monotonic()) > 0:
                self.changed.wait_for(lambda: self._stop.is_set(), min(left, _LOOK_S))
            return not self._stop.is_set()

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
                self.waiting.add(Frame(counts.frames, read.picture, counts.last_frame, read.at))
                self.changed.notify_all()
            return not self._stop.is_set()


def _open(target: Target, plan: CameraPlan) -> Any:
    if target.kind is Kind.SCENE:
        return _OpenScene(Scene.of(target.url))
    # Here: a scene does without PyAV.
    from pipeline.video.decoder import open_camera

    return open_camera(target, plan)
