"""ModelClient: what the client of threads and that of asyncio both tell of their model, and of themselves."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from pipeline.client.driver import Driver
from pipeline.errors import ClientMisuse
from pipeline.wire.interface import Interface
from stages.spec import TensorSpec

__all__ = ["ModelClient"]


class ModelClient(ABC):
    """A client over a driver."""

    #: What a caller does to wait until it is known what runs on the other side.
    _READY: ClassVar[str]
    _name: str
    _driver: Driver

    @property
    @abstractmethod
    def _is_closed(self) -> bool:
        """Whether no call is possible any more."""

    @property
    def interface(self) -> Interface:
        """What runs on the other side: its name, inputs, outputs and stages.

        Raises:
            ClientMisuse: that is not known yet: `ready` waits for it.
        """
        if not self._known:
            raise ClientMisuse(
                f"what this model takes is not known yet, since it was not there before: {self._READY}"
            )
        return self._driver.session.interface

    @property
    def specs(self) -> dict[str, TensorSpec]:
        """Its inputs by name. Raises as `interface`."""
        assert self.interface
        return self._driver.session.specs

    @property
    def _known(self) -> bool:
        """Whether there ever was a connection."""
        return hasattr(self._driver.session, "interface")

    @property
    def outstanding(self) -> int:
        """Requests that have no answer yet."""
        return self._driver.queue.outstanding

    @property
    def copied(self) -> dict[str, int]:
        """Bytes that this client has copied within this process, beside those into slots, by reason
        (`pipeline.client.copies`)."""
        return self._driver.session.copies.by_reason()

    def __reduce__(self) -> Any:
        raise ClientMisuse("a client cannot be sent to another process; connect there")

    def __repr__(self) -> str:
        connection, lost = self._driver.access.connection, self._driver.session.lost
        where = "" if connection is None else f" in {connection.run_dir}"
        state = "closed" if self._is_closed else "connected" if lost is None else f"not connected: {lost}"
        return f"<{type(self).__name__} {self._name!r}{where}: {state}, {self.outstanding} requests under way>"
