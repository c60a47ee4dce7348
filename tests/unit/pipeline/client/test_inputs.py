"""A request's inputs by their names, by keyword and in a mapping."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from pipeline.errors import InvalidRequest
from pipeline.graph.plan import Plan
from tests.unit.pipeline.client.loopback import Client, Pipeline
from tests.unit.pipeline.scheduler.evaluation import expected_answer
from tests.unit.pipeline.scheduler.graphs import make_plan

X = bytes(range(1, 17))
Y = bytes(range(101, 117))


def renamed(**names: str) -> Plan:
    """A plan whose inputs have other names."""
    text = make_plan("early outputs", slots=8, credits=4).to_json()
    for name, other in names.items():
        text = text.replace(f'"{name}"', f'"{other}"')
    return msgspec.convert(json.loads(text), Plan)


def test_an_input_that_is_called_name_is_that_input(start: Callable[..., Pipeline], run_dir: Path) -> None:
    plan = renamed(x="name")
    start(plan)
    with Client.connect(run_dir) as client:
        with client.submit(name=X, y=Y).get(10) as result:
            assert result["z"].tobytes() == expected_answer(plan, {"name": X, "y": Y})["z"]
        with pytest.raises(InvalidRequest, match="expected the inputs name, y; found y"):
            client.submit(y=Y)


@pytest.mark.parametrize("name", ["priority", "deadline_ms", "timeout_s", "flush", "name", "inputs", "self", "not a word"])
def test_an_input_may_have_any_name_in_a_mapping(
    start: Callable[..., Pipeline], run_dir: Path, name: str
) -> None:
    plan = renamed(x=name)
    start(plan)
    expected = expected_answer(plan, {name: X, "y": Y})["z"]
    with Client.connect(run_dir) as client:
        with client.submit({name: X, "y": Y}, priority=3, timeout_s=10, name="cat.jpg").get(10) as result:
            assert result["z"].tobytes() == expected
        with client.submit({name: X}, y=Y).get(10) as result:
            assert result["z"].tobytes() == expected
        for draft in (
            client.draft({name: (16,), "y": (16,)}, timeout_s=10),
            client.draft_nowait({name: (16,), "y": (16,)}),
            client.draft({name: (16,)}, y=(16,)),
        ):
            assert draft is not None
            assert [*draft.inputs] == [name, "y"]
            draft.discard()


def test_the_mapping_may_be_given_by_keyword_unless_an_input_is_called_that(
    start: Callable[..., Pipeline], run_dir: Path
) -> None:
    plan = renamed()
    start(plan)
    with Client.connect(run_dir) as client:
        client.submit(inputs={"x": X, "y": Y}).get(10).release()
        client.draft(inputs={"x": (16,)}, y=(16,)).discard()
        with pytest.raises(InvalidRequest, match="two mappings of inputs were given, one of them by `inputs=`"):
            client.submit({"x": X}, inputs={"y": Y})
        with pytest.raises(InvalidRequest, match=r"inputs: expected a mapping such as \{'x': ...\}, found bytes"):
            client.submit(inputs=X, y=Y)
    start(renamed(x="inputs"), epoch=1)
    with Client.connect(run_dir) as client:
        client.submit(inputs=X, y=Y).get(10).release()


@pytest.mark.parametrize("call", ["submit", "draft", "draft_nowait"])
def test_an_input_that_is_given_both_ways_is_refused(client: Client, pipeline: Pipeline, call: str) -> None:
    with pytest.raises(InvalidRequest, match="input 'y' was given twice, in the mapping `inputs` and by keyword"):
        getattr(client, call)({"x": X, "y": Y}, y=Y)
    assert pipeline.in_use == [0] * len(pipeline.pools)


def test_a_name_that_is_no_text_is_an_unknown_input(client: Client) -> None:
    with pytest.raises(InvalidRequest, match="expected the inputs x, y; found 1"):
        client.submit({1: X})  # type: ignore[dict-item]


def test_an_unknown_input_is_named_before_its_value_is_looked_at(client: Client) -> None:
    with pytest.raises(InvalidRequest, match="expected the inputs x, y; found x, z"):
        client.submit({"x": X, "z": "no array"})
