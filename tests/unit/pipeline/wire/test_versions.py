from __future__ import annotations

import json

import pytest

from pipeline.wire.versions import OldWelcome, body_of, reason_of


@pytest.mark.parametrize(("client", "scheduler", "older"), [(4, 6, "client"), (7, 6, "pipeline")])
def test_the_reason_names_both_versions_and_the_side_to_upgrade(client: int, scheduler: int, older: str) -> None:
    why = reason_of(client, scheduler)
    assert f"the client speaks protocol {client}, the pipeline speaks protocol {scheduler}" in why
    assert f"upgrade the {older}" in why


def test_an_old_client_raises_the_reason_when_it_reads_its_welcome() -> None:
    # As `Plan.from_json` of versions 4 and 5 read it: everything that it asks for before the outputs is there.
    _, _, _, plan, _ = body_of(OldWelcome(5, "the reason"))
    raw = json.loads(plan)
    assert {"name", "config_path", "base_dir"} <= raw.keys()
    assert raw["inputs"] == raw["stages"] == []

    def edge(producer: str, tensor: str) -> None: ...

    with pytest.raises(TypeError, match="the reason"):
        [edge(**one) for _, one in raw["outputs"]]
