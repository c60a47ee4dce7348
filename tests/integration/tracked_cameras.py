"""A pipeline of cameras in whose frames one thing is always found, for tests of what is shown of them."""

from __future__ import annotations

from pathlib import Path

STAGES = '''
from stages.spec import TensorSpec


class Find:
    """One thing, in the middle of each frame."""

    inputs = (TensorSpec("frame", "uint8", (48, 64, 3)),)
    outputs = (TensorSpec("detections", "float32", (20, 6)), TensorSpec("count", "int32", ()))

    def process(self, batch):
        for row in range(len(batch.requests)):
            found = batch.out(row, "detections", (20, 6))
            found[...] = 0
            found[0] = [0, 0.9, 0.25, 0.4, 0.75, 0.6]
            batch.out(row, "count", ())[...] = 1
'''

CONFIG = """\
name: edge
inputs: [{name: frame, dtype: uint8, shape: [48, 64, 3]}]
sources:
  - {name: door, url: "synthetic:?fps=10&size=64x48"}
  - {name: yard, url: "synthetic:?fps=10&size=64x48"}
  - {name: shed, url: "http://admin:${SHED_PASSWORD}@127.0.0.1:9/"}  # nothing listens there
stages:
  - {name: find, use: "./find_stages.py:Find"}
  - name: track
    use: stages.video.track:Track
    with:
      labels: [<b>person</b>]
      default:
        zones: {near: [[0, 0.5], [1, 0.5], [1, 1], [0, 1]]}  # of all
        rules: [{rule: enter, zone: near}]
outputs: [track.tracks]
"""

PASSWORD = "a-password-of-the-shed"


def tracked_config(folder: Path) -> Path:
    """The config, in a folder of its own."""
    (folder / "find_stages.py").write_text(STAGES)
    path = folder / "edge.yaml"
    path.write_text(CONFIG)
    path.chmod(0o600)
    return path
