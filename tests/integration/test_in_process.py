"""`pipeline run --in-process`: the same answers as in other runs, in one process that debuggers and profilers see as a whole."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent

BYTES = {"dtype": "uint8", "shape": ["bytes"], "max": {"bytes": 4096}}
WORD = {"dtype": "uint8", "shape": ["letters"], "max": {"letters": 16}}
JSON = {"dtype": "json", "shape": ["bytes"], "max": {"bytes": 16384}}
ONE = {"dtype": "int64", "shape": [1]}
NUMBER = {"dtype": "int64", "shape": []}

STAGES = """
import os
import threading

from stages.errors import BadInput, StageBroken
from stages.spec import TensorSpec


class Mute(Exception):
    def __str__(self):
        raise RuntimeError("no words")


class Show:
    '''Bytes in, the same bytes out; says where it runs, and does what the bytes say.'''

    inputs = outputs = (TensorSpec("data", "uint8", ("n",), {"n": 65536}),)

    def __init__(self, broken: str = ""):
        self.broken = broken
        if broken == "init":
            raise RuntimeError("broken in init")

    def setup(self, context):
        assert (context.max_batch, context.stage) == (1, "show")
        if self.broken == "setup":
            raise RuntimeError("broken in setup")
        if self.broken == "mute":
            raise Mute

    def process(self, batch):
        assert len(batch) == 1
        data = batch.rows("data")[0]
        text = data.tobytes().decode()
        if text == "stop":
            breakpoint()
        if text == "bad":
            secret = 42
            raise ValueError(f"bad on purpose")
        if text == "refuse":
            raise BadInput("refused on purpose")
        if text == "exit":
            raise SystemExit(7)
        if text == "broken":
            raise StageBroken("the device is lost")
        if text == "forget":
            return
        if text == "where":
            threads = [thread.name for thread in threading.enumerate()]
            with open(f"/proc/self/task/{os.getpid()}/children") as file:
                children = file.read().split()
            sockets = [fd for fd in os.listdir("/proc/self/fd") if "socket" in _target(fd)]
            print(f"{threads} {children} {sockets} OPENBLAS={os.environ.get('OPENBLAS_NUM_THREADS')}")
        batch.out(0, "data", data.shape)[...] = data

    def teardown(self):
        print("torn down")


def _target(fd):
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        return ""
"""


def stage(name: str, function: str, takes: dict[str, Any], gives: dict[str, Any], **fields: Any) -> dict[str, Any]:
    options = {
        "inputs": [{"name": key, **spec} for key, spec in takes.items()],
        "outputs": [{"name": key, **spec} for key, spec in gives.items()],
    }
    return {"name": name, "use": f"./chain_stages.py:{function}", "with": options, **fields}


#: Fan-out and join; beside them two branches with conditions, one of which is skipped.
GRAPH = [
    stage(
        "split",
        "split",
        {"text": BYTES},
        {"word": {**WORD, "many": 300}, "place": {**JSON, "max": {"bytes": 8}, "many": 300}, "count": ONE},
    ),
    stage("shout", "shout", {"word": WORD}, {"word": WORD}, inputs=["split.word"], batch={"max_size": 4}),
    stage(
        "join",
        "join",
        {"word": {**WORD, "many": 300}, "place": {**JSON, "many": 300}, "count": ONE},
        {"words": JSON},
        inputs=["shout.word", "split.place", "split.count"],
    ),
    stage("look", "is_long", {"text": BYTES}, {"long": {"dtype": "bool", "shape": []}}, inputs=["ingress.text"]),
    stage("long", "length", {"text": BYTES}, {"n": NUMBER}, inputs=["ingress.text"], when="look.long"),
    stage("short", "length", {"text": BYTES}, {"n": NUMBER}, inputs=["ingress.text"], when="not look.long"),
    stage(
        "verdict",
        "verdict",
        {"long": {**NUMBER, "optional": True}, "short": {**NUMBER, "optional": True}},
        {"which": JSON},
        inputs=["long.n", "short.n"],
    ),
]

PAGE = {"dtype": "uint8", "shape": ["rows", 1024], "max": {"rows": 8192}}
WHAT = {"dtype": "json", "shape": ["bytes"], "max": {"bytes": 256}}


def answers(cli: Callable[..., Any], output: Path, *arguments: object) -> tuple[int, list[tuple[Any, ...]], str]:
    """The exit code, the result for each file, and the lines before the summary."""
    code, out, err = cli("run", *arguments, "--output", output)
    records = [json.loads(line) for line in output.read_text().splitlines()]
    assert code in (0, 1), err
    # In a run in this process, what stages print stands between them.
    shown = "\n".join(line for line in out.partition("\n\n")[0].splitlines() if line != "drawn")
    return code, [
        (r["input"], r["status"], r["error"], r["outputs"], sorted(r["stages"])) for r in records
    ], shown


def compare(cli: Callable[..., Any], folder: Path, *arguments: object) -> list[tuple[Any, ...]]:
    """Run the command line in both ways; return what both of them printed."""
    here = answers(cli, folder / "here.jsonl", *arguments, "--in-process")
    there = answers(cli, folder / "there.jsonl", *arguments)
    assert here == there
    return here[1]


@pytest.mark.foreign
def test_digits_are_read_as_in_every_run(cli: Callable[..., Any], tmp_path: Path) -> None:
    found = compare(cli, tmp_path, ROOT / "configs/digits.yaml", ROOT / "photos/digits", tmp_path / "missing.png")
    assert [record[3]["labels"][0] for record in found[:-1]] == list("0123456789")
    assert found[-1][2] == {"type": "InvalidRequest", "message": "cannot be read: No such file or directory"}


@pytest.mark.parametrize("config", ["resnet", "imagenet", "ocr", "ocr-glue"])
def test_the_repositorys_configs_answer_as_in_every_run(
    cli: Callable[..., Any], pulled: Callable[[str], Path], tmp_path: Path, config: str
) -> None:
    for name in {"resnet": ["open-nsfw"], "imagenet": ["efficientnet-lite0", "imagenet"]}.get(
        config, ["ppocr-v4-det", "ppocr-v4-rec"]
    ):
        pulled(name)
    photo = ROOT / "photos" / ("text/invoice.png" if "ocr" in config else "cat.jpg")
    assert compare(cli, tmp_path, ROOT / f"configs/{config}.yaml", photo)[0][1] == "ok"


@pytest.mark.foreign
def test_fan_out_joins_and_conditions_are_those_of_every_run(cli: Callable[..., Any], tmp_path: Path) -> None:
    shutil.copy(HERE / "chain_stages.py", tmp_path)
    config = tmp_path / "graph.yaml"
    outputs = {"words": "join.words", "which": "verdict.which", "long": "long.n"}
    document = {"inputs": [{"name": "text", **BYTES}], "stages": GRAPH, "outputs": outputs, "deadline_ms": 60000}
    config.write_text(yaml.safe_dump(document, sort_keys=False))
    texts = ["", "one", "two words", "so many words that it is long", "one bad word", " ".join(["w"] * 300), "x " * 301]
    files = []
    for number, text in enumerate(texts):
        files.append(tmp_path / f"{number}.txt")
        files[-1].write_text(text)
    found = compare(cli, tmp_path, config, *files)
    assert [record[1] for record in found] == ["ok", "ok", "ok", "ok", "error", "ok", "error"]
    assert found[2][3] == {"words": {"words": ["TWO", "WORDS"], "places": [0, 1], "count": 2}, "which": {"long": None, "short": 9}}
    assert found[3][3]["long"] == 29
    assert "child 1 of split: stage shout: ValueError: a bad word" in found[4][2]["message"]


def test_pages_of_free_size_are_computed_once_each(cli: Callable[..., Any], tmp_path: Path) -> None:
    text = (HERE / "page_stages.py").read_text()
    tmp_path.joinpath("page_stages.py").write_text(text.replace("    page = np.random", '    print("drawn")\n    page = np.random'))
    pages = [stage("draw", "draw", {"what": WHAT}, {"page": PAGE})]
    pages[0]["use"] = "./page_stages.py:draw"
    # The file's content is JSON.
    parse = "import json\n\ndef parse(data):\n    return json.loads(data.tobytes())\n"
    tmp_path.joinpath("parse.py").write_text(parse)
    first = stage("parse", "parse", {"data": BYTES}, {"what": WHAT})
    first["use"] = "./parse.py:parse"
    weigh = stage("weigh", "weigh", {"turned": PAGE, "first": {"dtype": "uint8", "shape": [1024]}}, {"sum": JSON})
    mirror = stage("mirror", "mirror", {"page": PAGE}, {"first": {"dtype": "uint8", "shape": [1024]}, "turned": PAGE})
    weigh["use"], mirror["use"] = "./page_stages.py:weigh", "./page_stages.py:mirror"
    document = {"inputs": [{"name": "data", **BYTES}], "stages": [first, *pages, mirror, weigh]}
    config = tmp_path / "pages.yaml"
    config.write_text(yaml.safe_dump(document, sort_keys=False))
    files = []
    for rows in (1, 8192, 3, 4000):
        files.append(tmp_path / f"{rows}.json")
        files[-1].write_text(json.dumps({"rows": rows, "seed": rows}))
    found = compare(cli, tmp_path, config, *files)
    assert [record[3]["sum"]["rows"] for record in found] == [1, 8192, 3, 4000]
    _, out, _ = cli("run", config, *files, "--in-process")
    # The second is far larger than the guess for it: in a run with processes it is drawn again.
    assert out.splitlines().count("drawn") == 4


@pytest.fixture
def shown(tmp_path: Path) -> Callable[..., list[str]]:
    """Make a config over Show with these options, and a file for each text; the rest of a command line."""

    def shown(*texts: str, **options: str) -> list[str]:
        tmp_path.joinpath("own.py").write_text(STAGES)
        config = tmp_path / "own.yaml"
        document = {
            "inputs": [{"name": "data", "dtype": "uint8", "shape": ["n"], "max": {"n": 65536}}],
            "stages": [{"name": "show", "use": "./own.py:Show", "with": options}],
        }
        config.write_text(yaml.safe_dump(document))
        files = []
        for number, text in enumerate(texts):
            files.append(tmp_path / f"{number}-{text}")
            files[-1].write_text(text)
        return ["run", "--in-process", str(config), *map(str, files)]

    return shown


def test_a_stage_runs_in_the_one_thread_of_a_process_without_children_or_sockets(
    cli: Callable[..., Any], shown: Callable[..., list[str]]
) -> None:
    before = sorted(os.listdir("/dev/shm"))
    code, out, err = cli(*shown("where", "fine"))
    assert (code, err) == (0, "")
    where, first, second, *rest = out.splitlines()
    assert where == "['MainThread'] [] [] OPENBLAS=None"
    assert "0-where" in first
    assert "1-fine" in second
    assert rest[-1] == "torn down"
    assert not [name for name in set(os.listdir("/dev/shm")) - set(before) if "local" in name]


def test_an_exception_shows_its_whole_traceback_once_and_the_next_file_has_its_turn(
    cli: Callable[..., Any], shown: Callable[..., list[str]], tmp_path: Path
) -> None:
    code, out, err = cli(*shown("bad", "fine", "bad", "refuse", "forget"))
    assert code == 1
    assert [line.split("  ")[1] for line in out.splitlines()[:5]] == ["FAILED", '{"data": [102, 105, 110, 101]}', "FAILED", "FAILED", "FAILED"]
    assert err.count("Traceback (most recent call last):") == 2, "a place is shown once; BadInput is no accident"
    first = err.splitlines()[:3]
    assert first[:2] == ["stage show:", "Traceback (most recent call last):"]
    # The user's own frame comes first, without frames of the pipeline before it.
    assert re.match(rf'  File "{tmp_path}/own.py", line \d+, in process', first[2])
    assert "ValueError: bad on purpose" in err
    assert "neither filled nor returned it" in err


@pytest.mark.parametrize(("text", "said"), [("exit", "a stage called sys.exit(7)"), ("broken", "the device is lost")])
def test_a_stage_that_ends_the_process_ends_the_run_with_a_message(
    cli: Callable[..., Any], shown: Callable[..., list[str]], text: str, said: str
) -> None:
    code, out, err = cli(*shown("fine", text, "fine"))
    assert code == 1
    assert "0-fine" in out
    assert "2-fine" not in out
    assert said in err.splitlines()[0]
    assert "own.py" in err
    assert out.endswith("torn down\n")


@pytest.mark.foreign
def test_memory_that_is_not_available_is_reported(cli: Callable[..., Any], tmp_path: Path) -> None:
    huge = {"name": "tensor", "dtype": "uint8", "shape": [1 << 43]}
    config = tmp_path / "huge.yaml"
    stage = {"name": "relay", "use": "stages.relay:Relay", "with": {"shape": [1 << 43]}}
    config.write_text(yaml.safe_dump({"inputs": [huge], "stages": [stage]}))
    code, out, err = cli("run", config, config, "--in-process")
    assert (code, out) == (3, "")
    assert "anonymous memory" in err
    assert "Traceback" not in err


def test_breakpoint_stops_in_the_stage_and_goes_on(shown: Callable[..., list[str]]) -> None:
    done = ask([sys.executable, "-m", "pipeline", *shown("stop", "fine")], "p 'it is', text\nc\n")
    assert done.returncode == 0, done.stderr
    assert "('it is', 'stop')" in done.stdout
    assert "2 requests, 0 failed" in done.stdout


def test_leaving_the_debugger_ends_the_run_without_a_traceback(shown: Callable[..., list[str]]) -> None:
    done = ask([sys.executable, "-m", "pipeline", *shown("fine", "stop", "fine")], "q\n")
    assert done.returncode == 1
    assert "0-fine" in done.stdout
    assert done.stderr == "error: left in the debugger; the files from here on are not run\n"


@pytest.mark.foreign
def test_post_mortem_has_the_frames_of_the_exception(shown: Callable[..., list[str]]) -> None:
    # The pdb of Python 3.13.0 takes the program's options for its own.
    mark = ["--"] if sys.version_info[:3] == (3, 13, 0) else []
    command = [sys.executable, "-m", "pdb", "-m", "pipeline", *mark, *shown("fine", "bad")]
    done = ask(command, "c\np 'secret', secret\nq\n")
    assert "Uncaught exception. Entering post mortem debugging" in done.stdout
    assert "('secret', 42)" in done.stdout


@pytest.mark.foreign
def test_a_profiler_sees_the_stage(shown: Callable[..., list[str]]) -> None:
    done = ask([sys.executable, "-m", "cProfile", "-m", "pipeline", *shown("fine", "fine")], "")
    assert done.returncode == 0, done.stderr
    assert re.search(r"^ +2 .*own\.py:\d+\(process\)$", done.stdout, re.MULTILINE)


def test_ctrl_c_shows_where_the_stage_was(
    started: Callable[..., subprocess.Popen[Any]], shown: Callable[..., list[str]], tmp_path: Path
) -> None:
    arguments = shown("fine")
    own = tmp_path / "own.py"
    own.write_text(own.read_text().replace('if text == "stop":', 'print("here", flush=True)\n        while True:'))
    own.write_text(own.read_text().replace("            breakpoint()", "            __import__('time').sleep(0.01)"))
    process = started(*arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "here\n"
    process.send_signal(2)
    _, err = process.communicate(timeout=200)
    assert process.returncode == 130
    frames = [line for line in err.splitlines() if line.startswith("  File ")]
    assert len(frames) == 1, "none of the runtime's"
    assert re.match(rf'  File "{tmp_path}/own.py", line \d+, in process', frames[0])
    assert err.splitlines()[-1] == "KeyboardInterrupt"


@pytest.mark.parametrize(("where", "code"), [("init", 2), ("setup", 3)])
def test_a_stage_that_cannot_be_made_is_reported_as_in_every_run(
    cli: Callable[..., Any], shown: Callable[..., list[str]], where: str, code: int
) -> None:
    ended, out, err = cli(*shown("fine", broken=where))
    assert (ended, out) == (code, "")
    assert f"RuntimeError: broken in {where}" in err
    assert "own.py" in err
    assert "stages[0].use" in err or "stage show: setup failed" in err


def test_an_exception_of_setup_that_cannot_be_shown_is_told_by_its_name(
    cli: Callable[..., Any], shown: Callable[..., list[str]]
) -> None:
    ended, out, err = cli(*shown("fine", broken="mute"))
    assert (ended, out) == (3, "")
    assert "stage show: setup failed: Mute: which cannot be shown" in err
    assert "no words" not in err


def test_env_of_stages_holds_and_a_contradiction_is_told(cli: Callable[..., Any], tmp_path: Path) -> None:
    tmp_path.joinpath("say.py").write_text(
        "import os\nSAID = os.environ.get('MOOD')\n\ndef say(data):\n    print(SAID)\n    return data\n"
    )
    spec = {"name": "data", "dtype": "uint8", "shape": ["n"], "max": {"n": 9}}
    said = {"use": "./say.py:say", "with": {"inputs": [spec], "outputs": [spec]}}
    stages = [{"name": "a", **said, "env": {"MOOD": "good"}}, {"name": "b", **said, "env": {"MOOD": "bad"}}]
    config = tmp_path / "say.yaml"
    config.write_text(yaml.safe_dump({"inputs": [spec], "stages": stages}))
    code, out, err = cli("run", config, config.parent / "say.yaml", "--in-process", "--set", "b.env.MOOD=good")
    assert err == ""
    tmp_path.joinpath("x").write_text("x")
    code, out, err = cli("run", config, tmp_path / "x", "--in-process")
    assert (code, out.splitlines()[:2]) == (0, ["good", "good"])
    assert "env MOOD: stage a says 'good', stage b 'bad'" in err


def test_it_serves_no_clients(cli: Callable[..., Any]) -> None:
    code, out, err = cli("run", ROOT / "configs/digits.yaml", "--serve", "--in-process")
    assert (code, out) == (2, "")
    assert "--in-process runs files" in err


def ask(command: list[str], stdin: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=200, check=False, cwd=ROOT)
