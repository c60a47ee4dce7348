"""Document: a YAML file as plain values, and the place at which each of them was written.

Only this module parses YAML. It reads the core schema of YAML 1.2, so `no`, `on` and `12:30` are
text. Anchors, aliases and merge keys work; it refuses tags, duplicate keys and documents that expand
without bounds. It knows nothing about pipelines.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from pipeline.config.findings import Locations, NodePath, Origin
from pipeline.errors import ConfigError
from stages.hints import nearest

__all__ = ["compose", "no_such_file", "parse_value", "read_document"]

MAX_FILE_BYTES = 1 << 20
MAX_NODES = 20_000
"""Nodes after aliases are expanded. Without the limit, a few lines of aliases of aliases fill any memory."""
MAX_DEPTH = 40
"""The limit also ends an alias inside its own anchor."""
MAX_DIGITS = 300
"""Longer whole numbers are in no float, and from 4300 digits on Python refuses to read or to write them."""

_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_EXPECTED = "expected a mapping with at least `inputs` and `stages`"
_TAG = "tag:yaml.org,2002:"


class _Loader(yaml.SafeLoader):
    """The scanner and composer of PyYAML with the scalars of YAML 1.2."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 (PyYAML's own form)


for _name, _pattern, _first in (
    ("null", re.compile(r"~|null|Null|NULL|"), ["~", "n", "N", ""]),
    ("bool", re.compile(r"true|True|TRUE|false|False|FALSE"), list("tTfF")),
    ("int", re.compile(f"(?:{_INT.pattern})$"), list("-+0123456789")),
    ("float", re.compile(f"(?:{_FLOAT.pattern})$"), list("-+.0123456789")),
    ("merge", re.compile(r"<<"), ["<"]),
):
    _Loader.add_implicit_resolver(_TAG + _name, re.compile(f"(?:{_pattern.pattern})$"), _first)


def no_such_file(path: Path) -> str:
    """That a config is not there, and which one in its folder may be meant."""
    try:
        names = [entry.name for entry in path.parent.iterdir() if entry.suffix in (".yaml", ".yml")]
    except OSError:
        names = []
    meant = nearest(path.name, sorted(names))
    return f"{path}: there is no such file" + (f" (did you mean {path.parent / meant}?)" if meant is not None else "")


def read_document(path: Path) -> tuple[dict[str, Any], Locations]:
    """The mapping in the file at `path`, and the places of its nodes.

    Raises:
        ConfigError: the file cannot be read, is not YAML, or is not one mapping.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
        text = raw.decode("utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(no_such_file(path)) from None
    except IsADirectoryError:
        raise ConfigError(f"{path}: expected a YAML file, found a directory") from None
    except UnicodeDecodeError as error:
        found = f"byte 0x{raw[error.start]:02x} at offset {error.start}"
        raise ConfigError(f"{path}: expected a YAML file, which is UTF-8 text; found {found}") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    if len(raw) > MAX_FILE_BYTES:
        raise ConfigError(f"{path}: larger than {MAX_FILE_BYTES} bytes; this is not a pipeline's config")
    reader = _Reader(str(path))
    node = reader.compose(text)
    if node is None:
        raise ConfigError(f"{path}:1:1: the file is empty; {_EXPECTED}")
    if not isinstance(node, yaml.MappingNode):
        found = "a list" if isinstance(node, yaml.SequenceNode) else "a single value"
        raise ConfigError(f"{reader.place(node)}: {_EXPECTED}, found {found}")
    return reader.construct(node, ()), Locations(f"{path}:1:1", reader.origins)


def parse_value(text: str, source: str) -> tuple[Any, dict[NodePath, Origin]]:
    """The value of a scalar or flow collection, as in `--set a.b=[1, 2]`, and the paths of its nodes.

    `source` is given as the place of every node; messages begin with it.

    Raises:
        ConfigError: the text is not YAML.
    """
    reader = _Reader(source, positions=False)
    node = reader.compose(text)
    value = None if node is None else reader.construct(node, ())
    return value, reader.origins


def compose(text: str, source: str) -> yaml.Node | None:
    """The nodes of a document, with the places of each in the text; None: it is empty.

    Raises:
        ConfigError: the text is not YAML.
    """
    return _Reader(source).compose(text)


class _Reader:
    def __init__(self, source: str, *, positions: bool = True) -> None:
        self._source = source
        self._positions = positions
        self._nodes = 0
        self._merging: list[yaml.Node] = []
        self.origins: dict[NodePath, Origin] = {}

    def place(self, node: yaml.Node) -> str:
        return self._at(node.start_mark)

    def compose(self, text: str) -> yaml.Node | None:
        try:
            return yaml.compose(text, Loader=_Loader)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            raise ConfigError(f"{self._at(mark)}: not YAML: {_problem(error)}") from None
        except yaml.YAMLError as error:  # for a control character, which has an offset but no line
            raise ConfigError(f"{self._source}: not YAML: {' '.join(str(error).split())}") from None
        except RecursionError:
            raise ConfigError(f"{self._source}: nested too deeply for a pipeline's config") from None

    def construct(self, node: yaml.Node, path: NodePath) -> Any:
        """The plain value of `node`; notes the place of everything below it."""
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise ConfigError(f"{self.place(node)}: aliases expand this document to more than {MAX_NODES} values")
        if len(path) > MAX_DEPTH:
            at = self.place(node)
            raise ConfigError(f"{at}: nested more than {MAX_DEPTH} deep, or an alias is inside its own anchor")
        if isinstance(node, yaml.MappingNode) and node.tag == _TAG + "map":
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode) and node.tag == _TAG + "seq":
            for index, item in enumerate(node.value):
                at_item = (*path, index)
                self.origins[at_item] = Origin(self.place(item), self.place(item))
            return [self.construct(item, (*path, index)) for index, item in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node)
        raise ConfigError(f"{self.place(node)}: the tag {_tag(node)} is not allowed; remove it")

    def _mapping(self, node: yaml.MappingNode, path: NodePath) -> dict[str, Any]:
        own: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        first: dict[str, yaml.Node] = {}
        for key_node, value_node in node.value:
            if key_node.tag == _TAG + "merge":
                # Before the keys of this mapping, whose places then replace the merged ones.
                merged = {**self._merge(value_node, path), **merged}
        for key_node, value_node in node.value:
            if key_node.tag == _TAG + "merge":
                continue
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag != _TAG + "str":
                raise ConfigError(f"{self.place(key_node)}: expected text as a key; put it in quotes")
            key = key_node.value
            if key in first:
                raise ConfigError(
                    f"{self.place(key_node)}: the key {key!r} is given twice; "
                    f"it was first given at {self.place(first[key])}"
                )
            first[key] = key_node
            at_value = (*path, key)
            self.origins[at_value] = Origin(self.place(key_node), self.place(value_node))
            own[key] = self.construct(value_node, at_value)
        return {**merged, **own}

    def _merge(self, node: yaml.Node, path: NodePath) -> dict[str, Any]:
        """The keys from `<<: *base` or `<<: [*base, *other]`; the first of several wins."""
        merged: dict[str, Any] = {}
        for source in reversed(node.value if isinstance(node, yaml.SequenceNode) else [node]):
            if not isinstance(source, yaml.MappingNode):
                raise ConfigError(f"{self.place(source)}: expected a mapping, or a list of mappings, to merge")
            if any(source is outer for outer in self._merging):
                raise ConfigError(f"{self.place(source)}: a mapping cannot be merged into itself; remove that alias")
            # A merge goes no deeper into the document, so MAX_DEPTH does not end one that is inside its own anchor.
            self._merging.append(source)
            merged.update(self.construct(source, path))
            self._merging.pop()
        return merged

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        text: str = node.value
        tag = node.tag.removeprefix(_TAG)
        if tag == "str":
            return text
        if tag == "null" and text in ("", "~", "null", "Null", "NULL"):
            return None
        if tag == "bool" and text.lower() in ("true", "false"):
            return text.lower() == "true"
        if tag == "int" and _INT.fullmatch(text):
            if len(text) > MAX_DIGITS:
                raise ConfigError(f"{self.place(node)}: expected a number of at most {MAX_DIGITS} characters")
            # Base 0 knows 0o and 0x but refuses 007, which is 7 in YAML 1.2.
            return int(text, 0 if text[:2] in ("0o", "0x") else 10)
        if tag == "float" and _FLOAT.fullmatch(text):
            return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
        raise ConfigError(f"{self.place(node)}: the tag {_tag(node)} is not allowed for {text!r}; remove it")

    def _at(self, mark: yaml.Mark | None) -> str:
        if not self._positions or mark is None:
            return self._source
        return f"{self._source}:{mark.line + 1}:{mark.column + 1}"


def _problem(error: yaml.MarkedYAMLError) -> str:
    problem = error.problem or error.context or "it cannot be parsed"
    if "'\\t'" in problem:
        return "a tab cannot indent YAML; use spaces"
    if error.context and error.problem:
        return f"{error.context}, {problem}"
    return problem


def _tag(node: yaml.Node) -> str:
    return str(node.tag).replace(_TAG, "!!")
