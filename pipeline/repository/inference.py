"""InferenceManager: models that this program starts, each as a run of its own, and that end with it.

    manager = InferenceManager("configs/mnist.yaml", "configs/resnet.yaml")
    runner = manager.infer_runner("mnist")

                load, or the constructor            ready                    unload
    (no model) ─────────────────────────▶ STARTING ───────▶ SERVING ───────────────▶ LEAVING ──────▶ (no model)
                                             │ it fails        │   ▲ reload
                                             ▼                 ▼   │ starts it anew
                                         (no model)           DIED: calls fail with Unavailable, and `status` says how

A run restarts its own workers and its scheduler. Its supervisor is not restarted by itself: it dies only if it is
killed from outside or by a fault of its own, which a person should hear of; `reload` starts it anew, and the runners
that were given out go on with it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from pipeline.client.access import Place
from pipeline.client.driver import PATIENCE_S
from pipeline.client.queue import PENDING
from pipeline.client.reloading import START_S, reload
from pipeline.client.shared import SharedClient
from pipeline.config.document import no_such_file
from pipeline.config.loader import LoadedConfig, load_config
from pipeline.errors import ClientMisuse, ConfigError, Unavailable
from pipeline.repository.log import Forwarded
from pipeline.repository.models import Models, expect_path, status_of
from pipeline.repository.run import StartedRun
from pipeline.serving.boot import ModelPlace
from stages.hints import did_you_mean

__all__ = ["InferenceManager"]

Config = str | os.PathLike[str]

#: How long a scheduler may take to hear what its supervisor knows.
_SETTLE_S = 5.0
_LOOK_S = 0.01


@dataclass(eq=False)
class _Model:
    """One that was loaded. The manager has it, and so does each client of it: it ends when the last of them is gone."""

    name: str
    config: str
    """Absolute path."""
    assignments: tuple[str, ...]
    drain_s: float
    run: StartedRun
    loaded: bool = False
    """It was ready."""
    leaving: bool = False
    changing: bool = False
    """A call reloads it."""
    ending: bool = False
    """Its run was asked to end."""
    run_dir: Path = Path()
    """The folder of its run, or of the one before if that is not ready; there once it was loaded."""

    def where(self) -> Path:
        """The folder of its run, for clients.

        Raises:
            Unavailable: it has ended.
        """
        if self.run.serves:
            return self.run.run_dir
        raise Unavailable(self.why_not())

    def why_not(self) -> str:
        """Why it cannot be asked."""
        if self.leaving:
            return f"the model {self.name!r} was unloaded"
        if self.run.alive:
            return f"the model {self.name!r} is starting"
        return f"the run of {self.name!r} has died ({self.run.how}); manager.reload({self.name!r}) starts it again"


class InferenceManager(Models):
    """Starts the pipelines of some configs, and ends them with itself, with this program, or when told to.

    They are started side by side, and ready when this returns. What they print goes to `sys.stderr`.

    Args:
        configs: paths of YAML files; the name in each is the name of the model.
        assignments: what `--set` takes, "inference.replicas=2": a list for every config, or a list for each of some
            configs by the path that is given here.
        timeout_s: seconds that they may take until they are ready.
        name: what `pipeline status` calls this program; empty: as it was started, such as `app.py`.
        pending: how many requests of one model may wait for a slot; beyond, `infer` waits or raises Overloaded.
        patience_s: seconds that a request waits for a pipeline that is not there, such as one that is reloaded after it
            has died.

    Raises:
        ConfigError: a config is wrong.
        StartError: one could not be started; the message has what it has printed, and nothing is left running.
        ClientMisuse: two configs have the same name.
    """

    def __init__(
        self,
        *configs: Config,
        assignments: Sequence[str] | Mapping[Any, Sequence[str]] = (),
        timeout_s: float = START_S,
        name: str = "",
        pending: int = PENDING,
        patience_s: float = PATIENCE_S,
    ) -> None:
        super().__init__(name, pending, patience_s)
        self._models: dict[str, _Model] = {}
        if listed := [config for config in configs if not isinstance(config, (str, os.PathLike))]:
            raise ClientMisuse(
                f"expected the path of a YAML file in each argument, found {type(listed[0]).__name__}; of a list that "
                f"is InferenceManager(*configs)"
            )
        each = _assignments_of(configs, assignments)
        end = time.monotonic() + timeout_s
        try:
            for model in [self._begin(config, None, given) for config, given in zip(configs, each)]:
                self._await(model, end)
        except BaseException:
            self._end_at_once()
            raise

    # -- what there is ----------------------------------------------------------------------------

    def get_models(self) -> list[str]:
        """The names of the models that were loaded, in that order; `status` says which of them can be asked."""
        self._refuse_misuse()
        with self._mutex:
            return [model.name for model in self._models.values() if model.loaded and not model.leaving]

    def status(self) -> dict[str, dict[str, Any]]:
        """As `Models.status`, with the config of each."""
        self._refuse_misuse()
        with self._mutex:
            models = list(self._models.values())
        return {model.name: _status(model) for model in models}

    def place(self, name: str) -> Place:
        """Where the model of this name runs, for a client of the application's own, such as `AsyncClient`.

        Raises:
            ClientMisuse: there is no model of this name; the manager was stopped, or is of another process.
        """
        self._refuse_misuse()
        return self._place(name)

    def drain_s(self, name: str) -> float:
        """Seconds that what is under way may take when the model of this name ends, as its run says.

        Raises:
            ClientMisuse: there is no model of this name; the manager was stopped, or is of another process.
        """
        self._refuse_misuse()
        with self._mutex:
            return self._known(name).drain_s

    def _shown(self) -> str:
        return ", ".join(self._models) or "no model was loaded"

    def _place(self, name: str) -> Place:
        with self._mutex:
            return self._known(name).where

    def _places(self) -> dict[str, ModelPlace]:
        self._refuse_misuse()
        with self._mutex:
            models = [model for model in self._models.values() if model.loaded and not model.leaving]
        # One whose run has died is where it was: `reload` starts it anew elsewhere.
        return {model.name: ModelPlace(str(model.run_dir), model.drain_s) for model in models}

    def _configs(self) -> dict[str, LoadedConfig]:
        with self._mutex:
            models = list(self._models.values())
        return {f"{model.config} ({model.name})": load_config(model.config, model.assignments) for model in models}

    def _known(self, name: str) -> _Model:
        model = self._models.get(name)
        if model is None:
            hint = did_you_mean(name, self._models, in_order=True)
            raise ClientMisuse(f"no model {name!r} was loaded{hint}; manager.load(CONFIG) loads one")
        if model.leaving:
            raise ClientMisuse(model.why_not())
        return model

    def _settled(self, name: str) -> _Model:
        """One that no other call loads or reloads now."""
        model = self._known(name)
        if model.changing or not model.loaded:
            raise ClientMisuse(f"the model {name!r} is being loaded by another call: wait for its end")
        return model

    # -- other models -----------------------------------------------------------------------------

    def load(
        self,
        config: Config,
        name: str | None = None,
        *,
        assignments: Sequence[str] = (),
        timeout_s: float = START_S,
    ) -> str:
        """Start one more model while the others serve, and wait until it is ready; its name.

        Args:
            config: path of the YAML file.
            name: of the model, in place of the one in the config.
            assignments: what `--set` takes.
            timeout_s: seconds that it may take until it is ready.

        Raises:
            ConfigError, StartError: as for the constructor; the other models serve on.
            ClientMisuse: there is a model of this name; the manager was stopped, or is of another process; `config` is
                no path.
        """
        self._refuse_misuse()
        expect_path(config)
        end = time.monotonic() + timeout_s
        model = self._begin(config, name, assignments)
        try:
            self._await(model, end)
        except BaseException:
            with self._mutex:
                self._models.pop(model.name, None)
            model.run.end()
            self._refuse_misuse()
            raise
        return model.name

    def _begin(self, config: Config, name: str | None, assignments: Sequence[str]) -> _Model:
        """Take the name, and spawn."""
        given = (*assignments, *(() if name is None else (f"name={name}",)))
        loaded = load_config(os.fspath(config), given).config
        with self._mutex:
            self._refuse_misuse()
            if (there := self._models.get(loaded.name)) is not None:
                raise ClientMisuse(
                    f"{os.fspath(config)}: a model {loaded.name!r} was loaded from {there.config}: replace it by "
                    f"manager.reload({loaded.name!r}, CONFIG), end it by manager.unload({loaded.name!r}), or load this "
                    f"one under another name by manager.load(CONFIG, NAME)"
                )
            # Under the mutex: `stop` ends each that is here, and none is spawned after it.
            run = self._spawn(config, given, loaded.name)
            model = _Model(loaded.name, os.path.abspath(config), given, loaded.drain_s, run)
            self._models[model.name] = model
        return model

    def _spawn(self, config: Config, assignments: Sequence[str], name: str) -> StartedRun:
        return StartedRun(config, assignments, Forwarded(name))

    def _await(self, model: _Model, end: float) -> None:
        _await_ready(model, max(0.0, end - time.monotonic()))
        model.loaded = True
        self._told()

    def reload(
        self,
        name: str,
        config: Config | None = None,
        *,
        assignments: Sequence[str] = (),
        stage: str | None = None,
        timeout_s: float = START_S,
    ) -> None:
        """Have a new version of a model take over. It is started beside the one that serves, which then answers what it
        has, and ends: no request is lost, and runners that were given out go on with the new version.

        If the model's run has died, it is started anew.

        Args:
            name: of the model.
            config: path of the YAML file. None: as before, read anew.
            assignments: what `--set` takes, behind those from before if there is no new config.
            stage: replace the workers of this stage only, one after the other, in the run that serves; see
                `pipeline.client.reloading.reload`.
            timeout_s: seconds that the new version, or a new worker, may take until it is ready.

        Raises:
            ConfigError: there is no such file.
            ReloadFailed: the new version is wrong, or did not start, with the reason; the old one serves on.
            StartError: the model had died, and could not be started anew.
            ClientMisuse: there is no model of this name, or another call reloads it; the manager was stopped, or is of
                another process.
        """
        self._refuse_misuse()
        if config is not None:
            expect_path(config)
        with self._mutex:
            model = self._settled(name)
            model.changing = True
        try:
            path = model.config if config is None else os.path.abspath(config)
            # It is read once, by the process of the new version: what is checked is what is started.
            if not os.path.exists(path):
                raise ConfigError(no_such_file(Path(path)))
            given = (*(model.assignments if config is None else ()), *assignments)
            given = (*[each for each in given if not each.startswith("name=")], f"name={name}")
            if model.run.alive:
                self._replace(model, path, given, stage, timeout_s)
            else:
                self._start_anew(model, path, given, timeout_s)
            model.config, model.assignments = path, given
        finally:
            model.changing = False

    def _replace(
        self, model: _Model, config: str, assignments: Sequence[str], stage: str | None, timeout_s: float
    ) -> None:
        """Its run serves."""
        reload(model.run.run_dir, config, assignments, stage=stage, limit_s=timeout_s)
        _learn(model, status_of(model.run.run_dir))

    def _start_anew(self, model: _Model, config: str, assignments: Sequence[str], timeout_s: float) -> None:
        """Its run has died."""
        model.run.end()
        with self._mutex:
            self._refuse_misuse()
            model.run = self._spawn(config, assignments, model.name)
        _await_ready(model, timeout_s)
        self._told()

    def unload(self, name: str, *, timeout_s: float | None = None) -> None:
        """End a model while the others serve. What is under way is answered first; nothing new is taken.

        Args:
            name: of the model.
            timeout_s: seconds after which it is ended at once. None: as long as the `drain_s` of its config says.

        Raises:
            ClientMisuse: there is no model of this name, or another call loads it; the manager was stopped, or is of
                another process.
        """
        self._refuse_misuse()
        with self._mutex:
            model = self._settled(name)
            model.leaving = True
            client = self._clients.pop(name, None)
        self._told()
        try:
            _drain([(model, client)], model.why_not(), timeout_s)
        finally:
            with self._mutex:
                self._models.pop(name, None)

    # -- the end ----------------------------------------------------------------------------------

    def stop(self, *, timeout_s: float | None = None) -> None:
        """End all models. What is under way is answered first; nothing new is taken. May be called again.

        Args:
            timeout_s: seconds after which they are ended at once. None: as long as the `drain_s` of each config says.
        """
        if os.getpid() != self._process:
            return
        begun = time.monotonic()
        self._close_servers(timeout_s)
        if timeout_s is not None:
            timeout_s = max(0.0, timeout_s - (time.monotonic() - begun))
        with self._mutex:
            self._over = self._over or "this manager was stopped"
            leaving = [(model, self._clients.get(model.name)) for model in self._models.values()]
            for model, _ in leaving:
                model.leaving = True
        try:
            _drain(leaving, self._over, timeout_s)
        finally:
            self._end_at_once()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # As when this program is killed: after an exception, such as Ctrl-C, no answer is waited for.
        if error is None:
            self.stop()
        else:
            self._end_at_once()

    def _end_at_once(self) -> None:
        if os.getpid() != self._process:
            return
        with self._mutex:
            self._over = self._over or "this manager was stopped"
            models = list(self._models.values())
            self._models.clear()
        for server in self._servers:
            server.close_at_once()
        for model in models:
            # All of them before any is waited for.
            model.run.let_go()
        self._close(self._over)
        for model in models:
            model.run.end()


def _await_ready(model: _Model, timeout_s: float) -> None:
    run = model.run
    folder = model.run_dir = run.await_ready(timeout_s)
    # The supervisor may hear of a worker sooner than the scheduler, of which `status` tells.
    end = time.monotonic() + _SETTLE_S
    while run.alive and time.monotonic() < end:
        status = status_of(folder)
        _learn(model, status)
        if status["state"] == "ready":
            break
        time.sleep(_LOOK_S)


def _learn(model: _Model, status: Mapping[str, Any]) -> None:
    """Take what the run itself says of its config, which may have been edited since."""
    if (document := status["pipeline"]) is not None:
        model.drain_s = document["drain_s"]


def _assignments_of(
    configs: Sequence[Config], assignments: Sequence[str] | Mapping[Any, Sequence[str]]
) -> list[Sequence[str]]:
    """What is set in each config."""
    if isinstance(assignments, str):
        raise ClientMisuse(f"assignments are a list, such as [{assignments!r}]")
    if not isinstance(assignments, Mapping):
        return [assignments] * len(configs)
    paths = [os.fspath(config) for config in configs]
    by_path = {os.fspath(config): given for config, given in assignments.items()}
    for path in by_path:
        if path not in paths:
            raise ClientMisuse(f"assignments for {path!r}, which is none of the configs{did_you_mean(path, paths)}")
    return [by_path.get(path, ()) for path in paths]


def _status(model: _Model) -> dict[str, Any]:
    fields = {"config": model.config, "pid": model.run.pid}
    if not model.run.serves:
        state = "starting" if model.run.alive else "died"
        return {"state": state, "why": model.why_not(), "run": None, "pipeline": None, **fields}
    status = {**status_of(model.run.run_dir), **fields}
    return {**status, "state": "leaving"} if model.leaving else status


def _drain(leaving: list[tuple[_Model, SharedClient | None]], why: str, timeout_s: float | None) -> None:
    """Let the models answer what is under way, side by side, and end.

    Args:
        leaving: each with this program's client of it, if it has one.
        why: what calls say from now on.
        timeout_s: as for `InferenceManager.stop`.
    """
    now = time.monotonic()
    ends = [now + (model.drain_s if timeout_s is None else timeout_s) for model, _ in leaving]
    try:
        for _, client in leaving:
            if client is not None:
                client.refuse(ClientMisuse(why))
        # What waits in this program's memory has not reached the run, which would refuse it from now on.
        for (_, client), end in zip(leaving, ends):
            if client is not None:
                client.wait_until_idle(max(0.0, end - time.monotonic()))
        for model, _ in leaving:
            # Once, though it is unloaded while the manager stops: asked again, it would not finish what is under way.
            if not model.ending:
                model.ending = True
                model.run.interrupt()
        for (model, _), end in zip(leaving, ends):
            with suppress(TimeoutError):
                model.run.wait(None if timeout_s is None else max(0.0, end - time.monotonic()))
    finally:
        for model, client in leaving:
            model.run.let_go()
            if client is not None:
                client.close()
        for model, _ in leaving:
            model.run.end()
