"""The table of peers: medians of quiet rounds, a mark if there were too few, and what each copies."""

from __future__ import annotations

from bench.peers.catalogue import chosen
from bench.peers.table import render, value_of
from tests.unit.bench.peers.cells import CELLS

PEERS = chosen("pipeline,mosec,dora")


def page(**left_out: str) -> str:
    return render(CELLS, PEERS, {"mosec": "0.9.6"}, left_out, {"CPU": "of a test"}, "3 rounds")


def row(start: str) -> list[str]:
    (found,) = [line for line in page().splitlines() if line.startswith(f"| {start} |") and "0.9.6" not in line][:1]
    return [part.strip() for part in found.strip("|").split("|")]


def test_a_value_is_the_median_of_the_quiet_rounds() -> None:
    found = value_of(CELLS, "pipeline", 1, "p50_us")
    assert found is not None
    assert (found.median, found.disturbed) == (620, False)
    assert value_of(CELLS, "pipeline", 64, "rate") is None


def test_a_row_has_p50_then_rates_then_cpu_then_the_foreign_load() -> None:
    assert row("this pipeline") == ["this pipeline", "620", "11,000", "675", "125", "0.00 to 1.50"]


def test_what_was_not_measured_is_a_dash_and_what_was_disturbed_is_marked() -> None:
    assert row("mosec") == ["mosec", "3,200!", "-", "3,350!", "-", "0.80 to 0.90"]


def test_a_peer_without_numbers_has_no_row_and_its_reason_in_one_line() -> None:
    text = page(dora="`make build/peers/dora/.there` failed: none\nmore")
    assert "| dora-rs |" not in text
    assert text.endswith("Left out:\n\n* dora: `make build/peers/dora/.there` failed: none\n")


def test_versions_copies_and_what_is_included_stand_beside_the_numbers() -> None:
    (line,) = [line for line in page().splitlines() if "0.9.6" in line]
    assert PEERS[1].copies in line
    assert PEERS[1].includes in line
