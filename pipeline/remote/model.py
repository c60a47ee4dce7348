"""RemoteModel: one model of a server, as its runners see it."""

from __future__ import annotations

from typing import Any

from pipeline.errors import ClientMisuse
from pipeline.kserve.values import InferRequest
from pipeline.remote.description import Description
from pipeline.remote.exchange import Exchange
from pipeline.remote.server import Server
from pipeline.wire.interface import Interface

__all__ = ["RemoteModel"]


class RemoteModel:
    """One model of a server.

    Args:
        server: that has it.
        description: what it takes and gives.
    """

    def __init__(self, server: Server, description: Description) -> None:
        self.server = server
        self.description = description
        self._output_nbytes = {
            tensor.name: tensor.spec.max_nbytes if tensor.spec.is_static else 0
            for tensor in description.interface.outputs
        }

    @property
    def exchange(self) -> Exchange:
        """Of its server."""
        return self.server.exchange

    @property
    def interface(self) -> Interface:
        """See `client.bindings.Model`; raises ClientMisuse in the child of a fork."""
        self.exchange.refuse_child()
        return self.description.interface

    @property
    def copied(self) -> dict[str, int]:
        """Bytes that this program has copied for the server's models, beside those into requests, by reason."""
        return self.server.copies.by_reason()

    def room(self, request: InferRequest) -> dict[str, int]:
        """Bytes of each output that the answer to this request has, by name; 0: that is not known before."""
        rows = request.inputs[0].shape[0] if self.description.max_batch_size and request.inputs else 1
        return {name: rows * nbytes for name, nbytes in self._output_nbytes.items()}

    def refuse_misuse(self) -> None:
        """
        Raises:
            ClientMisuse: the manager was stopped, or is of another process.
        """
        self.exchange.refuse_child()
        if (closed := self.exchange.closed) is not None:
            raise type(closed)(*closed.args)

    def why(self) -> str:
        """See `RemoteRunner.why`."""
        return "; ".join([self.server.link.why(), *self.description.notes])

    def __reduce__(self) -> Any:
        raise ClientMisuse("a runner cannot be sent to another process; connect there")

    def __repr__(self) -> str:
        under_way = self.exchange.outstanding
        return f"<RemoteModel {self.interface.name!r} of {self.server}: {under_way} requests under way there>"
