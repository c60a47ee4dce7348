"""`--set inference.batch.max_size=16`: changes to a document from the command line.

The first word is a stage's name or a field of the document. After a stage's name comes a field of the
stage, otherwise an option of its `with:`. A number picks an item of a list: `inputs.0.max.bytes=4MiB`.
The value is YAML: `true`, `16`, `[0, 1]`. Assignments change plain values before they are validated.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from pipeline.config.document import parse_value
from pipeline.config.findings import Locations, NodePath, Origin
from pipeline.config.schema import PipelineConfig, StageConfig
from pipeline.errors import ConfigError
from stages.hints import did_you_mean

__all__ = ["apply_overrides"]


def apply_overrides(data: dict[str, Any], locations: Locations, assignments: list[str]) -> Locations:
    """Change `data` in place by every assignment; returns the locations, with new ones for the changed nodes.

    Raises:
        ConfigError: an assignment is not `name=value`, or names no field.
    """
    origins = dict(locations.origins)
    for assignment in assignments:
        source = f"--set {assignment}"
        target, equals, text = assignment.partition("=")
        words = target.strip().split(".")
        if not equals or not all(words):
            raise ConfigError(f"{source}: expected NAME=VALUE, such as inference.batch.max_size=16")
        value, nodes = parse_value(text, source)
        path = _put(data, _resolve(data, words, source), value, source)
        for old in [known for known in origins if known[: len(path)] == path]:
            del origins[old]
        # Mappings that were made on the way are this assignment's too: the file has no place for them.
        for depth in range(1, len(path)):
            origins.setdefault(path[:depth], Origin(source, source))
        origins[path] = Origin(source, source)
        origins.update({(*path, *below): origin for below, origin in nodes.items()})
    return Locations(locations.root, origins)


def _resolve(data: dict[str, Any], words: list[str], source: str) -> NodePath:
    """The path in the document that the words of one assignment mean."""
    stages = data.get("stages")
    named = {
        stage["name"]: index
        for index, stage in enumerate(stages if isinstance(stages, list) else [])
        if isinstance(stage, dict) and isinstance(stage.get("name"), str)
    }
    head, *rest = words
    if head in named:
        if not rest:
            raise ConfigError(f"{source}: say which field of the stage {head}, such as {head}.replicas")
        fields = _fields(StageConfig)
        below = rest if rest[0] in fields else ["with", *rest]
        return ("stages", named[head], *below)
    if head not in _fields(PipelineConfig):
        hint = did_you_mean(head, [*named, *_fields(PipelineConfig)])
        raise ConfigError(f"{source}: {head} is neither a stage nor a field of the config{hint}")
    return (head, *rest)


def _put(data: dict[str, Any], path: NodePath, value: Any, source: str) -> NodePath:
    """Put `value` at `path`, making mappings on the way; returns the path with numbers for list items."""
    node: Any = data
    real: NodePath = ()
    for depth, word in enumerate(path):
        key: str | int = word
        if isinstance(node, list):
            # A number of thousands of digits is none that Python reads.
            if not str(word).isdecimal() or len(str(word)) > 9 or int(word) >= len(node):
                raise ConfigError(f"{source}: expected the number of an item, 0 to {len(node) - 1}, found {word}")
            key = int(word)
        elif not isinstance(node, dict):
            raise ConfigError(f"{source}: {'.'.join(map(str, real))} is a single value; it has no {word}")
        real = (*real, key)
        if depth == len(path) - 1:
            node[key] = value
        elif isinstance(node, dict):
            # `batch:` without a value is null; an assignment below it makes it a mapping.
            if node.get(str(key)) is None:
                node[str(key)] = {}
            node = node[str(key)]
        else:
            node = node[key]
    return real


def _fields(model: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]
