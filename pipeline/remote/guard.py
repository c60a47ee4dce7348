"""Guard: a process that cleans up the shared memory of a client that has died, even by kill -9.

    client ──stdin──▶ guard        {"url": ..., "token": ...}     the server, first
                                   +NAME   -NAME                  a region is made, is ended
    the client dies ──▶ the kernel closes the pipe ──▶ names are removed, the server is told to let go, the guard ends

It is started with the first region, and has nothing to do in the life of most clients. It ends with its client.
"""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from pipeline.errors import KserveError, PipelineError
from pipeline.interpreter import python_command
from pipeline.lifeline import let_go, new_lifeline, write_to

__all__ = ["Guard", "main"]

#: How long a server that does not answer is asked to let go; after that it may have died as well.
_PERSIST_S = 20.0
_PAUSE_S = 0.5
_LOOK_S = 0.01
_ASK_S = 2.0


class Guard:
    """The guard, as its client sees it.

    Args:
        server: how it reaches the server: the fields of `link.Options`, and `url`.

    Raises:
        OSError: the system starts no process.
    """

    def __init__(self, server: dict[str, Any]) -> None:
        reader, self._writer = new_lifeline()
        try:
            # A session of its own: Ctrl-C in the terminal must not reach it.
            self._process = subprocess.Popen(
                python_command("pipeline.remote.guard"), stdin=reader, stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        except BaseException:
            let_go(self._writer)
            raise
        finally:
            os.close(reader)
        # By the pipe: others can read arguments and the environment.
        self._say(json.dumps(server))

    def add(self, name: str) -> None:
        """A region of this name is about to be made.

        Raises:
            OSError: it has ended, so that none may be made.
        """
        self._say(f"+{name}")

    def remove(self, name: str) -> None:
        """Nothing is left of it."""
        with suppress(OSError):
            self._say(f"-{name}")

    def _say(self, line: str) -> None:
        # Shorter than PIPE_BUF, apart from the first: lines of several threads do not mix.
        text = line.encode() + b"\n"
        while text:
            written = write_to(self._writer, text)
            if written is None:
                raise BrokenPipeError(errno.EPIPE, "the process that would clean up has ended")
            text = text[written:]
            if not written:
                time.sleep(_LOOK_S)

    def close(self) -> None:
        """Let it finish what is left, and end."""
        let_go(self._writer)
        try:
            self._process.wait(_ASK_S)
        except subprocess.TimeoutExpired:
            # It has something left to do, for which this program does not wait.
            threading.Thread(target=self._process.wait, name="remote guard", daemon=True).start()


def left(lines: Iterable[str]) -> list[str]:
    """The names that were made and not ended."""
    names: dict[str, None] = {}
    for line in lines:
        if line.startswith("+"):
            names[line[1:]] = None
        elif line.startswith("-"):
            names.pop(line[1:], None)
    return list(names)


def main() -> None:
    """The process."""
    first = sys.stdin.readline()
    # Until the client is gone.
    names = left(line.strip() for line in sys.stdin)
    if not names or not first:
        return
    for name in names:
        if "/" not in name:
            with suppress(OSError):
                os.unlink(f"/dev/shm/{name}")
    server = json.loads(first)
    # Not before: most guards need neither grpcio nor the memory that it takes.
    from pipeline.remote.address import address_of
    from pipeline.remote.grpc_link import GrpcLink
    from pipeline.remote.link import Options

    link = GrpcLink(address_of(server.pop("url")), Options(**server))
    end = time.monotonic() + _PERSIST_S
    while names and time.monotonic() < end:
        try:
            link.ask("region_unregister", _ASK_S, name=names[0])
        except KserveError as error:
            if error.code in ("UNAVAILABLE", "DEADLINE_EXCEEDED"):
                time.sleep(_PAUSE_S)
                continue
        except PipelineError:
            return
        names.pop(0)
    link.close()


if __name__ == "__main__":
    main()
