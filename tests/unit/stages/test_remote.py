"""The stage whose model runs on a server, over a connection that a test drives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from stages import remote
from stages.errors import BadOption, Unreachable
from stages.remote import Connection, RemoteInfer, Sending, ServerOptions, bounded
from stages.spec import TensorSpec
from stages.stage import Array, StageContext
from stages.testing import run


class Answers(Sending):
    def __init__(self, found: list[Any]) -> None:
        self.found = found
        self.asked = 0

    def wait(self, timeout: float | None = None) -> bool:
        self.asked += 1
        return self.asked > 2

    def results(self) -> Sequence[Mapping[str, Any] | Exception]:
        return self.found


class Model(Connection):
    """Doubles; refuses 1, and leaves out the output of 2."""

    inputs = (TensorSpec("x", "float32", (1,)),)
    outputs = (TensorSpec("y", "float32", (1,)),)
    notes = ("a note",)
    closed = False

    def send(
        self, rows: Sequence[Mapping[str, Array]], deadline: int, traceparents: Sequence[str] = ()
    ) -> Sending:
        return Answers([self._answer(float(row["x"][0])) for row in rows])

    @staticmethod
    def _answer(x: float) -> Any:
        return Unreachable("away") if x == 1 else {} if x == 2 else {"y": np.array([2 * x], np.float32)}

    def why(self) -> str:
        return "gRPC"

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def connected(monkeypatch: pytest.MonkeyPatch) -> list[ServerOptions]:
    asked: list[ServerOptions] = []

    def connect(options: ServerOptions) -> Connection:
        asked.append(options)
        return Model()

    monkeypatch.setattr(remote, "_connect", connect)
    return asked


def test_rows_are_answered_alone_and_fail_alone(connected: list[ServerOptions], capsys: Any) -> None:
    stage = RemoteInfer("grpc://h", "m", inputs={"image": "x"}, outputs={"scores": "y"})
    stage.setup(StageContext())
    assert "m: gRPC" in capsys.readouterr().out
    assert (stage.concurrency, stage.notes) == (4, ("a note",))
    batch = run(stage, image=[np.array([x], np.float32) for x in (3, 1, 2)])
    assert batch.result(0, "scores") == 6
    with pytest.raises(Unreachable, match="away"):
        batch.result(1, "scores")
    with pytest.raises(Exception, match="lacks output 'y'"):
        batch.result(2, "scores")
    stage.teardown()


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"in_flight": 0}, "in_flight 0"),
        ({"wait_s": "x"}, "wait_s 'x'"),
        ({"specs": {"inputs": []}}, "specs"),
        ({"specs": {"inputs": [{"name": "x"}], "outputs": []}}, "specs.inputs: expected"),
        ({"token_file": "nowhere"}, "token_file nowhere"),
        ({"inputs": {"a": "z"}}, "the model has no 'z'"),
    ],
)
def test_an_option_that_is_not_what_it_must_be_is_refused(
    connected: list[ServerOptions], options: dict[str, Any], why: str
) -> None:
    with pytest.raises(BadOption, match=why):
        RemoteInfer("grpc://h", "m", **options)


def test_declared_specs_and_the_token_go_to_the_connection(connected: list[ServerOptions], tmp_path: Any) -> None:
    (tmp_path / "token").write_text("secret\n")
    spec = {"name": "x", "dtype": "float32", "shape": ["n"], "max": {"n": 3}}
    RemoteInfer("grpc://h", "m", specs={"inputs": [spec], "outputs": [spec]}, token_file="token", base_dir=tmp_path)
    (options,) = connected
    assert options.token == "secret"
    assert options.inputs == (TensorSpec("x", "float32", ("n",), {"n": 3}),)


def test_a_free_dimension_of_a_server_needs_a_maximum() -> None:
    spec = TensorSpec("x", "float32", ("x_0",), {"x_0": 99})
    assert bounded(spec, {"x_0": 5}, 99).max == {"x_0": 5}
    with pytest.raises(BadOption, match=r"how large 'x_0' gets.*max: \{x_0: ...\}"):
        bounded(spec, {}, 99)
