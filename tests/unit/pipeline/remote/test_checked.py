"""What was given for TLS or a token is used, or refused."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pipeline
from pipeline.errors import InvalidRequest
from pipeline.remote.address import address_of
from pipeline.remote.checked import check_options
from pipeline.remote.link import Options
from tests.faults.garbage_servers import scripted

NO_PEM = str(Path(__file__))


@pytest.mark.parametrize(
    ("url", "given", "why"),
    [
        ("http://h", {"ca": NO_PEM}, r"^ca: http://h:8000 is without TLS, .* expected https://HOST:PORT"),
        ("grpc://h", {"certificate": "c", "key": "k"}, r"^certificate, key: .* expected grpcs://HOST:PORT"),
        ("https://h", {"certificate": NO_PEM}, r"^certificate is given and key is not"),
        ("grpcs://h", {"key": NO_PEM}, r"^key is given and certificate is not"),
        ("grpcs://h", {"ca": "/none"}, r"^ca: /none: expected a PEM file: No such file"),
        ("grpcs://h", {"ca": NO_PEM}, r"^ca: .* expected a PEM file of certificates"),
        ("https://h", {"ca": "/"}, r"^ca: /: expected a PEM file: Is a directory"),
        ("https://h", {"certificate": NO_PEM, "key": NO_PEM}, r"expected PEM files of a certificate and of its key"),
        ("grpc://h", {"token": "a\nb"}, r"^token: .* a line break at character 2"),
        ("http://h", {"connections": 0}, r"^connections: expected a whole number, 1 or more, found 0"),
    ],
)
def test_what_would_not_be_used_or_is_not_possible_is_refused(url: str, given: dict[str, Any], why: str) -> None:
    with pytest.raises(InvalidRequest, match=why):
        check_options(address_of(url), Options(**given))


def test_without_files_nothing_is_read() -> None:
    for url in ("grpc://h", "grpcs://h", "http://h", "https://h"):
        check_options(address_of(url), Options(token="secret"))


@pytest.mark.parametrize(
    "given",
    [
        {"token": ""}, {"silence_s": 0}, {"silence_s": math.nan}, {"timeout_s": "x"}, {"shared_memory": True},
        {"connections": -3},
    ],
)  # fmt: skip
def test_a_manager_is_not_made_with_arguments_that_are_none(given: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest, match=f"^{next(iter(given))}: expected"):
        pipeline.RemoteInferenceManager("grpc://127.0.0.1:1", **given)


def test_a_name_that_is_no_text_is_refused_before_anything_is_sent() -> None:
    with scripted(lambda connection, number: None) as server, pipeline.RemoteInferenceManager(server.url) as manager:
        with pytest.raises(InvalidRequest, match=r"^name: expected a text, .*, found 5$"):
            manager.infer_runner("m").infer(x=np.zeros(2, np.float32), name=5)
        assert server.asked == 0
