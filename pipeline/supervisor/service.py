"""The run as a service: it tells the service manager how it is. The thin shell around `notification`.

    service manager ◀──READY=1, WATCHDOG=1, ...── root ──Ping──▶ its scheduler ──Pong──▶ root
                                                       ──Ping──▶ supervisor of the later version that serves ──Ping──▶
                                                       its scheduler ──Pong──▶ that supervisor ──Pong──▶ root

Without a service manager the root asks nothing, and this does nothing but answer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from pipeline.sd_notify import NotifySocket
from pipeline.supervisor.notification import Notification, View
from pipeline.supervisor.successors import Root, Successors
from pipeline.supervisor.supervision import Phase
from pipeline.wire.messages import Ping, Pong

__all__ = ["Service", "Supervised"]


class Supervised(Protocol):
    """The own run of a supervisor: a `Supervision` of children, or a `Sharding`."""

    phase: Phase

    @property
    def children(self) -> Mapping[Any, Any]:
        """Those that live; each says whether it is `ready`."""

    @property
    def answers(self) -> bool:
        """Whether there is a scheduler, or several, that must answer. One that has just been started must too."""


class Service:
    """One supervisor's part in it.

    Args:
        notify: where the service manager listens; None: there is none, or it is the root's.
        root: the root, if this supervisor is that of a later version.
        supervision: of its own run.
        successors: the later versions.
        ask: sends a message to the scheduler of its own run.
    """

    def __init__(
        self,
        notify: NotifySocket | None,
        root: Root | None,
        supervision: Supervised,
        successors: Successors,
        ask: Callable[[Ping], None],
    ) -> None:
        self._notify = notify
        self._root = root
        self._supervision = supervision
        self._successors = successors
        self._ask = ask
        self._notification = Notification(None if notify is None else notify.watchdog_s)

    @property
    def wake_at(self) -> float | None:
        """When `turn` has something to do: monotonic seconds."""
        return self._notification.wake_at

    def turn(self) -> None:
        """The loop of the supervisor has turned."""
        if self._notify is None:
            return
        now, view = time.monotonic(), self._view()
        self._notify.flush()
        for text in self._notification.turn(view, now):
            self._notify.send(text)
        due = self._notification.look(view, now)
        if isinstance(due, str):
            self._notify.send(due)
        elif due is not None and not self._successors.ping(due):
            self._ask(Ping(due))

    def take(self, message: Ping | Pong) -> None:
        """A message has come: from the root, or the answer of a scheduler or of a later version."""
        if isinstance(message, Ping):
            if self._supervision.answers:
                self._ask(message)
            elif self._root is not None:
                self._root.pong(message.number)
        elif self._root is not None:
            self._root.pong(message.number)
        elif self._notify is not None:
            for text in self._notification.answered(message.number):
                self._notify.send(text)

    def _view(self) -> View:
        supervision, successors = self._supervision, self._successors
        children = supervision.children.values()
        own = successors.serving_own
        ends = supervision.phase in (Phase.DRAINING, Phase.STOPPING, Phase.STOPPED)
        return View(
            supervision.phase,
            sum(child.ready for child in children),
            len(children),
            asked=bool(successors.version) or (own and supervision.answers),
            version=successors.version,
            reloading=successors.reloading,
            stopping=successors.ending or (own and ends and not successors.reloading),
        )
