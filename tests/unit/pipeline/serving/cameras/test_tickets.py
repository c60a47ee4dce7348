"""A ticket opens one file for a while, and nothing else."""

from __future__ import annotations

import pytest

from pipeline.errors import KserveError
from pipeline.serving.cameras.tickets import check_ticket, ticket_for

NOW = 1_764_505_805.0
PATH = "/cameras/edge/door/files/1.5-door-3.mp4"


def test_it_is_good_for_its_path_for_an_hour_at_least() -> None:
    ticket = ticket_for("a-token", PATH, NOW)
    check_ticket("a-token", PATH, ticket, NOW)
    check_ticket("a-token", PATH, ticket, NOW + 3600)


def test_it_stays_the_same_for_a_while_so_that_browsers_keep_the_file() -> None:
    begun = NOW // 3600 * 3600
    assert ticket_for("a-token", PATH, begun) == ticket_for("a-token", PATH, begun + 3599)


@pytest.mark.parametrize(
    ("token", "path", "ticket", "now"),
    [
        ("another", PATH, None, NOW),
        ("a-token", PATH + "x", None, NOW),
        ("a-token", PATH, None, NOW + 3 * 3600),
        ("a-token", PATH, "", NOW),
        ("a-token", PATH, "99999999999-", NOW),
        ("a-token", PATH, "²-00", NOW),
        ("a-token", PATH, "9" * 5000 + "-00", NOW),
        ("a-token", PATH, "99999999999-ü", NOW),
    ],
)
def test_what_is_no_such_ticket_is_refused(token: str, path: str, ticket: str | None, now: float) -> None:
    with pytest.raises(KserveError) as refused:
        check_ticket(token, path, ticket_for("a-token", PATH, NOW) if ticket is None else ticket, now)
    assert refused.value.code == "UNAUTHENTICATED"


def test_a_ticket_that_says_a_later_time_is_refused() -> None:
    until, _, mark = ticket_for("a-token", PATH, NOW).partition("-")
    with pytest.raises(KserveError, match="another file"):
        check_ticket("a-token", PATH, f"{int(until) + 3600}-{mark}", NOW)


def test_it_does_not_hold_the_token() -> None:
    assert "a-token" not in ticket_for("a-token", PATH, NOW)
