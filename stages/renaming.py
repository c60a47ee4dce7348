"""Renaming: other names in the graph for a model's tensors, of stages that run models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from stages.errors import BadOption
from stages.spec import TensorSpec

__all__ = ["renamed"]


def renamed(
    option: str, specs: tuple[TensorSpec, ...], names: Mapping[str, str]
) -> tuple[tuple[TensorSpec, ...], dict[str, str]]:
    """The specs under their names in the graph, and the way back to the model's names.

    Args:
        option: of the stage, for the message.
        specs: under the model's names.
        names: {name in the graph: name in the model}; what is not among them keeps its name.

    Raises:
        BadOption: the model has no such tensor, or one gets two names.
    """
    own = [spec.name for spec in specs]
    if not isinstance(names, Mapping):
        raise BadOption(f"{option} {names!r}: expected {{name in the graph: name in the model}}")
    for wanted in names.values():
        if wanted not in own:
            raise BadOption(f"{option}: the model has no {wanted!r}; it has {', '.join(own)}")
        if list(names.values()).count(wanted) > 1:
            raise BadOption(f"{option}: {wanted!r} is given two names; it can have one")
    back = {wanted: name for name, wanted in names.items()}
    renamed = tuple(replace(spec, name=back.get(spec.name, spec.name)) for spec in specs)
    return renamed, {new.name: old.name for new, old in zip(renamed, specs)}
