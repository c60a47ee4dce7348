from __future__ import annotations

import pytest

from stages.request import RequestInfo


@pytest.mark.parametrize(
    ("label", "info", "shown"),
    [
        ("3fa9c-17", RequestInfo("3fa9c-17"), "3fa9c-17"),
        ("3fa9c-17 a b/c.jpg", RequestInfo("3fa9c-17", "a b/c.jpg"), "3fa9c-17 (a b/c.jpg)"),
        ("3fa9c-17/3", RequestInfo("3fa9c-17", "", (3,)), "3fa9c-17/3"),
        ("3fa9c-17/3/0 page.png", RequestInfo("3fa9c-17", "page.png", (3, 0)), "3fa9c-17/3/0 (page.png)"),
    ],
)
def test_a_label_says_which_request_which_child_and_what_it_is_called(label: str, info: RequestInfo, shown: str) -> None:
    assert RequestInfo.parse(label) == info
    assert str(info) == shown


def test_a_name_never_begins_a_line_of_its_own_in_a_log() -> None:
    assert str(RequestInfo("3fa9c-17", "a\nerror: forged\x1b[31m")) == r"3fa9c-17 (a\nerror: forged\x1b[31m)"
