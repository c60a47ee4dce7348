"""Record: the outcome of one request, for its line in `--output`, the display and the summary. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from pipeline.feeding.values import json_value

__all__ = ["Record", "shown"]


def shown(text: str) -> str:
    """A name as it is shown and recorded: bytes of a file's name that are not UTF-8 become escapes such as `\\xe9`."""
    if text.isascii():
        return text
    return "".join(
        f"\\x{ord(character) - 0xDC00:02x}" if "\udc80" <= character <= "\udcff" else character for character in text
    )


@dataclass(slots=True)
class Record:
    """The outcome of one request. It has the outputs only as text, since an array would keep a slot."""

    input: str
    """The name of its file as `shown` gives it."""
    error: tuple[str, str] | None = None
    """(type, message) if the request failed."""
    headline: tuple[str, str] = ("", "")
    """Short form of the outputs, see `values.headline_of`."""
    outputs: bytes = b"{}"
    """A JSON object of the outputs by name; empty if nothing is written."""
    lost: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """For each output, how many of NaN, Infinity and -Infinity are null in `outputs`."""
    latency_ms: float = 0.0
    """Milliseconds from the submission to the answer."""
    stages: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """For each stage its queue_ms, compute_ms, batch, copied_bytes and runs (how often the request ran in it)."""
    traceback: str = ""
    """The traceback of the stage's exception, if there is one."""
    request: str = ""
    """The id of the request, as in logs; "" if it was not sent."""

    def to_json(self) -> bytes:
        """The line in `--output`, without its end."""
        error = self._error()
        stages = {name: dict(values) for name, values in self.stages.items()}
        unused: Counter[str] = Counter()
        parts = [
            (b'"input": ', json_value(self.input, unused)),
            (b'"status": ', b'"ok"' if error is None else b'"error"'),
            (b'"error": ', json_value(error, unused)),
            (b'"outputs": ', self.outputs),
            (b'"latency_ms": ', json_value(round(self.latency_ms, 3), unused)),
            (b'"stages": ', json_value(stages, unused)),
            (b'"request": ', json_value(self.request or None, unused)),
        ]
        if self.lost:
            lost = {name: dict(counts) for name, counts in self.lost.items()}
            parts.insert(4, (b'"nulls": ', json_value(lost, unused)))
        return b"{" + b", ".join([name + value for name, value in parts]) + b"}"

    def _error(self) -> dict[str, str] | None:
        if self.error is None:
            return None
        error = {"type": self.error[0], "message": self.error[1]}
        return {**error, "traceback": self.traceback} if self.traceback else error
