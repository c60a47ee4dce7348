"""Models whose outputs have no row for each request, in a whole pipeline: each request gets its own, or fails with a message."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.client import Client
from pipeline.errors import RequestError, StageFailed, StartError
from pipeline.testing import running

MODELS = Path(__file__).resolve().parents[1] / "data" / "models"


def config(folder: Path, model: str, width: int, options: str = "", batch: int = 1) -> Path:
    path = folder / f"{model}.yaml"
    path.write_text(f"""
name: {model.replace("_", "-")}
inputs: [{{name: x, dtype: float32, shape: [{width}]}}]
stages:
  - name: model
    use: stages.infer:Infer
    with: {{model: {MODELS / model}.onnx{options}}}
    batch: {{max_size: {batch}, max_delay_ms: 200}}
""")
    return path


def answers(client: Client, rows: list[list[float]]) -> list[object]:
    futures = [client.submit(x=np.float32(row), flush=False) for row in rows]
    client.flush()
    found: list[object] = []
    for future in futures:
        try:
            with future.get(200) as result:
                found.append({name: value.tolist() for name, value in result.items()})
        except RequestError as error:
            found.append(error)
    return found


def test_rows_that_depend_on_the_data_never_reach_other_requests(tmp_path: Path) -> None:
    with running(config(tmp_path, "drop_from_five", 3, batch=2)) as pipeline, pipeline.client() as client:
        for rows in ([[9, 9, 9], [1, 2, 3]], [[4, 5, 6], [9, 8, 7]], [[1, 1, 1], [2, 2, 2]]):
            for row, found in zip(rows, answers(client, rows)):
                if row[0] < 5:
                    assert found == {"y": row}
                else:
                    # The model is to blame, not the request.
                    assert isinstance(found, StageFailed)
                    assert "output 'y' has the shape [0, 3] for a batch of 1; expected 1" in str(found)


def test_a_detector_in_batches_of_one_gives_all_that_it_finds(tmp_path: Path) -> None:
    path = config(tmp_path, "detect", 4, ", max: {num_dets: 4}")
    with running(path) as pipeline, pipeline.client() as client:
        found = answers(client, [[0, 0, 0, 0], [0, 1, 0, 1], [1, 1, 1, 1]])
    assert found == [{"found": []}, {"found": [[0, 1], [0, 3]]}, {"found": [[0, 0], [0, 1], [0, 2], [0, 3]]}]


@pytest.mark.parametrize("batch", [1, 2])
def test_a_detector_that_is_taken_for_rows_does_not_start(tmp_path: Path, batch: int) -> None:
    with (
        pytest.raises(StartError, match=r"output 'found' has the shape \[0, 2\] for a batch of 1; expected 1"),
        running(config(tmp_path, "detect", 4, batch=batch)),
    ):
        pass
