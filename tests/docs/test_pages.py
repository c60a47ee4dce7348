"""The pages name what the code has: commands, fields, errors, reasons, files."""

from __future__ import annotations

import inspect
import re
import runpy
from pathlib import Path
from types import ModuleType

import pytest
import typer.main
import yaml

import pipeline.errors
import shm.errors
import stages.errors
from pipeline.cli.main import make_app
from pipeline.wire.records import CLOSE_REASONS

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def commands() -> list[str]:
    """Every command line that `pipeline` has, such as "models pull"."""
    found = []
    for name, command in typer.main.get_command(make_app()).commands.items():  # type: ignore[attr-defined]
        found += [f"{name} {sub}" for sub in getattr(command, "commands", {})] or [name]
    return found


@pytest.mark.parametrize("command", commands())
def test_the_page_of_commands_names_every_command(command: str) -> None:
    assert f"pipeline {command}" in (ROOT / "docs/commands.md").read_text()


def test_the_page_of_the_yaml_is_the_schemas() -> None:
    script = runpy.run_path(str(ROOT / "docs/make_config.py"))
    assert (ROOT / "docs/config.md").read_text() == script["render"](), "run: python docs/make_config.py"


def test_the_page_of_the_stages_is_the_classes() -> None:
    script = runpy.run_path(str(ROOT / "docs/make_stages.py"))
    assert (ROOT / "docs/stages.md").read_text() == script["render"](), "run: python docs/make_stages.py"


def test_the_page_of_the_metrics_is_the_catalogue() -> None:
    script = runpy.run_path(str(ROOT / "docs/make_metrics.py"))
    assert (ROOT / "docs/metrics.md").read_text() == script["render"](), "run: python docs/make_metrics.py"


def test_every_stage_of_a_config_is_on_the_page_of_stages() -> None:
    page = (ROOT / "docs/stages.md").read_text()
    used = set(re.findall(r"stages\.[\w.]+:\w+", "".join(path.read_text() for path in (ROOT / "configs").glob("*.yaml"))))
    assert {name for name in used if f"\n## `{name}`\n" not in page} == set()


def test_an_option_without_a_meaning_is_refused_and_so_is_a_meaning_without_an_option() -> None:
    describe = runpy.run_path(str(ROOT / "docs/make_stages.py"))["describe"]

    class Documented:
        """It does.

        Args:
            size: in pixels.
            color, mode: one
                of two.
        """

        def __init__(self, size: int = 3, color: str = "rgb", mode: str | None = None, base_dir: str = ".") -> None: ...

    assert describe(Documented).splitlines()[-3:] == [
        "| `size` | `3` | In pixels. |",
        '| `color` | `"rgb"` | One of two. |',
        "| `mode` | `-` | One of two. |",
    ]

    class Silent(Documented):
        """It does.

        Args:
            size: in pixels.
            depth: in bits.
        """

    with pytest.raises(ValueError, match=r"\['color', 'depth', 'mode'\]"):
        describe(Silent)


@pytest.mark.parametrize("module", [pipeline.errors, stages.errors, shm.errors], ids=lambda module: module.__name__)
def test_every_error_has_its_line(module: ModuleType) -> None:
    page = (ROOT / "docs/faq.md").read_text()
    section = page[page.index(f"| `{module.__name__}`") :]
    own = [name for name, value in vars(module).items() if inspect.isclass(value) and issubclass(value, Exception)]
    assert [name for name in own if f"\n| `{name}` |" not in section] == []


def test_every_reason_why_a_batch_closes_has_its_line() -> None:
    page = (ROOT / "docs/faq.md").read_text()
    assert [reason for reason in CLOSE_REASONS if f"\n| `{reason}` |" not in page] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        path, _, anchor = target.partition("#")
        led_to = (page.parent / path) if path else page
        assert led_to.exists(), target
        if anchor:
            heads = re.findall(r"^#+ (.*)$", led_to.read_text(), re.MULTILINE)
            assert anchor in [re.sub(r"[^\w -]", "", head).lower().replace(" ", "-") for head in heads], target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_and_modules_that_a_page_names_exist(page: Path) -> None:
    for name in re.findall(r"`((?:pipeline|stages|shm|bench|docs|tests|configs|models|photos)/[\w./]+)`", page.read_text()):
        assert (ROOT / name).exists(), name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_page_serves_cameras_that_have_ended_before_one_can_look(page: Path) -> None:
    named = set(re.findall(r"pipeline serve (configs/\w+\.yaml)", page.read_text()))
    sources = {name: yaml.safe_load((ROOT / name).read_text()).get("sources", ()) for name in named}
    ended = {name for name, cameras in sources.items() if any("frames=" in camera["url"] for camera in cameras)}
    assert ended == set()
