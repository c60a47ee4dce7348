from __future__ import annotations

import json

import pytest

from pipeline import errors
from pipeline.errors import KserveError, RequestError, request_error
from pipeline.kserve.statuses import (
    STATUSES,
    error_body,
    error_of_failure,
    error_of_grpc,
    error_of_http,
    status_of,
)


@pytest.mark.parametrize(
    ("code", "http", "grpc"),
    [
        ("INVALID_ARGUMENT", 400, 3),
        ("ALREADY_EXISTS", 400, 6),
        ("NOT_FOUND", 404, 5),
        ("METHOD_NOT_ALLOWED", 405, 12),
        ("TOO_LARGE", 413, 8),
        ("UNSUPPORTED_MEDIA_TYPE", 415, 12),
        ("RESOURCE_EXHAUSTED", 429, 8),
        ("INTERNAL", 500, 13),
        ("UNIMPLEMENTED", 501, 12),
        ("UNAVAILABLE", 503, 14),
        ("DEADLINE_EXCEEDED", 504, 4),
    ],
)
def test_each_code_is_a_status_of_http_and_of_grpc(code: str, http: int, grpc: int) -> None:
    assert status_of(KserveError("m", code))[1:] == (http, grpc)


def test_the_sender_is_at_fault_unless_said_otherwise_and_an_unknown_code_is_ours() -> None:
    assert status_of(KserveError("m")).http == 400
    assert status_of(KserveError("m", "NONE_OF_THEM")).http == 500


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        ("InvalidRequest", "INVALID_ARGUMENT"),
        ("BadInput", "INVALID_ARGUMENT"),
        ("StageFailed", "INTERNAL"),
        ("StageCrashed", "INTERNAL"),
        ("StageUnavailable", "UNAVAILABLE"),
        ("StreamBroken", "UNAVAILABLE"),
        ("DeadlineExceeded", "DEADLINE_EXCEEDED"),
        ("Cancelled", "CANCELLED"),
        ("Overloaded", "RESOURCE_EXHAUSTED"),
        ("Unavailable", "UNAVAILABLE"),
        ("OfALaterVersion", "INTERNAL"),
    ],
)
def test_a_failure_of_the_pipeline_is_a_status_and_its_traceback_stays_inside(failure: str, code: str) -> None:
    error = error_of_failure(request_error(failure, "what", "Traceback: secret"))
    assert error.code == code
    assert "what" in str(error)
    assert "secret" not in str(error)


def test_every_error_of_a_request_has_its_row() -> None:
    named = {cls.code for cls in RequestError.__subclasses__() if cls.__module__ == errors.__name__}
    told = {code for code in named if error_of_failure(request_error(code, "m")).code != "INTERNAL"}
    assert named - told == {"StageFailed", "StageCrashed"}


@pytest.mark.parametrize("code", sorted(STATUSES))
def test_a_client_reads_what_a_server_writes(code: str) -> None:
    sent = KserveError("ä", code)
    row = status_of(sent)
    assert str(error_of_http(row.http, error_body(sent))) == "ä"
    assert status_of(error_of_http(row.http, error_body(sent))).http == row.http
    assert status_of(error_of_grpc(row.grpc, "ä")).grpc == row.grpc
    assert str(error_of_grpc(row.grpc, "ä")) == "ä"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"error":"a"}', "a"),
        (b'{"detail":"b"}', "b"),  # MLServer
        (b'{"error":""}', '{"error":""}'),
        (b'{"error":["c"]}', '{"error":["c"]}'),
        (b"<html>", "HTTP status 418 without a message"),
        (b"\xff", "�"),
        (b"", "HTTP status 418 without a message"),
        (b"[" * 100_000, "["),
        (b'{"error":"' + b"x" * 5000 + b'"}', "xxx"),
    ],
)
def test_a_client_finds_the_message_of_other_servers_as_well(body: bytes, said: str) -> None:
    error = error_of_http(418, body)
    assert str(error).startswith(said)
    assert len(str(error)) <= 4096
    assert error.code == "INVALID_ARGUMENT"


def test_numbers_that_no_row_has_are_internal_or_of_the_sender() -> None:
    assert (error_of_http(599, b"").code, error_of_http(418, b"").code) == ("INTERNAL", "INVALID_ARGUMENT")
    assert str(error_of_grpc(77, "")) == "gRPC status 77 without a message"
    assert error_of_grpc(77, "").code == "INTERNAL"


def test_a_message_that_is_not_unicode_is_sent_all_the_same() -> None:
    assert json.loads(error_body(KserveError("a\ud800"))) == {"error": "a?"}


def test_of_a_page_for_people_an_error_has_the_text_and_no_tags() -> None:
    page = b"\n<!DOCTYPE HTML>\n<html lang='en'>\n<h1>Error response</h1>\n<p>Error code: 404</p></html>"
    assert str(error_of_http(404, page)) == "Error response Error code: 404"
