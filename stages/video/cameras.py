"""Cameras: what the YAML says of each camera for `stages.video.track`, as plain values. Pure.

    zones: {porch: [[0.1, 0.5], [0.6, 0.5], [0.6, 1], [0.1, 1]]}     or {porch: {polygon: [...], labels: [person]}}
    masks: [[[0, 0], [1, 0], [1, 0.1], [0, 0.1]]]
    labels: [person, car]
    rules:
      - {rule: enter, zone: porch}
      - {rule: leave, zone: porch, labels: [person]}
      - {rule: loiter, zone: porch, seconds: 20}
      - {rule: count, zone: porch, over: 3}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from stages.errors import BadOption
from stages.hints import did_you_mean
from stages.video.geometry import Polygon
from stages.video.options import known_keys, mapping_of, number, polygon_of, polygons_of, texts_of
from stages.video.zones import Zone

__all__ = ["Camera", "Rule", "camera_of"]

FIELDS = ("zones", "masks", "labels", "rules")
"""What can be said of a camera."""

_RULES: dict[str, tuple[str, ...]] = {"enter": (), "leave": (), "loiter": ("seconds",), "count": ("over",)}
"""Rule -> what it needs beside the zone."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What makes an event, beside the life of a thing."""

    kind: Literal["enter", "leave", "loiter", "count"]
    zone: str = ""
    """Its name; empty: the whole picture."""
    labels: frozenset[str] | None = None
    """Kinds of things that count; None: all."""
    seconds: float = 0.0
    """Of loiter."""
    over: int = 0
    """Of count."""

    def concerns(self, label: str) -> bool:
        """Whether things of that kind count."""
        return self.labels is None or label in self.labels


@dataclass(frozen=True, slots=True)
class Camera:
    """What counts in the frames of one camera."""

    zones: tuple[Zone, ...] = ()
    masks: tuple[Polygon, ...] = ()
    """A thing whose foot is in one of them does not count."""
    labels: frozenset[str] | None = None
    """Kinds of things that count; None: all."""
    rules: tuple[Rule, ...] = ()


def camera_of(where: str, value: Any, kinds: Sequence[str], base: Camera = Camera()) -> Camera:
    """What is said of one camera; what is not said is that of `base`.

    Args:
        where: what messages call it.
        value: a mapping as in the YAML.
        kinds: the labels that there are.

    Raises:
        BadOption: something of it makes no sense.
    """
    given = mapping_of(where, value)
    known_keys(where, given, FIELDS)
    zones = base.zones
    if "zones" in given:
        found = mapping_of(f"{where}.zones", given["zones"])
        zones = tuple(_zone(f"{where}.zones.{name}", name, zone, kinds) for name, zone in found.items())
    masks = polygons_of(f"{where}.masks", given["masks"]) if "masks" in given else base.masks
    labels = _labels(f"{where}.labels", given["labels"], kinds) if "labels" in given else base.labels
    rules = _rules(f"{where}.rules", given["rules"], kinds) if "rules" in given else base.rules
    for rule in rules:
        # Also those of `base`, of which a camera may not have the zone.
        _check_zone(f"{where}.rules", rule.zone, zones)
    return Camera(zones, masks, labels, rules)


def _zone(where: str, name: str, value: Any, kinds: Sequence[str]) -> Zone:
    if not isinstance(value, Mapping):
        return Zone(name, polygon_of(where, value))
    known_keys(where, value, ("polygon", "labels"))
    labels = _labels(f"{where}.labels", value["labels"], kinds) if "labels" in value else None
    return Zone(name, polygon_of(f"{where}.polygon", value.get("polygon")), labels)


def _rules(where: str, value: Any, kinds: Sequence[str]) -> tuple[Rule, ...]:
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise BadOption(f"{where}: expected a list of rules, found {value!r}")
    return tuple(_rule(f"{where}[{index}]", rule, kinds) for index, rule in enumerate(value))


def _rule(where: str, value: Any, kinds: Sequence[str]) -> Rule:
    given = mapping_of(where, value)
    kind: Any = given.get("rule")
    if kind not in _RULES:
        raise BadOption(f"{where}: expected rule: one of {', '.join(_RULES)}, found {kind!r}")
    known_keys(where, given, ("rule", "zone", "labels", *_RULES[kind]))
    for needed in _RULES[kind]:
        if needed not in given:
            raise BadOption(f"{where}: rule {kind} needs {needed}")
    zone = given.get("zone", "")
    if not isinstance(zone, str):
        raise BadOption(f"{where}: expected the name of a zone, found {zone!r}")
    labels = _labels(f"{where}.labels", given["labels"], kinds) if "labels" in given else None
    seconds = number(f"{where}.seconds", given["seconds"], at_least=0) if "seconds" in given else 0.0
    over = number(f"{where}.over", given["over"], at_least=0) if "over" in given else 0.0
    if over != int(over):
        raise BadOption(f"{where}.over: expected a whole number, found {over:g}")
    return Rule(kind, zone, labels, seconds, int(over))


def _check_zone(where: str, zone: str, zones: Sequence[Zone]) -> None:
    names = [one.name for one in zones]
    if zone and zone not in names:
        raise BadOption(f"{where}: no zone {zone!r}{did_you_mean(zone, names)}")


def _labels(where: str, value: Any, kinds: Sequence[str]) -> frozenset[str]:
    labels = texts_of(where, value)
    for label in labels:
        if label not in kinds:
            raise BadOption(f"{where}: no label {label!r}{did_you_mean(label, kinds, most=20)}")
    return frozenset(labels)
