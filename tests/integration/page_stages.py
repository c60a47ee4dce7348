"""A user's stages whose tensors are of very different sizes."""

from __future__ import annotations

import os

import numpy as np


def draw(what: dict, out) -> None:  # type: ignore[no-untyped-def,type-arg]
    """A page of that many rows whose bytes all follow from its seed; or the end of this process."""
    page = np.random.default_rng(what["seed"]).integers(0, 256, (what["rows"], 1024), np.uint8)
    if what.get("die") and not os.path.exists(what["die"]):
        open(what["die"], "w").close()
        os.kill(os.getpid(), 11)
    out("page", page.shape)[...] = page


def mirror(page: np.ndarray, out) -> None:  # type: ignore[no-untyped-def,type-arg]
    """The same page, turned round, and its first row."""
    out("first", (1024,))[...] = page[0]
    out("turned", page.shape)[...] = page[::-1, ::-1]


def weigh(turned: np.ndarray, first: np.ndarray) -> dict:  # type: ignore[type-arg]
    """A summary of a page, for the answer."""
    weights = np.arange(turned.shape[0], dtype=np.int64)
    return {"rows": turned.shape[0], "sum": int(turned.sum(1, np.int64) @ weights), "first": int(first.sum(dtype=np.int64))}
