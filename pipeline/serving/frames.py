"""Frames: what the keeper and its gateways say to each other, and its form on their socket. Pure.

    keeper ──LogTold, TraceTold, RegionTold, RegionGone, ModelTold, ModelGone──▶ gateway ──Confirmed──▶ keeper
           ──Complete: that was everything─────────────────────────────────────▶         ──Ready─────▶
           ──Report────────────────────────────────────────────────────────────▶         ──Counted───▶
           ──Drain─────────────────────────────────────────────────────────────▶         ends
    gateway ──Hello──▶, ──Call: a client's wish──▶ keeper ──Settled──▶ gateway

On the socket each frame is

    4 bytes, little endian: the length of the rest │ MessagePack: [tag, field, ...]

and the descriptor of a RegionTold comes with its first byte (SCM_RIGHTS). Both ends are of one installation; only if
the package was replaced under a keeper that runs is a gateway of another version, and `Hello`, which never changes its
form, says so.
"""

from __future__ import annotations

import struct

import msgspec

from pipeline.errors import WireError
from pipeline.metrics.traffic import Traffic
from pipeline.serving.counts import Counts

__all__ = [
    "MOST",
    "VERSION",
    "Call",
    "Complete",
    "Confirmed",
    "Count",
    "Counted",
    "Drain",
    "Failed",
    "Frame",
    "Hello",
    "Load",
    "LogTold",
    "Look",
    "ModelGone",
    "ModelTold",
    "Pieces",
    "Ready",
    "RegionGone",
    "RegionTold",
    "Register",
    "Report",
    "SetLog",
    "SetTrace",
    "Settled",
    "TraceTold",
    "Unload",
    "Unregister",
    "Wish",
    "encode",
]  # fmt: skip

VERSION = 1
"""Of all frames but `Hello`; it rises with each change of one."""

MOST = 1 << 22
"""Bytes of a frame."""

_LENGTH = struct.Struct("<I")

LogValue = bool | int | str
TraceValue = str | list[str]


class _Frame(msgspec.Struct, array_like=True, frozen=True):
    pass


# -- what a client wishes -----------------------------------------------------------------------


class Load(_Frame, frozen=True, tag=1):
    """Have a model served, or its newest version."""

    name: str


class Unload(_Frame, frozen=True, tag=2):
    """End a model."""

    name: str


class Look(_Frame, frozen=True, tag=3):
    """See what the folder of the repository has now."""


class Register(_Frame, frozen=True, tag=4):
    """Make a part of an object of shm_open known by a name."""

    name: str
    key: str
    offset: int
    nbytes: int


class Unregister(_Frame, frozen=True, tag=5):
    """Forget a region, or all of them if the name is empty."""

    name: str


class SetLog(_Frame, frozen=True, tag=6):
    """Change log settings."""

    change: dict[str, LogValue]


class SetTrace(_Frame, frozen=True, tag=7):
    """Change trace settings; None: back to the default."""

    change: dict[str, TraceValue | None]


class Count(_Frame, frozen=True, tag=8):
    """What all gateways have done."""


Wish = Load | Unload | Look | Register | Unregister | SetLog | SetTrace | Count


# -- gateway to keeper --------------------------------------------------------------------------


class Hello(_Frame, frozen=True, tag=20):
    """The first frame of a gateway."""

    version: int


class Ready(_Frame, frozen=True, tag=21):
    """It takes requests."""


class Failed(_Frame, frozen=True, tag=22):
    """It cannot serve, and ends."""

    why: str


class Confirmed(_Frame, frozen=True, tag=23):
    """From now on its requests see the change of that revision."""

    revision: int


class Counted(_Frame, frozen=True, tag=24):
    """What it has done so far."""

    revision: int
    """Of the Report that it answers; 0: of none, it says so now and then."""
    counts: dict[str, tuple[int, Counts]]
    """By model: `ModelTold.load`, and the counts since then."""
    traffic: Traffic
    """Since it began."""


class Call(_Frame, frozen=True, tag=25):
    """A client wishes something."""

    number: int
    """Of the gateway's calls."""
    wish: Wish


# -- keeper to gateway --------------------------------------------------------------------------


class LogTold(_Frame, frozen=True, tag=40):
    """All log settings."""

    revision: int
    """0: it need not be confirmed."""
    settings: dict[str, LogValue]


class TraceTold(_Frame, frozen=True, tag=41):
    """All trace settings."""

    revision: int
    settings: dict[str, TraceValue]


class RegionTold(_Frame, frozen=True, tag=42):
    """A region that is registered. Its descriptor comes with it."""

    revision: int
    name: str
    key: str
    offset: int
    nbytes: int


class RegionGone(_Frame, frozen=True, tag=43):
    """A region that is not registered any more; all of them if the name is empty."""

    revision: int
    name: str


class ModelTold(_Frame, frozen=True, tag=44):
    """How a model is from now on."""

    revision: int
    name: str
    place: str = ""
    """Where clients connect: a pipeline's name, or the absolute path of a run's folder; empty: it is not served."""
    load: int = 0
    """How often it was loaded: with each time, its counts begin again."""
    state: str = ""
    """If it is not served: LOADING, UNLOADING or UNAVAILABLE; empty: it never was."""
    why: str = ""
    """If it is not served; or if it is, and its pipeline has died, and is started again."""
    drain_s: float = 0.0
    """If it is not served any more: seconds that what is under way there may take, before this is confirmed."""


class ModelGone(_Frame, frozen=True, tag=45):
    """A model that cannot be loaded any more, and is not served."""

    revision: int
    name: str


class Complete(_Frame, frozen=True, tag=46):
    """A new gateway was told everything, and may open its ports."""


class Report(_Frame, frozen=True, tag=47):
    """Say what you have done."""

    revision: int


class Drain(_Frame, frozen=True, tag=48):
    """Take nothing new, answer what is under way, and end."""

    limit_s: float


class Settled(_Frame, frozen=True, tag=49):
    """The answer to a Call."""

    number: int
    code: str = ""
    """Of the KserveError that is raised; empty: none is."""
    why: str = ""
    counts: dict[str, Counts] = {}
    """Of each model; for `Count`."""
    traffic: Traffic | None = None
    """Of all gateways; for `Count`."""


ToKeeper = Hello | Ready | Failed | Confirmed | Counted | Call
ToGateway = (
    LogTold | TraceTold | RegionTold | RegionGone | ModelTold | ModelGone | Complete | Report | Drain | Settled
)
Frame = (
    Hello | Ready | Failed | Confirmed | Counted | Call
    | LogTold | TraceTold | RegionTold | RegionGone | ModelTold | ModelGone | Complete | Report | Drain | Settled
)  # fmt: skip

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Frame] = msgspec.msgpack.Decoder(Frame)


def encode(frame: Frame) -> bytes:
    """As it is on the socket.

    Raises:
        WireError: it is longer than `MOST`.
    """
    body = _encoder.encode(frame)
    if len(body) > MOST:
        raise WireError(f"expected a frame of at most {MOST} bytes, found {len(body)}")
    return _LENGTH.pack(len(body)) + body


class Pieces:
    """Joins what is read from a socket, and cuts it into frames."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def add(self, data: bytes) -> list[Frame]:
        """The frames that are whole now.

        Raises:
            WireError: it is none, or a longer one than `MOST`.
        """
        self._rest += data
        frames: list[Frame] = []
        while len(self._rest) >= _LENGTH.size:
            (nbytes,) = _LENGTH.unpack_from(self._rest)
            if nbytes > MOST:
                raise WireError(f"expected a frame of at most {MOST} bytes, found {nbytes}")
            end = _LENGTH.size + nbytes
            if len(self._rest) < end:
                break
            try:
                frames.append(_decoder.decode(bytes(self._rest[_LENGTH.size : end])))
            except msgspec.MsgspecError as error:
                raise WireError(f"expected a frame of a keeper or a gateway: {error}") from None
            del self._rest[:end]
        return frames
