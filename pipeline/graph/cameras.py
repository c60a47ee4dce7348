"""Cameras: the cameras of a plan, checked against the pipeline's inputs. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.config.camera_urls import Kind, has_password, kind_of, user_of
from pipeline.config.findings import Findings, NodePath
from pipeline.config.sources import SourceConfig
from pipeline.graph.plan import CameraPlan
from stages.spec import TensorSpec

__all__ = ["FRAME", "cameras_of", "in_flight_of"]

FRAME = "one input of dtype uint8 and shape [height, width, 3], each a number or a free dimension: RGB"
"""What a pipeline takes that has cameras."""

_IN_FLIGHT, _IN_FLIGHT_OF_FILES = 2, 8


def cameras_of(
    sources: Sequence[SourceConfig], inputs: Sequence[TensorSpec], findings: Findings
) -> tuple[CameraPlan, ...]:
    """The cameras of a plan. What is wrong with them is among the findings, and holds no password."""
    if not sources:
        return ()
    if not _takes_frames(inputs):
        findings.add(("sources",), f"a pipeline with cameras takes {FRAME}; found {_shown(inputs)}", at_key=True)
        return ()
    cameras = []
    seen: dict[str, int] = {}
    for index, source in enumerate(sources):
        path: NodePath = ("sources", index)
        if source.name in seen:
            findings.add((*path, "name"), f"{source.name!r} is the name of sources[{seen[source.name]}] already")
        seen.setdefault(source.name, index)
        try:
            kind = kind_of(source.url)
        except ValueError as error:
            findings.add((*path, "url"), str(error))
            continue
        _check(source, kind, inputs[0], path, findings)
        cameras.append(_camera(source, kind))
    return tuple(cameras)


def _check(source: SourceConfig, kind: Kind | None, spec: TensorSpec, path: NodePath, findings: Findings) -> None:
    """Find fields that contradict each other.

    Args:
        kind: None: it is not known before the source starts.
        spec: of the pipeline's input.
    """
    if has_password(source.url):
        why = "write ${NAME}, without a default, and set that environment variable, or name a password_file"
        findings.add((*path, "url"), f"a password in it: {why}")
    if source.password_file is not None and not user_of(source.url):
        findings.add((*path, "password_file"), "expected a user in url, such as rtsp://admin@10.0.0.7/live")
    if source.size is not None and not any(isinstance(extent, str) for extent in spec.shape[:2]):
        findings.add((*path, "size"), f"the input's shape {list(spec.shape)} says it already: leave it out")
    if source.drop == "never" and kind is not None and not kind.waits:
        findings.add((*path, "drop"), f"{kind.value} does not wait: expected oldest, found never")
    if source.loop and kind not in (Kind.FILE, None):
        findings.add((*path, "loop"), "only a file can begin again: leave it out")


def _camera(source: SourceConfig, kind: Kind | None) -> CameraPlan:
    never = source.drop == "never" or (source.drop is None and kind is Kind.FILE)
    return CameraPlan(
        name=source.name,
        url=source.url,
        password_file=source.password_file or "",
        fps=source.fps or 0.0,
        size=source.size or (),
        drop="never" if never else "oldest",
        in_flight=source.in_flight or (_IN_FLIGHT_OF_FILES if never else _IN_FLIGHT),
        loop=source.loop,
        transport=source.transport,
        decoder=source.decoder,
        decode=source.decode,
        timeout_s=source.timeout_s,
    )


def in_flight_of(cameras: Sequence[CameraPlan]) -> int:
    """Frames of all cameras that may be inside at one time: with a slot for each, no camera waits for another one's."""
    return sum(camera.in_flight for camera in cameras)


def _takes_frames(inputs: Sequence[TensorSpec]) -> bool:
    if len(inputs) != 1:
        return False
    (spec,) = inputs
    return spec.dtype == "uint8" and len(spec.shape) == 3 and spec.shape[2] == 3


def _shown(inputs: Sequence[TensorSpec]) -> str:
    return ", ".join(f"{spec.name} {spec.dtype} {list(spec.shape)}" for spec in inputs)
