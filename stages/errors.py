"""The errors that a stage may raise, one class for each reaction of the runtime.

    StageError           (the first three are of AnsweredError)
    ├── BadInput         this request cannot be computed: it fails alone, with this message
    ├── Unreachable      what the stage asks is not there: the request fails alone, as Unavailable
    ├── TooLate          what the stage asks did not answer in time: the request fails alone, as DeadlineExceeded
    ├── StageBroken      this process cannot go on: it is restarted, its requests run again
    ├── SpecMismatch     a tensor or an edge does not fit its TensorSpec
    ├── BadOption        `use:` names no stage, or `with:` does not suit it
    └── ModelError       a model file is missing, damaged, or not what the stage needs
        └── UnknownModel     `with:` names a model that is neither a file nor in the catalogue

Any other exception out of `process` fails the requests that raise it when they run alone.
"""

from __future__ import annotations

__all__ = [
    "AnsweredError", "BadInput", "BadOption", "ModelError", "SpecMismatch", "StageBroken", "StageError", "TooLate",
    "UnknownModel", "Unreachable", "text_of",
]  # fmt: skip


class StageError(Exception):
    """Base of the errors that a stage raises on purpose."""


class AnsweredError(StageError):
    """Base of those that are the answer to one request. Its batch mates and the process go on."""

    code = "StageFailed"
    """The name of the error that its client gets."""


class BadInput(AnsweredError):
    """The request's own data is at fault. Only that request fails; its batch mates and the process go on."""

    code = "BadInput"


class Unreachable(AnsweredError):
    """What the stage asks, such as a server, is not there. The request may succeed later."""

    code = "Unavailable"


class TooLate(AnsweredError):
    """What the stage asks, such as a server, did not answer before the request's deadline."""

    code = "DeadlineExceeded"


class StageBroken(StageError):
    """The process is no longer able to compute (a lost device, a poisoned context). It is restarted."""


class SpecMismatch(StageError):
    """A tensor, or an edge of the graph, does not fit its TensorSpec."""


class BadOption(StageError):
    """No stage can be made from what the YAML has under `use:` or `with:`."""


class ModelError(StageError):
    """A model cannot be loaded or is not of the expected shape."""


class UnknownModel(ModelError):
    """A name of a model that is neither a file nor in the catalogue: the author of the YAML must change it."""


def text_of(error: BaseException) -> str:
    """The text of an exception that may be of a user's own class, whatever its `__str__` does."""
    try:
        return str(error)
    except Exception:
        return "which cannot be shown"
