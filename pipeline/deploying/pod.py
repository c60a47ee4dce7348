"""Pod: the documents of a Deployment whose pods run an app with the pipeline as its sidecar. Pure.

    pod ──┬── init container `pipeline`, restartPolicy: Always    user 10001      ┐ both in the group 10000, with
          ├── container `app`                                     its own user    ┘ nothing shared but:
          ├── volume `segments`   tmpfs    /run/trtlab/shm        the tensors
          └── volume `sockets`    tmpfs    /run/trtlab/run        the run's folder: sockets and locks

The kubelet starts the app when the startup probe of the pipeline has passed, so the app finds it ready; at the end the
app is stopped first, and the pipeline when the app is gone. Neither shares its processes or IPC namespace.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from pipeline.config.quantities import format_bytes
from pipeline.config.schema import AUTO, PipelineConfig, hosts_of
from pipeline.deploying.contents import Contents
from pipeline.deploying.demand import PROBES, Demand
from pipeline.deploying.manifest import Document, Path
from pipeline.graph.plan import Plan
from shm.layout import ceil_div

__all__ = ["USER", "PodOptions", "header_of", "is_label", "label_of", "pod_documents", "replicas_of"]

SEGMENTS_DIR = "/run/trtlab/shm"
SOCKETS_DIR = "/run/trtlab/run"
SEGMENTS_HOME, RUN_HOME = f"{SEGMENTS_DIR}/pipeline", f"{SOCKETS_DIR}/pipeline"
"""`segments.dir` and TRTLAB_RUN_DIR: folders that the pipeline makes, and in which the app cannot make, rename or
remove anything. The volumes themselves are root's, and open to the group."""
MODELS_DIR = "/models"
SCRATCH_DIR = "/tmp"

USER = 10001
GROUP = 10000

_MIB = 1 << 20
_SOCKETS_BYTES = 16 * _MIB
_SCRATCH_BYTES = 256 * _MIB
"""Beside the capsules: temporary files, and models of the catalogue that the image has not."""

#: A probe takes 0.2 s of a CPU, most of it for the imports; these two take 3 % of one.
_READY_EVERY_S = 10
_ALIVE_EVERY_S = 20
_STARTUP_EVERY_S = 2
_STOP_S = 10
"""From the end of the drain to the end of the last process."""

_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


class PodOptions(msgspec.Struct, frozen=True):
    """What the plan does not say."""

    app: str
    """The image of the app."""
    image: str
    """The image of the pipeline."""
    name: str = ""
    """Of the Deployment, a label of RFC 1123; "": made of the pipeline's."""
    replicas: int = 1
    """Pods."""
    port: int | None = None
    """On which the app listens."""
    app_user: int | None = None
    """None: that of its image."""
    app_cpus: float | None = None
    app_bytes: int | None = None
    """The app's memory limit."""
    app_grace_s: float = 30.0
    """How long the app may take to stop."""
    cpus: float | None = None
    """CPUs of the pipeline's container; None: what the plan can keep busy."""
    process_bytes: int | None = None
    """What the pipeline's processes take beside shared memory; None: as estimated."""
    startup_s: float = 300.0
    """How long the pipeline may take until it is ready."""
    folder: str = "/app/configs"
    """The folder of the image in which the config lies, as far as its relative paths are concerned."""
    config_in_image: str | None = None
    """The path of the config in the image; None: it is a ConfigMap's."""
    models_claim: str | None = None
    """A PersistentVolumeClaim with the models of the catalogue; None: the image has them."""
    env: Mapping[str, str] = msgspec.field(default_factory=dict)
    """Variables of the pipeline's container."""
    assignments: Sequence[str] = ()
    """The texts of `--set`."""


def is_label(text: str) -> bool:
    """Whether it may name a Deployment and its pods: a label of RFC 1123."""
    return _LABEL.fullmatch(text) is not None


def label_of(text: str) -> str:
    """The nearest label of RFC 1123: "My Net_2" becomes my-net-2."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:63].rstrip("-") or "pipeline"


def replicas_of(config: PipelineConfig, plan: Plan) -> dict[str, int]:
    """The number of workers of each stage that leaves it to the placement.

    A node has other CPUs and NUMA nodes than the machine on which this is computed; the memory is computed for this
    number.
    """
    hosts = hosts_of(config.stages)
    return {
        stage.name: len(plan.stage(stage.name).workers)
        for stage in config.stages
        if hosts[stage.name] == stage.name and stage.replicas == AUTO
    }


def pod_documents(
    plan: Plan, demand: Demand, options: PodOptions, text: str, replicas: Mapping[str, int]
) -> list[Document]:
    """The ConfigMap, unless the image has the config, and the Deployment.

    Args:
        text: the config, as it is written.
        replicas: as `replicas_of`.
    """
    name = options.name or label_of(plan.name)
    documents = []
    config_map = None
    if options.config_in_image is None:
        # It has a name of its own for each text, and never changes: pods keep the config that they were started with.
        config_map = f"{name}-config-{hashlib.sha256(text.encode()).hexdigest()[:10]}"
        documents.append(_config_map(config_map, name, plan, text))
    documents.append(_deployment(name, plan, demand, options, config_map, replicas))
    return documents


def header_of(plan: Plan, options: PodOptions, contents: Contents) -> str:
    """The comment above the documents: where they are from, and what the image must have."""
    lines = [
        f"The pipeline {plan.name} as the sidecar of {options.app}. Made by `pipeline pod`: make it again rather than",
        "change numbers by hand, since they are of one plan.",
    ]
    where = options.config_in_image or f"{options.folder}/{plan.name}.yaml"
    if contents.files:
        lines += ["", f"{options.image} must have, relative to the folder of {where}:"]
        lines += [f"    {name}" for name in contents.files]
    if contents.assets:
        place = f"the claim {options.models_claim}" if options.models_claim else f"{options.image}, in $TRTLAB_MODELS"
        lines += ["", f"Models and labels of the catalogue, in {place} (otherwise they are fetched at each start):"]
        lines += [f"    {name}" for name in contents.assets]
    if missing := [name for name in contents.variables if name not in options.env]:
        lines += ["", "The config reads these variables; set them with --env, or in the image:"]
        lines += [f"    {name}" for name in missing]
    return "\n".join(lines)


# -- the documents --------------------------------------------------------------------------------


def _labels(name: str) -> dict[str, str]:
    return {"app.kubernetes.io/name": name}


def _config_map(config_map: str, name: str, plan: Plan, text: str) -> Document:
    return Document(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": config_map, "labels": _labels(name)},
            "immutable": True,
            "data": {f"{plan.name}.yaml": text},
        }
    )


def _deployment(
    name: str, plan: Plan, demand: Demand, options: PodOptions, config_map: str | None, replicas: Mapping[str, int]
) -> Document:
    stop_s = math.ceil(plan.drain_s) + _STOP_S
    pod = {
        "terminationGracePeriodSeconds": math.ceil(options.app_grace_s) + stop_s,
        "securityContext": {
            "runAsNonRoot": True,
            "fsGroup": GROUP,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "initContainers": [_pipeline(plan, demand, options, config_map, replicas)],
        "containers": [_app(options)],
        "volumes": _volumes(plan, demand, options, config_map),
    }
    document = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "labels": _labels(name)},
        "spec": {
            "replicas": options.replicas,
            "selector": {"matchLabels": _labels(name)},
            "template": {
                "metadata": {
                    "labels": _labels(name),
                    "annotations": {"kubectl.kubernetes.io/default-container": "app"},
                },
                "spec": pod,
            },
        },
    }
    comments = {
        ("terminationGracePeriodSeconds",): (
            f"{math.ceil(options.app_grace_s)} s for the app, which is stopped first; then the pipeline drains for "
            f"{plan.drain_s:g} s (drain_s), and ends its processes within {_STOP_S} s."
        ),
        ("securityContext", "fsGroup"): "The group that both containers share; the volumes belong to it.",
        **_pipeline_comments(demand, options),
        **_volume_comments(plan, demand),
    }
    inside: Path = ("spec", "template", "spec")
    return Document(document, {(*inside, *path): comment for path, comment in comments.items()})


def _pipeline(
    plan: Plan, demand: Demand, options: PodOptions, config_map: str | None, replicas: Mapping[str, int]
) -> dict[str, Any]:
    path = options.config_in_image or f"{options.folder}/{plan.name}.yaml"
    assignments = [
        *options.assignments,
        *(f"{stage}.replicas={count}" for stage, count in replicas.items()),
        f"segments={{dir: {SEGMENTS_HOME}, group: {GROUP}}}",
        f"capsules.folder={SCRATCH_DIR}/capsules",
    ]
    sets = [word for assignment in assignments for word in ("--set", assignment)]
    command = ["pipeline", "run", path, "--serve", *sets]
    env = {"TRTLAB_RUN_DIR": RUN_HOME, "HOME": SCRATCH_DIR}
    mounts = [*_shared_mounts(), {"name": "scratch", "mountPath": SCRATCH_DIR}]
    if config_map is not None:
        # A file by itself, so that what lies beside it in the image is still there.
        mounts.append({"name": "config", "mountPath": path, "subPath": f"{plan.name}.yaml", "readOnly": True})
    if options.models_claim is not None:
        env["TRTLAB_MODELS"] = MODELS_DIR
        mounts.append({"name": "models", "mountPath": MODELS_DIR, "readOnly": True})
    cpus = demand.cpus if options.cpus is None else options.cpus
    resources = {"cpu": _cpus(cpus), "memory": _mebibytes(_memory(demand, options))}
    if demand.gpus:
        resources["nvidia.com/gpu"] = str(demand.gpus)
    return {
        "name": "pipeline",
        "image": options.image,
        "restartPolicy": "Always",
        "command": [_literal(word) for word in command],
        "workingDir": SCRATCH_DIR,
        "env": _env({**env, **options.env}),
        "resources": {"requests": dict(resources), "limits": resources},
        "startupProbe": {
            **_probe(plan, "ready", _STARTUP_EVERY_S),
            "failureThreshold": math.ceil(options.startup_s / _STARTUP_EVERY_S),
        },
        "readinessProbe": {**_probe(plan, "ready", _READY_EVERY_S), "failureThreshold": 2},
        "livenessProbe": {**_probe(plan, "alive", _ALIVE_EVERY_S), "failureThreshold": 3},
        "securityContext": {**_confined(), **_user(USER)},
        "volumeMounts": mounts,
    }


def _app(options: PodOptions) -> dict[str, Any]:
    app: dict[str, Any] = {"name": "app", "image": options.app, "env": _env({"TRTLAB_RUN_DIR": RUN_HOME})}
    if options.port is not None:
        app["ports"] = [{"containerPort": options.port}]
    resources = {}
    if options.app_cpus is not None:
        resources["cpu"] = _cpus(options.app_cpus)
    if options.app_bytes is not None:
        resources["memory"] = _mebibytes(options.app_bytes)
    if resources:
        app["resources"] = {"requests": dict(resources), "limits": resources}
    app["securityContext"] = _confined()
    if options.app_user is not None:
        app["securityContext"].update(_user(options.app_user))
    app["volumeMounts"] = [*_shared_mounts(), {"name": "app-scratch", "mountPath": SCRATCH_DIR}]
    return app


def _volumes(plan: Plan, demand: Demand, options: PodOptions, config_map: str | None) -> list[dict[str, Any]]:
    capsules = plan.capsules.max_count * plan.capsules.max_bytes
    volumes: list[dict[str, Any]] = [
        {"name": "segments", "emptyDir": {"medium": "Memory", "sizeLimit": _mebibytes(demand.shared)}},
        {"name": "sockets", "emptyDir": {"medium": "Memory", "sizeLimit": _mebibytes(_SOCKETS_BYTES)}},
        {"name": "scratch", "emptyDir": {"sizeLimit": _mebibytes(_SCRATCH_BYTES + capsules)}},
        {"name": "app-scratch", "emptyDir": {}},
    ]
    if config_map is not None:
        volumes.append({"name": "config", "configMap": {"name": config_map}})
    if options.models_claim is not None:
        claim = {"claimName": options.models_claim, "readOnly": True}
        volumes.append({"name": "models", "persistentVolumeClaim": claim})
    return volumes


# -- the comments ---------------------------------------------------------------------------------


def _pipeline_comments(demand: Demand, options: PodOptions) -> dict[Path, str]:
    said = options.process_bytes is not None
    processes = (
        f"{format_bytes(_process_bytes(demand, options))} for the processes, as --memory says"
        if said
        else f"an estimate of {format_bytes(demand.process_bytes)} for {demand.processes} processes, "
        f"{PROBES} of them probes (--memory says what you have measured)"
    )
    memory = (
        f"{format_bytes(demand.shared)} of segments, which are charged to this container since it touches them first, "
        f"{format_bytes(_SOCKETS_BYTES)} for the volume of sockets, and {processes}."
    )
    here: Path = ("initContainers", 0)
    comments: dict[Path, str] = {
        (*here, "restartPolicy"): "Which makes it a sidecar: it starts before the app, and ends after it.",
        (*here, "resources", "requests", "cpu"): (
            ("What --cpus says." if options.cpus is not None else "What the workers and the scheduler can keep busy.")
            + " The limit is the same, since the pipeline plans its threads for it."
        ),
        (*here, "resources", "requests", "memory"): memory,
        (*here, "startupProbe"): f"The app is started when this has passed; it may take {options.startup_s:g} s.",
        (*here, "readinessProbe"): "A worker that is started again within 10 s does not take the pod out of service.",
        (*here, "livenessProbe"): (
            "Fails if the scheduler does not answer, or a stage has been given up and has no worker; not while workers "
            "are started again."
        ),
    }
    if options.app_bytes is not None:
        comments["containers", 0, "resources", "requests", "memory"] = (
            "The tensors are not part of it: their pages are charged to the pipeline's container."
        )
    if demand.gpus:
        comments[(*here, "resources", "requests", "nvidia.com/gpu")] = "The GPUs that the plan's workers are placed on."
    return comments


def _volume_comments(plan: Plan, demand: Demand) -> dict[Path, str]:
    capsules = plan.capsules
    return {
        ("volumes", 0, "emptyDir", "sizeLimit"): (
            f"Twice the plan's {format_bytes(demand.segments)}: if the scheduler dies, the next one's segments "
            "are made while those of the dead one are still mapped."
        ),
        ("volumes", 2, "emptyDir", "sizeLimit"): (
            f"{capsules.max_count} capsules of up to {format_bytes(capsules.max_bytes)} (capsules:), and "
            f"{format_bytes(_SCRATCH_BYTES)}. On the node's disk."
        ),
    }


# -- small parts ----------------------------------------------------------------------------------


def _shared_mounts() -> list[dict[str, Any]]:
    return [{"name": "segments", "mountPath": SEGMENTS_DIR}, {"name": "sockets", "mountPath": SOCKETS_DIR}]


def _confined() -> dict[str, Any]:
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def _user(number: int) -> dict[str, int]:
    # Without a group, a user that the image does not know would be in the group of root.
    return {"runAsUser": number, "runAsGroup": number}


def _probe(plan: Plan, question: str, every_s: int) -> dict[str, Any]:
    command = ["pipeline", "status", "--probe", question, "--", plan.name]
    # Its own time limit is 2 s; an interpreter that shares a busy CPU may start for seconds.
    return {"exec": {"command": command}, "periodSeconds": every_s, "timeoutSeconds": 10}


def _process_bytes(demand: Demand, options: PodOptions) -> int:
    return demand.process_bytes if options.process_bytes is None else options.process_bytes


def _memory(demand: Demand, options: PodOptions) -> int:
    return demand.shared + _SOCKETS_BYTES + _process_bytes(demand, options)


def _mebibytes(nbytes: int) -> str:
    return f"{ceil_div(nbytes, _MIB)}Mi"


def _cpus(cpus: float) -> str:
    thousandths = math.ceil(cpus * 1000)
    return f"{thousandths}m" if thousandths % 1000 else str(thousandths // 1000)


def _env(variables: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"name": name, "value": _literal(value)} for name, value in variables.items()]


def _literal(text: str) -> str:
    """The text for a `command` or a `value`, in which Kubernetes replaces $(NAME), and $$ by $."""
    return text.replace("$", "$$")
