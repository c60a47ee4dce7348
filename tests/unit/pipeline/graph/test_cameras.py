"""The cameras of a plan."""

from __future__ import annotations

import pytest

from pipeline.config.findings import Findings, Locations
from pipeline.config.sources import SourceConfig
from pipeline.errors import ConfigError
from pipeline.graph.cameras import cameras_of, in_flight_of
from pipeline.graph.plan import CameraPlan
from stages.spec import TensorSpec

FIXED = TensorSpec("frame", "uint8", (48, 64, 3))
FREE = TensorSpec("frame", "uint8", ("H", "W", 3), {"H": 48, "W": 64})


def cameras(*sources: SourceConfig, inputs: tuple[TensorSpec, ...] = (FIXED,)) -> tuple[CameraPlan, ...]:
    findings = Findings(Locations("x.yaml:1:1"))
    found = cameras_of(sources, inputs, findings)
    findings.refuse()
    return found


def test_a_file_waits_and_all_else_is_live_unless_the_config_says_otherwise() -> None:
    found = cameras(
        SourceConfig(name="a", url="a.mp4"),
        SourceConfig(name="b", url="rtsp://10.0.0.7/live", fps=5.0),
        SourceConfig(name="c", url="a.mp4", drop="oldest", loop=True),
        SourceConfig(name="d", url="synthetic", drop="never", in_flight=3),
        SourceConfig(name="e", url="${E}", drop="never"),
    )
    assert [(each.name, each.drop, each.in_flight) for each in found] == [
        ("a", "never", 8), ("b", "oldest", 2), ("c", "oldest", 2), ("d", "never", 3), ("e", "never", 8),
    ]
    assert (found[1].fps, found[2].loop) == (5.0, True)
    assert in_flight_of(found) == 23


def test_a_pipeline_without_sources_may_take_whatever_it_likes() -> None:
    assert cameras(inputs=(TensorSpec("x", "float32", (3,)),)) == ()


@pytest.mark.parametrize(
    "inputs",
    [
        (FIXED, FIXED),
        (TensorSpec("frame", "float32", (48, 64, 3)),),
        (TensorSpec("frame", "uint8", (3, 48, 64)),),
        (TensorSpec("frame", "uint8", (48, 64)),),
    ],
)
def test_an_input_that_takes_no_frames_is_refused(inputs: tuple[TensorSpec, ...]) -> None:
    with pytest.raises(ConfigError, match="a pipeline with cameras takes one input of dtype uint8"):
        cameras(SourceConfig(name="a", url="synthetic"), inputs=inputs)


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ({"url": "rtsp://a:hunter2@h/"}, r"sources\[0\].url: a password in it"),
        ({"url": "rtsp://h/", "drop": "never"}, r"sources\[0\].drop: a camera over RTSP does not wait"),
        ({"url": "rtsp://h/", "loop": True}, r"sources\[0\].loop: only a file can begin again"),
        ({"url": "synthetic", "loop": True}, r"sources\[0\].loop: only a file can begin again"),
        ({"url": "rtsp://h/", "password_file": "p"}, r"sources\[0\].password_file: expected a user in url"),
        ({"url": "rtsp://h/", "size": (4, 4)}, r"sources\[0\].size: the input's shape \[48, 64, 3\] says it already"),
        ({"url": "ftp://h/"}, r"found ftp://"),
    ],
)
def test_what_cannot_be_is_refused_where_it_was_written(source: dict[str, object], why: str) -> None:
    with pytest.raises(ConfigError, match=why) as refused:
        cameras(SourceConfig(name="a", **source))  # type: ignore[arg-type]
    assert "hunter2" not in str(refused.value)


def test_two_cameras_of_one_name_are_refused_and_a_free_input_may_have_a_size() -> None:
    one = SourceConfig(name="a", url="synthetic", size=(32, 24))
    assert cameras(one, inputs=(FREE,))[0].size == (32, 24)
    with pytest.raises(ConfigError, match=r"'a' is the name of sources\[0\] already"):
        cameras(one, one, inputs=(FREE,))
