"""Leftovers: cameras that the broker still has, and that the config has no more. Pure.

No process outlives a run that could take its cameras back, so each source looks for those of earlier runs of the same
pipeline. The source of a camera that is online is alive, whatever our config says.
"""

from __future__ import annotations

from collections.abc import Collection

from pipeline.mqtt.entities import model_of, owner_of
from pipeline.mqtt.topics import OFFLINE, Publication, Topics

__all__ = ["Leftovers"]


class Leftovers:
    """What is left of cameras.

    Args:
        topics: of a camera of ours.
        cameras: those of the config.
        pipeline: its name.
    """

    def __init__(self, topics: Topics, cameras: Collection[str], pipeline: str) -> None:
        self._topics = topics
        self._cameras = cameras
        self._model = model_of(pipeline)
        self._gone: set[str] = set()
        self._offline: set[str] = set()

    def announced(self, camera: str, document: object) -> list[Publication]:
        """The broker has this announcement of a camera, from before our connection; what takes it back."""
        if camera not in self._cameras and owner_of(document) == self._model:
            self._gone.add(camera)
        return self._cleared(camera)

    def status(self, camera: str, payload: str) -> list[Publication]:
        """The source of a camera is there, or not; what takes the camera back."""
        (self._offline.add if payload == OFFLINE else self._offline.discard)(camera)
        return self._cleared(camera)

    def _cleared(self, camera: str) -> list[Publication]:
        if not (camera in self._gone and camera in self._offline):
            return []
        self._gone.discard(camera)
        return [Publication(topic, "") for topic in self._topics.other(camera).retained]
