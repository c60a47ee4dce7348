"""`pipeline deploy envoy` prints a configuration, or says what was wrong with its options."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(cli_here: Run) -> Run:
    return cli_here


def test_the_options_are_in_the_configuration(run: Run, tmp_path: Path) -> None:
    options = [
        "--replicas", "10.0.0.1,10.0.0.2", "--listen", "127.0.0.1", "--http-port", "80", "--grpc-port", "81", "--admin-port",
        "82", "--max-requests", "7", "--max-body", "2MiB", "--timeout-s", "9", "--health-s", "3", "-o", str(tmp_path / "e.yaml"),
    ]  # fmt: skip
    assert run("deploy", "envoy", *options) == (0, "", "")
    found = yaml.safe_load((tmp_path / "e.yaml").read_text())
    ports = [each["address"]["socket_address"] for each in (found["admin"], *found["static_resources"]["listeners"])]
    assert [(each["address"], each["port_value"]) for each in ports] == [("127.0.0.1", port) for port in (82, 80, 81)]
    text = (tmp_path / "e.yaml").read_text()
    for told in ("max_requests: 14\n", f"buffer_limit: {3 << 20}\n", "timeout: 9s\n", "interval: 3s\n"):
        assert text.count(told) >= 1, told


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--replicas", "a:b"], "--replicas: expected HOST, HOST:PORT or HOST:PORT:GRPC_PORT, IPv6 in brackets, found 'a:b'"),
        (["--replicas", "a", "--max-body", "much"], "--max-body 'much': expected bytes"),
        (["--replicas", "a", "--grpc-port", "9901"], "expected three ports of Envoy, found --http-port 8000, --grpc-port 9901"),
        (["--replicas", "a", "-o", "/no/folder/e.yaml"], "--output /no/folder/e.yaml: cannot be written"),
    ],
)
def test_a_wrong_use_is_an_error_that_says_so(run: Run, options: list[str], message: str) -> None:
    code, out, err = run("deploy", "envoy", *options)
    assert (code, out) == (2, "")
    assert message in err
