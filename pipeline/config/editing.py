"""Editing: fields of a config's text are set, and everything else of it stays, comments included. Pure.

It works on the text itself, at the places that the parser gives for each node, and not on a tree that is printed again:
no library has to know about comments, and lines that nothing changes stay as they are to the byte.

    - name: inference            a field that is there:       its value is replaced
      use: stages.infer:Infer    a field that is not there:   a line behind the last one of its mapping
      batch: {max_size: 4}       a mapping in braces:         before the closing brace

What was made is read again and compared with the values that were wanted. If they differ, as where several stages share
a mapping by an anchor, or where a stage has no lines of its own, the whole document is written anew, without comments.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import yaml

from pipeline.config.document import compose, parse_value
from pipeline.config.findings import Locations
from pipeline.config.overrides import apply_overrides
from pipeline.errors import ConfigError

__all__ = ["edited", "without"]


def edited(text: str, assignments: Sequence[str], source: str) -> tuple[str, bool]:
    """The text of a config with assignments of `--set` written into its stages; and whether its comments were kept.

    Args:
        assignments: STAGE.FIELD=VALUE, the value as YAML has it.
        source: what messages call the text.

    Raises:
        ConfigError: the text or an assignment is wrong.
    """
    wanted: dict[str, Any] = deepcopy(parse_value(text, source)[0])
    apply_overrides(wanted, Locations(source, {}), list(assignments))
    try:
        made = text
        for assignment in assignments:
            path, _, value = assignment.partition("=")
            made = _set(made, path.split("."), value, source)
        if parse_value(made, source)[0] == wanted:
            return made, True
    except (_Unwritable, ConfigError):
        pass  # what was made is no YAML, or cannot be: as if it were different
    return yaml.safe_dump(wanted, sort_keys=False, allow_unicode=True, width=120), False


def without(text: str, path: Sequence[str], source: str) -> str:
    """The text without one field of a stage, which is there; its comments go with it, and no others.

    Args:
        path: the name of the stage, then the keys down to the field.

    Raises:
        ConfigError: it cannot be taken out, since its place is shared, or it is the only field of its mapping.
    """
    name, *keys = path
    wanted: Any = deepcopy(parse_value(text, source)[0])
    below = next(stage for stage in wanted["stages"] if stage.get("name") == name)
    for key in keys[:-1]:
        below = below[key]
    del below[keys[-1]]
    made = _cut(text, _mapping_at(text, [name, *keys[:-1]], source), keys[-1])
    try:
        if below and parse_value(made, source)[0] == wanted:
            return made
    except ConfigError:
        pass  # what was made is no YAML
    raise ConfigError(f"{source}: {'.'.join(path)} cannot be taken out without losing other lines; do it by hand")


def _mapping_at(text: str, path: Sequence[str], source: str) -> yaml.Node | None:
    stages = _value_of(compose(text, source), "stages")
    name, *keys = path
    found: list[yaml.Node] = stages.value if isinstance(stages, yaml.SequenceNode) else []
    node: yaml.Node | None = next((stage for stage in found if _scalar(_value_of(stage, "name")) == name), None)
    for key in keys:
        node = _value_of(node, key)
    return node


def _cut(text: str, node: yaml.Node | None, key: str) -> str:
    """A field out of a mapping; the same text if it cannot be."""
    if not isinstance(node, yaml.MappingNode):
        return text
    pairs: list[tuple[yaml.Node, yaml.Node]] = node.value
    index = next((index for index, (name, _) in enumerate(pairs) if _scalar(name) == key), None)
    if index is None:
        return text
    begin, end = int(pairs[index][0].start_mark.index), _end(pairs[index][1], text)
    if not node.flow_style:
        # Whole lines, with the comment behind the value.
        line = text.find("\n", end)
        return text[: text.rfind("\n", 0, begin) + 1] + ("" if line < 0 else text[line + 1 :])
    if index + 1 < len(pairs):
        return text[:begin] + text[int(pairs[index + 1][0].start_mark.index) :]
    return text[: _end(pairs[index - 1][1], text) if index else begin] + text[end:]


class _Unwritable(Exception):
    """There is no place for a field."""


def _set(text: str, path: Sequence[str], value: str, source: str) -> str:
    """One field of a stage."""
    root = compose(text, source)
    stages = _value_of(root, "stages")
    if not isinstance(stages, yaml.SequenceNode):
        raise _Unwritable
    name, *keys = path
    node = next((stage for stage in stages.value if _scalar(_value_of(stage, "name")) == name), None)
    while True:
        if not isinstance(node, yaml.MappingNode):
            raise _Unwritable
        key, *keys = keys
        found = _value_of(node, key)
        if found is None:
            for part in reversed(keys):
                value = f"{{{part}: {value}}}"
            return _inserted(text, node, f"{key}: {value}")
        if not keys:
            begin = int(found.start_mark.index)
            return text[:begin] + value + text[_end(found, text) :]
        node = found


def _value_of(node: yaml.Node | None, key: str) -> yaml.Node | None:
    pairs: list[tuple[yaml.Node, yaml.Node]] = node.value if isinstance(node, yaml.MappingNode) else []
    return next((value for name, value in pairs if _scalar(name) == key), None)


def _scalar(node: yaml.Node | None) -> str | None:
    return str(node.value) if isinstance(node, yaml.ScalarNode) else None


def _inserted(text: str, node: yaml.MappingNode, field: str) -> str:
    """A field at the end of a mapping."""
    if node.flow_style:
        at = _end(node, text) - 1
        head = text[:at].rstrip()
        return head + ("" if head.endswith(("{", ",")) else ",") + (" " if head[-1] != "{" else "") + field + text[at:]
    if not node.value:
        raise _Unwritable
    key, last = node.value[-1]
    indent = " " * int(key.start_mark.column)
    end = _end(last, text)
    if end < key.start_mark.index:
        end = int(key.end_mark.index)  # an alias: the node lies at its anchor
    if end > 0 and text[end - 1] == "\n":
        return f"{text[:end]}{indent}{field}\n{text[end:]}"
    # Behind a comment of that line.
    line = text.find("\n", end)
    line = len(text) if line < 0 else line
    return f"{text[:line]}\n{indent}{field}{text[line:]}"


def _end(node: yaml.Node, text: str) -> int:
    """Where a node ends: for a block, where the last thing in it ends, and not where the next one begins."""
    if isinstance(node, (yaml.MappingNode, yaml.SequenceNode)) and not node.flow_style and node.value:
        last = node.value[-1]
        return _end(last[1] if isinstance(last, tuple) else last, text)
    return int(node.end_mark.index)
