"""Shard: what the supervisor of a shard is told at its birth, and how it speaks to the front that has started it."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec

from pipeline.graph.plan import Plan
from pipeline.logs.entry import Entry
from pipeline.logs.forms import ROOTS
from pipeline.logs.log import OperatorLog
from pipeline.logs.settings import LogSettings
from pipeline.supervisor.sharding import version_of
from pipeline.supervisor.successors import Root
from pipeline.wire.run_dir import root_of
from pipeline.wire.shards import shard_name

__all__ = ["Front", "ShardLog", "ShardOrigin"]


class ShardOrigin(msgspec.Struct, frozen=True):
    """The boot document of a shard's supervisor.

    It has the plan, and not the path of the config: a shard that is started again later must be the same, whatever the
    file says by then.
    """

    plan: Plan
    number: int
    front: str
    """The path of the front's run folder."""
    parent: int
    """The pid of the front."""
    succeeds: bool
    """The front is a new version of a pipeline that serves: ready means that it can take over from that."""
    log: LogSettings = LogSettings()

    def line(self) -> bytes:
        """The line that `read` reads."""
        # As `Boot.line`: an option of a stage may be NaN, and a path need not be Unicode.
        return json.dumps(msgspec.to_builtins(self, enc_hook=str)).encode() + b"\n"

    @staticmethod
    def read(line: bytes | bytearray) -> ShardOrigin:
        """The reverse of `line`.

        Raises:
            msgspec.ValidationError: it is no such document of this version.
        """
        return msgspec.convert(json.loads(line), ShardOrigin, dec_hook=lambda kind, value: kind(value))


class Front(Root):
    """The front, as one of its shards sees it.

    Args:
        folder: the front's run folder.
        number: of the shard.
        pid: the front's.
        succeeds: as `ShardOrigin.succeeds`.
    """

    def __init__(self, folder: Path, number: int, pid: int, *, succeeds: bool) -> None:
        super().__init__(folder, version_of(number), pid)
        # Where clients that were told of this run look for the one that serves: a front may be a later version itself.
        self.folder = root_of(folder)
        self.front = folder
        self.succeeds = succeeds
        self._number = number

    def name_of(self, pipeline: str) -> str:
        """What the shard's run is called."""
        return shard_name(pipeline, self._number)


class ShardLog(OperatorLog):
    """The log of a shard, which others write into as well: each entry says which shard it is of.

    Args:
        number: of the shard.
        settings: those of the front.
        pipeline: its name.
    """

    def __init__(self, number: int, settings: LogSettings, pipeline: str) -> None:
        super().__init__(settings, pipeline=pipeline)
        self._shard = f"shard {number}"

    def take(self, entry: Entry) -> None:
        """As `OperatorLog.take`."""
        process = self._shard if entry.process in ROOTS else f"{self._shard} {entry.process}"
        super().take(entry._replace(process=process))
