"""Versions: what two ends of different PROTOCOL say to each other, so that each of them knows. Pure.

From version 6 on a refusal is read by every version (see `messages`). Versions 4 and 5 have a hello of the same form,
and no refusal: they drop a frame of another version, and say nothing. So they are told in a form of their own:

    an old client        is sent a welcome of its version, with a plan that it cannot read. Its `connect` raises at
                         once, and the text of what it raises has the reason in it.
    an old scheduler     is sent a hello of its version too, and what it answers shows that it is old. Such a hello says
                         that it is a question only. For what was said before it may have gone to a scheduler that is
                         dead now; the next one, of this version, must not take it for a hello of an old client.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

__all__ = ["OLD", "OldHello", "OldWelcome", "asks_only", "body_of", "reason_of"]

#: The versions that know no refusal, and whose hello and welcome are of one form.
OLD = (4, 5)

_HELLO, _WELCOME = 1, 2

#: At the end of the name of a client that is no old one. What a client is called decides nothing at a scheduler.
_ASKS = " (also of a later protocol)"


class OldHello(NamedTuple):
    """A hello of an old version, by a client of this one, for a scheduler that may be old."""

    protocol: int
    """One of `OLD`."""
    client: int
    name: str


class OldWelcome(NamedTuple):
    """For a client of an old version: what it cannot read, and fails with at once."""

    protocol: int
    """One of `OLD`."""
    reason: str


def body_of(message: OldHello | OldWelcome) -> tuple[Any, ...]:
    """What the frame of an old version holds."""
    if isinstance(message, OldHello):
        return message.protocol, _HELLO, message.client, message.name + _ASKS
    # An edge of the graph takes no argument of that name: "unexpected keyword argument '<the reason>'".
    edge = {message.reason: ""}
    plan = {"name": "", "config_path": "", "base_dir": "", "inputs": [], "stages": [], "outputs": [["", edge]]}
    return message.protocol, _WELCOME, 0, json.dumps(plan), ()


def asks_only(name: object) -> bool:
    """Whether the client of that name, as a hello of an old version says it, speaks a later one too."""
    return type(name) is str and name.endswith(_ASKS)


def reason_of(client: int, scheduler: int) -> str:
    """For people: that a client and a scheduler are of different versions, and which side must change.

    Args:
        client: the version that the client speaks.
        scheduler: the version that the scheduler speaks.
    """
    older = "client" if client < scheduler else "pipeline"
    return (
        f"the client speaks protocol {client}, the pipeline speaks protocol {scheduler}: upgrade the {older}, so that "
        f"both are of one version of trtlab"
    )
