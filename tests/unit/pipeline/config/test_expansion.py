"""`~` and variables in texts of a config."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.config.expansion import expand_document, expand_text
from pipeline.config.findings import NodePath

ENVIRONMENT = {"HOME": "/home/me", "MODELS": "/models", "EMPTY": "", "NESTED": "${MODELS} ~ $MODELS"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("~", "/home/me"),
        ("~/m.onnx", "/home/me/m.onnx"),
        ("~/${MODELS}", "/home/me//models"),
        ("a/~/b", "a/~/b"),
        ("~other/x", "~other/x"),
        ("~5", "~5"),
        ("$MODELS", "/models"),
        ("$MODELS/m.onnx", "/models/m.onnx"),
        ("${MODELS}/m.onnx", "/models/m.onnx"),
        ("a-${MODELS}-${MODELS}", "a-/models-/models"),
        ("${EMPTY}x", "x"),
        ("${EMPTY:-other}", "other"),
        ("${NONE:-}", ""),
        ("${NONE:-a b/c}", "a b/c"),
        ("${MODELS:-other}", "/models"),
        ("$${MODELS}", "${MODELS}"),
        ("${NESTED}", "${MODELS} ~ $MODELS"),
        # No variables: patterns, prices, shapes.
        ("^a$", "^a$"),
        ("cost: $MODELS", "cost: $MODELS"),
        ("a$MODELS/b", "a$MODELS/b"),
        ("$MODELS and more", "$MODELS and more"),
        ("$5", "$5"),
        ("${5}", "${5}"),
        ("${a b}", "${a b}"),
        ("{MODELS}", "{MODELS}"),
        ("", ""),
    ],
)
def test_a_text_is_expanded_where_it_names_the_home_folder_or_a_variable(text: str, expected: str) -> None:
    assert expand_text(text, ENVIRONMENT) == expected


@pytest.mark.parametrize("text", ["$NONE/m.onnx", "${NONE}/m.onnx", "a/${NONE}"])
def test_a_variable_that_is_unset_and_has_no_default_is_named(text: str) -> None:
    with pytest.raises(KeyError, match="NONE"):
        expand_text(text, ENVIRONMENT)


def test_only_paths_and_options_of_a_document_are_expanded() -> None:
    found: list[tuple[NodePath, str]] = []
    data: dict[str, Any] = {
        "name": "${MODELS}",
        "stages": [{"name": "${MODELS}", "use": "${MODELS}/a.py:A", "with": {"list": ["~/a", 3, None, {"b": "~"}]}}],
        "run": {"inputs": ["~/*.jpg", "${NONE}"], "files": ["${MODELS}"]},
        "sources": [{"url": "rtsp://a:${MODELS}@h/", "password_file": "~/p"}, {"url": "${NONE}"}],
        "mqtt": {"host": "${MODELS}", "password": "${MODELS}", "tls": {"ca": "~/ca"}},
    }
    expand_document(data, ENVIRONMENT, lambda path, message: found.append((path, message)))
    assert data == {
        "name": "${MODELS}",
        "stages": [
            {"name": "${MODELS}", "use": "/models/a.py:A", "with": {"list": ["/home/me/a", 3, None, {"b": "/home/me"}]}}
        ],
        "run": {"inputs": ["/home/me/*.jpg", "${NONE}"], "files": ["${MODELS}"]},
        # A camera's URL stays as it is written: a password is in the environment of its source alone.
        "sources": [{"url": "rtsp://a:${MODELS}@h/", "password_file": "/home/me/p"}, {"url": "${NONE}"}],
        "mqtt": {"host": "/models", "password": "${MODELS}", "tls": {"ca": "/home/me/ca"}},
    }
    assert sorted(path for path, _ in found) == [("run", "inputs", 1), ("sources", 1, "url")]


def test_a_variable_of_the_broker_s_password_that_is_unset_is_refused_and_no_default_is_proposed() -> None:
    found: list[tuple[NodePath, str]] = []
    expand_document({"mqtt": {"password": "${NONE}"}}, ENVIRONMENT, lambda path, message: found.append((path, message)))
    ((path, message),) = found
    assert path == ("mqtt", "password")
    assert message == "the environment variable NONE is not set; set it, or name a password_file"


@pytest.mark.parametrize("data", [{}, {"stages": 3, "run": [], "canary": None, "sources": 5}, {"stages": [3, None], "run": {"inputs": 5}}])
def test_a_document_of_another_form_is_left_to_who_checks_it(data: dict[str, Any]) -> None:
    expand_document(data, ENVIRONMENT, lambda path, message: None)
