"""Every case of the protocol is asked of a real Triton and of the gateway: they differ where docs/kserve.md says so, only."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from bench.versus import repository
from bench.versus.environments import TRITON
from bench.versus.triton import Triton
from tests.foreign.asker import Asker, kind_of
from tests.foreign.protocol import CASES, Case
from tests.foreign.triton_models import MODELS
from tests.integration.gateways import MODELS as CONFIGS
from tests.integration.gateways import serving

pytestmark = pytest.mark.foreign

PAGE = Path(__file__).parents[2] / "docs/kserve.md"
SLOW = [Path(__file__).parent / "models" / name for name in ("slow.yaml", "late.yaml")]


class Difference(NamedTuple):
    row: str
    """The first column of the page's table."""
    triton: str
    ours: str
    """The statuses. If they are one, the values differ."""


JSON = "JSON data that does not match its shape, and what is no JSON"
QUEUE, LATE = "a queue that is full", "a `timeout` that has passed"

DIFFERENCES = {
    "JSON that does not match its shape": Difference(JSON, "500", "400"),
    "NaN as a string": Difference(JSON, "500", "400"),
    "no JSON": Difference(JSON, "500", "400"),
    "a frame that is none": Difference("a message of gRPC that is none", "INTERNAL", "INVALID_ARGUMENT"),
    "a log level that is none": Difference("a setting of another type", "500", "400"),
    "an unknown coding": Difference("an unknown Content-Encoding", "501", "415"),
    "registering larger, gRPC": Difference("a region larger than its object", "INTERNAL", "INVALID_ARGUMENT"),
    "a full queue, HTTP": Difference(QUEUE, "503", "429"),
    "a full queue, gRPC": Difference(QUEUE, "UNAVAILABLE", "RESOURCE_EXHAUSTED"),
    "a timeout, HTTP": Difference(LATE, "503", "504"),
    "a timeout, gRPC": Difference(LATE, "UNAVAILABLE", "DEADLINE_EXCEEDED"),
    "a bomb": Difference("a body above the limit", "500", "413"),
    "loading with a config": Difference("`config` and `file:` of load", "200", "403"),
    "setting a trace level": Difference("trace levels other than OFF", "400", "501"),
    "registering a region of CUDA": Difference("CUDA shared memory", "INVALID_ARGUMENT", "UNIMPLEMENTED"),
    "binary_data_output beside named outputs": Difference("`binary_data_output` beside named outputs", "200", "200"),
    "an error within a stream": Difference("the response of an error over a stream", "OK", "OK"),
    "metadata of a decoupled model": Difference("shapes of `repeat_int32`'s outputs", "200", "200"),
    "platform": Difference("ModelMetadata.platform", "200", "200"),
    "generate": Difference("generate, sequence and logging extensions of later versions", "400", "404"),
    "Check of an unknown service": Difference("`Check` of an unknown service", "OK", "NOT_FOUND"),
}

#: Rows of the page that no case asks for, and why.
UNASKED = {
    "load, unload; system shared memory": "both servers are started with them open, so that there is something to ask",
    "sequences (`sequence_id`)": "no model here batches by sequence; for the others, a case asks whether they are taken",
    "an output that was skipped": "no model of Triton has one",
    "readiness of the server": "both serve models that are all ready; tests/faults asks ours for the others",
    "a repository": "folders of configs here, and of Triton's models there: there is no one folder to ask both for",
    "`--load-model`": "a flag of the command, and no call",
    "`/` and `/openapi.json`": "Triton has no such paths, and answers 404",
    "responses over one stream to several requests": "their order under load is no question with one answer",
}


# Not for the module: a model that is loaded again has other processes, which the first test would leave behind.
@pytest.fixture
def triton(environment: Callable[[Path], Path], tmp_path: Path) -> Iterator[Asker]:
    environment(TRITON)
    models = repository.write(tmp_path / "models", MODELS)
    server = Triton(models, tmp_path / "log", "--model-control-mode=explicit", "--load-model=*")
    try:
        asker = Asker(f"http://{server.http}", server.grpc)
        yield asker
        asker.close()
    finally:
        server.close()


@pytest.fixture
def ours(tmp_path: Path) -> Iterator[Asker]:
    with serving(*sorted(CONFIGS.glob("*.yaml")), *SLOW, errors=tmp_path / "gateway.log") as gateway:
        asker = Asker(gateway.url, gateway.grpc)
        yield asker
        asker.close()


# Not a test for each case: every process of the suite that gets some of them would start both servers.
def test_the_answers_are_tritons_apart_from_those_that_the_page_names(triton: Asker, ours: Asker) -> None:
    wrong = [problem for case in CASES if (problem := difference_of(case, triton, ours))]
    assert wrong == []


def difference_of(case: Case, triton: Asker, ours: Asker) -> str:
    """What is not as it must be; empty: nothing."""
    theirs, own = case.question(triton), case.question(ours)
    told = f"{case.name}: Triton {theirs}, ours {own}"
    if case.name in DIFFERENCES:
        expected = DIFFERENCES[case.name]
        if (theirs.status, own.status) != expected[1:]:
            return f"{told}; expected {expected.triton} and {expected.ours}"
        return f"{told}: the page says that they differ" if theirs[::2] == own[::2] else ""
    if theirs[::2] != own[::2]:
        return f"{told}: the page does not say so"
    # Of a call that it does not know, Triton says only the code.
    kinds = {kind_of(answer.text) for answer in (theirs, own) if answer.text}
    return f"{told}: the texts are of two kinds" if len(kinds) > 1 else ""


def test_the_page_and_the_cases_name_the_same_differences() -> None:
    lines = re.findall(r"^\| ([^|]+) \|", PAGE.read_text(), re.MULTILINE)
    rows = [line for line in lines if line not in ("what", "---")]
    assert {difference.row for difference in DIFFERENCES.values()} | set(UNASKED) == set(rows)
    assert DIFFERENCES.keys() <= {case.name for case in CASES}
    assert len({case.name for case in CASES}) == len(CASES)
