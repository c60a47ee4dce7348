"""Home Assistant's core with its MQTT integration, as a process: run by its own interpreter (build/home-assistant).

    python home.py FOLDER PORT

Each line of its stdin is a question, each line of its stdout the answer, as JSON:

    states              entity id -> {"state", "unit", "class", "category", "device"}; entities of MQTT alone
    picture ENTITY      the first bytes of a camera's picture, and how many there are
    call ENTITY NAME    call a service of the entity, such as turn_on
    had ENTITY          the states that the entity has had; of an event entity, the types of its events
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from pathlib import Path
from typing import Any


async def main(folder: str, port: int) -> None:
    from homeassistant import bootstrap, loader
    from homeassistant.auth import auth_manager_from_config
    from homeassistant.components.camera import async_get_image
    from homeassistant.config_entries import ConfigEntries
    from homeassistant.core import Event, HomeAssistant
    from homeassistant.helpers import device_registry, entity_registry
    from homeassistant.setup import async_setup_component

    Path(folder, "configuration.yaml").touch()
    hass = HomeAssistant(folder)
    hass.config.skip_pip = True
    loader.async_setup(hass)
    hass.config_entries = ConfigEntries(hass, {})
    await bootstrap.async_load_base_functionality(hass)
    hass.auth = await auth_manager_from_config(hass, [], [])
    had: dict[str, list[str]] = {}

    def changed(event: Event[Any]) -> None:
        if (state := event.data["new_state"]) is not None:
            had.setdefault(state.entity_id, []).append(state.attributes.get("event_type") or state.state)

    hass.bus.async_listen("state_changed", changed)
    # As a person who adds the integration and names the broker.
    assert await async_setup_component(hass, "homeassistant", {})
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        http = {"server_host": "127.0.0.1", "server_port": free.getsockname()[1]}
    assert await async_setup_component(hass, "http", {"http": http})
    await hass.async_start()
    made = await hass.config_entries.flow.async_init("mqtt", context={"source": "user"})
    made = await hass.config_entries.flow.async_configure(made["flow_id"], {"broker": "127.0.0.1", "port": port})
    assert made["type"] == "create_entry", made

    def states() -> dict[str, Any]:
        entities, devices = entity_registry.async_get(hass), device_registry.async_get(hass)
        found = {}
        for entity in entities.entities.values():
            state, device = hass.states.get(entity.entity_id), devices.async_get(entity.device_id or "")
            if entity.platform == "mqtt":
                found[entity.entity_id] = {
                    "state": None if state is None else state.state,
                    "class": entity.original_device_class,
                    "category": entity.entity_category,
                    "device": device and f"{device.name} by {device.manufacturer}, {device.model}",
                }
        return found

    async def answer(question: list[str]) -> Any:
        match question:
            case ["states"]:
                return states()
            case ["had", entity]:
                return had.get(entity, [])
            case ["picture", entity]:
                image = await async_get_image(hass, entity)
                return [image.content[:3].hex(), len(image.content)]
            case ["call", entity, name]:
                await hass.services.async_call(entity.partition(".")[0], name, {"entity_id": entity}, blocking=True)
                return None
        return f"no such question: {question}"

    while line := await asyncio.to_thread(sys.stdin.readline):
        print(json.dumps(await answer(line.split()), default=str), flush=True)
    await hass.async_stop(force=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
