"""The table of endpoints: every call of the protocol is there, with what it needs."""

from __future__ import annotations

from pipeline.kserve.messages import HEALTH, INFERENCE, methods
from pipeline.serving.endpoints import ENDPOINTS

BY_NAME = {row.name: row for row in ENDPOINTS}


def test_every_method_of_both_services_is_served() -> None:
    assert {row.grpc for row in ENDPOINTS if row.grpc} == {*methods(INFERENCE), *methods(HEALTH)}


def test_no_path_is_there_twice_for_one_method() -> None:
    calls = [(method, path) for row in ENDPOINTS for method in row.http for path in row.paths]
    assert len(calls) == len(set(calls))


def test_only_what_probes_ask_and_the_files_of_the_page_need_no_token() -> None:
    probes = {"server_live", "server_ready", "health", "watch"}
    assert {row.name for row in ENDPOINTS if not row.token} == {*probes, "page", "asset", "cameras"}


def test_only_metrics_are_on_the_port_of_metrics() -> None:
    assert {row.name for row in ENDPOINTS if row.port != "http"} == {"metrics"}


def test_a_ticket_opens_recordings_and_nothing_else() -> None:
    assert {row.name for row in ENDPOINTS if row.ticketed} == {"camera_file"}


def test_control_editing_and_shared_memory_are_closed_unless_the_config_opens_them() -> None:
    opened = {row.name: row.opened_by for row in ENDPOINTS if row.opened_by}
    assert opened == {"load": "control", "unload": "control", "region_register": "shared_memory", "camera_edit": "edit"}


def test_statistics_of_all_models_are_found_before_those_of_a_model_called_stats() -> None:
    names = [row.name for row in ENDPOINTS]
    assert names.index("all_statistics") < names.index("model_metadata")
    assert BY_NAME["all_statistics"].paths == ("/v2/models/stats",)
