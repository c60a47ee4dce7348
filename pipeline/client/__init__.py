"""What an application imports to send requests to a running pipeline."""

from __future__ import annotations

from pipeline.client.client import Client, Draft
from pipeline.client.future import Future, Result

__all__ = ["Client", "Draft", "Future", "Result"]
