"""`pipeline run configs/ocr.yaml` over pages whose text is known, and beside a plain loop over the same models."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image, ImageDraw, ImageFont

from bench.ocr_loop import CONFIG, OcrLoop
from bench.ocr_pages import page_of, words
from pipeline.testing import running

ROOT = CONFIG.parents[1]
#: Small pages, at the size at which they are drawn: none is enlarged for the detector.
SMALL = {"max_side": 640, "detect_side": 640, "min_side": 0, "max_bytes": 65536}
SMALL_OPTIONS: dict[str, dict[str, Any]] = {
    "decode": SMALL,
    "detect": {"max": {"H": 640, "W": 640}},
    "boxes": {"max_side": 640},
    "crop": {"max_side": 640, "max_width": 320, "max_bytes": 8 << 20},
    "recognise": {"max": {"W": 320}},
    "text": {"max_length": 40},
    "lines": {"max_length": 40},
}


@pytest.fixture(scope="module")
def models(pulled: Callable[[str], Path]) -> None:
    pulled("ppocr-v4-det")
    pulled("ppocr-v4-rec")


def small_config(folder: Path, slots: int) -> Path:
    """configs/ocr.yaml for small pages, `slots` of them at once."""
    config = yaml.safe_load(CONFIG.read_text())
    config["inputs"][0]["max"]["bytes"] = SMALL["max_bytes"]
    config["ingress"] = {"slots": slots}
    for stage in config["stages"]:
        stage["with"].update(SMALL_OPTIONS[stage["name"]])
    path = folder / "small-ocr.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return path


def sheet(labels: list[str], columns: int = 6) -> bytes:
    """A page with short labels in rows and columns, far enough apart to be boxes of their own."""
    rows = -(-len(labels) // columns)
    page = Image.new("L", (20 + 100 * min(columns, len(labels)), 20 + 44 * rows), 255)
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(24)
    for number, label in enumerate(labels):
        draw.text((20 + 100 * (number % columns), 12 + 44 * (number // columns)), label, 0, font)
    file = io.BytesIO()
    page.save(file, "PNG")
    return file.getvalue()


def labels(count: int, seed: int) -> list[str]:
    return [str(number) for number in random.Random(seed).sample(range(100, 1000), count)]


def texts(lines: list[dict[str, Any]]) -> list[str]:
    return [line["text"] for line in lines]


def test_a_run_over_files_reads_what_the_loop_reads_box_for_box(
    models: None, cli: Callable[..., Any], tmp_path: Path
) -> None:
    pages = {f"{seed}.png": page_of(words(lines, 5, seed)) for seed, lines in enumerate((3, 1, 6, 0))}
    pages["invoice.png"] = (ROOT / "photos" / "text" / "invoice.png").read_bytes()
    for name, page in pages.items():
        (tmp_path / name).write_bytes(page)
    (tmp_path / "none.png").write_bytes(b"no page")
    output = tmp_path / "out.jsonl"
    code, out, _ = cli("run", CONFIG, *(tmp_path / name for name in (*pages, "none.png")), "--output", output)
    assert code == 1  # none.png alone
    assert "6 requests, 1 failed" in out
    records = {Path(record["input"]).name: record for record in map(json.loads, output.read_text().splitlines())}
    assert records.pop("none.png")["error"]["type"] == "BadInput"
    loop = OcrLoop()
    for name, record in records.items():
        assert record["outputs"] == {"lines": loop.read(pages[name])}, name
        assert sum(stage["copied_bytes"] for stage in record["stages"].values()) == 0, name
    assert texts(records["0.png"]["outputs"]["lines"]) == words(3, 5, 0)


@pytest.mark.slow
def test_200_pages_in_flight_with_1_to_60_boxes_each_come_back_complete_and_in_order(
    models: None, tmp_path: Path
) -> None:
    # One page of up to 60 boxes for three of few, as is usual; those of many come four times, the others twelve times.
    counts = [1, 60, 2, 3, 1, 4, 45, 2, 1, 5, 1, 30, 2, 7, 1, 3, 12, 1, 2, 20]
    truth = [labels(count, seed) for seed, count in enumerate(counts)]
    pages = [sheet(of_page) for of_page in truth]
    loop = OcrLoop(**SMALL_OPTIONS)
    expected = [loop.read(page) for page in pages]
    # The places of the texts are exact; of short numbers alone, the model reads nearly all.
    assert [len(lines) for lines in expected] == counts
    order = [number for number, count in enumerate(counts) for _ in range(4 if count > 10 else 12)]
    random.Random(1).shuffle(order)
    with running(small_config(tmp_path, slots=270)) as pipeline, pipeline.client() as client:
        # Take all slots first: a request that was sent while others still waited for slots could be answered by then.
        drafts = [client.draft(image=(len(pages[number]),)) for number in order]
        for number, draft in zip(order, drafts):
            draft.inputs["image"][...] = np.frombuffer(pages[number], np.uint8)
        futures = [draft.submit(flush=False) for draft in drafts]
        client.flush()
        assert client.outstanding == 200
        for number, future in zip(order, futures):
            with future.get(200.0) as result:
                assert result["lines"] == expected[number]
        assert pipeline.stop() == 0


def test_in_one_process_it_reads_the_same_and_copies_nothing(
    models: None, cli: Callable[..., Any], tmp_path: Path
) -> None:
    page, output = tmp_path / "page.png", tmp_path / "out.jsonl"
    page.write_bytes(page_of(words(4, 5, seed=4)))
    together = [f"--set={stage}.colocate=true" for stage in ("boxes", "crop", "recognise", "text")]
    code, out, err = cli("run", CONFIG, page, "--output", output, "--assert-zero-copy", *together)
    assert (code, err) == (0, ""), out
    assert json.loads(output.read_text())["outputs"]["lines"] == OcrLoop().read(page.read_bytes())


def test_glue_of_the_users_own_reads_the_same_text(models: None, cli: Callable[..., Any], tmp_path: Path) -> None:
    truth = words(4, 5, seed=3)
    page = tmp_path / "page.png"
    page.write_bytes(page_of(truth))
    output = tmp_path / "out.jsonl"
    code, _, err = cli("run", ROOT / "configs" / "ocr-glue.yaml", page, "--output", output)
    assert (code, err) == (0, "")
    record = json.loads(output.read_text())
    assert texts(record["outputs"]["lines"]) == truth
    assert sum(stage["copied_bytes"] for stage in record["stages"].values()) == 0


def test_a_huge_page_does_not_starve_small_ones(models: None, tmp_path: Path) -> None:
    huge, small = sheet(labels(84, seed=1)), sheet(["417"])
    with running(small_config(tmp_path, slots=16)) as pipeline, pipeline.client() as client:
        for page in (huge, small):  # the first of a shape takes longer
            client.submit(image=page).get(200.0).release()
        first = client.submit(image=huge)
        behind = [client.submit(image=small) for _ in range(6)]
        for future in behind:
            with future.get(200.0) as result:
                assert texts(result["lines"]) == ["417"]
        # If they were served in the order of arrival, each of them would be answered after 84 boxes were read.
        assert not first.done()
        with first.get(200.0) as result:
            assert len(result["lines"]) == 84
        assert pipeline.stop() == 0
