"""FunctionStage: a plain function of arrays as a stage, for the glue between two models.

`stages.loading` makes one if `use:` names a function. A class would declare the specs; a function's are in the YAML.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from stages.errors import BadOption, SpecMismatch
from stages.hints import did_you_mean
from stages.spec import TensorSpec
from stages.stage import Array, Batch

__all__ = ["EXAMPLE", "FunctionStage", "Out"]

EXAMPLE = "[{name: x, dtype: float32, shape: [224, 224, 3]}]"
"""How a config states specs, for messages."""

_SPEC_FIELDS = {"name", "dtype", "shape", "max", "many", "many_bytes", "optional"}


class Out:
    """The outputs of one request, for a function that writes them straight into their slots, without a copy.

    A function with a parameter `out` is given one:

        def crop(page, boxes, out):
            views = out.many("lines", [(48, width_of(box), 3) for box in boxes])
            ...                                     # fill each of views
    """

    __slots__ = ("_batch", "_row")

    def __init__(self, batch: Batch, row: int) -> None:
        self._batch = batch
        self._row = row

    def __call__(self, name: str, shape: tuple[int, ...] | None = None) -> Array:
        """A writable array for output `name`; as `Batch.out`."""
        return self._batch.out(self._row, name, shape)

    def many(self, name: str, shapes: Sequence[tuple[int, ...]]) -> list[Array]:
        """Writable arrays for output `name` of many tensors; as `Batch.out_many`."""
        return self._batch.out_many(self._row, name, shapes)


class FunctionStage:
    """Calls a function once for each request.

        use: ./glue.py:invert              def invert(image, strength=1.0):
        with:                                  return 255 - image
          inputs:  [{name: image, dtype: uint8, shape: [224, 224, 3]}]
          outputs: [{name: image, dtype: uint8, shape: [224, 224, 3]}]
          strength: 0.5

    The function gets each input as an argument of that name: a read-only array, or the value of a "json"
    input; a list of those if the input takes many; None if an optional input is missing. It returns the
    output; a mapping by name if there are several outputs; a list if an output is of many. Returned values
    are copied. A function with a parameter `out` can fill its outputs in place instead (see `Out`), and
    then returns only those that it has not filled.

    Args:
        function: the function.
        inputs, outputs: the specs as the YAML states them, each with `name`, `dtype`, `shape` and, if
            dimensions are free, `max`; perhaps `many`, `many_bytes`, `optional`, as in TensorSpec.
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
        self.inputs = _specs("inputs", inputs)
        self.outputs = _specs("outputs", outputs)
        self.ragged = True
        self._takes_out = "out" in inspect.signature(function).parameters and "out" not in options
        self._refuse_other_arguments(function, options)
        #: The file, for messages.
        self.function = function
        self._call = functools.partial(function, **options)

    def _refuse_other_arguments(self, function: Callable[..., Any], options: Mapping[str, Any]) -> None:
        signature = inspect.signature(function)
        called, parameters = f"{function.__name__}{signature}", signature.parameters
        given = {**{spec.name: None for spec in self.inputs}, **({"out": None} if self._takes_out else {})}
        if not any(each.kind is each.VAR_KEYWORD for each in parameters.values()):
            for option in options:
                if option not in parameters:
                    known = ["inputs", "outputs", *[name for name in parameters if name not in given]]
                    hint = did_you_mean(option, known, "known:", most=20)
                    raise BadOption(f"unknown option {option!r} of {called}{hint}")
        for name in given:
            if name in options:
                raise BadOption(f"option {name!r}: an input or the outputs of {called} are given by this name already")
        try:
            signature.bind(**given, **options)
        except TypeError as error:
            raise BadOption(
                f"option 'inputs': {called} cannot be called so: {error}; each input is an argument of its name, and "
                f"other arguments stand beside inputs and outputs under with:"
            ) from None

    def process(self, batch: Batch) -> None:
        for row in range(len(batch)):
            arguments = {
                spec.name: batch.document(row, spec.name) if spec.dtype == "json" else batch.rows(spec.name)[row]
                for spec in self.inputs
            }
            if self._takes_out:
                arguments["out"] = Out(batch, row)
            self._write(batch, row, self._call(**arguments))

    def _write(self, batch: Batch, row: int, returned: Any) -> None:
        if returned is None and (self._takes_out or not self.outputs):
            return
        if returned is None and [spec.dtype for spec in self.outputs] != ["json"]:
            names = ", ".join(str(spec) for spec in self.outputs)
            raise SpecMismatch(f"{self.function.__name__} returned None; expected {names}: is a `return` missing?")
        if len(self.outputs) == 1:
            if isinstance(returned, Mapping) and self.outputs[0].dtype != "json":
                names = ", ".join(map(str, returned)) or "nothing"
                raise SpecMismatch(
                    f"{self.function.__name__} returned a mapping with {names}; expected {self.outputs[0]}: "
                    f"a function with one output returns its value alone"
                )
            returned = {self.outputs[0].name: returned}
        if not isinstance(returned, Mapping):
            names = ", ".join(spec.name for spec in self.outputs)
            raise SpecMismatch(f"expected a mapping with the outputs {names}, found {type(returned).__name__}")
        for name, value in returned.items():
            # A name that no output has is an error: the value would be lost.
            batch.write(row, name, value)


def _specs(option: str, values: Any) -> tuple[TensorSpec, ...]:
    if not isinstance(values, (list, tuple)):
        raise BadOption(f"option {option!r}: expected a list of tensor specs, such as {EXAMPLE}, found {values!r:.200}")
    return tuple([_spec(option, value) for value in values])


def _spec(option: str, value: Any) -> TensorSpec:
    form = f"option {option!r}: expected {{name: ..., dtype: ..., shape: [...]}}, found {value!r:.200}"
    if not isinstance(value, Mapping):
        raise BadOption(f"{form}; a list of specs is {EXAMPLE}")
    if unknown := [name for name in value if name not in _SPEC_FIELDS]:
        hint = did_you_mean(str(unknown[0]), sorted(_SPEC_FIELDS), "known:", most=20)
        raise BadOption(f"option {option!r}: {value.get('name', 'a spec')}: unknown field {unknown[0]!r}{hint}")
    if missing := [name for name in ("name", "dtype", "shape") if name not in value]:
        raise BadOption(f"{form}, which has no {missing[0]}")
    if not isinstance(value["shape"], (list, tuple)):
        raise BadOption(f"{form}, whose shape is no list")
    most = value.get("max", {})
    if not isinstance(most, Mapping):
        raise BadOption(f"{form}, whose max is no mapping, such as {{n: 8}}")
    try:
        return TensorSpec(**{**value, "shape": tuple(value["shape"]), "max": dict(most)})
    except SpecMismatch as error:
        raise SpecMismatch(f"option {option!r}: {error}") from None
    except (TypeError, AttributeError) as error:
        raise BadOption(f"{form} ({error})") from None
