"""Boot: what a gateway and a manager's keeper are told at birth. What writes it imports no server with it."""

from __future__ import annotations

import msgspec

from pipeline.serving.settings import Settings

__all__ = ["GatewayBoot", "KeeperBoot", "ModelPlace", "Ports"]


class GatewayBoot(msgspec.Struct, frozen=True):
    """What the keeper tells a gateway at birth, on its stdin: no other process can read the token there."""

    number: int
    settings: Settings
    """With the ports that the keeper has reserved."""
    link: int
    """The descriptor of its end of the link."""
    parent: int
    """The keeper's pid."""
    log_level: str = "info"
    """The least level of what it says (see `pipeline.logs`)."""

    def line(self) -> bytes:
        """The line that `read` reads."""
        return msgspec.json.encode(self) + b"\n"

    @staticmethod
    def read(line: bytes | bytearray) -> GatewayBoot:
        """The reverse of `line`."""
        return msgspec.json.decode(line, type=GatewayBoot)


class ModelPlace(msgspec.Struct, frozen=True):
    """Where a model of a manager runs."""

    place: str
    """As `frames.ModelTold.place`."""
    drain_s: float = 0.0
    """Seconds that what is under way may take at the model's end; 0: its config is not known here."""


class KeeperBoot(msgspec.Struct, frozen=True):
    """What a manager tells its keeper at birth: the first line of its stdin. Each further one is `models` anew."""

    settings: Settings
    models: dict[str, ModelPlace]
    """By name."""

    def line(self) -> bytes:
        """The line that `read` reads."""
        return msgspec.json.encode(self) + b"\n"

    @staticmethod
    def read(line: bytes) -> KeeperBoot:
        """The reverse of `line`."""
        return msgspec.json.decode(line, type=KeeperBoot)


class Ports(msgspec.Struct, frozen=True):
    """What the keeper tells its manager once it serves: a line on its stdout."""

    http: int
    grpc: int
    metrics: int
