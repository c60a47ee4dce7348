"""Where traces go, as the YAML says it."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from pipeline.config.tracing import TracingConfig


def test_without_anything_the_environment_says_where_and_one_request_of_a_hundred_is_exported() -> None:
    found = TracingConfig.model_validate({})
    assert (found.endpoint, found.protocol, found.sample) == (None, None, 0.01)


@pytest.mark.parametrize(
    "wrong",
    [{"endpoint": "collector:4318"}, {"endpoint": "http://"}, {"protocol": "http/json"}, {"sample": 1.5}, {"queue": 1}, {"headers": {}}],
)
def test_what_is_no_url_no_protocol_or_no_part_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        TracingConfig.model_validate(wrong)


def test_a_password_in_the_url_is_refused_and_not_shown_by_our_message() -> None:
    with pytest.raises(ValidationError) as refused:
        TracingConfig.model_validate({"endpoint": "http://me:geheim@collector:4318"})
    (error,) = refused.value.errors(include_input=False)
    assert "headers_file" in error["msg"]
    assert "geheim" not in error["msg"]
