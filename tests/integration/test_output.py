"""The output of a run that works, for a person, a script and `--output`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
MNIST = ROOT / "configs" / "digits.yaml"
DIGITS = ROOT / "photos" / "digits"


def test_output_has_one_object_a_request_in_the_order_of_the_files(cli: Callable[..., Any], tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    files = [DIGITS / f"{digit}.png" for digit in (7, 3, 0, 9, 1)]
    missing = tmp_path / "missing.png"
    code, _, _ = cli("run", MNIST, *files[:2], missing, *files[2:], "--output", output)
    assert code == 1
    records = [json.loads(line) for line in output.read_text().splitlines()]
    assert [record["input"] for record in records] == [str(f) for f in (*files[:2], missing, *files[2:])]
    for record, digit in zip([*records[:2], *records[3:]], (7, 3, 0, 9, 1)):
        assert list(record) == ["input", "status", "error", "outputs", "latency_ms", "stages", "request"]
        assert (record["status"], record["error"]) == ("ok", None)
        assert list(record["outputs"]) == ["labels", "scores"]
        assert record["outputs"]["labels"][0] == str(digit)
        assert len(record["outputs"]["scores"]) == 3
        assert all(type(score) is float for score in record["outputs"]["scores"])
        # The digits that a float32 has, without those that only a float64 would have.
        assert all(len(f"{score:.17g}".lstrip("0.")) >= len(repr(score).lstrip("0.")) for score in record["outputs"]["scores"])
        assert all(len(repr(score).partition("e")[0].lstrip("0.")) <= 9 for score in record["outputs"]["scores"])
        assert record["latency_ms"] > 0
        assert list(record["stages"]) == ["preprocess", "inference", "postprocess"]
        for stage in record["stages"].values():
            assert {"queue_ms", "compute_ms", "batch"} <= stage.keys()
            assert stage["batch"] >= 1
    failed = records[2]
    assert failed["status"] == "error"
    assert failed["error"] == {"type": "InvalidRequest", "message": "cannot be read: No such file or directory"}
    assert (failed["outputs"], failed["stages"]) == ({}, {})


@pytest.mark.foreign
def test_a_pipe_gets_plain_lines(cli: Callable[..., Any]) -> None:
    # The delay is long enough for batches of several, whose rows of 40 bytes do not fill their slots.
    code, out, err = cli("run", MNIST, "--set", "inference.batch.max_delay_ms=500", cwd=ROOT)
    assert (code, err) == (0, "")
    assert "\x1b" not in out
    shape = re.sub(r"\d+(\.\d+)?( [KM]iB| B)?", "N", out)
    lines = [re.sub(r" +", " ", line).strip() for line in shape.splitlines()]
    lines = [re.sub(r"(full|delay|drained|deadline|slots) N(, \w+ N)*", "REASONS", line) for line in lines]
    head = lines.index("copied on bytes batches because") + 1
    lines, copies = lines[:head], lines[head:]
    assert lines == [
        *["photos/digits/N.png N N"] * 10,
        "",
        "N requests, N failed in N s: N/s",
        "latency ms: pN N, pN N, pN N copied: N per request",
        "",
        "stage queue ms compute ms mean batch copied batches closed because",
        "preprocess N N N N -",
        "inference N N N N REASONS",
        "postprocess N N N N -",
        "",
        "copied on bytes batches because",
    ]
    assert copies
    assert all(re.match(r"(preprocess\.image -> )?inference\.\S+ N N (gathered|scattered|gaps): ", line) for line in copies)
    assert [line.split()[1] for line in out.splitlines()[:10]] == list("0123456789")


@pytest.mark.foreign
def test_the_reasons_of_the_summary_count_every_batch(cli: Callable[..., Any], tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    code, out, _ = cli("run", MNIST, DIGITS, "--output", output)
    assert code == 0
    row = next(line for line in out.splitlines() if line.startswith("inference"))
    counted = sum(int(count) for _, count in re.findall(r"(full|delay|drained|deadline|slots) (\d+)", row))
    records = [json.loads(line) for line in output.read_text().splitlines()]
    assert counted == round(sum(1 / record["stages"]["inference"]["batch"] for record in records))


def test_a_folder_a_glob_and_a_file_may_be_mixed(cli: Callable[..., Any]) -> None:
    code, out, _ = cli("run", MNIST, "3.png", "[0-1].png", ".", cwd=DIGITS)
    assert code == 0
    # As often as it is named, as in other programs.
    named = [line.split()[0] for line in out.splitlines()[:13]]
    assert named == ["3.png", "0.png", "1.png", *(f"{digit}.png" for digit in range(10))]


def test_system_v_segments_work_from_end_to_end(cli: Callable[..., Any]) -> None:
    code, out, err = cli("run", MNIST, "--set", "segments=sysv", cwd=ROOT)
    assert (code, err) == (0, "")
    assert [line.split()[1] for line in out.splitlines()[:10]] == list("0123456789")


def test_what_is_wrong_with_the_command_line_ends_with_2(cli_here: Callable[..., Any], tmp_path: Path) -> None:
    for arguments, said in (
        ([tmp_path / "none.yaml"], "none.yaml"),
        ([MNIST, tmp_path / "*.png"], "this pattern matches no file"),
        ([MNIST, tmp_path], "no file in this folder matches"),
        ([MNIST, "--serve", DIGITS], "--serve runs no files"),
        ([MNIST, "--output", tmp_path / "no" / "out.jsonl"], "does not exist"),
        ([MNIST, tmp_path, tmp_path / "*.png"], "this pattern matches no file"),
        ([MNIST, "--append"], "--append is about --output"),
        ([MNIST, DIGITS, "--text"], "--text is about pipelines whose one input is of dtype json"),
        ([MNIST, tmp_path / "a.png", "-o", tmp_path / "a.png"], "this is one of the files to run"),
        ([MNIST, "--serve", "--limit", "1"], "--serve runs no files"),
        ([MNIST, "--set", "inference.batch.max_sise=3"], "did you mean max_size?"),
        ([MNIST, "--wrong"], "--wrong"),
    ):
        code, out, err = cli_here("run", *arguments)
        assert (code, out) == (2, ""), (arguments, err)
        assert said in err
        assert "Traceback" not in err


def test_an_output_that_cannot_be_written_ends_with_2(cli: Callable[..., Any], tmp_path: Path) -> None:
    tmp_path.joinpath("loop").symlink_to("loop")
    code, out, err = cli("run", MNIST, DIGITS, "--output", tmp_path / "loop")
    assert (code, out) == (2, "")
    assert "cannot write the output" in err


def test_memory_that_is_not_there_is_refused_before_anything_starts(cli: Callable[..., Any], folder: Any) -> None:
    stage = {"use": "stages.relay:Relay", "with": {"shape": [1_000_000_000]}}
    inputs = [{"name": "tensor", "dtype": "uint8", "shape": [1_000_000_000]}]
    config = folder.config(stage, inputs=inputs, ingress={"slots": 60_000})
    code, out, err = cli("run", config, "--serve")
    assert (code, out) == (3, ""), err
    assert "are needed" in err
    assert "Traceback" not in err
