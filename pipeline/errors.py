"""Every error of the pipeline package, split by the person or process that can act on it.

    PipelineError
    ├── ConfigError              the author of the YAML or of the command line      exit 2
    ├── StartError               the operator: it could not be started               exit 3
    ├── ReloadFailed             the operator: a new version did not start; the old one serves on
    ├── WireError                the process that sent the frame; it is dropped and counted
    │   └── OtherProtocol        the operator: two ends are of different versions
    ├── ClientMisuse             the author of the application: a client was used as it cannot be
    │   └── OutputMissing        a result has no such output (also a KeyError)
    ├── KserveError              the other end of a KServe connection: what it sent cannot be read, or not be admitted
    ├── NotInTime                what was waited for has not come within `timeout_s` (also a TimeoutError)
    └── RequestError             the caller: this request has no answer
        ├── InvalidRequest       what was sent does not fit the pipeline's inputs
        ├── BadInput             a stage raised its own BadInput (also called RequestRefused)
        ├── StageFailed          a stage raised something else
        ├── StageCrashed         the request killed its worker, again and again
        ├── StageUnavailable     its stage is broken: no worker is left to run it
        ├── StreamBroken         its stream or its answer in parts cannot go on: the worker that had it is gone
        ├── DeadlineExceeded     it was not finished in time
        ├── Cancelled            its client did not want it any more (also a concurrent.futures.CancelledError)
        ├── Overloaded           the queue is full; try again later
        └── Unavailable          the pipeline is not running, stopping, or has just died

`shm.errors` and `stages.errors` hold the trees of the layers below.
"""

from __future__ import annotations

import concurrent.futures

__all__ = [
    "PRINTED_LAST",
    "BadInput",
    "Cancelled",
    "ClientMisuse",
    "ConfigError",
    "DeadlineExceeded",
    "InvalidRequest",
    "KserveError",
    "NotInTime",
    "OtherProtocol",
    "OutputMissing",
    "Overloaded",
    "PipelineError",
    "ReloadFailed",
    "RequestError",
    "RequestRefused",
    "StageCrashed",
    "StageFailed",
    "StageTraceback",
    "StageUnavailable",
    "StartError",
    "StreamBroken",
    "Unavailable",
    "WireError",
    "request_error",
    "without_last_lines",
]


PRINTED_LAST = "; it printed last:\n"
"""In the message of a StageCrashed: between how its worker ended and the lines that the worker printed last. People
were shown those when they were printed."""


def without_last_lines(message: str) -> str:
    """The message of a StageCrashed, or how a worker ended, without the lines that people were shown before."""
    return message.partition(PRINTED_LAST)[0]


class PipelineError(Exception):
    """Base of every error of this package."""


class ConfigError(PipelineError):
    """The YAML, a `--set` or an argument is wrong.

    The message begins with `file:line:column:` and the path within the document, if there is one.
    Several findings are lines of one message.
    """


class StartError(PipelineError):
    """The pipeline could not be started; nothing was left running."""


class ReloadFailed(PipelineError):
    """The new version of a pipeline did not start, or was not let start. The old one serves on."""

    outcome: str = "failed"
    """"failed": nothing has changed. Of a stage alone also "rolled_back": its workers are of the old version again; or
    "mixed": some are of the new one, since going back has failed too."""


class WireError(PipelineError):
    """A frame that is not a message of ours: unknown kind, wrong type, too large, another version."""

    client: int | None = None
    """The client that sent it; None if that cannot be told."""


class OtherProtocol(WireError):
    """A hello or a welcome of another version. `client` is known if it is a hello."""

    protocol: int = 0
    """The version that it is of."""

    asks_only: bool = False
    """Whether it is a hello by which a client of a later version finds out whether the other end is that old."""


class ClientMisuse(PipelineError):
    """A client, or what it gave, was used as it cannot be: by another thread or process, closed, or while in use."""


class OutputMissing(ClientMisuse, KeyError):
    """A result has no such output: no pipeline's output has that name, it was skipped, or the result was released."""

    # KeyError shows the repr of its argument.
    __str__ = Exception.__str__


class KserveError(PipelineError):
    """A request or a response of KServe v2 that cannot be read, or not be admitted. It fails alone.

    Args:
        message: what was expected and what was found, for the other end.
        code: a row of `pipeline.kserve.statuses`, which has the status of HTTP and of gRPC.
    """

    def __init__(self, message: str, code: str = "INVALID_ARGUMENT") -> None:
        super().__init__(message)
        self.code = code
        #: The class of the RequestError that it was; empty: none.
        self.failure = ""


# Before Python 3.11, the timeout of futures is not the built-in one.
class NotInTime(PipelineError, TimeoutError, *{concurrent.futures.TimeoutError} - {TimeoutError}):  # type: ignore[misc]
    """What was waited for has not come within the time that the caller gave. Nothing has ended: wait again."""


class RequestError(PipelineError):
    """A request that has no answer."""

    code: str = "RequestError"
    """Stands for the class in messages, in metrics, and as `type` in what `--output` writes. If a later version has
    sent an error that is not known here, it is the code that came."""
    traceback: str = ""
    """Of the exception in the stage, without the runtime's frames; "" if there was none. At most 4100 characters."""
    request: str = ""
    """The request's id, as logs show it; "" if it was refused before it was sent."""


class StageTraceback(Exception):
    """The traceback of a stage, as the cause of the error that its client gets, so that Python shows both."""

    def __str__(self) -> str:
        return f"in a worker of the pipeline:\n{self.args[0]}"


class InvalidRequest(RequestError):
    """What was sent does not fit the pipeline's inputs."""

    code = "InvalidRequest"


class BadInput(RequestError):
    """A stage cannot compute this request: it raised `stages.errors.BadInput`, since the request's data is at fault."""

    code = "BadInput"


RequestRefused = BadInput
"""The name by which clients have caught `BadInput`."""


class StageFailed(RequestError):
    """A stage raised an unexpected exception on this request alone."""

    code = "StageFailed"


class StageCrashed(RequestError):
    """The request killed every worker that tried to run it."""

    code = "StageCrashed"


class StageUnavailable(RequestError):
    """The stage's workers died too often; it is not restarted any more."""

    code = "StageUnavailable"


class StreamBroken(RequestError):
    """The stream that the request is part of cannot go on, or parts of its answer have gone out and the rest cannot be
    made: the worker is gone that had it. Begin another stream, or send the request again."""

    code = "StreamBroken"


class Cancelled(RequestError, concurrent.futures.CancelledError):
    """The client has cancelled the request."""

    code = "Cancelled"


class DeadlineExceeded(RequestError):
    """The request was not finished in time."""

    code = "DeadlineExceeded"


class Overloaded(RequestError):
    """The pipeline's queue is full. Try again later."""

    code = "Overloaded"


class Unavailable(RequestError):
    """The pipeline is not running, is stopping, or has just died."""

    code = "Unavailable"


_BY_CODE = {cls.code: cls for cls in RequestError.__subclasses__()}


def request_error(code: str, message: str, traceback: str = "", request: str = "") -> RequestError:
    """The error that `code` of an answer stands for; an unknown code is a plain RequestError."""
    cls = _BY_CODE.get(code)
    error = cls(message) if cls is not None else RequestError(f"{code}: {message}")
    error.code = code
    error.request = request
    if traceback:
        error.traceback = traceback
        error.__cause__ = StageTraceback(traceback)
    return error
