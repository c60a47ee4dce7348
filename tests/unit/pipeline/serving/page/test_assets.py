"""The files of the page: all are shipped and none asks another server for anything; who gets the page."""

from __future__ import annotations

import fnmatch
import re
from pathlib import Path

import pytest

from pipeline.serving.page import assets as module
from pipeline.serving.page.assets import HEADERS, INDEX, assets, is_known, tag_of, wants_page

FOLDER = Path(module.__file__).parent
FILES = sorted(path for path in FOLDER.iterdir() if path.is_file() and path.suffix not in (".py", ".pyc"))


def test_every_file_of_the_folder_is_served_with_its_type() -> None:
    assert sorted(assets()) == [path.name for path in FILES]
    types = {name: asset.media_type for name, asset in assets().items()}
    assert types[INDEX] == "text/html; charset=utf-8"
    assert types["main.js"] == "text/javascript; charset=utf-8"
    assert all(asset.content == (FOLDER / name).read_bytes() for name, asset in assets().items())


def test_every_file_is_in_the_package_that_users_install() -> None:
    text = (FOLDER.parents[2] / "pyproject.toml").read_text()
    found = re.search(r'^"pipeline.serving.page" = \[(.*)\]$', text, re.MULTILINE)
    assert found is not None
    patterns = re.findall(r'"([^"]+)"', found[1])
    assert [path.name for path in FILES if not any(fnmatch.fnmatch(path.name, each) for each in patterns)] == []


def test_the_page_needs_no_other_server_and_no_inline_script_or_style() -> None:
    for path in FILES:
        text = path.read_text()
        foreign = [url for url in re.findall(r"https?://[^\s\"')]+", text) if not url.startswith("http://www.w3.org/2000/svg")]
        # In comments of JavaScript only, as sources of numbers.
        comments = "\n".join(re.findall(r"/\*.*?\*/|//.*", text, re.DOTALL)) if path.suffix == ".js" else ""
        assert [url for url in foreign if url not in comments] == [], path.name
        if path.suffix == ".html":
            assert not re.search(r"<script(?![^>]*src=)|<style|\sstyle=|\son\w+=", text)
        if path.suffix == ".js":
            assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text), path.name


def test_every_module_that_a_module_imports_is_there() -> None:
    for path in FILES:
        for name in re.findall(r'from "\./([^"]+)"', path.read_text()) + re.findall(r'"page/([^"]+)"', path.read_text()):
            assert name in assets(), f"{path.name}: {name}"


def test_no_file_is_long_enough_to_hold_two_ideas() -> None:
    assert {path.name: len(lines) for path in FILES if len(lines := path.read_text().splitlines()) > 500} == {}


def test_a_browser_may_load_only_from_the_server_itself() -> None:
    policy = HEADERS["content-security-policy"]
    assert policy.startswith("default-src 'self';")
    assert "unsafe" not in policy
    assert "http" not in policy
    assert "frame-ancestors 'none'" in policy


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", True),
        ("TEXT/HTML", True),
        ("application/xhtml+xml;q=0.5", True),
        ("*/*", False),
        ("", False),
        ("application/json", False),
        ("text/html;q=0", False),
        ("text/html; q=0.000", False),
        ("text/html; q=0.001", True),
        ("application/json, text/htmlx", False),
    ],
)
def test_the_page_is_for_those_that_name_html(accept: str, expected: bool) -> None:
    assert wants_page(accept) is expected


def test_a_tag_is_of_the_content_and_a_caller_that_has_it_is_known() -> None:
    tag = tag_of(b"a")
    assert tag != tag_of(b"b")
    assert re.fullmatch(r'"[0-9a-f]{32}"', tag)
    for given in (tag, f"W/{tag}", f'"x", {tag}', "*"):
        assert is_known(tag, given)
    for given in ("", tag_of(b"b"), tag.strip('"')):
        assert not is_known(tag, given)
