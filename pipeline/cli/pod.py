"""`pipeline pod`: a Kubernetes Deployment of an app with the pipeline as its sidecar. Starts nothing."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.arguments import ConfigArgument, SetOption
from pipeline.cli.printed import put
from pipeline.config.quantities import parse_bytes
from pipeline.deploying.container import container_machine
from pipeline.deploying.contents import contents_of
from pipeline.deploying.demand import demand_of
from pipeline.deploying.manifest import to_yaml
from pipeline.deploying.pod import USER, PodOptions, header_of, is_label, label_of, pod_documents, replicas_of
from pipeline.errors import ConfigError
from pipeline.prepare.preparation import prepare
from pipeline.topology.machine import read_machine

__all__ = ["register"]

_MOST_CONFIG_BYTES = 1_000_000
"""A ConfigMap holds 1 MiB, its names included (kubernetes.io/docs/concepts/configuration/configmap)."""

_MOST = 2_147_483_647
"""Of what Kubernetes keeps in 32 bits: users, pods."""

_MOST_CPUS, _MOST_GPUS = 8192, 256
"""What Linux can be built for (CONFIG_NR_CPUS), and more than any node has."""

_MOST_S = 1_000_000

_OURS = ("TRTLAB_RUN_DIR", "HOME", "TRTLAB_MODELS")


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command()(pod)


def pod(
    config: ConfigArgument,
    app: Annotated[
        str,
        typer.Option(
            "--app", metavar="IMAGE",
            help="The image of the app that asks the pipeline.",
            show_default=False,
        )
    ],
    image: Annotated[
        str | None,
        typer.Option(
            "--image", metavar="IMAGE",
            help="The image of the pipeline; default: trtlab:VERSION.",
            show_default=False,
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", help="Of the Deployment; default: the pipeline's.", show_default=False)
    ] = None,
    replicas: Annotated[int, typer.Option("--replicas", min=0, max=_MOST, metavar="N", help="Pods.")] = 1,
    cpus: Annotated[
        float | None,
        typer.Option(
            "--cpus", min=0.1, max=_MOST_CPUS, metavar="N", help="CPUs of the pipeline's container; default: what the "
            "plan for this machine can keep busy.", show_default=False,
        ),
    ] = None,
    gpus: Annotated[
        int | None,
        typer.Option(
            "--gpus", min=0, max=_MOST_GPUS, metavar="N",
            help="GPUs to plan for; default: this machine's.",
            show_default=False,
        ),
    ] = None,
    memory: Annotated[
        str | None,
        typer.Option(
            "--memory", metavar="SIZE", help="What the pipeline's processes take beside shared memory, if you have "
            "measured it: 900MiB.", show_default=False,
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option("--port", min=1, max=65_535, metavar="N", help="The app's port.", show_default=False),
    ] = None,
    app_user: Annotated[
        int | None,
        typer.Option(
            "--app-user", min=1, max=_MOST, metavar="UID",
            help="The app's user; default: its image's.",
            show_default=False,
        ),
    ] = None,
    app_cpus: Annotated[
        float | None,
        typer.Option("--app-cpus", min=0.001, max=_MOST_CPUS, metavar="N", help="The app's CPUs.", show_default=False),
    ] = None,
    app_memory: Annotated[
        str | None,
        typer.Option(
            "--app-memory", metavar="SIZE",
            help="The app's memory; the tensors are not part of it.",
            show_default=False,
        ),
    ] = None,
    app_grace_s: Annotated[
        float,
        typer.Option("--app-grace-s", min=0, max=_MOST_S, metavar="SECONDS", help="How long the app may take to stop."),
    ] = 30.0,
    startup_s: Annotated[
        float,
        typer.Option(
            "--startup-s", min=1, max=_MOST_S, metavar="SECONDS", help="How long the pipeline may take to start."
        ),
    ] = 300.0,
    config_dir: Annotated[
        str,
        typer.Option(
            "--config-dir", metavar="DIR",
            help="The config's folder in the image, for its relative paths.",
        )
    ] = "/app/configs",
    config_in_image: Annotated[
        str | None,
        typer.Option(
            "--config-in-image", metavar="PATH", help="Use the config that the image has there, and make no ConfigMap.",
            show_default=False,
        ),
    ] = None,
    models_claim: Annotated[
        str | None,
        typer.Option(
            "--models-claim", metavar="NAME", help="A PersistentVolumeClaim with the models of the catalogue; default: "
            "the image has them.", show_default=False,
        ),
    ] = None,
    env: Annotated[
        list[str],
        typer.Option(
            "--env", metavar="NAME=VALUE",
            help="Set a variable of the pipeline's container. Repeatable.",
            show_default=False,
        ),
    ] = [],  # noqa: B006 (typer's own form of a default)
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write it there instead of to stdout.")
    ] = None,
    assignments: SetOption = [],  # noqa: B006
) -> None:
    """Print a Kubernetes Deployment: an app, and the pipeline as its sidecar. Nothing is started."""
    options = PodOptions(
        app=_image("--app", app),
        image=_own_image() if image is None else _image("--image", image),
        name=_label("--name", name),
        replicas=replicas,
        port=port,
        app_user=_other_user(app_user),
        app_cpus=app_cpus,
        app_bytes=_bytes("--app-memory", app_memory),
        app_grace_s=app_grace_s,
        cpus=cpus,
        process_bytes=_bytes("--memory", memory),
        startup_s=startup_s,
        folder=_path("--config-dir", config_dir).rstrip("/"),
        config_in_image=None if config_in_image is None else _path("--config-in-image", config_in_image),
        models_claim=_claim(models_claim),
        env=_variables(env),
        assignments=assignments,
    )
    machine = container_machine(read_machine(), cpus, gpus)
    prepared = prepare(config, assignments, machine)
    if (shards := prepared.loaded.config.shards) > 1:
        raise ConfigError(
            f"shards: expected 1 for a pod, found {shards}: several pods do the same, each with a host's memory of its "
            f"own (docs/kubernetes.md); add --set shards=1"
        )
    text = config.read_text(encoding="utf-8")
    if config_in_image is None and (size := len(text.encode())) > _MOST_CONFIG_BYTES:
        raise ConfigError(
            f"{config}: expected at most {_MOST_CONFIG_BYTES} B, which a ConfigMap holds, found {size} B; put it into "
            f"the image, and say where: --config-in-image {config_dir}/{config.name}"
        )
    demand = demand_of(prepared.plan, prepared.budget, machine.cpus.effective)
    documents = pod_documents(
        prepared.plan, demand, options, text, replicas_of(prepared.loaded.config, prepared.plan)
    )
    made = to_yaml(header_of(prepared.plan, options, contents_of(prepared.loaded)), documents)
    put(made, output, "--output")


def _own_image() -> str:
    from importlib import metadata  # parsers of mail and of archives, which no other command should wait for

    return f"trtlab:{metadata.version('trtlab')}"


def _image(option: str, text: str) -> str:
    if not re.fullmatch(r"\S+", text):
        raise ConfigError(f"{option} {text!r}: expected the name of an image, such as my-app:1.4")
    return text


def _label(option: str, text: str | None) -> str:
    if text is not None and not is_label(text):
        raise ConfigError(
            f"{option} {text!r}: expected up to 63 characters of a-z, 0-9 and -, with none of - at either end; "
            f"{label_of(text)} would do"
        )
    return text or ""


def _claim(text: str | None) -> str | None:
    if text is not None and not all(map(is_label, text.split("."))):
        raise ConfigError(f"--models-claim {text!r}: expected the name of a PersistentVolumeClaim: a-z, 0-9, - and .")
    return text


def _other_user(user: int | None) -> int | None:
    if user == USER:
        raise ConfigError(
            f"--app-user {user}: is the pipeline's own user, which may do everything with its files; choose another one"
        )
    return user


def _path(option: str, text: str) -> str:
    if not text.startswith("/") or ":" in text:
        raise ConfigError(f"{option} {text!r}: expected an absolute path in the image, such as /app/configs")
    return text


def _bytes(option: str, text: str | None) -> int | None:
    if text is None:
        return None
    try:
        # Kubernetes writes 900Mi.
        if (found := parse_bytes(f"{text}B" if re.search(r"[KMGTkmgt]i?$", text) else text)) > 0:
            return found
        raise ValueError("expected more than 0 bytes")
    except ValueError as error:
        raise ConfigError(f"{option} {text!r}: {error}") from None


def _variables(texts: list[str]) -> dict[str, str]:
    variables = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise ConfigError(f"--env {text!r}: expected NAME=VALUE")
        if name in _OURS:
            raise ConfigError(f"--env {text!r}: {name} is set by `pipeline pod` itself; leave it out")
        variables[name] = value
    return variables
