"""Capsule: the exact inputs of a request that killed its workers, and what is needed to run it again.

    <folder>/<UTC time>-<stage>.cap     a zip file
        capsule.json                    the stage, its options and folder, how it died, versions
        inputs/<n>.npy                  each tensor as it lay in its slot; the document has dtype and shape of those
                                        that no .npy file names: bfloat16, and elements of bytes

The supervisor, which has the segments mapped and delays no request, writes it; `pipeline replay` reads it. Only the
user may read folder and files: requests can be private.
"""

from __future__ import annotations

import io
import json
import os
import platform
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ConfigError
from pipeline.graph.plan import Plan
from pipeline.wire.flattening import parts
from pipeline.wire.messages import MISSING, Keep
from shm.elements import Elements
from shm.errors import MalformedElements, ShmError
from shm.handle import BFLOAT16, BYTES, TensorHandle, numpy_dtype
from shm.segment import Segment
from shm.view import SegmentTable
from stages.request import RequestInfo

__all__ = ["Capsule", "keep_capsule", "read_capsule", "write_capsule"]

_FORMAT = 2
_VERSIONS = ("trtlab", "numpy", "onnxruntime", "pillow", "tensorrt")


@dataclass(frozen=True, slots=True)
class Capsule:
    """What a capsule holds."""

    pipeline: str
    stage: str
    use: str
    options: Mapping[str, Any]
    base_dir: str
    how: str
    """How its worker died."""
    request: str
    """The label of the request (see `stages.request`)."""
    time: str
    versions: Mapping[str, str]
    threads: int
    inputs: Mapping[str, NDArray[Any] | list[NDArray[Any] | None] | None]
    """By name; a list if the stage takes many, None in place of what a skipped stage would have made. Elements of bytes
    are an array of objects."""
    rows: int = 1
    """How many rows the inputs have, one after the other, since it is not known which one has killed; 1: they have no
    axis of rows. Of a request of several rows usually the one row that has killed is kept."""


def keep_capsule(plan: Plan, keep: Keep, segments: Sequence[Segment], log: Callable[[str, str], None]) -> str:
    """Write a capsule, and tell people where it is, or why it is not; its path, empty if none was written.

    Args:
        plan: see `write_capsule`, as for `keep` and `segments`.
        log: (level, text) -> for people.
    """
    path, request = "", RequestInfo.parse(keep.label)
    try:
        path = write_capsule(plan, keep, segments)
    except (OSError, ShmError) as error:
        log("warning", f"the capsule of request {request} could not be written: {error}")
    if path:
        killed = f"request {request} killed its workers in stage {plan.stages[keep.stage].name}"
        log("error", f"{killed}; kept in {path}: pipeline replay {path}")
    return path


def write_capsule(plan: Plan, keep: Keep, segments: Sequence[Segment]) -> str:
    """Write the capsule of one request; its path, or "" if the plan wants none or it is too large.

    Raises:
        OSError: the folder or the file cannot be written.
        HandleRefused: a handle does not name bytes of these segments.
    """
    limits = plan.capsules
    if not limits.max_count or sum(h.nbytes for h in keep.inputs if not isinstance(h, int)) > limits.max_bytes:
        return ""
    stage = plan.stages[keep.stage]
    now = datetime.now(timezone.utc)
    document = {
        "format": _FORMAT,
        "pipeline": plan.name,
        "config": plan.config_path,
        "stage": stage.name,
        "use": stage.use,
        "options": dict(stage.options),
        "base_dir": plan.base_dir,
        "threads": stage.workers[0].threads,
        "how": keep.how,
        "request": keep.label,
        "rows": keep.rows,
        "time": now.isoformat(timespec="milliseconds"),
        "versions": {"python": platform.python_version(), **_versions()},
        "inputs": _entries([spec.name for spec in stage.inputs], keep),
    }
    folder = Path(limits.folder)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / f"{now:%Y%m%dT%H%M%S.%f}-{stage.name}.cap"
    unfinished = path.with_suffix(".part")
    with (
        open(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file,
        zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive,
    ):
        archive.writestr("capsule.json", json.dumps(document, indent=1))
        for number, array in enumerate(_arrays(keep.inputs, segments)):
            if array is None:
                continue
            with archive.open(f"inputs/{number}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
    os.replace(unfinished, path)
    for old in sorted(folder.glob("*.cap"))[: -limits.max_count]:
        old.unlink(missing_ok=True)
    return str(path)


def _entries(names: Sequence[str], keep: Keep) -> list[dict[str, Any]]:
    """For each input: its name, whether it is of many, the numbers of its files, and what each file does not say of its
    tensor; null if it is missing."""
    entries: list[dict[str, Any]] = []
    numbered = [None if isinstance(handle, int) else at for at, handle in enumerate(keep.inputs)]
    for name, (files, many) in zip(names, parts(numbered, keep.lengths)):
        entries.append({"name": name, "many": many, "files": files, "forms": [_form(keep.inputs, at) for at in files]})
    return entries


def _arrays(
    handles: Sequence[TensorHandle | int], segments: Sequence[Segment]
) -> list[NDArray[Any] | None]:
    # A table of its own, never closed: closing it would close the supervisor's segments.
    table = SegmentTable()
    for segment in segments:
        table.add(segment)
    return [None if isinstance(handle, int) else table.view(handle) for handle in handles]


def _form(inputs: Sequence[TensorHandle | int], number: int | None) -> list[Any] | None:
    """Dtype and shape of a tensor whose file does not have them; else null."""
    handle = MISSING if number is None else inputs[number]
    if isinstance(handle, int) or handle.dtype not in (BFLOAT16, BYTES):
        return None
    return [handle.dtype, list(handle.shape[:-1] if handle.dtype == BYTES else handle.shape)]


def _array(archive: zipfile.ZipFile, number: int, form: list[Any] | None) -> NDArray[Any]:
    array: NDArray[Any] = np.load(io.BytesIO(archive.read(f"inputs/{number}.npy")), allow_pickle=False)
    if form is None:
        return array
    dtype, shape = form
    return Elements(array, tuple(shape)).decode() if dtype == BYTES else array.view(numpy_dtype(dtype))


def _versions() -> dict[str, str]:
    found = {}
    for name in _VERSIONS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def read_capsule(path: Path) -> Capsule:
    """Read a capsule back. Nothing in it is unpickled or run.

    Raises:
        ConfigError: the file is not there, or is not a capsule of this version.
    """
    expected = "expected a capsule, a .cap file that a run has written for a request that killed its workers"
    try:
        with zipfile.ZipFile(path) as archive:
            raw = json.loads(archive.read("capsule.json"))
            if raw["format"] != _FORMAT:
                raise ConfigError(
                    f"{path}: expected a capsule of format {_FORMAT}, found format {raw['format']}: replay it with the "
                    f"version of trtlab that wrote it, {raw['versions'].get('trtlab', 'which it does not name')}"
                )
            inputs = {}
            for entry in raw["inputs"]:
                files = entry["files"]
                forms = entry.get("forms", [None] * len(files))
                arrays = [None if at is None else _array(archive, at, form) for at, form in zip(files, forms)]
                inputs[entry["name"]] = arrays if entry["many"] else arrays[0]
            return Capsule(
                raw["pipeline"],
                raw["stage"],
                raw["use"],
                raw["options"],
                raw["base_dir"],
                raw["how"],
                raw.get("request", ""),
                raw["time"],
                raw["versions"],
                raw["threads"],
                inputs,
                raw.get("rows", 1),
            )
    except OSError as error:
        raise ConfigError(f"{path}: {expected}; it cannot be read: {error.strerror or error}") from None
    except (zipfile.BadZipFile, KeyError, ValueError, TypeError, AttributeError, MalformedElements) as error:
        raise ConfigError(f"{path}: {expected}; found {_found(path, error)}") from None


def _found(path: Path, error: Exception) -> str:
    """What kind of file this is instead of a capsule."""
    if path.stat().st_size == 0:
        return "an empty file"
    if not zipfile.is_zipfile(path):
        return "another kind of file, or one that was cut off"
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    if "capsule.json" not in names:
        return f"a zip file without capsule.json; it has {', '.join(names[:3]) or 'nothing'}"
    return f"a damaged one: {type(error).__name__}: {error}"
