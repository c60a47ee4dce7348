"""configs/detector.yaml and configs/edge.yaml, with real processes and the model of the repository."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pipeline.testing import running
from pipeline.wire.messages import Submit
from pipeline.wire.records import SlotRef, Submission
from shm.handle import TensorHandle
from tests.integration.raw_client import RawClient

ROOT = Path(__file__).parents[2]
LABELS = (ROOT / "models" / "coco.txt").read_text().splitlines()


def test_the_detector_finds_what_is_in_photographs(cli: Any, tmp_path: Path) -> None:
    output = tmp_path / "found.jsonl"
    code, _, err = cli("run", ROOT / "configs" / "detector.yaml", "--output", output, "--set", "detect.replicas=1")
    assert (code, err) == (0, "")
    records = [json.loads(line) for line in output.read_text().splitlines()]
    found = {Path(record["input"]).name: record["outputs"] for record in records}
    best = {name: outputs["detections"][0] for name, outputs in found.items()}
    assert {name: LABELS[int(row[0])] for name, row in best.items()} == {"astronaut.jpg": "person", "cat.jpg": "cat"}
    assert all(outputs["count"] >= 1 for outputs in found.values())


class Camera(RawClient):
    """A source of frames: requests of one stream."""

    def frame_answer(self, pixels: np.ndarray, number: int) -> dict[str, Any]:
        slot = self.slot()
        handle = TensorHandle(*slot, 0, "uint8", pixels.shape)
        self.table.view(handle, writable=True)[...] = pixels
        name = f"door@{1000 + number / 5}"
        submission = Submission(number, slot, (handle,), 0, 0, name, stream=1, sequence=number)
        self.send(Submit(self.number, self._seen, (submission,), ()))
        answer = self.answer(number, timeout_s=60)
        assert answer.code == "", answer.message
        document: dict[str, Any] = json.loads(self.bytes_of(answer))
        (told,) = answer.outputs
        self.send(Submit(self.number, self._seen, (), (SlotRef(told.segment, told.slot, told.generation),)))
        return document


def test_a_person_who_comes_is_told_and_while_nothing_moves_the_detector_is_skipped() -> None:
    # The frames are as small as the smallest slots.
    person = np.asarray(Image.open(ROOT / "photos" / "astronaut.jpg").convert("RGB").resize((116, 116)))
    empty = np.full_like(person, 90)
    options = ["sources=[]", "detect.replicas=1", "motion.with.linger_s=1", "motion.with.settle_s=0.2", "track.with.begin=0.4"]
    with running(ROOT / "configs" / "edge.yaml", options) as pipeline, Camera(pipeline.run_dir) as camera:
        camera.join()
        frames = [empty] * 10 + [person] * 15
        told = [camera.frame_answer(pixels, number) for number, pixels in enumerate(frames, 1)]
    looked = [frame["looked"] for frame in told]
    # The first second of the stream, and from when the person comes until a moment after nothing moves any more.
    assert looked[:10] == [True] * 5 + [False] * 5
    assert looked[10:15] == [True] * 5
    assert not looked[-1]
    begun = [(event["rule"], event["label"]) for frame in told for event in frame["events"] if event["state"] == "begin"]
    assert begun == [("object", "person"), ("enter", "person")]
    assert [track["label"] for track in told[-1]["tracks"]] == ["person"]
    assert told[-1]["tracks"][0]["zones"] == ["near"]
