"""Requests of several rows, from every door: one request, one slot, one answer."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from pipeline.client.aio import AsyncClient
from pipeline.client.aio_runner import AsyncInferRunner
from pipeline.client.copies import STACKED
from pipeline.client.runner import InferRunner
from pipeline.client.shared import SharedClient
from pipeline.errors import BadInput, InvalidRequest, KserveError, StageFailed
from pipeline.kserve.values import InferRequest, RequestedOutput
from pipeline.testing import RunningPipeline, running
from tests.integration.gateways import Http, Rpc, array_of, serving, tensor
from tests.links import LINK

HERE = Path(__file__).parent


def config_of(folder: Path, **fields: Any) -> Path:
    shutil.copy(HERE / "row_stages.py", folder)
    document = {
        "name": "rows",
        "inputs": [{"name": "x", "dtype": "float32", "shape": [256]}],
        "stages": [
            {"name": "add", "use": "./row_stages.py:Add", "inputs": ["ingress.x"], "batch": {"max_size": 8}},
            {"name": "double", "use": "./row_stages.py:Double", "inputs": ["add.y"], "batch": {"max_size": 4}},
        ],
        "outputs": {"z": "double.z", "size": "add.size", "x": "ingress.x"},
        "ingress": {"rows": 8},
        **LINK,
        **fields,
    }
    path = folder / "rows.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return path


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPipeline]:
    with running(config_of(tmp_path_factory.mktemp("rows"))) as pipeline:
        yield pipeline
        assert pipeline.stop() == 0


def xs(rows: int) -> Any:
    return np.arange(rows * 256, dtype=np.float32).reshape(rows, 256) + 1


@pytest.mark.parametrize("rows", [1, 2, 5, 8])
def test_a_batch_is_one_request_and_its_answer_is_of_views(pipeline: RunningPipeline, rows: int) -> None:
    x = xs(rows)
    with pipeline.client() as client:
        before = client.status()["counts"].get("requests", 0)
        with client.submit(x=x).get(200) as result:
            assert (result["z"] == (x + 1) * 2).all()
            assert (result["z"].shape, result["size"].tolist()) == ((rows, 256), [rows] * rows)
            assert (result["x"] == x).all()
            assert result["z"].flags.c_contiguous
            # All but the numbers, which are too small for a view, lie in slots.
            assert result.copied_bytes == 8 * rows
            # The second stage takes four rows at most, so more are cut; nothing is copied for that.
            assert {name: (stage["batch"], stage["copied_bytes"]) for name, stage in result.stages.items()} == {
                "add": (rows, 0), "double": (min(rows, 4), 0)
            }  # fmt: skip
        assert client.status()["counts"]["requests"] == before + 1


def test_a_request_of_several_rows_is_written_in_place(pipeline: RunningPipeline) -> None:
    with pipeline.client() as client:
        draft = client.draft(x=(3, 256))
        draft.inputs["x"][...] = xs(3)
        with draft.submit().get(200) as result:
            assert (result["z"] == (xs(3) + 1) * 2).all()
        with pytest.raises(InvalidRequest, match=r"expected 1 to 8 rows, .* found 9"):
            client.submit(x=xs(9))


@pytest.mark.parametrize(
    ("mark", "error", "why"),
    [(-1, BadInput, "row 3 of 5: it is negative"), (-2, StageFailed, "row 3 of 5: stage add: ValueError: it is odd")],
)
def test_a_row_that_fails_fails_its_request_alone(
    pipeline: RunningPipeline, mark: int, error: type[Exception], why: str
) -> None:
    bad = xs(5)
    bad[3, 0] = mark
    with pipeline.client() as client:
        futures = [client.submit(x=each, flush=False) for each in (bad, xs(2), xs(1)[0])]
        client.flush()
        with pytest.raises(error, match=f"^{why}"):
            futures[0].get(200)
        for future, x in zip(futures[1:], (xs(2), xs(1)[0])):
            with future.get(200) as result:
                assert (result["z"] == (x + 1) * 2).all()


def test_a_larger_batch_is_as_few_requests_as_can_be_and_its_rows_are_named(pipeline: RunningPipeline) -> None:
    with SharedClient.connect(pipeline.run_dir) as client:
        runner = InferRunner(client)
        x = xs(21)
        result = runner.infer(x=x).get(200)
        assert (result["z"] == (x + 1) * 2).all()
        assert result.stages["add"]["runs"] == 3
        # Those three are put together, and that is counted; what fits into one request is not.
        assert runner.copied[STACKED] == 2 * x.nbytes + 8 * 21
        assert (runner.infer(x=x[:8]).get(200)["z"] == (x[:8] + 1) * 2).all()
        assert runner.copied[STACKED] == 2 * x.nbytes + 8 * 21
        x[13, 0] = -1
        with pytest.raises(BadInput, match=r"^row 13 of 21: it is negative"):
            runner.infer(x=x).get(200)
        with runner.loan(x=(3, 256)) as loan:
            loan["x"][...] = xs(3)
            future = loan.infer()
        assert (future.get(200)["z"] == (xs(3) + 1) * 2).all()


def test_tasks_send_several_rows_in_one_request(pipeline: RunningPipeline) -> None:
    async def infer() -> None:
        async with await AsyncClient.connect(pipeline.run_dir) as client:
            runner = AsyncInferRunner(client)
            results = await asyncio.gather(*[runner.infer(x=xs(rows)) for rows in (1, 7, 8, 30)])
            for rows, result in zip((1, 7, 8, 30), results):
                assert (result["z"] == (xs(rows) + 1) * 2).all()

    asyncio.run(infer())


def test_more_answers_of_several_rows_than_there_are_slots_for_can_be_kept(pipeline: RunningPipeline) -> None:
    with SharedClient.connect(pipeline.run_dir) as client:
        runner = InferRunner(client)
        futures = [runner.infer(x=xs(8)) for _ in range(40)]
        kept = [future.get(200) for future in reversed(futures)]
        assert all((result["z"] == (xs(8) + 1) * 2).all() for result in kept)
        # Single rows have their own slots meanwhile.
        assert (runner.infer(x=xs(1)[0]).get(200)["z"] == (xs(1)[0] + 1) * 2).all()


def test_a_gateway_s_request_is_one_of_the_pipeline_s(tmp_path: Path) -> None:
    config = config_of(tmp_path, name="served", serve={"batched": True, "max_batch_size": 20})
    outputs = (RequestedOutput("z"), RequestedOutput("x"))
    with running(config) as pipeline, pipeline.client() as client, serving("served") as gateway:
        for send in (Http(gateway), Rpc(gateway)):
            for rows, requests in ((1, 1), (8, 1), (20, 3)):
                before = client.status()["counts"].get("requests", 0)
                response = send.infer(InferRequest("served", "", (tensor("x", xs(rows)),), outputs))
                assert (array_of(response, "z", np.float32) == (xs(rows) + 1) * 2).all()
                assert client.status()["counts"]["requests"] == before + requests
            bad = xs(20)
            bad[13, 0] = -1
            with pytest.raises(KserveError, match="row 13 of 20: it is negative"):
                send.infer(InferRequest("served", "", (tensor("x", bad),), outputs))
        (stats,) = Http(gateway).get("/v2/models/served/stats")["model_stats"]
        # Rows, and not requests.
        assert stats["inference_count"] == 2 * (1 + 8 + 20)
