"""Where outputs lie in a slot."""

from __future__ import annotations

from pipeline.graph.slots import fields_of, slot_bytes
from stages.spec import TensorSpec


def test_fields_begin_at_multiples_of_64_and_aliases_take_no_room() -> None:
    specs = [
        TensorSpec("a", "uint8", (65,)),
        TensorSpec("b", "uint8", (9,), alias_of="x"),
        TensorSpec("c", "float32", (1,)),
        TensorSpec("d", "float32", ("N",), {"N": 100}),
    ]
    fields = fields_of(specs)
    assert [(field.spec.name, field.offset) for field in fields] == [("a", 0), ("c", 128), ("d", 192)]
    assert slot_bytes(fields) == 192 + 448
    assert slot_bytes(fields_of([TensorSpec("empty", "uint8", (0,))])) == 64
