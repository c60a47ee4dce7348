"""Settings that are not possible are refused before a process is started for them."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from typing import Any

import pytest

from pipeline.errors import ConfigError
from pipeline.serving.checked import check_settings
from pipeline.serving.settings import Settings


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A certificate, its key, the same key with a password, and the key of another one."""
    folder = tmp_path_factory.mktemp("tls")
    for name in ("a", "b"):
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days",
             "2", "-subj", "/CN=localhost", "-keyout", folder / f"{name}.key", "-out", folder / f"{name}.pem"],
            check=True, capture_output=True,
        )  # fmt: skip
    subprocess.run(
        ["openssl", "ec", "-in", folder / "a.key", "-aes256", "-passout", "pass:x", "-out", folder / "locked.key"],
        check=True, capture_output=True,
    )  # fmt: skip
    return {path.name: str(path) for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"http_port": -1}, r"^port: expected a whole number from 0 to 65535 .*, found -1"),
        ({"grpc_port": 65_536}, r"^grpc_port: .* found 65536"),
        ({"metrics_port": "8002"}, r"^metrics_port: .* found '8002'"),
        ({"http_port": True}, r"^port: .* found True"),
        ({"http_port": 9, "grpc_port": 9}, r"need a port each, found 9, 9, 8002"),
        ({"gateways": 0}, r"^gateways: expected a whole number from 1 to 64, found 0"),
        ({"max_body": 0}, r"^max_body: .* \(bytes\), found 0"),
        ({"host": ""}, r"^host: expected an address of this machine"),
        ({"hosts": ("a", 1)}, r"^hosts: expected a list of names, found 1 in it"),
        ({"shared_memory": ("/a/b",)}, r"^shared_memory: expected / and .*, found '/a/b'"),
        ({"token": "a\nb"}, r"^token: .* a line break at character 2"),
        ({"key": "k"}, r"^key is given and certificate is not"),
        ({"certificate": "c"}, r"^certificate is given and key is not"),
        ({"client_ca": "c"}, r"^client_ca needs TLS"),
        ({"certificate": "/none/c", "key": "/none/k"}, r"^certificate: /none/c: expected a PEM file: No such file"),
    ],
)
def test_what_is_not_possible_is_refused_with_what_was_expected(given: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        check_settings(replace(Settings(), **given))


def test_what_is_possible_is_not(pair: dict[str, str]) -> None:
    check_settings(Settings())
    check_settings(Settings(http_port=0, grpc_port=0, metrics_port=0, shared_memory=("/a_",), hosts=("a",), token="t"))
    check_settings(Settings(certificate=pair["a.pem"], key=pair["a.key"], client_ca=pair["b.pem"]))


def test_files_that_are_no_pair_or_no_certificates_are_refused_and_no_password_is_asked_for(
    pair: dict[str, str]
) -> None:
    for key in ("b.key", "a.pem", "locked.key"):
        with pytest.raises(ConfigError, match=r"expected PEM files of a certificate and of its key"):
            check_settings(Settings(certificate=pair["a.pem"], key=pair[key]))
    with pytest.raises(ConfigError, match=r"^client_ca: .*a.key: expected a PEM file of certificates"):
        check_settings(Settings(certificate=pair["a.pem"], key=pair["a.key"], client_ca=pair["a.key"]))
