"""Manifest: documents as one YAML stream in a stable order, with comments above the keys that they explain. Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

__all__ = ["Document", "Path", "to_yaml"]

Path = tuple[str | int, ...]
"""The way to a value: `("spec", "containers", 0, "image")`."""

_WIDTH = 118
#: Of a value: none is broken.
_ENDLESS = 1 << 20


@dataclass(frozen=True, slots=True)
class Document:
    """One object of Kubernetes."""

    value: Mapping[str, Any]
    """Its fields, in the order in which they are written."""
    comments: Mapping[Path, str] = field(default_factory=dict)
    """The comment above a key or an item."""


class _Dumper(yaml.SafeDumper):
    """Texts of several lines are written as such; equal values are written twice rather than as an alias."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _represent_text)


def to_yaml(header: str, documents: Sequence[Document]) -> str:
    """The stream.

    Args:
        header: a comment above everything; each line of it is one.

    Raises:
        KeyError: a comment is about a value that its document does not have.
    """
    head = "".join(f"# {line}".rstrip() + "\n" for line in header.splitlines())
    return head + "---\n".join(_commented(document) for document in documents)


def _commented(document: Document) -> str:
    text = yaml.dump(dict(document.value), Dumper=_Dumper, sort_keys=False, width=_ENDLESS, allow_unicode=True)
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    lines = text.splitlines(keepends=True)
    above: dict[int, str] = {}
    for path, comment in document.comments.items():
        mark = _find(root, path).start_mark
        # An item of a list begins behind its dash.
        column = mark.column - 2 * isinstance(path[-1], int)
        wrapped = textwrap.wrap(comment, _WIDTH - column - 2, break_long_words=False, break_on_hyphens=False)
        above[mark.line] = above.get(mark.line, "") + "".join(f"{' ' * column}# {line}\n" for line in wrapped)
    return "".join(above.get(number, "") + line for number, line in enumerate(lines))


def _find(root: yaml.Node | None, path: Path) -> yaml.Node:
    """The node above which a comment stands: the key that the path ends with, or the item."""
    place = value = root
    for word in path:
        if isinstance(value, yaml.MappingNode):
            place, value = next(((key, value) for key, value in value.value if key.value == word), (None, None))
        elif isinstance(value, yaml.SequenceNode) and isinstance(word, int) and word < len(value.value):
            place = value = value.value[word]
        else:
            place = None
        if place is None:
            raise KeyError(path)
    assert place is not None
    return place
