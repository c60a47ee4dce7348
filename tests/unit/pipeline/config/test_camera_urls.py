"""What a camera's URL names, and that no secret of it is shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.config.camera_urls import Kind, Target, has_password, kind_of, shown_url, target_of, user_of

BASE = Path("/cameras")


def target(url: str, password_file: str = "", text: str = "", **environment: str) -> Target:
    def read(path: Path) -> str:
        assert path == BASE / password_file
        return text

    return target_of(url, password_file, BASE, environment, read)


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("rtsp://10.0.0.7/live", Kind.RTSP),
        ("RTSPS://10.0.0.7/live", Kind.RTSP),
        ("https://10.0.0.7/video.mjpg", Kind.HTTP),
        ("/dev/video0", Kind.DEVICE),
        ("synthetic", Kind.SCENE),
        ("synthetic:?fps=5", Kind.SCENE),
        ("synthetic.mp4", Kind.FILE),
        ("clips/door.mp4", Kind.FILE),
        ("${CLIPS}/door.mp4", Kind.FILE),
        ("${DOOR_URL}", None),
    ],
)
def test_the_kind_is_told_by_the_url_and_not_known_of_one_that_is_a_variable(url: str, kind: Kind | None) -> None:
    assert kind_of(url) is kind


def test_an_unknown_scheme_is_refused_and_nothing_else_of_the_url_is_in_the_message() -> None:
    with pytest.raises(ValueError, match=r"^expected rtsp://, rtsps://, http:// or https://, found concat://$"):
        kind_of("concat://user:hunter2@host")


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("rtsp://admin:hunter2@10.0.0.7/live", True),
        ("rtsp://admin:${DOOR}@10.0.0.7/live", False),
        ("rtsp://admin:${DOOR}x@10.0.0.7/live", True),
        ("rtsp://admin:${DOOR:-hunter2}@10.0.0.7/live", True),
        ("rtsp://admin@10.0.0.7/live", False),
        ("rtsp://10.0.0.7:554/live", False),
        ("rtsp://admin:p@ss@10.0.0.7/live", True),
        # FFmpeg takes what is before the slash for the host; people mean a password.
        ("rtsp://admin:p/ss@10.0.0.7/live", True),
        ("rtsp://admin:p?ss@10.0.0.7/live", True),
        ("rtsp://admin:p#ss@10.0.0.7", True),
        ("rtsp://10.0.0.7:554/live@2", False),
        ("rtsp://${HOST}:${PORT}/live@2", False),
        ("rtsp://[fe80::1]:554/live@2", False),
        ("clips/a:b@c.mp4", False),
    ],
)
def test_a_password_that_is_written_down_is_found(url: str, found: bool) -> None:
    assert has_password(url) is found


def test_people_are_shown_neither_user_nor_password_nor_query() -> None:
    assert shown_url("rtsp://admin:${DOOR}@10.0.0.7:554/live?token=1#x") == "rtsp://10.0.0.7:554/live"
    assert shown_url("rtsp://10.0.0.7/live") == "rtsp://10.0.0.7/live"
    assert shown_url("clips/door.mp4") == "clips/door.mp4"
    assert user_of("rtsp://admin:${DOOR}@10.0.0.7/live") == "admin"
    assert user_of("rtsp://10.0.0.7/live") == ""


def test_the_value_of_a_variable_is_quoted_where_a_password_stands_and_is_redacted_in_both_forms() -> None:
    found = target("rtsp://admin:${DOOR}@10.0.0.7/${PATH_OF_IT}", DOOR="p@ss/w:rd", PATH_OF_IT="live")
    assert found.url == "rtsp://admin:p%40ss%2Fw%3Ard@10.0.0.7/live"
    assert found.shown == "rtsp://10.0.0.7/${PATH_OF_IT}"
    text = found.redacted(f"cannot open {found.url}: p@ss/w:rd, p%40ss%2Fw%3Ard, live")
    assert text == "cannot open ***: ***, ***, ***"
    assert "p@ss" not in repr(found)


def test_a_password_comes_from_the_first_line_of_a_file() -> None:
    found = target("rtsp://admin@10.0.0.7/live", "door.secret", "of the door\nmore\n")
    assert found.url == "rtsp://admin:of%20the%20door@10.0.0.7/live"
    assert found.redacted("of the door of%20the%20door") == "*** ***"


def test_a_url_that_is_a_variable_as_a_whole_is_shown_without_its_login() -> None:
    found = target("${DOOR_URL}", DOOR_URL="rtsp://admin:hunter2@10.0.0.7/live?a=b")
    assert (found.kind, found.shown) == (Kind.RTSP, "rtsp://10.0.0.7/live")
    assert found.redacted("hunter2 admin:hunter2") == "*** ***"


def test_a_file_is_relative_to_the_configs_folder_and_a_device_is_not() -> None:
    assert target("clips/door.mp4").url == "/cameras/clips/door.mp4"
    assert target("/dev/video0").url == "/dev/video0"
    with pytest.raises(KeyError):
        target("${NOT_SET}/door.mp4")


@pytest.mark.parametrize("password", ["hun/ter2", "hun?ter2", "hun#ter2"])
def test_a_password_that_cuts_the_url_short_is_not_shown(password: str) -> None:
    url = f"rtsp://admin:{password}@10.0.0.7/live?token=1"
    assert shown_url(url) == "rtsp://10.0.0.7/live"
    found = target("${DOOR_URL}", DOOR_URL=url)
    assert found.shown == "rtsp://10.0.0.7/live"
    assert found.redacted(f"no answer to admin:{password}") == "no answer to ***"
