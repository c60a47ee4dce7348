"""Output: the files into which `--output` puts the answers.

    FILE       one JSON object a request, a line each, in the order of the inputs
    FOLDER/    the same in index.jsonl; the arrays of each request beside it in a .npz file, pictures in .png files.
               bfloat16 is there as numpy writes it, two bytes without a name; elements of bytes as `shm.elements` has
               them, which `Elements(array, shape).decode()` reads
    -          as FILE, to stdout

A line is in the file whole or not at all, even if the disk is full, or if the run is killed and goes on
later with `--append`.
"""

from __future__ import annotations

import fcntl
import os
import re
import select
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from pipeline.errors import ConfigError
from pipeline.feeding.earlier import Earlier, read_earlier, refuse_foreign
from pipeline.feeding.paths import STDOUT
from pipeline.feeding.pictures import suffix_of, write_picture
from pipeline.feeding.record import Record
from pipeline.feeding.values import json_text, json_value
from shm.elements import Elements
from shm.handle import BYTES

__all__ = [
    "FileOutput",
    "FolderOutput",
    "NoOutput",
    "Output",
    "OutputBroken",
    "open_output",
    "refuse_output",
]

_INDEX = "index.jsonl"
_BUFFER = 1 << 16
#: Characters of a name that go into the names of its files: with number and suffix, short enough for any file system.
_LONGEST_STEM = 60
_PART = ".part"


class OutputBroken(Exception):
    """The output cannot be written; the run is over."""


class Output(Protocol):
    """Takes each answer twice: its arrays as soon as it comes, its record when all earlier ones are written."""

    def take(self, number: int, name: str, outputs: Mapping[str, Any]) -> tuple[bytes, dict[str, Counter[str]]]:
        """The outputs as a JSON object, and for each output which numbers became null. No array is kept.

        Args:
            number: of the request in this run, from 1 on.
            name: of the record.

        Raises:
            OutputBroken: the output cannot be written.
            Exception: this answer cannot be written as JSON or as a picture.
        """

    def add(self, record: Record) -> None:
        """Write the next record."""

    def flush(self) -> None:
        """Write everything that was held back."""

    def close(self) -> None:
        """The end."""


class NoOutput:
    """The output without `--output`: an answer is a line for a person."""

    def take(self, number: int, name: str, outputs: Mapping[str, Any]) -> tuple[bytes, dict[str, Counter[str]]]:
        return b"", {}

    def add(self, record: Record) -> None:
        pass

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass


class FileOutput:
    """Records into a file.

    Args:
        fd: open for writing, at its end; closed with this.
        name: its name in messages.
        keep: whether it stays open at the end, as stdout does.
    """

    def __init__(self, fd: int, name: str, *, keep: bool = False) -> None:
        self._fd = fd
        self._name = name
        self._keep = keep
        self._buffer = bytearray()
        #: Records that are written completely.
        self.written = 0

    def take(self, number: int, name: str, outputs: Mapping[str, Any]) -> tuple[bytes, dict[str, Counter[str]]]:
        parts: dict[str, bytes] = {}
        lost: dict[str, Counter[str]] = {}
        for key, value in outputs.items():
            counts: Counter[str] = Counter()
            parts[key] = json_text(value, counts)
            if counts.total():
                lost[key] = +counts
        return _object_of(parts), lost

    def add(self, record: Record) -> None:
        self._buffer += record.to_json()
        self._buffer += b"\n"
        if len(self._buffer) >= _BUFFER:
            self.flush()

    def flush(self) -> None:
        memory = memoryview(bytes(self._buffer))
        done = 0
        try:
            while done < len(memory):
                try:
                    done += os.write(self._fd, memory[done:])
                except BlockingIOError:
                    select.select([], [self._fd], [])
        except OSError as error:
            whole = bytes(memory[:done]).rfind(b"\n") + 1
            self._buffer.clear()
            self.written += bytes(memory[:whole]).count(b"\n")
            with suppress(OSError):  # a pipe cannot be truncated
                os.ftruncate(self._fd, os.lseek(self._fd, 0, os.SEEK_CUR) - (done - whole))
            if isinstance(error, BrokenPipeError):
                raise
            hint = f"; the {self.written} lines of this run are whole, and --append goes on behind them"
            raise OutputBroken(f"--output {self._name}: {error.strerror}{'' if self._keep else hint}") from error
        self.written += self._buffer.count(b"\n")
        self._buffer.clear()

    def close(self) -> None:
        try:
            self.flush()
        finally:
            if not self._keep:
                os.close(self._fd)


class FolderOutput:
    """Records into the index of a folder, and each request's arrays into files beside it.

    Args:
        folder: exists already.
        index: receives the records.
        pictures: outputs that become .png files.
    """

    def __init__(self, folder: Path, index: FileOutput, pictures: Sequence[str]) -> None:
        self._folder = folder
        self._index = index
        self._pictures = frozenset(pictures)
        numbers = [int(found[1]) for name in os.listdir(folder) if (found := re.match(r"(\d{6,})-", name))]
        #: The numbers go on after those of an earlier run, so its files keep their names.
        self._before = max(numbers, default=0)

    def take(self, number: int, name: str, outputs: Mapping[str, Any]) -> tuple[bytes, dict[str, Counter[str]]]:
        stem = re.sub(r"[^\w.-]+", "_", os.path.splitext(os.path.basename(name))[0], flags=re.ASCII)
        start = f"{self._before + number:06}-{stem[:_LONGEST_STEM]}"
        parts: dict[str, bytes] = {}
        lost: dict[str, Counter[str]] = {}
        arrays: dict[str, NDArray[Any]] = {}
        for key, value in outputs.items():
            if not isinstance(value, np.ndarray):
                counts: Counter[str] = Counter()
                parts[key] = json_value(value, counts)
                if counts:
                    lost[key] = counts
                continue
            file = f"{start}.npz"
            if key in self._pictures:
                file = f"{start}.{re.sub(r'[^A-Za-z0-9_-]+', '_', key)[:_LONGEST_STEM]}{suffix_of(value)}"
                with self._made(file) as stream:
                    write_picture(stream, key, value)
            else:
                # No file of arrays holds objects without pickling them, so elements are there as in a slot: uint8.
                arrays[key] = Elements.of(value).raw if value.dtype.hasobject else value
            dtype = BYTES if value.dtype.hasobject else value.dtype.name
            entry = {"file": file, "dtype": dtype, "shape": list(value.shape)}
            parts[key] = json_value(entry, Counter())
        if arrays:
            with self._made(f"{start}.npz") as stream:
                _write_arrays(stream, arrays)
        return _object_of(parts), lost

    @contextmanager
    def _made(self, name: str) -> Iterator[IO[bytes]]:
        """Write a file that appears whole, or not at all."""
        part = self._folder / f"{name}{_PART}"
        try:
            try:
                with open(part, "wb") as stream:
                    yield stream
                os.replace(part, self._folder / name)
            except BaseException:
                with suppress(OSError):
                    os.unlink(part)
                raise
        except OSError as error:
            raise OutputBroken(f"--output {self._folder / name}: {error.strerror or error}") from error

    def add(self, record: Record) -> None:
        self._index.add(record)

    def flush(self) -> None:
        self._index.flush()

    def close(self) -> None:
        self._index.close()


def _object_of(parts: Mapping[str, bytes]) -> bytes:
    return b"{" + b", ".join([json_value(name, Counter()) + b": " + text for name, text in parts.items()]) + b"}"


def _write_arrays(stream: IO[bytes], arrays: Mapping[str, NDArray[Any]]) -> None:
    # Not numpy.savez, which does not allow an output called `file`.
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                npy.write_array(member, array, allow_pickle=False)


# -- opening ----------------------------------------------------------------------------------------


def _is_folder(target: str) -> bool:
    return target.endswith("/") or os.path.isdir(target)


def refuse_output(target: str, *, overwrite: bool, append: bool) -> None:
    """Before anything starts, refuse an `--output` that would overwrite records or that cannot be made.

    Raises:
        ConfigError: with the option that allows it.
    """
    if overwrite and append:
        raise ConfigError("--overwrite and --append contradict each other: leave one of them out")
    if target == STDOUT:
        if overwrite or append:
            raise ConfigError("--output - is stdout, which can neither be overwritten nor appended to")
        return
    path = Path(target)
    if not path.absolute().parent.is_dir():
        raise ConfigError(f"--output {target}: the folder {path.absolute().parent} does not exist")
    if _is_folder(target) and path.exists() and not path.is_dir():
        raise ConfigError(f"--output {target}: expected a folder, found a file")
    file = path / _INDEX if _is_folder(target) else path
    try:
        # An empty file has nothing to lose; a device or a pipe keeps nothing.
        if not file.is_file() or not file.stat().st_size:
            return
        if append:
            refuse_foreign(file)
        elif not overwrite:
            raise ConfigError(
                f"--output {target}: {file} exists; --append goes on behind what it holds, running only what is not "
                "answered there, and --overwrite replaces it"
            )
    except OSError as error:
        raise ConfigError(f"--output {target}: {file} cannot be read: {error.strerror}") from None


def open_output(
    target: str | None, *, append: bool = False, pictures: Sequence[str] = ()
) -> tuple[Output, Counter[str]]:
    """The output for the answers, and the inputs that it has answers of already.

    Args:
        target: the value of `--output`; `refuse_output` has checked it.
        append: keep what is there. Otherwise it is replaced: a folder loses the files that its index names.

    Raises:
        OSError: it cannot be opened.
    """
    if target is None:
        return NoOutput(), Counter()
    if target == STDOUT:
        return FileOutput(1, STDOUT, keep=True), Counter()
    path = Path(target)
    if not _is_folder(target):
        index, done = _open_file(path, append)
        return index, done
    path.mkdir(exist_ok=True)
    if not append:
        _remove_files_of(path)
    index, done = _open_file(path / _INDEX, append)
    return FolderOutput(path, index, pictures), done


def _open_file(path: Path, append: bool) -> tuple[FileOutput, Counter[str]]:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OutputBroken(f"{path}: another run writes to it; wait for that one, or choose another file") from None
        except OSError:
            pass  # a file system or a device without locks
        earlier = read_earlier(path) if append and path.is_file() else Earlier()
        with suppress(OSError):  # a pipe has no length and no position
            os.ftruncate(fd, earlier.whole_bytes)
            os.lseek(fd, 0, os.SEEK_END)
    except BaseException:
        os.close(fd)
        raise
    return FileOutput(fd, str(path)), earlier.done


def _remove_files_of(folder: Path) -> None:
    """Remove the files that an earlier run's index names in this folder, and no others."""
    with suppress(FileNotFoundError):
        for name in _files_named(folder / _INDEX):
            with suppress(FileNotFoundError):
                os.unlink(folder / name)


def _files_named(index: Path) -> Iterator[str]:
    pattern = re.compile(rb'"file": "(\d{6,}-[^"/\\]*\.(?:npz|png|jpg|gif|bmp|tif|webp|bin))"')
    with open(index, "rb") as file:
        for line in file:
            yield from {match.decode() for match in pattern.findall(line)}
