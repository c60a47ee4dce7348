"""A -> glue -> B with real processes: fan-out, join and conditions, over plain functions of a user's file."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.client.client import Client
from pipeline.errors import RequestError, StageCrashed, StageFailed
from pipeline.testing import running

HERE = Path(__file__).parent

BYTES = {"dtype": "uint8", "shape": ["bytes"], "max": {"bytes": 4096}}
WORD = {"dtype": "uint8", "shape": ["letters"], "max": {"letters": 16}}
MANY = {"many": 300}
JSON = {"dtype": "json", "shape": ["bytes"], "max": {"bytes": 16384}}
ONE = {"dtype": "int64", "shape": [1]}
NUMBER = {"dtype": "int64", "shape": []}


def stage(name: str, function: str, takes: dict[str, Any], gives: dict[str, Any], **fields: Any) -> dict[str, Any]:
    options = {
        "inputs": [{"name": key, **spec} for key, spec in takes.items()],
        "outputs": [{"name": key, **spec} for key, spec in gives.items()],
    }
    return {"name": name, "use": f"./chain_stages.py:{function}", "with": options, **fields}


WORDS = [
    stage("split", "split", {"text": BYTES}, {"word": {**WORD, **MANY}, "place": {**JSON, "max": {"bytes": 8}, **MANY}, "count": ONE}),
    stage("shout", "shout", {"word": WORD}, {"word": WORD}, inputs=["split.word"], replicas=2, batch={"max_size": 4}),
    stage(
        "join",
        "join",
        {"word": {**WORD, **MANY}, "place": {**JSON, **MANY}, "count": ONE},
        {"words": JSON},
        inputs=["shout.word", "split.place", "split.count"],
    ),
]  # fmt: skip


def config_of(folder: Path, stages: list[dict[str, Any]], **fields: Any) -> Path:
    shutil.copy(HERE / "chain_stages.py", folder)
    document = {"inputs": [{"name": "text", **BYTES}], "stages": stages, "capsules": {"folder": str(folder)}, **fields}
    document.setdefault("ingress", {"slots": 64})
    path = folder / "words.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return path


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A client of one pipeline, for tests that do not kill its processes."""
    with running(config_of(tmp_path_factory.mktemp("words"), WORDS)) as pipeline, pipeline.client() as client:
        yield client


def ask(client: Client, text: str) -> Any:
    return client.submit(text=text.encode()).get(200)["words"]


def test_children_come_back_in_order_however_many_there_are(words: Client) -> None:
    texts = [" ".join(f"w{count}x{index}" for index in range(count)) for count in (0, 1, 2, 7, 60, 300, 0, 13)] * 5
    futures = [words.submit(text=text.encode()) for text in texts]
    for text, future in zip(texts, futures):
        expected = text.upper().split()
        found = future.get(200)["words"]
        assert found == {"words": expected, "places": list(range(len(expected))), "count": len(expected)}


def test_what_fails_a_child_fails_its_request_and_says_which_child(words: Client) -> None:
    good = words.submit(text=b"one two three")
    with pytest.raises(StageFailed, match=r"child 2 of split: stage shout: .*a bad word"):
        ask(words, "one two bad three")
    assert good.get(200)["words"]["words"] == ["ONE", "TWO", "THREE"]


def test_more_children_than_were_declared_fail_the_request_alone(words: Client) -> None:
    with pytest.raises(RequestError, match="at most 300 tensors, found 301"):
        ask(words, "a " * 301)
    assert ask(words, "still here")["words"] == ["STILL", "HERE"]


def test_a_child_that_kills_its_workers_fails_its_request_and_no_other(tmp_path: Path) -> None:
    with running(config_of(tmp_path, WORDS)) as pipeline, pipeline.client() as client:
        before = [client.submit(text=f"a{n} b{n} c{n}".encode()) for n in range(20)]
        deadly = client.submit(text=b"one die two")
        after = [client.submit(text=f"d{n} e{n} f{n}".encode()) for n in range(20)]
        with pytest.raises(StageCrashed, match=r"(?s)child 1 of split: stage shout.*pipeline replay "):
            deadly.get(200)
        assert [f.get(200)["words"]["words"][0] for f in before] == [f"A{n}" for n in range(20)]
        assert [f.get(200)["words"]["words"][2] for f in after] == [f"F{n}" for n in range(20)]


def test_a_request_of_many_children_lets_small_ones_by(tmp_path: Path) -> None:
    slow = [dict(each) for each in WORDS]
    slow[1] = {**slow[1], "with": {**slow[1]["with"], "delay_s": 0.005}, "replicas": 1}
    with running(config_of(tmp_path, slow)) as pipeline, pipeline.client() as client:
        huge = client.submit(text=" ".join(["word"] * 300).encode())
        small = []
        for number in range(10):
            small.append(client.submit(text=f"small {number}".encode()))
            small[-1].get(200)
        assert not huge.done(), "ten small ones, one after the other, were through before the huge one"
        assert len(huge.get(200)["words"]["words"]) == 300


BRANCHES = [
    stage("look", "is_long", {"text": BYTES}, {"long": {"dtype": "bool", "shape": []}}),
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


def test_the_branch_whose_condition_holds_is_the_one_that_runs(tmp_path: Path) -> None:
    path = config_of(tmp_path, BRANCHES, outputs={"which": "verdict.which", "long": "long.n"})
    with running(path) as pipeline, pipeline.client() as client:
        texts = [b"short", b"a text that is long", b"", b"another long text"] * 10
        for text, future in zip(texts, [client.submit(text=text) for text in texts]):
            result = future.get(200)
            if len(text) > 10:
                assert result["which"] == {"long": len(text), "short": None}
                assert int(result["long"]) == len(text)
            else:
                assert result["which"] == {"long": None, "short": len(text)}
                assert "long" not in result, "an output of a skipped stage is not in the answer"
        assert "long" not in result.stages or "short" not in result.stages
