"""Workers of a fan-out, of its children and of their join are killed under load: nothing is lost, nothing mixed up."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from pipeline.client.future import Future
from pipeline.testing import running
from tests.faults.load import until
from tests.integration.test_chains import WORDS, config_of


@pytest.mark.parametrize("stage", ["split", "shout", "join"])
def test_no_child_is_lost_when_any_stage_of_a_chain_is_killed(tmp_path: Path, stage: str) -> None:
    with running(config_of(tmp_path, WORDS)) as pipeline, pipeline.client() as client:
        futures: list[tuple[int, Future]] = []
        deaths = 2
        for death in range(deaths):
            for number in range(death * 60, death * 60 + 60):
                text = " ".join(f"r{number}x{index}" for index in range(number % 9))
                futures.append((number, client.submit(text=text.encode())))
                if number % 60 == 30:
                    os.kill(pipeline.worker_pids(stage)[0], signal.SIGKILL)
                while len(futures) > 40:
                    check(*futures.pop(0))
            until(lambda: client.status()["counts"].get("worker_deaths", 0) > death)  # noqa: B023
        for number, future in futures:
            check(number, future)
        status = client.status()
        assert status["counts"]["worker_deaths"] == deaths
        assert status["counts"]["answered"] == 60 * deaths
        until(lambda: all(pool["free"] == pool["slots"] for pool in client.status()["pools"][1:]))
        assert pipeline.stop() == 0


def check(number: int, future: Future) -> None:
    n = number % 9
    with future.get(200) as result:
        found = result["words"]
        assert found == {"words": [f"R{number}X{i}" for i in range(n)], "places": list(range(n)), "count": n}
