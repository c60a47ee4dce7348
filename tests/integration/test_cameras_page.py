"""The page of the cameras in a browser: what people see and switch there, by mouse, by keyboard, and on a telephone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.titles import in_role
from tests.faults.load import until
from tests.integration.cameras import clip
from tests.integration.gateways import Gateway, serving
from tests.integration.recorded import recorded
from tests.integration.test_page import opened
from tests.integration.tracked_cameras import PASSWORD, tracked_config

# A browser is a large foreign program.
pytestmark = pytest.mark.foreign

TOKEN = "a-token"
#: In a page: the server takes a second to say which zones there are.
SLOW_ZONES = """
const answer = window.fetch;
window.fetch = async (url, options) => {
  if (String(url).endsWith("/zones")) await new Promise((done) => setTimeout(done, 1000));
  return answer(url, options);
};
"""
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tracked_config(tmp_path_factory.mktemp("cameras"))


@pytest.fixture(scope="module")
def gateway(config: Path) -> Iterator[Gateway]:
    token = config.parent / "token"
    token.write_text(TOKEN)
    os.environ["SHED_PASSWORD"] = PASSWORD
    try:
        with serving(config, "--edit", "--token-file", token, errors=config.parent / "log") as gateway:
            yield gateway
    finally:
        del os.environ["SHED_PASSWORD"]


@pytest.fixture
def without_edit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gateway]:
    monkeypatch.setenv("SHED_PASSWORD", PASSWORD)
    with serving(tracked_config(tmp_path), errors=tmp_path / "log") as gateway:
        yield gateway


def enter(page: Any) -> None:
    """With the keyboard alone."""
    field = page.get_by_label("Token of this server")
    field.wait_for()
    page.keyboard.type(TOKEN)
    page.keyboard.press("Enter")
    page.locator("#cameras li").first.wait_for()


def card(page: Any, name: str) -> Any:
    return page.locator("#cameras > li", has=page.get_by_role("heading", name=name, exact=True))


_PIXEL = """
(canvas, [x, y]) => {
  const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d", { willReadFrequently: true });
  copy.drawImage(canvas, 0, 0);
  return [...copy.getImageData(x * canvas.width, y * canvas.height, 1, 1).data];
}
"""


def pixel(page: Any, name: str, x: float, y: float) -> list[int]:
    """The colour of a camera's picture there, in fractions of it."""
    found: list[int] = card(page, name).locator("canvas").evaluate(_PIXEL, [x, y])
    return found


def test_cameras_are_seen_with_boxes_zones_and_states_in_words(chromium: Any, gateway: Gateway) -> None:
    with opened(chromium, f"{gateway.url}/cameras") as page:
        enter(page)
        card(page, "door").get_by_text("1 × <b>person</b>").wait_for()
        card(page, "door").locator(".state.live", has_text="live").wait_for()
        card(page, "shed").locator(".state.lost", has_text="reconnecting").wait_for()
        assert "no frame yet" in card(page, "shed").inner_text()
        page.locator("#summary", has_text="2 of 3 live").wait_for()
        label = page.locator("#cameras canvas").first.get_attribute("aria-label")
        assert label.startswith("door, live: 1 × <b>person</b>")
        # The zone's edge is at half the height, and the box at 0.4 of the width: neither is grey, as the scene is.
        until(lambda: max(pixel(page, "door", 0.4, 0.4)[:3]) - min(pixel(page, "door", 0.4, 0.4)[:3]) > 60)
        page.locator("#events li", has_text="<b>person</b> entered near").first.wait_for()
        assert PASSWORD not in page.content()


def test_a_camera_is_paused_and_goes_on_by_the_keyboard(chromium: Any, gateway: Gateway) -> None:
    with opened(chromium, f"{gateway.url}/cameras") as page:
        enter(page)
        page.get_by_role("button", name="Pause yard").press("Enter")
        card(page, "yard").locator(".state.paused", has_text="paused").wait_for()
        card(page, "yard").get_by_text("last frame").wait_for()
        page.get_by_role("button", name="Resume yard").press("Enter")
        card(page, "yard").locator(".state.live").wait_for()


def test_a_source_that_is_silent_is_shown_and_its_last_picture_stays(chromium: Any, without_edit: Gateway) -> None:
    with opened(chromium, f"{without_edit.url}/cameras") as page:
        card(page, "door").locator(".state.live").wait_for()
        (source,) = in_role(without_edit.process.pid, "source/door", recursive=True)
        source.suspend()
        card(page, "door").locator(".state.lost", has_text="source is silent").wait_for()
        assert "ago" in card(page, "door").locator(".note").inner_text()
        card(page, "yard").locator(".state.live").wait_for()
        source.kill()
        card(page, "door").locator(".state.live").wait_for()


def test_it_fits_a_telephone(chromium: Any, gateway: Gateway) -> None:
    with opened(chromium, f"{gateway.url}/cameras", **PHONE) as page:
        enter(page)
        card(page, "door").locator(".state.live").wait_for()
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        page.get_by_role("button", name="Zones of door").tap()
        page.get_by_role("button", name="Close").wait_for()
        assert page.evaluate("document.getElementById('editor').scrollWidth") <= 390


def test_zones_are_drawn_by_keyboard_and_mouse_and_written(chromium: Any, gateway: Gateway, config: Path) -> None:
    before = config.read_text()
    with opened(chromium, f"{gateway.url}/cameras") as page:
        enter(page)
        page.get_by_role("button", name="Zones of door").press("Enter")
        page.get_by_label("New zone").fill("porch")
        page.keyboard.press("Enter")
        for _ in range(3):
            page.get_by_role("button", name="Add corner").press("Enter")
        # The corner that was added last has the focus.
        page.keyboard.press("ArrowLeft")
        page.keyboard.press("Shift+ArrowDown")
        page.get_by_role("button", name="Corner 3 of porch: 69 % from the left, 75 % from the top").wait_for()
        box = page.locator(".board svg").bounding_box()
        page.mouse.click(box["x"] + 0.4 * box["width"], box["y"] + 0.7 * box["height"])
        page.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 0.3 * box["height"])
        page.mouse.down()
        page.mouse.move(box["x"] + 0.1 * box["width"], box["y"] + 0.2 * box["height"], steps=3)
        page.mouse.up()
        # One press drops nothing that was drawn.
        page.keyboard.press("Escape")
        page.get_by_text("These changes are not written").wait_for()
        page.get_by_role("button", name="Write to edge.yaml").click()
        page.get_by_text("pipeline reload edge").wait_for()
        page.keyboard.press("Escape")
        page.locator("#editor").wait_for(state="hidden")
        assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Zones of door"
    made = config.read_text()
    assert "near: [[0, 0.5], [1, 0.5], [1, 1], [0, 1]], porch: [[0.1, 0.2], [0.7, 0.3], [0.69, 0.75], [0.4, 0.7]]" in made
    assert made.count("#") == before.count("#")
    assert (config.parent / "edge.yaml.1").read_text() == before
    assert config.stat().st_mode & 0o777 == 0o600


def test_without_edit_the_yaml_is_there_to_copy(chromium: Any, without_edit: Gateway) -> None:
    with opened(chromium, f"{without_edit.url}/cameras") as page:
        page.get_by_role("button", name="Zones of door").click()
        page.get_by_text("not started with --edit").wait_for()
        assert page.get_by_role("button", name="Write to").count() == 0
        assert "near: [[0, 0.5], [1, 0.5], [1, 1], [0, 1]]" in page.locator("#editor pre").inner_text()


def test_the_editor_opens_though_the_server_takes_longer_than_the_next_picture(chromium: Any, without_edit: Gateway) -> None:
    with opened(chromium, f"{without_edit.url}/cameras") as page:
        # There is a picture, which is let go of.
        until(lambda: max(pixel(page, "door", 0.4, 0.4)[:3]) > 0)
        page.evaluate(SLOW_ZONES)
        page.get_by_role("button", name="Zones of door").click()
        page.get_by_text("not started with --edit").wait_for()


def test_a_clip_is_played_and_can_be_sought_in(chromium: Any, tmp_path: Path) -> None:
    clip(tmp_path / "door.mp4", 200, codec="h264")
    (tmp_path / "token").write_text(TOKEN)
    source = {"name": "door", "url": "door.mp4", "loop": True, "drop": "oldest"}
    told = {"every": 80, "first": 60}
    config = recorded(tmp_path, [source], told=told, before_s=0.5, after_s=1)
    with serving(config, "--token-file", tmp_path / "token", errors=tmp_path / "log") as gateway, opened(chromium, f"{gateway.url}/cameras") as page:
        enter(page)
        play = page.get_by_role("button", name="Play clip: person entered porch").first
        play.wait_for()
        snapshot = page.locator("#events img").first
        until(lambda: snapshot.evaluate("image => image.naturalWidth") > 0)
        assert "door" in snapshot.get_attribute("alt")
        play.press("Enter")
        video = page.locator("#clip-video")
        until(lambda: video.evaluate("video => video.readyState") >= 2)
        video.evaluate("video => { video.pause(); video.currentTime = video.duration / 2; }")
        until(lambda: video.evaluate("video => !video.seeking && video.currentTime > 0.1"))
        page.keyboard.press("Escape")
        page.locator("#clip").wait_for(state="hidden")
