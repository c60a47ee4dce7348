"""Regions of shared memory: whose they are, and what is left of them."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import KserveError
from pipeline.remote import regions
from pipeline.remote.guard import Guard, left
from pipeline.remote.regions import Arena, aligned

PREFIX = f"/test-regions-{os.getpid()}-"


class Server:
    """Opens what it is told of, as a server does."""

    def __init__(self) -> None:
        self.open: dict[str, int] = {}
        self.refuses: KserveError | None = None
        #: Its answers, but not the questions.
        self.loses: KserveError | None = None

    def ask(self, question: str, limit_s: float, *, name: str, **fields: Any) -> dict[str, Any]:
        if self.refuses is not None:
            raise self.refuses
        if question == "region_register":
            self.open[name] = os.open(f"/dev/shm{fields['key']}", os.O_RDWR)
        else:
            # As the protocol has it, one that is not known is let go of already.
            with suppress(KeyError):
                os.close(self.open.pop(name))
        if self.loses is not None:
            raise self.loses
        return {}


class Book:
    """In place of the guard: what it was told."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.closed = False

    def add(self, name: str) -> None:
        self.lines.append(f"+{name}")

    def remove(self, name: str) -> None:
        self.lines.append(f"-{name}")

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def book() -> Book:
    return Book()


@pytest.fixture
def arena(server: Server, book: Book) -> Iterator[Arena]:
    arena = Arena(server.ask, lambda: book, PREFIX)  # type: ignore[arg-type, return-value]
    yield arena
    server.refuses = None
    arena.close()
    assert server.open == {}
    assert left(book.lines) == []
    assert not list(Path("/dev/shm").glob(f"{PREFIX[1:]}*"))


def test_a_region_has_no_name_once_the_server_has_it_and_is_used_again(arena: Arena, server: Server) -> None:
    first = arena.acquire(1000)
    assert first is not None
    assert not list(Path("/dev/shm").glob(f"{PREFIX[1:]}*"))
    first.write(8, memoryview(b"abc"))
    assert os.pread(server.open[first.name], 3, 8) == b"abc"
    assert bytes(first.read(8, 3)) == b"abc"
    second = arena.acquire(1000)
    assert second is not first
    first.give_back()
    first.give_back()
    assert arena.acquire(1000) is first
    assert len(server.open) == 2


def test_a_region_that_the_server_may_still_write_to_is_of_no_other_request(
    arena: Arena, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = arena.acquire(1000)
    assert first is not None
    first.retire()
    other = arena.acquire(1000)
    assert other is not first
    assert first.name in server.open
    monkeypatch.setattr(regions, "_RETIRED_S", 0.0)
    arena.acquire(1000)
    assert first.name not in server.open


def test_what_is_lost_with_a_server_is_not_used_again(arena: Arena) -> None:
    first = arena.acquire(1000)
    assert first is not None
    first.give_back()
    arena.forget()
    assert arena.acquire(1000) is not first


def test_there_is_a_bound_and_then_tensors_travel_in_messages(arena: Arena, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(regions, "_MOST", 512 << 10)
    kept = [arena.acquire(1000), arena.acquire(1000)]
    assert None not in kept
    assert arena.acquire(1000) is None
    assert arena.why == ""


def test_a_server_that_refuses_is_not_asked_again_but_one_that_is_away_is(arena: Arena, server: Server) -> None:
    server.refuses = KserveError("away", "UNAVAILABLE")
    assert arena.acquire(1000) is None
    assert arena.why == ""
    server.refuses = KserveError("--allow-client-shm is off")
    assert arena.acquire(1000) is None
    assert "--allow-client-shm is off" in arena.why


@pytest.mark.parametrize("code", ["UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED"])
def test_the_server_lets_go_of_a_region_although_its_answer_that_it_has_it_was_lost(
    arena: Arena, server: Server, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    server.loses = KserveError("the gateway was killed", code)
    assert arena.acquire(1000) is None
    server.loses = None
    assert len(server.open) == 1
    assert arena.why == ""
    monkeypatch.setattr(regions, "_RETIRED_S", 0.0)
    found = arena.acquire(1000)
    assert found is not None
    assert list(server.open) == [found.name]


def test_what_a_server_may_have_when_it_is_left_is_the_guards_to_end(arena: Arena, server: Server, book: Book) -> None:
    def closes(question: str, limit_s: float, **fields: Any) -> None:
        arena.close()
        raise KserveError("the channel was closed", "CANCELLED")

    arena._ask = closes
    assert arena.acquire(1000) is None
    (name,) = left(book.lines)
    book.remove(name)


def test_a_region_that_the_server_has_made_shorter_is_an_error_and_no_signal(arena: Arena, server: Server) -> None:
    found = arena.acquire(1000)
    assert found is not None
    os.ftruncate(server.open[found.name], 4)
    with pytest.raises(KserveError, match="expected 8 bytes, found 4"):
        found.read(0, 8)


def test_threads_that_make_the_first_regions_side_by_side_have_one_guard(server: Server, book: Book) -> None:
    made: list[Book] = []
    both = threading.Barrier(2)

    def make() -> Book:
        made.append(book)
        # The other thread would be here by now.
        with suppress(threading.BrokenBarrierError):
            both.wait(0.2)
        return book

    arena = Arena(server.ask, make, PREFIX)  # type: ignore[arg-type]
    with ThreadPoolExecutor(2) as threads:
        found = list(threads.map(arena.acquire, [1000, 1000]))
    assert None not in found
    assert len(made) == 1
    arena.close()
    assert (server.open, left(book.lines), book.closed) == ({}, [], True)


def test_a_region_that_is_made_while_all_of_them_end_is_ended_too(server: Server, book: Book) -> None:
    def ask(question: str, limit_s: float, **fields: Any) -> dict[str, Any]:
        answer = server.ask(question, limit_s, **fields)
        if question == "region_register":
            arena.close()
        return answer

    arena = Arena(ask, lambda: book, PREFIX)  # type: ignore[arg-type, return-value]
    assert arena.acquire(1000) is None
    assert (server.open, left(book.lines)) == ({}, [])
    assert arena.acquire(1000) is None


def test_a_guard_that_was_closed_writes_into_no_file_that_has_its_descriptor_by_now(tmp_path: Path) -> None:
    guard = Guard({"url": "grpc://127.0.0.1:1"})
    number = guard._writer
    guard.close()
    with open(tmp_path / "other", "wb", buffering=0) as other:
        os.dup2(other.fileno(), number)
        try:
            guard.remove("name")
            with pytest.raises(OSError, match="the process that would clean up has ended"):
                guard.add("name")
        finally:
            os.close(number)
    assert (tmp_path / "other").read_bytes() == b""


def test_the_guard_knows_what_is_left() -> None:
    assert left(["+a", "+b", "-a", "", "+c", "-x"]) == ["b", "c"]


def test_tensors_lie_at_multiples_of_64() -> None:
    assert aligned([1, 64, 65]) == ([0, 64, 128], 256)
