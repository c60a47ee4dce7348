"""A browser for tests, driven by playwright. `make build/browser/.there` fetches what is missing of both."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

_FOLDER = Path(__file__).parents[2] / "build/browser"
_NAMES = ("chromium", "chromium-browser", "google-chrome")


@contextmanager
def browsers() -> Iterator[Callable[[], Any]]:
    """Starts a headless Chromium each time that it is called; the caller closes it.

    Skips if there is none: the message says what fetches it.
    """
    if not (_FOLDER / "playwright").is_dir():
        pytest.skip("no playwright: run `make build/browser/.there`")
    # At the end: nothing of the suite's own packages is hidden.
    sys.path.append(str(_FOLDER))
    try:
        from playwright.sync_api import sync_playwright
    finally:
        sys.path.remove(str(_FOLDER))
    os.environ.setdefault("PLAYWRIGHT_BROWSERS_PATH", str(_FOLDER))
    with sync_playwright() as playwright:
        found = next(filter(None, map(shutil.which, _NAMES)), None) or playwright.chromium.executable_path
        if not Path(found).exists():
            pytest.skip("no Chromium: run `make build/browser/.there`, or install one")
        # Containers have neither the namespaces of the sandbox nor a GPU.
        yield lambda: playwright.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-gpu"])
