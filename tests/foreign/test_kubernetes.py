"""What `kubectl kustomize` makes of deploy/kubernetes, held against the schemas of Kubernetes and of what is installed beside it."""

from __future__ import annotations

import copy
import json
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from kubernetes_validate.utils import schema_contents
from referencing import Registry, Resource

from bench.versus.environments import KUBERNETES
from pipeline.config.loader import load_config

pytestmark = pytest.mark.foreign

HERE = Path(__file__).parent
SOURCES = HERE.parents[1] / "deploy/kubernetes"
OVERLAYS = sorted(each.name for each in (SOURCES / "overlays").iterdir())
CUSTOM = ("networking.istio.io/", "keda.sh/", "monitoring.coreos.com/")
#: The newest that kubernetes_validate has.
VERSION = "1.37.0"
SCHEMAS = f"kubernetes-json-schema/v{VERSION}-local-strict"

Documents = list[dict[str, Any]]
Render = Callable[[str], Documents]


@pytest.fixture(scope="module")
def home(environment: Callable[[Path], Path]) -> Path:
    return environment(KUBERNETES)


@pytest.fixture(scope="module")
def render(home: Path) -> Render:
    """The objects of an overlay."""
    made: dict[str, Documents] = {}

    def render(name: str) -> Documents:
        if name not in made:
            command = [home / "bin/kubectl", "kustomize", SOURCES / "overlays" / name]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert (done.returncode, done.stderr) == (0, "")
            made[name] = list(yaml.safe_load_all(done.stdout))
        return copy.deepcopy(made[name])

    return render


def only(documents: Documents, kind: str) -> Any:
    (found,) = [each for each in documents if each["kind"] == kind]
    return found


def is_custom(document: dict[str, Any]) -> bool:
    return bool(document["apiVersion"].startswith(CUSTOM))


@cache
def definitions() -> Registry[Any]:
    """What the schemas refer to. Read once: `kubernetes_validate.validate` does it at every reference, which takes a minute."""
    found = Resource.from_contents(schema_contents(f"{SCHEMAS}/_definitions.json", VERSION))
    return (found @ Registry()).crawl()


def faults(document: dict[str, Any]) -> list[str]:
    """What is wrong with an object of Kubernetes' own."""
    group, _, version = document["apiVersion"].rpartition("/")
    kind = "-".join(filter(None, (document["kind"].lower(), group.partition(".")[0], version)))
    schema = Resource.from_contents(schema_contents(f"{SCHEMAS}/{kind}.json", VERSION))
    validator = jsonschema.Draft202012Validator(schema.contents, registry=schema @ definitions())
    return [f"{kind} {each.json_path}: {each.message}" for each in validator.iter_errors(document)]


def broken(documents: Documents) -> Documents:
    """With a field that there is not, and one of a wrong type."""
    only(documents, "DestinationRule")["spec"]["trafficPolicy"]["outlierDetection"]["interva"] = "1s"
    only(documents, "VirtualService")["spec"]["http"][0]["retries"]["attempts"] = "three"
    return documents


@pytest.fixture(scope="module")
def custom_faults(home: Path, render: Render) -> dict[str, list[str]]:
    """What is wrong with the objects of custom kinds, by overlay. In one process: to import the models takes long."""
    lists = {name: [each for each in render(name) if is_custom(each)] for name in OVERLAYS}
    lists["broken"] = broken(copy.deepcopy(lists["istio"]))
    done = subprocess.run(
        [home / "bin/python", HERE / "custom_resources.py"], input=json.dumps(lists), capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    found: dict[str, list[str]] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("name", OVERLAYS)
def test_an_overlay_fits_the_schemas(custom_faults: dict[str, list[str]], render: Render, name: str) -> None:
    documents = render(name)
    assert [fault for each in documents if not is_custom(each) for fault in faults(each)] == []
    assert custom_faults[name] == []
    assert any(map(is_custom, documents)) == (name in ("autoscaling", "keda", "istio"))


def test_an_unknown_field_and_a_wrong_type_are_found(custom_faults: dict[str, list[str]], render: Render) -> None:
    unknown, wrong = sorted(custom_faults["broken"])
    assert unknown == "DestinationRule.spec.trafficPolicy.outlierDetection.interva: there is no such field"
    assert wrong.startswith("VirtualService.spec.http.0.retries.attempts: Input should be a valid integer")
    deployment = only(render("cpu"), "Deployment")
    deployment["spec"]["template"]["spec"]["container"] = []
    deployment["spec"]["replicas"] = "three"
    found = sorted(faults(deployment))
    assert len(found) == 2
    assert "$.spec.replicas: 'three'" in found[0]
    assert "$.spec.template.spec: Additional properties are not allowed ('container' was unexpected)" in found[1]


@pytest.mark.parametrize("name", [each for each in OVERLAYS if each not in ("sidecar", "dev")])
def test_what_refers_to_something_finds_it(render: Render, name: str) -> None:
    documents = render(name)
    deployment = only(documents, "Deployment")
    template = deployment["spec"]["template"]
    labels = template["metadata"]["labels"].items()
    (container,) = template["spec"]["containers"]
    ports = {each["name"]: each["containerPort"] for each in container["ports"]}
    for each in documents:
        if each["kind"] == "Service":
            assert each["spec"]["selector"].items() <= labels
            assert {(port["targetPort"], port["port"]) for port in each["spec"]["ports"]} <= {*ports.items()}
        elif each["kind"] == "PodDisruptionBudget":
            assert each["spec"]["selector"]["matchLabels"].items() <= labels
        elif each["kind"] == "NetworkPolicy":
            assert each["spec"]["podSelector"]["matchLabels"].items() <= labels
            assert {port["port"] for rule in each["spec"]["ingress"] for port in rule["ports"]} == {*ports}
        elif each["kind"] in ("HorizontalPodAutoscaler", "ScaledObject"):
            assert each["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
            # Two would change it in turn.
            assert "replicas" not in deployment["spec"]
    volumes = {each["name"]: each for each in template["spec"]["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == {*volumes}
    assert volumes["config"]["configMap"]["name"] == only(documents, "ConfigMap")["metadata"]["name"]
    assert container["resources"]["requests"] == container["resources"]["limits"]


def test_a_pod_has_the_time_that_its_pipeline_takes_to_drain(render: Render) -> None:
    pod = only(render("cpu"), "Deployment")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    config = load_config(SOURCES / "base/pipeline.yaml").config
    sleep = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["terminationGracePeriodSeconds"] >= sleep + config.drain_s + 10
    assert container["livenessProbe"]["exec"]["command"][-1] == config.name


def test_the_service_for_development_leads_to_its_endpoints(render: Render) -> None:
    service, slice_ = only(render("dev"), "Service"), only(render("dev"), "EndpointSlice")
    assert "selector" not in service["spec"]
    assert slice_["metadata"]["labels"]["kubernetes.io/service-name"] == service["metadata"]["name"]
    named = {(each["name"], each["port"]) for each in slice_["ports"]}
    assert named == {(each["name"], each["targetPort"]) for each in service["spec"]["ports"]}
    # Apps find it as they find the pods.
    pods = next(each for each in render("cpu") if each["kind"] == "Service" and "clusterIP" not in each["spec"])
    assert pods["metadata"]["name"] == service["metadata"]["name"]
