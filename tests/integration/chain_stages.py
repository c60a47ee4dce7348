"""A user's glue between stages: a text is split into words, each word is changed, and all words are joined."""

from __future__ import annotations

import os
import time

import numpy as np


def split(text: np.ndarray, out) -> dict:  # type: ignore[no-untyped-def,type-arg]
    """One tensor for each word, with its letters as bytes."""
    words = text.tobytes().split()
    for view, word in zip(out.many("word", [(len(word),) for word in words]), words):
        view[...] = np.frombuffer(word, np.uint8)
    out("count", (1,))[...] = len(words)
    return {"place": list(range(len(words)))}


def shout(word: np.ndarray, delay_s: float = 0.0) -> np.ndarray:  # type: ignore[type-arg]
    """Upper case; the word die kills the process, and the word bad is refused."""
    text = word.tobytes()
    if text == b"die":
        os.kill(os.getpid(), 11)
    if text == b"bad":
        raise ValueError("a bad word")
    time.sleep(delay_s)
    return np.frombuffer(text.upper(), np.uint8)


def join(word: list, place: list, count: np.ndarray) -> dict:  # type: ignore[type-arg]
    """All words of a text, in order."""
    return {"words": [each.tobytes().decode() for each in word], "places": place, "count": int(count[0])}


def is_long(text: np.ndarray) -> bool:  # type: ignore[type-arg]
    return text.size > 10


def length(text: np.ndarray) -> int:  # type: ignore[type-arg]
    return int(text.size)


def verdict(long: object, short: object) -> dict:  # type: ignore[type-arg]
    """The output of the branch that has run, of two."""
    return {"long": None if long is None else int(long), "short": None if short is None else int(short)}  # type: ignore[call-overload]
