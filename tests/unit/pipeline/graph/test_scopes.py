"""Fan-out and join, inferred from what stages take and give; conditions; and what does not fit."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.config.loader import LoadedConfig
from pipeline.errors import ConfigError
from pipeline.graph.description import StageDescription
from pipeline.graph.plan import Edge, When
from pipeline.graph.wiring import Wiring, wire
from stages.spec import TensorSpec

Load = Callable[..., LoadedConfig]


def spec(text: str) -> TensorSpec:
    """`page`, `lines*30` (many, at most 30), `lines*30?` (optional)."""
    name, _, many = text.rstrip("?").partition("*")
    return TensorSpec(name, "uint8", (4,), many=int(many) if many else None, optional=text.endswith("?"))


def described(**texts: str) -> dict[str, StageDescription]:
    """`crop="page -> line*30, box*30"`."""
    found = {}
    for name, text in texts.items():
        inputs, _, outputs = text.partition("->")
        found[name] = StageDescription(
            tuple(spec(part.strip()) for part in inputs.split(",")),
            tuple(spec(part.strip()) for part in outputs.split(",")),
        )
    return found


def stages(**fields: str) -> str:
    return "".join(f"- {{name: {name}, use: m:C, {text}}}\n" for name, text in fields.items())


@pytest.fixture
def wired(load: Load) -> Callable[[str, dict[str, StageDescription]], Wiring]:
    return lambda text, descriptions: wire(load(text), descriptions)


@pytest.fixture
def complaints(load: Load, tmp_path: Path) -> Callable[[str, dict[str, StageDescription]], list[str]]:
    def complaints(text: str, descriptions: dict[str, StageDescription]) -> list[str]:
        loaded = load(text)
        with pytest.raises(ConfigError) as caught:
            wire(loaded, descriptions)
        return str(caught.value).replace(f"{tmp_path}/", "").splitlines()

    return complaints


OCR = {
    "crop": "inputs: [ingress.image]",
    "read": "inputs: [crop.line]",
    "join": "inputs: [read.text, crop.box]",
}
OCR_DESCRIBED = {"crop": "page -> line*30, box*30", "read": "line -> text", "join": "text*30, box*30 -> all"}


def test_who_takes_one_of_many_runs_for_each_child_and_who_takes_many_joins_them(wired: Callable[..., Wiring]) -> None:
    wiring = wired(stages(**OCR), described(**OCR_DESCRIBED))
    assert wiring.scopes == {"crop": (), "read": ("crop",), "join": ()}
    assert wiring.after["join"] == ("crop", "read")


def test_fan_outs_may_lie_within_each_other(wired: Callable[..., Wiring]) -> None:
    wiring = wired(
        stages(
            blocks="inputs: [ingress.image]",
            lines="inputs: [blocks.block]",
            read="inputs: [lines.line, blocks.block, ingress.image]",
            block="inputs: [read.text]",
            page="inputs: [block.text]",
        ),
        described(
            blocks="page -> block*5",
            lines="block -> line*9",
            read="line, block, page -> text",
            block="text*9 -> text",
            page="text*5 -> all",
        ),
    )
    assert wiring.scopes == {
        "blocks": (), "lines": ("blocks",), "read": ("blocks", "lines"), "block": ("blocks",), "page": ()
    }  # fmt: skip


def test_a_condition_is_an_output_and_its_stage_comes_before(wired: Callable[..., Wiring]) -> None:
    wiring = wired(
        stages(look="inputs: [ingress.image]", act="inputs: [ingress.image], when: not look.found", all="inputs: [act.y]"),
        described(look="x -> found", act="x -> y", all="y? -> z"),
    )
    assert wiring.when == {"act": When(Edge("look", "found"), negated=True)}
    assert wiring.after["act"] == ("look",)


def test_many_of_what_a_request_has_one_of_is_refused(complaints: Callable[..., list[str]]) -> None:
    assert complaints(
        stages(a="inputs: [ingress.image]", b="inputs: [a.y]"), described(a="x -> y", b="ys*3 -> z")
    ) == [
        "demo.yaml:4:32: stages[1].inputs[0]: b.ys takes many, and a request has one a.y: no stage before it fans out, "
        "by an output of many"
    ]  # fmt: skip


def test_an_answer_cannot_carry_what_children_made(complaints: Callable[..., list[str]]) -> None:
    found = complaints(stages(**{k: OCR[k] for k in ("crop", "read")}), described(crop="p -> line*30", read="line -> text"))
    assert found == [
        "demo.yaml:1:1: outputs: read.text is made once for each child of crop; an answer carries what a stage has joined, "
        "one that takes many; or answer_each_child: true sends the children one by one"
    ]


def test_children_of_two_stages_do_not_meet_before_they_are_joined(complaints: Callable[..., list[str]]) -> None:
    found = complaints(
        stages(a="inputs: [ingress.image]", b="inputs: [ingress.image]", c="inputs: [a.u, b.v]", d="inputs: [c.w]"),
        described(a="x -> u*3", b="x -> v*3", c="u, v -> w", d="w*3 -> z"),
    )
    assert "c would run once for each child of a (u) and of b (v); one of them must be joined first" in found[0]


def test_a_child_cannot_wait_for_what_joins_all_children(complaints: Callable[..., list[str]]) -> None:
    found = complaints(
        stages(
            crop="inputs: [ingress.image]",
            read="inputs: [crop.line]",
            best="inputs: [read.text]",
            again="inputs: [crop.line, best.one]",
            join="inputs: [again.text]",
        ),
        described(
            crop="p -> line*30", read="line -> text", best="text*30 -> one", again="line, one -> text",
            join="text*30 -> all",
        ),
    )  # fmt: skip
    assert "again runs for each child of crop and waits for best, which joins them (read)" in found[0]


def test_more_children_than_a_stage_takes_are_refused(complaints: Callable[..., list[str]]) -> None:
    found = complaints(stages(**OCR), described(**{**OCR_DESCRIBED, "join": "text*20, box*30 -> all"}))
    assert found[0].endswith("up to 30 of read.text; join takes 20")


def test_what_some_children_may_skip_must_be_taken_as_optional(complaints: Callable[..., list[str]]) -> None:
    found = complaints(
        stages(
            crop="inputs: [ingress.image]",
            look="inputs: [crop.line]",
            read="inputs: [crop.line], when: look.upright",
            join="inputs: [read.text]",
        ),
        described(crop="p -> line*30", look="line -> upright", read="line -> text", join="text*30 -> all"),
    )
    assert found[0].endswith("read may be skipped for some children; join.text must be optional")


@pytest.mark.parametrize(
    ("when", "complaint"),
    [
        ("ingress.image", "ingress.image is not made by a stage; a condition must be"),
        ("a.zz", "a has no output 'zz'"),
        ("a.many", "a.many is many tensors; a condition is one"),
    ],
)
def test_a_condition_that_no_stage_can_tell_is_refused(
    complaints: Callable[..., list[str]], when: str, complaint: str
) -> None:
    found = complaints(
        stages(a="inputs: [ingress.image]", b=f"inputs: [a.y], when: {when}"), described(a="x -> y, many*3", b="y -> z")
    )
    assert complaint in found[0]


EACH = "outputs: [read.text]\nanswer_each_child: true\n"


def test_each_child_may_be_answered_by_itself(wired: Callable[..., Wiring]) -> None:
    wiring = wired(
        stages(crop="inputs: [ingress.image]", read="inputs: [crop.line]") + EACH,
        described(crop="page -> line*30", read="line -> text"),
    )
    assert wiring.outputs == (("text", Edge("read", "text")),)


@pytest.mark.parametrize(
    ("outputs", "why"),
    [
        ("[read.text, crop.size]", r"outputs\[1\]: crop\.size is not made once for each child; answer_each_child takes outputs"),
        ("[crop.line]", r"outputs\[0\]: crop\.line is not made once for each child"),
        ("[ingress.image]", r"outputs\[0\]: ingress\.image is not made once for each child"),
        ("[read.text, letter.sign]", r"outputs\[1\]: letter\.sign is made for each child of read, within each of crop; join"),
        ("[read.text, other.w]", r"outputs\[1\]: other\.w is made for each child of split, and another output for each of crop"),
        ("[read.same]", r"outputs\[0\]: read\.same is crop\.line, passed on, and not made for each child"),
        ("{first: read.text, second: crop.size}", r"outputs\.second: crop\.size is not made once for each child"),
    ],
)
def test_only_what_stages_make_for_each_child_of_one_fan_out_is_answered_child_by_child(
    complaints: Callable[..., list[str]], outputs: str, why: str
) -> None:
    graph = stages(
        crop="inputs: [ingress.image]", read="inputs: [crop.line]", letter="inputs: [read.letters]",
        split="inputs: [ingress.image]", other="inputs: [split.v]",
    )  # fmt: skip
    texts = described(
        crop="page -> line*30, size", read="line -> text, letters*9, same", letter="sign -> sign",
        split="page -> v*3", other="v -> w",
    )  # fmt: skip
    *others, same = texts["read"].outputs
    texts["read"] = replace(texts["read"], outputs=(*others, replace(same, alias_of="line")))
    found = complaints(f"{graph}outputs: {outputs}\nanswer_each_child: true\n", texts)
    assert any(re.search(why, each) for each in found), found


def test_children_without_outputs_cannot_be_answered(complaints: Callable[..., list[str]]) -> None:
    texts = described(crop="page -> line*30", read="line -> text")
    texts["read"] = replace(texts["read"], outputs=())
    found = complaints(stages(crop="inputs: [ingress.image]", read="inputs: [crop.line]") + "answer_each_child: true\n", texts)
    assert found == ["demo.yaml:5:20: answer_each_child: there are no outputs; name tensors that each child has"]
