"""Cases for the front over gRPC: a call with its frames and metadata, and frames of HTTP/2. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from pipeline.kserve import grpc_request
from pipeline.kserve.messages import HEALTH, INFERENCE, message, methods
from tests.fuzz.mutations import frame_of, odd_bytes, odd_pieces, pieces_of
from tests.fuzz.samples import binary, strings, typed

METHODS = {**methods(INFERENCE), **methods(HEALTH)}
#: Those that end by themselves, and start nothing.
_CALLS = [name for name in METHODS if name not in ("Watch", "ModelStreamInfer")]

Metadata = tuple[tuple[str, str | bytes], ...]


@dataclass(frozen=True)
class Call:
    """One call."""

    method: str
    frames: tuple[bytes, ...]
    metadata: Metadata


def case(seed: int | str) -> Call:
    """The call of this seed."""
    rng = Random(f"grpc {seed}")
    if rng.random() < 0.6:
        return Call("ModelInfer", (_inference(rng),), _metadata(rng))
    if rng.random() < 0.35:
        frames = [_inference(rng) for _ in range(rng.choice((0, 1, 3, 12)))]
        return Call("ModelStreamInfer", tuple(frames), _metadata(rng))
    name = rng.choice(_CALLS)
    return Call(name, (odd_bytes(rng, _message(rng, name)),), _metadata(rng))


def _inference(rng: Random) -> bytes:
    frames = [typed(), strings(), *[b"".join(grpc_request.encode(each)) for each in binary()]]
    frame = rng.choice(frames)
    if rng.random() < 0.1:
        return frame
    pieces = pieces_of(frame)
    for _ in range(rng.choice((1, 1, 2, 3))):
        pieces = odd_pieces(rng, pieces)
    frame = frame_of(pieces)
    return odd_bytes(rng, frame) if rng.random() < 0.15 else frame


def _message(rng: Random, name: str) -> bytes:
    """A sound message of a call, mostly with text in every field that takes it."""
    short = METHODS[name].request.DESCRIPTOR.full_name.removeprefix("inference.")
    made = message(short)()
    for field in made.DESCRIPTOR.fields:
        if field.type == field.TYPE_STRING and not getattr(field, "is_repeated", False):
            setattr(made, field.name, rng.choice(("simple", "1", "fuzz", "nope", "", "/fuzz_nope")))
        elif field.type == field.TYPE_UINT64:
            setattr(made, field.name, rng.choice((0, 64, 2**63, 2**64 - 1)))
    if short == "LogSettingsRequest":
        made.settings["log_info"].bool_param = True
        made.settings["log_format"].string_param = "default"
    elif short == "TraceSettingRequest":
        made.settings["trace_rate"].value.append("1")
    frame: bytes = made.SerializeToString()
    return frame


def _metadata(rng: Random) -> Metadata:
    odd: list[tuple[str, str | bytes]] = [
        ("traceparent", "00-" + "a" * 32 + "-" + "b" * 16 + "-01"), ("traceparent", "-" * 500), ("traceparent", "~ !"),
        ("triton_grpc_error", "true"), ("triton_grpc_error", "TRUE "), ("authorization", "Bearer"), ("authorization", ""),
        ("x-bin", b"\x00\xff" * 40), ("traceparent-bin", b"\xff"), ("grpc-accept-encoding", "br"), ("x", "y" * 3000),
        ("content-type", "x"), ("host", "evil.test"), ("inference-header-content-length", "-1"),
    ]  # fmt: skip
    return tuple(rng.sample(odd, rng.choice((0, 0, 1, 2, 4))))


# -- HTTP/2 ---------------------------------------------------------------------------------------

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_HEADERS, _DATA, _RST, _SETTINGS, _PING, _GOAWAY, _WINDOW, _CONTINUATION = 1, 0, 3, 4, 6, 7, 8, 9


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def _literal(name: bytes, value: bytes) -> bytes:
    """A header that is not indexed, https://www.rfc-editor.org/rfc/rfc7541#section-6.2.2; both shorter than 127 bytes."""
    return b"\x00" + bytes((len(name),)) + name + bytes((len(value),)) + value


_CALL_HEADERS = [
    (b":method", b"POST"), (b":scheme", b"http"), (b":path", METHODS["ModelInfer"].path.encode()),
    (b":authority", b"localhost"), (b"te", b"trailers"), (b"content-type", b"application/grpc"),
]  # fmt: skip


def settings_frame() -> bytes:
    """With which each side begins."""
    return _frame(_SETTINGS, 0, 0, b"")


def request_headers(stream: int) -> bytes:
    """Those of a call of ModelInfer, whose message has not come yet."""
    return _frame(_HEADERS, 4, stream, b"".join([_literal(*each) for each in _CALL_HEADERS]))


def connection(seed: int | str) -> bytes:
    """What a client of HTTP/2 sends over a connection: calls, some of their frames odd, cut or out of order."""
    rng = Random(f"http2 {seed}")
    frames = [_frame(_SETTINGS, 0, 0, b"")]
    for number in range(rng.choice((1, 2, 5))):
        sent = list(_CALL_HEADERS)
        if rng.random() < 0.4:
            at = rng.randrange(len(sent))
            odd = (sent[at][0], odd_bytes(rng, sent[at][1])[:100])
            sent[at : at + 1] = rng.choice(([], [odd], [odd, odd], [(b"grpc-timeout", b"-1S")], [(b"X", b"\xff")]))
        stream = 2 * number + 1 if rng.random() < 0.9 else rng.choice((0, 1, 2, 2**31 - 1))
        frames.append(_frame(_HEADERS, rng.choice((4, 4, 4, 5, 0)), stream, b"".join(_literal(*each) for each in sent)))
        body = typed()
        length = len(body) + rng.choice((0, 0, 0, 1, -1, 2**31))
        prefix = bytes((rng.choice((0, 0, 0, 1, 7)),)) + length.to_bytes(4, "big")
        frames.append(_frame(_DATA, rng.choice((1, 1, 0)), stream, prefix + body))
        other = (
            _frame(_RST, 0, stream, bytes(4)), _frame(_PING, 0, 0, bytes(8)), _frame(_PING, 0, 0, bytes(7)),
            _frame(_WINDOW, 0, stream, b"\x7f\xff\xff\xff"), _frame(_WINDOW, 0, 0, bytes(4)),
            _frame(_SETTINGS, 0, 0, b"\x00\x04\xff\xff\xff\xff"), _frame(_SETTINGS, 1, 0, b"x"), _frame(_GOAWAY, 0, 0, bytes(8)),
            _frame(_CONTINUATION, 4, stream, b"\x82"), _frame(77, 0, stream, b"x" * 20),
        )  # fmt: skip
        if rng.random() < 0.5:
            frames.append(rng.choice(other))
    if rng.random() < 0.3:
        rng.shuffle(frames)
    raw = PREFACE + b"".join(frames)
    return odd_bytes(rng, raw) if rng.random() < 0.4 else raw
