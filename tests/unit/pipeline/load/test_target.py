"""What a load generator asks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from pipeline.errors import ConfigError, Unavailable
from pipeline.load.target import Target, _model_of, opened, rows_over_the_wire
from pipeline.wire.interface import Axis, Interface, Tensor


def test_a_url_may_name_a_model_and_a_token_and_a_name_may_not(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("secret\n")
    target = Target("grpc://host:1", "mnist", tmp_path / "token")
    assert (target.is_url, target.token, str(target)) == (True, "secret", "grpc://host:1 mnist")
    for wrong in ({"model": "mnist"}, {"token_file": tmp_path / "token"}):
        with pytest.raises(ConfigError, match="are about servers by their URL"):
            Target("mnist", **wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="expected a file with a token"):
        Target("grpc://host:1", "", tmp_path / "other")


@pytest.mark.parametrize(
    ("named", "models", "says"),
    [
        ("", ["a", "b"], "has a, b: name one with --model"),
        ("", [], "lists no models: name one with --model"),
        ("mnits", ["mnist", "b"], "no such model .did you mean mnist"),
    ],
)
def test_a_model_that_is_not_clear_is_refused(named: str, models: Sequence[str], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        _model_of(Target("grpc://host:1", named), models)


def test_the_only_model_need_not_be_named_and_a_server_that_lists_none_is_believed() -> None:
    assert _model_of(Target("grpc://host:1"), ["only"]) == "only"
    assert _model_of(Target("grpc://host:1", "b"), ["a", "b"]) == "b"
    assert _model_of(Target("grpc://host:1", "b"), []) == "b"


def test_a_pipeline_that_does_not_run_is_told() -> None:
    with pytest.raises(Unavailable, match="no pipeline"), opened(Target("none-of-this-name"), "test", 1):
        pass


@pytest.mark.parametrize(
    ("tensor", "batch", "rows"),
    [
        (Tensor("x", "float32", (Axis("", 4),)), 8, 8),
        (Tensor("x", "float32", (Axis("", 4),)), 0, 1),
        (Tensor("x", "float32", (Axis("width", 4),)), 8, 1),
        (Tensor("x", "bytes", (Axis("", 1), Axis("bytes", 64))), 8, 1),
    ],
)
def test_rows_go_together_to_a_server_with_a_batch_axis_if_they_are_of_one_size(
    tensor: Tensor, batch: int, rows: int
) -> None:
    assert rows_over_the_wire(Interface("x", "1", (tensor,), (), (), max_batch_size=batch)) == rows
