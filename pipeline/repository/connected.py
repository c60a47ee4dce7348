"""Connected: the models that run on this host and that others have started, behind the interface of every manager.

It ends none of them and starts none. It looks at the run folders at each call, so that what starts later is there, and
what has ended is not.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from pipeline.client.driver import PATIENCE_S
from pipeline.client.queue import PENDING
from pipeline.client.reloading import START_S, reload
from pipeline.config.loader import LoadedConfig
from pipeline.errors import ClientMisuse, Unavailable
from pipeline.repository.models import Models, expect_path, status_of
from pipeline.serving.boot import ModelPlace
from pipeline.wire.absence import no_run_in
from pipeline.wire.home import named_folder
from pipeline.wire.run_dir import Run, living_runs, run_in, runs_home, serving, why_none
from stages.hints import did_you_mean

__all__ = ["ConnectedModels", "connect"]

#: Seconds to wait for a model that is starting, if the caller gives no time.
_START_S = 60.0
_LOOK_S = 0.05


def connect(
    run: str | os.PathLike[str] | None = None,
    *,
    timeout_s: float | None = None,
    name: str = "",
    pending: int = PENDING,
    patience_s: float = PATIENCE_S,
) -> ConnectedModels:
    """The models that run on this host, started by whatever program; none of them ends with the manager.

    Args:
        run: a pipeline's name, a run's id (detect-29227), its folder's path, or None for all that run now or later.
        timeout_s: seconds to wait until one of them runs and is ready. None: 60 for one that is starting, none if there
            is not one.
        name: what `pipeline status` calls this program; empty: as it was started, such as `app.py`.
        pending: how many requests of one model may wait for a slot; beyond, `infer` waits or raises Overloaded.
        patience_s: seconds that a request waits for a pipeline that is not there, such as one that restarts.

    Raises:
        InvalidRequest: `pending` or `patience_s` is no such number.
        Unavailable: none runs, or none is ready in time.
    """
    models = ConnectedModels(run, name, pending, patience_s)
    end = time.monotonic() + (_START_S if timeout_s is None else timeout_s)
    while not any(found.ready for found in models.runs()):
        if (timeout_s is None and not models.runs()) or time.monotonic() >= end:
            raise models.missing()
        time.sleep(_LOOK_S)
    return models


class ConnectedModels(Models):
    """See `connect`, which makes it."""

    def __init__(
        self,
        run: str | os.PathLike[str] | None,
        name: str,
        pending: int = PENDING,
        patience_s: float = PATIENCE_S,
    ) -> None:
        super().__init__(name, pending, patience_s)
        text = None if run is None else os.fspath(run)
        #: If one run is meant, and not any of its name.
        self._folder = None if text is None else named_folder(text)
        self._only = text if self._folder is None else None
        #: Models that were seen by a server; one that has ended may come back.
        self._served: dict[str, ModelPlace] = {}

    def runs(self) -> list[Run]:
        """The runs of these models that live, in the order in which a client wants them."""
        if self._folder is None:
            return living_runs(self._only)
        # It may be in another home than the one that is looked into here.
        found = run_in(serving(self._folder))
        return [] if found is None else [found]

    def missing(self) -> Unavailable:
        """Why nothing can be asked now."""
        found = self.runs()
        if found:
            return Unavailable(f"not ready yet: {', '.join(str(run.folder) for run in found)}; see pipeline status")
        if self._folder is not None:
            return Unavailable(no_run_in(self._folder, "it has ended, or is the folder of no run"))
        return Unavailable(why_none(self._only))

    def get_models(self) -> list[str]:
        """The names of the models that run now."""
        self._refuse_misuse()
        return sorted({run.pipeline for run in self.runs()})

    def status(self) -> dict[str, dict[str, Any]]:
        """As `Models.status`; if several runs have one name, it is of the one that a new runner would ask."""
        self._refuse_misuse()
        chosen: dict[str, Run] = {}
        for run in self.runs():
            chosen.setdefault(run.pipeline, run)
        return {name: status_of(chosen[name].folder) for name in sorted(chosen)}

    def _shown(self) -> str:
        return str(self._only or self._folder or f"all in {runs_home()}")

    def _place(self, name: str) -> str | Path:
        names = self.get_models()
        if name not in names:
            raise Unavailable(f"no model {name!r} runs here{did_you_mean(name, names)}")
        return name if self._folder is None else self._folder

    def _places(self) -> dict[str, ModelPlace]:
        for name in self.get_models():
            self._served.setdefault(name, ModelPlace(name if self._folder is None else str(self._folder)))
        return self._served

    def _configs(self) -> dict[str, LoadedConfig]:
        # They are files of other programs.
        return {}

    def load(self, config: str | os.PathLike[str], name: str | None = None) -> str:
        """Raises ClientMisuse: what this manager has belongs to other programs."""
        self._refuse_foreign("load", f"start it with: pipeline run {config!s} --serve")

    def unload(self, name: str) -> None:
        """Raises ClientMisuse: what this manager has belongs to other programs."""
        self._refuse_foreign("unload", f"end it there: Ctrl-C or SIGTERM to the `pipeline run` of {name}")

    def _refuse_foreign(self, call: str, instead: str) -> NoReturn:
        self._refuse_misuse()
        raise ClientMisuse(
            f"{call}: this manager is connected to models that other programs have started, and neither starts nor "
            f"ends any; {instead}, or use pipeline.InferenceManager(CONFIG)"
        )

    def reload(
        self,
        name: str,
        config: str | os.PathLike[str] | None = None,
        *,
        assignments: Sequence[str] = (),
        stage: str | None = None,
        timeout_s: float = START_S,
    ) -> None:
        """As `Models.reload`: the supervisor of the run starts the new version, as `pipeline reload` has it do; or, if
        a stage is named, new workers of that alone.

        Raises:
            ReloadFailed: the new version did not start; the old one serves on.
            Unavailable: the model does not run.
            ClientMisuse: the manager was stopped, or is of another process.
        """
        if config is not None:
            expect_path(config)
        path = None if config is None else Path(config)
        reload(self._place(name), path, assignments, stage=stage, limit_s=timeout_s)

    def stop(self) -> None:
        """Leave. The models go on; what this program has under way is dropped, and a server answers what it has."""
        if os.getpid() == self._process:
            self._close_servers()
            self._close("this manager was stopped")
