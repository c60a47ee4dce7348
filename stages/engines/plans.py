"""Plans: models that TensorRT has compiled, as files of the model cache.

    <cache>/plans/open-nsfw.864bb37bf886.h100-80gb-hbm3.trt-8.5.3.1.fp16.b8.plan        what TensorRT runs
    <cache>/plans/open-nsfw.864bb37bf886.h100-80gb-hbm3.trt-8.5.3.1.fp16.b8.plan.json   what it is, without TensorRT

A plan is good for one model, one GPU model, one version of TensorRT, one precision and one batch size; other
dimensions are fixed, or free within a range. A model is the bytes of its .onnx file and of the files beside it that
hold its weights: their digest is in the name, for half of all models are called model.onnx, and weights that were
trained again leave the .onnx as it is. `pipeline build` writes plans, the engine reads them. Nothing here needs a GPU
or TensorRT.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from stages import catalogue
from stages.engines.onnx_file import external_files
from stages.engines.signature import TensorAxes
from stages.errors import ModelError

__all__ = [
    "EnginePlan",
    "Profile",
    "choose_size",
    "file_sha256",
    "fitting_plans",
    "gpu_slug",
    "own_plans",
    "plans_dir",
    "plans_of",
    "write_plan",
]

_DIGITS = 12
"""Digits of a digest in the name of a plan. The whole digest is compared as well."""

ANY_GPU = "any"
"""The GPU of a plan that its library compiles to the end when it loads it."""


@dataclass(frozen=True, slots=True)
class Profile:
    """Which shapes of one input a plan takes, batch axis included."""

    name: str
    min: tuple[int, ...]
    opt: tuple[int, ...]
    """The shape that it was made fast for."""
    max: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class EnginePlan:
    """What a plan was built from, and for."""

    model: str
    """Stem of the model's file."""
    model_sha256: str
    """`file_sha256` of it; "" if the plan was written under another name than it would have today."""
    gpu: str
    """`gpu_slug` of the GPU that it runs on, or ANY_GPU."""
    version: str
    """As `stages.engines.tensorrt.compat.spell_version` gives it."""
    precision: str
    batch: int
    inputs: tuple[TensorAxes, ...]
    outputs: tuple[TensorAxes, ...]
    nbytes: int = 0
    """Of the plan's file."""
    shapes: str = ""
    """The shapes and ranges that were asked for, as the command line has them; part of what makes it up to date."""
    profiles: tuple[Profile, ...] = ()
    """One for each input, if dimensions other than the batch are free; else none."""
    calibration: str = ""
    """Digest of the samples that int8 was measured on; "" for none."""

    @property
    def path(self) -> Path:
        model = f"{self.model}.{self.model_sha256[:_DIGITS]}"
        return plans_dir() / f"{model}.{self.gpu}.{self.version}.{self.precision}.b{self.batch}.plan"

    @property
    def is_there(self) -> bool:
        """Whether a whole plan built from the same for the same lies in the cache."""
        for found in plans_of(self.model):
            if found.path == self.path:
                asked = (found.model_sha256, found.shapes, found.calibration)
                is_whole = self.path.is_file() and self.path.stat().st_size == found.nbytes
                return is_whole and asked == (self.model_sha256, self.shapes, self.calibration)
        return False


def plans_dir() -> Path:
    """The folder of all plans."""
    return catalogue.cache_dir() / "plans"


def gpu_slug(name: str) -> str:
    """A GPU's name as a part of a file's name: "NVIDIA H100 80GB HBM3" -> "h100-80gb-hbm3"."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower().removeprefix("nvidia ")).strip("-")


def file_sha256(path: Path) -> str:
    """The digest of everything that makes a model: its file, and what lies beside it.

    For a file that holds all of its model it is that file's own SHA-256.

    Raises:
        ModelError: a file is missing, or the model's is no .onnx file.
    """
    own = _digest(path, path)
    parts = [(file.relative_to(path.parent), _digest(file, path)) for file in external_files(path)]
    if not parts:
        return own
    told = "".join(f"{part}\n{digest}\n" for part, digest in parts)
    return hashlib.sha256(f"{own}\n{told}".encode()).hexdigest()


def _digest(path: Path, model: Path) -> str:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    except OSError as error:
        which = f"{path}: the model's file" if path == model else f"{model}: its weights lie in {path}, and that"
        raise ModelError(f"{which} cannot be read: {error.strerror}") from error
    return digest.hexdigest()


def plans_of(model: str) -> list[EnginePlan]:
    """The plans of all models whose files have that stem; by rising batch size.

    Files that are no plans are passed over. One whose name is not what it would be today comes without its model's
    digest: it was built when the digest was not in the name, and may be that of another model.
    """
    found = []
    for path in plans_dir().glob(f"{_literal(model)}.*.plan.json"):
        try:
            plan = _from_json(json.loads(path.read_text()))
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if plan.model == model:
            found.append(plan if f"{plan.path}.json" == str(path) else replace(plan, model_sha256=""))
    return sorted(found, key=lambda plan: (plan.batch, plan.path.name))


def own_plans(path: Path) -> list[EnginePlan]:
    """The plans of the model in a file, as it is now; none if there are only those of other models or versions.

    Raises:
        ModelError: the file cannot be read.
    """
    if not (plans := plans_of(path.stem)):
        return []
    sha256 = file_sha256(path)
    return [plan for plan in plans if plan.model_sha256 == sha256]


def _literal(text: str) -> str:
    return re.sub(r"([*?[])", r"[\1]", text)


def fitting_plans(path: Path, plans: Sequence[EnginePlan], gpu: str, version: str, precision: str) -> list[EnginePlan]:
    """Those of a model's plans that run here, one for each batch size.

    Args:
        path: the model's file.
        plans: of all models of its stem.
        gpu: slug of the GPU here.
        version: of TensorRT here.
        precision: "auto" takes fp16 if it was built, otherwise fp32.

    Raises:
        ModelError: there is none; it says what there is, and the command that builds what is missing.
    """
    command = f"run here: pipeline build {shlex.quote(str(path))}"
    if not plans:
        raise ModelError(f"{path}: no TensorRT plan of it in {plans_dir()}; {command} --batch 1,8 --precision fp16")
    sha256 = file_sha256(path)
    own = [plan for plan in plans if plan.model_sha256 == sha256]
    if not own:
        raise ModelError(
            f"{path}: the plans of {path.stem} in {plans_dir()} were built from another version of this file or of "
            f"the weights beside it, from another file of that name, or before the model was part of a plan's name: "
            f"{command}"
        )
    here = [plan for plan in own if plan.gpu in (gpu, ANY_GPU) and plan.version == version]
    if not here:
        others = ", ".join(sorted({f"{plan.version} on {plan.gpu}" for plan in own}))
        raise ModelError(f"{path}: its plans are for {others}; here is {version} on {gpu}: {command}")
    wanted = ("fp16", "fp32") if precision == "auto" else (precision,)
    for candidate in wanted:
        if of_precision := [plan for plan in here if plan.precision == candidate]:
            return of_precision
    built = ", ".join(sorted({plan.precision for plan in here}))
    raise ModelError(
        f"{path}: its plans are of precision {built}, wanted {precision}: {command} --precision {wanted[0]}"
    )


def choose_size(sizes: Sequence[int], rows: int) -> int:
    """The smallest of the rising `sizes` that holds `rows`; the largest if none does."""
    return next((size for size in sizes if size >= rows), sizes[-1])


def write_plan(plan: EnginePlan, content: bytes) -> None:
    """Put a plan into the cache: whole or not at all."""
    plans_dir().mkdir(parents=True, exist_ok=True)
    document = {**asdict(plan), "nbytes": len(content)}
    # The description of the old plan is removed first: if this is killed in between, it leaves no plan rather than one
    # with another's description.
    Path(f"{plan.path}.json").unlink(missing_ok=True)
    for path, data in ((plan.path, content), (Path(f"{plan.path}.json"), json.dumps(document, indent=1).encode())):
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)


def _from_json(raw: dict[str, Any]) -> EnginePlan:
    for side in ("inputs", "outputs"):
        raw[side] = tuple(TensorAxes(t["name"], t["dtype"], tuple(t["axes"])) for t in raw[side])
    raw["profiles"] = tuple(
        Profile(p["name"], tuple(p["min"]), tuple(p["opt"]), tuple(p["max"])) for p in raw.get("profiles", ())
    )
    return EnginePlan(**raw)
