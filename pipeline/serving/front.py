"""What the fronts over HTTP and gRPC have in common: what they are made of, what is open, and what is counted."""

from __future__ import annotations

import time
from typing import ClassVar

from pipeline.errors import KserveError
from pipeline.kserve.values import Limits
from pipeline.serving.calls import Calls
from pipeline.serving.catalogue import Catalogue
from pipeline.serving.endpoints import Endpoint
from pipeline.serving.inference import Inference
from pipeline.serving.journal import Journal
from pipeline.serving.settings import Settings

__all__ = ["CANCELLED", "OK", "Front"]

OK, CANCELLED = "OK", "CANCELLED"
"""Outcomes beside the codes of errors: answered, and not wanted any more."""


class Front:
    """One of them."""

    NAME: ClassVar[str]

    def __init__(
        self, settings: Settings, catalogue: Catalogue, calls: Calls, inference: Inference, journal: Journal
    ) -> None:
        self._settings = settings
        self._catalogue = catalogue
        self._calls = calls
        self._inference = inference
        self._journal = journal
        self._limits = Limits(body=settings.max_body, json=settings.max_body)
        self._traffic = inference.traffic

    def _check_open(self, endpoint: Endpoint, what: str) -> None:
        """
        Args:
            what: the call, as its caller names it.

        Raises:
            KserveError: the operator has not opened it (PERMISSION_DENIED).
        """
        if not self._settings.opens(endpoint.opened_by):
            raise KserveError(
                f"{what} is closed: the operator opens it by serve.{endpoint.opened_by}", "PERMISSION_DENIED"
            )

    def _failed(self, what: str, error: BaseException) -> KserveError:
        """What a caller hears of a fault of ours; the operator's log says how."""
        self._journal.fault(what, error)
        return KserveError("the server has failed at this request; its log says how", "INTERNAL")

    def _over(self, endpoint: Endpoint, outcome: str, begun_ns: int) -> None:
        """A request, or one message of a stream, is over.

        Args:
            begun_ns: of time.perf_counter_ns.
        """
        if endpoint.name == "metrics":
            return  # what watches the gateway is none of its callers
        self._traffic.answered(self.NAME, outcome)
        if endpoint.name in ("infer", "stream"):
            self._traffic.took(self.NAME, (time.perf_counter_ns() - begun_ns) / 1e9)
