"""What an application imports to send requests to a running pipeline."""

from __future__ import annotations

from pipeline.client.client import Client
from pipeline.client.draft import Draft
from pipeline.client.future import Future
from pipeline.client.result import Result

__all__ = ["Client", "Draft", "Future", "Result"]
