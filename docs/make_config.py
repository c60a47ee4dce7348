"""Writes docs/config.md from the schema: `python docs/make_config.py`. A test compares the two."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.cli.schema import json_schema

__all__ = ["render"]

PAGE = Path(__file__).with_name("config.md")

_LEAST = {"minimum": ">=", "exclusiveMinimum": ">"}

_INTRODUCTION = """\
# The YAML, field by field

<!-- Written by docs/make_config.py from pipeline/config/schema.py. -->

A pipeline is one YAML file: the tensors of a request, the stages, and the tensors of an answer.
[configs/resnet.yaml](../configs/resnet.yaml) is one to start from. `pipeline check FILE` reports the mistakes in a
file, by line and column, and `pipeline schema` prints the schema with which editors complete and check it. With the
YAML extension of an editor, the first line of a file can be

    # yaml-language-server: $schema=./pipeline.schema.json

after `pipeline schema --output pipeline.schema.json`.

* Unknown fields are refused. Values are taken as written: `8` is not a text and `"8"` is not a number.
* The scalars are those of YAML 1.2: `no` and `on` are text. Anchors, aliases and merge keys work; tags and duplicate
  keys are refused. A top-level key that begins with `x-` is ignored: it is a place for anchors that several stages
  refer to.
* Relative paths are relative to the folder in which the file was named. If that is a link, as in a ConfigMap that
  Kubernetes mounts, it is the link's own folder.
* In `use`, `with`, `env`, `run.inputs`, `canary.input`, `capsules.folder`, `segments.dir` and `mqtt`, `~/` at the start
  of a text becomes the home folder, `${NAME}` is replaced by that environment variable, and so is `$NAME` if it is the
  first part of a path. `${NAME:-default}` has a default if the variable is unset or empty; an unset variable without a
  default is refused; `$${NAME}` stands for `${NAME}` itself. These are the variables of the process `pipeline`, not
  those that a stage's `env` sets. In a source's `url` only `${NAME}` and `${NAME:-default}` are, in `mqtt.password`
  only `${NAME}`, and by the source's process alone: the value is in no plan, status or log ([edge.md](edge.md)).
* Bytes are numbers, or texts such as `"608KiB"` (powers of 1024) and `"10MB"` (powers of 1000).
* `--set NAME=VALUE` changes a value from the command line: `--set drain_s=1`, and after a stage's name its fields or
  its options: `--set inference.batch.max_size=16`, `--set postprocess.k=1`.
"""


def render() -> str:
    """The page."""
    schema = json.loads(json_schema())
    sections = [_section(title, model) for title, model in _mappings("", schema, schema["$defs"])]
    return "\n".join([_INTRODUCTION, *sections])


def _mappings(title: str, model: dict[str, Any], models: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """(its path, model) of every mapping that the file may contain, each before the mappings within it."""
    yield title, model
    for name, field in model["properties"].items():
        inside = f"{title}.{name}".lstrip(".") + ("[]" if field.get("type") == "array" else "")
        for choice in [field, field.get("items", {}), *field.get("anyOf", ()), *field.get("oneOf", ())]:
            if "$ref" in choice:
                yield from _mappings(inside, models[choice["$ref"].rpartition("/")[2]], models)


def _section(title: str, model: dict[str, Any]) -> str:
    lines = [f"## `{title}`" if title else "## The file", "", model["description"], ""]
    lines += ["| field | value | default | meaning |", "| --- | --- | --- | --- |"]
    for name, field in model["properties"].items():
        default = "required" if name in model.get("required", ()) else _default(field)
        lines.append(f"| `{name}` | {_value(field)} | {default} | {_meaning(field)} |")
    return "\n".join(lines) + "\n"


def _default(field: dict[str, Any]) -> str:
    default = field.get("default")
    if default is None or default in ([], {}) or "$ref" in field:
        return "-"
    return f"`{json.dumps(default) if not isinstance(default, str) else default}`"


def _value(field: dict[str, Any]) -> str:
    if "$ref" in field:
        return "a mapping, below"
    if "anyOf" in field:
        return " or ".join(dict.fromkeys(_value(choice) for choice in field["anyOf"] if choice.get("type") != "null"))
    if "oneOf" in field:
        return " or ".join(_value(choice) for choice in field["oneOf"])
    if "const" in field:
        return f"`{field['const']}`"
    if "enum" in field:
        return " or ".join(f"`{choice}`" for choice in field["enum"])
    kind = field.get("type")
    if kind == "array":
        return "list of mappings, below" if "$ref" in field["items"] else f"list of {_value(field['items'])}"
    if kind == "object":
        values = field.get("additionalProperties")
        return f"mapping to {_value(values)}" if isinstance(values, dict) and values else "mapping"
    if kind == "string":
        return f"text, such as `{field['examples'][0]}`" if "examples" in field else "text"
    if kind in ("integer", "number"):
        word = "whole number" if kind == "integer" else "number"
        # ".10g", for ":g" alone writes a million as 1e+06.
        least = [f"{sign} {field[key]:.10g}" for key, sign in _LEAST.items() if key in field]
        most = [f"<= {field['maximum']:.10g}"] if "maximum" in field else []
        return ", ".join([f"{word} {least[0]}" if least else word, *most])
    if kind == "boolean":
        return "`true` or `false`"
    return "any"


def _meaning(field: dict[str, Any]) -> str:
    # pydantic omits a field's description if the model's own is the same.
    return " ".join(field.get("description", "See below.").split()).replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
