"""Images without a container engine: the instructions of a Dockerfile, carried out one by one (see `rooted.py`).

The base image is the one thing that is not the file's own: in place of `python:X-slim`, which a registry has, there are
/usr and /etc of this machine, read-only, and the interpreter of the suite at /usr/local, where that image has its own.
Every other instruction is done as it stands there: COPY out of what .dockerignore lets through, RUN as root in that
root, and ENV, WORKDIR, USER, VOLUME, ENTRYPOINT, CMD and HEALTHCHECK for what is run later. An instruction that is not
known here is an error.
"""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tests.faults.pods import Container

__all__ = ["Image", "Running", "build", "context_of", "instructions_of"]

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


class Running(Container):
    """A container that runs."""

    def __init__(self, image: Image, document: dict[str, Any]) -> None:
        super().__init__(document, program=HERE / "rooted.py")
        self._image, self._document = image, document

    def execute(self, argv: list[str], **changes: Any) -> subprocess.CompletedProcess[str]:
        """Another program in it, as `docker exec` starts one."""
        return _rooted({**self._document, "argv": argv, "enter": self.first, **changes})

    def healthcheck(self) -> subprocess.CompletedProcess[str]:
        """What the engine would run now and then."""
        return self.execute(self._image.healthcheck)


@dataclass(frozen=True)
class Image:
    """What the instructions of one stage have made so far."""

    root: Path
    binds: dict[str, str]
    env: dict[str, str] = field(default_factory=dict)
    cwd: str = "/"
    user: str = "0:0"
    volumes: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    healthcheck: list[str] = field(default_factory=list)
    stop_signal: str = ""

    def run(
        self, *command: str, folder: Path, user: str | None = None, shm_mib: int = 64, mounts: dict[str, Path] | None = None
    ) -> Running:
        """As `docker run --read-only [--user USER] IMAGE [COMMAND...]`: without a HOME, and with 64 MiB at /dev/shm.

        Args:
            folder: where its anonymous volumes are made, which have the mode of the image's folders, as Docker has it.
            mounts: of the host, read-only, by their paths inside.
        """
        volumes = {}
        for number, path in enumerate(self.volumes):
            made = folder / f"volume-{number}"
            made.mkdir()
            made.chmod((self.root / path[1:]).stat().st_mode & 0o7777)
            volumes[path] = str(made)
        argv = [*self.entrypoint, *(command or self.command)]
        document = self.document(argv, user or self.user, read_only=True, shm_mib=shm_mib, volumes=volumes)
        document["binds"] |= {path: str(source) for path, source in (mounts or {}).items()}
        for path in document["binds"]:
            # The runtime makes them, before the root is read-only.
            (self.root / path[1:]).mkdir(parents=True, exist_ok=True)
        return Running(self, document)

    def document(self, argv: list[str], user: str, **fields: Any) -> dict[str, Any]:
        owner, _, group = user.partition(":")
        return {
            "root": str(self.root), "binds": dict(self.binds), "volumes": {}, "argv": argv, "env": self.env,
            "cwd": self.cwd, "user": int(owner), "group": int(group or 0), "read_only": False, "shm_mib": 64, **fields,
        }  # fmt: skip


def instructions_of(text: str) -> list[tuple[str, str]]:
    """The instructions of a Dockerfile, and what stands behind each."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [(name.upper(), rest.strip()) for name, _, rest in (line.partition(" ") for line in joined.splitlines()) if name]


def context_of(ignore: str, folder: Path) -> list[Path]:
    """The files that `docker build` sees, relative to `folder`: the last line of .dockerignore that fits a path decides."""
    rules = [line for line in ignore.splitlines() if line and not line.startswith("#")]
    assert rules[0] == "*", "what is not let in by name would be sent too, environments among it"
    let_in = [rule[1:] for rule in rules if rule.startswith("!")]
    command = ["git", "ls-files", "-co", "-z", "--", *let_in]
    listed = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    found = []
    for name in listed.stdout.split("\0")[:-1]:
        seen = True
        for rule in rules:
            bare = rule.removeprefix("!").removeprefix("**/")
            prefixes = [str(part) for part in (Path(name), *Path(name).parents)][:-1]
            names = [part.rpartition("/")[2] if rule.startswith("**/") else part for part in prefixes]
            if bare == "*" or any(fnmatch.fnmatchcase(part, bare) for part in names):
                seen = rule.startswith("!")
        if seen and (folder / name).is_file():
            found.append(Path(name))
    return found


def build(dockerfile: Path, folder: Path, *, wheels: Path) -> Image:
    """The image of a Dockerfile, in `folder`. pip finds packages in `wheels`, and nowhere else."""
    context = context_of((ROOT / ".dockerignore").read_text(), ROOT)
    arguments: dict[str, str] = {}
    stages: dict[str, Image] = {}
    image: Image | None = None
    for name, rest in instructions_of(dockerfile.read_text()):
        if name == "ARG":
            key, _, value = rest.partition("=")
            arguments[key] = value.strip('"')
        elif name == "FROM":
            base, _, stage = _expanded(rest, arguments).partition(" AS ")
            image = stages[stage] = _base(base, folder / f"stage-{len(stages)}")
        else:
            assert image is not None
            image = _done(name, rest, image, arguments, stages, context, wheels)
            stages[list(stages)[-1]] = image
    assert image is not None
    return image


def _base(name: str, root: Path) -> Image:
    assert re.fullmatch(r"python:3\.\d+-slim", name), f"there is nothing in place of {name}"
    for path in ("tmp", "var/tmp", "root", "usr", "etc", "run"):
        (root / path).mkdir(parents=True)
    (root / "tmp").chmod(0o1777)
    binds = {"/usr": "/usr", "/etc": "/etc"}
    for link in ("bin", "sbin", "lib", "lib64"):
        if os.path.islink(f"/{link}"):
            (root / link).symlink_to(os.readlink(f"/{link}"))
    if (prefix := os.path.realpath(sys.base_prefix)) != "/usr":
        # And where it was compiled for: its library is looked for there.
        binds |= {"/usr/local": prefix, prefix: prefix}
    return Image(root, binds, {"PATH": "/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin"})


def _done(
    name: str, rest: str, image: Image, arguments: dict[str, str], stages: dict[str, Image], context: list[Path], wheels: Path
) -> Image:
    if name == "COPY":
        _copy(rest, image, stages, context)
    elif name == "RUN":
        env = {**image.env, **arguments, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/wheels", "HOME": "/root"}
        # No settings of this machine; and nothing is compiled that runs a few times only.
        env |= {"PIP_CONFIG_FILE": "/dev/null", "PIP_NO_COMPILE": "1"}
        document = image.document(["/bin/sh", "-c", rest], image.user, env=env)
        document["binds"]["/wheels"] = str(wheels)
        done = _rooted(document)
        assert done.returncode == 0, f"RUN {rest}\n{done.stdout}"
    elif name == "ENV":
        pairs = re.findall(r"(\w+)=(\S+)", rest)
        return replace(image, env={**image.env, **dict(pairs)})
    elif name == "WORKDIR":
        (image.root / rest[1:]).mkdir(parents=True, exist_ok=True)
        return replace(image, cwd=rest)
    elif name == "USER":
        return replace(image, user=rest)
    elif name == "VOLUME":
        return replace(image, volumes=tuple(json.loads(rest)))
    elif name == "ENTRYPOINT":
        return replace(image, entrypoint=tuple(json.loads(rest)))
    elif name == "CMD":
        return replace(image, command=tuple(json.loads(rest)))
    elif name == "HEALTHCHECK":
        return replace(image, healthcheck=json.loads(rest.partition(" CMD ")[2]))
    elif name == "STOPSIGNAL":
        return replace(image, stop_signal=rest)
    else:
        assert name == "EXPOSE", f"{name} is not known here"
    return image


def _copy(rest: str, image: Image, stages: dict[str, Image], context: list[Path]) -> None:
    *sources, target = rest.split()
    if sources[0].startswith("--from="):
        (source,) = sources[1:]
        other = stages[sources[0].removeprefix("--from=")]
        shutil.copytree(other.root / source[1:], image.root / target[1:], symlinks=True)
        return
    into = image.root / os.path.join(image.cwd, target)[1:]
    for source in sources:
        files = [path for path in context if path == Path(source) or Path(source) in path.parents]
        assert files, f"COPY {source}: .dockerignore keeps it out"
        for path in files:
            if len(sources) > 1 or str(path) != source:
                place = into / (path.name if str(path) == source else path.relative_to(source))
            else:
                place = into / path.name if target.endswith("/") else into
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / path, place)


def _expanded(text: str, values: dict[str, str]) -> str:
    return re.sub(r"\$\{(\w+)\}", lambda found: values[found[1]], text)


def _rooted(document: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-I", str(HERE / "rooted.py"), json.dumps(document)],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
