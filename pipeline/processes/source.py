"""The source process: reads one camera, and sends its frames as the requests of a stream.

    camera ──▶ Reading (a thread of its own) ──▶ Waiting ──▶ slot ──▶ scheduler ──▶ stages ──▶ answer ──▶ observers
                                                               └ Flight: how many may be inside, and in which order

It is a client like any other. To the pipeline each frame is a request whose time of start is the frame's arrival, so
that every stage knows how old it is; to the stages the camera is a stream. The newest frame is taken when a slot is
there, and not before: while frames wait, they get no older than the next one.

It ends, with exit code 0 or `DONE_WITH_FAILURES`, when its camera has come to its end and every frame is answered; on
SIGTERM, which the supervisor sends it when the run stops, it ends as soon as its clip is whole.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from types import FrameType

from pipeline.client.client import Client
from pipeline.client.draft import Draft
from pipeline.client.future import Future
from pipeline.config.camera_urls import target_of
from pipeline.errors import NotInTime, PipelineError, RequestError, StreamBroken, Unavailable
from pipeline.graph.plan import CameraPlan, Plan
from pipeline.graph.recording import tells_events
from pipeline.logs.telling import tell
from pipeline.processes.child import DONE_WITH_FAILURES, boot
from pipeline.video.event_log import EventLog
from pipeline.video.flight import Flight, Inside
from pipeline.video.frame import Frame, Size, place, slot_size
from pipeline.video.observers import JsonLines, Observer, Observers
from pipeline.video.pausing import Pause
from pipeline.video.reading import Reading, Tap
from pipeline.video.showing import Gallery
from pipeline.video.tracking import output_in
from pipeline.video.tracks import Tracks
from pipeline.wire.camera import Drop
from pipeline.wire.traces import traces_in
from stages.spec import TensorSpec

__all__ = ["Source", "main"]

_REPORT_S = 1.0
"""How often the scheduler is told how the camera is, beside each change of its state."""
_SLOT_S = 0.1
"""How long a slot is waited for before newer frames are looked at, answers taken in and the camera reported."""
_TURN_S = 0.005
"""While both an answer and a frame may come, answers are waited for so long; the frame waits that long at most."""
_COMPLAINT_S = 10.0
"""So long after a complaint there is no other one."""
_AGAIN_S = 0.2
_IDLE_S = 0.25
"""How long a frame is waited for while nothing is inside."""


class Source:
    """Sends the frames of one camera through a client that is connected.

    Args:
        reading: the camera, started.
        observers: those of the camera.
    """

    def __init__(
        self, client: Client, plan: CameraPlan, spec: TensorSpec, reading: Reading, observers: Observers
    ) -> None:
        self._client = client
        self._plan = plan
        self._spec = spec
        self._reading = reading
        self._observers = observers
        self._flight: Flight[Future] = Flight(plan.in_flight, plan.drop == "never")
        self._reported: tuple[float, str] = (0.0, "")
        self._complained_at = -_COMPLAINT_S
        self._said_parts = False

    def run(self) -> None:
        """Until the camera has come to its end, and all is answered.

        Raises:
            Unavailable: the pipeline has stopped, or its scheduler has died; `run` may be called again.
        """
        while True:
            self._take_answers()
            self._report()
            frame = self._next()
            if frame is not None:
                self._send(frame)
            elif len(self._flight):
                self._client.pump(_TURN_S if self._flight.has_room else _SLOT_S)
            elif self._reading.ended:
                self._report(last=True)
                return
            else:
                with self._reading.changed:
                    self._reading.changed.wait_for(self._is_awake, _IDLE_S)
                # What came meanwhile, such as that the run was replaced.
                self._client.pump(0.0)

    def lost(self) -> None:
        """The pipeline is not there: what was inside is lost, or is sent again."""
        with self._reading.changed:
            self._reading.waiting.because = Drop.UNAVAILABLE
        self._take_answers()

    def _is_awake(self) -> bool:
        return bool(len(self._reading.waiting)) or self._reading.ended or self._state != self._reported[1]

    @property
    def _state(self) -> str:
        return self._reading.connection.state

    # -- frames ---------------------------------------------------------------------------------

    def _next(self) -> Frame | None:
        """The frame to send now; it still waits."""
        if not self._flight.has_room:
            return None
        if (again := self._flight.next_again) is not None:
            return again
        with self._reading.changed:
            return self._reading.waiting.first

    def _send(self, frame: Frame) -> None:
        if (over := self._flight.renew()) is not None:
            self._client.end_stream(over)
        size = self._slot_size(frame)
        try:
            draft = self._client.draft({self._spec.name: (size.height, size.width, 3)}, timeout_s=_SLOT_S)
        except NotInTime:
            with self._reading.changed:
                self._reading.waiting.because = Drop.NO_SLOT
            return
        taken: Frame | None = frame
        if frame is not self._flight.next_again:
            with self._reading.changed:
                # Perhaps a newer one by now; and of another size, for which the slot may be too small.
                newest = self._reading.waiting.first
                fits = newest is not None and self._slot_size(newest) == size
                taken = self._reading.take() if fits else None
        if taken is None:
            draft.discard()
        else:
            self._fill(draft, taken)

    def _slot_size(self, frame: Frame) -> Size:
        wanted = Size(*self._plan.size) if self._plan.size else None
        return slot_size(self._spec.shape, self._spec.max, wanted, frame.picture.size)

    def _fill(self, draft: Draft, frame: Frame) -> None:
        try:
            copied = place(frame.picture, draft.inputs[self._spec.name])
        except Exception as error:  # of a picture that the scaler refuses
            draft.discard()
            with self._reading.changed:
                self._reading.counts.dropped[Drop.UNDECODABLE] += 1
            self._complain(f"frame {frame.number} cannot be scaled: {type(error).__name__}")
            return
        origin = self._flight.origin(frame)
        future = draft.submit(name=f"{self._plan.name}@{frame.taken:.3f}", origin=origin)
        self._flight.sent(frame, future, origin)
        with self._reading.changed:
            self._reading.counts.sent += 1
            self._reading.counts.copied += copied

    # -- answers --------------------------------------------------------------------------------

    def _take_answers(self) -> None:
        """Take in what is answered, in the order of the frames."""
        while self._flight.inside and self._flight.inside[0].request.done():
            first = self._flight.inside[0]
            error = first.request.error()
            if isinstance(error, (Unavailable, StreamBroken)):
                if self._flight.lost() is not None:
                    self._failed(first, error)
                continue
            self._flight.answered()
            if error is not None:
                self._failed(first, error)
            else:
                self._answered(first)

    def _answered(self, inside: Inside[Future]) -> None:
        answer = inside.request.answer
        assert answer is not None
        with self._reading.changed:
            self._reading.counts.answered += 1
            self._reading.counts.passed(traces_in(answer.trace))
        if inside.request.received:
            if not self._said_parts:
                self._said_parts = True
                tell("info", "answers come in parts, which are counted and not shown")
            return
        try:
            with inside.request.get() as result:
                self._complain(*self._observers.answered(inside.frame, result))
        except (PipelineError, OSError, ValueError) as error:
            self._complain(f"an answer cannot be shown: {error}")

    def _failed(self, inside: Inside[Future], error: RequestError) -> None:
        with self._reading.changed:
            self._reading.counts.failed += 1
        text = f"frame {inside.frame.number}: {type(error).__name__}: {error}"
        self._complain(text, *self._observers.failed(inside.frame, error))

    def _complain(self, *texts: str) -> None:
        """Now and then: thirty a second would fill the log."""
        now = time.monotonic()
        if texts and now - self._complained_at >= _COMPLAINT_S:
            self._complained_at = now
            for text in dict.fromkeys(texts):
                tell("warning", text)

    def _report(self, *, last: bool = False) -> None:
        """Tell the scheduler how the camera is, if it is time to."""
        now = time.monotonic()
        at, state = self._reported
        if last or now - at >= _REPORT_S or state != self._state:
            counts = self._reading.told()
            self._client.report_camera(counts)
            self._reported = now, counts.state
            self._complain(*self._observers.reported(counts))


class _SourceClient(Client):
    # The new version of a pipeline has sources of its own.
    _follows = False


def _observers(
    plan: Plan, camera: CameraPlan, run_dir: Path, stack: ExitStack
) -> tuple[Observers, Tap | None]:
    """What is told of this camera, and what is given its packets; the stack closes them."""
    observers: list[Observer] = []
    tap: Tap | None = None
    if plan.camera_output:
        observers.append(JsonLines(os.open(plan.camera_output, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)))
    observers.append(Gallery(run_dir, plan, camera))
    if tells_events(plan):
        observers.append(EventLog(run_dir, camera.name))
    if camera.record is not None:
        # Here: a source of scenes does without PyAV.
        from pipeline.video.recordings import Recordings, recorder_of

        tap = recorder = recorder_of(camera, Path(plan.base_dir), lambda text: tell("warning", text))
        observers.append(Recordings(recorder, live=camera.drop != "never"))
    if plan.mqtt is not None:
        # Here: it needs paho-mqtt.
        from pipeline.mqtt.publisher import publisher_of

        observers.append(publisher_of(plan, plan.mqtt, camera.name, run_dir, tell))
    for observer in observers:
        stack.callback(observer.close)
    return Observers(camera.name, observers, Tracks(output_in(plan))), tap


def _serve(plan: Plan, camera: CameraPlan, run_dir: Path, reading: Reading, observers: Observers) -> None:
    with _SourceClient.connect(run_dir, name=f"source {camera.name}", timeout_s=3600) as client:
        source = Source(client, camera, plan.inputs[0], reading, observers)
        while True:
            try:
                source.run()
                return
            except Unavailable:
                source.lost()
                with suppress(Unavailable):
                    client.reconnect()
                # A run that drains goes on to refuse.
                time.sleep(_AGAIN_S)


def summary_of(reading: Reading) -> str:
    """What has become of all frames, in a line."""
    counts = reading.told()
    dropped = ", ".join(f"{count} dropped ({reason})" for reason, count in sorted(counts.dropped.items()))
    parts = [f"{counts.frames} frames", f"{counts.answered} answered", f"{counts.failed} failed"]
    return f"ended{': ' * bool(reading.broken)}{reading.broken}; {', '.join([*parts, *filter(None, [dropped])])}"


def main() -> None:
    """Entry point of the process."""
    boot_ = boot(own_sigterm=True)
    signal.signal(signal.SIGTERM, _end)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    plan = boot_.plan
    camera = plan.cameras[boot_.replica]

    def read(path: Path) -> str:
        return path.read_text(encoding="utf-8")

    target = partial(target_of, camera.url, camera.password_file, Path(plan.base_dir), os.environ, read)
    pause = Pause(boot_.run_dir, camera.name)
    with ExitStack() as stack:
        observers, tap = _observers(plan, camera, boot_.run_dir, stack)
        reading = Reading(camera, len(plan.stages), target, tell, lambda: pause.on, tap)
        reading.start()
        _serve(plan, camera, boot_.run_dir, reading, observers)
    tell("info", summary_of(reading))
    sys.exit(DONE_WITH_FAILURES if reading.broken or reading.counts.failed else 0)


def _end(number: int, frame: FrameType | None) -> None:
    """What closes files runs on the way out. No code of `DONE`: if the run goes on, another source is started."""
    sys.exit(128 + number)


if __name__ == "__main__":
    main()
