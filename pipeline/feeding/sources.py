"""Sources: from files and stdin to requests.

    the pipeline's inputs        a request is
    one run of bytes             a file as it lies on disk; all of stdin
    one picture, uint8 [H, W, 3] a picture (JPEG, PNG, ...), decoded to RGB; or as anything else
    one JSON document            a .json file; a line of a .jsonl or .ndjson file or of stdin; a line of a .txt
                                 file, which is the JSON string of that text
    anything else                a .npy file (one input) or a .npz file (by name); JSON as above, with the
                                 inputs by name: {"x": [[1, 2], [3, 4]]}
"""

from __future__ import annotations

import json
import os
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InvalidRequest
from pipeline.feeding.arrays import arrays_of_json, is_array_file, read_arrays
from pipeline.feeding.lines import StdinReader, lines_of
from pipeline.feeding.paths import STDIN
from pipeline.feeding.record import shown
from shm.handle import JSON
from stages.errors import BadInput
from stages.spec import TensorSpec

__all__ = ["Intake", "Source", "Sources", "open_file"]

_LINES, _TEXT = (".jsonl", ".ndjson"), (".txt",)
#: A JSON document has more characters than its array has bytes: at most so many for each byte.
_JSON_PER_BYTE, _JSON_MORE = 32, 1 << 16
#: A picture's file has at most twice as many bytes as its input, and these, for what describes it.
_PICTURE_MORE = 1 << 20
_MOST_PIXELS = 50_000_000
"""Larger pictures are not decoded: `stages.image` has the same limit."""


@dataclass(slots=True)
class Source:
    """The source of one request."""

    name: str
    """The name of its record: the path of its file, with the line's number if each line is a request."""
    path: str = ""
    """The file that is read when the request is sent; empty if `data` has everything."""
    data: bytes = b""
    """The content of a line or of stdin."""
    failure: str = ""
    """The reason if there is nothing to send."""


def open_file(path: str | os.PathLike[str]) -> tuple[int, int]:
    """A descriptor to read a regular file from, and its size in bytes; the caller closes it.

    Raises:
        InvalidRequest: it is not a regular file but a folder, a FIFO or a device.
        OSError: it cannot be opened.
    """
    # O_NONBLOCK: a FIFO among the files must not block the run.
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        os.close(fd)
        raise InvalidRequest("expected a file" + (", found a folder" if stat.S_ISDIR(status.st_mode) else ""))
    return fd, status.st_size


class Intake:
    """The files that a pipeline with these inputs takes, and how they become arrays.

    Args:
        config: what messages call the YAML file of the pipeline.
        text: lines of stdin are texts, not JSON.
    """

    def __init__(self, inputs: Sequence[TensorSpec], *, config: str = "the config", text: bool = False) -> None:
        self._inputs = inputs
        self.config = config
        #: Whether lines of stdin are texts.
        self.text = text
        first = inputs[0]
        free = first.dtype == "uint8" and len(first.shape) == 1 and not first.is_static
        #: The one input that takes a file as it lies on disk; None if there is none.
        self.bytes_of = first if len(inputs) == 1 and free else None
        self._takes_document = len(inputs) == 1 and first.dtype == JSON
        channels = first.shape[2:] == (3,)
        #: The one input that takes the pixels of a picture; None if there is none.
        self._pixels_of = first if len(inputs) == 1 and first.dtype == "uint8" and channels else None
        # The limit for a line; if a value is too long, its input says so.
        self.most_bytes = (
            first.max_nbytes
            if self.bytes_of is not None or self._takes_document
            else sum(spec.max_nbytes for spec in inputs) * _JSON_PER_BYTE + _JSON_MORE
        )

    def describe(self) -> str:
        """The accepted files, for a message."""
        if self.bytes_of is not None:
            return f"any file of at most {self.most_bytes} bytes"
        if self._takes_document:
            of = f"for {self._inputs[0]}"
            return f"a .json file, a .jsonl file of one request a line, or a .txt file of one text a line, {of}"
        array = ".npy or .npz file" if len(self._inputs) == 1 else ".npz file"
        picture = "a picture, or " if self._pixels_of is not None else ""
        return f"{picture}a {array} with {', '.join(map(str, self._inputs))}, or JSON with these names (.json, .jsonl)"

    def is_lines(self, path: str) -> bool:
        """Whether each line of that file is a request."""
        if self.bytes_of is not None:
            return False
        return path.lower().endswith(_LINES + _TEXT if self._takes_document else _LINES)

    def of_line(self, name: str, number: int, line: bytes | None, *, text: bool) -> Source | None:
        """The request of a line; None if it has none, such as an empty line between documents.

        Args:
            number: the line's number, from 1 on.
            line: without its end; None: it was too long.
        """
        label = f"{name}:{number}"
        if line is None:
            return Source(label, failure=f"the line has more than {self.most_bytes} bytes")
        if text:
            try:
                return Source(label, data=json.dumps(line.decode("utf-8"), ensure_ascii=False).encode())
            except UnicodeDecodeError as error:
                return Source(label, failure=f"expected UTF-8, found the byte 0x{line[error.start]:02x}")
        return Source(label, data=line) if line.strip() else None

    def of_file(self, path: str) -> Iterator[Source]:
        """The request, or the requests, of a file."""
        name = shown(path)
        if not self.is_lines(path):
            yield Source(name, path=path)
            return
        text = path.lower().endswith(_TEXT)
        try:
            fd, _ = open_file(path)
            with open(fd, "rb") as stream:
                for number, line in enumerate(lines_of(stream, self.most_bytes), 1):
                    if (source := self.of_line(name, number, line, text=text)) is not None:
                        yield source
        except InvalidRequest as error:
            yield Source(name, failure=str(error))
        except OSError as error:
            yield Source(name, failure=f"cannot be read: {error.strerror or error}")

    def load(self, source: Source) -> dict[str, NDArray[Any]]:
        """The arrays of one request. Not for the input `bytes_of`: its file is read straight into the slot.

        Raises:
            InvalidRequest: the source does not contain the pipeline's inputs.
            OSError: it cannot be read.
        """
        if not source.path:
            if self.bytes_of is not None:
                return {self.bytes_of.name: np.frombuffer(source.data, np.uint8)}
            return arrays_of_json(source.data, self._inputs)
        fd, size = open_file(source.path)
        with open(fd, "rb") as stream:
            start = stream.read(8)
            stream.seek(0)
            if is_array_file(start):
                return read_arrays(stream, self._inputs)
            if source.path.lower().endswith(".json") or (source.path.lower().endswith(_LINES + _TEXT)):
                if size > self.most_bytes + _JSON_MORE:
                    raise InvalidRequest(f"the file has {size} bytes, expected at most {self.most_bytes}")
                return arrays_of_json(stream.read(), self._inputs)
            if self._pixels_of is not None:
                return {self._pixels_of.name: _pixels(stream, size, self._pixels_of)}
        raise InvalidRequest(f"expected {self.describe()}; this is neither")


def _pixels(stream: IO[bytes], size: int, spec: TensorSpec) -> NDArray[Any]:
    """The pixels of a picture, RGB.

    Raises:
        InvalidRequest: it is no picture, or not of the input's height and width.
        OSError: it cannot be read.
    """
    # Not loaded unless pictures are decoded here.
    from stages.picture import as_shown, decoded

    most = spec.max_nbytes
    # Any format that is decoded needs fewer bytes than twice its pixels, but for a file of little else than notes.
    if size > 2 * most + _PICTURE_MORE:
        raise InvalidRequest(f"the file has {size} bytes, more than a picture in {spec.describe()}")
    try:
        file = np.frombuffer(stream.read(2 * most + _PICTURE_MORE), np.uint8)
        pixels = np.asarray(decoded(file, _MOST_PIXELS, lambda picture: as_shown(picture, "RGB")))
    except BadInput as error:
        raise InvalidRequest(f"input {spec.name!r}: {error}") from None
    if (why := spec.misfit("uint8", pixels.shape)) is not None:
        raise InvalidRequest(f"input {spec.name!r}: {why}")
    return pixels


class Sources:
    """The requests of a run, one after the other.

    Args:
        files: paths, and `-` for stdin.
        stdin: the reader for `-`.
        limit: requests at most; None: all.
        done: how often an earlier run has answered each name; as many are left out here.
    """

    def __init__(
        self,
        intake: Intake,
        files: Sequence[str],
        *,
        stdin: int | None = None,
        limit: int | None = None,
        done: Counter[str] | None = None,
    ) -> None:
        self._intake = intake
        self._files = files
        self._stdin = stdin
        self._limit = limit
        self._given = Counter(done or ())
        #: How many of those have not been left out yet.
        self._done = self._given.copy()
        self._wait_s = 0.0
        self._rest = self._walk()
        #: Requests that have been taken.
        self.taken = 0
        #: Requests that were left out because they are done.
        self.skipped = 0
        #: Whether there are no more requests.
        self.exhausted = False

    @property
    def total(self) -> int | None:
        """The number of requests, without those that are done; None if it is not known beforehand."""
        if any(name == STDIN or self._intake.is_lines(name) for name in self._files):
            return None
        done = sum((Counter(map(shown, self._files)) & self._given).values()) if self._given else 0
        left = len(self._files) - done
        return left if self._limit is None else min(left, self._limit)

    def take(self, wait_s: float = 0.0) -> Source | None:
        """The next request; None if there is none, or none yet: see `exhausted`.

        Args:
            wait_s: seconds to wait for a request from stdin.
        """
        if self.exhausted or self.taken == self._limit:
            self.exhausted = True
            return None
        self._wait_s = wait_s
        for source in self._rest:
            if source is None:
                return None
            if self._done[source.name] > 0:
                self._done[source.name] -= 1
                self.skipped += 1
                continue
            self.taken += 1
            return source
        self.exhausted = True
        return None

    def _walk(self) -> Iterator[Source | None]:
        for path in self._files:
            if path != STDIN:
                yield from self._intake.of_file(path)
            elif self._stdin is None:
                yield Source(STDIN, failure="stdin is closed")
            else:
                yield from self._of_stdin(self._stdin)

    def _of_stdin(self, fd: int) -> Iterator[Source | None]:
        """The request, or the requests, from stdin; None whenever there is none yet."""
        whole = self._intake.bytes_of is not None
        most = self._intake.most_bytes
        reader = StdinReader(fd, most, whole=whole)
        number = 0
        while True:
            try:
                item = reader.take(self._wait_s)
            except TimeoutError:
                yield None
                continue
            except EOFError:
                return
            except OSError as error:
                yield Source(STDIN, failure=f"cannot be read: {error.strerror or error}")
                continue
            number += 1
            if not whole:
                source = self._intake.of_line(STDIN, number, item, text=self._intake.text)
                if source is not None:
                    yield source
            elif item is None:
                yield Source(STDIN, failure=f"expected at most {most} bytes on stdin, found more")
            else:
                yield Source(STDIN, data=item)
