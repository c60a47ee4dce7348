"""No single request, path or stream can end a run: real runs over files that people really have."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from pipeline.interpreter import python_command

STAGES = """\
import numpy as np

def size(file):
    return len(file)

def nan(file):
    return {"labels": np.array([7, 8]), "scores": np.array([np.nan, 0.5], np.float32)}

def odd(file):
    return np.zeros((2, 2, len(file)), np.uint8)

def text(file):
    return {"text": "x" * 200, "猫": len(file)}

def arrays(file):
    shade = np.full((4, 5), len(file), np.uint8)
    return {"image": shade, "spectrum": np.array([1 + 2j, np.nan], np.complex64), "long": np.array([1.5], np.longdouble)}

def echo(request):
    return {"got": request}

def double(x):
    return 2 * x
"""

FILE = {"name": "file", "dtype": "uint8", "shape": ["bytes"], "max": {"bytes": 1024}}
JSON = {"dtype": "json", "shape": ["bytes"], "max": {"bytes": 4096}}


@pytest.fixture
def made(tmp_path: Path) -> Callable[..., Path]:
    """A config of one stage, a function of STAGES."""
    (tmp_path / "s.py").write_text(STAGES, encoding="utf-8")

    def made(function: str, *outputs: dict[str, Any], inputs: list[dict[str, Any]] | None = None, **fields: Any) -> Path:
        given = [FILE] if inputs is None else inputs
        stage = {
            "name": "only", "use": f"./s.py:{function}", "replicas": 1,
            "with": {"inputs": given, "outputs": list(outputs)},
        }  # fmt: skip
        path = tmp_path / f"{function}.yaml"
        path.write_text(yaml.safe_dump({"inputs": given, "stages": [stage], **fields}))
        return path

    return made


SIZE = {"name": "n", "dtype": "int64", "shape": []}


def files(tmp_path: Path, *sizes: int) -> list[Path]:
    paths = []
    for size in sizes:
        paths.append(tmp_path / f"{size}.bin")
        paths[-1].write_bytes(bytes(size))
    return paths


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().decode("utf-8").splitlines()]


def run_in_shell(arguments: str, tmp_path: Path, **env: str) -> subprocess.CompletedProcess[bytes]:
    """Run a script in a shell in which `pipeline` is the command line and `run` is `pipeline run`."""
    command = python_command("pipeline.__main__")
    script = f'pipeline() {{ "{command[0]}" -c "$CODE" "$@"; }}; run() {{ pipeline run "$@"; }}; {arguments}'
    return subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env={**os.environ, "CODE": command[2], **env},
        stdin=subprocess.DEVNULL, capture_output=True, timeout=200, check=False,
    )  # fmt: skip


def test_an_answer_that_cannot_be_written_fails_alone(made: Any, cli: Any, tmp_path: Path) -> None:
    picture = {"name": "picture", "dtype": "uint8", "shape": [2, 2, "colours"], "max": {"colours": 4}}
    config = made("odd", picture, run={"pictures": ["picture"]})
    code, out, err = cli("run", config, *files(tmp_path, 1, 2, 3), "-o", f"{tmp_path}/out/", "--in-process")
    assert (code, err) == (1, "")
    found = records(tmp_path / "out" / "index.jsonl")
    assert [record["status"] for record in found] == ["ok", "error", "ok"]
    message = "cannot be written: ValueError: output 'picture' is not a picture: uint8 [2, 2, 2]"
    assert found[1]["error"] == {"type": "OutputError", "message": message}
    assert f"{tmp_path}/2.bin  FAILED  OutputError: {message}" in out
    assert "3 requests, 1 failed" in out


@pytest.mark.foreign
def test_scores_that_are_not_finite_are_shown_and_written(made: Any, cli: Any, tmp_path: Path) -> None:
    config = made("nan", {"name": "labels", "dtype": "int64", "shape": [2]}, {"name": "scores", "dtype": "float32", "shape": [2]})
    output = tmp_path / "out.jsonl"
    code, out, err = cli("run", config, *files(tmp_path, 1, 2), "--output", output, "--in-process")
    assert (code, err) == (0, "")
    assert out.splitlines()[0] == f"{tmp_path}/1.bin  7  nan"
    for record in records(output):
        assert record["outputs"] == {"labels": [7, 8], "scores": [None, 0.5]}
        assert record["nulls"] == {"scores": {"NaN": 1}}


ARRAYS = (
    {"name": "image", "dtype": "uint8", "shape": [4, 5]},
    {"name": "spectrum", "dtype": "complex64", "shape": [2]},
    {"name": "long", "dtype": np.dtype(np.longdouble).name, "shape": [1]},
)


# Of what only the feeding is about, a run of processes and one in a process are the same: test_in_process.py. The
# latter takes a quarter of the time.


@pytest.mark.foreign
def test_every_dtype_has_a_form_on_stdout_in_a_file_and_in_a_folder(
    made: Any, cli: Any, cli_here: Any, tmp_path: Path
) -> None:
    config = made("arrays", *ARRAYS, run={"pictures": ["image"]})
    (file,) = files(tmp_path, 3)
    code, _, err = cli("run", config, file, "-o", tmp_path / "out.jsonl", "--in-process")
    assert (code, err) == (0, "")
    (record,) = records(tmp_path / "out.jsonl")
    assert record["outputs"] == {"image": [[3] * 5] * 4, "spectrum": [[1.0, 2.0], [None, 0.0]], "long": [1.5]}
    code, _, err = cli("run", config, file, "-o", f"{tmp_path}/out/", "--in-process")
    assert (code, err) == (0, "")
    (record,) = records(tmp_path / "out" / "index.jsonl")
    assert record["outputs"]["image"]["file"] == "000001-3.image.png"
    with np.load(tmp_path / "out" / record["outputs"]["spectrum"]["file"]) as found:
        assert found["spectrum"][0] == 1 + 2j
        assert found["long"].dtype == np.longdouble
    # Before anything starts: a picture that no answer has, and an output that is not a picture.
    for name, said in (("mask", "no answer has an output 'mask'"), ("long", "is not a picture")):
        for command in ("check", "run"):
            code, _, err = cli_here(command, config, *([file] * (command == "run")), "--set", f"run.pictures=[{name}]")
            assert code == 2
            assert said in err


def test_names_that_are_no_utf8_are_escapes_on_stdout_and_in_the_file(made: Any, tmp_path: Path) -> None:
    made("size", SIZE)
    (tmp_path / "f").mkdir()
    for name in (b"a.bin", b"caf\xe9.bin", "猫.bin".encode()):
        (tmp_path / "f" / os.fsdecode(name)).write_bytes(b"abc")
    for number, locale in enumerate(("C.UTF-8", "C")):
        done = run_in_shell(f"run size.yaml f -o {number}.jsonl", tmp_path, LC_ALL=locale)
        assert (done.returncode, done.stderr) == (0, b"")
        assert b"f/caf\\xe9.bin  {" in done.stdout
        names = [record["input"] for record in records(tmp_path / f"{number}.jsonl")]
        assert names == ["f/a.bin", "f/caf\\xe9.bin", "f/猫.bin"]
    # And --append recognises them.
    done = run_in_shell("run size.yaml f -o 0.jsonl --append", tmp_path)
    assert (done.returncode, b"0 requests, 0 failed, 3 answered before" in done.stdout) == (0, True)


@pytest.mark.foreign
@pytest.mark.parametrize(
    "env", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}]
)
def test_what_stdout_has_no_character_for_is_an_escape(made: Any, tmp_path: Path, env: dict[str, str]) -> None:
    made("text", {"name": "answer", **JSON})
    files(tmp_path, 1)
    done = run_in_shell("run text.yaml 1.bin -o out.jsonl; run text.yaml 1.bin -o -", tmp_path, **env)
    assert done.returncode == 0, done.stderr
    done.stdout.decode("utf-8")
    assert records(tmp_path / "out.jsonl")[0]["outputs"]["answer"]["猫"] == 1
    # JSON is UTF-8 wherever it goes.
    assert "猫".encode() in done.stdout


@pytest.mark.parametrize(
    "redirections", ["<&- >out 2>err", "</dev/null >&- 2>err", "</dev/null >out 2>&-", "<&- >&- 2>&-", ">out 2> >(exec true)"]
)
def test_a_closed_stream_ends_nothing(made: Any, tmp_path: Path, redirections: str) -> None:
    made("size", SIZE)
    files(tmp_path, 1, 2, 3)
    (tmp_path / "s.py").write_text(STAGES.replace("    return len(file)\n", "    print('said')\n    return len(file)\n"))
    done = run_in_shell(f"run size.yaml [1-3].bin -o o.jsonl {redirections}", tmp_path)
    assert done.returncode == 0, (tmp_path / "err").read_text()
    assert [record["outputs"]["n"] for record in records(tmp_path / "o.jsonl")] == [1, 2, 3]


@pytest.mark.foreign
def test_answers_on_stdout_do_not_go_with_the_reader_of_what_failed(made: Any, tmp_path: Path) -> None:
    made("size", SIZE)
    files(tmp_path, 1, 2, 3)
    done = run_in_shell("run size.yaml gone.bin [1-3].bin -o - 2> >(exec true)", tmp_path)
    assert done.returncode == 1
    assert [json.loads(line)["outputs"].get("n") for line in done.stdout.splitlines()] == [None, 1, 2, 3]


@pytest.mark.foreign
def test_a_reader_that_goes_away_ends_a_run_only_if_the_run_has_no_other_output(made: Any, tmp_path: Path) -> None:
    made("text", {"name": "answer", **JSON})
    (tmp_path / "f").mkdir()
    for number in range(600):
        (tmp_path / "f" / f"{number:03}.bin").write_bytes(b"x")
    for output, codes in (("", b"1 0"), ("-o -", b"1 0"), ("-o out.jsonl", b"0 0")):
        done = run_in_shell(f'run text.yaml f {output} | head -1; echo "${{PIPESTATUS[@]}}" >codes', tmp_path)
        assert done.stdout.count(b"\n") == 1
        assert done.stderr == b""
        assert (tmp_path / "codes").read_bytes().strip() == codes, output
    assert len(records(tmp_path / "out.jsonl")) == 600


@pytest.mark.foreign
def test_a_folder_of_any_length_of_names_is_run(made: Any, cli: Any, tmp_path: Path) -> None:
    # Together more than 16 MiB, which was once the limit of a line to a child.
    config = made("size", SIZE)
    (tmp_path / "f").mkdir()
    for number in range(300):
        os.close(os.open(tmp_path / "f" / f"{number:04}{'x' * 240}.bin", os.O_CREAT | os.O_WRONLY))
    named = [f"{tmp_path}/f"] * 230
    code, out, err = cli("run", config, *named, "--limit", "2", "-q", "--in-process")
    assert (code, err) == (0, "")
    assert "2 requests, 0 failed" in out


@pytest.mark.foreign
def test_what_holds_no_file_is_named_and_the_others_are_answered(made: Any, cli: Any, tmp_path: Path) -> None:
    config = made("size", SIZE)
    first, second = files(tmp_path, 1, 2)
    (tmp_path / "empty").mkdir()
    code, out, err = cli("run", config, first, "empty", "*.gif", second, first, "gone.bin", cwd=tmp_path)
    assert code == 1
    assert err.splitlines() == ["error: empty: no file in this folder matches *", "error: *.gif: this pattern matches no file"]
    assert [line.split()[0] for line in out.splitlines()[:4]] == [str(first), str(second), str(first), "gone.bin"]
    assert "4 requests, 1 failed" in out


@pytest.mark.foreign
def test_inputs_of_a_config_in_a_folder_with_brackets_are_found(made: Any, cli: Any, tmp_path: Path) -> None:
    inner = tmp_path / "data [v2]"
    inner.mkdir()
    (inner / "s.py").write_text(STAGES)
    made("size", SIZE, run={"inputs": ["*.bin"]}).rename(inner / "size.yaml")
    (inner / "a.bin").write_bytes(b"abc")
    (inner / ".hidden.bin").write_bytes(b"abc")
    code, out, err = cli("run", "data [v2]/size.yaml", "--in-process", cwd=tmp_path)
    assert (code, err) == (0, "")
    assert out.startswith('data [v2]/a.bin  {"n": 3}\n')
    assert "1 request, 0 failed" in out


def test_a_run_goes_on_behind_what_was_answered_and_overwrites_only_when_told(
    made: Any, cli: Any, cli_here: Any, tmp_path: Path
) -> None:
    config = made("size", SIZE)
    paths = files(tmp_path, 1, 2, 3)
    output = tmp_path / "out.jsonl"
    assert cli("run", config, *paths[:2], tmp_path / "gone.bin", "-o", output, "--in-process").code == 1
    before = output.read_bytes()
    code, out, err = cli_here("run", config, *paths, "-o", output)
    assert (code, out) == (2, "")
    assert "--append goes on behind" in err
    assert output.read_bytes() == before
    # The end of that run's file was cut off.
    with open(output, "ab") as file:
        file.write(before[:30])
    (tmp_path / "gone.bin").write_bytes(b"here")
    code, out, _ = cli("run", config, *paths, tmp_path / "gone.bin", "-o", output, "--append")
    assert code == 0
    assert "2 requests, 0 failed, 2 answered before" in out
    assert output.read_bytes().startswith(before)
    assert [record["outputs"].get("n") for record in records(output)] == [1, 2, None, 3, 4]
    assert cli("run", config, *paths, "-o", output, "--overwrite", "--in-process").code == 0
    assert [record["outputs"]["n"] for record in records(output)] == [1, 2, 3]


@pytest.mark.foreign
def test_a_full_disk_behind_stdout_is_told_in_one_line(made: Any, tmp_path: Path) -> None:
    made("size", SIZE)
    files(tmp_path, 1)
    for command in ("pipeline schema", "pipeline check size.yaml", "run size.yaml 1.bin", "run size.yaml 1.bin -q -o -"):
        done = run_in_shell(f"{command} >/dev/full", tmp_path)
        assert done.returncode == 1
        assert done.stderr.splitlines()[-1].startswith(b"error: ")
        assert done.stderr.endswith(b": No space left on device\n")
        assert b"Traceback" not in done.stderr
    # An output that is not the purpose of the run does not end it.
    done = run_in_shell("run size.yaml 1.bin -o out.jsonl >/dev/full", tmp_path)
    assert (done.returncode, len(records(tmp_path / "out.jsonl"))) == (0, 1)


def test_a_terminal_that_cannot_be_drawn_on_from_the_begin_is_told_as_one_that_fails_later(
    made: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # a progress bar is drawn before the first answer
    made("size", SIZE)
    files(tmp_path, 1)
    done = run_in_shell("run size.yaml 1.bin >/dev/full", tmp_path)
    assert (done.returncode, done.stderr) == (1, b"error: stdout: No space left on device\n")
    done = run_in_shell("run size.yaml 1.bin -o out.jsonl >/dev/full", tmp_path)
    assert (done.returncode, len(records(tmp_path / "out.jsonl"))) == (0, 1)
    assert done.stderr == b"warning: stdout: No space left on device; nothing more is shown\n"


def test_json_comes_from_files_lines_and_stdin(made: Any, tmp_path: Path) -> None:
    made("echo", {"name": "answer", **JSON}, inputs=[{"name": "request", **JSON}])
    (tmp_path / "one.json").write_text('{"a": [1, "ä"]}')
    (tmp_path / "many.jsonl").write_text('{"b": 2}\n\nnonsense\n3\n')
    (tmp_path / "lines.txt").write_text("a line\n")
    (tmp_path / "photo.jpg").write_bytes(b"\xff\xd8")
    done = run_in_shell(
        """run echo.yaml one.json many.jsonl lines.txt photo.jpg -o out.jsonl --in-process
        printf '{"c": 1}\\n"d"\\n' | run echo.yaml - -o stdin.jsonl
        echo 'a word' | run echo.yaml - --text -o - 2>/dev/null""",
        tmp_path,
    )
    found = {record["input"]: record for record in records(tmp_path / "out.jsonl")}
    answers = {name: record["outputs"]["answer"]["got"] for name, record in found.items() if record["status"] == "ok"}
    assert answers == {"one.json": {"a": [1, "ä"]}, "many.jsonl:1": {"b": 2}, "many.jsonl:4": 3, "lines.txt:1": "a line"}
    assert found["many.jsonl:3"]["error"]["message"].startswith("expected one JSON document")
    assert found["photo.jpg"]["error"]["message"].startswith("expected a .json file, a .jsonl file of one request a line")
    assert [record["outputs"]["answer"]["got"] for record in records(tmp_path / "stdin.jsonl")] == [{"c": 1}, "d"]
    assert json.loads(done.stdout.splitlines()[-1])["outputs"] == {"answer": {"got": "a word"}}


def test_arrays_come_as_they_are_or_not_at_all(made: Any, tmp_path: Path) -> None:
    spec = {"name": "x", "dtype": "uint8", "shape": [2]}
    made("double", {**spec, "name": "y"}, inputs=[spec])
    np.save(tmp_path / "good.npy", np.array([1, 2], np.uint8))
    np.save(tmp_path / "floats.npy", np.array([300.0, 0.9]))
    np.save(tmp_path / "text.npy", np.array(["a", "b"]))
    (tmp_path / "lists.json").write_text('{"x": [3, 4]}')
    (tmp_path / "large.json").write_text('{"x": [300, 4]}')
    run_in_shell("run double.yaml floats.npy text.npy good.npy lists.json large.json -o out.jsonl --in-process", tmp_path)
    found = records(tmp_path / "out.jsonl")
    assert [record["outputs"].get("y") for record in found] == [None, None, [2, 4], [6, 8], None]
    assert found[0]["error"] == {"type": "InvalidRequest", "message": "input 'x': expected dtype uint8, found float64"}
    assert "found str32" in found[1]["error"]["message"]
    assert "expected numbers that uint8 can hold, found 4 to 300" in found[4]["error"]["message"]


def test_a_program_that_waits_for_each_answer_before_it_sends_more_gets_it(made: Any, started: Any, tmp_path: Path) -> None:
    config = made("echo", {"name": "answer", **JSON}, inputs=[{"name": "request", **JSON}])
    process = started("run", config, "-", "-o", "-", stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    for number in range(3):
        process.stdin.write(f"{number}\n".encode())
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["outputs"] == {"answer": {"got": number}}
    # And it can be stopped while stdin brings nothing.
    process.send_signal(signal.SIGTERM)
    assert process.stdout.read() == b""
    assert b"3 requests, 0 failed, the rest not sent" in process.stderr.read()
    assert process.wait(200) == 1


@pytest.mark.foreign
def test_options_that_are_too_large_for_a_plan_are_refused(made: Any, cli_here: Any, tmp_path: Path) -> None:
    config = made("size", SIZE)
    (tmp_path / "s.py").write_text("def size(file, text):\n    return len(text)\n")
    for times, code in ((5, 0), (9, 2)):
        text = config.read_text().replace("  with:\n", "  with:\n    text: [" + "*long, " * times + "]\n")
        (tmp_path / "long.yaml").write_text(f"x-long: &long {'y' * 500_000}\n{text}")
        done = cli_here("check", tmp_path / "long.yaml")
        assert done.code == code, done.err
    assert "what the stages' options hold comes to 4.3 MiB, aliases included" in done.err


def test_bytes_come_from_stdin_while_the_supervisor_lives_on_another(made: Any, tmp_path: Path) -> None:
    made("size", SIZE)
    done = run_in_shell("(printf ab; sleep 0.3; printf c) | run size.yaml - -o -", tmp_path)
    assert json.loads(done.stdout)["outputs"] == {"n": 3}
    assert b"1 request, 0 failed" in done.stderr
