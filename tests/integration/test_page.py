"""The live page in a browser: what people see, try and read there, with the keyboard, and on a phone."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import yaml
from PIL import Image

from tests.conftest import ROOT
from tests.integration.gateways import MODELS, Gateway, Http, serving
from tests.integration.page_models import MARKUP

# A browser is a large foreign program.
pytestmark = pytest.mark.foreign

SEVEN = ROOT / "photos/digits/7.png"
TOKEN = "a-token"
#: For what the page shows soon, on a machine that is busy, too.
WAIT_MS = 200_000
NAMES = ["digits", "mnist", "hostile", "mirror", "simple", "identity_bf16", "identity_int64", "identity_string", "repeat_int32"]


def hostile_configs(folder: Path) -> list[Path]:
    (folder / "page_models.py").write_text((Path(__file__).parent / "page_models.py").read_text())
    inputs = {
        "hostile": {"name": "data", "dtype": "uint8", "shape": ["bytes"], "max": {"bytes": 65536}},
        "mirror": {"name": "pixels", "dtype": "uint8", "shape": [16, 24, 3]},
    }
    paths = []
    for name, spec in inputs.items():
        paths.append(folder / f"{name}.yaml")
        stage = {"name": "s", "use": f"./page_models.py:{name.title()}"}
        paths[-1].write_text(yaml.safe_dump({"name": name, "inputs": [spec], "stages": [stage]}))
    return paths


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("page")
    kserve = [MODELS / f"{name}.yaml" for name in NAMES if (MODELS / f"{name}.yaml").exists()]
    configs = [ROOT / "configs/digits.yaml", ROOT / "configs/mnist.yaml", *hostile_configs(folder), *kserve]
    with serving(*configs, errors=folder / "log") as gateway:
        yield gateway


@contextmanager
def opened(chromium: Any, url: str, **options: Any) -> Iterator[Any]:
    """The page, which must not have written anything to the console, nor asked another server, when it is left."""
    context = chromium.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
    context.set_default_timeout(WAIT_MS)
    try:
        page = context.new_page()
        complaints: list[str] = []
        asked: list[str] = []
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(url)
        yield page
        # An answer that is no 200 is written there by the browser itself.
        assert [text for text in complaints if "Failed to load resource" not in text] == []
        origin = "/".join(url.split("/")[:3])
        assert [each for each in asked if not each.startswith((origin, "blob:"))] == []
        assert page.title() != "taken"
    finally:
        context.close()


def on(gateway: Gateway, model: str) -> str:
    return f"{gateway.url}/#model={model}"


def send(page: Any) -> Any:
    """Send, and the answer."""
    page.get_by_role("button", name="Send").click()
    page.locator("#answer > .answer").wait_for()
    return page.locator("#answer")


def choose(page: Any, path: Path | dict[str, Any]) -> None:
    page.locator("#detail input[type=file]:not([capture])").set_input_files(path)


def test_it_lists_every_model_with_its_state_in_words(chromium: Any, gateway: Gateway) -> None:
    with opened(chromium, gateway.url) as page:
        page.locator("#detail-name").wait_for()
        cards = page.locator("#models a")
        assert [text.split("\n")[0].split()[0] for text in cards.all_inner_texts()] == NAMES
        assert all("ready" in text for text in cards.all_inner_texts())
        assert page.locator("#server-state").inner_text().endswith(f"all {len(NAMES)} models are ready")
        tensors = page.locator(".panel", has=page.get_by_role("heading", name="Tensors")).inner_text()
        assert all(word in tensors for word in ("image", "UINT8", "[-1] up to [65536]", "labels", "scores", "FP32"))


def test_a_picture_is_tried_and_its_label_comes_first(chromium: Any, gateway: Gateway) -> None:
    with opened(chromium, on(gateway, "digits")) as page:
        choose(page, SEVEN)
        page.get_by_role("img", name="7.png, 28 × 28 pixels").wait_for()
        answer = send(page)
        assert answer.locator(".bars .label").first.inner_text() == "7"
        assert answer.locator(".bars .amount").first.inner_text().endswith("%")
        assert "Answered in" in answer.inner_text()
        # And the counts say so, by themselves.
        page.locator("dl.figures dd").first.filter(has_not_text="0").wait_for()


def test_the_curl_line_sends_the_same_request(chromium: Any, gateway: Gateway) -> None:
    sent: list[bytes] = []
    for model, fill in (("digits", SEVEN), ("mnist", ROOT / "models/mnist-7.npy"), ("simple", None), ("identity_bf16", "[1, 2.5]")):
        with opened(chromium, on(gateway, model)) as page:
            page.on("request", lambda request: sent.append(request.post_data_buffer) if "/infer" in request.url else None)
            page.locator("#detail-name", has_text=model).wait_for()
            if isinstance(fill, Path):
                if model == "mnist":
                    page.get_by_label("File (.npy or raw)").check()
                choose(page, fill)
            elif fill:
                page.locator("textarea").fill(fill)
            answer = send(page)
            assert "Answered in" in answer.inner_text()
            line = answer.locator("pre[aria-label*=curl]").inner_text()
        folder = fill.parent if isinstance(fill, Path) else ROOT
        # What curl would send, and what it gets.
        there = line.replace("curl ", "curl -s ")
        done = subprocess.run(["bash", "-c", there], cwd=folder, capture_output=True, check=True)
        assert b'"outputs"' in done.stdout
        body = line.split("|\ncurl")[0] if "|\ncurl" in line else None
        if body is not None:
            made = subprocess.run(["bash", "-c", body], cwd=folder, capture_output=True, check=True).stdout
            assert made == sent[-1]


def test_an_error_is_shown_as_the_server_says_it(chromium: Any, gateway: Gateway) -> None:
    with opened(chromium, on(gateway, "digits")) as page:
        choose(page, {"name": "no.png", "mimeType": "image/png", "buffer": b"no picture"})
        alert = send(page).get_by_role("alert")
        said = Http(gateway).request(
            "POST", "/v2/models/digits/infer", content=b"no picture", headers={"Inference-Header-Content-Length": "0"}
        )
        assert said.status_code == 400
        assert said.json()["error"] in alert.inner_text()
        assert "Status 400" in alert.inner_text()


def test_without_a_file_the_page_says_what_is_missing_and_sends_nothing(chromium: Any, gateway: Gateway) -> None:
    with opened(chromium, on(gateway, "digits")) as page:
        assert "expected a file" in send(page).get_by_role("alert").inner_text()
        assert page.locator("pre").count() == 0


def test_labels_and_errors_that_are_markup_stay_text(chromium: Any, gateway: Gateway) -> None:
    with opened(chromium, on(gateway, "hostile")) as page:
        choose(page, {"name": f"{MARKUP}.png", "mimeType": "image/png", "buffer": b"good"})
        answer = send(page)
        assert answer.locator(".bars .label").first.inner_text() == MARKUP
        choose(page, {"name": "bad", "mimeType": "text/html", "buffer": b"bad"})
        page.get_by_role("button", name="Send").click()
        page.get_by_text(f"refused: {MARKUP}").wait_for()
        assert page.locator("img[src=x], #answer script").count() == 0


def test_a_picture_becomes_pixels_of_the_models_size_and_pixels_become_a_picture(
    chromium: Any, gateway: Gateway, tmp_path: Path
) -> None:
    Image.new("RGB", (48, 32), (200, 100, 50)).save(tmp_path / "plain.png")
    with opened(chromium, on(gateway, "mirror")) as page:
        choose(page, tmp_path / "plain.png")
        answer = send(page)
        answer.get_by_role("img", name="pixels, 24 × 16 pixels").wait_for()
        assert answer.locator("table").last.locator("td").all_inner_texts()[1::2] == ["200", "100", "50"]
        # No shell makes pixels of a picture: the body is saved.
        with page.expect_download() as download:
            answer.get_by_role("button", name="Save request.bin").click()
        assert download.value.suggested_filename == "request.bin"


def test_numbers_that_javascript_would_round_stay_whole(chromium: Any, gateway: Gateway) -> None:
    with opened(chromium, on(gateway, "identity_int64")) as page:
        page.locator("textarea").fill("[9007199254740993, -9223372036854775808]")
        cells = send(page).locator("td").all_inner_texts()
        assert cells == ["0", "9007199254740993", "1", "-9223372036854775808"]


def test_text_goes_and_comes_one_element_a_line(chromium: Any, gateway: Gateway) -> None:
    with opened(chromium, on(gateway, "identity_string")) as page:
        page.locator("textarea").fill("grüße\nit's")
        answer = send(page)
        assert answer.locator("section pre").all_inner_texts() == ["grüße", "it's"]
        assert "it'\\''s" in answer.locator("pre[aria-label*=curl]").inner_text()


def test_a_model_that_answers_in_parts_has_no_form(chromium: Any, gateway: Gateway) -> None:
    with opened(chromium, on(gateway, "repeat_int32")) as page:
        page.get_by_text("asked over gRPC").wait_for()
        assert page.get_by_role("button", name="Send").count() == 0


def test_it_can_be_used_with_the_keyboard_alone(chromium: Any, gateway: Gateway) -> None:
    with opened(chromium, gateway.url) as page:
        page.locator("#detail-name").wait_for()
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Skip to the model"
        for _ in range(30):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.textContent").startswith("simple"):
                break
        page.keyboard.press("Enter")
        page.locator("#detail-name", has_text="simple").wait_for()
        for _ in range(30):
            page.keyboard.press("Tab")
            # What has the focus is seen to have it.
            assert page.evaluate("document.activeElement.matches(':focus-visible')")
            if page.evaluate("document.activeElement.textContent") == "Send":
                break
        page.keyboard.press("Enter")
        page.locator("#answer > .answer").wait_for()
        assert page.evaluate("document.activeElement.textContent") == "Send"


def test_every_control_has_a_name_and_every_picture_a_text(chromium: Any, gateway: Gateway) -> None:
    nameless = """() => [...document.querySelectorAll('input, textarea, button, a, canvas, svg, img')].filter((each) =>
        !(each.labels?.length || each.textContent.trim() || each.getAttribute('aria-label') || each.hasAttribute('alt')))
        .map((each) => each.outerHTML)"""
    for model in NAMES:
        with opened(chromium, on(gateway, model)) as page:
            page.locator("#detail-name", has_text=model).wait_for()
            assert page.evaluate(nameless) == []
            assert page.locator("h1").count() == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone_nothing_is_wider_than_the_screen(chromium: Any, gateway: Gateway, scheme: str) -> None:
    phone = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True, "color_scheme": scheme}
    for model in NAMES:
        with opened(chromium, on(gateway, model), **phone) as page:
            page.locator("#detail-name", has_text=model).wait_for()
            if model == "digits":
                choose(page, SEVEN)
                assert page.get_by_text("Take a photo").is_visible()
            if model != "repeat_int32":
                send(page)
            assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_text_stands_out_from_its_ground_in_both_schemes(chromium: Any, gateway: Gateway) -> None:
    # https://www.w3.org/TR/WCAG22/#contrast-minimum
    ratios = """() => {
      const part = (c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
      const light = (rgb) => rgb.map(part).reduce((sum, c, at) => sum + c * [0.2126, 0.7152, 0.0722][at], 0);
      const numbers = (text) => text.match(/[\\d.]+/g).map(Number);
      const ground = (each) => { for (; each; each = each.parentElement) {
        const found = numbers(getComputedStyle(each).backgroundColor);
        if (found.length === 3 || found[3] > 0) return found.slice(0, 3); } return [255, 255, 255]; };
      return [...document.querySelectorAll('body *')].filter((each) => each.checkVisibility() && !each.closest('.skip') &&
        [...each.childNodes].some((node) => node.nodeType === 3 && node.data.trim())).map((each) => {
          const [a, b] = [light(numbers(getComputedStyle(each).color).slice(0, 3)), light(ground(each))].sort((x, y) => y - x);
          return [each.tagName + ' ' + each.textContent.slice(0, 30), (a + 0.05) / (b + 0.05)]; });
    }"""
    for scheme in ("light", "dark"):
        with opened(chromium, on(gateway, "digits"), color_scheme=scheme) as page:
            choose(page, {"name": "no.png", "mimeType": "image/png", "buffer": b"no picture"})
            send(page)
            found = page.evaluate(ratios)
            assert len(found) > 30
            assert [each for each in found if each[1] < 4.5] == []


def test_it_asks_no_more_while_it_is_paused(chromium: Any, gateway: Gateway) -> None:
    with opened(chromium, gateway.url) as page:
        page.locator("#detail-name").wait_for()
        page.get_by_role("button", name="Pause").click()
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.wait_for_timeout(5000)
        assert asked == []
        page.get_by_role("button", name="Paused").click()
        while not asked:
            page.wait_for_timeout(50)


def test_it_asks_no_more_while_it_is_not_seen(chromium: Any, gateway: Gateway) -> None:
    with opened(chromium, gateway.url) as page:
        page.locator("#detail-name").wait_for()
        # Headless, a tab is always seen: so it is told.
        change = """(hidden) => { Object.defineProperty(document, 'hidden', { value: hidden, configurable: true });
                                  document.dispatchEvent(new Event('visibilitychange')); }"""
        page.evaluate(change, True)
        page.wait_for_timeout(1000)
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.wait_for_timeout(4000)
        assert asked == []
        page.evaluate(change, False)
        while not asked:
            page.wait_for_timeout(50)


def test_the_policy_of_the_browser_holds(chromium: Any, gateway: Gateway) -> None:
    # Not `opened`: what is refused is written to the console.
    context = chromium.new_context()
    try:
        page = context.new_page()
        page.goto(gateway.url)
        page.evaluate("""() => { const script = document.createElement('script');
                                 script.textContent = "document.title = 'taken'"; document.body.append(script); }""")
        assert page.title() != "taken"
        with pytest.raises(Exception, match="Content Security Policy"):
            page.add_script_tag(url="http://127.0.0.1:9/x.js")
    finally:
        context.close()


def test_a_gateway_that_ends_is_told_and_one_that_comes_again_is_found(chromium: Any, tmp_path: Path) -> None:
    configs = hostile_configs(tmp_path)
    with serving(*configs) as first:
        port = first.url.rsplit(":", 1)[1]
        context = chromium.new_context()
        context.set_default_timeout(WAIT_MS)
        page = context.new_page()
        page.goto(first.url)
        page.locator("#detail-name").wait_for()
    try:
        page.get_by_text("The server does not answer.").wait_for()
        assert page.locator("#server-state .word").inner_text() == "no answer"
        with serving(*configs, http_port=port):
            page.locator("#server-state", has_text="all 2 models are ready").wait_for()
            page.get_by_text("The server does not answer.").wait_for(state="hidden")
    finally:
        context.close()


def test_with_a_token_the_page_asks_for_it_and_keeps_it_in_this_tab_only(chromium: Any, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN)
    with serving(*hostile_configs(tmp_path), "--token-file", tmp_path / "token") as gateway, opened(chromium, gateway.url) as page:
        page.get_by_text("This server needs a token.").wait_for()
        assert "hostile" not in page.locator("body").inner_text()
        page.get_by_label("Token of this server").fill("another")
        page.keyboard.press("Enter")
        page.get_by_text("This token is not the server's.").wait_for()
        page.get_by_label("Token of this server").fill(TOKEN)
        page.keyboard.press("Enter")
        page.locator("#detail-name", has_text="hostile").wait_for()
        choose(page, {"name": "x", "mimeType": "image/png", "buffer": b"good"})
        answer = send(page)
        assert answer.locator(".bars").count() == 1
        # The line that is copied does not have it.
        assert "Bearer $TOKEN" in answer.locator("pre[aria-label*=curl]").inner_text()
        assert TOKEN not in page.content()
        kept = page.evaluate("() => [Object.values(sessionStorage), Object.values(localStorage), document.cookie, location.href]")
        assert kept == [[TOKEN], [], "", f"{gateway.url}/"]
        page.reload()
        page.locator("#detail-name", has_text="hostile").wait_for()
        with page.expect_download() as download:
            page.get_by_role("link", name="OpenAPI").click()
        assert json.loads(Path(download.value.path()).read_text())["openapi"] == "3.1.0"
        page.get_by_role("button", name="Token").click()
        page.get_by_role("button", name="Forget it").click()
        page.get_by_text("This server needs a token.").wait_for()
        assert page.evaluate("() => sessionStorage.length") == 0


def test_the_pages_halves_are_numpys(chromium: Any, gateway: Gateway) -> None:
    values = np.random.default_rng(1).normal(0, 1, 2000) * 10.0 ** np.random.default_rng(2).integers(-9, 6, 2000)
    values = np.concatenate([values, np.arange(65536, dtype=np.uint16).view(np.float16).astype(float), [65519.0, 65520.0, 2**-24, 2**-25, 1e-30]])
    code = """async (values) => { const tensors = await import('/page/tensors.js');
        return ['FP16', 'BF16'].map((name) => [...tensors.packed(name, values.map((each) => each ?? NaN))]); }"""
    with opened(chromium, gateway.url) as page, np.errstate(over="ignore", invalid="ignore"):
        half, brain = page.evaluate(code, [None if np.isnan(each) else each for each in values.tolist()])
        found = np.array(half, np.uint8).view(np.float16)
        assert np.array_equal(found, values.astype(np.float16), equal_nan=True)
        # By way of float32, as the page's own.
        found = np.array(brain, np.uint8).view(ml_dtypes.bfloat16).astype(np.float32)
        assert np.array_equal(found, values.astype(np.float32).astype(ml_dtypes.bfloat16).astype(np.float32), equal_nan=True)

