"""A diagram as Mermaid text, which GitHub, GitLab and many editors draw. Pure.

Of the syntax only what has been the same since Mermaid 9 is used: https://mermaid.js.org/syntax/flowchart.html
"""

from __future__ import annotations

from collections.abc import Iterable

from pipeline.drawing.diagram import AFTER, MANY, ONE, WHEN, Box, Diagram

__all__ = ["to_mermaid"]

_LINES = {ONE: "-->", MANY: "==>", WHEN: "-.->", AFTER: "-.->"}


def to_mermaid(diagram: Diagram) -> str:
    """The text of a flowchart, top to bottom, ending in a newline."""
    # A name of its own for each, since some words, such as `end`, mean something to Mermaid.
    ids = {
        box.key: f"s{index}_{box.key.replace('-', '_')}" if box.is_stage else box.key or "answer"
        for index, box in enumerate(diagram.boxes)
    }
    lines = ["flowchart TB"]
    drawn: set[str] = set()
    for box in diagram.boxes:
        if box.group is None:
            lines.append(f"    {_box(ids, box)}")
        elif box.group not in drawn:
            drawn.add(box.group)
            lines.append(f'    subgraph {ids[box.group]}_process ["{_text(["one process"])}"]')
            lines += [f"        {_box(ids, other)}" for other in diagram.boxes if other.group == box.group]
            lines.append("    end")
    lines += [
        f'    {ids[arrow.source]} {_LINES[arrow.kind]}|"{_text(arrow.lines)}"| {ids[arrow.target]}'
        for arrow in diagram.arrows
    ]
    return "\n".join(lines) + "\n"


def _box(ids: dict[str, str], box: Box) -> str:
    opened, closed = ("[", "]") if box.is_stage else ("([", "])")
    return f'{ids[box.key]}{opened}"{_text(box.lines)}"{closed}'


def _text(lines: Iterable[str]) -> str:
    """Inside double quotes only these would be taken for something else; entities are written with a #."""
    escaped = []
    for line in lines:
        for character, entity in (("#", "#35;"), ('"', "#quot;"), ("<", "#lt;"), (">", "#gt;"), ("`", "#96;")):
            line = line.replace(character, entity)
        escaped.append(line)
    return "<br/>".join(escaped)
