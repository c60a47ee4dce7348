"""Environments of peers: filled by make, or told why not."""

from __future__ import annotations

import sys
from importlib import metadata

from bench.peers.catalogue import PEERS, Peer
from bench.peers.environments import interpreter_of, prepare, version_of


def test_an_environment_that_is_filled_has_no_reason() -> None:
    assert prepare("peers/none", [sys.executable, "-c", "pass"]) == ""


def test_of_one_that_cannot_be_filled_the_reason_is_what_the_command_said_last() -> None:
    code = "import sys; print('ERROR: no matching distribution', file=sys.stderr); print('make: *** [x] Error 1'); sys.exit(2)"
    said = prepare("peers/none", [sys.executable, "-c", code])
    assert said == "`make build/peers/none/.there` failed: ERROR: no matching distribution"


def test_without_make_that_is_the_reason() -> None:
    assert prepare("peers/none", ["/nonexistent/make"]).startswith("build/peers/none/.there: ")


def test_a_peer_without_an_environment_runs_in_the_projects_own() -> None:
    assert interpreter_of(PEERS["pipeline"]) == sys.executable
    assert interpreter_of(PEERS["mosec"]) == sys.executable
    assert interpreter_of(PEERS["torch"]).endswith("/build/peers/torch/bin/python")


def test_the_version_is_that_of_the_installed_package() -> None:
    assert version_of(PEERS["zmq-2"]) == metadata.version("pyzmq")
    assert version_of(PEERS["queue"]) == ""
    absent = Peer("x", "x", "x", "x", "x", "peers/none", package="numpy")
    assert version_of(absent) == ""
