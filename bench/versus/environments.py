"""Environments: where `make` puts the servers and clients that ours is held against. Each is a folder of build/."""

from __future__ import annotations

from pathlib import Path

__all__ = [
    "ANALYZER", "ENVOY", "FRIGATE", "HOME_ASSISTANT", "KSERVE", "KUBERNETES", "MLSERVER", "MOSEC", "MOSQUITTO",
    "TRITON", "TRITON_CLIENT",
    "MissingEnvironment", "UnreachableSource", "python_of", "required",
]  # fmt: skip

_BUILD = Path(__file__).resolve().parents[2] / "build"

TRITON = _BUILD / "triton"
TRITON_CLIENT = _BUILD / "tritonclient"
ANALYZER = _BUILD / "perf-analyzer"
MOSEC = _BUILD / "mosec"
MLSERVER = _BUILD / "mlserver"
KSERVE = _BUILD / "kserve"
FRIGATE = _BUILD / "frigate"
ENVOY = _BUILD / "envoy"
KUBERNETES = _BUILD / "kubernetes"
MOSQUITTO = _BUILD / "mosquitto"
HOME_ASSISTANT = _BUILD / "home-assistant"


class MissingEnvironment(RuntimeError):
    """An environment was not made."""


class UnreachableSource(MissingEnvironment):
    """It could not be made, since what it is made of is on a host that cannot be reached from here."""


def required(folder: Path) -> Path:
    """The folder.

    Raises:
        MissingEnvironment: `make` has not filled it, or not to its end.
    """
    if not (folder / ".there").exists():
        name = folder.relative_to(_BUILD.parent)
        if (folder / ".unreachable").exists():
            raise UnreachableSource(f"there is no {name}: what it is made of cannot be reached from this machine")
        raise MissingEnvironment(f"there is no {name}: `make {name}/.there` makes it, or says why it cannot")
    return folder


def python_of(folder: Path) -> str:
    """The interpreter of an environment. Raises as `required`."""
    return str(required(folder) / "bin/python")
