"""The command line of a process of ours."""

from __future__ import annotations

import subprocess
from pathlib import Path

from pipeline.interpreter import python_command


def test_what_is_imported_is_not_searched_for_garbage_and_what_main_makes_is(tmp_path: Path) -> None:
    (tmp_path / "asked.py").write_text(
        "import gc\n"
        "while_imported = gc.isenabled()\n"
        "def main():\n"
        "    print(while_imported, gc.isenabled(), gc.get_freeze_count() > 1000)\n"
    )
    done = subprocess.run(python_command("asked", folders=[str(tmp_path)]), capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True", "True"]
