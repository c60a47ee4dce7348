"""Addresses are values, and the names of files follow from them."""

from __future__ import annotations

import pytest

from pipeline.wire.address import SCHEDULER, SUPERVISOR, Address


@pytest.mark.parametrize(
    ("address", "file", "text"),
    [
        (SUPERVISOR, "supervisor", "supervisor"),
        (SCHEDULER, "scheduler", "scheduler"),
        (Address.worker(0), "w0", "worker 0"),
        (Address.worker(12), "w12", "worker 12"),
        (Address.client(0x1F), "clients/1f", "client 1f"),
        (Address("camera"), "camera", "camera 0"),
        (Address("camera", 2), "camera2", "camera 2"),
    ],
)
def test_an_address_has_a_file_and_a_name(address: Address, file: str, text: str) -> None:
    assert (address.file, str(address)) == (file, text)


def test_addresses_are_equal_by_value_and_sorted_by_kind() -> None:
    assert Address.worker(3) == ("worker", 3)
    assert sorted([Address.worker(2), SCHEDULER, Address.worker(1)]) == [SCHEDULER, Address.worker(1), Address.worker(2)]
