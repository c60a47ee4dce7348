"""The gateway's settings, and who may call."""

from __future__ import annotations

import pytest

from pipeline.errors import ConfigError, KserveError
from pipeline.serving.settings import Settings, check_browser, check_page, check_token, merged


def test_what_one_config_says_holds_for_the_gateway() -> None:
    assert merged([("a.yaml", {"control": True, "host": None}), ("b.yaml", {"http_port": 0})]) == {
        "control": True,
        "http_port": 0,
    }


def test_two_configs_may_say_the_same() -> None:
    assert merged([("a.yaml", {"control": False}), ("b.yaml", {"control": False})]) == {"control": False}


def test_two_configs_that_differ_are_refused_with_both_names() -> None:
    with pytest.raises(ConfigError, match=r"b\.yaml: serve\.control is False, but a\.yaml says True"):
        merged([("a.yaml", {"control": True}), ("b.yaml", {"control": False})])


def test_what_is_the_pipelines_own_is_left_out() -> None:
    assert merged([("a.yaml", {"batched": True})]) == {}


def test_everything_is_closed_by_default() -> None:
    settings = Settings()
    assert (settings.host, settings.control, settings.shared_memory) == ("127.0.0.1", False, ())
    assert not settings.opens("control")
    assert not settings.opens("shared_memory")
    assert settings.opens("")


def test_what_the_config_opens_is_open() -> None:
    assert Settings(control=True).opens("control")
    assert Settings(shared_memory=("/a",)).opens("shared_memory")


def test_the_token_is_not_shown() -> None:
    assert "secret" not in repr(Settings(token="secret"))


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer other", "Basic secret", "secret", "Bearer secretx", "Bearer sécret"])
def test_a_request_without_the_token_is_refused(header: str) -> None:
    with pytest.raises(KserveError, match="Authorization") as refused:
        check_token("secret", header)
    assert refused.value.code == "UNAUTHENTICATED"
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("header", ["Bearer secret", "bearer secret", "Bearer  secret "])
def test_a_request_with_the_token_is_taken(header: str) -> None:
    check_token("secret", header)


def test_without_a_token_none_is_needed() -> None:
    check_token("", "")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8000", "127.0.0.1:8000", "10.0.0.7", "[::1]:8000", "models.test:80"])
def test_localhost_addresses_and_allowed_names_are_hosts(host: str) -> None:
    check_browser(host, "", ["Models.test"])


@pytest.mark.parametrize("host", ["", "evil.test", "evil.test:8000", "localhost.evil.test", "127.0.0.1.evil.test", "[evil]", "notlocalhost", "evilmodels.test"])
def test_another_name_is_refused_since_it_may_lead_here_by_a_page_of_its_owner(host: str) -> None:
    with pytest.raises(KserveError, match="Host") as refused:
        check_browser(host, "", ["models.test"])
    assert refused.value.code == "PERMISSION_DENIED"


@pytest.mark.parametrize("origin", ["http://evil.test", "null", "http://localhost:9999", "https://127.0.0.1:8000.evil.test"])
def test_a_page_from_elsewhere_is_refused(origin: str) -> None:
    with pytest.raises(KserveError, match="web pages") as refused:
        check_browser("127.0.0.1:8000", origin, [])
    assert refused.value.code == "PERMISSION_DENIED"


def test_a_page_of_this_server_may_call_it() -> None:
    check_browser("Localhost:8000", "http://localhost:8000", [])


@pytest.mark.parametrize("origin", ["", "http://localhost:8000", "https://LOCALHOST", "https://models.test:443"])
def test_over_grpc_a_page_needs_a_name_that_is_meant(origin: str) -> None:
    check_page(origin, ["Models.test"])


@pytest.mark.parametrize("origin", ["null", "http://evil.test", "http://127.0.0.1:8001", "localhost", "http://localhost.evil.test"])
def test_over_grpc_any_other_page_is_refused(origin: str) -> None:
    with pytest.raises(KserveError, match="web pages") as refused:
        check_page(origin, ["models.test"])
    assert refused.value.code == "PERMISSION_DENIED"
