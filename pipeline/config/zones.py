"""Zones: those of one camera in a config's text: what it says, and the same text with other ones. Pure.

    zones:
      porch: [[0.1, 0.5], [0.6, 0.5], [0.6, 1]]      # of the steps
      road: {polygon: [[0, 0.2], [1, 0.2], [1, 0.4]], labels: [car]}

Only what has changed is written, so comments and labels stay. A camera that has no zones of its own, and so those of
`default`, gets all of them. What the zones mean is checked by the stage itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from pipeline.config.document import parse_value
from pipeline.config.editing import edited, without
from pipeline.errors import ConfigError

__all__ = ["Corners", "said_of", "with_zones"]

Corners = Sequence[Sequence[float]]
"""[x, y] each, in fractions of the frame."""

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,39}")
#: Words that YAML takes for something else than text.
_WORDS = ("null", "true", "false")
_COMMENT = re.compile(r"#.*")
_MOST_ZONES, _MOST_CORNERS = 50, 100


def said_of(text: str, source: str, stage: str, camera: str) -> dict[str, Any]:
    """The zones of a camera as the text has them, its own or those of `default`: a list of corners or a mapping each.

    Raises:
        ConfigError: the text is no YAML, has no such stage, or a zone is none.
    """
    said = _said(text, source, stage, camera)[0]
    for name, zone in said.items():
        # A person may be in the middle of writing it.
        corners = zone.get("polygon") if isinstance(zone, dict) else zone
        if not isinstance(corners, list) or not all(_is_corner(corner) for corner in corners):
            raise ConfigError(f"{source}: expected corners [[x, y], ...] of the zone {name}, found {corners!r:.100}")
    return said


def with_zones(text: str, source: str, stage: str, camera: str, zones: Mapping[str, Corners]) -> str:
    """The text in which a camera has these zones, and no others.

    Args:
        source: what messages call the text.
        stage: the name of the stage that has them.

    Raises:
        ConfigError: a zone is none; or the zones cannot be written without losing comments.
    """
    _check(zones)
    said, own = _said(text, source, stage, camera)
    path = [stage, "with", "cameras", camera, "zones"]
    made = {name: _renewed(said.get(name), corners) for name, corners in zones.items()}
    if not own or not zones:
        return _kept(text, [f"{'.'.join(path)}={_flow(made)}"], source, removes=own)
    changed = [name for name in made if made[name] != said.get(name)]
    text = _kept(text, [_assignment([*path, name], said.get(name), made[name]) for name in changed], source)
    for name in said.keys() - made.keys():
        text = without(text, [*path, name], source)
    return text


def _said(text: str, source: str, stage: str, camera: str) -> tuple[dict[str, Any], bool]:
    """The zones, and whether they are the camera's own."""
    document = parse_value(text, source)[0]
    stages = document.get("stages") if isinstance(document, dict) else None
    listed = stages if isinstance(stages, list) else []
    found = [each for each in listed if isinstance(each, dict) and each.get("name") == stage]
    if not found:
        raise ConfigError(f"{source}: expected the stage {stage}, which has the zones; found none of that name")
    options = _mapping(found[0].get("with"))
    mine = _mapping(_mapping(options.get("cameras")).get(camera))
    if mine.get("zones") is not None:
        return _mapping(mine["zones"]), True
    return _mapping(_mapping(options.get("default")).get("zones")), False


def _is_corner(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(isinstance(each, (int, float)) for each in value)


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _renewed(said: Any, corners: Corners) -> Any:
    """A zone with other corners; what else is said of it stays."""
    plain = [[_number(value) for value in corner] for corner in corners]
    return {**said, "polygon": plain} if isinstance(said, dict) else plain


def _assignment(path: list[str], said: Any, made: Any) -> str:
    if isinstance(said, dict) and "polygon" in said:
        # What stands beside it has comments of its own.
        return f"{'.'.join([*path, 'polygon'])}={_flow(made['polygon'])}"
    return f"{'.'.join(path)}={_flow(made)}"


def _kept(text: str, assignments: list[str], source: str, *, removes: bool = False) -> str:
    made, kept = edited(text, assignments, source)
    # Of zones that are taken out the comments go with them.
    if not kept or (not removes and _comments(made) < _comments(text)):
        raise ConfigError(
            f"{source}: the zones cannot be written there without losing comments, since parts of the file are shared "
            f"or written in an unusual way; copy them by hand"
        )
    return made


def _comments(text: str) -> int:
    """How many there are: they stand between what the parser takes for something."""
    count = end = 0
    for token in yaml.scan(text, yaml.SafeLoader):
        count += len(_COMMENT.findall(text, end, token.start_mark.index))
        end = token.end_mark.index
    return count


def _check(zones: Mapping[str, Corners]) -> None:
    if len(zones) > _MOST_ZONES:
        raise ConfigError(f"zones: expected at most {_MOST_ZONES}, found {len(zones)}")
    for name, corners in zones.items():
        if not _NAME.fullmatch(name) or name.lower() in _WORDS:
            raise ConfigError(
                f"zones: expected names of a letter, then up to 39 of a-z, A-Z, 0-9, _ and -, and not {_WORDS}; found "
                f"{name[:60]!r}"
            )
        if not 3 <= len(corners) <= _MOST_CORNERS:
            raise ConfigError(f"zones.{name}: expected 3 to {_MOST_CORNERS} corners, found {len(corners)}")
        for corner in corners:
            if len(corner) != 2 or not all(0 <= value <= 1 for value in corner):
                raise ConfigError(f"zones.{name}: expected corners [x, y] from 0 to 1, found {list(corner)[:5]!r}")


def _number(value: float) -> float:
    """A thousandth of the frame is less than a pixel of what is shown."""
    rounded = round(float(value), 3)
    return int(rounded) if rounded == int(rounded) else rounded


def _flow(value: Any) -> str:
    """As YAML has it on one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {_flow(each)}" for name, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_flow, value)) + "]"
    if isinstance(value, str) and _NAME.fullmatch(value) and value.lower() not in _WORDS:
        return value
    return json.dumps(value)
