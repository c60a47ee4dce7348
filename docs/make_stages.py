"""Writes docs/stages.md from the stock stages: options and defaults from their signatures, meanings from docstrings.

    python docs/make_stages.py
"""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
import re
import textwrap
from pathlib import Path
from typing import Any

import stages
from stages.function import FunctionStage
from stages.stage import Stage

_SIDES = ("Input", "Outpu")
PAGE = Path(__file__).parent / "stages.md"

INTRO = """\
# The stock stages

<!-- Written by docs/make_stages.py out of the classes. -->

The stages that `use:` can name without any code of yours, and the options that `with:` takes. An option that is not
given has its default; an option without a default is required. If an option names a file, a relative path is relative
to the YAML. To write a stage of your own: [writing-a-stage.md](writing-a-stage.md). The fields beside `with:`:
[config.md](config.md).

"""

_SPEC = (
    "A list of specs, each with `name`, `dtype`, `shape` and, if dimensions are free, `max`; perhaps `many`, "
    "`optional`: [chaining.md](chaining.md)."
)

FUNCTION = f"""\
## A function of your own

`use: ./glue.py:invert` calls a plain function once for each request. The YAML has its specs, since a function has
none: [writing-a-stage.md](writing-a-stage.md#a-function-as-a-stage).

| option | default | meaning |
| --- | --- | --- |
| `inputs` | required | {_SPEC} |
| `outputs` | required | The same, and perhaps `many_bytes`. |
| any other | the function's own | An argument of the function, the same in each call. |
"""


def stock() -> list[type[Any]]:
    """Every stage of the package that `use:` can name, in the order of the page."""
    found = []
    for module in pkgutil.walk_packages(stages.__path__, "stages."):
        if module.name.startswith("stages.engines"):
            continue
        for value in vars(importlib.import_module(module.name)).values():
            if inspect.isclass(value) and value.__module__ == module.name and value not in (Stage, FunctionStage):
                found += [value] if callable(getattr(value, "process", None)) else []
    return found


def describe(stage: type[Any]) -> str:
    """One stage's section.

    Raises:
        ValueError: an option is missing in the docstring, or the docstring names an option that does not exist.
    """
    text = inspect.getdoc(stage) or ""
    head, _, rest = text.partition("\nArgs:\n")
    meanings = _arguments(rest.partition("\nRaises:\n")[0])
    parameters = {
        name: parameter for name, parameter in inspect.signature(stage).parameters.items() if name != "base_dir"
    }
    meanings.pop("base_dir", None)
    if missing := sorted(set(parameters) ^ set(meanings)):
        raise ValueError(f"{stage.__module__}:{stage.__qualname__}: the docstring and the signature differ: {missing}")
    lines = [f"## `{stage.__module__}:{stage.__qualname__}`", "", _paragraphs(head), ""]
    lines += ["| option | default | meaning |", "| --- | --- | --- |"]
    for name, parameter in parameters.items():
        default = "required" if parameter.default is parameter.empty else f"`{_spell(parameter.default)}`"
        lines.append(f"| `{name}` | {default} | {_cell(meanings[name])} |")
    return "\n".join(lines) + "\n"


def render() -> str:
    """The whole page."""
    return INTRO + "\n".join([*map(describe, stock()), FUNCTION])


def _arguments(text: str) -> dict[str, str]:
    """Name -> meaning; `mean, std: ...` describes both of them."""
    meanings: dict[str, str] = {}
    for entry in re.split(r"\n(?=\S)", textwrap.dedent(text).strip()):
        names, _, meaning = entry.partition(":")
        for name in names.split(","):
            meanings[name.strip()] = " ".join(meaning.split())
    return meanings


def _spell(value: object) -> str:
    """A value as YAML."""
    return "-" if value in (None, ()) else json.dumps(value)


def _cell(text: str) -> str:
    """The text of a table's cell: a bar would end the column."""
    text = text.replace("|", "\\|")
    return text[:1].upper() + text[1:] if not re.match(r"stages\.|[\[{\"]", text) else text


def _paragraphs(text: str) -> str:
    """The docstring's text: inputs and outputs as a list, drawings unchanged."""
    parts = []
    for part in re.split(r"\n\s*\n", text.strip()):
        if part.startswith("    "):
            parts.append(textwrap.indent(textwrap.dedent(part), "    "))
        else:
            items = re.split(r"(?:^|(?<=\.) |\n)(?=(?:Input|Output) `)", part)
            lines = ["* " + item.replace("\n", "\n  ") if item[:5] in _SIDES else item for item in items]
            parts.append("\n".join(lines).strip())
    return "\n\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(render())
