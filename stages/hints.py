"""Hints for a name that is not known: the nearest that is, otherwise all there are. Pure."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["did_you_mean", "nearest"]


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that `name` was probably meant to be; None: none is like it."""
    import difflib  # only for names that are wrong

    close = difflib.get_close_matches(name, known, n=1)
    return close[0] if close else None


def did_you_mean(
    name: str, known: Iterable[str], lead: str = "there is", *, in_order: bool = False, most: int | None = None
) -> str:
    """The end of a message about an unknown name: ` (did you mean max_size?)`, otherwise `; there is gather, max_size`.

    Args:
        known: if there are none, nothing is added to the message.
        lead: what the list begins with.
        in_order: the list keeps the order of `known`; otherwise it is sorted.
        most: how many names are listed at most; None: all.
    """
    names = list(known) if in_order else sorted(known)
    if close := nearest(name, names):
        return f" (did you mean {close}?)"
    return f"; {lead} {', '.join(names[:most])}" if names else ""
