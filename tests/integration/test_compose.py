"""deploy/compose: whether its names, paths and numbers are those of the code, of the image and of each other."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.config.loader import load_config
from tests.foreign.images import ROOT, instructions_of

COMPOSE = ROOT / "deploy/compose"
FORMS = ["compose.yaml", "ipc.compose.yaml"]


def read(form: str) -> dict[str, Any]:
    document = yaml.safe_load((COMPOSE / form).read_text())
    assert isinstance(document, dict)
    return document


def assignments_of(service: dict[str, Any]) -> list[str]:
    command = service["command"]
    return [value for option, value in itertools.pairwise(command) if option == "--set"]


def mounts_of(service: dict[str, Any]) -> dict[str, str]:
    return {target: source for source, target in (volume.split(":")[:2] for volume in service["volumes"])}


@pytest.mark.parametrize("form", FORMS)
def test_the_pipeline_s_command_is_one_that_the_code_takes(form: str) -> None:
    service = read(form)["services"]["pipeline"]
    run, serve, config = service["command"][:3]
    assert (run, serve) == ("run", "--serve")
    loaded = load_config(ROOT / config, assignments_of(service))
    assert loaded.config.metrics is not None
    assert service["expose"] == [str(loaded.config.metrics.port)]
    drain_s = loaded.config.drain_s
    assert int(service["stop_grace_period"].removesuffix("s")) >= drain_s + 10


@pytest.mark.parametrize("form", FORMS)
def test_both_sides_have_the_segments_and_the_sockets_at_the_same_paths_and_one_group(form: str) -> None:
    document = read(form)
    services = document["services"]
    pipeline, app = services["pipeline"], services["app"]
    segments = load_config(ROOT / "configs/digits.yaml", assignments_of(pipeline)).config.segments
    assert not isinstance(segments, str)
    assert mounts_of(pipeline) == mounts_of(app)
    assert pipeline["environment"]["TRTLAB_RUN_DIR"] == app["environment"]["TRTLAB_RUN_DIR"]
    for folder in (pipeline["environment"]["TRTLAB_RUN_DIR"], segments.dir):
        # A folder of the pipeline's own within the volume; /dev/shm is in the namespace that they share.
        volume = mounts_of(pipeline).get(str(Path(folder).parent))
        if folder == "/dev/shm":
            assert (pipeline["ipc"], app["ipc"]) == ("shareable", "service:pipeline")
            assert "shm_size" in pipeline
        else:
            assert volume in document["volumes"]
            owner, group = pipeline["user"].split(":")
            assert f"mode=2770,uid={owner},gid={group}" in document["volumes"][volume]["driver_opts"]["o"]
    assert pipeline["user"].endswith(f":{segments.group}")
    assert app["group_add"] == [str(segments.group)]
    assert app["user"].split(":")[0] != pipeline["user"].split(":")[0]


@pytest.mark.parametrize("form", FORMS)
def test_every_file_that_is_named_is_there(form: str) -> None:
    for name, service in read(form)["services"].items():
        if "build" in service:
            context = COMPOSE / service["build"]["context"]
            assert (context / service["build"]["dockerfile"]).is_file(), name
        for volume in service.get("volumes", []):
            if volume.startswith("."):
                path = COMPOSE / volume.split(":")[0]
                # The folder of dashboards may hold nothing yet; Docker makes one that is missing.
                assert path.is_file() or path.name == "grafana", volume
        if "extends" in service:
            assert service["extends"]["service"] in read(service["extends"]["file"])["services"]


def test_the_user_is_the_image_s_and_its_healthcheck_is_what_the_app_waits_for() -> None:
    instructions = dict(instructions_of((ROOT / "deploy/image/Dockerfile").read_text()))
    services = read("compose.yaml")["services"]
    assert instructions["USER"] == services["pipeline"]["user"]
    assert "HEALTHCHECK" in instructions
    assert services["app"]["depends_on"] == {"pipeline": {"condition": "service_healthy"}}


def test_prometheus_asks_the_pipeline_under_the_name_of_job_that_its_rules_expect() -> None:
    document = yaml.safe_load((COMPOSE / "prometheus.yaml").read_text())
    (job,) = document["scrape_configs"]
    assert job["job_name"] in re.findall(r"scrape job is expected to be called (\w+)", (ROOT / "deploy/prometheus/rules.yaml").read_text())
    ((target,),) = [each["targets"] for each in job["static_configs"]]
    host, port = target.split(":")
    assert [port] == read("compose.yaml")["services"][host]["expose"]
    assert document["rule_files"] == ["rules.yaml"]
