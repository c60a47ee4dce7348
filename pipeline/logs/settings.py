"""Settings: what the command line says of a log, as one value; it travels to the processes that have one. Pure."""

from __future__ import annotations

import msgspec

__all__ = ["LogSettings"]


class LogSettings(msgspec.Struct, frozen=True):
    """How a log is written."""

    format: str = ""
    """"json": one object a line. "text": lines for people, behind their time. "": as "text", but to stderr without the
    time."""
    level: str = ""
    """The least level that is written (see `entry.LEVELS`); "": "info", and in a run of files "note"."""
    file: str = ""
    """The absolute path of the file; "": stderr."""
    access: bool = False
    """Whether each request has a line."""

    @property
    def for_people(self) -> bool:
        """Whether a person reads it on stderr: then lines have no time."""
        return not (self.format or self.file)

    def arguments(self) -> list[str]:
        """The options with which a run is started that says the same to a process which passes it on."""
        return [
            *(["--log-format", self.format] if self.format == "json" else ()),
            *(["--log-level", self.level] if self.level else ()),
            *(["--access-log"] if self.access else ()),
        ]
