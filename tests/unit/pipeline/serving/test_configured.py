"""What configs say of a gateway, as one, and what is given beside them."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.config.loader import LoadedConfig, load_config
from pipeline.errors import ConfigError
from pipeline.serving.configured import check_libraries, settings_of, token_in

MNIST = Path(__file__).parents[4] / "configs/mnist.yaml"


def saying(folder: Path, name: str, serve: dict[str, Any]) -> LoadedConfig:
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(MNIST.read_text()), "name": name, "serve": serve}))
    return load_config(str(path))


def test_what_is_given_counts_then_what_the_configs_say_then_the_default(tmp_path: Path) -> None:
    first = saying(tmp_path, "first", {"http_port": 1, "host": "0.0.0.0", "batched": True})
    second = saying(tmp_path, "second", {"host": "0.0.0.0", "gateways": 3})
    found = settings_of({"a": first, "b": second}, {"http_port": 0, "grpc_port": None})
    assert (found.http_port, found.host, found.gateways, found.grpc_port) == (0, "0.0.0.0", 3, 8001)
    other = saying(tmp_path, "other", {"gateways": 2})
    with pytest.raises(ConfigError, match=r"c: serve.gateways is 2, but b says 3"):
        settings_of({"b": second, "c": other}, {})


def test_files_that_a_config_names_lie_beside_it(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(" secret\n")
    tls = {"certificate": "a.pem", "key": "b.pem"}
    found = settings_of({"a": saying(tmp_path, "first", {"token_file": "token", "tls": tls})}, {})
    assert (found.token, found.certificate, found.client_ca) == ("secret", str(tmp_path / "a.pem"), "")


def test_a_token_is_never_empty(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("\n")
    with pytest.raises(ConfigError, match="expected a file with a token, found an empty one"):
        token_in(tmp_path / "token")
    with pytest.raises(ConfigError, match=r"expected a file with a token: .*No such file"):
        token_in(tmp_path / "nope")


@pytest.mark.parametrize("missing", ["grpc", "google.protobuf", "uvicorn"])
def test_a_library_that_is_missing_is_named_with_what_to_install(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    found = importlib.util.find_spec

    def find_spec(name: str) -> Any:
        if name != missing:
            return found(name)
        if "." in name:
            raise ModuleNotFoundError(name)
        return None

    check_libraries()
    monkeypatch.setattr("pipeline.serving.configured.find_spec", find_spec)
    with pytest.raises(ConfigError, match=rf'{missing}: pip install "trtlab\[serve\]"'):
        check_libraries()
