"""How a camera is announced."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pipeline.mqtt.entities import announcement, event_type, owner_of, places_in, with_remainders
from pipeline.mqtt.topics import Topics
from pipeline.mqtt.watched import Place
from pipeline.wire.camera import STATES

DOOR = Topics("trtlab", "homeassistant", "door")
PLACES = [Place("", "person"), Place("front porch", "traffic light")]


def announced(*places: Place, rules: tuple[str, ...] = ("object", "leave"), snapshots: bool = True) -> dict[str, Any]:
    return announcement(DOOR, "edge", "1.0", places, rules, snapshots=snapshots)


def test_each_component_has_a_platform_and_an_id_of_its_own() -> None:
    components = announced(*PLACES)["components"]
    assert all(component["platform"] for component in components.values())
    assert len({component["unique_id"] for component in components.values()}) == len(components) == 4 + 2 + 7 + 1
    assert components["there:front.porch:traffic.light"]["name"] == "Front porch traffic light"
    assert components["there:person"]["device_class"] == "occupancy"
    assert components["events"]["event_types"] == ["object", "object_end", "leave"]
    assert components["state"]["options"] == list(STATES)


def test_what_is_seen_needs_both_the_source_and_the_camera_and_diagnostics_only_the_source() -> None:
    document = announced(*PLACES)
    assert [each["topic"] for each in document["availability"]] == ["trtlab/door/status", "trtlab/door/watching"]
    assert document["availability_mode"] == "all"
    for name, component in document["components"].items():
        own = component.get("availability")
        about = component.get("entity_category") in ("diagnostic", "config")
        assert own == ([{"topic": "trtlab/door/status"}] if about else None), name


def test_without_things_there_is_nothing_to_see_and_without_snapshots_no_camera() -> None:
    assert {component["platform"] for component in announced()["components"].values()} == {"sensor", "switch"}
    assert "snapshot" not in announced(*PLACES, snapshots=False)["components"]


@pytest.mark.parametrize("name", ['a"b', "}} {{ x", "%} {% raw", "\\", "ä"])
def test_a_label_cannot_leave_its_template(name: str) -> None:
    template = announced(Place(name, name))["components"]
    (count,) = [one["value_template"] for key, one in template.items() if key.startswith("count:") and key.count(":") == 2]
    inner = count.removeprefix("{{ ").removesuffix(" }}")
    assert not any(mark in inner.replace("{})", "") for mark in ("{{", "}}", "{%", "%}"))
    head, zone, label = inner.split("get(")
    assert json.loads(zone.partition(", {})")[0]) == json.loads(label.removesuffix(", 0)")) == name
    assert head == "value_json.zones."


def test_places_are_found_in_what_the_broker_has_kept() -> None:
    document = json.loads(json.dumps(announced(*PLACES)))
    assert places_in(document) == PLACES
    assert owner_of(document) == "pipeline edge"


@pytest.mark.parametrize(
    "kept", [None, 3, [], {}, {"components": 3, "device": 3}, {"components": {"x": 3}, "device": {"model": 3}}]
)
def test_what_the_broker_has_kept_may_be_anything(kept: object) -> None:
    assert places_in(kept) == []
    assert owner_of(kept) == ""
    document = announced(*PLACES)
    assert with_remainders(document, kept) == document


def test_what_is_gone_stays_as_its_platform_alone_and_is_no_place_any_more() -> None:
    first = announced(*PLACES)
    second = with_remainders(announced(PLACES[0], snapshots=False), first)
    gone = {key: one for key, one in second["components"].items() if len(one) == 1}
    assert gone == {
        "there:front.porch:traffic.light": {"platform": "binary_sensor"},
        "count:front.porch:traffic.light": {"platform": "sensor"},
        "snapshot": {"platform": "camera"},
    }
    assert places_in(second) == PLACES[:1]
    # Also over a third one; and what comes back is whole.
    third = with_remainders(announced(PLACES[0], snapshots=False), second)
    assert third == second
    assert with_remainders(announced(*PLACES), third) == first


def test_remainders_are_bounded_and_the_eldest_go() -> None:
    kept = {"components": {f"old:{number}": {"platform": "sensor"} for number in range(600)}}
    components = with_remainders(announced(*PLACES), kept)["components"]
    assert len(components) == len(announced(*PLACES)["components"]) + 500
    assert "old:599" in components
    assert "old:99" not in components


def test_an_event_is_told_by_its_rule_when_it_begins() -> None:
    assert [event_type(state, "enter") for state in ("begin", "update", "end")] == ["enter", "enter_update", "enter_end"]
    assert event_type("end", "leave") == "leave"
