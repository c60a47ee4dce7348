"""NVIDIA's client, tritonclient 2.73, asks the gateway for everything that it can, in a process of its own."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench.versus.environments import TRITON_CLIENT, python_of
from tests.integration.gateways import MODELS, Gateway, serving

pytestmark = pytest.mark.foreign

HERE = Path(__file__).parent


@pytest.fixture
def ask(environment: Callable[[Path], Path]) -> Callable[..., list[str]]:
    """Run parts of client_cases.py; the names of the cases."""
    environment(TRITON_CLIENT)

    def ask(gateway: Gateway, *parts: str) -> list[str]:
        where = gateway.url.removeprefix("http://"), gateway.grpc
        done = subprocess.run(
            [python_of(TRITON_CLIENT), str(HERE / "client_cases.py"), *where, *parts],
            capture_output=True, text=True, timeout=240, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return [line.removeprefix("ok ") for line in done.stdout.splitlines()]

    return ask


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    with serving(*sorted(MODELS.glob("*.yaml")), errors=tmp_path / "log") as gateway:
        yield gateway


def test_the_client_gets_what_it_asks_for_over_both_fronts_and_with_asyncio(
    gateway: Gateway, ask: Callable[..., list[str]]
) -> None:
    asked = ask(gateway, "http", "grpc", "aio")
    assert len([name for name in asked if name.endswith("over http")]) == 12
    assert len([name for name in asked if name.endswith("over grpc")]) == 12
    assert len(asked) == 30


def test_a_tensor_of_256_mib_goes_and_comes_if_the_operator_allows_it(
    tmp_path: Path, ask: Callable[..., list[str]]
) -> None:
    with serving(HERE / "models/large.yaml", errors=tmp_path / "log") as gateway:
        assert len(ask(gateway, "large")) == 2
