"""Promises: slots for all that the children of a request will give. Pure.

What children give to a stage that joins stays in its slots until all of it is there. If two requests began with half of
the slots each, neither would ever finish: so a scope is opened only if there are slots for what all its children give.
These are promised to the children until the join has read them. If each child is answered by itself, its slots are
promised until it is done: then they are the client's, and count for as long as the client holds them. If there are
branches, slots are also left for what the children of the eldest request may give, if it has not opened that scope yet.
"""

from __future__ import annotations

from pipeline.graph.compiled import Scope
from pipeline.scheduler.ledger import Request
from pipeline.scheduler.state import State

__all__ = ["Promises"]


class Promises:
    """The slots that are promised."""

    def __init__(self, state: State) -> None:
        self._state = state
        #: How many, by pool.
        self._promised = [0] * len(state.pools)

    def make(self, request: Request, scope: Scope, count: int) -> bool:
        """Promise slots to all children of a request, or to none and return False if there are too few.

        Args:
            count: how many children there are.
        """
        state = self._state
        stages = state.compiled.stages
        exports = [index for index in scope.exports if stages[index].pools]
        spare = 0
        if exports and request.scope.guards_last_slot:
            eldest = state.eldest(scope.parent, lambda r: scope.index in r.running or not scope.inside & ~r.done)
            spare = 0 if eldest is request else scope.most
        for index in exports:
            # What is promised is of one size (see `pipeline.graph.pools`).
            pool = stages[index].pools[0]
            taken = self._promised[pool]
            if scope.index == state.compiled.answered:
                # Those of children that are not done count twice, which may delay others, and never for ever.
                taken += state.pools[pool].in_use
            if (spare or taken) and taken + count + spare > state.pools[pool].slots:
                return False
        for index in exports:
            request.promises[index] = count
            self._promised[stages[index].pools[0]] += count
        return True

    def end(self, request: Request, producer: int) -> None:
        """What a producer's children gave has been read: their slots may be promised to others."""
        self._take_back(producer, request.promises.pop(producer, 0))

    def end_one(self, child: Request) -> None:
        """A child is answered by itself: its slots are the client's, and no longer promised."""
        assert child.parent is not None
        promises = child.parent.promises
        for producer in child.scope.exports:
            if producer in promises:
                promises[producer] -= 1
                self._take_back(producer, 1)

    def end_all(self, request: Request) -> None:
        """The request is answered, or the child is done: what was promised to its children is for others."""
        for producer in tuple(request.promises):
            self.end(request, producer)

    def _take_back(self, producer: int, count: int) -> None:
        self._promised[self._state.compiled.stages[producer].pools[0]] -= count
