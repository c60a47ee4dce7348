"""What a stage may leave out, and what holds if it does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from stages.declared import Attributes, Declaration, declared


class Bare:
    """A stage that leaves everything out."""


class Full:
    """A stage that says everything."""

    device = "cuda"
    concurrency = 3
    scales_with_cores = True
    ragged = True
    pad = {"W": 32}  # noqa: RUF012
    max_batch = 8
    notes = ("slow at first",)

    def setup(self, context: object) -> None: ...

    def teardown(self) -> None: ...

    def attach_memory(self, buffers: object) -> None: ...


def test_what_is_left_out_has_a_default() -> None:
    assert declared(Bare()) == Declaration()
    assert Declaration().attributes() == {
        "device": "cpu", "concurrency": 1, "scales_with_cores": False, "ragged": False, "pad": {}, "max_batch": None,
        "notes": (), "parted": False,
    }  # fmt: skip


def test_what_a_stage_says_is_taken() -> None:
    stage = Full()
    assert declared(stage) == Declaration(
        device="cuda", concurrency=3, scales_with_cores=True, ragged=True, pad={"W": 32}, max_batch=8,
        notes=("slow at first",), setup=stage.setup, teardown=stage.teardown, attach_memory=stage.attach_memory,
    )  # fmt: skip
    assert Attributes(**declared(stage).attributes()).max_batch == 8


@pytest.mark.parametrize(
    ("name", "value", "default"),
    [("max_batch", 0, None), ("max_batch", True, None), ("max_batch", "8", None), ("notes", "text", ()), ("notes", 7, ())],
)
def test_an_attribute_that_is_something_of_the_stages_own_counts_as_left_out(
    name: str, value: Any, default: Any
) -> None:
    stage = Bare()
    setattr(stage, name, value)
    assert getattr(declared(stage), name) == default


def test_notes_are_the_texts_among_them() -> None:
    stage = Bare()
    stage.notes = ["a", 7, "b"]  # type: ignore[attr-defined]
    assert declared(stage).notes == ("a", "b")


def test_a_stage_for_the_cpu_is_told_so_in_the_process_of_one_that_has_a_gpu() -> None:
    assert Declaration().device_of("cuda:1") == "cpu"
    assert Declaration(device="cuda").device_of("cuda:1") == "cuda:1"


def test_a_stage_whose_process_is_a_generator_gives_its_outputs_in_parts() -> None:
    class Whole:
        def process(self, batch: object) -> None: ...

    class Parted:
        def process(self, batch: object) -> Iterator[None]:
            yield

    assert (declared(Whole()).parted, declared(Parted()).parted) == (False, True)
