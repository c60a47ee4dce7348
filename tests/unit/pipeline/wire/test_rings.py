"""The link of rings: which runs take it, and what is left of a dead process."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from pipeline.wire import rings
from pipeline.wire.address import SCHEDULER


def test_a_run_takes_rings_if_its_scheduler_does_and_the_machine_has_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not rings.taken_in(tmp_path)
    inbox = rings.listen(tmp_path, SCHEDULER)
    assert rings.taken_in(tmp_path)
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert not rings.taken_in(tmp_path)
    inbox.close()


def test_what_a_dead_process_has_left_is_forgotten(tmp_path: Path) -> None:
    inbox = rings.listen(tmp_path, SCHEDULER)
    rings.forget(tmp_path, SCHEDULER)
    assert list(tmp_path.iterdir()) == []
    rings.forget(tmp_path, SCHEDULER)
    inbox.close()
