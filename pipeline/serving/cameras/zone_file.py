"""Zone file: the config of a pipeline, of which a person draws the zones anew.

What is written is tried first, in a file beside it: as `pipeline run` reads it, and by the stage that has the zones.
The text before is kept as NAME.yaml.1. All of it has the mode of the config, and comments stay
(`pipeline.config.zones`).
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from pipeline.config.loader import load_config
from pipeline.config.zones import Corners, with_zones
from pipeline.errors import ConfigError, KserveError
from stages.errors import BadOption, ModelError
from stages.video.track import Track

__all__ = ["read_config", "tag_of_text", "write_zones"]


def tag_of_text(text: str) -> str:
    """What tells whether a text is still the same."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def read_config(path: Path) -> str:
    """The text of a config.

    Raises:
        KserveError: it cannot be read, or may not be written.
    """
    try:
        if path.is_symlink():
            raise KserveError(f"{path.name} is a link: edit the file that it leads to by hand", "PERMISSION_DENIED")
        if not os.access(path, os.W_OK) or not os.access(path.parent, os.W_OK):
            raise KserveError(f"{path.name}, or its folder, may not be written to by the gateway", "PERMISSION_DENIED")
        # As it is: with the ends of lines that it has.
        return path.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        raise KserveError(f"{path.name} cannot be read: {_why(error)}", "PERMISSION_DENIED") from None


def write_zones(path: Path, stage: str, camera: str, zones: Mapping[str, Corners], tag: str) -> str:
    """Write the zones of a camera into a config; the name of the file that has the text before.

    Args:
        tag: of the text in which they were changed.

    Raises:
        KserveError: the config has changed since, would not be valid, would lose comments, or cannot be written.
    """
    try:
        with path.open("rb") as file:
            # Another gateway may do the same.
            fcntl.flock(file, fcntl.LOCK_EX)
            text = read_config(path)
            if tag_of_text(text) != tag:
                raise KserveError(f"{path.name} has been changed meanwhile: open the editor anew", "INVALID_ARGUMENT")
            made = _with_zones(text, path.name, stage, camera, zones)
            part = path.with_name(f".{path.stem}.part{path.suffix}")
            mode = os.fstat(file.fileno()).st_mode & 0o777
            try:
                _write(part, made, mode)
                _try(part, path.name, stage)
                before = path.with_name(f"{path.name}.1")
                kept = path.with_name(f".{path.stem}.before{path.suffix}")
                _write(kept, text, mode)
                kept.replace(before)
                part.replace(path)
            finally:
                part.unlink(missing_ok=True)
    except ConfigError as error:
        raise KserveError(str(error), "INVALID_ARGUMENT") from None
    except OSError as error:
        raise KserveError(f"{path.name} cannot be written: {_why(error)}", "PERMISSION_DENIED") from None
    return before.name


def _with_zones(text: str, name: str, stage: str, camera: str, zones: Mapping[str, Corners]) -> str:
    plain = text.replace("\r\n", "\n")
    if plain.replace("\n", "\r\n") != text:
        return with_zones(text, name, stage, camera, zones)
    # Of an editor of Windows, which every line that is written must fit.
    return with_zones(plain, name, stage, camera, zones).replace("\n", "\r\n")


def _write(path: Path, text: str, mode: int) -> None:
    with suppress(FileNotFoundError):
        path.unlink()
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        os.fchmod(fd, mode)
        file.write(text.encode())
        file.flush()
        os.fsync(fd)


def _try(part: Path, name: str, stage: str) -> None:
    """That the config can be run, and that the stage takes its zones: a rule may be about one that is gone.

    Raises:
        ConfigError: it cannot, or does not.
    """
    try:
        loaded = load_config(part, name="zones")
        (found,) = [each for each in loaded.config.stages if each.name == stage]
        Track(**{"base_dir": loaded.base_dir, **found.options})
    except (BadOption, ModelError, TypeError) as error:
        raise ConfigError(f"{name}: {stage}: {error}") from None
    except ConfigError as error:
        raise ConfigError(str(error).replace(str(part), name)) from None


def _why(error: OSError | UnicodeDecodeError) -> str:
    return (error.strerror if isinstance(error, OSError) else "") or type(error).__name__
