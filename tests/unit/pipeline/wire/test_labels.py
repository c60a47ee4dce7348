from __future__ import annotations

from pipeline.wire.labels import LONGEST_NAME, child_label, client_id, label_of, request_id, short_name
from stages.request import RequestInfo

CLIENT = 0x7EDC_BA98_7653_FA9C


def test_a_client_and_the_scheduler_call_a_request_the_same() -> None:
    assert request_id(CLIENT, 17) == "3fa9c-17"
    assert request_id(CLIENT, 17).startswith(client_id(CLIENT) + "-")
    for name in ("", "cat.jpg", "a b"):
        assert RequestInfo.parse(label_of(CLIENT, 17, name)) == RequestInfo(request_id(CLIENT, 17), name)


def test_a_child_is_its_parents_with_its_place() -> None:
    label = label_of(CLIENT, 17, "my page.png")
    child = child_label(child_label(label, 3), 0)
    assert RequestInfo.parse(child) == RequestInfo("3fa9c-17", "my page.png", (3, 0))
    assert RequestInfo.parse(child_label(label_of(CLIENT, 17, ""), 5)) == RequestInfo("3fa9c-17", "", (5,))


def test_of_a_long_name_the_end_is_kept() -> None:
    assert short_name("a" * LONGEST_NAME) == "a" * LONGEST_NAME
    long = short_name("folder/" * 100 + "cat.jpg")
    assert (len(long), long[:3], long[-7:]) == (LONGEST_NAME, "...", "cat.jpg")


def test_a_name_that_is_no_unicode_is_not_longer_on_the_wire_than_allowed() -> None:
    assert short_name("a\udcff.jpg") == r"a\udcff.jpg"
    assert len(short_name("\udcff" * 100)) == LONGEST_NAME
    short_name("\udcff" * 100).encode()
