"""Expansion: `~` and environment variables in a config's paths and options. Pure.

    ~, ~/models/m.onnx            the home folder, at the start of a text only
    ${MODELS}/m.onnx              a variable, anywhere in a text; ${MODELS:-models} has a default if it
                                  is unset or empty
    $MODELS/m.onnx                a variable that is the first part of a path
    $${MODELS}                    the text ${MODELS}

Every other text with a dollar sign stays as it is: it may be a pattern, or a price.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from typing import Any

from pipeline.config.findings import NodePath

__all__ = ["expand_document", "expand_text"]

_VARIABLE = re.compile(r"\$(\$\{)|\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^{}]*))?\}")
_FIRST_PART = re.compile(r"\$([A-Za-z_][A-Za-z0-9_]*)(?=/|$)")


def expand_text(text: str, environment: Mapping[str, str]) -> str:
    """`text` with its `~` and variables replaced.

    Raises:
        KeyError: a variable is unset and has no default; the error has its name.
    """

    def value_of(match: re.Match[str]) -> str:
        if match[1]:
            return "${"
        if match[3] is not None:
            return environment.get(match[2]) or match[3]
        return environment[match[2]]

    # The value of a variable is not expanded again.
    if (first := _FIRST_PART.match(text)) is not None:
        return environment[first[1]] + _VARIABLE.sub(value_of, text[first.end() :])
    expanded = _VARIABLE.sub(value_of, text)
    if text == "~" or text.startswith("~/"):
        home = environment.get("HOME") or os.path.expanduser("~")
        return home + expanded[1:]
    return expanded


def expand_document(
    data: dict[str, Any], environment: Mapping[str, str], refuse: Callable[[NodePath, str], None]
) -> None:
    """Expand the files and options of a document in place.

    These are a stage's `use`, `env` and `with`, `run.inputs`, `canary.input`, `capsules.folder`, `segments.dir`,
    `record.dir`, a source's `password_file`, and `mqtt` but for its password; of that, and of a source's `url`, only
    the variables are looked up. The document need not be valid: a value of another form than expected is left to the
    code that checks it.

    Args:
        refuse: called with the path of a text that names an unset variable, and the message.
    """

    def expand(value: Any, path: NodePath) -> Any:
        if isinstance(value, str):
            try:
                return expand_text(value, environment)
            except KeyError as error:
                name = error.args[0]
                refuse(
                    path,
                    f"the environment variable {name} is not set; set it, give a default as in ${{{name}:-...}}, "
                    f"or write $${{{name}}} for that text itself",
                )
                return value
        if isinstance(value, dict):
            return {name: expand(item, (*path, name)) for name, item in value.items()}
        if isinstance(value, list):
            return [expand(item, (*path, index)) for index, item in enumerate(value)]
        return value

    def expand_fields(node: Any, path: NodePath, names: tuple[str, ...]) -> None:
        for name in names if isinstance(node, dict) else ():
            if name in node:
                node[name] = expand(node[name], (*path, name))

    sources = data.get("sources")
    for index, source in enumerate(sources if isinstance(sources, list) else ()):
        expand_fields(source, ("sources", index), ("password_file",))
        if isinstance(source, dict):
            # Refused here if a variable is not set, and expanded in the source's process: a password that is in a
            # variable is in no plan, and so in nothing that is printed of one.
            expand(source.get("url"), ("sources", index, "url"))
    broker = data.get("mqtt")
    expand_fields(broker, ("mqtt",), ("host", "user", "password_file", "tls"))
    if isinstance(broker, dict) and isinstance(password := broker.get("password"), str):
        # As a camera's, only looked up; and without a default, which would be a password in the file.
        try:
            expand_text(password, environment)
        except KeyError as error:
            why = f"the environment variable {error.args[0]} is not set; set it, or name a password_file"
            refuse(("mqtt", "password"), why)
    stages = data.get("stages")
    for index, stage in enumerate(stages if isinstance(stages, list) else ()):
        expand_fields(stage, ("stages", index), ("use", "env", "with"))
    for section, name in (("run", "inputs"), ("canary", "input"), ("capsules", "folder"), ("segments", "dir"),
                          ("record", "dir"), ("serve", "token_file")):
        expand_fields(data.get(section), (section,), (name,))
