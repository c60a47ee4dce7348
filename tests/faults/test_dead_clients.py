"""A client that is killed, or that gives nothing back: its slots come back, or only the client itself has fewer."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from pipeline.testing import running
from tests.faults.load import Load, until

#: Holds slots to fill, filled slots that it has not sent, requests under way, and answers that it reads.
HOLDER = """\
import sys, time
from pathlib import Path
from pipeline.client import Client
client = Client.connect(Path(sys.argv[1]), name="holder")
kept = [client.submit(data=bytes(1000)).get() for _ in range(2)]
drafts = [client.draft(data=(5,)) for _ in range(2)]
drafts[0].inputs["data"][:] = 7
under_way = client.submit(data=b"slow")
print("holding", flush=True)
time.sleep(600)
"""

#: Takes every slot that it can get, and keeps it.
LEAKER = """\
import sys
from pathlib import Path
from pipeline.client import Client
client = Client.connect(Path(sys.argv[1]), name="leaker")
kept = []
said = False
while True:
    try:
        kept.append(client.draft(data=(1000,), timeout_s=0.5))
    except TimeoutError:
        if not said:
            print(len(kept), flush=True)
            said = True
"""


def test_the_slots_of_a_client_that_is_killed_come_back(
    folder: Any, started: Callable[..., subprocess.Popen[Any]]
) -> None:
    with running(folder.config({"with.seconds": 0.02}, {})) as pipeline, pipeline.client() as client:
        holder = started(
            pipeline.run_dir, command=[sys.executable, "-c", HOLDER], stdout=subprocess.PIPE, text=True
        )
        assert holder.stdout.readline() == "holding\n"

        def held() -> int:
            return sum(pool["slots"] - pool["free"] for pool in client.status()["pools"])

        assert held() >= 4
        holder.kill()
        killed = time.monotonic()
        until(lambda: held() == 0)
        print(f"slots back after {time.monotonic() - killed:.2f} s")
        assert client.status()["counts"]["client_deaths"] == 1
        load = Load(client)
        load.more(30)
        load.finish()
        assert pipeline.stop() == 0


def test_a_client_that_gives_nothing_back_exhausts_its_own_share_only(
    folder: Any, started: Callable[..., subprocess.Popen[Any]]
) -> None:
    with running(folder.config({}, {}, ingress={"slots": 8})) as pipeline:
        leaker = started(
            pipeline.run_dir, command=[sys.executable, "-c", LEAKER], stdout=subprocess.PIPE, text=True
        )
        kept = int(leaker.stdout.readline())
        assert kept > 0
        with pipeline.client() as client:
            load = Load(client)
            load.more(100)
            load.finish()
            status = client.status()
            assert {entry["name"]: entry["granted"] for entry in status["clients"]}["leaker"] == kept
        assert leaker.poll() is None
        assert pipeline.stop() == 0
