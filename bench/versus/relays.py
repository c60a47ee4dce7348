"""Relays: the work that every server here has, which is none: two stages pass a tensor on, the third tells its ends.

    IN, uint8 [n] ──▶ a ──▶ b ──▶ c ──▶ OUT, uint8 [16]: the first and the last eight bytes

As a picture goes in and a few numbers come out. Nothing is computed, so what is measured is the way; and an answer
shows whether it is the right one.
"""

from __future__ import annotations

from pathlib import Path

from bench.versus.repository import Model, Step, Tensor
from shm.layout import ceil_div

__all__ = ["ENSEMBLE", "KEYS", "NAME", "config_of"]

NAME = "relay"
"""What the model is called, by each server."""
KEYS = "/trt-versus-"
"""What the keys of shared memory begin with, which clients register."""

_HERE = Path(__file__).parent
_IN, _MIDDLE, _OUT = (Tensor("IN", "UINT8"),), (Tensor("OUT", "UINT8"),), (Tensor("OUT", "UINT8", (16,)),)

ENSEMBLE = (
    Model("a", _IN, _MIDDLE, _HERE / "foreign/triton_relay.py"),
    Model("b", _IN, _MIDDLE, _HERE / "foreign/triton_relay.py"),
    Model("c", _IN, _OUT, _HERE / "foreign/triton_ends.py"),
    Model(
        NAME, _IN, _OUT,
        steps=(
            Step("a", {"IN": "IN"}, {"OUT": "of_a"}),
            Step("b", {"IN": "of_a"}, {"OUT": "of_b"}),
            Step("c", {"IN": "of_b"}, {"OUT": "OUT"}),
        ),
    ),
)  # fmt: skip
"""The models of Triton."""

_CONFIG = """\
name: {name}
inputs:
  - {{name: IN, dtype: uint8, shape: [{nbytes}]}}
ingress: {{slots: {slots}}}
stages:
  - &stage
    name: a
    use: stages.relay:Relay
    with: {{name: IN, shape: [{nbytes}]}}
    batch: {{max_size: {batch}}}
    credits: {window}
    restart: {{max: 1000}}
  - {{<<: *stage, name: b}}
  - {{<<: *stage, name: c, use: "{here}/stages.py:Ends", with: {{shape: [{nbytes}]}}}}
serve: {{shared_memory: ["{keys}"]}}
"""


def config_of(nbytes: int, window: int) -> str:
    """The YAML of ours.

    Args:
        nbytes: of a tensor.
        window: how many requests one client may have in its slots.
    """
    # A quarter of the slots is out of reach of a single client.
    slots = ceil_div(window * 4, 3) + 1
    return _CONFIG.format(
        name=NAME, nbytes=nbytes, slots=slots, batch=min(window, 64), window=window, here=_HERE, keys=KEYS
    )
