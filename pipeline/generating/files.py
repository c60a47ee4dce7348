"""The text of each file that `pipeline init` writes. Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from shm.handle import BFLOAT16
from stages.spec import TensorSpec

__all__ = ["Project", "stages_file", "test_file", "yaml_file"]


_WHY = {
    "shapes": "      # Names for dimensions that have none in the file. W/8 is an eighth of W.\n",
    "max": "      # The largest value of each free dimension: slots are sized from it.\n",
    "inputs": "      # Plain names for the inputs of the model.\n",
    "outputs": "      # Plain names for the outputs of the model.\n",
}


@dataclass(frozen=True, slots=True)
class Project:
    """Everything that the files are made from."""

    name: str
    """Of the pipeline."""
    options: Mapping[str, Any]
    """Options of the inference stage."""
    inputs: tuple[TensorSpec, ...]
    """The model's inputs for one request."""
    outputs: tuple[TensorSpec, ...]
    """What it gives."""
    batch: int
    """Largest batch."""
    takes_bytes: bool
    """Whether a request is one file as it lies on disk, and not arrays."""

    @property
    def identifier(self) -> str:
        """The name, with the characters that a module's name allows."""
        made = self.name.replace("-", "_")
        return made if made.isidentifier() else f"model_{made}"

    @property
    def config(self) -> str:
        """Name of the YAML."""
        return f"{self.name}.yaml"

    @property
    def stages(self) -> str:
        """Name of the stages' file."""
        return f"{self.identifier}_stages.py"

    @property
    def test(self) -> str:
        """Name of the test's file."""
        return f"test_{self.identifier}.py"

    @property
    def sample(self) -> str:
        """Name of the sample's file."""
        return f"{self.name}-sample.{'bin' if self.takes_bytes else 'npz'}"


def yaml_file(project: Project) -> str:
    """The config."""
    inputs = "".join(f"  - {_flow(_input(spec))}\n" for spec in project.inputs)
    options = "".join(_WHY.get(name, "") + f"      {name}: {_flow(value)}\n" for name, value in project.options.items())
    batch = (
        f"    # A batch closes when it is full, or when its oldest request has waited this long.\n"
        f"    batch: {{max_size: {project.batch}, max_delay_ms: 2}}\n"
        if project.batch > 1
        else ""
    )
    return f"""\
# A model between two stages of your own, which are in {project.stages}. Written by `pipeline init`; it is yours now.
#
#   pipeline check {project.config}
#   pipeline run {project.config} {project.sample}
name: {project.name}

inputs:
  # The inputs of a request: as written, those of the model.
{inputs}
stages:
  - name: preprocess
    use: ./{project.stages}:Preprocess

  - name: inference
    use: stages.infer:Infer
    with:
{options}{batch}
  - name: postprocess
    use: ./{project.stages}:Postprocess

outputs: [postprocess.result]

run:
  # The files that `pipeline run` reads if none is named; relative to this file.
  inputs: [{project.sample}]
"""


def stages_file(project: Project) -> str:
    """The two stages."""
    return f'''\
"""The stages before and after the model. Written by `pipeline init`; it is yours now."""

from __future__ import annotations

import numpy as np

from stages.spec import TensorSpec
from stages.stage import Batch

#: For one request, without a batch axis: the runtime adds it.
MODEL_INPUTS = (
{_specs(project.inputs)}
)
MODEL_OUTPUTS = (
{_specs(project.outputs)}
)


class Preprocess:
    """From the inputs of a request to those of the model. As written, they are the same."""

    inputs = MODEL_INPUTS
    outputs = MODEL_INPUTS

    def process(self, batch: Batch) -> None:
        for spec in self.inputs:
            for row, given in enumerate(batch.rows(spec.name)):
                # Put the pre-processing of the model's training here: decoding, resizing, scaling, tokens.
                batch.out(row, spec.name, given.shape)[...] = given


class Postprocess:
    """From the model's outputs to an answer. As written, a few numbers of each tensor."""

    inputs = MODEL_OUTPUTS
    outputs = (TensorSpec.json("result", max_bytes={512 * len(project.outputs)}),)

    def process(self, batch: Batch) -> None:
        for row in range(len(batch)):
            tensors = {{spec.name: batch.rows(spec.name)[row] for spec in self.inputs}}
            if wrong := [name for name, values in tensors.items() if not np.isfinite(values).all()]:
                batch.fail(row, f"the model gave numbers that are not finite in {{', '.join(wrong)}}")
                continue
            # Put the meaning of the numbers here: labels, boxes, text.
            batch.write(row, "result", {{name: in_short(values) for name, values in tensors.items()}})


def in_short(values: np.ndarray) -> dict[str, object]:
    """Shape, least, greatest, and the index of the greatest."""
    short: dict[str, object] = {{"shape": list(values.shape)}}
    if values.size:
        short.update(min=values.min().item(), max=values.max().item(), argmax=int(values.argmax()))
    return short
'''


def test_file(project: Project) -> str:
    """Its test."""
    name = project.inputs[0].name
    read = f'dict(np.load(HERE / "{project.sample}"))'
    half = any(spec.dtype == BFLOAT16 for spec in project.inputs)
    imports = "import ml_dtypes\n" if half else ""
    if project.takes_bytes:
        read = f'{{"{name}": np.frombuffer((HERE / "{project.sample}").read_bytes(), np.uint8)}}'
    elif half:
        # A .npz file has no name for it.
        arrays = f'np.load(HERE / "{project.sample}").items()'
        read = f'{{name: a.view(ml_dtypes.bfloat16) if a.dtype.kind == "V" else a for name, a in {arrays}}}'
    return f'''\
"""The stages one by one, and the whole pipeline in its own processes. Written by `pipeline init`; it is yours now."""

from __future__ import annotations

from pathlib import Path
from typing import Any

{imports}import numpy as np
import pytest

from pipeline.testing import running
from stages.loading import load_stage
from stages.testing import run

HERE = Path(__file__).parent


@pytest.fixture
def sample() -> dict[str, Any]:
    """The inputs of one request."""
    return {read}


def test_preprocess_gives_what_the_model_takes(sample: dict[str, Any]) -> None:
    stage = load_stage("./{project.stages}:Preprocess", {{}}, HERE)
    batch = run(stage, **{{name: [array, array] for name, array in sample.items()}})
    for spec in stage.outputs:
        made = batch.result(1, spec.name)
        assert spec.misfit(made.dtype.name, made.shape) is None


def test_postprocess_refuses_numbers_that_are_not_finite() -> None:
    stage = load_stage("./{project.stages}:Postprocess", {{}}, HERE)
    ones = {{spec.name: np.ones(spec.max_shape, spec.dtype) for spec in stage.inputs}}
    assert set(run(stage, **{{name: [array] for name, array in ones.items()}}).result(0, "result")) == set(ones)
    for name, array in ones.items():
        if array.dtype.kind == "f" and array.size:
            batch = run(stage, **{{**{{other: [one] for other, one in ones.items()}}, name: [array * np.nan]}})
            assert name in str(batch.failed[0])


def test_the_sample_runs_through_the_pipeline(sample: dict[str, Any]) -> None:
    with running(HERE / "{project.config}") as pipeline, pipeline.client() as client:
        with client.submit(**sample).get(60) as answer:
            assert list(answer["result"]) == {[spec.name for spec in project.outputs]!r}
'''


# pytest must not take this function for a test of ours.
test_file.__test__ = False  # type: ignore[attr-defined]


def _input(spec: TensorSpec) -> dict[str, Any]:
    """A spec as an entry of `inputs:` in the YAML."""
    written: dict[str, Any] = {"name": spec.name, "dtype": spec.dtype, "shape": list(spec.shape)}
    if spec.max:
        written["max"] = _max(spec)
    return written


def _max(spec: TensorSpec) -> dict[str, int]:
    """The maxima of a spec, in the order of its shape."""
    return {extent: spec.max[extent] for extent in spec.shape if isinstance(extent, str)}


def _specs(specs: Sequence[TensorSpec]) -> str:
    """Specs as Python source."""
    lines = []
    for spec in specs:
        most = f", {_max(spec)!r}" if spec.max else ""
        lines.append(f'TensorSpec("{spec.name}", "{spec.dtype}", {spec.shape!r}{most}),')
    return textwrap.indent("\n".join(lines), "    ").replace("'", '"')


def _flow(value: object) -> str:
    """A value as YAML, on one line."""
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, sort_keys=False, width=10_000)
    return text.removesuffix("...\n").strip()
