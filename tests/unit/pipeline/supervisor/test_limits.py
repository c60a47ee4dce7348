"""The limits of a run's processes."""

from __future__ import annotations

import subprocess
import sys

import pytest

RAISED = """
import resource, sys
from pipeline.supervisor.limits import raise_file_limit
resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]), int(sys.argv[2])))
raise_file_limit()
print(*resource.getrlimit(resource.RLIMIT_NOFILE))
"""


@pytest.mark.parametrize(("soft", "hard", "then"), [(256, 1024, 1024), (1024, 1024, 1024), (256, 100_000, 65_536)])
def test_the_limit_of_descriptors_is_raised_as_far_as_allowed_and_needed(soft: int, hard: int, then: int) -> None:
    command = [sys.executable, "-c", RAISED, str(soft), str(hard)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if "exceeds" in done.stderr or "not allowed" in done.stderr:
        pytest.skip("this system allows fewer")
    assert done.stdout.split() == [str(then), str(hard)], done.stderr
