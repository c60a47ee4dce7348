"""The codecs and what follows them, without a process: whatever comes is a request that fits, or is refused.

What a request passes through until it is sent to the pipeline is pure, so a hundred thousand cases take a minute.
"""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Callable
from contextlib import suppress
from random import Random
from typing import Any

import pytest

from pipeline.errors import KserveError
from pipeline.kserve import grpc_request, grpc_response, http_request, http_response
from pipeline.kserve.admission import admit
from pipeline.kserve.encodings import accepted, decompressed
from pipeline.kserve.messages import message, parsed
from pipeline.kserve.parameters import scheduling_of
from pipeline.kserve.settings import changed_log, changed_trace, log_change, trace_change
from pipeline.kserve.statuses import error_body, status_of
from pipeline.kserve.values import InferRequest, InferResponse, Limits
from pipeline.serving.catalogue import model_from
from pipeline.serving.conversion import rows_of
from pipeline.serving.inference import deadline_of, trace_of
from pipeline.serving.settings import check_browser, check_token
from pipeline.wire.interface import Axis, Interface, Tensor
from tests.fuzz.mutations import frame_of, odd_bytes, odd_pieces, odd_tree, pieces_of, smaller, text_of, tree_of
from tests.fuzz.samples import binary, documents, strings, typed

LIMITS = Limits(body=1 << 20, json=1 << 20)
SIXTEEN, FREE = (Axis("", 16),), (Axis("n", 64),)
MODELS = {
    model.interface.name: model
    for model in map(
        model_from,
        (
            Interface(
                "simple", "1", (Tensor("INPUT0", "int32", SIXTEEN), Tensor("INPUT1", "int32", SIXTEEN)),
                (Tensor("OUTPUT0", "int32", SIXTEEN), Tensor("OUTPUT1", "int32", SIXTEEN)), ("s",), 8,
            ),
            Interface(
                "identity_string", "1", (Tensor("INPUT0", "bytes", (Axis("n", 64), Axis("bytes", 4096))),),
                (Tensor("OUTPUT0", "bytes", (Axis("n", 64), Axis("bytes", 4096))),), ("s",),
            ),
            Interface(
                "repeat_int32", "1",
                (Tensor("IN", "int32", FREE), Tensor("DELAY", "uint32", FREE), Tensor("WAIT", "uint32", (Axis("", 1),))),
                (Tensor("OUT", "int32", (Axis("", 1),)),), ("s",), 0, True,
            ),
        ),
    )
}  # fmt: skip


def taken(request: InferRequest) -> None:
    """All that is decided about a request before it is sent."""
    model = MODELS.get(request.model)
    if model is None:
        return
    deadline_of(scheduling_of(request.parameters), None)
    trace_of(request.id).encode()
    admitted = admit(request, model, streams=True)
    data = {
        entry.tensor.name: memoryview(bytes(64)) if entry.sent.data is None else entry.sent.data
        for entry in admitted.inputs
    }
    for row in rows_of(admitted, data):
        assert set(row) == {tensor.name for tensor in model.interface.inputs}
    # The id is in each answer.
    answer = InferResponse(model.name, "1", (), request.id)
    http_response.encode(answer, request)
    b"".join(grpc_response.encode(answer))


def as_json(rng: Random) -> tuple[str, bytes]:
    model, document = rng.choice(documents())
    text = text_of(odd_tree(rng, tree_of(document)))
    return model, odd_bytes(rng, text) if rng.random() < 0.2 else text


def http_json(rng: Random) -> bytes:
    model, text = as_json(rng)
    return f"{model}\n\n".encode() + text


def http_binary(rng: Random) -> bytes:
    request = rng.choice(binary())
    body = http_request.encode(request)
    length = str(body.json_length or "")
    if rng.random() < 0.3:
        length = odd_bytes(rng, length.encode()).decode("latin-1").replace("\n", "")
    content = b"".join(body.parts)
    if rng.random() < 0.8:
        content = odd_bytes(rng, content[:400]) + content[400:]
    return f"{request.model}\n{length}\n".encode() + content


def decode_http(case: bytes) -> None:
    model, length, content = [*case.split(b"\n", 2), b"", b""][:3]
    taken(http_request.decode(model.decode("utf-8", "replace"), "", content, length.decode() or None, LIMITS))


def decode_raw(case: bytes) -> None:
    shape = tuple(byte - 1 for byte in case[:4])
    http_request.decode_raw("m", "", case[4:], "INPUT0", ("FP32", "BYTES", "BOOL")[len(case) % 3], shape, LIMITS)


def grpc_frame(rng: Random) -> bytes:
    frames = [typed(), strings(), *[b"".join(grpc_request.encode(each)) for each in binary()]]
    pieces = pieces_of(rng.choice(frames))
    for _ in range(rng.choice((1, 1, 2, 3))):
        pieces = odd_pieces(rng, pieces)
    frame = frame_of(pieces)
    return odd_bytes(rng, frame) if rng.random() < 0.2 else frame


def decode_grpc(case: bytes) -> None:
    request = grpc_request.decode(case, LIMITS)
    # What we take, protobuf takes, and means the same.
    theirs = message("ModelInferRequest").FromString(case)
    assert (theirs.model_name, theirs.id) == (request.model, request.id)
    assert [tuple(each.shape) for each in theirs.inputs] == [each.shape for each in request.inputs]
    taken(request)


def decode_response(case: bytes) -> None:
    grpc_response.decode_stream(case, LIMITS)


def decode_http_response(case: bytes) -> None:
    http_response.decode(case, None, LIMITS)


def settings_message(rng: Random) -> bytes:
    trace = message("TraceSettingRequest")(model_name="simple")
    trace.settings["trace_level"].value.append("OFF")
    log = message("LogSettingsRequest")()
    log.settings["log_verbose_level"].uint32_param = 1
    return odd_bytes(rng, rng.choice((trace, log)).SerializeToString())


def decode_settings(case: bytes) -> None:
    with_errors: tuple[Callable[[], Any], ...] = (
        lambda: changed_trace({}, trace_change(parsed("TraceSettingRequest", case))),
        lambda: changed_log({}, log_change(parsed("LogSettingsRequest", case))),
    )
    refusals = []
    for change in with_errors:
        try:
            change()
        except KserveError as error:
            refusals.append(error)
    if refusals:
        raise refusals[0]


def compressed_body(rng: Random) -> bytes:
    plain = bytes(rng.choice((0, 10, 5000, 1 << 21)))
    return odd_bytes(rng, gzip.compress(plain, mtime=0) if rng.random() < 0.5 else zlib.compress(plain))


def decompress(case: bytes) -> None:
    refusals = []
    for encoding in ("gzip", "deflate"):
        try:
            assert len(decompressed(case, encoding, 1 << 20)) <= 1 << 20
        except KserveError as error:
            refusals.append(error)
    if refusals:
        raise refusals[0]


HEADERS = (
    b"Bearer a-token",
    b"[::1]:80",
    b"http://localhost:80",
    b"gzip;q=1.0, deflate;q=0",
    b"00-" + b"a" * 32 + b"-b-01",
)


def headers(rng: Random) -> bytes:
    return odd_bytes(rng, rng.choice(HEADERS))


def check_headers(case: bytes) -> None:
    text = case.decode("latin-1")
    accepted(text)
    trace_of(text)
    for check in (
        lambda: check_token("a-token", text), lambda: check_browser(text, "", ()), lambda: check_browser("localhost", text, ()),
        lambda: decompressed(b"", text, 10),
    ):  # fmt: skip
        with suppress(KserveError):
            check()


KINDS: dict[str, tuple[Callable[[Random], bytes], Callable[[bytes], None]]] = {
    "http-json": (http_json, decode_http),
    "http-binary": (http_binary, decode_http),
    "http-raw": (lambda rng: odd_bytes(rng, bytes((2, 5, 0, 1)) + bytes(48)), decode_raw),
    "http-response": (
        lambda rng: as_json(rng)[1].replace(b'"inputs"', b'"model_name":"m","outputs"'),
        decode_http_response,
    ),
    "grpc": (grpc_frame, decode_grpc),
    "grpc-response": (grpc_frame, decode_response),
    "settings": (settings_message, decode_settings),
    "encodings": (compressed_body, decompress),
    "headers": (headers, check_headers),
}


def why(decide: Callable[[bytes], None], case: bytes) -> str:
    """What is wrong with how this case ends; empty: nothing."""
    try:
        decide(case)
    except KserveError as error:
        if not str(error) or len(str(error)) > 2000:
            return f"a message of {len(str(error))} characters"
        error_body(error)
        return "" if 400 <= status_of(error).http < 500 or error.code == "UNIMPLEMENTED" else f"{error.code}: {error}"
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:300]}"
    return ""


def check(kind: str, count: int) -> None:
    make, decide = KINDS[kind]
    chosen = os.environ.get("FUZZ_CASE", "")
    seeds = [int(chosen)] if chosen else range(count)
    for seed in seeds:
        case = make(Random(f"{kind} {seed}"))
        if reason := why(decide, case):
            sort = reason.partition(":")[0]
            small = smaller(case, lambda shorter: why(decide, shorter).partition(":")[0] == sort)  # noqa: B023
            pytest.fail(
                f"{reason}\n  {small[:1000]!r}\n  alone: FUZZ_CASE={seed} pytest {__file__} -k {kind}", pytrace=False
            )


@pytest.mark.parametrize("kind", KINDS)
def test_whatever_comes_fits_or_is_refused(kind: str) -> None:
    check(kind, 500)


@pytest.mark.foreign
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", KINDS)
def test_whatever_comes_fits_or_is_refused_many_times(kind: str) -> None:
    check(kind, 10_000)
