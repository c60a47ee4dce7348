"""The peers: what the table says of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.peers import foreign
from bench.peers.catalogue import PEERS, chosen

MAKEFILE = (Path(__file__).parents[4] / "Makefile").read_text()
ROOT = Path(__file__).parents[4]


def test_every_peer_says_what_it_copies_and_what_its_numbers_include() -> None:
    assert all(peer.copies and peer.includes and peer.title for peer in PEERS.values())


def test_every_peer_has_a_driver() -> None:
    folder = Path(str(foreign.__file__)).parent
    assert [name for name, peer in PEERS.items() if not (folder / f"{peer.module.split()[0]}.py").exists()] == []


def test_make_knows_every_environment_that_a_peer_needs() -> None:
    needed = {folder for peer in PEERS.values() for folder in (peer.environment, peer.server) if folder}
    rules = {
        "peers/" + line.partition("$(PEERS)/")[2].partition("/")[0]
        for line in MAKEFILE.splitlines() if line.startswith("$(PEERS)/")
    } | {"mosec", "triton"}  # fmt: skip
    assert needed == rules


def test_a_choice_has_the_order_of_the_table() -> None:
    assert [peer.name for peer in chosen("mosec,pipeline")] == ["pipeline", "mosec"]


def test_a_peer_that_is_not_there_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="no peer 'mosek'; there are pipeline, "):
        chosen("pipeline,mosek")
