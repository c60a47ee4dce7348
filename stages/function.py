"""FunctionStage: a plain function of arrays as a stage, for the glue between two models.

Made by `stages.loading` where `use:` names a function. The specs, which a class would declare, stand in the YAML.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from stages.errors import BadOption
from stages.spec import TensorSpec
from stages.stage import Batch

__all__ = ["FunctionStage"]


class FunctionStage:
    """Calls a function once for each request.

        use: ./glue.py:invert              def invert(image, strength=1.0):
        with:                                  return 255 - image
          inputs:  [{name: image, dtype: uint8, shape: [224, 224, 3]}]
          outputs: [{name: image, dtype: uint8, shape: [224, 224, 3]}]
          strength: 0.5

    The function gets each input as an argument of that name: a read-only array, or the value of a "json"
    input. It returns the output; a mapping by name where there are several.

    Args:
        function: the function.
        inputs, outputs: the specs as the YAML states them, each with `name`, `dtype`, `shape` and, where
            dimensions are free, `max`.
        options: further arguments by name, the same in each call.

    Raises:
        BadOption: a spec lacks something, or the function does not take these arguments.
        SpecMismatch: a spec contradicts itself.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        inputs: Sequence[Mapping[str, Any]],
        outputs: Sequence[Mapping[str, Any]],
        **options: Any,
    ) -> None:
        self.inputs = tuple(_spec("inputs", value) for value in inputs)
        self.outputs = tuple(_spec("outputs", value) for value in outputs)
        try:
            inspect.signature(function).bind(**{spec.name: None for spec in self.inputs}, **options)
        except TypeError as error:
            raise BadOption(f"{function.__name__}{inspect.signature(function)} cannot be called so: {error}") from None
        self._call = functools.partial(function, **options)

    def process(self, batch: Batch) -> None:
        for row in range(len(batch)):
            arguments = {
                spec.name: batch.document(row, spec.name) if spec.dtype == "json" else batch.rows(spec.name)[row]
                for spec in self.inputs
            }
            returned = self._call(**arguments)
            if len(self.outputs) == 1:
                returned = {self.outputs[0].name: returned}
            for spec in self.outputs:
                batch.write(row, spec.name, returned[spec.name])


def _spec(option: str, value: Mapping[str, Any]) -> TensorSpec:
    try:
        return TensorSpec(value["name"], value["dtype"], tuple(value["shape"]), dict(value.get("max", {})))
    except (KeyError, TypeError, AttributeError) as error:
        raise BadOption(
            f"{option}: expected {{name: ..., dtype: ..., shape: [...]}}, found {value!r} ({error!r})"
        ) from None
