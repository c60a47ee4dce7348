"""Pages that vary fifty times in size, through slots of several sizes, with real processes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from pipeline.client.client import Client
from pipeline.errors import StageFailed
from pipeline.prepare.preparation import prepare
from pipeline.testing import running

HERE = Path(__file__).parent

ROWS = 4000
WHAT = {"name": "what", "dtype": "json", "shape": ["bytes"], "max": {"bytes": 512}}
PAGE = {"dtype": "uint8", "shape": ["H", 1024], "max": {"H": ROWS}}
FIRST = {"name": "first", "dtype": "uint8", "shape": [1024]}
TURNED = {"name": "turned", **PAGE}
JSON = {"name": "weight", "dtype": "json", "shape": ["bytes"], "max": {"bytes": 1024}}


@pytest.fixture
def config(tmp_path: Path) -> Callable[..., Path]:
    def config(**of_draw: Any) -> Path:
        shutil.copy(HERE / "page_stages.py", tmp_path)
        page = {"name": "page", **PAGE}
        stages = [
            {"name": "draw", "use": "./page_stages.py:draw", "with": {"inputs": [WHAT], "outputs": [page]}, **of_draw},
            {
                "name": "mirror", "use": "./page_stages.py:mirror",
                "with": {"inputs": [page], "outputs": [FIRST, TURNED]}, "batch": {"max_size": 2},
            },
            {"name": "weigh", "use": "./page_stages.py:weigh", "with": {"inputs": [TURNED, FIRST], "outputs": [JSON]}},
        ]  # fmt: skip
        path = tmp_path / "pages.yaml"
        document = {"inputs": [WHAT], "stages": stages, "capsules": {"folder": str(tmp_path)}, "ingress": {"slots": 200}}
        path.write_text(yaml.safe_dump(document, sort_keys=False))
        return path

    return config


def expected(seed: int, rows: int) -> dict[str, int]:
    page = np.random.default_rng(seed).integers(0, 256, (rows, 1024), np.uint8)
    turned = page[::-1, ::-1]
    weight = int(turned.sum(1, np.int64) @ np.arange(rows, dtype=np.int64))
    return {"rows": rows, "sum": weight, "first": int(page[0].sum(dtype=np.int64))}


def ask(client: Client, seed: int, rows: int, **more: Any) -> Any:
    return client.submit(what={"seed": seed, "rows": rows, **more})


def test_pages_of_all_sizes_come_back_right_and_take_little_memory(config: Callable[..., Path]) -> None:
    path = config(replicas=2)
    with running(path) as pipeline, pipeline.client() as client:
        for seed in range(3):
            assert ask(client, seed, 80).get(200)["weight"] == expected(seed, 80)
        assert "resized" not in client.status()["counts"]
        # Small pages are expected now, so neither of the two stages has room for this one.
        assert ask(client, 3, ROWS).get(200)["weight"] == expected(3, ROWS)
        assert client.status()["counts"]["resized"] in (1, 2)
        sizes = [ROWS if n % 29 == 28 else (80, 90, 200, 80, 900)[n % 5] for n in range(120)]
        futures = [ask(client, seed, rows) for seed, rows in enumerate(sizes)]
        assert [future.get(200)["weight"] for future in futures] == [expected(*each) for each in enumerate(sizes)]
        status = client.status()
    plan = prepare(path).plan
    assert {name: count for name, count in status["counts"].items() if name.startswith("failed")} == {}
    assert status["counts"]["resized"] < 60
    assert status["counts"].get("worker_deaths", 0) == 0
    for stage in ("draw", "mirror"):
        pools = [pool for pool in plan.pools if pool.producer == stage]
        assert [pool.name for pool in pools] == [f"{stage}/{number}" for number in range(3)]
        assert 2 * sum(pool.nbytes for pool in pools) < pools[-1].slot_bytes * sum(pool.slots for pool in pools)


def test_a_page_of_any_size_that_kills_its_worker_once_is_drawn_again(
    config: Callable[..., Path], tmp_path: Path
) -> None:
    with running(config()) as pipeline, pipeline.client() as client:
        sizes = [80, 900, ROWS, 80] * 5
        futures = [
            ask(client, seed, rows, **({"die": str(tmp_path / f"died-{seed}")} if seed == 10 else {}))
            for seed, rows in enumerate(sizes)
        ]
        assert [future.get(200)["weight"] for future in futures] == [expected(*each) for each in enumerate(sizes)]


def test_a_page_that_is_larger_than_the_most_fails_alone(config: Callable[..., Path]) -> None:
    with running(config()) as pipeline, pipeline.client() as client:
        good = ask(client, 1, 80)
        with pytest.raises(StageFailed, match="expected at most 4000 for 'H'"):
            ask(client, 2, ROWS + 1).get(200)
        assert good.get(200)["weight"] == expected(1, 80)
