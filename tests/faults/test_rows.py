"""Requests of several rows whose workers die: none is lost, and a row that kills is named and kept alone."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from pipeline.errors import StageCrashed
from pipeline.supervisor.capsule import read_capsule
from pipeline.testing import running
from tests.faults.load import until
from tests.integration.test_rows import config_of, xs


def has_died(client: Any, deaths: int) -> bool:
    return client.status()["counts"].get("worker_deaths", 0) >= deaths  # type: ignore[no-any-return]


def test_a_worker_that_is_killed_costs_no_request_of_several_rows(
    tmp_path: Path, child_of: Callable[[int, str], psutil.Process | None]
) -> None:
    with running(config_of(tmp_path)) as pipeline, pipeline.client() as client:
        for deaths, role in enumerate(("add/0", "double/0"), 1):
            futures = [client.submit(x=xs(rows)) for rows in (8, 3, 8, 2)]
            victim = child_of(pipeline.pid, role)
            assert victim is not None
            victim.kill()
            for future, rows in zip(futures, (8, 3, 8, 2)):
                with future.get(200) as result:
                    assert (result["z"] == (xs(rows) + 1) * 2).all()
            until(partial(has_died, client, deaths))
        stages = ("add/1", "double/1")
        until(lambda: all(pool["free"] == pool["slots"] for pool in client.status()["pools"] if pool["name"] in stages))
        assert pipeline.stop() == 0


def test_a_row_that_kills_is_named_and_kept_alone_and_the_requests_beside_it_are_answered(
    tmp_path: Path, cli: Callable[..., Any]
) -> None:
    stages = [
        {
            "name": "add", "use": "./row_stages.py:Add", "inputs": ["ingress.x"], "with": {"deadly": True},
            "batch": {"max_size": 16, "max_delay_ms": 100},
        }
    ]  # fmt: skip
    capsules = tmp_path / "capsules"
    config = config_of(
        tmp_path, stages=stages, outputs={"y": "add.y"}, capsules={"folder": str(capsules)}
    )
    with running(config) as pipeline, pipeline.client() as client:
        deadly = xs(6)
        deadly[4, 0] = -3
        futures = [client.submit(x=each, flush=False) for each in (xs(5), deadly, xs(4))]
        client.flush()
        with pytest.raises(StageCrashed, match=r"^row 4 of 6: stage add: exit code 9; its inputs are in .*\.cap") as failed:
            futures[1].get(200)
        for future, rows in ((futures[0], 5), (futures[2], 4)):
            with future.get(200) as result:
                assert (result["y"] == xs(rows) + 1).all()
        # The batch, perhaps a half of it, and the request alone, twice.
        assert client.status()["counts"]["worker_deaths"] <= 4
        assert pipeline.stop() == 0
    (path,) = capsules.iterdir()
    assert str(path) in str(failed.value)
    capsule = read_capsule(path)
    assert capsule.rows == 1
    assert np.array_equal(capsule.inputs["x"], deadly[4])  # type: ignore[arg-type]
    assert cli("replay", path).code == 9
