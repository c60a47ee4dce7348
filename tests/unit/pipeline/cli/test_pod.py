"""`pipeline pod` prints what Kubernetes takes, with the sums of `pipeline check`."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from pipeline.config.loader import LoadedConfig
from pipeline.deploying.container import container_machine
from pipeline.deploying.pod import is_label
from pipeline.graph.budget import make_budget
from pipeline.graph.description import StageDescription
from pipeline.prepare import preparation
from pipeline.prepare.preparation import prepare
from pipeline.topology.machine import read_machine
from pipeline.topology.memory import MemoryLimits

ROOT = Path(__file__).parents[4]
Run = Callable[..., tuple[int, str, str]]

RELAY = """\
inputs:
  - {name: tensor, dtype: uint8, shape: [602112]}
stages:
  - {name: one, use: "stages.relay:Relay"}
  - {name: two, use: "stages.relay:Relay", replicas: 2, batch: {max_size: 4, max_delay_ms: 1.5}}
"""

ON_GPU = """\
inputs:
  - {name: image, dtype: uint8, shape: [4]}
stages:
  - {name: light, use: "stages.relay:Relay", with: {shape: [4]}}
  - {name: heavy, use: "./heavy.py:Heavy"}
"""

HEAVY = """\
from stages.spec import TensorSpec

class Heavy:
    device = "cuda"
    inputs = (TensorSpec("tensor", "uint8", (4,)),)
    outputs = (TensorSpec("text", "uint8", (4,)),)

    def process(self, batch):
        pass
"""

MANY = [
    "--image", "example.com/team/pipeline@sha256:" + 64 * "a", "--name", "front", "--replicas", "3", "--cpus", "2.5",
    "--memory", "900Mi", "--port", "8000", "--app-user", "10002", "--app-cpus", "0.25", "--app-memory", "256MiB",
    "--app-grace-s", "5", "--startup-s", "60", "--config-dir", "/srv/", "--models-claim", "models.team",
    "--env", "A=b=c", "--env", "B=", "--set", "drain_s=3", "--set", "capsules.max_count=2",
]  # fmt: skip


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "My Net_2.yaml"
    path.write_text(RELAY)
    (tmp_path / "heavy.py").write_text(HEAVY)
    return path


@pytest.fixture(autouse=True)
def _described_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same stock stages declare the same in each of these tests, so that one process is asked for all of them."""
    describe = preparation.describe_stages

    def described(loaded: LoadedConfig) -> dict[str, StageDescription]:
        stages = [(stage.name, stage.use, str(stage.options)) for stage in loaded.config.stages]
        if any(not use.startswith("stages.relay") for _, use, _ in stages):
            return describe(loaded)
        key = tuple(stages)
        if key not in _DESCRIBED:
            _DESCRIBED[key] = describe(loaded)
        return _DESCRIBED[key]

    monkeypatch.setattr(preparation, "describe_stages", described)


_DESCRIBED: dict[tuple[tuple[str, str, str], ...], dict[str, StageDescription]] = {}


@pytest.fixture
def pod(cli_here: Run) -> Callable[..., list[dict[str, Any]]]:
    """The documents that a command line prints, each of which the schema of Kubernetes has accepted."""

    def pod(config: Path, *arguments: object) -> list[dict[str, Any]]:
        code, out, err = cli_here("pod", config, "--app", "my-app:1", *arguments)
        assert (code, err) == (0, "")
        return validated(out)

    return pod


def validated(text: str) -> list[dict[str, Any]]:
    documents = list(yaml.safe_load_all(text))
    for document in documents:
        kubernetes_validate.validate(document, "1.31", strict=True)
        kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)
    return documents


def inside(documents: list[dict[str, Any]]) -> dict[str, Any]:
    spec: dict[str, Any] = documents[-1]["spec"]["template"]["spec"]
    return spec


def sidecar(documents: list[dict[str, Any]]) -> dict[str, Any]:
    (container,) = inside(documents)["initContainers"]
    assert isinstance(container, dict)
    return container


_POWERS = {"": 1, "m": Decimal("0.001"), "k": 10**3, "M": 10**6, "G": 10**9, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}


def number(quantity: str) -> Decimal:
    """A quantity as the API reads it (k8s.io/apimachinery/pkg/api/resource)."""
    found = re.fullmatch(r"(\d+(?:\.\d{1,3})?)(m|k|M|G|Ki|Mi|Gi|)", quantity)
    assert found, quantity
    return Decimal(found[1]) * _POWERS[found[2]]


def quantities(node: Any) -> list[str]:
    """Every quantity of a document."""
    found = []
    for key, value in node.items() if isinstance(node, dict) else enumerate(node if isinstance(node, list) else ()):
        if key in ("requests", "limits"):
            found += list(value.values())
        elif key == "sizeLimit":
            found.append(value)
        else:
            found += quantities(value)
    return found


# -- what Kubernetes takes ------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [[], MANY, ["--config-in-image", "/srv/a.yaml"], ["--replicas", "0"]], ids=len)
@pytest.mark.parametrize("name", ["configs/digits.yaml", "configs/mnist.yaml", "My Net_2.yaml"])
def test_kubernetes_takes_it(pod: Callable[..., list[dict[str, Any]]], config: Path, name: str, arguments: list[str]) -> None:
    documents = pod(config if name == config.name else ROOT / name, *arguments)
    assert [document["kind"] for document in documents] == ["ConfigMap", "Deployment"][-len(documents) :]
    assert len(documents) == 1 + ("--config-in-image" not in arguments)
    assert all(number(quantity) > 0 for quantity in quantities(documents))
    assert len(quantities(documents)) >= 7


def test_kubernetes_takes_the_pipelines_of_pulled_models(
    pod: Callable[..., list[dict[str, Any]]], pulled: Callable[[str], Path]
) -> None:
    for model in ("open-nsfw", "efficientnet-lite0", "ppocr-v4-det", "ppocr-v4-rec", "imagenet"):
        pulled(model)
    for name in ("resnet", "imagenet", "ocr"):
        config = ROOT / f"configs/{name}.yaml"
        assert_holds(pod(config), config)


def test_the_schema_refuses_what_kubernetes_would() -> None:
    # Otherwise the tests above would prove nothing.
    with pytest.raises(kubernetes_validate.ValidationError):
        validated("apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x}\nspec: {replicas: two}\n")
    with pytest.raises(kubernetes_validate.ValidationError):
        validated("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\nimutable: true\n")


def test_a_file_whose_name_is_no_label_gives_names_that_are(pod: Callable[..., list[dict[str, Any]]], config: Path) -> None:
    config_map, deployment = pod(config)
    assert deployment["metadata"]["name"] == "my-net-2"
    assert all(is_label(document["metadata"]["name"]) for document in (config_map, deployment))
    # The keys of a ConfigMap may have no space.
    assert config_map["data"] == {"my-net-2.yaml": RELAY}


# -- golden sums ----------------------------------------------------------------------------------


def assert_holds(documents: list[dict[str, Any]], config: Path) -> None:
    """The limits are at least what `pipeline check` says for this machine."""
    machine = container_machine(read_machine(), None, None)
    plan = prepare(config, machine=machine).plan
    budget = prepare(config).budget
    needed = make_budget(plan, MemoryLimits(cgroup_headroom=0), budget.weights).limits
    (least,) = (limit.needed for limit in needed if limit.name == "cgroup memory left")
    sizes = {entry["name"]: entry["emptyDir"].get("sizeLimit") for entry in inside(documents)["volumes"] if "emptyDir" in entry}
    assert number(sizes["segments"]) >= 2 * budget.nbytes > 0
    assert number(sidecar(documents)["resources"]["limits"]["memory"]) >= least + budget.nbytes + number(sizes["sockets"])


@pytest.mark.foreign
def test_the_limits_hold_what_check_says(pod: Callable[..., list[dict[str, Any]]], config: Path) -> None:
    for path in (config, ROOT / "configs/digits.yaml", ROOT / "configs/mnist.yaml"):
        assert_holds(pod(path), path)


def test_the_sum_of_check_is_in_the_yaml(cli_here: Run, config: Path) -> None:
    _, checked, _ = cli_here("check", config)
    shown = re.search(r"^ok: .* ([\d.]+) MiB of shared memory$", checked, re.MULTILINE)
    assert shown
    _, made, _ = cli_here("pod", config, "--app", "my-app:1")
    said = re.search(r"# Twice the plan's ([\d.]+) MiB", made)
    assert said
    # That of the flight records, 16 KiB, is not in the sum of `check`.
    assert 0 <= Decimal(said[1]) - Decimal(shown[1]) <= Decimal("0.1")


def test_a_set_that_changes_the_plan_changes_the_limits(pod: Callable[..., list[dict[str, Any]]], config: Path) -> None:
    small, large = (sidecar(pod(config, "--set", f"two.replicas={count}"))["resources"]["limits"] for count in (1, 9))
    assert number(large["memory"]) - number(small["memory"]) > 8 * (64 << 20)


# -- CPUs and GPUs --------------------------------------------------------------------------------


def test_the_plan_is_made_for_the_cpus_that_are_said(pod: Callable[..., list[dict[str, Any]]]) -> None:
    for cpus in (1, 3):
        container = sidecar(pod(ROOT / "configs/mnist.yaml", "--cpus", cpus))
        assert container["resources"]["limits"]["cpu"] == str(cpus)
        assert f"inference.replicas={cpus}" in container["command"]


def test_a_plan_that_needs_two_gpus_requests_two(pod: Callable[..., list[dict[str, Any]]], config: Path) -> None:
    config.write_text(ON_GPU)
    for wanted, arguments, replicas in ((2, ["--gpus", "2"], 2), (1, ["--gpus", "2", "--set", "heavy.replicas=1"], None)):
        container = sidecar(pod(config, *arguments))
        assert container["resources"]["limits"]["nvidia.com/gpu"] == str(wanted)
        assert container["resources"]["requests"]["nvidia.com/gpu"] == str(wanted)
        assert (f"heavy.replicas={replicas}" in container["command"]) == (replicas is not None)


def test_a_stage_on_a_gpu_without_any_says_how_to_plan_for_one(cli_here: Run, config: Path) -> None:
    config.write_text(ON_GPU)
    code, out, err = cli_here("pod", config, "--app", "my-app:1", "--gpus", "0")
    assert (code, out) == (2, "")
    assert "the container gets none: give it one with --gpus 1" in err


# -- the command line -----------------------------------------------------------------------------


def test_options_arrive(pod: Callable[..., list[dict[str, Any]]], config: Path) -> None:
    documents = pod(config, *MANY)
    spec, container = inside(documents), sidecar(documents)
    (app,) = spec["containers"]
    assert documents[-1]["metadata"]["name"] == "front"
    assert documents[-1]["spec"]["replicas"] == 3
    assert container["image"] == MANY[1]
    assert container["resources"]["limits"]["cpu"] == "2500m"
    assert 900 << 20 < number(container["resources"]["limits"]["memory"]) < (900 + 2 * 64) << 20
    assert container["startupProbe"]["failureThreshold"] == 30
    assert container["command"][2] == "/srv/my-net-2.yaml"
    assert {"name": "A", "value": "b=c"} in container["env"]
    assert {"name": "B", "value": ""} in container["env"]
    assert container["command"][4:8] == ["--set", "drain_s=3", "--set", "capsules.max_count=2"]
    assert spec["terminationGracePeriodSeconds"] == 5 + 3 + 10
    assert spec["volumes"][2]["emptyDir"]["sizeLimit"] == f"{256 + 2 * 64}Mi"
    assert spec["volumes"][-1]["persistentVolumeClaim"]["claimName"] == "models.team"
    assert app["ports"] == [{"containerPort": 8000}]
    assert app["securityContext"]["runAsUser"] == 10002
    assert app["resources"]["limits"] == {"cpu": "250m", "memory": "256Mi"}


def test_the_image_is_by_default_ours_of_this_version(
    pod: Callable[..., list[dict[str, Any]]], cli_here: Run, config: Path
) -> None:
    version = cli_here("--version")[1].split()[1]
    assert sidecar(pod(config))["image"] == f"trtlab:{version}"


def test_it_goes_into_a_file_or_to_stdout(cli_here: Run, config: Path, tmp_path: Path) -> None:
    file = tmp_path / "pod.yaml"
    assert cli_here("pod", config, "--app", "my-app:1", "-o", file) == (0, "", "")
    assert file.read_text() == cli_here("pod", config, "--app", "my-app:1")[1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--app", ""], "--app '': expected the name of an image"),
        (["--image", "a b"], "--image 'a b': expected the name of an image"),
        (["--name", "My Net_2"], "--name 'My Net_2': expected up to 63 characters of a-z, 0-9 and -, with none of - at either end; my-net-2 would do"),
        (["--models-claim", "A"], "--models-claim 'A': expected the name of a PersistentVolumeClaim"),
        (["--config-dir", "configs"], "--config-dir 'configs': expected an absolute path in the image"),
        (["--config-in-image", "/a:b"], "--config-in-image '/a:b': expected an absolute path in the image"),
        (["--memory", "much"], "--memory 'much': expected bytes"),
        (["--app-memory", "-1Mi"], "--app-memory '-1Mi': expected bytes"),
        (["--memory", "0"], "--memory '0': expected more than 0 bytes"),
        (["--app-memory", "0Mi"], "--app-memory '0Mi': expected more than 0 bytes"),
        (["--app-user", "10001"], "--app-user 10001: is the pipeline's own user"),
        (["--env", "A"], "--env 'A': expected NAME=VALUE"),
        (["--env", "1A=2"], "--env '1A=2': expected NAME=VALUE"),
        (["--env", "HOME=/x"], "--env 'HOME=/x': HOME is set by `pipeline pod` itself; leave it out"),
        (["--output", "/no/such/folder/pod.yaml"], "--output /no/such/folder/pod.yaml: cannot be written: No such file or directory"),
    ],
)  # fmt: skip
def test_a_wrong_option_ends_with_2_and_what_was_expected(
    cli_here: Run, config: Path, arguments: list[str], said: str
) -> None:
    code, out, err = cli_here("pod", config, "--app", "my-app:1", *arguments)
    assert (code, out) == (2, "")
    assert err.startswith(said)


@pytest.mark.parametrize("value", ["inf", "nan", "1e300"])
@pytest.mark.parametrize("option", ["--cpus", "--app-cpus", "--app-grace-s", "--startup-s", "--gpus", "--app-user", "--replicas"])
def test_a_number_beyond_all_bounds_ends_with_2_and_names_the_option(
    cli_here: Run, config: Path, option: str, value: str
) -> None:
    code, out, err = cli_here("pod", config, "--app", "my-app:1", option, value)
    assert (code, out) == (2, "")
    assert f"Invalid value for '{option}'" in err


@pytest.mark.parametrize(
    ("option", "value"), [("--gpus", "100000"), ("--app-user", "2147483648"), ("--replicas", "2147483648"), ("--cpus", "8193")]
)
def test_a_number_that_kubernetes_or_linux_does_not_take_is_refused(
    cli_here: Run, config: Path, option: str, value: str
) -> None:
    code, _, err = cli_here("pod", config, "--app", "my-app:1", option, value)
    assert code == 2
    assert f"Invalid value for '{option}'" in err


def test_a_config_that_no_config_map_holds_says_where_else_it_may_be(cli_here: Run, config: Path) -> None:
    config.write_text(RELAY + f"# {'x' * 1_000_000}\n")
    code, out, err = cli_here("pod", config, "--app", "my-app:1")
    assert (code, out) == (2, "")
    assert err.endswith("put it into the image, and say where: --config-in-image /app/configs/My Net_2.yaml\n")
    assert cli_here("pod", config, "--app", "my-app:1", "--config-in-image", "/app/configs/a.yaml")[0] == 0


def test_a_wrong_config_ends_with_2_and_its_place(cli_here: Run, config: Path) -> None:
    config.write_text(RELAY.replace("replicas", "replica"))
    code, out, err = cli_here("pod", config, "--app", "my-app:1")
    assert (code, out) == (2, "")
    assert "did you mean replicas?" in err
