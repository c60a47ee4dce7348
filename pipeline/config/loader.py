"""Loader: the only reader of configs; a YAML file and the `--set`s of a command line become one checked value.

Every error names file, line, column and path, what was expected, and the nearest valid name.
It does not know whether the stages' classes exist and fit each other: see `pipeline.graph`.
"""

from __future__ import annotations

import os
import re
import typing
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from pipeline.config.document import read_document
from pipeline.config.expansion import expand_document
from pipeline.config.findings import Findings, Locations, NodePath
from pipeline.config.node import PLAIN_TEXT, is_plain_text
from pipeline.config.overrides import apply_overrides
from pipeline.config.schema import ANCHORS, LIST_TAG, MAPPING_TAG, WORD_TAG, PipelineConfig, hosts_of
from pipeline.config.shards import check_shards
from pipeline.errors import ConfigError
from stages.errors import SpecMismatch
from stages.hints import did_you_mean
from stages.spec import TensorSpec

__all__ = ["LoadedConfig", "load_config", "load_version"]


class LoadedConfig(msgspec.Struct, frozen=True):
    """A checked config, and the places of everything in it."""

    config: PipelineConfig
    path: Path
    """The path as it was given, for messages."""
    inputs: tuple[TensorSpec, ...]
    """The inputs of one request."""
    locations: Locations

    @property
    def base_dir(self) -> Path:
        """The folder to which relative paths in the config are relative.

        It is the folder in which the file was named, even if that is a link elsewhere, as in a mounted ConfigMap.
        """
        return self.path.parent.resolve()

    def findings(self) -> Findings:
        """An empty list for further findings about this config."""
        return Findings(self.locations)


def load_config(path: Path | str, assignments: Iterable[str] = (), *, name: str | None = None) -> LoadedConfig:
    """Read, override and validate the config at `path`.

    Args:
        path: of the YAML file.
        assignments: what `--set` takes.
        name: what the pipeline is called if the file does not say; None: as the file.

    Raises:
        ConfigError: with one line for each finding.
    """
    path = Path(path)
    data, locations = read_document(path)
    for key in [key for key in data if key.startswith(ANCHORS)]:
        # Their anchors were merged where they are used; the keys themselves are not needed any more.
        del data[key]
    locations = apply_overrides(data, locations, list(assignments))
    data.setdefault("name", name or re.sub(r"[^a-z0-9]+", "-", path.stem.lower()).strip("-")[:40] or "pipeline")
    findings = Findings(locations)
    expand_document(data, os.environ, findings.add)
    findings.refuse()
    try:
        config = PipelineConfig.model_validate(data)
    except ValidationError as error:
        for details in error.errors(include_url=False):
            _translate(details, findings)
        raise findings.error() from None
    _check_names(config, findings)
    _check_colocation(config, findings)
    _check_env(config, findings)
    check_shards(config, findings)
    inputs = _specs(config, findings)
    findings.refuse()
    return LoadedConfig(config, path, inputs, locations)


def load_version(path: Path | str, assignments: Iterable[str], serves: str) -> LoadedConfig:
    """As `load_config`, of what will replace a pipeline that serves, or a part of it.

    Args:
        serves: the name of that pipeline: what the new version is called, too.

    Raises:
        ConfigError: as `load_config`; or it is called otherwise.
    """
    loaded = load_config(path, assignments, name=serves)
    if loaded.config.name != serves:
        raise ConfigError(
            f"{path}: this pipeline is called {loaded.config.name}, the one that serves {serves}; a new version must "
            f"have the same name, by which its clients find it"
        )
    return loaded


def _check_names(config: PipelineConfig, findings: Findings) -> None:
    """Check that each name means one thing."""
    seen: dict[str, int] = {}
    for index, stage in enumerate(config.stages):
        path: NodePath = ("stages", index, "name")
        if stage.name in seen:
            findings.add(path, f"{stage.name!r} is the name of stages[{seen[stage.name]}] already")
        elif stage.name in PipelineConfig.model_fields:
            # `--set run.x=...` would have two meanings, and `ingress.image` two producers.
            findings.add(path, f"{stage.name!r} is a field of the config; choose another name")
        seen.setdefault(stage.name, index)
    inputs: dict[str, int] = {}
    for index, tensor in enumerate(config.inputs):
        if tensor.name in inputs:
            first = inputs[tensor.name]
            findings.add(("inputs", index, "name"), f"{tensor.name!r} is the name of inputs[{first}] already")
        inputs.setdefault(tensor.name, index)


def _check_colocation(config: PipelineConfig, findings: Findings) -> None:
    """Check that a colocated stage has a host, and that only the host has fields that concern the process."""
    hosts = hosts_of(config.stages)
    for index, stage in enumerate(config.stages):
        if stage.colocate and hosts[stage.name] == stage.name:
            findings.add(("stages", index, "colocate"), "expected a stage listed before it, in whose workers it runs")
        elif stage.colocate:
            for field in ("replicas", "cpus", "threads", "env", "restart"):
                if field in stage.model_fields_set:
                    findings.add(
                        ("stages", index, field),
                        f"{stage.name} runs in the workers of {hosts[stage.name]}: say it there, or leave out colocate",
                        at_key=True,
                    )


def _check_env(config: PipelineConfig, findings: Findings) -> None:
    """Check that the variables of a stage can be those of a process: otherwise no worker could be started."""
    for index, stage in enumerate(config.stages):
        for name, value in stage.env.items():
            path: NodePath = ("stages", index, "env", name)
            if not name or "=" in name or "\0" in name:
                why = f"expected the name of a variable, without = and NUL, found {_shown(name)}"
                findings.add(path, why, at_key=True)
            elif not is_plain_text(name + value):
                findings.add(path, f"expected {PLAIN_TEXT}, found {_shown(value)}")


def _specs(config: PipelineConfig, findings: Findings) -> tuple[TensorSpec, ...]:
    specs = []
    for index, tensor in enumerate(config.inputs):
        try:
            specs.append(TensorSpec(tensor.name, tensor.dtype, tensor.shape, tensor.max))
        except SpecMismatch as error:
            findings.add(("inputs", index), str(error))
    return tuple(specs)


# -- pydantic's errors in our words ---------------------------------------------------------------

_EXPECTED = {
    "bool_type": "true or false",
    "dict_type": "a mapping",
    "finite_number": "a finite number",
    "float_type": "a number",
    "int_type": "a whole number",
    "list_type": "a list",
    "model_attributes_type": "a mapping",
    "model_type": "a mapping",
    "string_type": "text",
    "string_unicode": PLAIN_TEXT,
    "tuple_type": "a list",
    "union_tag_not_found": "a list or a mapping",
}


def _translate(error: ErrorDetails, findings: Findings) -> None:
    path: NodePath = tuple(part for part in error["loc"] if part not in (LIST_TAG, MAPPING_TAG, WORD_TAG))
    kind, found, context = error["type"], error["input"], error.get("ctx", {})
    if path[-1:] in (("password",), ("url",)) or path == ("mqtt", "host"):
        # A URL may have one in it, and be written in place of a host.
        found = _Hidden()
    if kind == "extra_forbidden":
        hint = did_you_mean(str(path[-1]), _names_at(path[:-1]))
        findings.add(path, f"unknown field{hint}", at_key=True)
    elif kind == "missing":
        findings.add(path, f"missing. {_description(path)}")
    elif kind in _EXPECTED:
        hint = "; put it in quotes" if kind == "string_type" and isinstance(found, int | float) else ""
        findings.add(path, f"expected {_EXPECTED[kind]}, found {_shown(found)}{hint}")
    elif kind == "literal_error":
        hint = did_you_mean(found, re.findall(r"'(\w+)'", context["expected"])) if isinstance(found, str) else ""
        findings.add(path, f"expected {context['expected']}, found {_shown(found)}{hint if 'mean' in hint else ''}")
    elif kind == "value_error":
        findings.add(path, f"{context['error']}, found {_shown(found)}")
    elif kind in ("greater_than_equal", "less_than_equal"):
        bound = f"at least {context['ge']:g}" if "ge" in context else f"at most {context['le']:g}"
        findings.add(path, f"expected {bound}, found {_shown(found)}")
    elif kind in ("too_short", "string_too_short"):
        # A list with wrong items is called too short as well: pydantic counts the valid ones.
        if not found:
            findings.add(path, f"expected at least one {'item' if kind == 'too_short' else 'character'}, found none")
    else:
        message = error["msg"]
        findings.add(path, f"{message[:1].lower()}{message[1:]}, found {_shown(found)}")


class _Hidden:
    """In place of a value that may be a password, such as one of digits alone."""

    def __repr__(self) -> str:
        return "something else"


def _shown(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, bool):
        return str(value).lower()
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _names_at(path: NodePath) -> list[str]:
    """The fields of the model at `path`."""
    model = _model_at(path)
    return [field.alias or name for name, field in model.model_fields.items()] if model else []


def _description(path: NodePath) -> str:
    model = _model_at(path[:-1])
    for name, field in model.model_fields.items() if model else ():
        if path[-1] in (name, field.alias):
            return field.description or ""
    return ""


def _model_at(path: NodePath) -> type[BaseModel] | None:
    """The model that the schema has at `path`: numbers step into a list's items."""
    annotation: Any = PipelineConfig
    for part in path:
        if isinstance(part, str):
            model = _model_in(annotation)
            fields = model.model_fields.items() if model else ()
            annotation = next((f.annotation for name, f in fields if part in (name, f.alias)), None)
    return _model_in(annotation)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    # `dict[str, str]` passes for a type in isinstance() before Python 3.11.
    if not typing.get_args(annotation) and isinstance(annotation, type):
        return annotation if issubclass(annotation, BaseModel) else None
    return next((model for arg in typing.get_args(annotation) if (model := _model_in(arg))), None)
