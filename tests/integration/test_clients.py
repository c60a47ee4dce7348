"""Several clients at once, and the memory of a pipeline that gets more requests than it can compute."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipeline.client import Client
from pipeline.errors import Unavailable
from pipeline.testing import running

MEBI = 2**20


def test_two_clients_get_their_own_answers_only(folder: Any) -> None:
    with running(folder.config({"replicas": 2, "batch": {"max_size": 4, "max_delay_ms": 1}}, {})) as pipeline:
        with pipeline.client("a") as first, pipeline.client("b") as second:
            pairs = []
            for number in range(40):
                for client, name in ((first, b"a"), (second, b"b")):
                    data = name * (number + 1)
                    pairs.append((client.submit(data=data), data))
                if len(pairs) >= 8:
                    for future, data in pairs:
                        with future.get() as result:
                            assert result["data"].tobytes() == data
                    pairs.clear()
            assert first.outstanding == second.outstanding == 0
        assert pipeline.stop() == 0


def test_a_client_that_fills_no_draft_it_took_starves_no_other_client(folder: Any) -> None:
    with running(folder.config({}, {})) as pipeline, pipeline.client("greedy") as greedy:
        drafts = []
        while (draft := _draft(greedy)) is not None:
            drafts.append(draft)
        assert drafts
        with pipeline.client("modest") as modest:
            for number in range(50):
                with modest.submit(data=number.to_bytes(2, "big"), timeout_s=10).get(200) as result:
                    assert int.from_bytes(result["data"].tobytes(), "big") == number
        for draft in drafts:
            draft.discard()
        with greedy.submit(data=b"again", timeout_s=10).get(200) as result:
            assert result["data"].tobytes() == b"again"
        assert pipeline.stop() == 0


def test_a_client_that_keeps_its_results_starves_no_other_client(folder: Any) -> None:
    with running(folder.config({}, {})) as pipeline, pipeline.client("greedy") as greedy:
        # More than there are slots: the first ones keep theirs, the others are copies.
        kept = [greedy.submit(data=b"g" * 3000).get(200) for _ in range(100)]
        assert greedy.status()["clients"][0]["borrowed"] > 0
        try:
            with pipeline.client("modest") as modest, modest.submit(data=b"m", timeout_s=3).get(3) as result:
                assert result["data"].tobytes() == b"m"
            assert all(result["data"].tobytes() == b"g" * 3000 for result in kept)
        finally:
            while kept:
                kept.pop().release()
        with greedy.submit(data=b"again", timeout_s=10).get(200) as result:
            assert result["data"].tobytes() == b"again"
        assert pipeline.stop() == 0


def _draft(client: Client, nbytes: int = 2) -> Any:
    try:
        draft = client.draft(data=(nbytes,), timeout_s=0.3)
    except TimeoutError:
        return None
    draft.inputs["data"][:] = memoryview(b"g" * nbytes)
    return draft


def test_answers_that_wait_for_the_turn_of_a_slow_one_keep_no_slot_from_it(
    cli: Callable[..., Any], folder: Any
) -> None:
    # While the first is computed, as many others are answered as there are slots for answers, and more.
    files = [folder.file("a.bin", b"slow"), *folder.files(60)]
    code, out, err = cli("run", folder.config({"replicas": 2}, {}), *files)
    assert (code, err) == (0, "")
    assert [line.split()[0] for line in out.splitlines()[: len(files)]] == [str(file) for file in files]


@pytest.mark.foreign
def test_with_input_faster_than_the_slowest_stage_memory_stays_flat(
    folder: Any,
    started: Callable[..., subprocess.Popen[Any]],
    children_of: Callable[[int], dict[str, psutil.Process]],
) -> None:
    # 50 MB of files through less than 4 MiB of slots, far faster read than computed.
    data = os.urandom(50_000)
    files = folder.files(1000, data)
    slow = {"use": "./sample_stages.py:Count", "with": {"seconds": 0.003}}
    config = folder.config({}, slow, name="flat", ingress={"slots": 8})
    with open(folder.path / "stdout", "w") as stdout:
        process = started("run", config, folder.path / "files", stdout=stdout)
    client = None
    while client is None:
        assert process.poll() is None
        with suppress(Unavailable):
            client = Client.connect("flat", name="watcher")
    sizes: dict[str, list[int]] = {}
    inside = []
    in_use = []
    slots = 0
    with client:
        while process.poll() is None:
            try:
                status = client.status()
                for name, child in children_of(process.pid).items():
                    sizes.setdefault(name, []).append(child.memory_info().rss)
            except (Unavailable, TimeoutError, psutil.Error):
                break  # it has just ended
            slots = sum(pool["slots"] for pool in status["pools"])
            inside.append(status["inside"])
            in_use.append(sum(pool["slots"] - pool["free"] for pool in status["pools"]))
            time.sleep(0.05)
    assert process.wait(200) == 0
    assert f"{len(files)} requests, 0 failed" in (folder.path / "stdout").read_text()
    # While the feeder starts, nothing is inside: that is no part of the early half.
    began = next(at for at, count in enumerate(inside) if count)
    inside, in_use = inside[began:], in_use[began:]
    assert len(inside) >= 20
    # Each request inside holds a slot; after the first stage it no longer holds one of the ingress.
    assert 0 < max(inside) <= slots
    half = len(inside) // 2
    assert max(inside[half:]) <= max(inside[:half]) + 2
    # The largest value of nine in ten samples: one sample may fall between an answer and its notice.
    early, late = (sorted(looks)[len(looks) * 9 // 10] for looks in (in_use[:half], in_use[half:]))
    assert late <= early + 2, in_use
    for name in ("scheduler", "feeder", "s0/0", "s1/0"):
        found = sizes[f"pipeline[flat] {name}"]
        quarter = len(found) // 4
        assert max(found[-quarter:]) - min(found[quarter : 2 * quarter]) < 4 * MEBI, (name, found)


def test_a_client_may_write_the_segments_of_requests_and_only_read_those_of_answers(folder: Any) -> None:
    with running(folder.config({}, {})) as pipeline, pipeline.client() as client:
        with client.submit(data=b"x").get(200) as result:
            assert result["data"].tobytes() == b"x"
        run = pipeline.run_dir.name
        found = {}
        for line in Path("/proc/self/maps").read_text().splitlines():
            if f"/trtlab.{run}." in line:
                found[line.split("/trtlab.")[1].split(".")[1]] = line.split()[1]
        assert found == {"ingress-0": "rw-s", "s1": "r--s"}
        assert pipeline.stop() == 0
