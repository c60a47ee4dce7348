"""Every dtype that the wire knows, there and back: client, batches, a fan-out, its children, a join, and the client again.

    all tensors ──▶ copy ──▶ split ══▶ each (a child for each row) ══▶ join ──▶ the same tensors
    scalars     ──▶ copy ──────────────────────────────────────────────────▶ the same scalars
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.client.aio import AsyncClient
from pipeline.client.aio_runner import AsyncInferRunner
from pipeline.client.client import Client
from pipeline.client.runner import InferRunner
from pipeline.client.shared import SharedClient
from pipeline.errors import BadInput, InvalidRequest
from pipeline.testing import RunningPipeline, running
from shm.elements import Elements
from shm.handle import _ITEMSIZES, BFLOAT16, BYTES, JSON, itemsize, numpy_dtype

DTYPES = sorted({*_ITEMSIZES, BFLOAT16})
NUMBERS = [dtype for dtype in DTYPES if dtype not in (BYTES, JSON)]
MOST = 6

STAGES = '''
import numpy as np

from stages.spec import TensorSpec

DTYPES = {dtypes!r}
MOST = {most}


def spec(dtype, prefix="", shape=("n", 2), many=None):
    name = prefix + dtype
    if dtype == "json":
        return TensorSpec.json(name, 4096, many)
    return TensorSpec(name, dtype, shape, {{**({{"n": MOST}} if "n" in shape else {{}}), **({{"bytes": 4096}} if dtype == "bytes" else {{}})}}, many=many)


WHOLE = tuple(spec(dtype) for dtype in DTYPES)
SCALARS = tuple(spec(dtype, "scalar_", ()) for dtype in DTYPES if dtype != "json")
ROWS = tuple(spec(dtype, "row_", (2,)) for dtype in DTYPES)
MANY = tuple(spec(dtype, "row_", (2,), MOST) for dtype in DTYPES)


class Copy:
    """All rows of a batch as one array, into one array."""
    inputs = outputs = WHOLE + SCALARS

    def process(self, batch):
        for each in self.inputs:
            if each.dtype == "json":
                for row in range(len(batch)):
                    batch.write(row, each.name, batch.document(row, each.name))
            elif each.dtype == "bytes":
                stacked = batch.stack(each.name)
                for row in range(len(batch)):
                    batch.write(row, each.name, stacked[row])
            else:
                stacked = batch.stack(each.name)
                batch.stack_out(each.name, stacked.shape[1:])[...] = stacked


class Split:
    """A tensor for each row."""
    ragged = True
    inputs, outputs = WHOLE, MANY

    def process(self, batch):
        for row in range(len(batch)):
            for whole, many in zip(self.inputs, self.outputs):
                if whole.dtype == "json":
                    batch.write(row, many.name, batch.document(row, whole.name))
                elif whole.dtype == "bytes":
                    batch.write(row, many.name, [*batch.rows(whole.name)[row]])
                else:
                    array = batch.rows(whole.name)[row]
                    for view, one in zip(batch.out_many(row, many.name, [(2,)] * len(array)), array):
                        view[...] = one


class Each:
    inputs = outputs = ROWS

    def process(self, batch):
        for each in self.inputs:
            rows = range(len(batch))
            if each.dtype == "json":
                for row in rows:
                    batch.write(row, each.name, batch.document(row, each.name))
            elif each.dtype == "bytes":
                for row in rows:
                    batch.write(row, each.name, batch.rows(each.name)[row])
            else:
                batch.stack_out(each.name)[...] = batch.stack(each.name)


class Join:
    ragged = True
    inputs, outputs = MANY, WHOLE

    def process(self, batch):
        for row in range(len(batch)):
            for many, whole in zip(self.inputs, self.outputs):
                if many.dtype == "json":
                    batch.write(row, whole.name, batch.document(row, many.name))
                elif many.dtype == "bytes":
                    ones = batch.rows(many.name)[row]
                    batch.write(row, whole.name, np.stack(ones) if ones else np.empty((0, 2), object))
                else:
                    ones = batch.rows(many.name)[row]
                    view = batch.out(row, whole.name, (len(ones), 2))
                    for number, one in enumerate(ones):
                        view[number] = one
'''


def input_of(dtype: str, prefix: str = "", shape: tuple[Any, ...] = ("n", 2)) -> dict[str, Any]:
    if dtype == JSON:
        return {"name": dtype, "dtype": dtype, "shape": ["bytes"], "max": {"bytes": 4096}}
    most = {**({"n": MOST} if "n" in shape else {}), **({"bytes": 4096} if dtype == BYTES else {})}
    return {"name": prefix + dtype, "dtype": dtype, "shape": list(shape), "max": most}


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dtypes")
    (folder / "typed.py").write_text(STAGES.format(dtypes=DTYPES, most=MOST))
    path = folder / "typed.yaml"
    stages = [
        {"name": "copy", "use": "./typed.py:Copy", "batch": {"max_size": 4, "max_delay_ms": 5}},
        {"name": "split", "use": "./typed.py:Split"},
        {"name": "each", "use": "./typed.py:Each", "batch": {"max_size": 8, "max_delay_ms": 5}, "colocate": True},
        {"name": "join", "use": "./typed.py:Join", "colocate": True},
    ]
    outputs = {dtype: f"join.{dtype}" for dtype in DTYPES}
    outputs |= {f"scalar_{dtype}": f"copy.scalar_{dtype}" for dtype in DTYPES if dtype != JSON}
    scalars = [input_of(dtype, "scalar_", ()) for dtype in DTYPES if dtype != JSON]
    document = {"inputs": [*map(input_of, DTYPES), *scalars], "stages": stages, "outputs": outputs}
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return path


@pytest.fixture(scope="module")
def pipeline(config: Path) -> Iterator[RunningPipeline]:
    with running(config) as pipeline:
        yield pipeline


@pytest.fixture(scope="module")
def client(pipeline: RunningPipeline) -> Iterator[Client]:
    with pipeline.client() as client:
        yield client


def sample(dtype: str, size: int, seed: int = 0) -> Any:
    """`size` values of a dtype, with all bits of it, those that are no number among them."""
    source = np.random.default_rng([seed, *dtype.encode()])
    if dtype == JSON:
        return [{"number": number, "text": "ü\0"} for number in range(size)]
    if dtype == BYTES:
        values = np.empty(size, object)
        values[:] = [source.bytes(int(source.integers(0, 9))) + b"\0" * (number % 3) for number in range(size)]
        return values
    if dtype == "bool":
        return source.integers(0, 2, size).astype(bool)
    if numpy_dtype(dtype).char in "gG":
        # Not all of their bits make numbers.
        return source.normal(size=size).astype(dtype) / np.asarray(3, dtype)
    return np.frombuffer(source.bytes(size * itemsize(dtype)), dtype)


def request(size: int, seed: int = 0) -> dict[str, Any]:
    made = {dtype: sample(dtype, size, seed) if dtype == JSON else sample(dtype, 2 * size, seed).reshape(size, 2)
            for dtype in DTYPES}
    scalars = {f"scalar_{dtype}": sample(dtype, 1, seed).reshape(()) for dtype in DTYPES if dtype != JSON}
    return {**made, **scalars}


def same(found: Any, wanted: Any) -> bool:
    if isinstance(wanted, np.ndarray) and wanted.dtype.hasobject:
        return bool(found.dtype == object and found.shape == wanted.shape and found.tolist() == wanted.tolist())
    if isinstance(wanted, np.ndarray) and wanted.dtype.char in "gG":
        # Some of their bytes are no part of the number.
        return bool(found.dtype == wanted.dtype and np.array_equal(found, wanted))
    if isinstance(wanted, np.ndarray):
        return bool(found.dtype == wanted.dtype and found.shape == wanted.shape and found.tobytes() == wanted.tobytes())
    return bool(found == wanted)


@pytest.fixture(scope="module")
def answers(client: Client) -> dict[int, tuple[dict[str, Any], dict[str, Any]]]:
    """For some numbers of rows what was sent, and what came back; all under way at once, so that they share batches."""
    sent = {size: request(size) for size in (0, 1, 2, MOST)}
    futures = {size: client.submit(values) for size, values in sent.items()}
    return {size: (sent[size], dict(future.get(200))) for size, future in futures.items()}


@pytest.mark.parametrize("size", [0, 1, 2, MOST])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_tensor_comes_back_as_it_was_sent(
    answers: dict[int, tuple[dict[str, Any], dict[str, Any]]], dtype: str, size: int
) -> None:
    sent, found = answers[size]
    assert same(found[dtype], sent[dtype]), (found[dtype], sent[dtype])
    if dtype != JSON:
        assert same(found[f"scalar_{dtype}"], sent[f"scalar_{dtype}"])


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.lists(st.binary(max_size=40), min_size=2, max_size=2), max_size=MOST), seed=st.integers(0, 2**32))
def test_whatever_is_sent_comes_back(client: Client, rows: list[list[bytes]], seed: int) -> None:
    sent = request(len(rows), seed)
    elements = np.empty((len(rows), 2), object)
    for number, row in enumerate(rows):
        elements[number, :] = row
    # As nested lists, which numpy would cut the NULs of; without rows there is no second axis to be seen.
    sent[BYTES] = rows if rows else elements
    with client.submit(sent).get(200) as found:
        assert same(found[BYTES], elements)
        assert all(same(found[dtype], sent[dtype]) for dtype in DTYPES if dtype != BYTES)


def test_numbers_stay_views_and_elements_are_counted_as_decoded_and_encoded(pipeline: RunningPipeline) -> None:
    with pipeline.client() as client:
        client.submit(request(2)).get(200)
    by_edge = {(copy["edge"], copy["reason"]) for copy in pipeline.status()["copies"]}
    assert ("ingress.bytes -> copy.bytes", "decoded") in by_edge
    assert ("copy.bytes", "encoded") in by_edge
    assert ("each.row_bytes -> join.row_bytes", "decoded") in by_edge
    assert not [edge for edge, reason in by_edge if reason in ("decoded", "encoded") and "bytes" not in edge]


def test_elements_that_are_none_fail_their_request_alone(client: Client) -> None:
    """The lengths lead over the end: the request is refused, and the bytes behind are not read."""
    values = request(1)
    shapes = {name: (18,) if name == JSON else np.shape(value) for name, value in values.items()}
    shapes |= {BYTES: (1, 2, 12), "scalar_bytes": (5,)}
    futures = []
    for wrong in (b"\xff\xff\xff\xff" + bytes(8), b"\x05\0\0\0" + bytes(8), bytes(12)):
        draft = client.draft(shapes)
        for name, value in values.items():
            if name not in (JSON, BYTES, "scalar_bytes"):
                draft.inputs[name][...] = value
        draft.inputs[JSON][...] = np.frombuffer(json.dumps([{"right": "yes"}]).encode()[:18].ljust(18), np.uint8)
        draft.inputs[BYTES][...] = np.frombuffer(wrong, np.uint8)
        draft.inputs["scalar_bytes"][...] = np.frombuffer(b"\x01\0\0\0x", np.uint8)
        futures.append(draft.submit())
    right = client.submit(request(1))
    for future in futures:
        with pytest.raises(BadInput, match="input 'bytes': no elements of dtype bytes"):
            future.get(200)
    assert same(right.get(200)[BYTES], request(1)[BYTES])


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (np.zeros((1, 2), np.uint8), "expected elements of bytes, found uint8"),
        ([[b"a", 5]], "expected elements of bytes, or texts, found int"),
        ([b"a", b"b"], "expected 2 dimensions"),
        ([[b"a" * 5000, b"b"]], "expected at most 4096 for 'bytes'"),
        ([[b"a", "\ud800"]], "surrogates not allowed"),
    ],
)
def test_what_are_no_elements_is_refused_before_it_is_sent(client: Client, wrong: Any, why: str) -> None:
    with pytest.raises(InvalidRequest, match=why):
        client.submit({**request(1), BYTES: wrong})


def test_numbers_are_not_narrowed_to_bfloat16(client: Client) -> None:
    with pytest.raises(InvalidRequest, match="expected dtype bfloat16, found float32"):
        client.submit({**request(1), BFLOAT16: np.ones((1, 2), np.float32)})


def test_a_large_bfloat16_output_is_a_view_that_holds_its_slot(tmp_path: Path) -> None:
    config = tmp_path / "large.yaml"
    config.write_text(
        "inputs: [{name: x, dtype: bfloat16, shape: [4096]}]\n"
        "stages: [{name: relay, use: stages.relay:Relay, with: {name: x, dtype: bfloat16, shape: [4096]}}]\n"
    )
    sent = np.random.default_rng(0).normal(size=4096).astype(BFLOAT16)
    with running(config) as pipeline, pipeline.client() as client:
        result = client.submit(x=sent).get(200)
        assert result["x"].dtype == BFLOAT16
        assert result.copied_bytes == 0
        assert result["x"].base is not None
        assert same(np.array(result["x"]), sent)
        result.release()


WORDS = '''
from stages.spec import TensorSpec

TEXT = TensorSpec("text", "bytes", (1,), {"bytes": 1 << 22})
WORDS = TensorSpec("words", "bytes", ("n",), {"n": 1 << 20, "bytes": 1 << 22})
WORD = TensorSpec("word", "bytes", (), {"bytes": 1 << 21})


class Split:
    """The words of a text."""
    ragged = True
    inputs, outputs = (TEXT,), (WORDS,)

    def process(self, batch):
        return {"words": [text[0].split() for text in batch.rows("text")]}


class Reverse:
    ragged = True
    inputs, outputs = (WORDS,), (TensorSpec("sdrow", "bytes", ("n",), {"n": 1 << 20, "bytes": 1 << 22}),)

    def process(self, batch):
        return {"sdrow": [words[::-1] for words in batch.rows("words")]}


class Lines:
    """The words of each line: as many tensors as there are lines, of as many elements as they have words."""
    ragged = True
    inputs = (TEXT,)
    outputs = (TensorSpec("line", "bytes", ("n",), {"n": 9, "bytes": 900}, many=5),)

    def process(self, batch):
        return {"line": [[line.split() for line in text[0].split(b"|")] for text in batch.rows("text")]}


class Count:
    """How many words each line has, and all of them."""
    ragged = True
    inputs = Lines.outputs
    outputs = (TensorSpec.json("counts", 100), TensorSpec("words", "bytes", ("n",), {"n": 45, "bytes": 4500}))

    def process(self, batch):
        return {
            "counts": [[len(line) for line in lines] for lines in batch.rows("line")],
            "words": [[word for line in lines for word in line] for lines in batch.rows("line")],
        }


class Say:
    """An answer in parts: one word each."""
    inputs, outputs = (TEXT,), (WORD,)

    def process(self, batch):
        for word in batch.rows("text")[0][0].split():
            yield {"word": [word]}
'''


@pytest.fixture
def words(tmp_path: Path) -> Callable[..., Path]:
    """A config over the stages above."""
    (tmp_path / "words.py").write_text(WORDS)

    def words(*stages: dict[str, Any], **fields: Any) -> Path:
        text = {"name": "text", "dtype": "bytes", "shape": [1], "max": {"bytes": "4MiB"}}
        path = tmp_path / "words.yaml"
        path.write_text(yaml.safe_dump({"inputs": [text], "stages": list(stages), **fields}, sort_keys=False))
        return path

    return words


SPLIT, REVERSE = {"name": "split", "use": "./words.py:Split"}, {"name": "reverse", "use": "./words.py:Reverse"}


def test_elements_that_grow_get_slots_of_the_size_that_they_need(words: Callable[..., Path]) -> None:
    with running(words(SPLIT, REVERSE)) as pipeline, pipeline.client() as client:
        for size in (3, 200_000, 1_000_000, 5):
            with client.submit(text=[b"a" * size + b" b"]).get(200) as result:
                assert result["sdrow"].tolist() == [b"b", b"a" * size]
                assert result.copied_bytes == size + 9
        with client.submit(text=[b""]).get(200) as result:
            assert result["sdrow"].shape == (0,)
        assert "resized" not in pipeline.status()["counts"]
        # Each word takes more bytes behind the stage, with its length, than before it.
        with client.submit(text=[b"a " * 100_000]).get(200) as result:
            assert result["sdrow"].tolist() == [b"a"] * 100_000
        assert pipeline.status()["counts"]["resized"] == 1


def test_children_have_elements_of_their_own_shapes(words: Callable[..., Path]) -> None:
    lines, count = ({"name": name.lower(), "use": f"./words.py:{name}"} for name in ("Lines", "Count"))
    with running(words(lines, count)) as pipeline, pipeline.client() as client:
        result = client.submit(text=[b"a bb|ccc||d e f"]).get(200)
        assert result["counts"] == [2, 1, 0, 3]
        assert result["words"].tolist() == [b"a", b"bb", b"ccc", b"d", b"e", b"f"]


def test_a_condition_holds_if_an_element_is_not_empty(words: Callable[..., Path]) -> None:
    config = words(SPLIT, {**REVERSE, "when": "split.words"}, outputs={"words": "split.words", "sdrow": "reverse.sdrow"})
    with running(config) as pipeline, pipeline.client() as client:
        assert sorted(client.submit(text=[b"a b"]).get(200)) == ["sdrow", "words"]
        assert sorted(client.submit(text=[b"   "]).get(200)) == ["words"]


def test_elements_may_come_in_parts(words: Callable[..., Path]) -> None:
    with running(words({"name": "say", "use": "./words.py:Say"})) as pipeline, pipeline.client() as client:
        # Longer than the 64 bytes to which a part's place is rounded up.
        words_sent = [b"one" * 50, b"two\0", b"three" * 50]
        parts = [part["word"][()] for part in client.submit(text=[b" ".join(words_sent)]).results()]
        assert parts == words_sent


def test_what_no_stage_has_read_is_refused_by_the_client_if_it_is_none(words: Callable[..., Path]) -> None:
    relay = {"name": "text", "dtype": "bytes", "shape": [1], "max": {"bytes": 4 << 20}}
    config = words({"name": "relay", "use": "stages.relay:Relay", "with": relay})
    with running(config) as pipeline, pipeline.client() as client:
        draft = client.draft(text=(1, 9))
        draft.inputs["text"][...] = 255
        future = draft.submit()
        with pytest.raises(InvalidRequest, match="output 'text': expected bytes, and no stage has looked at it"):
            future.get(200)
        with client.submit(text=["right"]).get(200) as result:
            assert result["text"].tolist() == [b"right"]


@pytest.mark.parametrize("in_process", [False, True], ids=["processes", "in process"])
def test_files_of_every_dtype_are_run_and_come_out_as_files(config: Path, tmp_path: Path, in_process: bool) -> None:
    """Out of a .npz file, whose texts are of "U" and "S"."""
    numbers = {dtype: sample(dtype, 2).reshape(1, 2) for dtype in NUMBERS}
    scalars = {f"scalar_{dtype}": sample(dtype, 1).reshape(()) for dtype in NUMBERS}
    document = np.frombuffer(b"[[1,2]]", np.uint8)
    arrays = {**numbers, **scalars, JSON: document, BYTES: np.array([["a", "\u00fc"]]), f"scalar_{BYTES}": np.array(b"z")}
    np.savez(tmp_path / "one.npz", **arrays)
    command = [sys.executable, "-m", "pipeline", "run", str(config), str(tmp_path / "one.npz")]
    done = subprocess.run(
        [*command, *(["--in-process"] if in_process else []), "--output", f"{tmp_path}/out/"],
        capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (record,) = [json.loads(line) for line in (tmp_path / "out/index.jsonl").read_text().splitlines()]
    found = record["outputs"]
    assert found[JSON] == [[1, 2]]
    assert (found[BYTES]["dtype"], found[BYTES]["shape"]) == (BYTES, [1, 2])
    with np.load(tmp_path / "out" / found[BYTES]["file"]) as written:
        assert Elements(written[BYTES], (1, 2)).decode().tolist() == [[b"a", b"\xc3\xbc"]]
        for dtype in NUMBERS:
            assert same(written[dtype].view(numpy_dtype(dtype)), numbers[dtype]), dtype
            assert found[dtype]["dtype"] == np.dtype(dtype).name


def test_runners_of_threads_and_of_asyncio_take_elements_in_batches_and_for_another_try(pipeline: RunningPipeline) -> None:
    rows = [request(2, seed) for seed in range(3)]
    batch = {name: [row[name] for row in rows] if name == JSON else np.stack([row[name] for row in rows]) for name in rows[0]}
    client = SharedClient.connect(pipeline.run_dir, name="threads")
    try:
        runner = InferRunner(client)
        with runner.infer(rows[0], retries=1).get(200) as one:
            assert all(same(one[name], value) for name, value in rows[0].items())
        together = runner.infer(batch, retries=1).get(200)
        check_rows(together, rows)
        many = runner.infer_many([row for row in rows for _ in range(20)])
        for future, row in zip(many, [row for row in rows for _ in range(20)]):
            with future.get(200) as one:
                assert all(same(one[name], value) for name, value in row.items())
    finally:
        client.close()

    async def infer() -> None:
        async with await AsyncClient.connect(pipeline.run_dir, name="asyncio") as other:
            check_rows(await AsyncInferRunner(other).infer(batch), rows)

    asyncio.run(infer())


def check_rows(together: Any, rows: list[dict[str, Any]]) -> None:
    """The answer to a batch has what was sent, row by row."""
    for number, row in enumerate(rows):
        for name, value in row.items():
            assert same(together[name][number] if np.shape(value) else np.asarray(together[name])[number, ...], value), name
