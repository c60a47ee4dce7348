"""Entities: how a camera is announced to Home Assistant: one device, and what belongs to it. Pure.

Documents are those of Home Assistant's MQTT discovery of devices (2024.11 and later):
https://www.home-assistant.io/integrations/mqtt/#mqtt-discovery. A component that is announced as its platform alone is
removed. Since Home Assistant may be away when that happens, such a remainder stays in the announcement.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from pipeline.mqtt.topics import OFF, OFFLINE, ON, ONLINE, Topics, unworded, worded
from pipeline.mqtt.watched import Place
from pipeline.wire.camera import STATES

__all__ = ["announcement", "event_type", "model_of", "owner_of", "places_in", "with_remainders"]

_COUNT, _THERE = "count", "there"
_REMAINDERS = 500
"""Components that were once announced, and are kept so that they are removed; of more, the eldest are forgotten."""

#: Key -> the fields of a sensor; what its template reads is the field of that name in the diagnostics.
_DIAGNOSTICS: dict[str, dict[str, Any]] = {
    "state": {"name": "State", "device_class": "enum", "options": list(STATES), "icon": "mdi:cctv"},
    "fps": {
        "name": "Frame rate", "unit_of_measurement": "fps", "state_class": "measurement", "icon": "mdi:speedometer",
    },
    "age_ms": {
        "name": "Frame age", "unit_of_measurement": "ms", "state_class": "measurement", "device_class": "duration",
    },
    "dropped": {"name": "Dropped frames", "state_class": "total_increasing", "icon": "mdi:debug-step-over"},
    "failed": {"name": "Failed frames", "state_class": "total_increasing", "icon": "mdi:alert-circle-outline"},
    "reconnects": {"name": "Reconnects", "state_class": "total_increasing", "icon": "mdi:connection"},
    "last_frame": {"name": "Last frame", "device_class": "timestamp"},
}  # fmt: skip


def announcement(
    topics: Topics, pipeline: str, version: str, places: Iterable[Place], rules: Iterable[str], *, snapshots: bool
) -> dict[str, Any]:
    """The document that announces a camera.

    Args:
        pipeline: its name.
        version: of this program.
        places: the things that are told of.
        rules: the kinds of events that there may be.
        snapshots: whether there are pictures.
    """
    components: dict[str, dict[str, Any]] = {}
    for place in places:
        there, count = _of_place(topics, place)
        components[_key(_THERE, place)], components[_key(_COUNT, place)] = there, count
    if components:
        components["events"] = {
            "platform": "event",
            "name": "Events",
            "state_topic": topics.events,
            # An empty text is no event: the best picture of a thing may change several times a second.
            "value_template": "{{ value if value_json.state != 'update' else '' }}",
            "event_types": [kind for rule in rules for kind in _event_types(rule)],
        }
    if components and snapshots:
        components["snapshot"] = {"platform": "camera", "name": "Best snapshot", "topic": topics.snapshot}
    source = {"availability": [{"topic": topics.status}]}
    for name, fields in _DIAGNOSTICS.items():
        components[name] = {
            "platform": "sensor",
            "state_topic": topics.diagnostics,
            "value_template": f"{{{{ value_json.{name} }}}}",
            "entity_category": "diagnostic",
            **fields,
            **source,
        }
    components["paused"] = {
        "platform": "switch",
        "name": "Paused",
        "state_topic": topics.paused,
        "command_topic": topics.pause,
        "payload_on": ON,
        "payload_off": OFF,
        "entity_category": "config",
        "icon": "mdi:pause",
        **source,
    }
    for key, component in components.items():
        component["unique_id"] = f"{topics.node}_{topics.camera}_{key}"
    return {
        "device": {
            "identifiers": [f"{topics.node}_{topics.camera}"],
            "name": topics.camera,
            "manufacturer": "trtlab",
            "model": model_of(pipeline),
        },
        "origin": {"name": "trtlab", "sw_version": version},
        # Of what is seen in the frames; what is about the source itself says its own.
        "availability": [{"topic": topics.status}, {"topic": topics.watching}],
        "availability_mode": "all",
        "payload_available": ONLINE,
        "payload_not_available": OFFLINE,
        "qos": 1,
        "components": components,
    }


def model_of(pipeline: str) -> str:
    """What the device's model is called, by which the announcement says whose camera it is."""
    return f"pipeline {pipeline}"


def owner_of(document: object) -> str:
    """The model in an announcement that a broker has kept; empty: it is none of ours."""
    device = document.get("device") if isinstance(document, dict) else None
    model = device.get("model") if isinstance(device, dict) else None
    return model if isinstance(model, str) else ""


def places_in(document: object) -> list[Place]:
    """The things in an announcement that a broker has kept."""
    places = []
    for key, component in _components_in(document).items():
        kind, *words = key.split(":")
        if kind == _COUNT and 1 <= len(words) <= 2 and len(component) > 1:
            *zone, label = map(unworded, words)
            places.append(Place("".join(zone), label))
    return places


def with_remainders(document: Mapping[str, Any], kept: object) -> dict[str, Any]:
    """An announcement with what removes the components that it has not, and that an earlier one had.

    Args:
        kept: the earlier one, as the broker has kept it.
    """
    components = document["components"]
    gone = {
        key: {"platform": component["platform"]}
        for key, component in _components_in(kept).items()
        if key not in components
    }
    last = dict(list(gone.items())[-_REMAINDERS:])
    return {**document, "components": {**components, **last}}


def event_type(state: str, rule: str) -> str:
    """What kind of event Home Assistant is told of."""
    return rule if state == "begin" or rule == "leave" else f"{rule}_{state}"


def _event_types(rule: str) -> list[str]:
    # `leave` is told once, at its end.
    return list(dict.fromkeys([event_type("begin", rule), event_type("end", rule)]))


def _components_in(document: object) -> dict[str, dict[str, Any]]:
    components = document.get("components") if isinstance(document, dict) else None
    return {
        key: component
        for key, component in (components.items() if isinstance(components, dict) else ())
        if isinstance(component, dict) and isinstance(component.get("platform"), str)
    }


def _key(kind: str, place: Place) -> str:
    return ":".join([kind, *([worded(place.zone)] if place.zone else []), worded(place.label)])


def _of_place(topics: Topics, place: Place) -> tuple[dict[str, Any], dict[str, Any]]:
    words = f"{place.zone} {place.label}".strip()
    name = f"{words[:1].upper()}{words[1:]}"
    # What the broker has kept may be of an earlier config, without this one.
    where = f"value_json.zones.get({_literal(place.zone)}, {{}})" if place.zone else "value_json.all"
    number = f"{where}.get({_literal(place.label)}, 0)"
    there = {
        "platform": "binary_sensor",
        "name": name,
        "device_class": "occupancy",
        "state_topic": topics.things,
        "value_template": f"{{{{ '{ON}' if {number} else '{OFF}' }}}}",
        "payload_on": ON,
        "payload_off": OFF,
    }
    count = {
        "platform": "sensor",
        "name": f"{name} count",
        "state_class": "measurement",
        "icon": "mdi:counter",
        "state_topic": topics.things,
        "value_template": f"{{{{ {number} }}}}",
    }
    return there, count


def _literal(text: str) -> str:
    """A text as one of a template, which knows the escapes of JSON. A brace might end the expression."""
    return json.dumps(text).replace("{", "\\u007b").replace("}", "\\u007d").replace("%", "\\u0025")
