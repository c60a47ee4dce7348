"""The Deployment, field by field."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from typing import Any

import pytest
import yaml
from msgspec.structs import replace

from pipeline.config.schema import PipelineConfig
from pipeline.deploying.contents import Contents
from pipeline.deploying.demand import Demand
from pipeline.deploying.manifest import to_yaml
from pipeline.deploying.pod import PodOptions, header_of, is_label, label_of, pod_documents, replicas_of
from pipeline.graph.plan import CapsulePlan, Plan, PoolPlan, StagePlan, WorkerPlan

MIB = 1 << 20
PLAN = Plan("demo", "demo.yaml", ".", (), (), (), (PoolPlan("ingress/0", MIB, 2),), drain_s=2.5)
DEMAND = Demand(cpus=2.5, gpus=0, segments=10 * MIB + 1, processes=8, process_bytes=512 * MIB)
OPTIONS = PodOptions(app="my-app:1", image="trtlab:2")
TEXT = "name: demo\n"


def documents(
    plan: Plan = PLAN, demand: Demand = DEMAND, chosen: Mapping[str, int] | None = None, **options: Any
) -> list[dict[str, Any]]:
    made = pod_documents(plan, demand, replace(OPTIONS, **options), TEXT, chosen or {})
    return list(yaml.safe_load_all(to_yaml("", made)))


def deployment(*arguments: Any, **options: Any) -> dict[str, Any]:
    return documents(*arguments, **options)[-1]


def pod(*arguments: Any, **options: Any) -> dict[str, Any]:
    spec: dict[str, Any] = deployment(*arguments, **options)["spec"]["template"]["spec"]
    return spec


def sidecar(*arguments: Any, **options: Any) -> dict[str, Any]:
    (container,) = pod(*arguments, **options)["initContainers"]
    assert isinstance(container, dict)
    return container


def app(**options: Any) -> dict[str, Any]:
    (container,) = pod(**options)["containers"]
    assert isinstance(container, dict)
    return container


def volume(name: str, *arguments: Any, **options: Any) -> dict[str, Any]:
    return {entry.pop("name"): entry for entry in pod(*arguments, **options)["volumes"]}[name]


def variables(container: dict[str, Any]) -> dict[str, str]:
    return {entry["name"]: entry["value"] for entry in container["env"]}


def mounts(container: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {entry["name"]: entry for entry in container["volumeMounts"]}


def sets(container: dict[str, Any]) -> list[str]:
    """The values of --set."""
    command = container["command"]
    return [value for flag, value in itertools.pairwise(command) if flag == "--set"]


# -- names ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("resnet", "resnet"), ("My Net_2", "my-net-2"), ("-x-", "x"), ("---", "pipeline"), ("", "pipeline"),
        ("ä", "pipeline"), ("2nd", "2nd"), ("a" * 70, "a" * 63), ("a" * 62 + "-b", "a" * 62), ("a..b", "a-b"),
    ],
)  # fmt: skip
def test_any_name_becomes_a_label_of_rfc_1123(name: str, label: str) -> None:
    assert label_of(name) == label
    assert is_label(label)


@pytest.mark.parametrize("name", ["", "A", "a_b", "-a", "a-", "a.b", "a" * 64, "a\n", "ä"])
def test_what_is_no_label_is_none(name: str) -> None:
    assert not is_label(name)


def test_the_deployment_its_pods_and_its_selector_have_one_name() -> None:
    for options, name in (({}, "demo"), ({"name": "other"}, "other")):
        config_map, made = documents(**options)  # type: ignore[arg-type]
        labels = {"app.kubernetes.io/name": name}
        assert made["metadata"] == {"name": name, "labels": labels}
        assert made["spec"]["selector"] == {"matchLabels": labels}
        assert made["spec"]["template"]["metadata"]["labels"] == labels
        assert config_map["metadata"]["labels"] == labels
        assert config_map["metadata"]["name"].startswith(f"{name}-config-")


def test_a_pipelines_name_that_is_no_label_is_made_one_and_is_still_what_probes_ask_for() -> None:
    plan = replace(PLAN, name="-x-")
    assert deployment(plan)["metadata"]["name"] == "x"
    assert sidecar(plan)["readinessProbe"]["exec"]["command"][-2:] == ["--", "-x-"]


def test_names_of_containers_and_volumes_are_labels() -> None:
    spec = pod(models_claim="weights")
    names = [entry["name"] for key in ("initContainers", "containers", "volumes") for entry in spec[key]]
    assert all(map(is_label, names))
    assert len(names) == len(set(names)) == 2 + 6


# -- the sidecar ----------------------------------------------------------------------------------


def test_the_pipeline_is_a_native_sidecar() -> None:
    assert (sidecar()["name"], sidecar()["restartPolicy"], sidecar()["image"]) == ("pipeline", "Always", "trtlab:2")


def test_it_serves_the_config_with_what_the_users_command_line_sets_first() -> None:
    command = sidecar(assignments=["demo.x=1", "drain_s=2"])["command"]
    assert command[:4] == ["pipeline", "run", "/app/configs/demo.yaml", "--serve"]
    assert command[4:8] == ["--set", "demo.x=1", "--set", "drain_s=2"]


def test_segments_lie_in_the_shared_volume_and_belong_to_the_shared_group() -> None:
    # In a folder of the pipeline's own, since the volume itself is open to the group.
    assert "segments={dir: /run/trtlab/shm/pipeline, group: 10000}" in sets(sidecar())
    assert pod()["securityContext"]["fsGroup"] == 10000
    for container in (sidecar(), app()):
        assert mounts(container)["segments"] == {"name": "segments", "mountPath": "/run/trtlab/shm"}
    assert volume("segments")["emptyDir"]["medium"] == "Memory"


def test_both_find_the_runs_folder_in_the_volume_of_sockets() -> None:
    for container in (sidecar(), app()):
        place = mounts(container)["sockets"]
        assert "readOnly" not in place
        # In a folder of the pipeline's own, too.
        assert variables(container)["TRTLAB_RUN_DIR"] == f"{place['mountPath']}/pipeline"
    assert volume("sockets") == {"emptyDir": {"medium": "Memory", "sizeLimit": "16Mi"}}


def test_the_path_of_a_clients_socket_fits_into_107_bytes() -> None:
    home = variables(app())["TRTLAB_RUN_DIR"]
    assert len(f"{home}/{'n' * 40}-4194304/clients/{2**63}.sock") <= 107


def test_nothing_else_is_shared() -> None:
    shared = mounts(sidecar()).keys() & mounts(app()).keys()
    assert shared == {"segments", "sockets"}
    assert pod().keys() & {"shareProcessNamespace", "hostIPC", "hostPID", "hostNetwork"} == set()


def test_the_numbers_of_replicas_that_the_placement_chose_are_said() -> None:
    assert sets(sidecar(chosen={"one": 2, "two": 1}))[:2] == ["one.replicas=2", "two.replicas=1"]


def test_dollars_are_not_taken_for_variables_of_kubernetes() -> None:
    container = sidecar(assignments=["a.b=$(HOME)", "a.c=$${X}"], env={"PRICE": "$(5)"})
    assert sets(container)[:2] == ["a.b=$$(HOME)", "a.c=$$$${X}"]
    assert variables(container)["PRICE"] == "$$(5)"


def test_variables_of_the_user_come_beside_ours() -> None:
    assert variables(sidecar(env={"A": "1"})) == {
        "TRTLAB_RUN_DIR": "/run/trtlab/run/pipeline", "HOME": "/tmp", "A": "1"
    }  # fmt: skip
    assert variables(app(env={"A": "1"})) == {"TRTLAB_RUN_DIR": "/run/trtlab/run/pipeline"}


# -- the config and the models --------------------------------------------------------------------


def test_the_config_is_a_file_of_the_images_folder_so_that_its_relative_paths_hold() -> None:
    config_map, made = documents(folder="/srv/conf")
    assert config_map["data"] == {"demo.yaml": TEXT}
    (container,) = made["spec"]["template"]["spec"]["initContainers"]
    assert mounts(container)["config"] == {
        "name": "config", "mountPath": "/srv/conf/demo.yaml", "subPath": "demo.yaml", "readOnly": True
    }  # fmt: skip
    assert container["command"][2] == "/srv/conf/demo.yaml"
    assert volume("config") == {"configMap": {"name": config_map["metadata"]["name"]}}


def test_another_text_has_another_config_map_and_none_ever_changes() -> None:
    first = documents()[0]
    other = pod_documents(PLAN, DEMAND, OPTIONS, TEXT + "# changed\n", {})[0].value
    assert first["immutable"] is True
    assert first["metadata"]["name"] != other["metadata"]["name"]
    assert first == documents()[0]


def test_a_config_of_the_image_needs_no_config_map() -> None:
    (made,) = documents(config_in_image="/srv/my.yaml")
    spec = made["spec"]["template"]["spec"]
    assert spec["initContainers"][0]["command"][2] == "/srv/my.yaml"
    assert "config" not in mounts(spec["initContainers"][0])
    assert [entry["name"] for entry in spec["volumes"]] == ["segments", "sockets", "scratch", "app-scratch"]


def test_models_come_from_a_claim_if_one_is_named() -> None:
    container = sidecar(models_claim="weights")
    assert mounts(container)["models"] == {"name": "models", "mountPath": "/models", "readOnly": True}
    assert variables(container)["TRTLAB_MODELS"] == "/models"
    claim = {"claimName": "weights", "readOnly": True}
    assert volume("models", models_claim="weights") == {"persistentVolumeClaim": claim}
    assert "TRTLAB_MODELS" not in variables(sidecar())


def test_the_header_lists_what_the_image_must_have_and_what_must_be_set() -> None:
    contents = Contents(("../models/m.onnx", "./glue.py"), ("open-nsfw",), ("A", "B"))
    text = header_of(PLAN, replace(OPTIONS, env={"A": "1"}), contents)
    assert "trtlab:2 must have, relative to the folder of /app/configs/demo.yaml:\n    ../models/m.onnx\n    ./glue.py" in text
    assert "in trtlab:2, in $TRTLAB_MODELS (otherwise they are fetched at each start):\n    open-nsfw" in text
    assert "set them with --env, or in the image:\n    B" in text
    assert "\n    A" not in text


def test_the_header_says_where_else_config_and_models_are() -> None:
    text = header_of(PLAN, replace(OPTIONS, config_in_image="/x/y.yaml", models_claim="weights"), Contents(("f",), ("m",)))
    assert "relative to the folder of /x/y.yaml" in text
    assert "in the claim weights" in text


def test_a_header_says_nothing_of_what_is_not_needed() -> None:
    assert len(header_of(PLAN, OPTIONS, Contents()).splitlines()) == 2


# -- memory, CPUs, GPUs ---------------------------------------------------------------------------


def test_the_volume_of_segments_holds_those_of_two_schedulers() -> None:
    assert DEMAND.shared == 2 * (10 * MIB + 1)
    assert volume("segments")["emptyDir"]["sizeLimit"] == "21Mi"


def test_the_memory_limit_holds_both_shared_volumes_and_the_processes() -> None:
    # 20 MiB and 2 B of segments, 16 MiB of sockets, 512 MiB.
    assert sidecar()["resources"]["limits"]["memory"] == "549Mi"
    assert sidecar(process_bytes=100 * MIB)["resources"]["limits"]["memory"] == "137Mi"


def test_the_cpus_are_the_demands_unless_they_are_said() -> None:
    assert sidecar()["resources"]["limits"]["cpu"] == "2500m"
    assert sidecar(demand=replace(DEMAND, cpus=3))["resources"]["limits"]["cpu"] == "3"
    assert sidecar(cpus=0.3)["resources"]["limits"]["cpu"] == "300m"


def test_a_plan_that_needs_two_gpus_requests_two() -> None:
    assert sidecar(demand=replace(DEMAND, gpus=2))["resources"]["limits"]["nvidia.com/gpu"] == "2"
    assert "nvidia.com/gpu" not in sidecar()["resources"]["limits"]


def test_requests_are_the_limits_so_that_the_node_has_what_the_plan_needs() -> None:
    for options in ({}, {"demand": replace(DEMAND, gpus=2)}):
        resources = sidecar(**options)["resources"]
        assert resources["requests"] == resources["limits"]
    resources = app(app_cpus=0.5, app_bytes=256 * MIB)["resources"]
    assert resources["requests"] == resources["limits"] == {"cpu": "500m", "memory": "256Mi"}


def test_the_apps_limit_does_not_hold_the_segments_and_there_is_none_unless_said() -> None:
    assert "resources" not in app()
    assert app(app_bytes=MIB)["resources"]["limits"] == {"memory": "1Mi"}
    assert app(app_cpus=2)["resources"]["limits"] == {"cpu": "2"}


def test_what_a_container_writes_goes_into_a_volume_of_its_own_that_holds_all_capsules() -> None:
    plan = replace(PLAN, capsules=CapsulePlan(max_count=3, max_bytes=10 * MIB))
    assert volume("scratch", plan) == {"emptyDir": {"sizeLimit": f"{256 + 30}Mi"}}
    container = sidecar()
    assert mounts(container)["scratch"]["mountPath"] == container["workingDir"] == variables(container)["HOME"] == "/tmp"
    assert "capsules.folder=/tmp/capsules" in sets(container)
    assert mounts(app())["app-scratch"]["mountPath"] == "/tmp"


def test_each_number_has_a_comment_with_where_it_is_from() -> None:
    options = replace(OPTIONS, app_bytes=256 * MIB)
    text = to_yaml("", pod_documents(PLAN, replace(DEMAND, gpus=1), options, TEXT, {}))
    lines = text.splitlines()
    for key in ("sizeLimit: 21Mi", "sizeLimit: 1536Mi", "memory: 549Mi", "memory: 256Mi", "cpu: 2500m", "nvidia.com/gpu: '1'", "terminationGracePeriodSeconds:"):
        number = next(number for number, line in enumerate(lines) if line.strip().startswith(key))
        assert lines[number - 1].strip().startswith("# "), key
    said = re.sub(r"\s+#? ?", " ", text)
    assert "20.0 MiB of segments, which are charged to this container since it touches them first, 16.0 MiB for the volume of sockets, and an estimate of 512.0 MiB for 8 processes, 2 of them probes" in said
    assert "20 capsules of up to 64.0 MiB" in said


def test_what_the_user_has_said_is_not_called_an_estimate() -> None:
    made = pod_documents(PLAN, DEMAND, replace(OPTIONS, process_bytes=100 * MIB, cpus=4), TEXT, {})
    text = re.sub(r"\s+#? ?", " ", to_yaml("", made))
    assert "100.0 MiB for the processes, as --memory says." in text
    assert "What --cpus says. The limit" in text
    assert "estimate" not in text


# -- probes and the end ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("probe", "question", "period", "failures"),
    [("startupProbe", "ready", 2, 150), ("readinessProbe", "ready", 10, 2), ("livenessProbe", "alive", 20, 3)],
)
def test_probes_run_pipeline_status(probe: str, question: str, period: int, failures: int) -> None:
    assert sidecar()[probe] == {
        "exec": {"command": ["pipeline", "status", "--probe", question, "--", "demo"]},
        "periodSeconds": period,
        "timeoutSeconds": 10,
        "failureThreshold": failures,
    }


def test_a_pipeline_that_starts_slowly_is_given_the_time() -> None:
    assert sidecar(startup_s=901)["startupProbe"]["failureThreshold"] == 451


def test_the_grace_period_is_the_apps_and_the_drain_and_the_end_of_the_processes() -> None:
    assert pod()["terminationGracePeriodSeconds"] == 30 + 3 + 10
    assert pod(app_grace_s=4.5)["terminationGracePeriodSeconds"] == 5 + 3 + 10


# -- users ----------------------------------------------------------------------------------------


def test_neither_container_has_privileges() -> None:
    for container in (sidecar(), app()):
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["readOnlyRootFilesystem"] is True
        assert context["capabilities"] == {"drop": ["ALL"]}
    assert pod()["securityContext"] == {
        "runAsNonRoot": True, "fsGroup": 10000, "seccompProfile": {"type": "RuntimeDefault"}
    }  # fmt: skip


def test_the_pipelines_user_is_10001_in_no_group_of_roots_and_the_apps_is_its_images_unless_said() -> None:
    assert sidecar()["securityContext"]["runAsUser"] == sidecar()["securityContext"]["runAsGroup"] == 10001
    assert "runAsUser" not in app()["securityContext"]
    context = app(app_user=10002)["securityContext"]
    assert context["runAsUser"] == context["runAsGroup"] == 10002
    assert context["readOnlyRootFilesystem"] is True


# -- the app --------------------------------------------------------------------------------------


def test_the_app_has_its_image_and_its_port_and_is_what_kubectl_shows() -> None:
    assert (app()["name"], app()["image"]) == ("app", "my-app:1")
    assert "ports" not in app()
    assert app(port=8000)["ports"] == [{"containerPort": 8000}]
    annotations = deployment()["spec"]["template"]["metadata"]["annotations"]
    assert annotations == {"kubectl.kubernetes.io/default-container": "app"}


def test_there_are_as_many_pods_as_are_wanted() -> None:
    assert deployment()["spec"]["replicas"] == 1
    assert deployment(replicas=3)["spec"]["replicas"] == 3


# -- replicas -------------------------------------------------------------------------------------


def test_only_stages_that_leave_it_to_the_placement_have_their_number_said_and_none_that_is_colocated() -> None:
    config = PipelineConfig.model_validate(
        {
            "name": "demo",
            "inputs": [{"name": "x", "dtype": "uint8", "shape": [1]}],
            "stages": [
                {"name": "auto", "use": "m:C"},
                {"name": "said", "use": "m:C", "replicas": 4},
                {"name": "guest", "use": "m:C", "colocate": True},
            ],
        }
    )
    workers = (WorkerPlan("w", 0), WorkerPlan("w", 1), WorkerPlan("w", 2))
    stages = tuple(StagePlan(name, "m:C", {}, (), (), (), (), (), None, 4, workers) for name in ("auto", "said", "guest"))  # type: ignore[arg-type]
    assert replicas_of(config, replace(PLAN, stages=stages)) == {"auto": 3}
