"""Environments: the folders of build/ in which peers run. `make` fills them; what cannot be filled is left out."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import distributions
from pathlib import Path

from bench.peers.catalogue import Peer

__all__ = ["interpreter_of", "prepare", "version_of"]

_ROOT = Path(__file__).resolve().parents[2]
_BUILD = _ROOT / "build"


def prepare(folder: str, command: Sequence[str] = ("make", "--no-print-directory")) -> str:
    """Have make fill a folder of build/, if it is not full.

    Returns:
        Why there is none, in one line; empty if there is one.
    """
    target = f"build/{folder}/.there"
    try:
        done = subprocess.run(
            [*command, target], cwd=_ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
    except OSError as error:
        return f"{target}: {error}"
    if done.returncode == 0:
        return ""
    said = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    # What make itself says last tells only that the command before has failed.
    told = [line for line in said if not line.startswith("make")] or said or [f"exit status {done.returncode}"]
    return f"`make {target}` failed: {told[-1]}"


def interpreter_of(peer: Peer) -> str:
    """The Python that runs its driver."""
    return str(_BUILD / peer.environment / "bin/python") if peer.environment else sys.executable


def version_of(peer: Peer) -> str:
    """The version of its package, where it is installed; empty if it has none."""
    folder = peer.server or peer.environment
    paths = [str(path) for path in (_BUILD / folder).glob("lib/python3.*/site-packages")] if folder else sys.path
    found = [each.version for each in distributions(name=peer.package, path=paths)] if peer.package else []
    return found[0] if found else ""
