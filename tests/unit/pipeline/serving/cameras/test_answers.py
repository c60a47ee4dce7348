"""What the endpoints of cameras answer, called as the ASGI application that they are part of."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pipeline.serving.calls import Calls
from pipeline.serving.catalogue import Catalogue, Served
from pipeline.serving.http_front import HttpFront
from pipeline.serving.inference import Inference
from pipeline.serving.journal import Journal
from pipeline.serving.page.assets import HEADERS
from pipeline.serving.regions import Regions
from pipeline.serving.settings import Settings
from pipeline.video.gallery import Shown, is_watched, write_whole
from pipeline.video.pausing import FOLDER, Pause

TOKEN = "a-token"
CLIP = bytes(range(256)) * 40
EVENT = {"id": "5.250-door-1", "rule": "enter", "zone": "porch", "start": 5.25, "end": None}


class _Model(Served):
    async def why_not_ready(self) -> str:
        return ""


class House:
    """A run with a camera, as its source has left it, and a gateway that shows it."""

    def __init__(self, folder: Path, token: str = TOKEN, edit: bool = False) -> None:
        self.run_dir = folder / "run"
        (self.run_dir / FOLDER).mkdir(parents=True)
        self.recordings = folder / "clips"
        self.recordings.mkdir()
        (self.recordings / "5.250-door-1.mp4").write_bytes(CLIP)
        (self.recordings / "5.250-door-1.jpg").write_bytes(b"jpeg")
        (self.recordings / "5.250-door-1.json").write_text(json.dumps({"camera": "door", "events": [EVENT["id"]], "reason": "over"}))
        (folder / "secret.jpg").write_bytes(b"secret")
        (self.recordings / "9.000-door-1.jpg").symlink_to(folder / "secret.jpg")
        self.tell()
        self.settings = Settings(token=token, edit=edit)
        self.catalogue = Catalogue(1)
        self.catalogue._served["edge"] = _Model("edge", None, lambda: self.run_dir)  # type: ignore[arg-type]
        regions, journal = Regions(()), Journal()
        calls = Calls(self.settings, self.catalogue, regions, None, journal)  # type: ignore[arg-type]
        self.app = HttpFront(self.settings, self.catalogue, calls, Inference(self.catalogue, regions), journal).app

    def tell(self, **fields: Any) -> None:
        shown = Shown("door", time.time(), **{"state": "connected", "recordings": str(self.recordings), "events": [EVENT], **fields})
        write_whole(self.run_dir / FOLDER / "door.json", msgspec.json.encode(shown))

    def ask(self, path: str, method: str = "GET", *, token: str = TOKEN, body: bytes = b"", **headers: str) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body."""
        sent: list[dict[str, Any]] = []

        given = False

        async def receive() -> dict[str, Any]:
            nonlocal given
            if given:
                # The caller stays.
                await asyncio.Event().wait()
            given = True
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        path, _, query = path.partition("?")
        names = {"host": "localhost", **headers} | ({"authorization": f"Bearer {token}"} if token else {})
        scope = {
            "type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": query.encode(),
            "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in names.items()],
            "server": ("localhost", 80), "scheme": "http", "http_version": "1.1", "root_path": "",
        }  # fmt: skip
        asyncio.run(self.app(scope, receive, send))
        found = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        return sent[0]["status"], found, b"".join([message.get("body", b"") for message in sent[1:]])

    def document(self, path: str) -> Any:
        status, _, body = self.ask(path)
        assert status == 200, body
        return json.loads(body)


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


FILE = "/cameras/edge/door/files/5.250-door-1.mp4"


def test_the_page_comes_without_a_token_and_with_what_a_browser_may_do(house: House) -> None:
    status, headers, body = house.ask("/cameras", token="")
    assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert b"page/cameras.js" in body
    assert headers.items() >= HEADERS.items()


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/cameras/state"), ("GET", "/cameras/events"), ("GET", "/cameras/stream"), ("GET", "/cameras/edge/door/stream"),
        ("GET", "/cameras/edge/door.jpg"), ("GET", FILE), ("POST", "/cameras/edge/door/pause"),
        ("POST", "/cameras/edge/door/resume"), ("GET", "/cameras/edge/door/zones"), ("POST", "/cameras/edge/door/zones"),
    ],
)  # fmt: skip
def test_all_else_needs_the_token_and_no_web_page_from_elsewhere_may_ask(house: House, method: str, path: str) -> None:
    assert house.ask(path, method, token="")[0] == house.ask(path, method, token="wrong")[0] == 401
    assert house.ask(path, method, origin="http://evil.example")[0] == 403
    assert house.ask(path, method, host="evil.example")[0] == 403


def test_the_state_has_each_camera_and_no_path_of_this_machine(house: House) -> None:
    found = house.document("/cameras/state")
    (camera,) = found["cameras"]
    assert (camera["model"], camera["camera"], camera["state"], camera["paused"]) == ("edge", "door", "connected", False)
    assert str(house.recordings) not in json.dumps(found)


def test_events_lead_to_recordings_by_addresses_that_need_no_header(house: House) -> None:
    linked, event = house.document("/cameras/events")["events"]
    assert (event["id"], event["zone"]) == ("5.250-door-1", "porch")
    status, headers, body = house.ask("/" + event["clip"], token="")
    assert (status, headers["content-type"], body) == (200, "video/mp4", CLIP)
    assert house.ask("/" + event["snapshot"], token="")[2] == b"jpeg"
    ticket = event["clip"].partition("?")[2]
    assert house.ask(f"/cameras/edge/door/files/5.250-door-1.jpg?{ticket}", token="")[0] == 401
    assert house.ask(f"/cameras/state?{ticket}", token="")[0] == 401
    # What a link leads to is another file.
    assert house.ask("/" + linked["snapshot"], token="")[0] == 404


def test_without_a_token_addresses_have_no_ticket(tmp_path: Path) -> None:
    house = House(tmp_path, token="")
    event = house.document("/cameras/events")["events"][-1]
    assert event["clip"] == FILE[1:]
    assert house.ask("/" + event["clip"], token="")[0] == 200


@pytest.mark.parametrize(
    ("asked", "status", "expected", "where"),
    [
        ("bytes=0-9", 206, CLIP[:10], "bytes 0-9/10240"),
        ("bytes=10000-", 206, CLIP[10000:], "bytes 10000-10239/10240"),
        ("bytes=-5", 206, CLIP[-5:], "bytes 10235-10239/10240"),
        ("bytes=20000-", 416, None, None),
    ],
)
def test_a_part_of_a_clip_is_given_so_that_a_browser_can_seek(house: House, asked: str, status: int, expected: bytes | None, where: str | None) -> None:
    found, headers, body = house.ask(FILE, range=asked)
    assert found == status
    if expected is not None:
        assert (body, headers["content-range"]) == (expected, where)


@pytest.mark.parametrize("name", ["../secret.jpg", "..%2fsecret.jpg", "9.000-door-1.jpg", "5.250-door-1.json", "none.mp4", ".hidden.jpg", "a" * 300 + ".jpg"])
def test_no_other_file_is_given(house: House, name: str) -> None:
    status, _, body = house.ask(f"/cameras/edge/door/files/{name}")
    assert status == 404
    assert b"secret" not in body.replace(b"secret.jpg", b"")


def test_without_recordings_there_are_no_files(house: House) -> None:
    house.tell(recordings="")
    assert house.ask(FILE)[0] == 404


@pytest.mark.parametrize("path", ["/cameras/edge/yard.jpg", "/cameras/other/door/stream", "/cameras/edge/..%2fdoor/zones"])
def test_a_camera_that_is_not_there_is_not_found(house: House, path: str) -> None:
    assert house.ask(path)[0] == 404


def test_a_picture_is_the_newest_one_and_asking_has_the_source_write_more(house: House) -> None:
    status, _, body = house.ask("/cameras/edge/door.jpg")
    assert (status, b"no picture of door yet" in body) == (503, True)
    assert is_watched(house.run_dir)
    write_whole(house.run_dir / FOLDER / "door.jpg", b"picture")
    status, headers, body = house.ask("/cameras/edge/door.jpg")
    assert (status, headers["content-type"], body) == (200, "image/jpeg", b"picture")
    assert "no-cache" in headers["cache-control"]


def test_the_switch_of_a_camera(house: House) -> None:
    assert house.ask("/cameras/edge/door/pause", "POST")[0] == 200
    assert Pause(house.run_dir, "door").on
    assert house.document("/cameras/state")["cameras"][0]["paused"]
    assert house.ask("/cameras/edge/door/resume", "POST")[0] == 200
    assert not Pause(house.run_dir, "door").on


def test_head_of_a_stream_has_no_end_to_wait_for(house: House) -> None:
    assert house.ask("/cameras/edge/door/stream", "HEAD")[0] == 200
    assert not is_watched(house.run_dir)


CONFIG = """\
inputs: [{name: detections, dtype: float32, shape: [20, 6]}, {name: count, dtype: int32, shape: []}]
stages:
  - {name: track, use: stages.video.track:Track, with: {labels: [car], default: {zones: {near: [[0, 0], [1, 0], [1, 1]]}}}}  # kept
"""


def zoned(folder: Path, **options: Any) -> tuple[House, Path]:
    config = folder / "edge.yaml"
    config.write_text(CONFIG)
    house = House(folder, **options)
    house.tell(stage="track", config=str(config), zones={"near": [[0, 0], [1, 0], [1, 1]]})
    return house, config


def test_zones_are_written_with_edit_and_a_token_alone(tmp_path: Path) -> None:
    house, config = zoned(tmp_path, edit=True)
    found = house.document("/cameras/edge/door/zones")
    assert (found["file"], found["zones"], found["why_not"]) == ("edge.yaml", {"near": [[0, 0], [1, 0], [1, 1]]}, "")
    wanted = {"zones": {"gate": [[0.5, 0], [1, 0], [1, 1]]}, "tag": found["tag"]}
    status, _, body = house.ask("/cameras/edge/door/zones", "POST", body=json.dumps(wanted).encode())
    assert (status, json.loads(body)) == (200, {"file": "edge.yaml", "before": "edge.yaml.1", "model": "edge"})
    assert "gate: [[0.5, 0], [1, 0], [1, 1]]" in config.read_text()
    assert "# kept" in config.read_text()
    # What has changed meanwhile is not written over.
    assert house.ask("/cameras/edge/door/zones", "POST", body=json.dumps(wanted).encode())[0] == 400


def test_without_edit_zones_are_shown_and_not_written(tmp_path: Path) -> None:
    house, config = zoned(tmp_path)
    found = house.document("/cameras/edge/door/zones")
    assert (found["zones"], found["tag"]) == ({"near": [[0, 0], [1, 0], [1, 1]]}, "")
    assert "--edit" in found["why_not"]
    status, _, body = house.ask("/cameras/edge/door/zones", "POST", body=b'{"zones": {}, "tag": ""}')
    assert (status, b"serve.edit" in body) == (403, True)
    assert config.read_text() == CONFIG


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"zones": {"a": [[0]]}}', b'{"zones": {"a": "x"}}', b'{"zones": [], "tag": ""}', b"[" * 5000])
def test_a_body_that_has_no_zones_is_refused(tmp_path: Path, body: bytes) -> None:
    house, config = zoned(tmp_path, edit=True)
    assert house.ask("/cameras/edge/door/zones", "POST", body=body)[0] == 400
    assert config.read_text() == CONFIG


def test_a_pipeline_that_follows_nothing_has_no_zones(house: House) -> None:
    status, _, body = house.ask("/cameras/edge/door/zones")
    assert (status, b"no stage" in body) == (404, True)
