from __future__ import annotations

import pytest

from stages.video.frame import frame_of


@pytest.mark.parametrize(
    ("name", "camera", "taken"),
    [
        ("door", "door", None),
        ("door@1764505805.25", "door", 1764505805.25),
        ("door-17", "door", None),
        ("yard-2-17", "yard-2", None),
        ("yard-2@5", "yard-2", 5.0),
        ("back-door", "back-door", None),
        ("-17", "-17", None),
        ("a@b@3", "a@b", 3.0),
        ("door@", "door@", None),
        ("door@front", "door@front", None),
        ("door@nan", "door@nan", None),
        ("door@inf", "door@inf", None),
        ("", "", None),
    ],
)
def test_a_request_is_called_by_its_camera_and_perhaps_its_number_or_its_time(name: str, camera: str, taken: float | None) -> None:
    assert frame_of(name) == (camera, taken)
