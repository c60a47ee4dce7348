"""Messages: the protocol of Frigate's `zmq` detectors (class ZmqIpcDetector of Frigate 0.18). Pure.

    a detector of Frigate (REQ)                                                          a pipeline (ROUTER)
      ──{"model_request": true, "model_name": "m.onnx"}─────────────────────────────────▶   before the first frame
      ◀─{"model_available": true, "model_loaded": true}──────────────────────────────────   it waits 30 s for this
      ──{"shape": [1, 320, 320, 3], "dtype": "uint8", "model_type": "ssd"}, its bytes───▶   a frame
      ◀─{"shape": [20, 6], "dtype": "float32"}, their bytes──────────────────────────────   it waits 200 ms for this
      ◀─{"error": "..."}─────────────────────────────────────────────────────────────────   or this

A detector that has waited in vain takes zeros for the detections, connects anew, and asks for the model again. It takes
zeros without a line in its log. An answer of one frame it takes for the bytes of the table; if their number is wrong it
logs a warning with that number, takes zeros, and goes on with the same connection. So that is how a request fails here.
Earlier versions ask for no model.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InvalidRequest

__all__ = [
    "ROWS", "TABLE_BYTES", "Frame", "ModelOffer", "ModelQuestion", "loaded", "question_of", "refusal", "refused_model",
    "table",
]  # fmt: skip

ROWS = 20
"""Detections of an answer; Frigate has room for neither more nor fewer."""

TABLE_BYTES = ROWS * 6 * 4

#: Of a header. Frigate's have less than 100 bytes.
_MOST_HEADER_BYTES = 4096

_DTYPES: dict[str, np.dtype[Any]] = {"uint8": np.dtype(np.uint8), "float32": np.dtype("<f4")}


class Frame(NamedTuple):
    """A frame in which to find things."""

    pixels: NDArray[Any]
    """uint8 or float32, of the three axes of one picture; it lies in the message."""


class ModelQuestion(NamedTuple):
    """Whether a model is there."""

    name: str


class ModelOffer(NamedTuple):
    """A model for the pipeline to load."""

    name: str


class _Header(msgspec.Struct):
    """Of every message; fields that are not named here are passed over."""

    shape: list[int] | None = None
    dtype: str = ""
    model_request: bool = False
    model_data: bool = False
    model_name: str = ""


def question_of(parts: Sequence[Any]) -> Frame | ModelQuestion | ModelOffer:
    """What a message asks.

    Args:
        parts: its frames, as buffers of bytes.

    Raises:
        InvalidRequest: it is none of the messages above.
    """
    if not parts:
        raise InvalidRequest("expected a header and a tensor, found a message without any frame")
    header = _header(parts[0])
    if header.model_request:
        return ModelQuestion(header.model_name)
    if header.model_data:
        return ModelOffer(header.model_name)
    if len(parts) != 2:
        raise InvalidRequest(f"expected two frames, a header and a tensor, found {len(parts)}")
    return Frame(_tensor(header, parts[1]))


def _header(data: Any) -> _Header:
    if len(data) > _MOST_HEADER_BYTES:
        raise InvalidRequest(f"expected a header of at most {_MOST_HEADER_BYTES} bytes, found {len(data)}")
    try:
        return msgspec.json.decode(data, type=_Header)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        example = '{"shape": [1, 320, 320, 3], "dtype": "uint8"}'
        raise InvalidRequest(f"expected a header like {example}: {error}") from None


def _tensor(header: _Header, data: Any) -> NDArray[Any]:
    dtype, shape = _DTYPES.get(header.dtype), header.shape
    if dtype is None:
        raise InvalidRequest(f"expected a dtype of {' or '.join(_DTYPES)}, found {header.dtype!r}")
    if shape is not None and len(shape) == 4 and shape[0] == 1:
        shape = shape[1:]
    if shape is None or len(shape) != 3 or min(shape) < 1:
        raise InvalidRequest(f"expected the shape of one picture, such as [1, 320, 320, 3], found {header.shape}")
    if (expected := math.prod(shape) * dtype.itemsize) != len(data):
        raise InvalidRequest(f"expected {expected} bytes for {header.dtype} of shape {header.shape}, found {len(data)}")
    pixels: NDArray[Any] = np.frombuffer(data, dtype).reshape(shape)
    return pixels


def table(detections: NDArray[np.float32]) -> list[bytes]:
    """The answer to a frame.

    Args:
        detections: float32 of shape (ROWS, 6): class, score, y_min, x_min, y_max, x_max.
    """
    header = {"shape": list(detections.shape), "dtype": "float32"}
    return [msgspec.json.encode(header), detections.astype("<f4", copy=False).tobytes()]


def refusal(why: str) -> list[bytes]:
    """The answer to a request that has failed."""
    data = msgspec.json.encode({"error": why})
    # Not of the length of a table, since Frigate would take it for one.
    return [data + b" " if len(data) == TABLE_BYTES else data]


def loaded(ready: bool) -> list[bytes]:
    """The answer to the question for a model.

    Args:
        ready: whether the pipeline would answer a frame now. If it would not, Frigate gives this detector up until it
            is restarted.
    """
    return [msgspec.json.encode({"model_available": True, "model_loaded": ready})]


def refused_model(name: str) -> list[bytes]:
    """The answer to a model that is sent: a pipeline has its own."""
    why = f"the pipeline has its own model, and takes none ({name!r}); ask with model_request"
    return [msgspec.json.encode({"model_saved": False, "model_loaded": False, "error": why})]
