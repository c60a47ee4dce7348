"""How the supervisor of a later version ends."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from pipeline.wire.address import SUPERVISOR
from pipeline.wire.links import listen
from pipeline.wire.messages import ReloadStep


@pytest.mark.timeout(60)
def test_why_it_cannot_start_is_told_although_it_ends_before_the_root_has_taken_the_call(tmp_path: Path) -> None:
    program = f"""
        import gc
        from pathlib import Path

        from pipeline.cli.descent import be_born, serve_below
        from pipeline.errors import ConfigError
        from pipeline.supervisor.successors import Root

        gc.freeze()  # as `pipeline.interpreter` has it
        be_born({os.getpid()}, "successor")
        root = Root(Path({str(tmp_path)!r}), 1, {os.getpid()})

        def serve():
            print("begun", flush=True)
            raise ConfigError("no such stage")

        serve_below(root, serve)
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == b"begun\n"
            # Only now: the call is made again a tenth of a second later, when the child has nothing else to do.
            inbox = listen(tmp_path, SUPERVISOR)
            try:
                (said,) = inbox.receive(5000)
            finally:
                inbox.close()
            assert child.wait(30) == 2
        finally:
            child.kill()
    assert isinstance(said, ReloadStep)
    assert said.text == "no such stage"
