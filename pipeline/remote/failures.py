"""Failures: what went wrong with a call to a server, and which error of ours that is. Pure.

    refused     no connection could be made: the request was not sent
    lost        the connection broke, or was silent, while the request was under way: it may have been computed
    told        the server has answered, with an error
"""

from __future__ import annotations

from typing import Any, NamedTuple

from pipeline.errors import (
    BadInput,
    Cancelled,
    DeadlineExceeded,
    InvalidRequest,
    KserveError,
    Overloaded,
    RequestError,
    StageFailed,
    Unavailable,
    request_error,
)

__all__ = ["LOST", "REFUSED", "TOLD", "Failure", "error_of"]

REFUSED, LOST, TOLD = "refused", "lost", "told"

_ERRORS: dict[str, Any] = {
    "INVALID_ARGUMENT": BadInput,
    "ALREADY_EXISTS": BadInput,
    "UNSUPPORTED_MEDIA_TYPE": InvalidRequest,
    "TOO_LARGE": InvalidRequest,
    "UNAUTHENTICATED": InvalidRequest,
    "PERMISSION_DENIED": InvalidRequest,
    "METHOD_NOT_ALLOWED": InvalidRequest,
    "UNIMPLEMENTED": InvalidRequest,
    "NOT_FOUND": Unavailable,
    "UNAVAILABLE": Unavailable,
    "RESOURCE_EXHAUSTED": Overloaded,
    "CANCELLED": Cancelled,
    "DEADLINE_EXCEEDED": DeadlineExceeded,
    "INTERNAL": StageFailed,
}
#: What is said behind the server's own words.
_HINTS = {"UNAUTHENTICATED": "; give the server's token: token=..."}


class Failure(NamedTuple):
    """Why a call has no answer."""

    kind: str
    """REFUSED, LOST or TOLD."""
    message: str
    code: str = "UNAVAILABLE"
    """A row of `pipeline.kserve.statuses`."""
    error: str = ""
    """Our name of the error, such as "StageCrashed", if the server is a gateway of this project; otherwise empty."""

    @staticmethod
    def told(error: KserveError, name: str = "") -> Failure:
        """The server has answered with this."""
        return Failure(TOLD, str(error), error.code, name)


def error_of(failure: Failure, request: str = "") -> RequestError:
    """The error that the caller gets.

    Args:
        request: the id of the request.
    """
    if failure.error:
        return request_error(failure.error, failure.message, request=request)
    made: RequestError = _ERRORS.get(failure.code, StageFailed)(failure.message + _HINTS.get(failure.code, ""))
    made.request = request
    return made
