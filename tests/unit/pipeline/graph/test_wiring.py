"""Which tensor goes where: defaults, names, order, aliases, and what does not fit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.config.loader import LoadedConfig
from pipeline.errors import ConfigError
from pipeline.graph.plan import Edge
from pipeline.graph.wiring import wire

Load = Callable[..., LoadedConfig]
Described = Callable[..., Any]

I4 = "image uint8 4"


def edges(*texts: str) -> tuple[Edge, ...]:
    return tuple(Edge(*text.split(".")) for text in texts)


@pytest.fixture
def complaints(load: Load, described: Described, tmp_path: Path) -> Callable[..., list[str]]:
    def complaints(stages: str, **texts: str) -> list[str]:
        loaded = load(stages)
        with pytest.raises(ConfigError) as caught:
            wire(loaded, described(**texts))
        return str(caught.value).replace(f"{tmp_path}/", "").splitlines()

    return complaints


def test_a_chain_needs_no_words(load: Load, described: Described) -> None:
    loaded = load("- {name: a, use: m:C}\n- {name: b, use: m:C}\n- {name: c, use: m:C}\n")
    wiring = wire(loaded, described(a=f"{I4} -> p uint8 2, q int8 3", b="q int8 3 -> r int8 1", c="other int8 1 -> s int8 1, t int8 2"))
    assert wiring.order == ("a", "b", "c")
    assert wiring.edges == {"a": edges("ingress.image"), "b": edges("a.q"), "c": edges("b.r")}
    assert wiring.after == {"a": (), "b": ("a",), "c": ("b",)}
    assert wiring.outputs == (("s", Edge("c", "s")), ("t", Edge("c", "t")))


def test_a_diamond_may_be_listed_backwards(load: Load, described: Described) -> None:
    loaded = load(
        "- {name: join, use: m:C, inputs: {x: left.y, y: right.y}}\n"
        "- {name: right, use: m:C, inputs: [top.y], after: [left]}\n"
        "- {name: left, use: m:C, inputs: [top.y]}\n"
        "- {name: top, use: m:C, inputs: [ingress.image]}\n"
        "outputs: {best: join.z, half: left.y, sent: ingress.size}\n"
    )
    wiring = wire(
        loaded,
        described(join="y int8 1, x uint8 1 -> z int8 1", left="y int8 3 -> y uint8 1", right="y int8 3 -> y int8 1", top=f"{I4} -> y int8 3"),
    )
    assert wiring.order == ("top", "left", "right", "join")
    assert wiring.edges["join"] == edges("right.y", "left.y")
    assert wiring.after["join"] == ("left", "right")
    assert wiring.after["right"] == ("top", "left")
    assert dict(wiring.outputs) == {"best": Edge("join", "z"), "half": Edge("left", "y"), "sent": Edge("ingress", "size")}


def test_an_alias_leads_to_who_wrote_the_bytes_and_keeps_the_order(load: Load, described: Described) -> None:
    loaded = load("- {name: a, use: m:C}\n- {name: b, use: m:C}\n- {name: c, use: m:C}\n- {name: d, use: m:C}\n")
    wiring = wire(
        loaded,
        described(
            a=f"{I4} -> p uint8 2",
            b="p uint8 2 -> same uint8 2 = p, more int8 1",
            c="same uint8 2, more int8 1 -> again uint8 2 = same",
            d="again uint8 2 -> last uint8 2 = again",
        ),
    )
    assert wiring.edges["c"] == edges("a.p", "b.more")
    assert wiring.edges["d"] == edges("a.p")
    assert wiring.after == {"a": (), "b": ("a",), "c": ("a", "b"), "d": ("a", "c")}
    assert wiring.outputs == (("last", Edge("a", "p")),)


def test_an_alias_of_an_input_leads_to_the_ingress(load: Load, described: Described) -> None:
    wiring = wire(load("- {name: a, use: m:C}\n- {name: b, use: m:C}\n"), described(a=f"{I4} -> image uint8 4 = image", b=f"{I4} -> y int8 1"))
    assert wiring.edges["b"] == edges("ingress.image")
    assert wiring.after["b"] == ("a",)


def test_the_last_stage_may_have_no_outputs(load: Load, described: Described) -> None:
    wiring = wire(load("- {name: a, use: m:C}\n- {name: save, use: m:C}\n"), described(a=f"{I4} -> y int8 1", save="y int8 1 ->"))
    assert (wiring.order, wiring.outputs) == (("a", "save"), ())


def test_what_must_only_come_before_is_needed_too(load: Load, described: Described) -> None:
    loaded = load("- {name: log, use: m:C, inputs: [ingress.size]}\n- {name: a, use: m:C, inputs: [ingress.image], after: [log]}\n")
    assert wire(loaded, described(log="size int32 2 ->", a=f"{I4} -> y int8 1")).after["a"] == ("log",)


@pytest.mark.parametrize(
    ("inputs", "complaint"),
    [
        ("[to.y]", "demo.yaml:4:35: stages[1].inputs[0]: there is no stage 'to' (did you mean top?)"),
        ("[nothing.y]", "demo.yaml:4:35: stages[1].inputs[0]: there is no stage 'nothing'; there is ingress, next, top"),
        ("[top.pixel]", "demo.yaml:4:35: stages[1].inputs[0]: top has no output 'pixel' (did you mean pixels?)"),
        ("[ingress.imag]", "demo.yaml:4:35: stages[1].inputs[0]: ingress has no input 'imag' (did you mean image?)"),
        ("[]", "demo.yaml:4:34: stages[1].inputs: m:C takes 1 input (data), found 0"),
        ("[top.pixels, top.pixels]", "demo.yaml:4:34: stages[1].inputs: m:C takes 1 input (data), found 2"),
        ("{dta: top.pixels, data: top.pixels}", "demo.yaml:4:35: stages[1].inputs.dta: m:C has no input 'dta' (did you mean data?)"),
        ("{}", "demo.yaml:4:34: stages[1].inputs: m:C takes 1 input (data); nothing is said about data"),
        ("[ingress.image]", "demo.yaml:4:35: stages[1].inputs[0]: ingress.image does not fit next.data: dtype uint8 into float32"),
        ("{data: ingress.image}", "demo.yaml:4:41: stages[1].inputs.data: ingress.image does not fit next.data: dtype uint8 into float32"),
        ("[next.y]", "demo.yaml:4:34: stages[1].inputs: the stages wait for each other: next -> next"),
    ],
)  # fmt: skip
def test_an_edge_that_leads_nowhere_is_named(complaints: Callable[..., list[str]], inputs: str, complaint: str) -> None:
    found = complaints(
        f"- {{name: top, use: m:C}}\n- {{name: next, use: m:C, inputs: {inputs}}}\noutputs: [next.y, top.pixels]\n",
        top=f"{I4} -> pixels float32 2 2",
        next="data float32 2 2 -> y float32 1",
    )
    assert found == [complaint]


def test_a_default_that_cannot_be_guessed_asks_for_words(complaints: Callable[..., list[str]]) -> None:
    found = complaints(
        "- {name: a, use: m:C}\n- {name: b, use: m:C}\n", a=f"{I4} -> p int8 1, q int8 1", b="q int8 1, r int8 1 -> y int8 1"
    )
    assert found == [
        "demo.yaml:4:3: stages[1].inputs: m:C takes 2 inputs (q, r), and a gives p, q; "
        "say where each comes from, such as inputs: {q: ingress.image}"
    ]


def test_shapes_are_compared_and_both_ends_named(complaints: Callable[..., list[str]]) -> None:
    found = complaints("- {name: a, use: m:C}\n- {name: b, use: m:C}\n", a=f"{I4} -> p int8 3 5", b="p int8 3 4 -> y int8 1")
    assert found == ["demo.yaml:4:3: stages[1].inputs: a.p does not fit b.p: axis 1: 5 of [3, 5] into 4 of [3, 4]"]


def test_a_misfit_behind_an_alias_names_the_way(complaints: Callable[..., list[str]]) -> None:
    found = complaints(
        "- {name: a, use: m:C}\n- {name: b, use: m:C}\n- {name: c, use: m:C}\n",
        a=f"{I4} -> p int8 3", b="p int8 3 -> q int8 3 = p", c="q int8 4 -> y int8 1",
    )  # fmt: skip
    assert found == ["demo.yaml:5:3: stages[2].inputs: a.p (through b.q) does not fit c.q: axis 0: 3 of [3] into 4 of [4]"]


def test_a_cycle_is_named_in_the_direction_of_the_data(complaints: Callable[..., list[str]]) -> None:
    texts = dict.fromkeys(("a", "b", "c"), "x int8 1 -> x int8 1") | {"d": "x int8 1 -> x int8 1"}
    found = complaints(
        "- {name: d, use: m:C, inputs: [c.x]}\n- {name: a, use: m:C, inputs: [c.x]}\n"
        "- {name: b, use: m:C, inputs: [a.x]}\n- {name: c, use: m:C, inputs: [b.x]}\n",
        **texts,
    )
    assert found == ["demo.yaml:6:31: stages[3].inputs: the stages wait for each other: c -> a -> b -> c"]


def test_an_unknown_stage_to_wait_for_is_named(complaints: Callable[..., list[str]]) -> None:
    found = complaints("- {name: first, use: m:C, after: [fist]}\n", first=f"{I4} -> y int8 1")
    assert found == ["demo.yaml:3:35: stages[0].after[0]: there is no stage 'fist' (did you mean first?)"]


def test_a_stage_that_adds_nothing_is_refused(complaints: Callable[..., list[str]]) -> None:
    found = complaints(
        "- {name: a, use: m:C}\n- {name: idle, use: m:C}\n- {name: b, use: m:C, inputs: [a.y]}\n",
        a=f"{I4} -> y int8 1", idle="y int8 1 -> z int8 1", b="y int8 1 -> w int8 1",
    )  # fmt: skip
    assert found == ["demo.yaml:4:3: stages[1]: no output needs the stage idle; name one of its tensors in outputs:, or remove it"]


def test_two_outputs_of_one_name_are_refused(complaints: Callable[..., list[str]]) -> None:
    found = complaints(
        "- {name: a, use: m:C}\n- {name: b, use: m:C}\noutputs: [a.y, b.y, b.z]\n", a=f"{I4} -> y int8 1", b="y int8 1 -> y int8 1"
    )
    assert found == [
        "demo.yaml:5:16: outputs[1]: 'y' names a.y already; give them names, such as outputs: {y: a.y, y2: b.y}",
        "demo.yaml:5:21: outputs[2]: b has no output 'z'; there is y",
    ]
